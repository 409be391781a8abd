"""A second opinion on clips, from how their joints are measured to move: a linear discriminant beside the network.

It is fitted on a run's training clips alone, made as sure as it is right about people that it has not seen, and its
probabilities are multiplied with the network's. It errs on other clips than the network does; docs/ablation.md has what
that gains. Not in the paper.

Letters of this file: n clips, A attributes, K classes.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import runs
from ..errors import RunError
from ..skeleton.class_choice import as_trained
from ..skeleton.kinematics import BODY_FEATURES, Anatomy, Recordings, Viewpoint, clip_attributes
from ..skeleton.layouts import Layout
from ..skeleton.store import UNKNOWN, SkeletonStore
from . import added

FILE = "kinematics.npz"
_FARTHEST = 4.0  # standard deviations from the mean, at most, that an attribute counts as
_LEAST = 1e-12  # of a probability that is multiplied
_FOLDS = 5


@dataclass(frozen=True)
class KinematicDiscriminant:
    """A linear discriminant of `kinematics.attributes` but the duration, for recordings of one layout."""

    centre: np.ndarray  # [A] mean of the training clips, which also stands for what a clip lacks
    spread: np.ndarray  # [A] standard deviation
    weights: np.ndarray  # [A, K] of standardised attributes
    offsets: np.ndarray  # [K]
    temperature: float
    cameras: np.ndarray  # [cameras] whose tilt was estimated
    upright: np.ndarray  # [cameras, 3, 3] what undoes it, see `kinematics.Viewpoint`
    facing: float
    fingerprint: str  # of the store
    rate: float = math.nan  # usual frames per second; NaN: none is known, and speeds are those of a frame

    def identity(self) -> str:
        """SHA-256 of what decides the probabilities."""
        decisive = (self.centre, self.spread, self.weights, self.offsets, np.float64(self.temperature))
        known = [] if math.isnan(self.rate) else [np.float64(self.rate)]
        return hashlib.sha256(b"".join(part.tobytes() for part in (*decisive, *known))).hexdigest()

    def probabilities(self, clips: Recordings, numbers: np.ndarray, layout: Layout) -> np.ndarray:
        """Probabilities float64 `[n, K]` of the given clips; equal ones for a clip without any joint. Clips whose rate
        is not known count as of the usual one."""
        viewpoint = Viewpoint(clips, Anatomy(layout), None)
        if not math.isnan(self.rate):
            viewpoint.rates = np.where(np.isnan(clips.frame_rates), self.rate, clips.frame_rates)
        viewpoint.upright = dict(zip(self.cameras.tolist(), self.upright, strict=True))
        viewpoint.facing = self.facing
        attributes = _motion(viewpoint, numbers)
        logits = _standardised(attributes, self.centre, self.spread) @ self.weights + self.offsets
        return _softmax(np.where(np.isnan(attributes).all(1)[:, None], 0, logits) / self.temperature)


def fit(store: SkeletonStore, numbers: np.ndarray) -> KinematicDiscriminant:
    """Fit to training clips: equal priors, covariances shrunk as Ledoit and Wolf have it (Journal of Multivariate
    Analysis 88, 2004), and the temperature under which clips of people left out are likeliest, a fifth of the people
    at a time (of the clips, where fewer than three people are known).

    Raises `RunError` where a class has too few clips.
    """
    labels, K = store.labels[numbers].astype(np.int64), len(store.classes)
    counts = np.bincount(labels, minlength=K)
    if counts.min() < 2:
        name = store.classes[int(counts.argmin())]
        raise RunError(f"{name!r} has {counts.min()} training clips, too few to measure it: leave out --kinematics.")
    viewpoint = Viewpoint(store, Anatomy(store.layout), numbers, per_second=True)
    attributes = _motion(viewpoint, numbers)
    logits, known = np.zeros((len(labels), K)), np.zeros(len(labels), bool)
    for held in _folds(store.subjects[numbers], labels):
        if (np.bincount(labels[~held]) >= 2).sum() < 2:
            continue
        centre, spread, weights, offsets = _discriminant(attributes[~held], labels[~held], K)
        logits[held] = _standardised(attributes[held], centre, spread) @ weights + offsets
        known[held] = np.isfinite(offsets[labels[held]])
    centre, spread, weights, offsets = _discriminant(attributes, labels, K)
    return KinematicDiscriminant(
        centre=centre,
        spread=spread,
        weights=weights,
        offsets=offsets,
        temperature=_temperature(logits[known], labels[known]),
        cameras=np.array(list(viewpoint.upright), np.int64),
        upright=np.array(list(viewpoint.upright.values())).reshape(-1, 3, 3),
        facing=viewpoint.facing,
        fingerprint=store.fingerprint,
        rate=math.nan if viewpoint.rates is None else float(np.median(viewpoint.rates[numbers])),
    )


def multiply(probabilities: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What two opinions `[n, K]` say together, by the product rule (Kittler et al., "On combining classifiers", PAMI
    20(3), 1998, eq. 8, with equal priors)."""
    product = np.maximum(probabilities.astype(np.float64), _LEAST) * np.maximum(others, _LEAST)
    return product / product.sum(1, keepdims=True)


