"""Where tensors live."""

from __future__ import annotations

import torch

from .errors import RunError


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `mps` to a device that is there. Raises `RunError`."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    if name not in there:
        raise RunError(f"unknown device {name!r}: use auto, cpu, cuda or mps.")
    if not there[name]:
        raise RunError(f"PyTorch finds no {name} device here: use --device auto or cpu.")
    return torch.device(name)
