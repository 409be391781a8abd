"""A run among classes of one's choosing: those it was trained on, those it has seen nothing of, or both.

Several opinions are added up, since each errs on other clips (`OPINIONS`): two of the network, and two of how joints
are measured to move (`baselines`). How much each counts, and how far the scores of seen classes are lowered (calibrated
stacking: Chao et al., "An empirical study and analysis of generalized zero-shot learning", ECCV 2016), is chosen on the
run's rehearsal: a second training that left some seen classes out. Nothing is chosen on unseen classes.

Letters of this file: n clips, K candidates, D width of a text's vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import metrics, runs
from ..errors import DataError, RunError
from ..methods.base import Candidate
from ..skeleton.class_choice import as_trained, matching
from ..skeleton.clips import prepare
from ..skeleton.splitting import occurring_classes
from ..skeleton.store import SkeletonStore
from ..skeleton.unseen import RULE
from ..suggestions import nearest_name
from ..training.batches import hold_out
from ..training.start import REHEARSAL
from .baselines import BASELINES, Scores, cosines, motion_of
from .candidates import check_answers, make_candidates, read_candidates, said_of
from .loaded import Run, load_run, open_run
from .scores import Predictions, candidate_scores, predict_prepared, save_predictions

WHICH = ("unseen", "seen", "all")
OPINIONS = {
    "embedding": "clips and candidates compared by the network, `Classifier.log_scores`",
    "head": "the trained classes' texts, weighted by the network's probabilities of them (ConSE, Norouzi et al., 2014)",
    "motion": "a ridge from measured motion to texts",
    "discriminant": "the trained classes' texts, weighted by a discriminant of measured motion",
}
_WEIGHTS = (0.0, 0.5, 1.0)  # of an opinion, before they are made to add up to 1
_SHIFTS = np.linspace(0, 4, 41)  # in standard deviations of the scores
_COHORT = 400  # training clips that say what a candidate's usual score is
_RESAMPLED = 1000  # bootstrap samples of an interval


@dataclass(frozen=True)
class Mixing:
    """How opinions are added up, and how that was chosen."""

    weights: dict[str, float]  # by opinion, 1 in all
    shift: float  # taken from the scores of seen classes where unseen ones are candidates too
    how: str


@dataclass(frozen=True)
class Shares:
    """Accuracies in percent, by sample and by class; of seen clips, unseen clips, and their harmonic mean. None where
    there are no such clips."""

    top1: float
    mean_class: float
    seen: float | None
    unseen: float | None
    harmonic: float | None
    seen_mean_class: float | None
    unseen_mean_class: float | None
    harmonic_mean_class: float | None


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
    num_views: int | None = None,
    batch_size: int = 64,
    device: torch.device,
    note: Callable[[str], None] = lambda text: None,
) -> ZeroShot:
    """Ask a run for `which` classes: "unseen", "seen" or "all" of the store, or names or a file of them
    (`candidates.read_candidates`), on the test split's clips of these classes.

    `opinions` are those of `OPINIONS` that are asked, all that can be where none is named. Saves the predictions in the
    run folder. Raises `RunError` and `DataError` for what does not fit, before anything is
    predicted.
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
        if unknown := [name for name in opinions if name not in OPINIONS]:
            raise RunError(f"no opinion {unknown[0]!r}: {nearest_name(unknown[0], list(OPINIONS))}")
        asked = tuple(opinions) or tuple(OPINIONS)
        judge = Judge(run, candidates, learned, device, batch_size, num_views, asked)
        mixing = _mixing(judge, note)
        note(f"Predicting {len(numbers)} clips of {split} with {folder} on {device}.")
        found = judge.scores(whole, numbers)
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


# ---- opinions


