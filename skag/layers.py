"""Layers that a CPU computes faster than torch's of the same name do, with equal results.

On other devices, in evaluation, and where a graph is traced for an export or a compiler, they are torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def is_traced() -> bool:
    """Whether an export or a compiler reads along: then only plain operations of fixed shapes are used."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


class Pointwise(nn.Conv2d):
    """A 1x1 convolution `[N, C, T, V]` -> `[N, C', T / stride, V]`, here the matrix product that it is."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(channels_in, channels_out, 1, stride=(stride, 1))

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or is_traced():
            return super().forward(x)
        x = x[:, :, :: self.stride[0]]
        # `bmm`, not `matmul`: that would put the clips' axis last first, a copy of everything.
        y = torch.bmm(self.weight.flatten(1).expand(len(x), -1, -1), x.flatten(2))
        return y.add_(self.bias[:, None]).unflatten(2, x.shape[2:])


class BatchNorm(nn.BatchNorm2d):
    """Batch norm of `[N, C, T, V]`: the statistics of a training batch by vectorised sums, mean first and then the
    centred squares; torch takes most of its forward pass for them."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu" or not x[0].is_contiguous() or is_traced():
            return super().forward(x)
        y, mean, variance = _NormOfBatch.apply(x, self.weight, self.bias, self.eps)
        count = x.numel() / x.shape[1]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return y


class _NormOfBatch(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        rows, count = x.flatten(2), x.numel() / x.shape[1]
        mean = rows.sum(2).sum(0) / count
        centred = rows - mean[:, None]
        variance = torch.linalg.vector_norm(centred, dim=2).square().sum(0) / count
        del centred
        y = torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]
        context.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        context.mark_non_differentiable(mean, variance)
        context.eps = eps
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, invstd = context.saved_tensors
        found = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean, invstd, True, context.eps, [True, True, True]
        )
        return *found, None
