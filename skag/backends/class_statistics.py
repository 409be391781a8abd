"""What the classes of a split do, as means and spreads of what was measured, and the joints critical for each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..skeleton.kinematics import BODY_FEATURES, JOINT_FEATURES, Anatomy, Viewpoint, attributes
from ..skeleton.layouts import Layout

if TYPE_CHECKING:
    from ..skeleton.store import SkeletonStore

CLIPS_PER_CLASS = 200
USUAL_RATE = 30.0  # frames per second, at which limits for speeds by the frame were chosen


@dataclass(frozen=True)
class ClassStatistics:
    """What the classes do, and how they differ. A = V * 17 joint features, then 11 of the body."""

    anatomy: Anatomy
    clips: np.ndarray  # [K] clips measured
    mean: np.ndarray  # [K, A]
    variance: np.ndarray  # [K, A]
    right: np.ndarray  # [K, L] share of clips in which the right limb is the busier
    per_second: bool  # whether speeds and durations are in seconds; else in frames
    landmarks: dict[str, float]  # usual heights of knees, hips, shoulders, head above the ground

    @cached_property
    def known(self) -> np.ndarray:
        """Classes that have clips."""
        return np.flatnonzero(self.clips)

    @cached_property
    def _noise(self) -> np.ndarray:
        """`[A]` least variance that counts, so that a joint that never moves does not stand out by noise."""
        least = np.full(self.variance.shape[1], 1e-4)
        if self.per_second:
            least[JOINT_FEATURES.index("speed") : -len(BODY_FEATURES) : len(JOINT_FEATURES)] *= USUAL_RATE**2
        return 0.05 * self.variance[self.known].mean(0) + least

    def against(self, one: int, other: int) -> np.ndarray:
        """Cohen's d of every attribute between two classes, `[A]`."""
        spread = 0.5 * (self.variance[one] + self.variance[other]) + self._noise
        return (self.mean[one] - self.mean[other]) / np.sqrt(spread)

    def told_apart(self, one: int, other: int) -> float:
        """What share of their clips the attribute that separates two classes best tells apart, beyond chance:
        2 Phi(d / 2) - 1 for Cohen's d, as of two normal distributions of one spread."""
        return math.erf(float(np.abs(self.against(one, other)).max()) / (2 * math.sqrt(2)))

    def against_rest(self, one: int) -> np.ndarray:
        """Cohen's d of every attribute between a class and all others pooled, each class weighing the same, `[A]`."""
        rest = self.known[self.known != one]
        if not len(rest):
            return np.zeros_like(self.mean[one])
        pooled = self.variance[rest].mean(0) + self.mean[rest].var(0)
        return (self.mean[one] - self.mean[rest].mean(0)) / np.sqrt(0.5 * (self.variance[one] + pooled) + self._noise)

    def nearest(self, one: int, count: int) -> list[int]:
        """The classes that differ least, nearest first."""
        others = [other for other in self.known.tolist() if other != one]
        return sorted(others, key=lambda other: float(np.square(self.against(one, other)).mean()))[:count]

    def of_joint(self, one: int, joint: int) -> dict[str, float]:
        """Mean features of a joint in a class."""
        width = len(JOINT_FEATURES)
        return dict(zip(JOINT_FEATURES, self.mean[one, joint * width : (joint + 1) * width].tolist(), strict=True))

    def of_body(self, one: int) -> dict[str, float]:
        return dict(zip(BODY_FEATURES, self.mean[one, -len(BODY_FEATURES) :].tolist(), strict=True))

    def joint_table(self, attributes: np.ndarray) -> np.ndarray:
        """The joint part `[V, 17]` of a row of attributes `[A]`."""
        return attributes[: -len(BODY_FEATURES)].reshape(-1, len(JOINT_FEATURES))


def measure(
    store: SkeletonStore, train_split: str, progress: Callable[[int, int], None] | None = None
) -> ClassStatistics:
    """Read at most `CLIPS_PER_CLASS` clips per class of a split, evenly chosen, and measure them; `progress(done,
    total)` counts classes.

    Raises `DataError` where none of them holds a joint.
    """
    anatomy = Anatomy(store.layout)
    numbers = store.splits[train_split]
    labels = store.labels[numbers]
    chosen = []
    for label in range(len(store.classes)):
        mine = numbers[labels == label]
        chosen.append(mine[np.linspace(0, len(mine) - 1, min(len(mine), CLIPS_PER_CLASS)).astype(int)])
    width = store.layout.num_joints * len(JOINT_FEATURES) + len(BODY_FEATURES)
    mean, variance = np.full((2, len(chosen), width), np.nan)
    right, counts = np.ones((len(chosen), len(anatomy.limbs))), np.zeros(len(chosen), int)
    everyone = np.concatenate(chosen)
    viewpoint = Viewpoint(store, anatomy, everyone, per_second=True) if len(everyone) else None
    for label, clips in enumerate(chosen):
        if progress is not None:
            progress(label, len(chosen))
        if (motion := viewpoint.motion(clips) if viewpoint is not None and len(clips) else None) is None:
            continue
        rows, right_busy = attributes(motion, anatomy)
        masked = np.ma.masked_invalid(rows)
        mean[label], variance[label] = masked.mean(0).filled(np.nan), masked.var(0).filled(np.nan)
        right[label], counts[label] = right_busy.mean(0), len(rows)
    if not counts.any():
        raise DataError(
            f"{store.path} has no joint other than 0 in any clip of split {train_split}: `skag check` says more; "
            "convert the recordings again."
        )
    for values in (mean, variance):  # what a class never shows does not set it apart: as the others on average
        values[:] = np.where(np.isnan(values), np.ma.masked_invalid(values).mean(0).filled(0.0), values)
    per_second = viewpoint is not None and viewpoint.rates is not None
    return ClassStatistics(anatomy, counts, mean, variance, right, per_second, _landmarks(anatomy, mean[counts > 0]))


