"""Accuracies and how sure they are, of labels and probabilities; the ground that training and evaluation share.

Arrays are `labels [N]`, `predicted [N]`, `probabilities [N, K]`; accuracies are in percent throughout. scikit-learn's
metrics are not used: they leave out, or warn about, classes that do not occur, and take two classes for one column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import RunError

Z95 = 1.959963984540054  # normal quantile of 0.975


@dataclass(frozen=True)
class Accuracy:
    """In percent. `mean_class` is over the classes that occur."""

    top1: float
    top5: float
    mean_class: float


@dataclass(frozen=True)
class Bin:
    """Clips whose confidence lies in (low, high]: mean confidence, and accuracy with its 95 % interval.

    None where `n` is 0.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> Accuracy:
    """Top-1, top-5 (top-K where there are fewer classes) and mean class accuracy. Raises `RunError` on bad input."""
    labels, probabilities = checked(labels, probabilities)
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


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion, in percent (Wilson, JASA 1927); of nothing, everything from 0 to 100."""
    if not n:
        return 0.0, 100.0
    share, z2 = right / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def reliability_curve(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> list[Bin]:
    """How often clips are right that the run is so sure of: equally wide bins of the top-1 probability.

    In percent, each accuracy with Wilson's 95 % interval. Raises `RunError` on bad input.
    """
    labels, probabilities = checked(labels, probabilities)
    confidence, right = probabilities.max(axis=1).astype(float), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    number = bin_numbers(confidence, bins)
    found = []
    for i in range(bins):
        inside = number == i
        n, low, high = int(inside.sum()), 100 * float(edges[i]), 100 * float(edges[i + 1])
        if n:
            interval = wilson_interval(int(right[inside].sum()), n)
            sure, correct = 100 * float(confidence[inside].mean()), 100 * float(right[inside].mean())
            found.append(Bin(low, high, n, sure, correct, *interval))
        else:
            found.append(Bin(low, high, 0, None, None, None, None))
    return found


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Mean distance of confidence and accuracy over the bins, in percent, each by its clips (Guo et al., ICML 2017)."""
    curve = reliability_curve(labels, probabilities, bins)
    apart = (
        part.n * abs(part.confidence - part.accuracy)
        for part in curve
        if part.confidence is not None and part.accuracy is not None
    )
    return sum(apart) / len(labels)


def bin_numbers(confidence_N: np.ndarray, bins: int) -> np.ndarray:
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.searchsorted(edges, confidence_N, side="left") - 1, 0, bins - 1)


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


def checked(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
