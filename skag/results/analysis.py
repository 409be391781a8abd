"""Studies on saved predictions: what a recogniser gets right, what it confuses, and how sure it is.

Arrays are `labels [N]`, `predicted [N]`, `probabilities [N, K]` and class names; accuracies are in percent throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..errors import RunError
from ..metrics import (
    Z95,
    accuracy,
    bin_numbers,
    checked,
    confusion_matrix,
    expected_calibration_error,
    reliability_curve,
    wilson_interval,
)

HARD_BELOW, EASY_ABOVE = 70.0, 90.0  # percent; class sets of the paper's Table 6, 70 and 90 themselves are medium


@dataclass(frozen=True)
class ClassResult:
    """One class: clips, percent right and its 95 % interval; no numbers where no clip is of that class."""

    name: str
    n: int
    accuracy: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ClassSet:
    """Classes of one difficulty and their mean accuracy, the run's and the reference's; None where there are none."""

    classes: tuple[str, ...]
    accuracy: float | None
    reference: float | None = None


@dataclass(frozen=True)
class Pair:
    """Clips of class `true` taken for class `predicted`; `rate` is their percentage of the class's clips."""

    true: str
    predicted: str
    count: int
    rate: float


@dataclass(frozen=True)
class Difference:
    """How two runs differ on the same clips, in percent: of one class, or of all where `name` is None.

    `gained` clips are right in the run alone, `lost` clips in the reference alone; the others say nothing about the
    difference. `p` is McNemar's exact test, for a class adjusted for the number of classes. `clear`: `p` is below
    0.05, so that the difference is more than clips that fall this way or that.
    """

    name: str | None
    n: int
    accuracy: float
    reference: float
    difference: float
    low: float
    high: float
    gained: int
    lost: int
    p: float

    @property
    def clear(self) -> bool:
        return self.p < 0.05


