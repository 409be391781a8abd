"""From what a person asks for to a training: configuration, run folder, knowledge, and the loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import recipes, runs
from ..backends.names import LanguageModel
from ..config import Config, override, stream_named
from ..device import multiplies_bf16
from ..dialogue.interview import Question
from ..errors import RunError
from ..methods import DEFAULT, method
from ..methods.base import Knowledge, KnowledgeSource, Note, Watcher
from ..skeleton.class_choice import occurring
from ..skeleton.splitting import occurring_classes
from ..skeleton.store import SkeletonStore
from . import distributed
from .loop import TrainReport, train


@dataclass(frozen=True)
class Wanted:
    """What a person asks for; what is None or empty is left to the recipe."""

    recipe: str | None = None
    method: str | None = None
    protocol: str | None = None
    faithful_to: str | None = None  # "paper" or "release"
    changes: tuple[str, ...] = ()  # FIELD=VALUE


def configure(store: SkeletonStore, wanted: Wanted, stream: str, device: str) -> tuple[Config, list[str]]:
    """The configuration of one stream, and a reason per choice where it is derived from the data. Raises `RunError`."""
    reasons: list[str] = []
    if wanted.recipe is None:
        train_split, _ = store.protocol(wanted.protocol)
        config, reasons = method(wanted.method or DEFAULT).derived(store, train_split, stream_named(stream), device)
    else:
        config = recipes.fitted(recipes.recipe(wanted.recipe, stream), store)
        if wanted.method not in (None, config.method):
            raise RunError(f"recipe {wanted.recipe} is of method {config.method}, not {wanted.method}: name one.")
    if wanted.faithful_to is not None:
        config = method(config.method).faithful(config, wanted.faithful_to, store.layout.dims)
    return override(config, wanted.changes), reasons


def with_clips(
    store: SkeletonStore, wanted: Wanted, stream: str, device: str, note: Note, names: Sequence[str] | None = None
) -> SkeletonStore:
    """The store with the classes that can be trained: those of its training split, only those of `names` among them.

    `note` is told of classes that are left out. Raises `DataError` where fewer than two are left.
    """
    splits = {train for train, _ in store.protocols().values()}
    if names is None and all(len(occurring_classes(store, split)) == len(store.classes) for split in splits):
        return store
    config, _ = configure(store, wanted, stream, device)
    return occurring(store, store.protocol(config.data.protocol)[0], note, names)


def new_folder(folder: Path) -> Path:
    """`folder`, for a new run. Raises `RunError` where something is there already."""
    if distributed.leads() and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        hint = f"resume it by --resume {folder}" if (folder / runs.CONFIG).exists() else "remove it"
        raise RunError(f"{folder} is there already: choose another folder with --out, or {hint}.")
    return folder


def source_of(run: Path, given: KnowledgeSource, default_dialogues: Path) -> KnowledgeSource:
    """Where a run's knowledge came from, with what is `given` now in the place of what it noted."""
    _, recorded = runs.read_source(run)
    noted = KnowledgeSource.from_record(recorded, given.dialogues)
    changes = {
        name: value for name in ("llm", "prompts", "fallback", "text_weights") if (value := getattr(given, name))
    }
    if given.dialogues != default_dialogues:
        changes["dialogues"] = given.dialogues
    return dataclasses.replace(
        noted,
        offline=noted.offline or given.offline,
        base_url=given.base_url,
        timeout=given.timeout,
        jobs=given.jobs,
        **changes,
    )


def open_knowledge(
    store: SkeletonStore, config: Config, source: KnowledgeSource, device: str, note: Note
) -> AbstractContextManager[Knowledge]:
    """The knowledge of a run as its method opens it."""
    return method(config.method).open_knowledge(config, store, source, device, note)


def train_run(
    store: SkeletonStore,
    config: Config,
    run: Path,
    source: KnowledgeSource,
    device: torch.device,
    watcher: Watcher,
    note: Note,
    *,
    resume: bool = False,
) -> tuple[TrainReport, Sequence[Question]]:
    """Train one run, or resume it; its report, and the questions that the dialogue store did not answer. Raises what
    `train` and the method's knowledge raise."""
    if not resume and device.type == "cpu" and config.train.precision == "bf16" and multiplies_bf16() is False:
        note("Note: this processor has no instructions for bf16: --set train.precision=float32 is faster.")
    if not distributed.leads():
        knowledge = method(config.method).without_knowledge(config, store)
        return train(store, config, run, knowledge, device, watcher, source=source, resume=resume), ()
    with open_knowledge(store, config, source, device.type, note) as knowledge:
        if knowledge.active and source.repeat is None:
            fixed = ", which answers no further questions" if LanguageModel.parse(knowledge.llm).is_imported else ""
            alone = ", from the store alone" if source.offline else ""
            note(f"Dialogues by {knowledge.llm}{fixed}{alone}.")
            source = dataclasses.replace(source, llm=knowledge.llm)
        report = train(store, config, run, knowledge, device, watcher, source=source, resume=resume)
        return report, tuple(knowledge.missing)