def _landmarks(anatomy: Anatomy, mean: np.ndarray) -> dict[str, float]:
    """Usual heights of body parts: the median over classes of how high they get."""
    top = JOINT_FEATURES.index("top")
    tops = mean[:, : -len(BODY_FEATURES)].reshape(len(mean), -1, len(JOINT_FEATURES))[..., top]
    words = {"knee": ("knee",), "waist": ("hip", "pelvis"), "shoulder": ("shoulder",), "head": ("head", "nose")}
    found = {name: anatomy.named(*named) for name, named in words.items()}
    return {name: float(np.median(tops[:, joints])) for name, joints in found.items() if len(joints) and len(tops)}


# ---- critical joints


def critical_joints(statistics: ClassStatistics) -> dict[int, list[int]]:
    """3 to 8 critical joints per class, most critical first: those that move and that set the class apart.

    Neighbours of a joint already taken count less. Sets differ by two joints or more where that can be had, since
    the constraint branch cannot separate classes with equal sets and hardly those with nearly equal ones.
    """
    chosen: dict[int, list[int]] = {}
    for one in statistics.known.tolist():
        score = _joint_scores(statistics, one)
        ranked = _spread_out(score, statistics.anatomy.layout)
        wanted = int(np.clip((score[ranked] >= 0.5 * score.max()).sum(), 3, 8))
        chosen[one] = _own_set(ranked, min(wanted, len(ranked)), [set(joints) for joints in chosen.values()])
    return chosen


def _own_set(ranked: list[int], wanted: int, taken: list[set[int]]) -> list[int]:
    """The best `wanted` joints, or the nearest variation that no other class has."""
    best, further = ranked[:wanted], ranked[wanted:]
    variations = [best]
    variations += [[*best, joint] for joint in further if wanted < 8]
    variations += [[*best[:-1], joint] for joint in further]
    variations += [[*best[:-2], *pair] for pair in itertools.combinations(further, 2)]
    variations += [best[:i] + best[i + 1 :] for i in reversed(range(wanted)) if wanted > 3]
    for apart in (2, 1):
        for joints in variations:
            if all(len(set(joints) ^ other) >= apart for other in taken):
                return joints
    return best


def _joint_scores(statistics: ClassStatistics, one: int) -> np.ndarray:
    """`[V]` how critical each joint is for a class.

    The root of how far a joint moves, times the size of its largest differences (the mean of the four largest |d|)
    against all other classes and, counting double, against the two nearest ones; raised where the joint moves more
    than in those, lowered where it moves less.
    """
    rest = statistics.joint_table(statistics.against_rest(one))
    score, more = _largest(rest), rest[:, 0]
    near = [statistics.joint_table(statistics.against(one, other)) for other in statistics.nearest(one, 2)]
    if near:
        score = score + 2 * np.mean([_largest(table) for table in near], axis=0)
        more = more + np.mean([table[:, 0] for table in near], axis=0)
    moved = np.maximum(statistics.joint_table(statistics.mean[one])[:, 0], 0)
    score = np.sqrt(moved / max(moved.max(), 1e-9)) * score * np.exp(0.3 * np.clip(more, -3, 3)) + 1e-9 * moved
    real = score.copy()
    for limb, right in zip(statistics.anatomy.limbs, statistics.right[one], strict=True):
        # The busier limb stands in the right one's place: give its score to the sides that act.
        busy, idle = score[limb[:, 1]], score[limb[:, 0]]
        real[limb[:, 1]] = right * busy + (1 - right) * idle
        real[limb[:, 0]] = right * idle + (1 - right) * busy
    return real


def _largest(table: np.ndarray) -> np.ndarray:
    return np.sort(np.abs(table), axis=1)[:, -4:].mean(1)


def _spread_out(score: np.ndarray, layout: Layout) -> list[int]:
    """All joints, best first, where each bone away from a joint taken earlier lowers the loss of score."""
    parents = np.array([layout.index[layout.bones.get(joint, joint)] for joint in layout.joints])
    left, ranked = score.copy(), []
    for _ in range(len(score)):
        best = int(np.argmax(left))
        ranked.append(best)
        left[best] = -1.0
        neighbours = np.flatnonzero((parents == best) | (np.arange(len(score)) == parents[best]))
        left[neighbours] *= np.where(left[neighbours] > 0, 0.75, 1.0)
    return ranked
