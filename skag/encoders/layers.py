"""Layers that a CPU computes faster than torch's of the same name do, with equal results.

On other devices, in evaluation, and where a graph is traced for an export or a compiler, they are torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..device import is_traced


class Pointwise(nn.Conv2d):
    """A 1x1 convolution `[N, C, T, V]` -> `[N, C', T / stride, V]`, here the matrix product that it is."""

    bias: nn.Parameter

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(channels_in, channels_out, 1, stride=(stride, 1))

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or is_traced():
            return super().forward(x)
        x = x[:, :, :: self.stride[0]]
        # `bmm`, not `matmul`: that would put the clips' axis last first, a copy of everything.
        y = torch.bmm(self.weight.flatten(1).to(x.dtype).expand(len(x), -1, -1), x.flatten(2))
        # The bias of every clip apart: its gradient is then summed over frames and joints first, which is vectorised.
        y.add_(self.bias.to(x.dtype)[:, None].expand(len(x), -1, 1))
        return y.unflatten(2, x.shape[2:])


class BatchNorm(nn.BatchNorm2d):
    """Batch norm of `[N, C, T, V]`: in float32 the statistics of a training batch by vectorised sums, mean first and
    then the centred squares; torch takes most of its forward pass for them. In bfloat16 they are torch's."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        return self.of_batch(x, None, None) if self.is_ours(x) else super().forward(x)

    def is_ours(self, x: Tensor) -> bool:
        return self.training and x.device.type == "cpu" and not is_traced()

    def of_batch(self, x: Tensor, residual: Tensor | None, remade: _Remade | None) -> Tensor:
        x = x.contiguous()  # of part of a tensor's channels a norm takes two to seven times as long
        y, mean, variance = _NormOfBatch.apply(x, self.weight, self.bias, self.eps, residual, remade)
        count = x.numel() / x.shape[1]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
        return y


def norm_relu(norm: nn.Module, x: Tensor, residual: Tensor | None = None) -> tuple[Tensor, AbstractContextManager[Any]]:
    """`relu(norm(x) + residual)`, and a context: what is computed from it there keeps nothing of it for the backward
    pass, in which it is made again from `x`, at the price of two cheap passes over it."""
    if not isinstance(norm, BatchNorm) or not norm.is_ours(x) or not torch.is_grad_enabled():
        y = norm(x)
        return F.relu(y if residual is None else y + residual, inplace=True), nullcontext()
    remade = _Remade()
    y = norm.of_batch(x, residual, remade)
    return y, remade.forget(y)


def refined_graph(graph: Tensor, x1: Tensor, x2: Tensor, alpha: Tensor) -> Tensor:
    """`graph` `[N, S, V, W]` with every channel's own refinement, `graph + alpha * tanh(x1[v] - x2[w])`, from `x1`
    `[N, S, R, V]` and `x2` `[N, S, R, W]` to `[N, S, R, V, W]`."""
    if graph.device.type != "cpu" or is_traced():
        return torch.addcmul(graph.unsqueeze(2), torch.tanh(x1.unsqueeze(-1) - x2.unsqueeze(-2)), alpha)
    return _RefinedGraph.apply(graph, x1.contiguous(), x2.contiguous(), alpha)


def with_mean_joint(x: Tensor) -> Tensor:
    """`[N, C, T, V]` and the mean of its joints after them, `[N, C, T, V + 1]`; in bfloat16 on a CPU 1 / V is rounded
    too, for 25 joints by 0.1 %."""
    if not _by_products(x):
        return torch.cat([x, x.mean(-1, keepdim=True)], -1)
    joints = x.shape[-1]
    return x @ torch.cat([torch.eye(joints), torch.full((joints, 1), 1 / joints)], 1).to(x.dtype)


def add_mean_joint(x: Tensor, coefficients: Tensor) -> Tensor:
    """`[N, C, T, V + 1]` to `[N, C, T, V]`: to every joint the last one, times the joint's own coefficient `[V]`."""
    if _by_products(x):
        return x @ torch.cat([torch.eye(len(coefficients)), coefficients[None]]).to(x.dtype)
    joints, mean = x.split([len(coefficients), 1], dim=-1)
    # Under autocast the sum would be in float32, and of a view all joints would be kept for the backward pass.
    return torch.addcmul(joints, mean.contiguous(), coefficients.to(x.dtype))


