"""SUGAR's language model: its name, its adapter, and the words of questions and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import ModelError, RunError
from ...lm import gguf, names
from ...lm.causal import CausalModel, Precision, load_causal
from ...lm.estimate import Job, Memory, Shape, of_answering, of_training
from ...lm.lora import add_lora, check_base, checkpoint_activations
from .config import AnswerConfig, SugarConfig

TOKENS_PER_NAME = 5  # of a class in the list of actions, for estimates
TOKENS_AROUND = 80  # of the instruction, and of an answer


def identity(config: SugarConfig) -> dict[str, Any]:
    """What tells this base model from others, as `CausalModel.identity` has it; its weights are read once. Raises
    `ModelError`."""
    lm = config.lm
    found = names.locate(lm.base_model).identity()
    if not lm.pretrained:
        found |= {"pretrained": False, "seed": config.train.seed}
    if lm.quantisation != "none":
        found["quantisation"] = lm.quantisation
    return found


def sizes(config: SugarConfig) -> Shape:
    """The base model's sizes, without loading it. Raises `ModelError`."""
    located = names.locate(config.lm.base_model)
    return Shape.of(names.config_of(located) if located.gguf is None else gguf.config_of(located.gguf))


def open_base(config: SugarConfig, device: str, num_classes: int, trains: bool = True) -> CausalModel:
    """The base model with its adapter, which changes nothing yet. Raises `ModelError`."""
    lm = config.lm
    precision: Precision = "bfloat16" if lm.precision == "bf16" else "float32"
    batch = lm.clips_at_once or config.tune.batch_size
    length = (config.bridge.num_queries or 512) + TOKENS_PER_NAME * num_classes + TOKENS_AROUND

    def needed(shape: Shape) -> Memory:
        if not trains:
            return of_answering(shape, precision, lm.quantisation, batch=1, length=length)
        job = Job(batch, length, 16, lm.rank, lm.targets, lm.checkpoint_activations)
        return of_training(shape, precision, job, lm.quantisation)

    model = load_causal(
        lm.base_model,
        device=device,
        precision=precision,
        quantisation=lm.quantisation,
        pretrained=lm.pretrained,
        seed=config.train.seed,
        needed=needed,
    )
    if lm.adapt == "lora":
        model = add_lora(model, lm.lora, config.train.seed)
    elif lm.adapt == "all":
        if lm.quantisation != "none":
            raise ModelError("all weights of a base model in 4 bits cannot be trained: set lm.adapt=lora.")
        model.network.requires_grad_(True)
    if trains and lm.checkpoint_activations:
        checkpoint_activations(model)
    return model


def check_same(made_for: dict[str, Any], model: CausalModel, what: str) -> None:
    """Raise `RunError` where a run was trained on another base model, by checksums."""
    try:
        check_base(made_for, model, what)
    except ModelError as error:
        raise RunError(str(error)) from None


@dataclass(frozen=True)
class Wording:
    """The words around a clip's vectors, and those of the answers."""

    before: str  # the vectors
    after: str  # them, up to where the answer begins
    opening: str  # of an answer, before the class's name

    @staticmethod
    def of(model: CausalModel, config: AnswerConfig, actions: Sequence[str]) -> Wording:
        """The instruction with its list of actions. Raises `ModelError` where a chat is wanted of a model that knows
        none."""
        chat = config.frame == "chat"
        text = model.chat(config.instruction) if chat else f"{config.instruction}\nAnswer:"
        before, after = (part.replace("{actions}", ", ".join(actions)) for part in text.split("{tokens}"))
        return Wording(before, after, "{" if chat else " {")

    def naming(self, name: str) -> str:
        """What names a class: the beginning of its answer."""
        return f"{self.opening}{name}}}."

    def answer(self, name: str, description: str = "") -> str:
        """`{drink water}. Hand grasps cup ...`, braces and all (paper, Fig. 2)."""
        return f"{self.naming(name)} {description}" if description else self.naming(name)
