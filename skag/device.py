"""Where tensors live."""

from __future__ import annotations

from pathlib import Path

import torch

from .errors import RunError

_SCHEDULER = Path("/proc/self/schedstat")  # of the first thread: ns that it ran, ns that it waited to run, turns


def seconds_kept_waiting() -> float:
    """Seconds that this program, ready to go on, has waited for a core that another had; 0 where nobody tells."""
    try:
        return int(_SCHEDULER.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def send(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`values` on `device`; the host does not wait for a GPU, as it would with memory that is not pinned."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def is_traced() -> bool:
    """Whether an export or a compiler reads along: then only plain operations of fixed shapes are used."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def trains_in_bf16(precision: str, device: torch.device) -> bool:
    """What `train.precision` comes to on a device: "auto" is bf16 on a GPU that has instructions for it."""
    if precision != "auto":
        return precision == "bf16"
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def multiplies_bf16() -> bool | None:
    """Whether this processor has instructions for matrix products in bfloat16; None where it cannot be told."""
    if not hasattr(torch.cpu, "get_capabilities"):  # an older PyTorch
        return None
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


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