def _by_products(x: Tensor) -> bool:
    """Whether sums over joints are matrix products with ones and zeros: a processor computes these fast in bfloat16,
    and elementwise sums of rows of some 20 joints slowly."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and not is_traced()


class _RefinedGraph(torch.autograd.Function):
    """By the logistic function, since tanh(x) = 2 logistic(2 x) - 1 and torch computes that four times as fast; and no
    factor or sign is applied to a tensor of all pairs of joints that can be applied to its sums. What comes in bfloat16
    is computed in float32, which is faster in rows of some 20 joints, and returned in bfloat16."""

    @staticmethod
    def forward(context: Any, graph: Tensor, x1: Tensor, x2: Tensor, alpha: Tensor) -> Tensor:
        own = alpha.dtype
        share = ((2 * x1.to(own)).unsqueeze(-1) - (2 * x2.to(own)).unsqueeze(-2)).sigmoid_()  # N S R V W
        context.save_for_backward(share, alpha)
        context.dtype = x1.dtype
        return torch.addcmul((graph - alpha).unsqueeze(2), share, 2 * alpha).to(x1.dtype)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        share, alpha = context.saved_tensors
        gradient = gradient.to(share.dtype)
        of_graph = gradient.sum(2)
        of_alpha = 2 * (gradient * share).sum() - of_graph.sum()
        pairs = torch.ops.aten.sigmoid_backward(gradient, share)
        of_x1 = (pairs.flatten(0, 3) @ pairs.new_ones(pairs.shape[4])).view(pairs.shape[:4]) * (4 * alpha)
        of_x2 = pairs.sum(3) * (-4 * alpha)
        return of_graph, of_x1.to(context.dtype), of_x2.to(context.dtype), of_alpha.view_as(alpha)


class _Remade:
    """A tensor that is forgotten after the forward pass and made again when the backward pass first asks for it."""

    def __init__(self) -> None:
        self.make: Callable[[], Tensor] | None = None  # gone when the backward pass is through
        self.value: Tensor | None = None

    def get(self) -> Tensor:
        if self.make is None:
            raise RuntimeError("a training step goes backward once")
        if self.value is None:
            self.value = self.make()
        return self.value

    def take(self) -> Tensor:
        value, self.value, self.make = self.get(), None, None
        return value

    def forget(self, tensor: Tensor) -> AbstractContextManager[Any]:
        address = tensor.untyped_storage().data_ptr()

        def pack(kept: Tensor) -> Any:
            if kept.untyped_storage().data_ptr() != address:
                return kept
            return kept.shape, kept.stride(), kept.storage_offset()

        def unpack(kept: Any) -> Tensor:
            return kept if isinstance(kept, Tensor) else self.get().as_strided(*kept)

        return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


class _NormOfBatch(torch.autograd.Function):
    """Batch norm and, where it is to be `remade`, the residual and ReLU that follow it."""

    @staticmethod
    def forward(
        context: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        residual: Tensor | None,
        remade: _Remade | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        if x.dtype == torch.bfloat16:
            zeros = torch.zeros_like(bias)  # of their type are the statistics, and what a momentum of 0 leaves alone
            mean, variance = torch.ops.aten.batch_norm_update_stats(x, zeros, zeros, 0.0)
        else:
            rows, count = x.flatten(2), x.numel() / x.shape[1]
            mean = rows.sum(2).sum(0) / count
            centred = rows - mean[:, None]
            variance = torch.linalg.vector_norm(centred, dim=2).square().sum(0) / count
            del centred

        def make() -> Tensor:
            y = torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]
            if remade is not None:
                y = (y if residual is None else y.add_(residual)).clamp_min_(0)
            return y

        if remade is not None:
            remade.make = make
        context.remade, context.eps, context.has_residual = remade, eps, residual is not None
        context.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        context.mark_non_differentiable(mean, variance)
        return make(), mean, variance

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, invstd = context.saved_tensors
        if context.remade is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, context.remade.take(), 0)
        found = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean, invstd, True, context.eps, [True, True, True]
        )
        return *found, None, gradient if context.has_residual else None, None