def per_class(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> list[ClassResult]:
    """Accuracy of every class, in the order of `classes`, with Wilson's 95 % interval."""
    matrix = confusion_matrix(labels, predicted, len(classes))
    results = []
    for name, n, right in zip(classes, matrix.sum(axis=1).tolist(), np.diag(matrix).tolist(), strict=True):
        if n:
            results.append(ClassResult(name, n, 100 * right / n, *wilson_interval(right, n)))
        else:
            results.append(ClassResult(name, 0, None, None, None))
    return results


def pair_clips(names: Sequence[str], reference: Sequence[str]) -> np.ndarray:
    """`[N]` number in `reference` of every clip of `names`, so that two runs are compared clip by clip.

    Raises `RunError` where they are not the same clips.
    """
    if list(names) == list(reference):
        return np.arange(len(names))
    number = {name: i for i, name in enumerate(reference)}
    if len(number) != len(reference) or len(names) != len(reference) or set(names) != set(number):
        raise RunError(
            f"the reference was tested on other clips ({len(reference)}, the run on {len(names)}): "
            "evaluate both on one split of one store."
        )
    return np.array([number[name] for name in names])


def difference_per_class(
    labels: np.ndarray, predicted: np.ndarray, reference: np.ndarray, classes: Sequence[str]
) -> list[Difference]:
    """What every class that occurs gains or loses against a reference's predictions `[N]` of the same clips.

    The paper's Fig. 4c with its noise: an interval for paired proportions, and McNemar's exact test, adjusted over the
    classes so that at most 5 % of the clear ones are expected to be none (Benjamini and Hochberg, J. R. Stat. Soc. B
    1995).
    """
    from scipy.stats import false_discovery_control

    labels, right, right_before = np.asarray(labels), predicted == labels, reference == labels
    found = [
        _difference(name, right[members], right_before[members])
        for k, name in enumerate(classes)
        if (members := labels == k).any()
    ]
    adjusted = false_discovery_control([row.p for row in found])
    return [replace(row, p=float(p)) for row, p in zip(found, adjusted, strict=True)]


def difference_overall(labels: np.ndarray, predicted: np.ndarray, reference: np.ndarray) -> Difference:
    """Top-1 against a reference's predictions `[N]` of the same clips, with McNemar's exact test."""
    return _difference(None, predicted == labels, reference == labels)


def _difference(name: str | None, right_N: np.ndarray, before_N: np.ndarray) -> Difference:
    """Interval: Bonett and Price (J. Educ. Behav. Stat. 2012), Wald's after one more clip gained and one more lost,
    which Fagerland et al. (Stat. Med. 2014) recommend where clips are few."""
    from scipy.stats import binomtest

    n, gained, lost = len(right_N), int((right_N & ~before_N).sum()), int((before_N & ~right_N).sum())
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z95 * ((up + down - (up - down) ** 2) / (n + 2)) ** 0.5
    return Difference(
        name=name,
        n=n,
        accuracy=100 * float(right_N.mean()),
        reference=100 * float(before_N.mean()),
        difference=100 * (gained - lost) / n,
        low=100 * max(-1.0, up - down - half),
        high=100 * min(1.0, up - down + half),
        gained=gained,
        lost=lost,
        p=float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
    )


def difficulty_sets(
    results: Sequence[ClassResult], reference: Sequence[ClassResult] | None = None
) -> dict[str, ClassSet]:
    """Hard, medium and easy classes by the reference's class accuracy, else by their own (the paper's Table 6).

    The accuracy of a set is the mean over its classes' accuracies in `results`, and in `reference`. A class with no
    clip is in no set. Raises `RunError` where the reference has other classes.
    """
    judges = results if reference is None else reference
    if [result.name for result in results] != [judge.name for judge in judges]:
        raise RunError("the reference run has other classes: compare runs on the same label set.")
    sets: dict[str, list[tuple[ClassResult, ClassResult]]] = {"hard": [], "medium": [], "easy": []}
    for result, judge in zip(results, judges, strict=True):
        if result.accuracy is None or judge.accuracy is None:
            continue
        name = "hard" if judge.accuracy < HARD_BELOW else "easy" if judge.accuracy > EASY_ABOVE else "medium"
        sets[name].append((result, judge))
    return {
        name: ClassSet(
            classes=tuple(result.name for result, _ in members),
            accuracy=float(np.mean([result.accuracy for result, _ in members])) if members else None,
            reference=float(np.mean([judge.accuracy for _, judge in members])) if members and reference else None,
        )
        for name, members in sets.items()
    }


def confused_pairs(matrix: np.ndarray, classes: Sequence[str]) -> list[Pair]:
    """Every confusion that happened, the most frequent first, then by rate, then in the order of the classes."""
    clips = matrix.sum(axis=1)
    pairs = [
        Pair(classes[true], classes[predicted], int(matrix[true, predicted]), float(rate))
        for true, predicted in zip(*np.nonzero(matrix), strict=True)
        if true != predicted
        for rate in [100 * matrix[true, predicted] / clips[true]]
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.rate))


def confusion_order(matrix: np.ndarray) -> np.ndarray:
    """`[K]` class numbers in an order in which classes that are confused stand together.

    Leaves of the tree of `_confusion_tree`, turned so that neighbours are as near as they can be (Bar-Joseph et al.,
    Bioinformatics 2001).
    """
    from scipy.cluster.hierarchy import leaves_list

    return np.arange(len(matrix)) if len(matrix) < 2 else leaves_list(_confusion_tree(matrix))


def confusion_groups(matrix: np.ndarray, most: int = 8) -> list[np.ndarray]:
    """Groups of 2 to `most` classes that are confused with one another, the most confusions first.

    Each is a stretch of `confusion_order`, in its order: a branch of the same tree, the largest whose two sides are
    confused by a percent of their clips or more.
    """
    from scipy.cluster.hierarchy import to_tree

    if len(matrix) < 2:
        return []
    counts = _without_diagonal(matrix)
    found, branches = [], [to_tree(_confusion_tree(matrix))]
    while branches:
        branch = branches.pop()
        if branch.is_leaf():
            continue
        members = np.array(branch.pre_order())
        if len(members) > most or branch.dist > 0.99:
            branches += [branch.left, branch.right]
        else:
            found.append(members)
    return sorted(found, key=lambda members: -counts[np.ix_(members, members)].sum())


