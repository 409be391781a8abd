"""A run among classes of one's choosing: those it was trained on, those it has seen nothing of, or both.

Classes are compared by their texts; `opinions` has by whom. Letters of this file: n clips, K candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import metrics
from ..errors import DataError, RunError
from ..methods.base import Candidate
from ..plural import counted
from ..skeleton.class_choice import matching
from ..skeleton.splitting import occurring_classes
from ..skeleton.store import SkeletonStore
from ..skeleton.unseen import RULE
from .candidates import check_answers, make_candidates, read_candidates, said_of
from .loaded import Run, open_run
from .opinions import Mixing, Shares, harmonic, mixed, open_chooser, shares
from .scores import Predictions, save_predictions

WHICH = ("unseen", "seen", "all")
_RESAMPLED = 1000  # bootstrap samples of an interval


@dataclass(frozen=True)
class ClassResult:
    """One candidate: its clips, and what they were taken for."""

    name: str
    seen: bool
    text: tuple[str, ...]  # what stood for it
    clips: int
    top1: float | None  # percent; None without clips
    low: float
    high: float
    taken_for: dict[str, int]  # other candidates, the most frequent first


@dataclass(frozen=True)
class ZeroShot:
    """What `evaluate_classes` found."""

    run: Path
    which: str
    split: str
    clips: int
    rule: str
    mixing: Mixing
    epoch: str  # how it was chosen
    transductive: bool  # scores are from their mean over the tested clips
    together: Shares
    alone: dict[str, Shares]  # by opinion, under the same shift
    intervals: dict[str, tuple[float, float]]  # of `together`, 95 %
    classes: tuple[ClassResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; accuracies in percent. `classes` are the columns of the saved predictions."""
        return {
            "run": str(self.run),
            "which": self.which,
            "split": self.split,
            "clips": self.clips,
            "classes": [each.name for each in self.classes],
            "classes_seen": [each.name for each in self.classes if each.seen],
            "classes_unseen": [each.name for each in self.classes if not each.seen],
            **vars(self.together),
            "intervals": {name: list(found) for name, found in self.intervals.items()},
            "opinions": {
                name: vars(found) | {"weight": self.mixing.weights[name]} for name, found in self.alone.items()
            },
            "shift": self.mixing.shift,
            "chosen": self.mixing.how,
            "epoch": self.epoch,
            "transductive": self.transductive,
            "rule": self.rule,
            "per_class": [vars(each) | {"text": list(each.text)} for each in self.classes],
        }


def evaluate_classes(
    folder: Path,
    which: str,
    *,
    split: str | None = None,
    store: Path | None = None,
    opinions: Sequence[str] = (),
    transductive: bool = False,
    num_views: int | None = None,
    batch_size: int = 64,
    device: torch.device,
    note: Callable[[str], None] = lambda text: None,
) -> ZeroShot:
    """Ask a run for `which` classes: "unseen", "seen" or "all" of the store, or names or a file of them
    (`candidates.read_candidates`), on the test split's clips of these classes.

    `opinions` are those of `OPINIONS` that are asked, all that can be where none is named. With `transductive` every
    candidate's scores are taken from their mean over the tested clips: an answer then depends on the other clips, and
    is not to be compared with others' numbers. Saves the predictions in the run folder. Raises `RunError` and
    `DataError` for what does not fit, before anything is predicted.
    """
    with ExitStack() as stack:
        run, whole = open_run(folder, store, device, stack, note)
        if whole.layout.joints != run.layout.joints:
            raise RunError(
                f"{whole.path} has layout {whole.layout.name} and {folder} was trained on {run.layout.name}: "
                "recognition goes by joint, so give a store of the same layout."
            )
        names, own = _wanted(run, whole, which)
        candidates = make_candidates(names, run.classifier, own, said_of(run, names))
        check_answers(run, candidates, device)
        split, numbers = _clips_of(run, whole, split, names)
        labels = np.array([names.index(whole.classes[label]) for label in whole.labels[numbers]])
        seen = np.array([name in run.classes for name in names])
        learned = None
        if run.store_path is not None and run.store_path.is_file():
            learned = stack.enter_context(SkeletonStore(run.store_path))
        chooser = open_chooser(
            run,
            candidates,
            learned,
            device,
            batch_size=batch_size,
            num_views=num_views,
            opinions=opinions,
            note=note,
        )
        mixing = chooser.mixing
        note(f"Predicting {counted(len(numbers), 'clip')} of {split} with {folder} on {device}.")
        found = chooser.judge.scores(whole, numbers)
        if transductive:
            found = {name: each - each.mean(0) for name, each in found.items()}
        together = mixed(found, mixing, seen)
        alone = {
            name: shares(mixed({name: each}, replace(mixing, weights={name: 1.0}), seen), labels, seen)
            for name, each in found.items()
        }
        probabilities = torch.from_numpy(together).softmax(1).numpy()
        label = which if which in WHICH else "classes"
        predictions = Predictions(
            f"{split}+{label}", [whole.names[n] for n in numbers], labels, probabilities, names,
            num_views or run.config.data.test_views, whole.fingerprint,
        )  # fmt: skip
        try:
            save_predictions(folder, predictions)
        except OSError as error:
            note(f"Note: the predictions are not kept in {folder} ({error.strerror}).")
    what = {(True, True): "all classes", (True, False): "seen classes", (False, True): "unseen classes"}
    return ZeroShot(
        run=folder,
        which=which,
        split=split,
        clips=len(numbers),
        rule=RULE.format(what=what[bool(seen.any()), bool((~seen).any())]),
        mixing=mixing,
        epoch=_epoch(run),
        transductive=transductive,
        together=shares(together, labels, seen),
        alone=alone,
        intervals=intervals(together, labels, seen),
        classes=_by_class(together, labels, seen, candidates),
    )


