"""SkeletonAgent's recogniser: the ProtoGCN encoder with three heads.

Letters of this file: N clips, M bodies, T frames, V joints, C channels, K classes, D text width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...encoders.protogcn import NUM_SUBSETS, ProtoGCN
from .losses import LEARNED_SCALE


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the shape of the network; stored in every run and rebuilds it."""

    num_classes: int
    num_joints: int
    num_bodies: int
    in_channels: int = 3  # coordinates per joint
    channels: tuple[int, ...] = (96, 96, 96, 192, 192, 192, 384, 384, 384)  # width of every block
    strides: tuple[int, ...] = (1, 1, 1, 2, 1, 1, 2, 1, 1)  # temporal stride of every block
    joint_embedding: bool = True  # lift joints to channels[0] and add a learned position (not for Kinetics)
    embedding_dim: int = 512  # D, width of the text embeddings
    dropout: float = 0.0  # on the pooled feature, in front of the class head
    present_bodies_only: bool = False  # absent bodies take no part: see `ProtoGCN`
    learned_scale: bool = False  # a learned scale of the alignment's cosines (published code) beside the heads
    text_space: str = "raw"  # how text vectors are compared, see `config.AgentConfig`

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.strides):
            raise ValueError(
                f"{len(self.channels)} channels but {len(self.strides)} strides: give one of each per block"
            )
        if bad := [c for c in self.channels if c % NUM_SUBSETS]:
            raise ValueError(f"channels {bad[0]} is no multiple of {NUM_SUBSETS}")


@dataclass
class NetworkOutput:
    """What the network says about a batch of clips."""

    class_logits: Tensor  # [N, K]
    constraint_logits: Tensor  # [N, K] from the critical joints of every class only
    embedding: Tensor  # [N, D] to be aligned with the class's sentence


class Recogniser(ProtoGCN):
    """Clips `[N, M, T, V, C]` to an `NetworkOutput`. `critical_joints` `[K, V]` is set by the Selector."""

    critical_joints: Tensor
    text_centre: Tensor
    text_map: Tensor
    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        last = config.channels[-1]
        self.dropout = nn.Dropout(config.dropout)
        self.class_head = nn.Linear(last, config.num_classes)
        self.constraint_head = nn.Linear(last, 1)
        self.embedding_head = nn.Linear(last, config.embedding_dim)
        if config.learned_scale:
            self.alignment_scale = nn.Parameter(torch.tensor(LEARNED_SCALE))
        self.register_buffer("critical_joints", torch.ones(config.num_classes, config.num_joints))
        if config.text_space != "raw":
            self.register_buffer("text_centre", torch.zeros(config.embedding_dim))
        if config.text_space == "whitened":
            self.register_buffer("text_map", torch.eye(config.embedding_dim))

    def begin_text(self, text: Tensor) -> None:
        """Take the space in which texts are compared from those of the trained classes, `[K, D]`."""
        if self.config.text_space == "raw":
            return
        self.text_centre.copy_(text.mean(0))
        if self.config.text_space == "whitened":
            apart = (text - self.text_centre).double()
            covariance = apart.T @ apart / len(text)
            width = len(covariance)
            shrunk = (covariance + torch.eye(width, device=text.device) * covariance.trace() / width) / 2
            values, vectors = torch.linalg.eigh(shrunk)
            self.text_map.copy_(vectors @ torch.diag(values.clamp_min(1e-12).rsqrt()) @ vectors.T)

    def placed(self, text: Tensor) -> Tensor:
        """Text vectors `[..., D]` in that space."""
        if self.config.text_space == "raw":
            return text
        apart = text - self.text_centre
        return apart @ self.text_map if self.config.text_space == "whitened" else apart

    def forward(self, x: Tensor) -> NetworkOutput:
        x_pre = self.mean_features(x)  # N C V
        pooled = x_pre.mean(2)  # N C
        # Eq. 4 multiplies x_pre with a V x V matrix per class whose rows are constant. Projecting the channels
        # to one number per joint first and summing over critical joints is equal (1e-14 in float64).
        per_joint = self.constraint_head(x_pre.transpose(1, 2)).squeeze(-1) - self.constraint_head.bias  # N V
        constraint = per_joint @ self.critical_joints.T + self.constraint_head.bias
        return NetworkOutput(self.class_head(self.dropout(pooled)), constraint, self.embedding_head(pooled))
