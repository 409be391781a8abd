"""A run among classes of one's choosing: those it was trained on, those it has seen nothing of, or both.

Classes are compared by their texts; `opinions` has by whom. Letters of this file: n clips, K candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from .opinions import Chooser, Mixing, Shares, harmonic, mixed, open_chooser, shares
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

    runs: tuple[Path, ...]  # whose scores are averaged
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
            "run": str(self.runs[0]),
            "runs": [str(run) for run in self.runs],
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
    folders: Sequence[Path],
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
    """Ask one run, or several together, for `which` classes: "unseen", "seen" or "all" of the store, or names or a file
    of them (`candidates.read_candidates`), on the test split's clips of these classes.

    Several runs must have learned the same classes; each adds up its opinions by its own weights, and their scores are
    averaged. `opinions` are those of `OPINIONS` that are asked, all that can be where none is named. With
    `transductive` every candidate's scores are taken from their mean over the tested clips: an answer then depends on
    the other clips, and is not to be compared with others' numbers. The predictions of a single run are saved in its
    folder. Raises `RunError` and `DataError` for what does not fit, before anything is predicted.
    """
    with ExitStack() as stack:
        opened = [open_run(folder, store, device, stack, note) for folder in folders]
        (run, whole), *others = opened
        for other, its in opened:
            if its.layout.joints != other.layout.joints:
                raise RunError(
                    f"{its.path} has layout {its.layout.name} and {other.folder} was trained on {other.layout.name}: "
                    "recognition goes by joint, so give a store of the same layout."
                )
        for other, its in others:
            if its.fingerprint != whole.fingerprint or set(other.classes) != set(run.classes):
                raise RunError(
                    f"{other.folder} and {run.folder} have learned other classes, or from other data: only runs with "
                    "the same --unseen answer together."
                )
        names, own = _wanted(run, whole, which)
        split, numbers = _clips_of(run, whole, split, names)
        labels = np.array([names.index(whole.classes[label]) for label in whole.labels[numbers]])
        seen = np.array([name in run.classes for name in names])
        choosers = []
        for each, _ in opened:
            candidates = make_candidates(names, each.classifier, own, said_of(each, names))
            check_answers(each, candidates, device)
            learned = None
            if each.store_path is not None and each.store_path.is_file():
                learned = stack.enter_context(SkeletonStore(each.store_path))
            choosers.append(
                open_chooser(
                    each, candidates, learned, device,
                    batch_size=batch_size, num_views=num_views, opinions=opinions, note=note,
                )
            )  # fmt: skip
        scores = []
        for chooser in choosers:
            note(f"Predicting {counted(len(numbers), 'clip')} of {split} with {chooser.judge.run.folder} on {device}.")
            found = chooser.judge.scores(whole, numbers)
            scores.append({name: some - some.mean(0) for name, some in found.items()} if transductive else found)
        mixing = _mixing_of(choosers)
        together = _mean_of(choosers, scores, seen)
        alone = {
            name: shares(_mean_of(choosers, [{name: found[name]} for found in scores], seen, {name: 1.0}), labels, seen)
            for name in scores[0]
            if all(name in found for found in scores)
        }
        if len(folders) == 1:
            probabilities = torch.from_numpy(together).softmax(1).numpy()
            label = which if which in WHICH else "classes"
            predictions = Predictions(
                f"{split}+{label}", [whole.names[n] for n in numbers], labels, probabilities, names,
                num_views or run.config.data.test_views, whole.fingerprint,
            )  # fmt: skip
            try:
                save_predictions(run.folder, predictions)
            except OSError as error:
                note(f"Note: the predictions are not kept in {run.folder} ({error.strerror}).")
    what = {(True, True): "all classes", (True, False): "seen classes", (False, True): "unseen classes"}
    return ZeroShot(
        runs=tuple(folders),
        which=which,
        split=split,
        clips=len(numbers),
        rule=RULE.format(what=what[bool(seen.any()), bool((~seen).any())]),
        mixing=mixing,
        epoch="; ".join(dict.fromkeys(_epoch(each) for each, _ in opened)),
        transductive=transductive,
        together=shares(together, labels, seen),
        alone=alone,
        intervals=intervals(together, labels, seen),
        classes=_by_class(together, labels, seen, candidates),
    )


def _mean_of(
    choosers: Sequence[Chooser],
    scores: Sequence[Mapping[str, np.ndarray]],
    seen: np.ndarray,
    weights: dict[str, float] | None = None,
) -> np.ndarray:
    """The mean over runs of what each run's opinions come to, `[n, K]`, by its own weights or those given."""
    found = []
    for chooser, own in zip(choosers, scores, strict=True):
        mixing = chooser.mixing if weights is None else replace(chooser.mixing, weights=weights)
        found.append(mixed(own, mixing, seen))
    return np.mean(found, axis=0)


def _mixing_of(choosers: Sequence[Chooser]) -> Mixing:
    """A run's own, or of several the mean weights and shift, to be shown."""
    every = [chooser.mixing for chooser in choosers]
    names = dict.fromkeys(name for each in every for name in each.weights)
    weights = {name: float(np.mean([each.weights.get(name, 0.0) for each in every])) for name in names}
    how = "; ".join(dict.fromkeys(each.how for each in every))
    return Mixing(weights, float(np.mean([each.shift for each in every])), how)


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
