"""Devices are chosen by name, and a wrong or absent one is named."""

from __future__ import annotations

import pytest
import torch

from skag.device import choose_device, keep_freed_memory
from skag.errors import RunError


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cuda", "mps", "cpu")
    with pytest.raises(RunError, match="unknown device 'gpu'"):
        choose_device("gpu")


def test_keeping_freed_memory_changes_no_numbers() -> None:
    before = torch.arange(1_000_000.0).sum()
    keep_freed_memory()
    assert torch.arange(1_000_000.0).sum() == before
