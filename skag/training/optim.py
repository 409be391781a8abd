"""What is done with gradients: the optimiser, its rate over a training, and the average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..config import TrainConfig


class Average:
    """Exponential moving average of a network's weights and buffers, which follows faster at first, so that the first
    steps are soon forgotten. It counts on the host: `torch.optim.swa_utils` asks the device at every step."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module, self.decay, self.updates = copy.deepcopy(model).requires_grad_(False), decay, 0
        pairs = list(zip(self.module.state_dict().values(), model.state_dict().values(), strict=True))
        self._averages = [average for average, _ in pairs if average.is_floating_point()]
        self._weights = [weights for average, weights in pairs if average.is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    def update(self) -> None:
        """Take in the model's weights as they are now."""
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.updates else 1.0
        torch._foreach_lerp_(self._averages, self._weights, share)
        for kept, current in self._counts:
            kept.copy_(current)
        self.updates += 1


def make_optimizer(settings: TrainConfig, groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
    """The optimiser of parameter groups, each with a rate of its own where it names one."""
    own = [dict(group) for group in groups]
    fused = next(iter(own[0]["params"])).device.type in ("cpu", "cuda")
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(own, lr=settings.lr, weight_decay=settings.weight_decay, fused=fused)
    return torch.optim.SGD(
        own,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.momentum > 0,
        fused=fused,
    )


def make_scheduler(
    settings: TrainConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """A linear rise over `warmup` epochs, then half a cosine to 0, step by step."""
    warmup, total = settings.warmup * steps_per_epoch, settings.epochs * steps_per_epoch

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
