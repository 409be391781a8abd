"""Training by several processes (`torchrun`): who they are, and what they tell each other.

All hold the same weights and draw the same random numbers; each works on its part of every batch. The first one
leads: it alone asks, writes and reports. Without torchrun there is one process, and everything here costs nothing.
"""

from __future__ import annotations

import importlib
import os
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ..errors import RunError

T = TypeVar("T")
Model = TypeVar("Model", bound=nn.Module)
PATIENCE = timedelta(days=7)  # of those who wait while the leader alone asks, and waits for answers


def begin(device: torch.device) -> torch.device:
    """Join the processes that torchrun has started, if it has; returns the device of this one. Raises `RunError`."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise RunError(
                f"{torch.cuda.device_count()} CUDA devices here: start as many processes (--nproc-per-node)."
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # DistributedDataParallel imports this; imported later, it would hold on to the process group beyond `end`.
    importlib.import_module("torch._dynamo")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    return device


def end() -> None:
    """Leave the others, before Python ends: a thread of gloo that is left then can abort the process."""
    if dist.is_initialized():
        dist.destroy_process_group()


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def leads() -> bool:
    """Whether this process asks, writes and reports."""
    return rank() == 0


def share(value: T) -> T:
    """The leader's `value`, whatever is given elsewhere; waits for all."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def together(module: nn.Module, device: torch.device) -> nn.Module:
    """A module whose gradients are those of all processes; itself where there is one process."""
    if size() == 1:
        return module
    return DistributedDataParallel(module, [device] if device.type == "cuda" else None)


def add_up(tensor: Tensor) -> None:
    """Replace a tensor by its sum over all processes."""
    if size() > 1:
        dist.all_reduce(tensor)


def share_buffers(module: nn.Module) -> None:
    """Give a module the leader's buffers: batch norm's running statistics are each process's own."""
    if size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def part_of(count: int) -> slice:
    """The part of a batch of `count` clips that is this process's; parts differ by one clip at most."""
    least, larger = divmod(count, size())
    start = rank() * least + min(rank(), larger)
    return slice(start, start + least + (rank() < larger))


def gather(part: Tensor, count: int) -> Tensor:
    """The rows of all processes, `[count, ...]`, from this one's (see `part_of`); gradients find their way back."""
    if size() == 1:
        return part
    place, others = part_of(count), part.new_zeros(count, *part.shape[1:])
    return _Sum.apply(torch.cat([others[: place.start], part, others[place.stop :]]))


class _Sum(torch.autograd.Function):
    """The sum over all processes, of a tensor and, on the way back, of its gradients."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def interleave(part: np.ndarray, count: int) -> np.ndarray:
    """The `count` rows of which each process has every `size()`-th, beginning with its `rank()`."""
    if size() == 1:
        return part
    parts: list[Any] = [None] * size()
    dist.all_gather_object(parts, part)
    whole = np.empty((count, *part.shape[1:]), part.dtype)
    for number, rows in enumerate(parts):
        whole[number :: size()] = rows
    return whole


def synchronise_batch_norm(model: Model) -> Model:
    """`model` with batch norms whose statistics are those of the whole batch, over all processes."""
    if next(model.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                synchronised = _SyncBatchNorm(child.num_features, child.eps, child.momentum)
                synchronised.load_state_dict(child.state_dict())
                setattr(module, name, synchronised)
    return model


class _SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """What `nn.SyncBatchNorm` does, where that cannot: it takes no tensors of the CPU."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def _check_input_dim(self, x: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        given, x = x.dtype, x.to(self.weight.dtype)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = _Sum.apply(torch.cat([x.sum(axes), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = x - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(axes)) / total
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * total / (total - 1), self.momentum)
        scale = self.weight / (variance + self.eps).sqrt()
        return (centred * scale.view(shape) + self.bias.view(shape)).to(given)
