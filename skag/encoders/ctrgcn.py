"""CTR-GCN (Chen et al., ICCV 2021): a graph convolution network whose graph is refined for every channel and clip.

Letters of this file: N clips, M bodies, T frames, V joints, C channels, S subsets of the graph, R channels that a
refinement is computed from, L tokens. Bodies are folded into the batch as NM inside the blocks.

The network is the published one, written anew; the places where an exactly equal, cheaper form is computed say so.
SUGAR (arXiv 2511.10091) changes two things, which are options: no max-pool over time, and tokens instead of one mean.
It knows no files, no network, no heads and no loss.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..skeleton.layouts import Layout
from . import graph
from .layers import BatchNorm, Pointwise, is_traced, norm_relu

NUM_SUBSETS = 3  # joint itself, edges inward, edges outward
NUM_BRANCHES = 4  # temporal branches: two dilated, one max-pool, one plain
DILATIONS = (1, 2)
KERNEL = 5  # frames of a dilated branch
REDUCTION = 8  # input channels per channel that a refinement is computed from, of which there are at least 8


@dataclass(frozen=True)
class CtrGcnConfig:
    """Everything that fixes the shape of the encoder and of its tokens."""

    num_joints: int
    num_bodies: int
    in_channels: int = 3  # coordinates per joint
    channels: tuple[int, ...] = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)  # width of every block
    strides: tuple[int, ...] = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1)  # temporal stride of every block
    max_pool: bool = True  # False: a plain branch in its place (SUGAR: "discard the pooling in the time dimension")
    present_bodies_only: bool = False  # absent bodies take no part: see `CtrGcn`
    # A token for every time step (mean over joints), or for every time step and joint, in that order.
    token_by: Literal["time", "time_joint"] = "time_joint"
    # Tokens are means over the bodies that are there, or each body has its own, beside one another in time.
    token_bodies: Literal["mean", "each"] = "mean"

    def __post_init__(self) -> None:
        if not self.channels or len(self.channels) != len(self.strides):
            raise ValueError(
                f"{len(self.channels)} channels but {len(self.strides)} strides: give one of each per block"
            )
        if bad := [width for width in self.channels if width < NUM_BRANCHES or width % NUM_BRANCHES]:
            raise ValueError(f"channels {bad[0]} is no multiple of {NUM_BRANCHES}")

    @property
    def width(self) -> int:
        """Numbers in a token."""
        return self.channels[-1]

    def num_steps(self, num_frames: int) -> int:
        """Time steps that are left of `num_frames` frames."""
        for stride in self.strides:
            num_frames = -(-num_frames // stride)
        return num_frames

    def num_tokens(self, num_frames: int) -> int:
        """L, the tokens of a clip of `num_frames` frames."""
        per_step = self.num_joints if self.token_by == "time_joint" else 1
        return self.num_steps(num_frames) * per_step * (self.num_bodies if self.token_bodies == "each" else 1)


def spatial_graphs(layout: Layout) -> Tensor:
    """`[S, V, V]`, what every block's graphs begin as: `graph.spatial` of the bones that the bone stream has, which for
    NTU RGB+D are the published graph's edges (the tip of a hand hangs on its thumb)."""
    joints, parents = np.arange(layout.num_joints), layout.bone_parents
    edges = np.stack([joints, parents], 1)[parents != joints]
    return torch.from_numpy(graph.spatial(layout, edges)).float()


def _begin(layer: nn.Module, fan_out: int) -> None:
    """Normal weights for `fan_out` outputs (He et al., 2015), biases 0, as the published code begins."""
    nn.init.normal_(layer.get_parameter("weight"), 0, math.sqrt(2 / fan_out))
    nn.init.zeros_(layer.get_parameter("bias"))


