"""Studies on saved predictions: what a recogniser gets right, what it confuses, and how sure it is.

Pure numpy on `labels [N]`, `probabilities [N, K]` and class names; accuracies are in percent throughout.
scikit-learn's metrics are not used: they leave out, or warn about, classes that do not occur, and take two classes
for one column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from .errors import RunError

HARD_BELOW, EASY_ABOVE = 70.0, 90.0  # percent; class sets of the paper's Table 6, 70 and 90 themselves are medium
_Z95 = 1.959963984540054  # normal quantile of 0.975


@dataclass(frozen=True)
class Accuracy:
    """In percent. `mean_class` is over the classes that occur."""

    top1: float
    top5: float
    mean_class: float


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
    """Classes of one difficulty and their mean accuracy, None where there are none."""

    classes: tuple[str, ...]
    accuracy: float | None


@dataclass(frozen=True)
class Pair:
    """Clips of class `true` taken for class `predicted`; `rate` is their percentage of the class's clips."""

    true: str
    predicted: str
    count: int
    rate: float


@dataclass(frozen=True)
class Bin:
    """Clips whose confidence lies in (low, high]; confidence and accuracy are their means, None where `n` is 0."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Reliability curve and expected calibration error, in percent."""

    ece: float
    bins: tuple[Bin, ...]


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> Accuracy:
    """Top-1, top-5 (top-K where there are fewer classes) and mean class accuracy. Raises `RunError` on bad input."""
    labels, probabilities = _checked(labels, probabilities)
    # a stable order, so that a network that says the same of all classes is not right five times out of five
    best_N5 = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    hits_N5 = best_N5 == labels[:, None]
    right = hits_N5[:, 0]
    num_classes = probabilities.shape[1]
    clips, hits = np.bincount(labels, minlength=num_classes), np.bincount(labels[right], minlength=num_classes)
    return Accuracy(
        top1=100 * float(right.mean()),
        top5=100 * float(hits_N5.any(axis=1).mean()),
        mean_class=100 * float((hits[clips > 0] / clips[clips > 0]).mean()),
    )


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Clips of every true class (row) by predicted class (column), int64 `[K, K]`."""
    pairs = np.asarray(labels, np.int64) * num_classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


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


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion, in percent (Wilson, JASA 1927)."""
    share, z2 = right / n, _Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def difficulty_sets(
    results: Sequence[ClassResult], reference: Sequence[ClassResult] | None = None
) -> dict[str, ClassSet]:
    """Hard, medium and easy classes by the reference's class accuracy, else by their own (the paper's Table 6).

    The accuracy of a set is the mean over its classes' accuracies in `results`. A class with no clip is in no set.
    Raises `RunError` where the reference has other classes.
    """
    reference = results if reference is None else reference
    if [result.name for result in results] != [result.name for result in reference]:
        raise RunError("the reference run has other classes: compare runs on the same label set.")
    sets: dict[str, list[ClassResult]] = {"hard": [], "medium": [], "easy": []}
    for result, judge in zip(results, reference, strict=True):
        if result.accuracy is None or judge.accuracy is None:
            continue
        name = "hard" if judge.accuracy < HARD_BELOW else "easy" if judge.accuracy > EASY_ABOVE else "medium"
        sets[name].append(result)
    return {
        name: ClassSet(
            classes=tuple(member.name for member in members),
            accuracy=float(np.mean([member.accuracy for member in members])) if members else None,
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


def calibration(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> Calibration:
    """Expected calibration error over equally wide bins of the top-1 probability (Guo et al., ICML 2017).

    Confidences and accuracies are in percent. Raises `RunError` on bad input.
    """
    labels, probabilities = _checked(labels, probabilities)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    number = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    found, ece = [], 0.0
    for i in range(bins):
        inside = number == i
        n = int(inside.sum())
        low, high = 100 * float(edges[i]), 100 * float(edges[i + 1])
        if n:
            sure, correct = 100 * float(confidence[inside].mean()), 100 * float(right[inside].mean())
            ece += n / len(labels) * abs(sure - correct)
            found.append(Bin(low, high, n, sure, correct))
        else:
            found.append(Bin(low, high, 0, None, None))
    return Calibration(ece, tuple(found))


def fuse(probabilities: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Weighted mean of several runs' probabilities `[N, K]` on the same clips; equal weights by default.

    Raises `RunError` where the runs differ in clips or classes, or the weights do not fit.
    """
    weights = [1.0] * len(probabilities) if weights is None else list(weights)
    if len(weights) != len(probabilities) or not probabilities:
        raise RunError(f"{len(probabilities)} runs with {len(weights)} weights: give one weight for every run.")
    if not all(np.isfinite(weights)) or min(weights) < 0 or sum(weights) == 0:
        raise RunError(
            f"weights {', '.join(f'{w:g}' for w in weights)}: none may be negative and one must be positive."
        )
    shapes = {array.shape for array in probabilities}
    if len(shapes) > 1:
        raise RunError(f"the runs differ in clips or classes ({sorted(shapes)}): fuse runs on the same split.")
    return np.average(np.stack(probabilities), axis=0, weights=weights)


def analyse(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    reference: Sequence[ClassResult] | None = None,
) -> dict:
    """All of the above as plain values for JSON, in percent with two decimals.

    `reference` is `per_class` of another run on the same label set: it then decides the difficulty sets, and every
    class gets its `reference` accuracy and the `difference`. Raises `RunError` on bad input.
    """
    labels, probabilities = _checked(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    results = per_class(labels, predicted, classes)
    curve = calibration(labels, probabilities)
    document = {
        "clips": len(labels),
        **asdict(accuracy(labels, probabilities)),
        "ece": curve.ece,
        "sets": {name: asdict(found) for name, found in difficulty_sets(results, reference).items()},
        "per_class": [_class_row(result) for result in results],
        "pairs": [asdict(p) for p in confused_pairs(confusion_matrix(labels, predicted, len(classes)), classes)],
        "calibration": [asdict(part) for part in curve.bins],
    }
    if reference is not None:
        for row, judge in zip(document["per_class"], reference, strict=True):
            known = judge.accuracy is not None and row["accuracy"] is not None
            row["reference"] = judge.accuracy
            row["difference"] = row["accuracy"] - judge.accuracy if known else None
    return _rounded(document)


def _class_row(result: ClassResult) -> dict:
    return {"class": result.name, "n": result.n, "accuracy": result.accuracy, "low": result.low, "high": result.high}


def _rounded(value):
    """The same plain values with every float at two decimals, and lists for tuples."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return round(value, 2) if isinstance(value, float) else value


def _checked(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise RunError(
            f"{labels.shape} labels with {probabilities.shape} probabilities: predict again with `skag eval`."
        )
    if not len(labels):
        raise RunError("there are no predictions: the split has no clips.")
    if not np.isfinite(probabilities).all():
        raise RunError(
            "the predictions hold NaN or infinity: training diverged; train again with a lower learning rate."
        )
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise RunError(
            f"labels reach {labels.max()} with {probabilities.shape[1]} classes: predict again on the same data."
        )
    return labels, probabilities
