"""The sceptic's baselines: classes named from how joints are measured to move and from texts, with no network.

Each learns from clips of seen classes how motion goes with what is said of them, and names a class, also one that it
has seen no clip of, by the text that comes nearest. Motion is `kinematics.joint_motion`; a network that recognises
unseen classes has to beat these.

Letters of this file: n clips, F measures of a clip, K classes, D width of a text's vector.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import DataError, RunError
from ..methods.base import Candidate
from ..metrics import wilson_interval
from ..skeleton.kinematics import joint_motion
from ..skeleton.store import SkeletonStore
from ..suggestions import nearest_name
from ..text import words_of
from . import discriminant
from .candidates import check_different

PENALTY = 100.0  # lambda of the ridge
_FARTHEST = 4.0  # standard deviations from the mean, at most, that a measure counts as
_MARGIN = 0.1  # of DeViSE's ranking loss (Frome et al., NeurIPS 2013, section 3.3)
_STEPS, _BATCH, _LR = 300, 64, 1e-3  # of the same; its own were for another size of data
_PROBABILITIES = 10  # classes that ConSE combines (Norouzi et al., ICLR 2014)

Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (motion [n, F], text [K, D]) -> [n, K], the higher the nearer


def motion_of(store: SkeletonStore, numbers: np.ndarray) -> np.ndarray:
    """`joint_motion` of the given clips in one row each, `[n, F]`, NaN where a joint was not seen. The cameras' tilt is
    estimated on these very clips."""
    return joint_motion(store, numbers).reshape(len(numbers), -1)


@dataclass(frozen=True)
class Standard:
    """What makes measures comparable, taken from training clips."""

    centre: np.ndarray  # [F]
    spread: np.ndarray  # [F]

    @classmethod
    def of(cls, motion: np.ndarray) -> Standard:
        seen = np.isfinite(motion)
        count = np.maximum(seen.sum(0), 1)
        centre = np.where(seen, motion, 0).sum(0) / count
        spread = np.sqrt(np.square(np.where(seen, motion - centre, 0)).sum(0) / count)
        return cls(centre, np.maximum(spread, 1e-6))

    def __call__(self, motion: np.ndarray) -> np.ndarray:
        """`[n, F]` in standard deviations, cut at 4; what was not seen stands at the mean."""
        return np.nan_to_num((motion - self.centre) / self.spread).clip(-_FARTHEST, _FARTHEST)


@dataclass(frozen=True)
class MotionRidge:
    """Ridge regression from motion to the text vector of its class; classes are told apart by cosine.

    With W = (Z'Z + penalty I)^-1 Z'(Y - m), for standardised motions Z and text vectors Y of mean m over the clips, a
    motion z is taken to the vector z W + m. `origin` is what both that and the classes' vectors are seen from: zero, or
    m where they are `centred`.
    """

    standard: Standard
    weights: np.ndarray  # [F, D]
    offset: np.ndarray  # [D]
    origin: np.ndarray  # [D]

    @classmethod
    def fit(
        cls,
        motion: np.ndarray,
        labels: np.ndarray,
        text: np.ndarray,
        penalty: float = PENALTY,
        *,
        centred: bool = False,
    ) -> MotionRidge:
        """Fit to clips `motion` `[n, F]` of classes `labels` `[n]`, which number the rows of `text` `[K, D]`; rows of
        classes without clips have no part in it."""
        standard = Standard.of(motion)
        wanted = text[labels].astype(np.float64)
        mean = wanted.mean(0)
        weights = ridge(standard(motion), wanted - mean, penalty)
        return cls(standard, weights, mean, mean if centred else np.zeros_like(mean))

    def vectors(self, motion: np.ndarray) -> np.ndarray:
        """Where clips `[n, F]` lie among the texts, `[n, D]`, not normalised."""
        return self.standard(motion) @ self.weights + self.offset

    def scores(self, motion: np.ndarray, text: np.ndarray) -> np.ndarray:
        """Cosines `[n, K]` of clips `[n, F]` and the texts `[K, D]` of any classes."""
        return cosines(self.vectors(motion) - self.origin, text - self.origin)


def ridge(inputs: np.ndarray, wanted: np.ndarray, penalty: float) -> np.ndarray:
    """`[F, D]`: the minimum of |inputs W - wanted|^2 + penalty |W|^2, by the smaller of two equal systems."""
    n, F = inputs.shape
    if n < F:
        return inputs.T @ np.linalg.solve(inputs @ inputs.T + penalty * np.eye(n), wanted)
    return np.linalg.solve(inputs.T @ inputs + penalty * np.eye(F), inputs.T @ wanted)


def cosines(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`[n, K]` of `[n, D]` and `[K, D]`; 0 for a vector without length."""
    return unit(vectors) @ unit(others).T


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


# ---- the others


def _ridge(motion: np.ndarray, labels: np.ndarray, text: np.ndarray, seed: int) -> Scores:
    return MotionRidge.fit(motion, labels, text).scores


def _ridge_centred(motion: np.ndarray, labels: np.ndarray, text: np.ndarray, seed: int) -> Scores:
    return MotionRidge.fit(motion, labels, text, centred=True).scores


def _devise(motion: np.ndarray, labels: np.ndarray, text: np.ndarray, seed: int) -> Scores:
    """A linear map whose image of a clip has a greater product with its class's text than with another's, by a margin:
    DeViSE (Frome et al., NeurIPS 2013, eq. 1), trained by Adam on the seen classes' texts."""
    import torch

    standard, seen = Standard.of(motion), np.unique(labels)
    generator = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(standard(motion)).float()
    texts = torch.from_numpy(unit(text[seen])).float()
    target = torch.from_numpy(np.searchsorted(seen, labels))
    weights = torch.zeros(x.shape[1], texts.shape[1], requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=_LR)
    for _ in range(_STEPS):
        some = torch.randint(len(x), (_BATCH,), generator=generator)
        products = x[some] @ weights @ texts.T
        own = products.gather(1, target[some, None])
        loss = (_MARGIN - own + products).clamp(min=0).sum(1).mean()  # its own class's term is the margin itself
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = weights.detach().double().numpy()
    return lambda motion, text: cosines(standard(motion) @ found, text)


def _prototype(motion: np.ndarray, labels: np.ndarray, text: np.ndarray, seed: int) -> Scores:
    """The other way round, which has fewer hubs: ridge from texts to motion, and the nearest such prototype (Shigeto et
    al., "Ridge regression, hubness, and zero-shot learning", ECML PKDD 2015)."""
    standard = Standard.of(motion)
    z, mean = standard(motion), text[labels].mean(0)
    weights, centre = ridge(text[labels] - mean, z - z.mean(0), 1.0), z.mean(0)

    def scores(motion: np.ndarray, text: np.ndarray) -> np.ndarray:
        from scipy.spatial.distance import cdist

        return -cdist(standard(motion), (text - mean) @ weights + centre)

    return scores


def _conse(motion: np.ndarray, labels: np.ndarray, text: np.ndarray, seed: int) -> Scores:
    """The seen classes' texts, weighted by the probabilities of a linear discriminant: ConSE (Norouzi et al., ICLR
    2014, eq. 6)."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    standard, seen = Standard.of(motion), np.unique(labels)
    fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(len(seen), 1 / len(seen)))
    fitted.fit(standard(motion), labels)
    known = text[seen]

    def scores(motion: np.ndarray, text: np.ndarray) -> np.ndarray:
        probabilities = fitted.predict_proba(standard(motion))
        least = np.sort(probabilities, axis=1)[:, -min(_PROBABILITIES, len(seen)), None]
        return cosines(np.where(probabilities >= least, probabilities, 0) @ known, text)

    return scores


@dataclass(frozen=True)
class Baseline:
    """One of the baselines: what it is, and what fits it to (motion, labels, text, seed)."""

    meaning: str
    fit: Callable[[np.ndarray, np.ndarray, np.ndarray, int], Scores]
    random: bool = False


BASELINES: Mapping[str, Baseline] = {
    "ridge": Baseline("ridge from motion to text, cosine", _ridge),
    "ridge-centred": Baseline("the same, texts seen from the mean of the seen classes", _ridge_centred),
    "devise": Baseline("linear map by a ranking loss, cosine (DeViSE)", _devise, random=True),
    "prototype": Baseline("ridge from text to motion, nearest prototype", _prototype),
    "conse": Baseline("texts weighted by a discriminant of motion, cosine (ConSE)", _conse),
}
DISCRIMINANT = "discriminant"  # of closed sets: it knows no text


# ---- a table of them


@dataclass(frozen=True)
class BaselineResult:
    """What a baseline came to, in percent. Means are over seeds, of which one is enough where nothing is random."""

    baseline: str
    meaning: str
    seeds: int
    top1: float
    top1_low: float  # Wilson's interval, of the mean
    top1_high: float
    spread: float | None  # sample standard deviation over seeds; None of one
    mean_class: float
    shuffled: float | None  # control: every class is given another class's text; mean over seeds
    shuffled_spread: float | None
    taken_for: dict[str, dict[str, int]]  # class -> how often it was taken for which, of the first seed

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def choose(names: Sequence[str], *, closed: bool) -> list[str]:
    """Baselines by name, all where none is named; `closed`: of a set without unseen classes. Raises `RunError`."""
    known = [*BASELINES, *([DISCRIMINANT] if closed else [])]
    if DISCRIMINANT in names and not closed:
        raise RunError(f"{DISCRIMINANT} reads no texts and names no unseen class: leave out --unseen, or it.")
    if unknown := [name for name in names if name not in known]:
        raise RunError(f"no baseline {unknown[0]!r}: {nearest_name(unknown[0], known)}")
    return list(dict.fromkeys(names)) or known


@dataclass(frozen=True)
class Comparison:
    """Baselines on the same clips."""

    results: tuple[BaselineResult, ...]
    learns: int  # clips of seen classes
    tested: int  # clips of unseen classes, or of all
    seen: tuple[str, ...]
    candidates: tuple[str, ...]  # the classes that are chosen among
    train_split: str
    test_split: str


def compare(
    store: SkeletonStore,
    text: np.ndarray,
    names: Sequence[str],
    *,
    unseen: Sequence[str] = (),
    protocol: str | None = None,
    seeds: Sequence[int] = (0, 1, 2),
) -> Comparison:
    """The baselines `names` on a store whose classes have the texts `text` `[K, D]`.

    They learn from the training split's clips of seen classes and are tested on the test split's clips of the `unseen`
    ones, among which they choose; without unseen classes, on all classes both times. Raises `DataError` where there
    are too few classes or clips.
    """
    train_split, test_split = store.protocol(protocol)
    seen = [name for name in store.classes if name not in unseen]
    candidates = list(unseen) or list(store.classes)
    if len(seen) < 2 or len(candidates) < 2:
        raise DataError(
            f"{len(seen)} seen and {len(unseen)} unseen classes: baselines need two to learn from and two to choose "
            "among."
        )
    part, rows = store.of_classes(seen), [store.classes.index(name) for name in candidates]
    learns, tested = part.splits[train_split], store.splits[test_split]
    tested = tested[np.isin(store.labels[tested], rows)]
    if not len(learns) or not len(tested):
        raise DataError(f"{len(learns)} clips to learn from and {len(tested)} to be tested on: choose other classes.")
    motion = motion_of(part, learns)
    labels = np.array([store.classes.index(name) for name in seen])[part.labels[learns]]
    test_motion = motion_of(store, tested)
    truth = np.array([rows.index(label) for label in store.labels[tested]])
    hidden = np.isin(np.arange(len(text)), rows if unseen else [])[:, None]

    def predict(baseline: Baseline, text: np.ndarray, seed: int) -> np.ndarray:
        scores = baseline.fit(motion, labels, np.where(hidden, np.nan, text), seed)
        return scores(test_motion, text[rows]).argmax(1)

    results = []
    for name in names:
        if name == DISCRIMINANT:
            found = [discriminant.fit(part, learns).probabilities(store, tested, store.layout).argmax(1)]
            results.append(_result(name, "linear discriminant of motion", candidates, truth, found, []))
            continue
        baseline = BASELINES[name]
        found = [predict(baseline, text, seed) for seed in (seeds if baseline.random else seeds[:1])]
        control = [predict(baseline, text[_other_order(len(text), seed)], seed) for seed in seeds]
        results.append(_result(name, baseline.meaning, candidates, truth, found, control))
    return Comparison(tuple(results), len(learns), len(tested), tuple(seen), tuple(candidates), train_split, test_split)


def _result(
    name: str,
    meaning: str,
    classes: Sequence[str],
    truth: np.ndarray,
    found: Sequence[np.ndarray],
    control: Sequence[np.ndarray],
) -> BaselineResult:
    """What predictions `[n]` of each seed come to, and those of the control."""
    top1, shuffled = ([100 * float((each == truth).mean()) for each in some] for some in (found, control))
    low, high = wilson_interval(round(statistics.fmean(top1) / 100 * len(truth)), len(truth))
    return BaselineResult(
        baseline=name,
        meaning=meaning,
        seeds=len(found),
        top1=statistics.fmean(top1),
        top1_low=low,
        top1_high=high,
        spread=statistics.stdev(top1) if len(top1) > 1 else None,
        mean_class=statistics.fmean(_mean_class(truth, each) for each in found),
        shuffled=statistics.fmean(shuffled) if shuffled else None,
        shuffled_spread=statistics.stdev(shuffled) if len(shuffled) > 1 else None,
        taken_for={
            classes[k]: {classes[j]: int(n) for j, n in enumerate(np.bincount(found[0][truth == k])) if n}
            for k in np.unique(truth)
        },
    )


def _mean_class(truth: np.ndarray, predicted: np.ndarray) -> float:
    return 100 * statistics.fmean(float((predicted[truth == k] == k).mean()) for k in np.unique(truth))


def _other_order(count: int, seed: int) -> np.ndarray:
    """A random order `[count]` in which nothing keeps its place."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(count)
        if (order != np.arange(count)).all():
            return order


def class_vectors(classes: Sequence[str], texts: Mapping[str, Sequence[str]], embed: Callable) -> np.ndarray:
    """The text vector of every class, `[K, D]` of length 1: the mean over its `texts`, or over its bare name where it
    has none. `embed` takes sentences to unit vectors. Raises `DataError` where two classes have the same texts."""
    candidates = [Candidate(name, tuple(texts.get(name) or (words_of(name),))) for name in classes]
    check_different(candidates)
    given = [each.descriptions for each in candidates]
    vectors = embed([sentence for each in given for sentence in each])
    ends = np.cumsum([len(each) for each in given])[:-1]
    return unit(np.stack([part.mean(0) for part in np.split(vectors, ends)]))