class RefinedGraph(nn.Module):
    """Channel-wise topology refinement: NM C T V -> NM C' T V, and a context in which that is used without being kept
    (see `norm_relu`)."""

    def __init__(self, channels_in: int, channels_out: int, graphs: Tensor) -> None:
        super().__init__()
        S, R = len(graphs), max(8, channels_in // REDUCTION)
        self.A = nn.Parameter(graphs.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        # Every subset has its own layers in the published code; together they are one layer each, equal.
        self.conv1 = nn.Linear(channels_in, S * R)
        self.conv2 = nn.Linear(channels_in, S * R)
        self.conv3 = Pointwise(channels_in, S * channels_out)
        self.refine = nn.Parameter(torch.randn(S, channels_out, R) * math.sqrt(2 / channels_out))
        self.refine_bias = nn.Parameter(torch.zeros(S, channels_out))
        self.bn = BatchNorm(channels_out)
        self.down = None
        for layer, width in ((self.conv1, R), (self.conv2, R), (self.conv3, channels_out)):
            _begin(layer, width)
        nn.init.constant_(self.bn.weight, 1e-6)  # a block begins as little more than its residual
        if channels_in != channels_out:
            self.down = nn.Sequential(Pointwise(channels_in, channels_out), BatchNorm(channels_out))
            _begin(self.down[0], channels_out)

    def forward(self, x: Tensor) -> tuple[Tensor, AbstractContextManager[Any]]:
        S = len(self.A)
        # The mean over time commutes with a 1x1 convolution: take it first, T times less work, exactly equal.
        mean = x.mean(2).transpose(1, 2)  # NM V C
        x1 = self.conv1(mean).transpose(1, 2).unflatten(1, (S, -1))  # NM S R V
        x2 = self.conv2(mean).transpose(1, 2).unflatten(1, (S, -1))
        pairs = torch.tanh(x1.unsqueeze(-1) - x2.unsqueeze(-2)).flatten(3)  # NM S R VV
        refinement = (self.refine.to(pairs.dtype) @ pairs + self.refine_bias.to(pairs.dtype)[..., None]) * self.alpha
        refined = self.A.unsqueeze(1) + refinement.unflatten(3, self.A.shape[1:])  # NM S C' V V
        x3 = self.conv3(x).unflatten(1, (S, -1))  # NM S C' T V
        y = (x3 @ refined.transpose(3, 4).to(x3.dtype)).sum(1)
        return norm_relu(self.bn, y, x if self.down is None else self.down(x))


class TemporalBranches(nn.Module):
    """Two dilated temporal branches, a max-pool and a plain one: NM C T V -> NM C T/stride V; `forgotten` is the
    context that came with the input. Without the max-pool, the plain branch has its channels too."""

    def __init__(self, channels: int, stride: int, max_pool: bool) -> None:
        super().__init__()
        width = channels // NUM_BRANCHES
        self.stride, self.width, self.max_pool = stride, width, max_pool
        active = len(DILATIONS) + max_pool
        # The branches' own 1x1 convolutions read the same input, and their last norms are by channel: one layer each.
        self.split = Pointwise(channels, active * width)
        self.split_bn = BatchNorm(active * width)
        self.dilated = nn.ModuleList(
            nn.Conv2d(width, width, (KERNEL, 1), (stride, 1), padding=(KERNEL // 2 * d, 0), dilation=(d, 1))
            for d in DILATIONS
        )
        self.plain = Pointwise(channels, channels - active * width, stride)
        self.bn = BatchNorm(channels)
        for layer, fan_out in ((self.split, width), (self.plain, width), *((c, width * KERNEL) for c in self.dilated)):
            _begin(layer, fan_out)
        for norm in (self.split_bn, self.bn):
            nn.init.normal_(norm.weight, 1, 0.02)

    def forward(self, x: Tensor, forgotten: AbstractContextManager[Any]) -> Tensor:
        with forgotten:
            active, plain = self.split(x), self.plain(x)
        active, forgotten = norm_relu(self.split_bn, active)
        with forgotten:
            parts = active.split(self.width, dim=1)
            branches = [conv(part) for conv, part in zip(self.dilated, parts, strict=False)]
            if self.max_pool:
                branches.append(F.max_pool2d(parts[-1], (3, 1), (self.stride, 1), (1, 0)))
        return self.bn(torch.cat([*branches, plain], 1))


class Block(nn.Module):
    """Graph, then time, with a residual around both in all blocks but the first."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, residual: bool, graphs: Tensor, max_pool: bool
    ) -> None:
        super().__init__()
        self.gcn = RefinedGraph(channels_in, channels_out, graphs)
        self.tcn = TemporalBranches(channels_out, stride, max_pool)
        self.has_residual = residual
        self.residual = None
        if residual and (channels_in != channels_out or stride != 1):
            self.residual = nn.Sequential(Pointwise(channels_in, channels_out, stride), BatchNorm(channels_out))
            _begin(self.residual[0], channels_out)

    def forward(self, x: Tensor) -> Tensor:
        y = self.tcn(*self.gcn(x))
        if self.has_residual:
            y = y + (x if self.residual is None else self.residual(x))
        return F.relu(y, inplace=True)


class CtrGcn(nn.Module):
    """Clips `[N, M, T, V, C]` to features, to their mean, or to tokens. `graphs` `[S, V, V]` is what every block's
    graphs begin as (`spatial_graphs` of the layout).

    A body that is zero everywhere is absent. In the published network it goes through all blocks like any other, and
    counts in the mean over bodies. With `present_bodies_only` it takes no part: batch norm's statistics are over the
    bodies that are there, and all places of a clip share one input norm. Tokens leave absent bodies out in any case,
    and a clip in which nobody is keeps its first body. Weights of one kind do not fit the other.
    """

    bf16 = False  # train the blocks in bfloat16; coordinates and what follows the blocks are float32 always

    def __init__(self, config: CtrGcnConfig, graphs: Tensor) -> None:
        super().__init__()
        if graphs.shape[1:] != (config.num_joints, config.num_joints):
            raise ValueError(f"graphs are {list(graphs.shape)}, the network has {config.num_joints} joints")
        self.config = config
        self.num_places = 1 if config.present_bodies_only else config.num_bodies
        self.data_bn = nn.BatchNorm1d(self.num_places * config.num_joints * config.in_channels)
        channels_in, blocks = config.in_channels, []
        for number, (channels, stride) in enumerate(zip(config.channels, config.strides, strict=True)):
            blocks.append(Block(channels_in, channels, stride, number > 0, graphs, config.max_pool))
            channels_in = channels
        self.blocks = nn.ModuleList(blocks)

    def features(self, x: Tensor) -> Tensor:
        """Clips `[N, M, T, V, C]` to the last feature map `[N, M, C', T', V]`, of all bodies. Raises `ValueError` for
        another number of joints, coordinates or bodies than the network has."""
        N, M, T, V, C = self._checked(x).shape
        P = self.num_places
        x = x.reshape(-1, P, T, V, C).permute(0, 1, 3, 4, 2).flatten(1, 3)  # B PVC T
        x = self.data_bn(x).unflatten(1, (P, V, C)).permute(0, 1, 3, 4, 2)  # B P C T V
        return self._through_blocks(x.flatten(0, 1)).unflatten(0, (N, M))

    def mean_features(self, x: Tensor) -> Tensor:
        """Features averaged over time and bodies, `[N, C', V]`; over all bodies, or with `present_bodies_only` over
        those that are there."""
        if not self.config.present_bodies_only:
            return self.features(x).mean((1, 3), dtype=x.dtype)
        present = self.present(x)
        y = self._present_features(x, present).mean(3, dtype=x.dtype)  # N M C' V
        return (y * self._weights(present, y)[:, :, None, None]).sum(1)

    def pooled(self, x: Tensor) -> Tensor:
        """Clips `[N, M, T, V, C]` to one vector each, `[N, C']`: the published network's last, before its classes."""
        return self.mean_features(x).mean(2)

    def tokens(self, x: Tensor) -> Tensor:
        """Clips `[N, M, T, V, C]` to tokens `[N, L, C']`, earlier time steps first. A body's own tokens are 0 where it
        is absent, which `token_mask` tells."""
        present = self.present(x)
        y = self._present_features(x, present).to(x.dtype).permute(0, 3, 1, 4, 2)  # N T' M V C'
        if self.config.token_by == "time":
            y = y.mean(3, keepdim=True)
        if self.config.token_bodies == "mean":
            y = (y * self._weights(present, y)[:, None, :, None, None]).sum(2, keepdim=True)
        else:
            y = torch.where(present[:, None, :, None, None], y, 0)
        return y.flatten(1, 3)

    def token_mask(self, x: Tensor) -> Tensor:
        """Which tokens are of a body that is there, `[N, L]`: all of them where tokens are means over bodies."""
        N, M, T = x.shape[:3]
        present = self.present(x) if self.config.token_bodies == "each" else x.new_ones(N, 1, dtype=torch.bool)
        V = self.config.num_joints if self.config.token_by == "time_joint" else 1
        return present[:, None, :, None].expand(-1, self.config.num_steps(T), -1, V).flatten(1)

    def present(self, x: Tensor) -> Tensor:
        """Which bodies of clips `[N, M, T, V, C]` are there, `[N, M]`: the first of a clip in which nobody is."""
        present = x.flatten(2).any(2)
        return present | F.pad(~present.any(1, keepdim=True), (0, x.shape[1] - 1))

    def _present_features(self, x: Tensor, present: Tensor) -> Tensor:
        """Features of the bodies that are `present`; those of the others are 0, or meaningless where they went through
        the network as published, or where a graph of fixed shapes is traced."""
        if not self.config.present_bodies_only or is_traced():
            return self.features(x)
        self._checked(x)
        found = self.features(x[present].unsqueeze(1)).squeeze(1)  # B C' T' V
        y = found.new_zeros(*x.shape[:2], *found.shape[1:])
        y[present] = found
        return y

    def _weights(self, present: Tensor, like: Tensor) -> Tensor:
        """Weights `[N, M]` of the mean over the bodies that are there."""
        return (present / present.sum(1, keepdim=True)).to(like.dtype)

    def _checked(self, x: Tensor) -> Tensor:
        _, M, _, V, C = x.shape
        wanted = (self.config.num_joints, self.config.in_channels)
        if wanted != (V, C):
            raise ValueError(f"clips are [.., V={V}, C={C}], the network takes V={wanted[0]}, C={wanted[1]}")
        if not self.config.present_bodies_only and self.config.num_bodies != M:
            raise ValueError(f"clips have {M} bodies, the network takes {self.config.num_bodies}")
        return x

    def _through_blocks(self, x: Tensor) -> Tensor:
        bf16 = self.bf16 and self.training
        with torch.autocast(x.device.type, torch.bfloat16) if bf16 else nullcontext():
            x = x.to(torch.bfloat16 if bf16 else x.dtype).contiguous()  # NM C T V
            for block in self.blocks:
                x = block(x)
        return x
