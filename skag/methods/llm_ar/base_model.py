"""The base model of a run: loaded as its configuration says, and refused where it is another one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...errors import RunError
from ...lm.causal import CausalModel, Precision, load_causal, look_at
from ...lm.estimate import Job, Memory, Shape, of_training
from ...lm.lora import check_base
from ..base import Note
from .config import LlmArConfig

_INSTRUCTION, _ANSWER = 48, 16  # tokens, roughly, for an estimate of memory


def width_and_identity(config: LlmArConfig, tell: Note | None = None) -> tuple[int, dict[str, Any]]:
    """The width of the base model's words, and its checksums for config.json. Raises `ModelError`."""
    lm = config.lm
    shape, identity = look_at(
        lm.base_model,
        quantisation=lm.quantisation,
        pretrained=lm.pretrained,
        seed=config.train.seed,
        tell=tell,
    )
    return shape.width, identity


def open_base_model(
    config: LlmArConfig, made_for: Mapping[str, Any], where: Path, device: torch.device, codes: int = 0
) -> CausalModel:
    """The base model, frozen, on `device`.

    `made_for` is the identity that config.json of the run at `where` holds; another model is refused. With the number
    of `codes` of a clip, the memory that training takes is looked for first. Raises `ModelError`, `RunError`.
    """
    lm = config.lm
    precision: Precision = "float32" if lm.precision == "float32" else "bfloat16"

    def needed(shape: Shape) -> Memory:
        batch = lm.clips_at_once or config.tune.batch_size
        return of_training(shape, precision, Job(batch, codes + _INSTRUCTION, _ANSWER, lm.rank), lm.quantisation)

    model = load_causal(
        lm.base_model,
        device=str(device),
        precision=precision,
        quantisation=lm.quantisation,
        pretrained=lm.pretrained,
        seed=config.train.seed,
        needed=needed if codes else None,
    )
    if not isinstance(made_for, Mapping):
        raise RunError(f"{where} names no base model: train the run again.")
    check_base(dict(made_for), model, str(where))
    return model