@dataclass
class Judge:
    """What scores clips among candidates: a run, and what is fitted to the motion of the clips that it learned from.

    `learned` is the store of the training. Without it no motion is asked, and where the method gives no text vectors
    only the embedding is.
    """

    run: Run
    candidates: Sequence[Candidate]
    learned: SkeletonStore | None
    device: torch.device
    batch_size: int = 64
    num_views: int | None = None
    asked: Sequence[str] = tuple(OPINIONS)

    def __post_init__(self) -> None:
        run, vectors = self.run, getattr(self.run.classifier, "text_vectors", None)
        self._fitted: dict[str, Scores] = {}
        self._usual: dict[str, float] = {}  # standard deviation of the scores of training clips
        trained = make_candidates(run.classes, run.classifier, None, said_of(run, run.classes))
        if vectors is not None:
            self._text, self._trained = vectors(self.candidates), vectors(trained)
        elif "embedding" not in self.asked:
            raise RunError(f"{run.folder} has no vectors of texts: ask for the embedding's opinion.")
        self.asked = [name for name in self.asked if name == "embedding" or vectors is not None]
        if self.learned is None:
            self.asked = [name for name in self.asked if name in ("embedding", "head")]
            return
        part = as_trained(self.learned, run.classes)
        numbers = part.splits[part.protocol(run.config.data.protocol)[0]]
        by_motion = {"motion": "ridge-centred", "discriminant": "conse"}
        if any(name in self.asked for name in by_motion):
            motion, labels = motion_of(part, numbers), part.labels[numbers].astype(np.int64)
            for name, baseline in by_motion.items():
                if name in self.asked:
                    self._fitted[name] = BASELINES[baseline].fit(motion, labels, self._trained, 0)
        some = numbers[:: max(1, len(numbers) // _COHORT)]
        self._usual = {name: float(each.std()) for name, each in self.scores(part, some).items()}

    def scores(self, store: SkeletonStore, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Scores `[n, K]` of clips by opinion, in standard deviations of the usual; their mean over candidates is 0."""
        run, found = self.run, {}
        if {"embedding", "head"} & set(self.asked):
            clips, views = prepare(store, numbers, run.config.data, self.device), self._views
            if "embedding" in self.asked:
                found["embedding"] = candidate_scores(
                    run.classifier, clips, run.config.data, self.batch_size, views, self.candidates
                )
            if "head" in self.asked:
                probabilities = predict_prepared(run.classifier, clips, run.config.data, self.batch_size, views)
                found["head"] = cosines(probabilities @ self._trained, self._text)
        if self._fitted:
            motion = motion_of(store, numbers)
            found |= {name: scores(motion, self._text) for name, scores in self._fitted.items()}
        return {
            name: (each - each.mean(1, keepdims=True)) / max(self._usual.get(name, 1.0), 1e-9)
            for name, each in found.items()
        }

    @property
    def _views(self) -> int:
        return self.num_views or self.run.config.data.test_views


def mixed(opinions: Mapping[str, np.ndarray], mixing: Mixing, seen: np.ndarray) -> np.ndarray:
    """Scores `[n, K]`: the opinions added by their weights, those of seen classes lowered where there are others."""
    total = np.sum([mixing.weights[name] * each for name, each in opinions.items()], axis=0)
    return total - mixing.shift * seen if seen.any() and not seen.all() else total


def _mixing(judge: Judge, note: Callable[[str], None]) -> Mixing:
    """Weights and shift, chosen on the run's rehearsal where there is one."""
    run, folder = judge.run, judge.run.folder / REHEARSAL
    equal = {name: 1 / len(judge.asked) for name in judge.asked}
    state = runs.summarise(folder).state if folder.is_dir() else "missing"
    if state != "finished" or judge.learned is None:
        why = (
            "no rehearsal"
            if state != "interrupted"
            else f"the rehearsal was interrupted: skag train --resume {run.folder}"
        )
        why = why if judge.learned is not None else "the store of the training is not at hand"
        return Mixing(equal, 0.0, f"not chosen ({why}): equal weights, seen classes not lowered")
    second = load_run(folder, judge.device)
    part = as_trained(judge.learned, run.classes)
    names = part.classes
    known = np.array([name in second.classes for name in names])
    own = {each.name: each.descriptions for each in judge.candidates}
    candidates = make_candidates(names, second.classifier, own, said_of(run, names))
    note(f"Choosing weights on the rehearsal, to which {', '.join(np.array(names)[~known])} are unseen.")
    other = Judge(second, candidates, judge.learned, judge.device, judge.batch_size, 1, judge.asked)
    train = part.splits[part.protocol(run.config.data.protocol)[0]]
    new = train[~known[part.labels[train]]]
    both = np.concatenate([new, _held_out(second, part, known)])
    opinions, labels = other.scores(part, both), part.labels[both].astype(np.int64)
    weights = _best_weights({name: each[: len(new)] for name, each in opinions.items()}, labels[: len(new)], known)
    shift = _best_shift(mixed(opinions, Mixing(weights, 0.0, ""), known), labels, known)
    how = f"on {len(new)} training clips of {int((~known).sum())} seen classes held out as if unseen"
    return Mixing(weights, shift, how)


def _held_out(second: Run, part: SkeletonStore, known: np.ndarray) -> np.ndarray:
    """Numbers in `part` of the clips that the rehearsal held out from its own training."""
    inner = as_trained(part, second.classes)
    train = inner.splits[inner.protocol(second.config.data.protocol)[0]]
    _, held = hold_out(inner, train, second.config.data.val_fraction, second.config.train.seed)
    return np.flatnonzero(known[part.labels])[held]


def _best_weights(opinions: Mapping[str, np.ndarray], labels: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Of the weights whose accuracy among the classes held out is within a standard error of the highest those that are
    nearest to equal ones: a rehearsal has few clips, and equal weights are hard to beat."""
    places = np.flatnonzero(~known)
    tried, found = [], []
    for weights in product(_WEIGHTS, repeat=len(opinions)):
        if sum(weights):
            share = {name: weight / sum(weights) for name, weight in zip(opinions, weights, strict=True)}
            scores = mixed(opinions, Mixing(share, 0.0, ""), known)[:, places]
            tried.append(share)
            found.append((places[scores.argmax(1)] == labels).mean())
    best = max(found)
    error = (best * (1 - best) / max(len(labels), 1)) ** 0.5
    near = [share for share, right in zip(tried, found, strict=True) if right >= best - error]
    return min(near, key=lambda share: sum((weight - 1 / len(share)) ** 2 for weight in share.values()))


def _best_shift(scores: np.ndarray, labels: np.ndarray, known: np.ndarray) -> float:
    """The shift of the highest harmonic mean; of several the middle one."""
    found = np.array([shares(scores - shift * known, labels, known).harmonic or 0.0 for shift in _SHIFTS])
    best = np.flatnonzero(found == found.max())
    return float(_SHIFTS[best[len(best) // 2]])


# ---- accuracies


def shares(scores: np.ndarray, labels: np.ndarray, seen: np.ndarray) -> Shares:
    """Accuracies of `scores` `[n, K]` with true classes `labels` `[n]`; `seen` `[K]` says which are seen."""
    right = scores.argmax(1) == labels
    classes = np.unique(labels)
    by_class = {int(k): 100 * float(right[labels == k].mean()) for k in classes}

    def part(of_seen: bool) -> tuple[float | None, float | None]:
        clips = seen[labels] == of_seen
        if not clips.any():
            return None, None
        return 100 * float(right[clips].mean()), float(
            np.mean([by_class[int(k)] for k in classes if seen[k] == of_seen])
        )

    (S, S_class), (U, U_class) = part(True), part(False)
    return Shares(
        100 * float(right.mean()), float(np.mean(list(by_class.values()))),
        S, U, harmonic(S, U), S_class, U_class, harmonic(S_class, U_class),
    )  # fmt: skip


def harmonic(seen: float | None, unseen: float | None) -> float | None:
    """H = 2SU / (S + U), 0 of two zeros; None where one is missing."""
    if seen is None or unseen is None:
        return None
    return 2 * seen * unseen / (seen + unseen) if seen + unseen else 0.0


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
