"""The ProtoGCN encoder: a graph convolution network over body joints, without heads.

Letters of this file: N clips, M bodies, T frames, V joints, C channels, S subsets of the graph, R channels of one
subset. Bodies are folded into the batch as NM inside the blocks.

The network is the one of the published SkeletonAgent code (ProtoGCN's backbone: the graph part is DG-STGCN's DG-GCN,
the temporal part its DG-TCN); the places where an exactly equal, cheaper form is computed say so. It knows no files, no
network and no loss.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..device import is_traced
from .layers import BatchNorm, Pointwise, add_mean_joint, norm_relu, refined_graph, with_mean_joint

NUM_SUBSETS = 8  # learned graphs per block
NUM_BRANCHES = 6  # temporal branches: four dilated, one max-pool, one plain
DILATIONS = (1, 2, 3, 4)


class Shape(Protocol):
    """What fixes the encoder's shape."""

    @property
    def num_joints(self) -> int: ...
    @property
    def num_bodies(self) -> int: ...
    @property
    def in_channels(self) -> int: ...  # coordinates per joint
    @property
    def channels(self) -> tuple[int, ...]: ...  # width of every block, multiples of NUM_SUBSETS
    @property
    def strides(self) -> tuple[int, ...]: ...  # temporal stride of every block
    @property
    def joint_embedding(self) -> bool: ...  # lift joints to channels[0] and add a learned position (not for Kinetics)
    @property
    def present_bodies_only(self) -> bool: ...  # absent bodies take no part: see `ProtoGCN`


def _highest_of_three(x: Tensor, stride: int) -> Tensor:
    """Max-pool over three frames of `[NM, C, T, V]`, with joints standing as channels that lie last, for which torch's
    kernel is vectorised: equal, in less than half the time on the CPU."""
    rows = x.flatten(0, 1).unsqueeze(2).permute(0, 3, 1, 2)  # NMC V T 1
    rows = F.max_pool2d(rows, (3, 1), stride=(stride, 1), padding=(1, 0))
    return rows.permute(0, 2, 3, 1).squeeze(2).unflatten(0, x.shape[:2])


def noise_graphs(draw: Tensor) -> Tensor:
    """What the learned graphs begin as, from standard normal numbers `[S, V, V]`: the skeleton's edges are not used
    (published code, `init_off` 0.04 and `init_std` 0.02)."""
    return draw * 0.02 + 0.04


class SpatialGraph(nn.Module):
    """DG-GCN: graph convolution whose graph is learned (A) and refined per clip (inter, intra): NM C T V -> NM C' T V,
    and a context in which that is used without being kept (see `norm_relu`)."""

    def __init__(self, channels_in: int, channels_out: int, num_joints: int) -> None:
        super().__init__()
        hidden = channels_out // NUM_SUBSETS * NUM_SUBSETS
        self.A = nn.Parameter(noise_graphs(torch.randn(NUM_SUBSETS, num_joints, num_joints)))
        self.alpha = nn.Parameter(torch.zeros(1))
        self.beta = nn.Parameter(torch.zeros(1))
        self.pre = nn.Sequential(Pointwise(channels_in, hidden), BatchNorm(hidden))
        self.conv1 = nn.Linear(channels_in, hidden)
        self.conv2 = nn.Linear(channels_in, hidden)
        self.post = Pointwise(hidden, channels_out)
        self.bn = BatchNorm(channels_out)
        self.down = None
        if channels_in != channels_out:
            self.down = nn.Sequential(Pointwise(channels_in, channels_out), BatchNorm(channels_out))

    def forward(self, x: Tensor) -> tuple[Tensor, AbstractContextManager[Any]]:
        # The mean over time commutes with a 1x1 convolution: take it first, T times less work, exactly equal.
        mean = x.mean(2).transpose(1, 2)  # NM V C
        x1 = self.conv1(mean).transpose(1, 2).unflatten(1, (NUM_SUBSETS, -1))  # NM S R V
        x2 = self.conv2(mean).transpose(1, 2).unflatten(1, (NUM_SUBSETS, -1))
        intra = torch.softmax((x1.transpose(2, 3) @ x2).to(self.A.dtype), dim=-2) * self.beta  # NM S V V
        graph = refined_graph(self.A + intra, x1, x2, self.alpha)  # NM S R V V
        convolution, norm = self.pre
        pre, forgotten = norm_relu(norm, convolution(x))
        with forgotten:
            y = (pre.unflatten(1, (NUM_SUBSETS, -1)) @ graph).flatten(1, 2)  # NM S R T V -> NM SR T V
        return norm_relu(self.bn, self.post(y), x if self.down is None else self.down(x))


