"""What costs much to make, made once for all processes of a test run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills once, however many processes of pytest-xdist ask for it."""
    among_workers = "PYTEST_XDIST_WORKER" in os.environ
    folder = (factory.getbasetemp().parent if among_workers else factory.getbasetemp()) / name
    with FileLock(f"{folder}.lock"):
        if not Path(f"{folder}.done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            Path(f"{folder}.done").touch()
    return folder