def _confusion_tree(matrix: np.ndarray) -> np.ndarray:
    """Average linkage of the classes; their distance is 1 less the mean share of one taken for the other."""
    from scipy.cluster.hierarchy import linkage

    counts = _without_diagonal(matrix)
    clips = np.asarray(matrix).sum(axis=1, keepdims=True)
    share = np.divide(counts, clips, out=np.zeros(counts.shape), where=clips > 0)
    distances = 1 - (share + share.T) / 2
    return linkage(distances[np.triu_indices(len(matrix), 1)], "average", optimal_ordering=True)


def _without_diagonal(matrix: np.ndarray) -> np.ndarray:
    counts = np.array(matrix, float)
    np.fill_diagonal(counts, 0)
    return counts


def calibration_error_by_chance(probabilities: np.ndarray, bins: int = 15, draws: int = 1000, seed: int = 0) -> float:
    """The expected calibration error, in percent, that a perfectly calibrated run of these probabilities `[N, K]` stays
    below 95 times in 100.

    With few clips no run has an error near 0. Whether a clip is right is drawn with its own confidence ("consistency
    resampling": Bröcker and Smith, Weather and Forecasting 2007).
    """
    confidence = np.asarray(probabilities).max(axis=1).astype(float)
    number, rng = bin_numbers(confidence, bins), np.random.default_rng(seed)
    errors = []
    for _ in range(draws):
        surplus_N = confidence - (rng.random(len(confidence)) < confidence)
        errors.append(np.abs(np.bincount(number, surplus_N, bins)).sum() / len(confidence))
    return 100 * float(np.quantile(errors, 0.95))


def nearest_is_own(embeddings: np.ndarray, labels: np.ndarray, text: np.ndarray) -> float:
    """Percent of clips `[N, D]` whose own class's sentence `[K, D]` is, by cosine, the nearest of all."""
    text_KD = text / np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-12)
    return 100 * float(((embeddings.astype(np.float32) @ text_KD.T).argmax(axis=1) == labels).mean())


def analyse(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    reference: np.ndarray | None = None,
) -> dict[str, Any]:
    """All of the above as plain values for JSON, in percent with two decimals.

    `reference` `[N]` is what another run predicts of the same clips: it then decides the difficulty sets, every class
    gets its `reference` accuracy and the `difference`, and `comparison` holds the paired tests. Raises `RunError` on
    bad input.
    """
    labels, probabilities = checked(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    results = per_class(labels, predicted, classes)
    judges = None if reference is None else per_class(labels, reference, classes)
    right = int((predicted == labels).sum())
    low, high = wilson_interval(right, len(labels))
    document = {
        "clips": len(labels),
        **asdict(accuracy(labels, probabilities)),
        "top1_low": low,
        "top1_high": high,
        "mean_confidence": 100 * float(probabilities.max(axis=1).mean()),
        "ece": expected_calibration_error(labels, probabilities),
        "ece_by_chance": calibration_error_by_chance(probabilities),
        "sets": {name: asdict(found) for name, found in difficulty_sets(results, judges).items()},
        "per_class": [_class_row(result) for result in results],
        "pairs": [asdict(p) for p in confused_pairs(confusion_matrix(labels, predicted, len(classes)), classes)],
        "calibration": [asdict(part) for part in reliability_curve(labels, probabilities)],
    }
    if reference is not None:
        whole = difference_overall(labels, predicted, reference)
        document["comparison"] = _difference_row(whole)
        found = iter(difference_per_class(labels, predicted, reference, classes))
        for row in document["per_class"]:
            row.update(_difference_row(next(found) if row["n"] else None))
    return rounded(document)


def _difference_row(row: Difference | None) -> dict[str, Any]:
    names = ("reference", "difference", "low", "high", "gained", "lost", "p", "clear")
    keys = {"low": "difference_low", "high": "difference_high"}
    return {keys.get(name, name): getattr(row, name, None) for name in names}


def _class_row(result: ClassResult) -> dict:
    return {"class": result.name, "n": result.n, "accuracy": result.accuracy, "low": result.low, "high": result.high}


def rounded(value: Any) -> Any:
    """Plain values with every float at two decimals (p at two digits), and lists for tuples."""
    if isinstance(value, dict):
        small = value.get("p")
        rest = {name: rounded(part) for name, part in value.items()}
        return rest if small is None else rest | {"p": float(f"{small:.2g}")}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return round(value, 2) if isinstance(value, float) else value
