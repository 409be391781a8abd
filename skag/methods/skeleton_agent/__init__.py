"""SkeletonAgent (arXiv 2511.22433): Questioner and Selector give the network joints and sentences while it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import Classifier, Facts, Findings, Knowledge, KnowledgeSource, Note, Task
from .config import SkeletonAgentConfig as CONFIG
from .recipes import RECIPES, derived, faithful, for_unseen, sources
from .rows import REPEATABLE, ROWS
from .script import SCRIPT

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...inference.loaded import Run
    from ...inference.scores import Predictions
    from ...results.analysis import Pair
    from ...skeleton.layouts import Layout
    from ...skeleton.store import SkeletonStore
    from .agents import Agents

__all__ = [
    "CONFIG", "RECIPES", "REPEATABLE", "ROWS", "SCRIPT", "axes", "derived", "describe_others", "faithful", "for_unseen",
    "import_checkpoint", "load", "make_findings", "make_task", "open_knowledge", "published_start", "sentences",
    "shape", "sources", "stages", "uses_knowledge", "without_knowledge",
]  # fmt: skip


def stages(config: CONFIG) -> tuple[str, ...]:
    """One: everything is trained together."""
    return ("train",)


def import_checkpoint(path: Path, run: Path, config: CONFIG, classes: list[str], layout: Layout) -> dict[str, int]:
    """A checkpoint of the published code as a run folder. Raises `RunError`."""
    from .published import import_checkpoint as make_run

    shape = make_run(path, run, config, classes, layout)
    return {"classes": shape.num_classes, "joints": shape.num_joints, "blocks": len(shape.channels)}


def axes(config: CONFIG) -> dict[str, tuple[int | str, ...]]:
    """Of the network's weights that lie along joints or classes."""
    network, V, K = config.network, "joints", "classes"
    places = config.data.num_bodies if network.joint_embedding and not network.present_bodies_only else 1
    norm = (places, V, network.channels[0] if network.joint_embedding else 3)
    return {
        "gcn.A": (-1, V, V), "add_coeff": (V,), "pos_embedding": (1, V, -1), "critical_joints": (K, V),
        "class_head.weight": (K, -1), "class_head.bias": (K,),
        **{f"data_bn.{name}": norm for name in ("weight", "bias", "running_mean", "running_var")},
    }  # fmt: skip


def published_start(path: Path) -> tuple[Mapping[str, Tensor], Layout, list[str]]:
    """A checkpoint of the published code to start a training from. Raises `RunError`."""
    from .published import start

    return start(path)


def uses_knowledge(config: CONFIG) -> bool:
    """Whether joints or sentences have a part in the loss."""
    return config.agents.asks


def open_knowledge(
    config: CONFIG, store: SkeletonStore, source: KnowledgeSource, device: str, note: Note
) -> AbstractContextManager[Knowledge]:
    """The agents of a run, see `opening.open_agents`."""
    from .opening import open_agents

    return open_agents(config, store, source, device, note)


def without_knowledge(config: CONFIG, store: SkeletonStore) -> Knowledge:
    """Agents that say nothing."""
    from .opening import without_knowledge as inactive

    return inactive(config, store)


def shape(config: CONFIG, store: SkeletonStore, knowledge: Agents) -> dict[str, Any]:
    """What config.json says of the network: its shape under "model"."""
    from .task import model_shape

    return {"model": asdict(model_shape(config, store, knowledge.text_width))}


def make_task(stage: str, config: CONFIG, facts: Facts, knowledge: Agents, device: torch.device) -> Task:
    """The one stage; `knowledge` is what `open_knowledge` opened."""
    from .task import SkeletonAgentTask

    return SkeletonAgentTask(config, facts, knowledge, device)


def load(folder: Path, config: CONFIG, facts: Mapping[str, Any], weights: Mapping[str, Any]) -> Classifier:
    """The classifier of a run's config.json (`facts`) and `weights`. Raises `RunError`, or what weights of another
    network raise."""
    from ...config import from_dict
    from ...errors import RunError
    from .classifier import SkeletonAgentClassifier, TextReader
    from .network import ModelConfig, Recogniser

    shape = dict(facts["model"]) if isinstance(facts.get("model"), dict) else facts.get("model")
    if isinstance(shape, dict) and shape.pop("motion_features", 0):
        raise RunError(f"{folder} has a head for motion, which this version no longer has: skag 0.1.0 reads this run.")
    model = Recogniser(from_dict(ModelConfig, shape, str(folder / "config.json")))
    model.load_state_dict(weights)
    asking = facts.get("asking")
    text_weights = asking.get("text_weights") if isinstance(asking, dict) else None
    reader = TextReader(config.agents, None if text_weights is None else Path(text_weights))
    return SkeletonAgentClassifier(model, facts["classes"], reader)


def make_findings(
    run: Run, store: SkeletonStore, predictions: Predictions, pairs: Sequence[Pair], reference: Path | None
) -> Findings:
    """Dialogues, refreshes, critical joints, embeddings and the learned topology."""
    from .findings import findings as find

    return find(run, store, predictions, pairs, reference)


def describe_others(run: Run, names: Sequence[str]) -> dict[str, str]:
    """What the dialogue store of the run's training says of classes, without those that it lacks. Nothing by
    `measured`, which has it from recordings of these very classes."""
    from ...backends.names import LanguageModel
    from ...dialogue.describe import described_with, load
    from ...dialogue.store import DialogueStore
    from ...runs import read_json
    from . import selector

    asking = read_json(run.folder, "config.json").get("asking")
    path = asking.get("dialogues") if isinstance(asking, dict) else None
    if not isinstance(path, str) or not Path(path).is_file():
        return {}
    found = {}
    with DialogueStore(Path(path)) as kept:
        for name in names:
            by = [LanguageModel.parse(spec) for spec in described_with(kept, [name], run.layout, SCRIPT)]
            if others := [llm for llm in by if not llm.is_measured]:
                said = load(kept, [name], run.layout, SCRIPT, identity=others[0].identity)
                found[name] = selector.sentences(said)[0]
    return found


def sentences(run: Run) -> dict[str, str]:
    """What the run's dialogue said of its classes when the kept network was trained; empty without agents."""
    from .findings import history_of

    known = history_of(run).at(run.epoch or 0)
    pairs = zip(run.trained, known or (), strict=known is not None)
    return {name: each.sentence for name, each in pairs if each.sentence}
