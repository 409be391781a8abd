"""Small runs of LLM-AR: the tiny store with names that the tiny Llama's tokeniser tells apart."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from skag.config import override, replace
from skag.methods.llm_ar.config import LlmArConfig
from skag.methods.llm_ar.knowledge import NoQuestions
from skag.methods.llm_ar.recipes import small
from skag.skeleton.store import SkeletonStore
from skag.training.loop import TrainReport, train

from .tiny import write_tiny_store
from .training import CPU, Silent

NAMES = ["drink water", "eat meal", "wave", "stand up"]
SMALL = (
    "vqvae.width=16", "vqvae.depth=1", "codebook.num_codes=16", "codebook.revive_every=3", "data.num_frames=8",
    "data.val_fraction=0.25", "train.epochs=2", "train.repeats=1", "train.batch_size=16", "train.warmup=0",
    "tune.epochs=2", "tune.batch_size=16", "tune.warmup=0", "lm.rank=4",
)  # fmt: skip


def readable_store(path: Path) -> Path:
    """The tiny store, its classes named by words of the tiny Llama."""
    write_tiny_store(path, NAMES)
    return path


def config(base_model: Path, *changes: str) -> LlmArConfig:
    """Settings of a moment, with the base model of a folder."""
    of_model = replace(small("j"), "lm", base_model=str(base_model))
    return override(dataclasses.replace(of_model, recipe="llm-ar-small"), [*SMALL, *changes])


def run_training(
    config: LlmArConfig, store: Path, run: Path, watcher: Silent | None = None, resume: bool = False
) -> tuple[TrainReport, Silent]:
    """Train a run, or resume it."""
    watcher = watcher or Silent()
    with SkeletonStore(store) as opened:
        return train(opened, config, run, NoQuestions(), CPU, watcher, resume=resume), watcher
