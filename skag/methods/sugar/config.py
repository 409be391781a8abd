"""SUGAR's configuration: texts, the encoder, its alignment with them, the bridge, and the language model's answer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ...checks import MANY, within
from ...config import Config, TrainConfig
from ...errors import RunError
from ...lm.config import BaseModelConfig

# The paper's instruction (Fig. 2), and the beginning of an answer by which the class is named.
INSTRUCTION = (
    "Given a sequence of action tokens \n{tokens}, please choose the most compatible action from: {actions}, "
    "and describe the action."
)


@dataclass(frozen=True)
class TextConfig:
    """What language says of the classes."""

    # Of the motion by six parts of the body, of what is seen, both, or nothing: then the encoder learns the classes
    # alone, by cross-entropy, the paper's first row.
    knowledge: Literal["none", "visual", "motion", "both"] = "both"
    text_encoder: str = "lexical"  # or open_clip:NAME (paper: CLIP; which is not stated), hf:NAME
    visual_texts: int = 0  # of what would be seen, at most so many of a class (0: all there are)
    name: bool = False  # the class's bare name is a text of its own too (beyond the paper)
    parts: bool = False  # what each part of the body does is a text of its own too (beyond the paper)

    def __post_init__(self) -> None:
        within(self, 0, MANY, "visual_texts")

    @property
    def motion(self) -> bool:
        return self.knowledge in ("motion", "both")

    @property
    def visual(self) -> bool:
        return self.knowledge in ("visual", "both")


@dataclass(frozen=True)
class EncoderConfig:
    """CTR-GCN with SUGAR's two changes; the rest of its shape follows from the data."""

    channels: tuple[int, ...] = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)
    strides: tuple[int, ...] = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1)  # kept as in CTR-GCN (not stated in the paper)
    max_pool: bool = False  # SUGAR "discards the pooling in the time dimension"; True: CTR-GCN as published
    # A token for every time step, or for every time step and joint: 1,000 tokens are the paper's "full length", which
    # is no number of time steps of its data. Not stated in the paper.
    token_by: Literal["time", "time_joint"] = "time_joint"
    # Tokens are means over the bodies that are there, or each body has its own. Not stated in the paper.
    token_bodies: Literal["mean", "each"] = "mean"
    present_bodies_only: bool = False  # absent bodies take no part in batch norm and means either (beyond the paper)
    dropout: float = 0.0  # on the pooled feature, in front of the heads (not stated in the paper)

    def __post_init__(self) -> None:
        if not self.channels or len(self.channels) != len(self.strides):
            raise RunError(
                f"channels has {len(self.channels)} and strides {len(self.strides)} numbers: give one each per block."
            )
        if bad := [width for width in self.channels if width < 4 or width % 4]:
            raise RunError(f"channels holds {bad[0]}: every width must be a multiple of 4.")
        if min(self.strides) < 1:
            raise RunError(f"strides holds {min(self.strides)}: every stride must be at least 1.")
        within(self, 0, 0.99, "dropout")


@dataclass(frozen=True)
class AlignConfig:
    """What the encoder learns from texts in stage `align`."""

    # mil_nce: from the classes' texts (paper, eq. 3). cross_entropy: from the classes alone, the paper's baseline
    # without knowledge.
    loss: Literal["mil_nce", "cross_entropy"] = "mil_nce"
    # row: of each clip over texts (the paper's formula, mended). both: Miech et al.'s, whose denominator holds clips
    # over the texts too.
    direction: Literal["row", "both"] = "row"
    temperature: float = 0.07  # tau (not stated in the paper)
    normalise: bool = True  # cosines instead of products (not stated in the paper)
    # Texts that are drawn for every clip of a batch, of those of its class (0: all of them; not stated in the paper).
    texts_per_clip: int = 3
    motion_always: bool = True  # the first text, of the motion, is among them (paper: t = {m, v_i})
    # Which classes' texts a clip is told apart from: those in its batch (paper), or all.
    candidates: Literal["batch", "all"] = "batch"
    supervision: float = 0.0  # weight of a class head's cross-entropy beside MIL-NCE (0: off; beyond the paper)
    of: str = ""  # the encoder of this run, trained on the same clips, in the place of a stage `align`

    def __post_init__(self) -> None:
        within(self, 1e-4, MANY, "temperature")
        within(self, 0, MANY, "texts_per_clip", "supervision")


