"""SUGAR (arXiv 2511.10091): descriptions shape the encoder, and a language model names the action from its tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import Classifier, Facts, Findings, Knowledge, KnowledgeSource, Note, Task
from .config import SugarConfig as CONFIG
from .recipes import RECIPES, derived, faithful, for_unseen, sources
from .rows import REPEATABLE, ROWS
from .script import SCRIPT

if TYPE_CHECKING:
    import torch

    from ...inference.loaded import Run
    from ...inference.scores import Predictions
    from ...results.analysis import Pair
    from ...skeleton.layouts import Layout
    from ...skeleton.store import SkeletonStore
    from .descriptions import Descriptions

__all__ = [
    "CONFIG", "RECIPES", "REPEATABLE", "ROWS", "SCRIPT", "axes", "derived", "describe_others", "faithful", "for_unseen",
    "import_checkpoint", "load", "make_findings", "make_task", "open_knowledge", "rows_left_out", "sentences", "shape",
    "sources", "stages", "uses_knowledge", "without_knowledge",
]  # fmt: skip


def stages(config: CONFIG) -> tuple[str, ...]:
    """The encoder's, and where a language model answers the bridge's, if it has one of its own, and the model's."""
    if not config.tunes:
        return ("align",)
    first = () if config.align.of else ("align",)
    return (*first, "teach", "tune") if config.bridge.taught else (*first, "tune")


def axes(config: CONFIG) -> dict[str, tuple[int | str, ...]]:
    """Of the encoder's weights that lie along joints or classes."""
    V, K = "joints", "classes"
    norm = (1 if config.network.present_bodies_only else config.data.num_bodies, V, 3)
    return {
        "gcn.A": (-1, V, V), "class_head.weight": (K, -1), "class_head.bias": (K,),
        **{f"data_bn.{name}": norm for name in ("weight", "bias", "running_mean", "running_var")},
    }  # fmt: skip


def import_checkpoint(path: Path, run: Path, config: CONFIG, classes: list[str], layout: Layout) -> dict[str, int]:
    """Raises `RunError`: nothing was published."""
    from ...errors import RunError

    raise RunError("SUGAR has published no checkpoints: train a run with `skag train`.")


def rows_left_out(config: CONFIG, source: KnowledgeSource) -> dict[str, str]:
    """Rows of `skag ablate` that would say nothing here, and why; who names them gets them nevertheless."""
    from ...backends.names import LanguageModel
    from ...dialogue.store import DialogueStore
    from .rows import OF_BRIDGE, OF_SEEN
    from .script import IMAGINED, SEEN

    found = {} if config.tunes else dict.fromkeys(OF_BRIDGE, "no language model answers")
    name = LanguageModel.parse(source.llm or "measured")
    if name.is_measured or name.is_file or name.is_imported:
        if source.dialogues.exists():
            with DialogueStore(source.dialogues) as kept:
                if kept.find(rounds=[SEEN.number, IMAGINED.number]):
                    return found
        found |= dict.fromkeys(OF_SEEN, f"{name} cannot tell what is seen, and {source.dialogues} has no such texts")
    return found


def uses_knowledge(config: CONFIG) -> bool:
    """Whether what a language model says of the classes takes part."""
    return config.asks


def open_knowledge(
    config: CONFIG, store: SkeletonStore, source: KnowledgeSource, device: str, note: Note
) -> AbstractContextManager[Knowledge]:
    """The texts of the classes, see `descriptions.open_descriptions`; before that it is made sure that the language
    model can be had, and told what the network costs."""

    @contextmanager
    def opened() -> Iterator[Descriptions]:
        from .descriptions import open_descriptions
        from .plan import check

        note(check(config, store))
        with open_descriptions(config, store, source, device, note) as texts:
            yield texts

    return opened()


def without_knowledge(config: CONFIG, store: SkeletonStore) -> Knowledge:
    """Texts that say nothing."""
    from .descriptions import without_texts

    return without_texts(store)


def shape(config: CONFIG, store: SkeletonStore, knowledge: Descriptions) -> dict[str, Any]:
    """What config.json says of the network: the encoder's shape under "model", and which base model it is."""
    from .task import encoder_shape

    found: dict[str, Any] = {"model": asdict(encoder_shape(config, store))}
    if config.tunes:
        from .base_model import identity

        found["base_model"] = identity(config)
    return found


def make_task(stage: str, config: CONFIG, facts: Facts, knowledge: Descriptions, device: torch.device) -> Task:
    """One of the stages; `knowledge` is what `open_knowledge` opened."""
    from ...training import distributed
    from .descriptions import FILE
    from .task import AlignTask, TuneTask
    from .teach_task import TeachTask

    if distributed.leads() and (facts.run / FILE).exists():  # of a run that is resumed: as it began
        knowledge.take_over(facts.run)
    knowledge.use_snapshot(distributed.share(knowledge.snapshot))
    kinds: dict[str, Callable[..., Task]] = {"align": AlignTask, "teach": TeachTask, "tune": TuneTask}
    return kinds[stage](config, facts, knowledge, device)


def load(folder: Path, config: CONFIG, facts: Mapping[str, Any], weights: Mapping[str, Any]) -> Classifier:
    """The classifier of a run's config.json (`facts`) and `weights`; the base model is brought back by its name. Raises
    `RunError` where that is another one now, or what weights of another network raise."""
    from .loading import load as load_run

    return load_run(folder, config, facts, weights)


def make_findings(
    run: Run, store: SkeletonStore, predictions: Predictions, pairs: Sequence[Pair], reference: Path | None
) -> Findings:
    """Which texts clips lie near, how alike the texts are, and where clips lay before and after training."""
    from .findings import findings as find

    return find(run, store, predictions, pairs)


def sentences(run: Run) -> dict[str, str]:
    """The first text of every class, of those the run was trained with; empty without texts."""
    from .descriptions import FILE, recorded_texts

    if not (run.folder / FILE).exists():
        return {}
    texts = recorded_texts(run.folder, run.trained)
    told = zip(run.trained, texts, strict=False)
    return {name: own[0].text for name, own in told if own and own[0].kind != "name"}


def describe_others(run: Run, names: Sequence[str]) -> dict[str, str]:
    """The text of the motion of classes that the dialogue store of the run's training tells of. Nothing by `measured`,
    which has it from recordings of these very classes."""
    from .descriptions import stored_motion

    return stored_motion(run.folder, names)
