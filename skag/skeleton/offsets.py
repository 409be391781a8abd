"""Joints written as offsets from their parent joint instead of places, as motion capture stores them."""

from __future__ import annotations

import numpy as np

from .layouts import Layout

_FEWEST_FRAMES = 10
_CONSTANT = 0.02  # of a joint's distance from the origin: a bone keeps its length
_LESS_CONSTANT = 0.01  # the least by which distances between neighbours vary more, where joints are offsets
_NEARLY = 0.1  # of it, where a sensor measures bones anew in every frame
_AROUND_ORIGIN = 0.7  # of the joints' distance: offsets point all ways, a body beside the origin lies on one side
_SAME_PLACE = 0.2  # of their length: the left and the right thigh, seen as offsets
_FEWEST_JOINTS = 8  # whose distances from the origin can be compared with the bones from the root to them
_STEADY, _MOST = 0.2, 0.7  # of its mean, the deviation of a length that keeps itself; of the joints
_ABOUT = 1.5  # times the joints' spread, within which their middle lies about the origin
_FARTHER = 0.4  # rank correlation of distance from the origin and from the root, above which they are places


def clip_of_offsets(keypoints: np.ndarray, layout: Layout, frames: int = 64) -> bool:
    """Whether the first body of a clip `[M, T, V, C]` looks so, by evenly chosen frames."""
    length = keypoints.shape[1]
    chosen = np.unique(np.linspace(0, length - 1, min(length, frames)).round().astype(int))
    body = np.asarray(keypoints[0, chosen], np.float64)
    there = (body != 0).any(axis=-1)
    return bool(there.any()) and look_like_offsets(body[there.any(axis=1)], there[there.any(axis=1)], layout)


def look_like_offsets(body: np.ndarray, there: np.ndarray, layout: Layout) -> bool:
    """Whether the joints of a 3-D body `[T, V, 3]`, where they are `there` `[T, V]`, hug the origin and keep their
    distance from it (the length of a bone), which joints of a real body far from its root do not.

    In the axes of the body's parts (angles elsewhere) they hardly move at all: left and right leg then lie on each
    other, as no real legs do. Offsets of bones whose lengths a sensor measures anew are known by the ends of limbs,
    which are no farther from the origin than their beginnings.
    """
    if len(body) < _FEWEST_FRAMES:
        return False
    if _no_farther_at_the_ends(body, there, layout):
        return True
    parent = np.array([layout.index[layout.bones.get(joint, joint)] for joint in layout.joints])
    root = layout.index[layout.root]
    own = (np.arange(len(parent)) != root) & (parent != root) & there.all(axis=0) & there[:, parent].all(axis=0)
    lengths = np.linalg.norm(body, axis=-1)  # T V
    own &= lengths.mean(axis=0) > 1e-3 * lengths.max(initial=0.0)
    if own.sum() < 4:
        return False
    mean = lengths[:, own].mean(axis=0)
    if np.linalg.norm(body[:, own].mean(axis=(0, 1))) > _AROUND_ORIGIN * mean.mean():
        return False
    varies = float(np.median(lengths[:, own].std(axis=0) / mean))
    if varies <= _NEARLY and _legs_on_each_other(body, own, layout):
        return True
    if varies > _CONSTANT:
        return False
    between = np.linalg.norm(body - body[:, parent], axis=-1)[:, own]
    bones_vary = float(np.median(between.std(axis=0) / np.maximum(between.mean(axis=0), 1e-9)))
    return bones_vary > 3 * varies + _LESS_CONSTANT


def _legs_on_each_other(body: np.ndarray, own: np.ndarray, layout: Layout) -> bool:
    left = [v for name, part in layout.part_index.items() if name == "left leg" for v in part if own[v]]
    pairs = [(v, layout.mirror_index[v]) for v in left if layout.mirror_index[v] != v and own[layout.mirror_index[v]]]
    if not pairs:
        return False
    apart = [np.linalg.norm(body[:, v] - body[:, w], axis=-1).mean() for v, w in pairs]
    length = [np.linalg.norm(body[:, v], axis=-1).mean() for v, _ in pairs]
    return float(np.median(np.array(apart) / np.maximum(length, 1e-9))) < _SAME_PLACE


def _no_farther_at_the_ends(body: np.ndarray, there: np.ndarray, layout: Layout) -> bool:
    """Whether joints lie about the origin, keep their distance from it, and those many bones away from the root are not
    farther than those beside it."""
    children = np.array([layout.index[joint] for joint in layout.joints if joint in layout.bones], int)
    children = children[there[:, children].all(axis=0)]
    if len(children) < _FEWEST_JOINTS:
        return False
    lengths = np.linalg.norm(body[:, children], axis=-1)  # T V
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
    one, other = (np.array([(x < y).sum() + ((x == y).sum() - 1) / 2 for y in x]) for x in (a, b))
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