class TemporalBranches(nn.Module):
    """DG-TCN: six temporal branches over the joints and their mean joint, NM C T V -> NM C' T/stride V; `forgotten` is
    the context that came with the input."""

    def __init__(self, channels: int, num_joints: int, stride: int) -> None:
        super().__init__()
        width = channels // NUM_BRANCHES
        first = channels - width * (NUM_BRANCHES - 1)
        self.stride, self.widths = stride, (first, *[width] * (NUM_BRANCHES - 1))
        self.add_coeff = nn.Parameter(torch.zeros(num_joints))
        # The branches' own 1x1 convolutions read the same input: one convolution, split afterwards, is equal.
        self.split = Pointwise(channels, channels)
        self.split_bn = BatchNorm(channels - width)  # the plain branch has neither norm nor ReLU
        self.dilated = nn.ModuleList(
            nn.Conv2d(w, w, (3, 1), stride=(stride, 1), padding=(d, 0), dilation=(d, 1))
            for w, d in zip(self.widths, DILATIONS, strict=False)
        )
        self.transform_bn = BatchNorm(channels)
        self.transform = Pointwise(channels, channels)
        self.bn = BatchNorm(channels)

    def forward(self, x: Tensor, forgotten: AbstractContextManager[Any]) -> Tensor:
        with forgotten:
            x = self.split(x)
        x = with_mean_joint(x)  # NM C T V+1; the mean joint commutes with a 1x1 convolution
        # `split`, not slices: the backward of a slice fills and adds a whole tensor of zeros.
        active, plain = x.split([sum(self.widths[:-1]), self.widths[-1]], dim=1)
        active, forgotten = norm_relu(self.split_bn, active)
        with forgotten:
            *dilated, pooled = active.split(self.widths[:-1], dim=1)
            branches = [conv(part) for conv, part in zip(self.dilated, dilated, strict=True)]
            branches.append(_highest_of_three(pooled, self.stride))
        branches.append(plain[:, :, :: self.stride] if self.stride > 1 else plain)
        out = add_mean_joint(torch.cat(branches, 1), self.add_coeff)
        out, forgotten = norm_relu(self.transform_bn, out)
        with forgotten:
            out = self.transform(out)
        return self.bn(out)


