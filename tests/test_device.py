"""Devices are chosen by name, and a wrong or absent one is named."""

from __future__ import annotations

import pytest
import torch

from skag.device import choose_device
from skag.errors import RunError


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cuda", "mps", "cpu")
    with pytest.raises(RunError, match="unknown device 'gpu'"):
        choose_device("gpu")
