"""SkeletonAgent's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ...checks import MANY, within
from ...config import Config
from ...errors import RunError


@dataclass(frozen=True)
class NetworkConfig:
    """Width and depth of the network; the rest of its shape follows from the data."""

    channels: tuple[int, ...] = (96, 96, 96, 192, 192, 192, 384, 384, 384)
    strides: tuple[int, ...] = (1, 1, 1, 2, 1, 1, 2, 1, 1)
    joint_embedding: bool = True  # lift joints to channels[0] and add a learned position (published, not for Kinetics)
    # What the learned graphs begin as: noise (published), or first some adjacency of the skeleton (`graph.py`).
    graph: Literal["noise", "binary", "spatial", "stgcn_spatial"] = "noise"
    dropout: float = 0.0
    # Bodies that are not there (published: zeros that go through the network) are left out, in batch norm's statistics
    # and in the mean over bodies: other numbers, and half the work for clips of one person among those of two.
    present_bodies_only: bool = False

    def __post_init__(self) -> None:
        if not self.channels or len(self.channels) != len(self.strides):
            raise RunError(
                f"channels has {len(self.channels)} and strides {len(self.strides)} numbers: give one each per block."
            )
        if bad := [width for width in self.channels if width < 8 or width % 8]:
            raise RunError(f"channels holds {bad[0]}: every width must be a multiple of 8.")
        if min(self.strides) < 1:
            raise RunError(f"strides holds {min(self.strides)}: every stride must be at least 1.")
        within(self, 0, 0.99, "dropout")


@dataclass(frozen=True)
class AgentConfig:
    """Questioner, Selector and the two loss terms they feed."""

    alpha: float = 0.2  # weight of the joint constraint, L_con (0: off)
    beta: float = 0.5  # weight of the alignment, L_align (0: off)
    temperature: float = 0.1  # tau of the alignment (eq. 6, 7)
    # What the cosines are multiplied with. temperature: 1 / tau (paper). learned: a learned number that begins at
    # ln(1/0.07) and is used as it is (published code; CLIP would take its exponential).
    alignment_scale: Literal["temperature", "learned"] = "temperature"
    # q of eq. 8 over the clips of one class: uniform, or the published code's softmax of 10 times "same class".
    alignment_target: Literal["uniform", "softmax"] = "uniform"
    query_period: int = 5  # epochs between two refreshes
    max_similar: int = 10  # k of eq. 3
    # False: answers come in while training goes on, and count from the epoch after they are complete.
    wait_for_answers: bool = False
    max_questions: int | None = None  # that a run may put while it trains; None: as many as it takes
    # Which classes are asked about first, where max_questions does not do for all: those with most errors, or those of
    # whose errors most could be mended by one thing that was measured of both classes' training clips (not in the
    # paper).
    questions_by: Literal["errors", "gain"] = "errors"
    # Round 6 says what was measured of the training clips of the class and its similar ones, so that the answer is
    # about these recordings (not in the paper).
    measured_differences: bool = False
    min_confusions: int = 1  # a class counts as similar from this many confused clips on
    confusion: Literal["train", "val"] = "train"  # clips that are counted: the epoch's own (eq. 3), or held-out ones
    confusion_rule: Literal["paper", "release"] = "paper"  # eq. 3, or how the published code counts and chooses
    joints_from_distinctions: bool = True  # joints named in round 6 become critical too, not only those of round 4
    # Critical elements in bone streams: a bone by its joint, or as the published code numbers those of NTU RGB+D, whose
    # elements 20 and 21 are exchanged (`Layout.stream_mask`); other layouts are the same in both.
    bone_masks: Literal["joint", "release"] = "joint"
    # Leave out what the dialogue says against the training clips: joints whose movement these contradict, and such
    # clauses of sentences (`skag dialogues verify --against`; not in the paper).
    drop_contradicted: bool = False
    text_encoder: str = "lexical"  # or open_clip:NAME, hf:NAME
    # What the next three are otherwise is for unseen classes (docs/unseen.md); none of it is in the paper.
    # What the embedding is aligned with: the dialogue's sentence of its class, or the bare name.
    alignment_text: Literal["sentence", "name"] = "sentence"
    # What a clip is contrasted with: the clips of its batch (eq. 6 to 8), or all classes that are trained.
    alignment_over: Literal["batch", "classes"] = "batch"
    # How text vectors are compared: as the encoder gives them, from the mean of the trained classes, or also whitened
    # by their covariance (shrunk halfway to a multiple of the identity).
    text_space: Literal["raw", "centred", "whitened"] = "raw"
    train_text_encoder: bool = False  # train an open_clip encoder along, as the published code does

    def __post_init__(self) -> None:
        within(self, 0, MANY, "alpha", "beta")
        within(self, 1e-4, MANY, "temperature")
        within(self, 1, MANY, "query_period", "max_similar", "min_confusions")
        if self.max_questions is not None:
            within(self, 0, MANY, "max_questions")
        if self.train_text_encoder and not self.text_encoder.startswith("open_clip:"):
            raise RunError(f"train_text_encoder trains open_clip:NAME, not {self.text_encoder}: change one of the two.")
        if self.train_text_encoder and (self.alignment_over, self.text_space) != ("batch", "raw"):
            raise RunError(
                "a text encoder that is trained along has moving vectors: train_text_encoder goes with alignment_over "
                "batch and text_space raw."
            )

    @property
    def used(self) -> bool:
        """Whether anything looks at what the agents say, or at names."""
        return bool(self.alpha or self.beta)

    @property
    def asks(self) -> bool:
        """Whether anything looks at what a language model says."""
        return bool(self.alpha or (self.beta and self.alignment_text == "sentence"))


@dataclass(frozen=True)
class SkeletonAgentConfig(Config):
    """Everything that fixes a run but the data and the dialogues."""

    method: ClassVar[str] = "skeleton-agent"
    # Experiments of version 0.1.0 that gained nothing (docs/ablation.md).
    removed: ClassVar[Mapping[str, Any]] = {
        "augment.jitter": 0.0,
        "agents.gamma": 0.0,
        "agents.motion_of": "critical",
        "agents.constraint_over": "sum",
        "agents.both_sides": False,
        "agents.recall_distinctions": False,
        "agents.shuffled": False,
    }
    network: NetworkConfig = field(default_factory=NetworkConfig)
    agents: AgentConfig = field(default_factory=AgentConfig)
