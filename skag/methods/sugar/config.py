"""SUGAR's configuration: the encoder, its alignment with texts, and the bridge to the language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...checks import MANY, within
from ...errors import RunError


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

    def __post_init__(self) -> None:
        within(self, 1e-4, MANY, "temperature")
        within(self, 0, MANY, "texts_per_clip", "supervision")


@dataclass(frozen=True)
class BridgeConfig:
    """What turns the encoder's tokens into vectors that the language model reads."""

    # tqp: the temporal query projection (paper, eq. 4). qformer, linear, cross_attention: what it is compared with.
    kind: Literal["tqp", "qformer", "linear", "cross_attention"] = "tqp"
    num_queries: int = 128  # k: length of the query, of a segment, and of what is read (paper); linear reads all tokens
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

    def __post_init__(self) -> None:
        within(self, 1, MANY, "num_queries", "layers", "width", "heads", "cross_attention_every")
        within(self, 0, MANY, "key_width")
        within(self, 0, 0.99, "dropout")
        if self.width % self.heads:
            raise RunError(f"width {self.width} is no multiple of heads {self.heads}: change one of the two.")


BLIP_2 = BridgeConfig(layers=12, key_width=1408)  # the size that others report of SUGAR: see `network.Bridge`