def _wanted(run: Run, store: SkeletonStore, which: str) -> tuple[list[str], dict[str, Sequence[str]]]:
    """The candidates' names as the store writes them, and what a person says of them. Of the store's classes those
    count that have a clip."""
    there = [store.classes[number] for number in occurring_classes(store)]
    seen = [name for name in there if name in run.classes]
    unseen = [name for name in there if name not in run.classes]
    if which in WHICH:
        names = {"unseen": unseen, "seen": seen, "all": there}[which]
        if not unseen and which == "unseen":
            raise DataError(
                f"{run.folder} was trained on all {len(seen)} classes of {store.path}, none is unseen: train with "
                "--unseen, or give a store with others by --data."
            )
        if not names:
            raise DataError(f"{store.path} has no class that {run.folder} was trained on: --classes unseen or all.")
        return list(names), {}
    given = read_candidates(which)
    names, own = [], dict[str, Sequence[str]]()
    for each in given:
        (name,) = matching([each.name], store.classes, store.path)
        if name in names:
            raise DataError(f"--classes {which}: {name!r} is there twice: name every class once.")
        names.append(name)
        own[name] = each.descriptions
    return names, own


def _clips_of(run: Run, store: SkeletonStore, split: str | None, names: Sequence[str]) -> tuple[str, np.ndarray]:
    """(split, numbers of its clips of these classes). A store without protocols is tested as a whole."""
    if split is None:
        protocol = run.config.data.protocol
        known = store.protocols()
        if not known:
            split = "all clips"
        else:
            split = store.protocol(protocol if protocol in known or len(known) > 1 else None)[1]
    elif split not in store.splits:
        raise DataError(f"{store.path} has no split {split!r}: it has {', '.join(store.splits) or 'none'}.")
    numbers = store.splits.get(split, np.arange(len(store)))
    wanted = [store.classes.index(name) for name in names]
    numbers = numbers[np.isin(store.labels[numbers], wanted)]
    if not len(numbers):
        raise DataError(f"{split} of {store.path} has no clip of {', '.join(names[:3])}: name another with --split.")
    return split, numbers


def _epoch(run: Run) -> str:
    kept = "the last" if run.config.train.keep == "last" else f"chosen by {run.config.train.select_on} clips"
    return f"epoch {run.epoch}, {kept}" if run.epoch else "imported weights"


# ---- how sure


def intervals(scores: np.ndarray, labels: np.ndarray, seen: np.ndarray) -> dict[str, tuple[float, float]]:
    """95 % intervals: Wilson's of shares of clips; of the rest by bootstrap over clips, within seen and unseen ones."""
    right = scores.argmax(1) == labels
    found = {"top1": metrics.wilson_interval(int(right.sum()), len(right))}
    for name, of_seen in (("seen", True), ("unseen", False)):
        clips = seen[labels] == of_seen
        if clips.any():
            found[name] = metrics.wilson_interval(int(right[clips].sum()), int(clips.sum()))
    if len(found) == 3:
        rng = np.random.default_rng(0)
        groups = [np.flatnonzero(seen[labels] == of_seen) for of_seen in (True, False)]
        drawn = [
            harmonic(*(100 * float(right[rng.choice(group, len(group))].mean()) for group in groups)) or 0.0
            for _ in range(_RESAMPLED)
        ]
        low, high = np.percentile(drawn, [2.5, 97.5])
        found["harmonic"] = (float(low), float(high))
    return found


def _by_class(
    scores: np.ndarray, labels: np.ndarray, seen: np.ndarray, candidates: Sequence[Candidate]
) -> tuple[ClassResult, ...]:
    counts = metrics.confusion_matrix(labels, scores.argmax(1), len(candidates))
    found = []
    for k, each in enumerate(candidates):
        clips, right = int(counts[k].sum()), int(counts[k, k])
        order = [j for j in np.argsort(-counts[k], kind="stable") if j != k and counts[k, j]]
        found.append(
            ClassResult(
                each.name,
                bool(seen[k]),
                each.descriptions,
                clips,
                100 * right / clips if clips else None,
                *metrics.wilson_interval(right, clips),
                {candidates[j].name: int(counts[k, j]) for j in order},
            )
        )
    return tuple(found)