class Block(nn.Module):
    """Graph, then time, with a residual around both."""

    def __init__(self, channels_in: int, channels_out: int, num_joints: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.gcn = SpatialGraph(channels_in, channels_out, num_joints)
        self.tcn = TemporalBranches(channels_out, num_joints, stride)
        self.has_residual = residual
        self.residual = None
        if residual and (channels_in != channels_out or stride != 1):
            self.residual = nn.Sequential(Pointwise(channels_in, channels_out, stride), BatchNorm(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.tcn(*self.gcn(x))
        if self.has_residual:
            y = y + (x if self.residual is None else self.residual(x))
        return F.relu(y, inplace=True)


class ProtoGCN(nn.Module):
    """Clips `[N, M, T, V, C]` to features `[N, M, C', T', V]`.

    A body that is zero everywhere is absent. In the published network it goes through all blocks like any other: in
    training it enters every batch norm's statistics, and features are the mean over all M bodies, so that a lone
    person has half the weight that each of two has. With `present_bodies_only` it is left out: statistics are over
    the bodies that are there, features the mean over a clip's own, and all places of a clip share one input norm. A
    clip in which nobody is keeps its first body. Weights of one kind do not fit the other.
    """

    bf16 = False  # train the blocks in bfloat16; coordinates, what they are lifted to, and heads are float32 always

    def __init__(self, config: Shape) -> None:
        super().__init__()
        self.config = config
        width = config.channels[0]
        channels_in = config.in_channels
        if config.joint_embedding:
            self.to_joint_embedding = nn.Linear(config.in_channels, width)
            self.pos_embedding = nn.Parameter(torch.randn(1, config.num_joints, width))
            channels_in = width
        self.num_places = config.num_bodies if config.joint_embedding and not config.present_bodies_only else 1
        self.data_bn = nn.BatchNorm2d(self.num_places * config.num_joints * channels_in)  # places told apart
        blocks = []
        for number, (channels, stride) in enumerate(zip(config.channels, config.strides, strict=True)):
            residual = number > 0 or config.joint_embedding
            blocks.append(Block(channels_in, channels, config.num_joints, stride, residual))
            channels_in = channels
        self.blocks = nn.ModuleList(blocks)

    @property
    def graphs(self) -> list[nn.Parameter]:
        """The learned graph `[S, V, V]` of every block."""
        return [block.gcn.A for block in self.blocks if isinstance(block, Block)]

    def begin_graphs(self, adjacency: Tensor) -> None:
        """Let the first graphs of every block begin as `adjacency` `[S', V, V]`, at most all of them; the others stay
        noise."""
        for graph in self.graphs:
            graph.data[: len(adjacency)] = adjacency

    def features(self, x: Tensor) -> Tensor:
        """Clips `[N, M, T, V, C]` to the last feature map `[N, M, C', T', V]`."""
        N, M, T, V, C = self._checked(x).shape
        P = self.num_places
        x = x.reshape(-1, P, T, V, C).transpose(1, 2)  # B T P V C
        if self.config.joint_embedding:
            x = self.to_joint_embedding(x) + self.pos_embedding
        # One channel per place, joint and number, channels last: what the layer before left needs no copy.
        x = self.data_bn(x.flatten(2).transpose(1, 2).unsqueeze(3)).squeeze(3)  # B PVC' T
        x = x.transpose(1, 2).unflatten(2, (P, V, -1)).permute(0, 2, 4, 1, 3)  # B P C' T V
        return self._through_blocks(x.flatten(0, 1)).unflatten(0, (N, M))

    def _checked(self, x: Tensor) -> Tensor:
        _, M, _, V, C = x.shape
        wanted = (self.config.num_joints, self.config.in_channels)
        if wanted != (V, C):
            raise ValueError(f"clips are [.., V={V}, C={C}], the network takes V={wanted[0]}, C={wanted[1]}")
        if self.config.joint_embedding and not self.config.present_bodies_only and self.config.num_bodies != M:
            raise ValueError(f"clips have {M} bodies, the network takes {self.config.num_bodies}")
        return x

    def _through_blocks(self, x: Tensor) -> Tensor:
        bf16 = self.bf16 and self.training
        with torch.autocast(x.device.type, torch.bfloat16) if bf16 else nullcontext():
            x = x.to(torch.bfloat16 if bf16 else x.dtype).contiguous()  # NM C T V
            for block in self.blocks:
                x = block(x)
        return x

    def mean_features(self, x: Tensor) -> Tensor:
        """`features` averaged over time and bodies, `[N, C', V]` (eq. 4: x_pre, and the mean that follows it)."""
        if self.config.present_bodies_only:
            return self._mean_of_present(x)
        if self.training or is_traced():
            return self.features(x).mean((1, 3), dtype=x.dtype)
        return self._mean_of_all(x)

    def _mean_of_present(self, x: Tensor) -> Tensor:
        """Mean features with absent bodies left out, or, where a graph of fixed shapes is traced, with weight 0."""
        N, M = self._checked(x).shape[:2]
        present = x.flatten(2).any(2)  # N M
        nobody = ~present.any(1, keepdim=True)
        present = present | F.pad(nobody, (0, M - 1))
        if is_traced():
            y = self.features(x).mean(3)  # N M C V
        else:
            found = self.features(x[present].unsqueeze(1)).mean((1, 3), dtype=x.dtype)  # B C V
            y = found.new_zeros(N, M, *found.shape[1:])
            y[present] = found
        weight = present / present.sum(1, keepdim=True)
        return (y * weight.to(y.dtype)[:, :, None, None]).sum(1)

    def _mean_of_all(self, x: Tensor) -> Tensor:
        """Mean features in evaluation, where bodies do not influence one another: all that are absent have one result
        per place in the clip (`data_bn` tells the places apart), which is computed for the first and stands for all."""
        N, M = self._checked(x).shape[:2]
        absent = ~x.flatten(2).any(2)  # N M
        first = absent.byte().argmax(0), torch.arange(M, device=x.device)  # of every place, clip 0 where none is absent
        computed = ~absent
        computed[first] = True
        place = computed.flatten().cumsum(0).view(N, M) - 1  # of every body among those computed
        place = torch.where(absent, place[first], place)
        bodies = self._normalised_bodies(x[computed], computed.nonzero()[:, 1])
        return self._through_blocks(bodies).mean(2)[place].mean(1)

    def _normalised_bodies(self, x: Tensor, number: Tensor) -> Tensor:
        """Bodies `[B, T, V, C]`, each the `number`-th `[B]` of its clip, to the first block's input `[B, C', T, V]`,
        with the running statistics."""
        norm, V = self.data_bn, self.config.num_joints
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias - norm.running_mean * scale
        if self.config.joint_embedding:
            x = self.to_joint_embedding(x) + self.pos_embedding
            scale, shift = (values.view(-1, 1, V, x.shape[-1])[number] for values in (scale, shift))
        else:
            scale, shift = (values.view(V, x.shape[-1]) for values in (scale, shift))
        return torch.addcmul(shift, x, scale).permute(0, 3, 1, 2)
