"""What a network costs: its weights, and the operations of one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Size and work of a network."""

    parameters: int
    flops: int  # of one pass: two for every multiplication and addition of matrix products and convolutions

    def __str__(self) -> str:
        return f"{_short(self.parameters)} parameters, {_short(self.flops)} FLOPs"


def cost(module: nn.Module, run: Callable[[], object]) -> Cost:
    """The weights of `module`, and the operations of calling `run` once, without gradients. A module and inputs on the
    "meta" device cost neither time nor memory."""
    learned = [weight for weight in module.parameters() if weight.requires_grad]
    module.requires_grad_(False)  # without gradients alone the counter stumbles over views of weights
    try:
        # Fused attention is not counted on every device, its plain form is.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run()
    finally:
        for weight in learned:
            weight.requires_grad_(True)
    return Cost(sum(weight.numel() for weight in module.parameters()), counter.get_total_flops())


def _short(number: float) -> str:
    for unit in ("", " thousand", " M", " G"):
        if number < 1000 or unit == " G":
            return f"{number:.3g}{unit}" if number < 1000 else f"{number:,.0f}{unit}"
        number /= 1000
    raise AssertionError
