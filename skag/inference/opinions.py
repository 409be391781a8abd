"""What is said of clips among classes of one's choosing, by whom, and how much each counts.

Several opinions are added up, since each errs on other clips (`OPINIONS`): two of the network, and three of how joints
are measured to move (`baselines`, `attributes`). How much each counts, and how far the scores of seen classes are
lowered (calibrated stacking: Chao et al., "An empirical study and analysis of generalized zero-shot learning", ECCV
2016), is chosen on the run's rehearsal: a second training that left some seen classes out. Nothing is chosen on unseen
classes.

Letters of this file: n clips, K candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch

from .. import runs
from ..errors import RunError
from ..methods.base import Candidate
from ..skeleton.class_choice import as_trained
from ..skeleton.clips import Clips, ClipSource, prepare
from ..skeleton.store import SkeletonStore
from ..suggestions import nearest_name
from ..training.batches import hold_out
from ..training.start import REHEARSAL
from . import attributes
from .baselines import BASELINES, Scores, cosines, motion_of
from .candidates import make_candidates, said_of
from .loaded import Run, load_run
from .scores import candidate_scores, predict_prepared

OPINIONS = {
    "embedding": "clips and candidates compared by the network, `Classifier.log_scores`",
    "head": "the trained classes' texts, weighted by the network's probabilities of them (ConSE, Norouzi et al., 2014)",
    "motion": "a ridge from measured motion to texts",
    "discriminant": "the trained classes' texts, weighted by a discriminant of measured motion",
    "attributes": "sentences that can be measured, by their likeness to the candidate's text",
}
_WEIGHTS = (0.0, 0.5, 1.0)  # of an opinion, before they are made to add up to 1
_SHIFTS = np.linspace(0, 4, 41)  # in standard deviations of the scores
_COHORT = 400  # training clips that say what a candidate's usual score is


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
    learns: np.ndarray | None = None  # numbers, in the run's part of the store; None: the training split's

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
        numbers = part.splits[part.protocol(run.config.data.protocol)[0]] if self.learns is None else self.learns
        by_motion = {"motion": "ridge-centred", "discriminant": "conse"}
        if {*by_motion, "attributes"} & set(self.asked):
            motion, labels = motion_of(part, numbers), part.labels[numbers].astype(np.int64)
            for name, baseline in by_motion.items():
                if name in self.asked:
                    self._fitted[name] = BASELINES[baseline].fit(motion, labels, self._trained, 0)
            if "attributes" in self.asked:
                assert vectors is not None  # else it was left out above
                said = vectors([Candidate(each.sentence, (each.sentence,)) for each in attributes.ATTRIBUTES])
                self._fitted["attributes"] = attributes.fit(motion, self._trained, said, part.layout)
        some = numbers[:: max(1, len(numbers) // _COHORT)]
        self._usual = {name: float(each.std()) for name, each in self.scores(part, some).items()}

    def scores(self, clips: ClipSource, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Scores `[n, K]` of clips by opinion, in standard deviations of the usual; their mean over candidates is 0."""
        found: dict[str, np.ndarray] = {}
        if {"embedding", "head"} & set(self.asked):
            found |= self.of_network(prepare(clips, numbers, self.run.config.data, self.device))
        return found | self.of_motion(clips, numbers)

    def of_network(self, clips: Clips) -> dict[str, np.ndarray]:
        """The network's opinions of prepared clips."""
        run, found = self.run, {}
        how = run.config.data, self.batch_size, self.num_views or run.config.data.test_views
        if "embedding" in self.asked:
            found["embedding"] = candidate_scores(run.classifier, clips, *how, self.candidates)
        if "head" in self.asked:
            probabilities = predict_prepared(run.classifier, clips, *how)
            found["head"] = cosines(probabilities @ self._trained, self._text)
        return self._standard(found)

    def of_motion(self, clips: Any, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """The opinions of measured motion; none where it is not asked."""
        if not self._fitted:
            return {}
        motion = motion_of(clips, numbers)
        return self._standard({name: scores(motion, self._text) for name, scores in self._fitted.items()})

    def _standard(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            name: (each - each.mean(1, keepdims=True)) / max(self._usual.get(name, 1.0), 1e-9)
            for name, each in found.items()
        }


def mixed(opinions: Mapping[str, np.ndarray], mixing: Mixing, seen: np.ndarray) -> np.ndarray:
    """Scores `[n, K]`: the opinions added by their weights, those of seen classes lowered where there are others."""
    total = np.sum([mixing.weights[name] * each for name, each in opinions.items()], axis=0)
    return total - mixing.shift * seen if seen.any() and not seen.all() else total


@dataclass(frozen=True)
class Chooser:
    """A judge whose opinions are added up to scores of candidates."""

    judge: Judge
    mixing: Mixing
    seen: np.ndarray  # bool [K]: which candidates the run was trained on
    rehearsed: tuple[np.ndarray, np.ndarray] | None  # labels [n] and probabilities [n, K'] of the rehearsal's clips

    def of_network(self, clips: Clips) -> np.ndarray:
        """What the network's opinions come to, `[n, K]`, seen classes lowered."""
        return mixed(self.judge.of_network(clips), self.mixing, self.seen)

    def of_motion(self, clips: Any, numbers: np.ndarray) -> np.ndarray | None:
        """What is to be added for measured motion, `[n, K]`; None where it is not asked."""
        found = self.judge.of_motion(clips, numbers)
        return np.sum([self.mixing.weights[name] * each for name, each in found.items()], axis=0) if found else None


def open_chooser(
    run: Run,
    candidates: Sequence[Candidate],
    learned: SkeletonStore | None,
    device: torch.device,
    *,
    batch_size: int = 64,
    num_views: int | None = None,
    opinions: Sequence[str] = (),
    note: Callable[[str], None] = lambda text: None,
) -> Chooser:
    """Who chooses among `candidates`, with the weights of the run's rehearsal where it has a finished one. `learned` is
    the store of the training, `opinions` are those of `OPINIONS` that are asked, all where none is named. Raises
    `RunError`."""
    if unknown := [name for name in opinions if name not in OPINIONS]:
        raise RunError(f"no opinion {unknown[0]!r}: {nearest_name(unknown[0], list(OPINIONS))}")
    seen = np.array([each.name in run.classes for each in candidates])
    judge = Judge(run, candidates, learned, device, batch_size, num_views, tuple(opinions) or tuple(OPINIONS))
    if not judge.asked:
        raise RunError(f"{run.folder}: none of {', '.join(opinions)} can be asked without the store of the training.")
    folder = run.folder / REHEARSAL
    state = runs.summarise(folder).state if folder.is_dir() else "missing"
    if state == "finished" and learned is not None:
        mixing, rehearsed = _rehearse(judge, learned, note)
        return Chooser(judge, mixing, seen, rehearsed)
    why = "no rehearsal" if learned is not None else "the store of the training is not at hand"
    if state == "interrupted":
        why = f"the rehearsal was interrupted: skag train --resume {run.folder}"
    equal = {name: 1 / len(judge.asked) for name in judge.asked}
    return Chooser(
        judge, Mixing(equal, 0.0, f"not chosen ({why}): equal weights, seen classes not lowered"), seen, None
    )


def held_out_opinions(
    run: Run,
    trained: Sequence[Candidate],
    learned: SkeletonStore,
    device: torch.device,
    mixing: Mixing,
    *,
    batch_size: int = 64,
    num_views: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(labels `[n]`, probabilities `[n, K]`) of the clips that a run held out, among its trained classes; what is
    measured learns from the others."""
    part = as_trained(learned, run.classes)
    source = runs.read_json(run.folder, runs.DATA)
    learns, held = (part.of_file(np.array(source[name], np.int64)) for name in ("training", "validation"))
    judge = Judge(run, trained, learned, device, batch_size, num_views, tuple(mixing.weights), learns)
    scores = mixed(judge.scores(part, held), mixing, np.ones(len(trained), bool))
    return part.labels[held].astype(np.int64), torch.from_numpy(scores).softmax(1).numpy()


def _rehearse(
    judge: Judge, learned: SkeletonStore, note: Callable[[str], None]
) -> tuple[Mixing, tuple[np.ndarray, np.ndarray]]:
    """Weights and shift, chosen on the run's rehearsal; and how sure it was about the classes it left out."""
    run = judge.run
    second = load_run(run.folder / REHEARSAL, judge.device)
    part = as_trained(learned, run.classes)
    names = part.classes
    known = np.array([name in second.classes for name in names])
    own = {each.name: each.descriptions for each in judge.candidates}
    candidates = make_candidates(names, second.classifier, own, said_of(run, names))
    note(f"Choosing weights on the rehearsal, to which {', '.join(np.array(names)[~known])} are unseen.")
    other = Judge(second, candidates, learned, judge.device, judge.batch_size, 1, judge.asked)
    train = part.splits[part.protocol(run.config.data.protocol)[0]]
    new = train[~known[part.labels[train]]]
    both = np.concatenate([new, _held_out(second, part, known)])
    opinions, labels = other.scores(part, both), part.labels[both].astype(np.int64)
    weights = _best_weights({name: each[: len(new)] for name, each in opinions.items()}, labels[: len(new)], known)
    together = mixed(opinions, Mixing(weights, 0.0, ""), known)
    how = f"on {len(new)} training clips of {int((~known).sum())} seen classes held out as if unseen"
    places = np.flatnonzero(~known)
    sure = torch.from_numpy(together[: len(new), places]).softmax(1).numpy()
    return Mixing(weights, _best_shift(together, labels, known), how), (
        np.searchsorted(places, labels[: len(new)]),
        sure,
    )


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
