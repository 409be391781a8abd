"""Configuration of a base model and of what is trained on it: a section `lm` of the methods that tune one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..checks import MANY, within
from ..errors import RunError


@dataclass(frozen=True)
class LoraSettings:
    """The paper's words; the scale of the update is alpha / rank."""

    rank: int = 64
    alpha: float = 16.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")  # names of matrices, or ("all-linear",)
    layers: tuple[int, ...] = ()  # numbers of the layers, from 0; empty: all


@dataclass(frozen=True)
class BaseModelConfig:
    """Which language model is tuned, what of it, and how it answers."""

    base_model: str = "smollm2"  # a folder, a GGUF file, a name on the hub, or smollm2
    pretrained: bool = True  # False (control): the same network with weights drawn at random from the run's seed
    precision: Literal["float32", "bf16"] = "float32"  # of the base model's weights
    quantisation: Literal["none", "4bit"] = "none"  # of the base model's weights; 4bit needs CUDA and bitsandbytes
    adapt: Literal["lora", "all", "nothing"] = "lora"  # all: every weight of it is trained and kept
    rank: int = 64  # of LoRA, as are the next four
    alpha: float = 16.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")  # names of matrices, or all-linear
    layers: tuple[int, ...] = ()  # numbers of the layers, from 0; empty: all
    clips_at_once: int = 0  # of a batch; the rest follows, and gradients add up (0: the whole batch)
    checkpoint_activations: bool = False  # compute activations twice instead of keeping them
    score_by_token: bool = False  # a name's log-likelihood is divided by its number of tokens

    def __post_init__(self) -> None:
        within(self, 1, MANY, "rank")
        within(self, 0, MANY, "alpha", "clips_at_once")
        within(self, 0, 0.99, "dropout")
        if not self.targets:
            raise RunError("targets is empty: name the matrices that LoRA adapts, or all-linear.")

    @property
    def lora(self) -> LoraSettings:
        return LoraSettings(self.rank, self.alpha, self.dropout, self.targets, self.layers)
