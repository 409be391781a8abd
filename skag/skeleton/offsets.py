"""Whether the places of joints are offsets from the joint before them, as some motion capture exports write.

Such numbers look like a body: they are of the right size, and finite. But all but the root's keep their length, however
the person moves; they lie about the origin; and a joint at the end of a limb is no farther from there than the first.
"""

from __future__ import annotations

import numpy as np

from .layouts import Layout

_FEWEST_JOINTS, _FEWEST_FRAMES = 8, 5
_STEADY = 0.2  # of its mean, the deviation of a length that keeps itself
_MOST = 0.7  # of the joints
_ABOUT = 1.5  # times the joints' spread, within which their middle lies about the origin
_FARTHER = 0.4  # rank correlation of distance from the origin and from the root, above which they are places


def are_offsets(body: np.ndarray, there: np.ndarray, layout: Layout) -> bool:
    """Whether the places of a 3-D body `[T, V, 3]`, of joints that are `there` `[T, V]`, are offsets."""
    children = np.array([layout.index[joint] for joint in layout.joints if joint in layout.bones])
    children = children[there[:, children].all(axis=0)] if len(children) else children
    if layout.dims != 3 or len(children) < _FEWEST_JOINTS or len(body) < _FEWEST_FRAMES:
        return False
    lengths = np.linalg.norm(body[:, children], axis=-1)  # [T, V]
    mean = lengths.mean(axis=0)
    if (lengths.std(axis=0) <= _STEADY * mean).mean() < _MOST:
        return False
    points = body[:, children].mean(axis=0)
    middle = points.mean(axis=0)
    spread = np.sqrt(((points - middle) ** 2).sum(axis=-1).mean())
    if np.linalg.norm(middle) > _ABOUT * spread:
        return False
    depth = np.array([_depth(layout.joints[v], layout) for v in children])
    return _rank_correlation(depth, mean) < _FARTHER


def _depth(joint: str, layout: Layout) -> int:
    """How many bones a joint is from the root."""
    steps = 0
    while joint in layout.bones:
        joint, steps = layout.bones[joint], steps + 1
    return steps


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, of equal values the mean rank; 0 where one of them does not vary."""
    ranks = [np.array([(x < y).sum() + ((x == y).sum() - 1) / 2 for y in x]) for x in (a, b)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
