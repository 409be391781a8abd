"""LLM-AR (Qu et al., CVPR 2024): clips become sentences of learned action words, and a language model reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import Classifier, Facts, Findings, Knowledge, KnowledgeSource, Note, Task
from .config import LlmArConfig as CONFIG
from .knowledge import NoQuestions
from .recipes import RECIPES, derived, faithful, sources
from .rows import REPEATABLE, ROWS

if TYPE_CHECKING:
    import torch

    from ...inference.loaded import Run
    from ...inference.scores import Predictions
    from ...results.analysis import Pair
    from ...skeleton.layouts import Layout
    from ...skeleton.store import SkeletonStore

__all__ = [
    "CONFIG", "RECIPES", "REPEATABLE", "ROWS", "SCRIPT", "derived", "describe_others", "faithful", "for_unseen",
    "import_checkpoint", "load",
    "make_findings", "make_task", "open_knowledge", "sentences", "shape", "sources", "stages", "uses_knowledge",
    "without_knowledge",
]  # fmt: skip

SCRIPT = None


def stages(config: CONFIG) -> tuple[str, ...]:
    """The codebook first, unless another run's is read; then the base model."""
    return ("tune",) if config.codebook.of else ("codebook", "tune")


def import_checkpoint(path: Path, run: Path, config: CONFIG, classes: list[str], layout: Layout) -> dict[str, int]:
    """There are none. Raises `RunError`."""
    from ...errors import RunError

    raise RunError(f"{path}: no checkpoints of LLM-AR were published; train one with `skag train --method llm-ar`.")


def uses_knowledge(config: CONFIG) -> bool:
    """Never: the base model is given the classes' names alone."""
    return False


def open_knowledge(
    config: CONFIG, store: SkeletonStore, source: KnowledgeSource, device: str, note: Note
) -> AbstractContextManager[Knowledge]:
    """Nobody is asked."""
    return nullcontext(NoQuestions(note))


def without_knowledge(config: CONFIG, store: SkeletonStore) -> Knowledge:
    """The same, of processes that do not lead."""
    return NoQuestions()


def shape(config: CONFIG, store: SkeletonStore, knowledge: NoQuestions) -> dict[str, Any]:
    """What config.json says of the network: the VQ-VAE's shape under "model", the base model's checksums under
    "base_model". Raises `RunError` where clips, codes and base model do not fit one another."""
    from .run_facts import describe

    return describe(config, store, knowledge.tell)


def make_task(stage: str, config: CONFIG, facts: Facts, knowledge: NoQuestions, device: torch.device) -> Task:
    """The task of a stage."""
    from ... import runs

    about = runs.read_json(facts.run, runs.CONFIG)
    if stage == "codebook":
        from .codebook_task import CodebookTask

        return CodebookTask(config, facts, about, device)
    from .tune_task import TuneTask

    return TuneTask(config, facts, about, device)


def load(folder: Path, config: CONFIG, facts: Mapping[str, Any], weights: Mapping[str, Any]) -> Classifier:
    """The classifier of a run's config.json (`facts`) and `weights`; the base model is looked up by its name. Raises
    `RunError`, `ModelError`, or what weights of another network raise."""
    import torch

    from .base_model import open_base_model
    from .classifier import LlmArClassifier
    from .codebook_task import NetworkShape, make_vqvae
    from .reader import Reader

    device = torch.device("cuda" if config.lm.quantisation == "4bit" else "cpu")
    base = open_base_model(config, facts.get("base_model", {}), folder, device)
    model = Reader(config, make_vqvae(config, NetworkShape(**facts["model"])), base)
    model.load_state_dict(weights)
    return LlmArClassifier(model, facts["classes"])


def make_findings(
    run: Run, store: SkeletonStore, predictions: Predictions, pairs: Sequence[Pair], reference: Path | None
) -> Findings:
    """The codebook's use, the action words of classes, and the sentences of clips that are confused."""
    from .findings import findings as find

    return find(run, store, predictions, pairs, reference)


def sentences(run: Run) -> dict[str, str]:
    """Nothing is said of the classes."""
    return {}


def for_unseen(config: CONFIG) -> CONFIG:
    """The same: the paper trains without lists of classes too."""
    return config


def describe_others(run: Run, names: Sequence[str]) -> dict[str, str]:
    """Nothing: the base model is given names alone."""
    return {}
