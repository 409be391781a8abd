"""A pose of each class, to draw on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..skeleton.store import SkeletonStore

_POSES = 24  # frames of a class to choose one from


def typical_poses(store: SkeletonStore, numbers: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """`[len(labels), V, C]` a pose of each class, from its first clips among `numbers`: the frame in which the joints
    hide one another least, seen from the sensor. NaN where there is none."""
    layout = store.layout
    axis, _ = layout.up_axis
    plane = [1 if axis == 0 else 0, axis]
    poses = np.full((len(labels), layout.num_joints, layout.dims), np.nan)
    for row, label in enumerate(labels):
        candidates = []
        for number in [n for n in numbers if store.labels[n] == label][:3]:
            body = store.keypoints(int(number))[0].astype(float)
            body[~body.any(axis=-1)] = np.nan  # all zeros: not seen
            step = max(1, len(body) * 3 // _POSES)
            candidates += list(body[::step])
        if candidates:
            poses[row] = max(candidates, key=lambda pose: _clearness(pose[:, plane]))
    return poses


def _clearness(points_V2: np.ndarray) -> float:
    """Mean distance of the joints to their nearest, in heights of the drawing; fewer joints are less clear."""
    there = np.isfinite(points_V2).all(axis=1)
    points = points_V2[there]
    if len(points) < 2:
        return -1.0
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return float(apart.min(axis=1).mean() / max(float(np.ptp(points, axis=0).max()), 1e-9) * there.mean())
