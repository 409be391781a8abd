"""Which of the bodies in a recording are the people who act, and which detections are one person."""

from __future__ import annotations

import numpy as np


def by_place(frames: list[list[np.ndarray]]) -> np.ndarray:
    """`[M, T, V, C]` of frames with lists of bodies `[V, C]`: the n-th of a frame is body n, 0 where there is none."""
    keypoints = np.zeros((max(map(len, frames)), len(frames), *frames[0][0].shape), np.float32)
    for t, bodies in enumerate(frames):
        keypoints[: len(bodies), t] = bodies
    return keypoints


def busiest(keypoints: np.ndarray, count: int) -> np.ndarray:
    """The `count` bodies of `[M, T, V, C]` whose joints vary most, in that order.

    Variation is the standard deviation over frames and joints, summed over the coordinates, of the frames in which
    the body is there: the rule of the published tools of UAV-Human and Toyota Smarthome.
    """
    order = np.argsort([-_spread(body) for body in keypoints], kind="stable")
    return keypoints[order[:count]]


def _spread(body: np.ndarray) -> float:
    there = body[body.sum(axis=(1, 2)) != 0]
    return float(there.std(axis=(0, 1)).sum()) if len(there) else 0.0
