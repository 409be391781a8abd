"""From what a person asks for to a training: configuration, run folder, knowledge, and the loop."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import recipes, runs
from ..backends.names import LanguageModel
from ..config import AnyConfig, Config, override, replace, stream_named
from ..device import multiplies_bf16
from ..dialogue.interview import Question
from ..errors import RunError
from ..methods import DEFAULT, method
from ..methods.base import Knowledge, KnowledgeSource, Note, Watcher
from ..skeleton.class_choice import occurring
from ..skeleton.splitting import occurring_classes
from ..skeleton.store import SkeletonStore
from ..skeleton.unseen import drawn, seen_part
from . import distributed
from .loop import TrainReport, train
from .start_from import Start

REHEARSAL = "rehearsal"  # in a run folder: a run in which some of the seen classes are unseen


@dataclass(frozen=True)
class Wanted:
    """What a person asks for; what is None or empty is left to the recipe."""

    recipe: str | None = None
    method: str | None = None
    protocol: str | None = None
    faithful_to: str | None = None  # "paper" or "release"
    changes: tuple[str, ...] = ()  # FIELD=VALUE
    unseen: tuple[str, ...] = ()  # classes of the store that nothing is learned from
    rehearse: int | None = None  # seen classes that the rehearsal leaves out; None: as `usual_rehearsal` says
    start: Start | None = None  # what is trained on; without a recipe its configuration and network are taken


def configure(store: SkeletonStore, wanted: Wanted, stream: str, device: str) -> tuple[Config, list[str]]:
    """The configuration of one stream, and a reason per choice where it is derived from the data. Raises `RunError`."""
    reasons: list[str] = []
    if not wanted.unseen and any(change.partition("=")[0].strip() == "data.unseen" for change in wanted.changes):
        raise RunError("--set data.unseen: give unseen classes by --unseen, which finds them in the store.")
    store = seen_part(store, wanted.unseen)
    if wanted.recipe is None and wanted.start is not None and wanted.start.config is not None:
        config, reasons = as_started(wanted.start.config, stream), []
    elif wanted.recipe is None:
        train_split, _ = store.protocol(wanted.protocol)
        config, reasons = method(wanted.method or DEFAULT).derived(store, train_split, stream_named(stream), device)
        if wanted.start is not None:
            config = override(config, wanted.start.changes)
    else:
        config = recipes.fitted(recipes.recipe(wanted.recipe, stream), store)
        if wanted.method not in (None, config.method):
            raise RunError(f"recipe {wanted.recipe} is of method {config.method}, not {wanted.method}: name one.")
    if wanted.faithful_to is not None:
        config = method(config.method).faithful(config, wanted.faithful_to, store.layout.dims)
    if wanted.unseen:
        count = wanted.rehearse
        if count is None:  # what is trained in stages costs too much to be trained twice unasked
            single = len(method(config.method).stages(config)) == 1
            count = usual_rehearsal(len(store.classes)) if single else 0
        config = replace(config, "data", unseen=wanted.unseen, rehearse=count)
        for_unseen = getattr(method(config.method), "for_unseen", None)
        config = config if for_unseen is None else for_unseen(config)
    return override(config, wanted.changes), reasons


def with_clips(
    store: SkeletonStore, wanted: Wanted, stream: str, device: str, note: Note, names: Sequence[str] | None = None
) -> SkeletonStore:
    """The store with the classes that can be trained: those of its training split, only those of `names` among them.

    Unseen classes stay, with clips or without. `note` is told of classes that are left out. Raises `DataError` where
    fewer than two are left.
    """
    if unseen := wanted.unseen:
        seen = None if names is None else [name for name in names if name not in unseen]
        part = seen_part(store, unseen)
        kept = with_clips(part, dataclasses.replace(wanted, unseen=()), stream, device, note, seen).classes
        return store if kept == part.classes else store.of_classes([*kept, *unseen])
    splits = {train for train, _ in store.protocols().values()}
    if names is None and all(len(occurring_classes(store, split)) == len(store.classes) for split in splits):
        return store
    config, _ = configure(store, wanted, stream, device)
    return occurring(store, store.protocol(config.data.protocol)[0], note, names)


def as_started(config: AnyConfig, stream: str) -> AnyConfig:
    """The configuration of a run for clips of another store."""
    data = dataclasses.replace(config.data, protocol=None, stream=stream_named(stream), unseen=(), rehearse=0)
    return dataclasses.replace(config, data=data)


def prolonged(run: Path, config: AnyConfig, epochs: int, note: Note) -> AnyConfig:
    """The configuration of a run that is trained on until it has `epochs`, which its folder then says. Raises
    `RunError` where that is no more than it was to have, or the method has several stages."""
    if len(method(config.method).stages(config)) > 1:
        raise RunError(f"{run} is trained in stages, of which --epochs names none: resume it as it is.")
    before = config.train.epochs
    if epochs <= before:
        raise RunError(f"{run} was to have {before} epochs already: give more by --epochs, or resume it as it is.")
    done = len(runs.read_lines(run / runs.METRICS))
    settings = dataclasses.replace(config.train, epochs=epochs)
    config = dataclasses.replace(config, train=settings)
    if distributed.leads():
        facts = runs.read_json(run, runs.CONFIG)
        record = {"after_epoch": done, "from": before, "to": epochs}
        runs.note_fact(run, "prolonged", [*facts.get("prolonged", ()), record])
        runs.note_fact(run, "config", config.to_dict())
        shares = [_cosine(done, settings.warmup, total) for total in (before, epochs)]
        note(
            f"Until epoch {epochs} instead of {before}: from here on the learning rate follows the cosine of {epochs} "
            f"epochs, from {shares[1] * settings.lr:.2g} instead of {shares[0] * settings.lr:.2g} after epoch {done} "
            "down to 0. A run of so many epochs from the beginning would have come here by other rates, to other "
            "weights."
        )
    return config


def _cosine(epoch: int, warmup: int, total: int) -> float:
    """The share of the learning rate after an epoch, see `optim.make_scheduler`."""
    if epoch < warmup:
        return epoch / warmup
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / max(1, total - warmup)))


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
    """The knowledge of a run as its method opens it: of the seen classes, where some are unseen."""
    part = seen_part(store, config.data.unseen)
    return method(config.method).open_knowledge(config, part, source, device, note)


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
    start: Start | None = None,
) -> tuple[TrainReport, Sequence[Question]]:
    """Train one run, or resume it, or `start` it from what was trained before; its report, and the questions that the
    dialogue store did not answer.

    Nothing of unseen classes gets further than here: what learns is given the seen part of the `store`. A rehearsal, if
    the configuration wants one, is trained next, in the folder `REHEARSAL` of the run. Raises what `train` and the
    method's knowledge raise.
    """
    store = seen_part(store, config.data.unseen)
    second = rehearsal_of(config, store) if config.data.rehearse else None
    of_second, folder = source, run / REHEARSAL
    if source.repeat is not None:
        of_second = dataclasses.replace(source, repeat=source.repeat / REHEARSAL)
    if second is not None and not resume and distributed.leads() and method(config.method).uses_knowledge(config):
        with open_knowledge(store, second, of_second, device.type, note):
            pass  # what it lacks is told before anything is trained
    report, missing = _train_seen(store, config, run, source, device, watcher, note, resume, start)
    if second is not None:
        more = [name for name in second.data.unseen if name in store.classes]
        note(f"Rehearsal in {folder}: as if {', '.join(more)} were unseen too.")
        part, going_on = seen_part(store, second.data.unseen), resume and (folder / runs.CONFIG).exists()
        _train_seen(part, second, folder, of_second, device, watcher, note, going_on, start)
    return report, missing


def rehearsal_of(config: AnyConfig, store: SkeletonStore) -> AnyConfig:
    """The configuration of a run's rehearsal: some of the seen classes, drawn by the run's seed, are unseen too.
    `store` is the seen part. Raises `RunError` where too few classes would be left."""
    count = config.data.rehearse
    if len(store.classes) - count < 2:
        raise RunError(
            f"data.rehearse is {count} of {len(store.classes)} seen classes: leave at least two to learn from."
        )
    more = drawn(store.classes, count, config.train.seed)
    return replace(config, "data", unseen=(*config.data.unseen, *more), rehearse=0)


def usual_rehearsal(seen: int) -> int:
    """How many of so many seen classes a rehearsal leaves out: a fifth, at least two; none of fewer than four."""
    return max(2, round(seen / 5)) if seen >= 4 else 0


def _train_seen(
    store: SkeletonStore,
    config: Config,
    run: Path,
    source: KnowledgeSource,
    device: torch.device,
    watcher: Watcher,
    note: Note,
    resume: bool,
    start: Start | None,
) -> tuple[TrainReport, Sequence[Question]]:
    if not resume and device.type == "cpu" and multiplies_bf16() is False:
        for section in ("train", "lm"):
            if getattr(getattr(config, section, None), "precision", None) == "bf16":
                note(f"Note: this processor has no instructions for bf16: --set {section}.precision=float32 is faster.")
    if not distributed.leads():
        knowledge = method(config.method).without_knowledge(config, store)
        return train(store, config, run, knowledge, device, watcher, source=source, resume=resume, start=start), ()
    with open_knowledge(store, config, source, device.type, note) as knowledge:
        if knowledge.active and source.repeat is None:
            fixed = ", which answers no further questions" if LanguageModel.parse(knowledge.llm).is_imported else ""
            alone = ", from the store alone" if source.offline else ""
            note(f"Dialogues by {knowledge.llm}{fixed}{alone}.")
            source = dataclasses.replace(source, llm=knowledge.llm)
        report = train(
            store, config, run, knowledge, device, watcher, source=source, resume=resume, start=start, note=note
        )
        return report, tuple(knowledge.missing)
