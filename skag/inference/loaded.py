"""Runs as they are loaded for use, and the clips that they are asked about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .. import runs
from ..config import Config
from ..errors import DataError, RunError
from ..methods import DEFAULT, method
from ..methods.base import Classifier
from ..plural import counted
from ..skeleton.class_choice import as_trained
from ..skeleton.layouts import Layout
from ..skeleton.store import SkeletonStore
from .added import Added, WithAdded, read_added


@dataclass(frozen=True)
class Run:
    """A trained recogniser with everything needed to use it."""

    folder: Path
    config: Config
    classifier: Classifier
    classes: list[str]
    layout: Layout
    store_path: Path | None  # None: imported weights, whose recordings skag has not seen
    fingerprint: str | None
    epoch: int | None = None  # the one that was kept; None for imported weights
    added: Added | None = None  # classes that were added to the trained ones, and stand behind them in `classes`

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.classifier.model

    @property
    def trained(self) -> list[str]:
        """The classes that were trained."""
        return self.classes[: len(self.classes) - len(self.added.names)] if self.added else self.classes


@dataclass(frozen=True)
class ClipSet:
    """Which clips of a store a run is asked about; two runs are compared on names, labels and classes."""

    split: str
    numbers: np.ndarray  # [n]
    names: list[str]
    labels: np.ndarray  # int64 [n]
    classes: list[str]


def load_run(folder: Path, device: torch.device) -> Run:
    """The best network of a run folder, ready for evaluation. Raises `RunError`."""
    facts = runs.read_json(folder, runs.CONFIG)
    source = runs.read_json(folder, runs.DATA)
    path = folder / "best.pt"
    if not path.exists():
        if runs.read_lines(folder / runs.METRICS):
            raise RunError(f"{path} is gone: take it from a copy, or train the run again.")
        raise RunError(
            f"{folder} has no best.pt, its training has not finished an epoch: `skag train --resume {folder}` goes on."
        )
    config = runs.read_config(folder)
    where = str(folder / runs.CONFIG)
    if not {"model", "classes", "layout"} <= facts.keys() or not {"store", "fingerprint"} <= source.keys():
        raise RunError(f"{where} or {runs.DATA} beside it lacks fields: train the run again.")
    try:
        best = torch.load(path, map_location="cpu", weights_only=True)
        weights, epoch = best["model"], best.get("epoch")
        classifier = method(facts.get("method", DEFAULT)).load(folder, config, facts, weights)
    except RunError:
        raise
    except Exception as error:  # a damaged or foreign file fails in many ways, none of them runs code
        raise RunError(f"{path} cannot be loaded ({str(error).splitlines()[0]}): train the run again.") from None
    classifier.model.to(device).eval()
    added = read_added(folder, facts)
    if added is not None:
        classifier = WithAdded(classifier, facts["classes"], added)
    return Run(
        folder=folder,
        config=config,
        classifier=classifier,
        classes=[*facts["classes"], *(added.names if added else ())],
        layout=Layout.from_dict(facts["layout"], where),
        store_path=None if source["store"] is None else Path(source["store"]),
        fingerprint=source["fingerprint"],
        epoch=epoch if isinstance(epoch, int) else None,
        added=added,
    )


def open_run(
    folder: Path, store: Path | None, device: torch.device, stack: ExitStack, note: Callable[[str], None]
) -> tuple[Run, SkeletonStore]:
    """A run and its skeleton store, or the one at `store`, which `stack` closes. Raises `RunError`, `DataError`."""
    run = load_run(folder, device)
    path = run.store_path if store is None else store
    if path is None:
        raise DataError(f"{folder} holds imported weights: give the recordings with --data DATA.h5.")
    if store is None and not path.is_file():
        raise DataError(f"{path}, which {folder} was trained on, is gone: give the store with --data.")
    opened = stack.enter_context(SkeletonStore(path))
    if run.fingerprint is not None and opened.fingerprint != run.fingerprint:
        note(f"Note: {opened.path} is not the store {folder} was trained on (its fingerprint differs).")
    return run, opened


def choose_split(run: Run, store: SkeletonStore, split: str | None = None) -> str:
    """The split asked for, else the test split of the run's protocol. Raises `DataError` where there is none."""
    split = split or store.protocol(run.config.data.protocol)[1]
    if split not in store.splits:
        raise DataError(f"{store.path} has no split {split!r}: it has {', '.join(store.splits) or 'none'}.")
    return split