@dataclass(frozen=True)
class BridgeConfig:
    """What turns the encoder's tokens into vectors that the language model reads."""

    # tqp: the temporal query projection (paper, eq. 4). qformer, linear, cross_attention: what it is compared with.
    kind: Literal["tqp", "qformer", "linear", "cross_attention"] = "tqp"
    # k: length of the query, of a segment, and of what is read (paper); 0: as many as a clip has tokens, the paper's
    # "full length". linear reads all tokens.
    num_queries: int = 128
    layers: int = 4  # of the Q-Former (not stated in the paper; BLIP-2 has 12)
    width: int = 768  # of the query (not stated in the paper; BLIP-2's)
    heads: int = 12  # of every attention (not stated in the paper; BLIP-2's)
    # Layers between two that look at the tokens (not stated in the paper; BLIP-2's 2: every second layer does).
    cross_attention_every: int = 2
    # Width that tokens are projected to before the Q-Former reads them (0: none). BLIP-2's 1408 makes up the operations
    # that are reported of SUGAR. Not stated in the paper.
    key_width: int = 0
    positions: Literal["sinusoidal", "none"] = "sinusoidal"  # added to tokens; a Q-Former has none of its own
    dropout: float = 0.1  # within the Q-Former (not stated in the paper; BLIP-2's)
    # Its vectors begin as long as the base model's word vectors are in the mean (not stated in the paper).
    begin_like_words: bool = True
    # Of the bridge, which begins from nothing, in stage `tune` (0: tune.lr). The paper states 2e-5 for LoRA, and none
    # of the bridge's own.
    lr: float = 1e-4
    # Epochs of a stage `teach` before `tune`: the bridge alone learns to say the class's name in the base model's word
    # vectors, and the base model takes no part (0: none, as in the paper).
    taught: int = 0
    temperature: float = 0.07  # of the cosines in that stage

    def __post_init__(self) -> None:
        within(self, 1, MANY, "layers", "width", "heads", "cross_attention_every")
        within(self, 1e-4, MANY, "temperature")
        within(self, 0, MANY, "num_queries", "key_width", "lr", "taught")
        within(self, 0, 0.99, "dropout")
        if self.width % self.heads:
            raise RunError(f"width {self.width} is no multiple of heads {self.heads}: change one of the two.")


BLIP_2 = BridgeConfig(layers=12, key_width=1408)  # the size that others report of SUGAR: see `network.Bridge`


@dataclass(frozen=True)
class AnswerConfig:
    """Who names the class, and in which words."""

    # language_model: stages `align` and `tune` (paper). encoder: stage `align` alone; the class is that of the nearest
    # text, or with align.loss=cross_entropy what the encoder's class head says.
    by: Literal["language_model", "encoder"] = "language_model"
    # {tokens} are the clip's vectors, {actions} the list of classes that may be answered.
    instruction: str = INSTRUCTION
    frame: Literal["plain", "chat"] = "plain"  # chat: within the base model's chat template (not stated in the paper)
    # Share of the training clips whose answer goes on with a description, drawn anew for every batch (paper: "a small
    # number of samples").
    described: float = 0.1
    words: int = 24  # of a description, at most (paper: "brief")
    max_tokens: int = 48  # of a description that `skag predict` shows (0: none is generated)

    def __post_init__(self) -> None:
        within(self, 0, 1, "described")
        within(self, 1, MANY, "words")
        within(self, 0, MANY, "max_tokens")
        if self.instruction.count("{tokens}") != 1:
            raise RunError("instruction must hold {tokens} once: the place of the clip's vectors.")


@dataclass(frozen=True)
class SugarConfig(Config):
    """Everything that fixes a run but the data and the texts. `train` is stage `align`, `tune` the last."""

    method: ClassVar[str] = "sugar"
    texts: TextConfig = field(default_factory=TextConfig)
    network: EncoderConfig = field(default_factory=EncoderConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    bridge: BridgeConfig = field(default_factory=BridgeConfig)
    lm: BaseModelConfig = field(default_factory=BaseModelConfig)
    answer: AnswerConfig = field(default_factory=AnswerConfig)
    tune: TrainConfig = field(default_factory=TrainConfig)

    @property
    def tunes(self) -> bool:
        """Whether a language model takes part."""
        return self.answer.by == "language_model"

    def settings_of(self, stage: str) -> TrainConfig:
        """Stage `teach` is trained as `tune` is, at the bridge's own rate."""
        if stage != "teach":
            return super().settings_of(stage)
        tune, bridge = self.tune, self.bridge
        return dataclasses.replace(tune, epochs=bridge.taught, lr=bridge.lr or tune.lr)

    @property
    def has_texts(self) -> bool:
        """Whether there are texts of the classes at all."""
        return self.texts.knowledge != "none" or self.texts.name

    @property
    def learns_texts(self) -> bool:
        """Whether the encoder learns from texts; else from the classes alone."""
        return self.has_texts and self.align.loss == "mil_nce"

    @property
    def asks(self) -> bool:
        """Whether what a language model says of the classes takes part."""
        used = self.learns_texts or (self.tunes and self.answer.described > 0)
        return self.texts.knowledge != "none" and used