def of_run(folder: Path, store: SkeletonStore | None = None) -> KinematicDiscriminant:
    """The discriminant kept in a run folder; where there is none it is fitted to the run's training clips, in `store`
    or the store that training found, and kept. Raises `RunError`."""
    path, source = folder / FILE, runs.read_json(folder, runs.DATA)
    if (folder / added.FILE).exists():
        raise RunError(f"--kinematics knows trained classes alone, and {folder} has added ones: leave it out.")
    wanted, numbers = source.get("fingerprint"), source.get("training")
    if path.exists() and (found := _load(path)).fingerprint == wanted:
        return found
    with ExitStack() as stack:
        if (store is None or store.fingerprint != wanted) and Path(source.get("store") or "").is_file():
            store = stack.enter_context(SkeletonStore(Path(source["store"])))
        if store is None or store.fingerprint != wanted or (trained := _trained_on(folder, store, numbers)) is None:
            raise RunError(
                f"the clips that {folder} was trained on are not at hand, so --kinematics has nothing to measure: "
                "give the store of the training with --data."
            )
        found = fit(*trained)
    with suppress(OSError):  # a folder that cannot be written: it is fitted anew next time
        runs.write_whole(path, lambda file: np.savez_compressed(file, **vars(found)))
    return found


def _trained_on(folder: Path, store: SkeletonStore, numbers: object) -> tuple[SkeletonStore, np.ndarray] | None:
    """The store as a run sees it that was trained on some of its classes, and the numbers there of its training clips;
    None where the run does not say."""
    if not isinstance(numbers, list) or not all(type(number) is int and number >= 0 for number in numbers):
        return None
    part = as_trained(store, runs.classes_of(folder))
    rows = part.of_file(np.array(numbers, np.int64))
    return (part, rows) if 0 < len(rows) == len(numbers) and rows.max() < len(part) else None


def _load(path: Path) -> KinematicDiscriminant:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            found = {name: kept[name] for name in KinematicDiscriminant.__dataclass_fields__ if name in kept}
        A, K = found["weights"].shape
        if [found[name].shape for name in ("centre", "spread", "offsets")] != [(A,), (A,), (K,)]:
            raise ValueError("the parts do not fit each other")
        scalars = {"temperature": float, "facing": float, "fingerprint": str, "rate": float}
        plain = {name: kind(found[name]) for name, kind in scalars.items() if name in found}
        return KinematicDiscriminant(**found | plain)
    except Exception as error:  # zip, numpy and key errors alike: the file is not what we wrote
        raise RunError(f"{path} is damaged ({type(error).__name__}): remove it, it is made anew.") from None


def _motion(viewpoint: Viewpoint, numbers: np.ndarray) -> np.ndarray:
    """Attributes `[n, A]` without the duration, which says how a recording was cut: a window of a long one has any."""
    return np.delete(clip_attributes(viewpoint, numbers), BODY_FEATURES.index("duration") - len(BODY_FEATURES), 1)


def _folds(subjects: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Which clips to leave out together, `[n]` each: those of some people, else some of every class."""
    from sklearn.model_selection import GroupKFold, StratifiedKFold

    people = np.unique(subjects)
    if len(people) >= 3 and UNKNOWN not in people:
        parts = GroupKFold(min(_FOLDS, len(people))).split(labels, labels, subjects)
    else:
        parts = StratifiedKFold(min(_FOLDS, int(np.bincount(labels).min()))).split(labels, labels)
    return [np.isin(np.arange(len(labels)), held) for _, held in parts]


def _discriminant(
    attributes: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centre and spread `[A]`, weights `[A, K]` and offsets `[K]`; -inf for classes of fewer than two clips."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    there = np.flatnonzero(np.bincount(labels, minlength=num_classes) >= 2)
    kept = np.isin(labels, there)
    seen = ~np.isnan(attributes)
    count = np.maximum(seen.sum(0), 1)
    centre = np.where(seen, attributes, 0).sum(0) / count
    spread = np.maximum(np.sqrt(np.square(np.where(seen, attributes - centre, 0)).sum(0) / count), 1e-4)
    fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(len(there), 1 / len(there)))
    fitted.fit(_standardised(attributes[kept], centre, spread), labels[kept])
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(there) == 2:  # of two classes scikit-learn has the second against the first
        coefficients, intercepts = (np.stack([-values[0] / 2, values[0] / 2]) for values in (coefficients, intercepts))
    weights, offsets = np.zeros((attributes.shape[1], num_classes)), np.full(num_classes, -np.inf)
    weights[:, there], offsets[there] = coefficients.T, intercepts
    return centre, spread, weights, offsets


def _standardised(attributes: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.nan_to_num((attributes - centre) / spread).clip(-_FARTHEST, _FARTHEST)


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature under which `labels` `[n]` are likeliest given `logits` `[n, K]`, and one in n + 2 of them is the
    likeliest other class instead (the rule of succession: that none was seen to be wrong is no certainty). Infinite
    where there are none: all classes are then equally likely."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    if not len(labels):
        return np.inf
    every, wrong = np.arange(len(labels)), 1 / (len(labels) + 2)
    others = logits.copy()
    others[every, labels] = -np.inf
    second = others.argmax(1)

    def loss(log_temperature: float) -> float:
        found = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(((1 - wrong) * found[every, labels] + wrong * found[every, second]).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 20), method="bounded", options={"xatol": 1e-6}).x))


def _softmax(logits: np.ndarray) -> np.ndarray:
    from scipy.special import softmax

    return softmax(logits, axis=1)