def split_clips(run: Run, store: SkeletonStore, split: str) -> ClipSet:
    """The clips of one split of the store that are of the run's classes, which are matched by name. Raises `RunError`
    where store and run do not fit, `DataError` where no class does."""
    if store.layout.joints != run.layout.joints:
        raise RunError(
            f"{store.path} has layout {store.layout.name} and {run.folder} was trained on {run.layout.name}."
        )
    part = as_trained(store, run.classes)
    return _clips(store, part, split, part.splits[split])


def unknown_classes(store: SkeletonStore, clips: ClipSet) -> str:
    """A note on clips of a split that `clips` leaves out, since the run was not trained on their classes; else ""."""
    left_out = np.setdiff1d(store.splits[clips.split], clips.numbers)
    if not len(left_out):
        return ""
    labels = dict.fromkeys(store.labels[left_out].tolist())
    names = [store.classes[label] for label in labels if 0 <= label < len(store.classes)]
    count = counted(len(left_out), "clip")
    named = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"Note: {count} of classes that the run was not trained on left out of {clips.split}: {named}."


def held_out_clips(run: Run, store: SkeletonStore) -> ClipSet:
    """The part of the training split that the run did not learn from. Raises `RunError` where it is not known."""
    if run.config.train.select_on == "test":
        raise RunError(f"{run.folder} held nothing out, the test split chose its epoch: leave out --fit-weights.")
    found = runs.read_json(run.folder, runs.DATA).get("validation")
    none = RunError(f"{run.folder / runs.DATA} names no held-out clips: fit weights on runs that skag trained.")
    if not isinstance(found, list) or not found or not all(type(n) is int and n >= 0 for n in found):
        raise none
    if store.fingerprint != run.fingerprint:
        raise RunError(
            f"{store.path} is not the store {run.folder} was trained on, so its held-out clips are not known: "
            "leave out --fit-weights, or give the store by --data."
        )
    part = as_trained(store, run.classes)
    numbers = part.of_file(np.array(found))
    if len(numbers) < len(found) or numbers.max() >= len(part):
        raise none
    return _clips(store, part, "held-out", numbers)


def _clips(store: SkeletonStore, part: SkeletonStore, split: str, numbers: np.ndarray) -> ClipSet:
    """Clips of a `part` of the store, which has the run's classes, by their numbers in it."""
    names = [part.names[number] for number in numbers]
    labels = part.labels[numbers].astype(np.int64)
    return ClipSet(split, store.of_file(part.in_file(numbers)), names, labels, part.classes)


def check_same_clips(folders: Sequence[Path], clips: Sequence[ClipSet]) -> None:
    """Raise `RunError` unless all runs are asked about the same clips of the same classes, in the same order."""
    for folder, other in zip(folders[1:], clips[1:], strict=True):
        first, held_out = clips[0], clips[0].split == "held-out"
        if other.classes != first.classes:
            raise RunError(f"{folder} tells other classes apart than {folders[0]}: fuse runs of one label set.")
        if other.names == first.names and np.array_equal(other.labels, first.labels):
            continue
        if held_out:
            raise RunError(
                f"{folder} held out other clips than {folders[0]}: "
                "for --fit-weights train the streams with one --seed and protocol."
            )
        raise RunError(
            f"{folder} is tested on other clips than {folders[0]} ({other.split}: {len(other.names)}, "
            f"{first.split}: {len(first.names)}): fuse runs of one store and protocol."
        )
