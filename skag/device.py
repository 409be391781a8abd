"""Where tensors live, and what the machine needs before training."""

from __future__ import annotations

import ctypes
import platform

import torch

from .errors import RunError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # mallopt's parameter numbers in glibc's malloc.h


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


def keep_freed_memory() -> None:
    """Have glibc keep large freed blocks instead of giving each back to the system at once.

    By default every large tensor is mapped and faulted in anew: a step of the published network (batch 4) then took 1.2
    to 1.4 times as long on two idle cores, 1.03 to 1.08 times in processor time on a busy machine. The peak of
    memory moved by -9 to +2 % (`docs/training-step.md`); what is kept is not given back before the process ends. Does
    nothing on other C libraries.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
