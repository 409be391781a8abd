"""Which of the bodies in a recording are the people who act."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Body:
    """The n-th body of the frames in which there are so many."""

    frames: np.ndarray  # [n] their numbers
    joints: np.ndarray  # float32 [n, V, C]


def by_place(frames: Iterable[list[np.ndarray]], shape: tuple[int, int], most: int) -> tuple[list[Body], int]:
    """The first `most` bodies of frames with lists of bodies `shape` (V, C), and the number of frames.

    The n-th of a frame is body n. Frames without a body count too.
    """
    numbers, joints = [array("q") for _ in range(most)], [array("f") for _ in range(most)]
    count = 0
    for frame in frames:
        for place, body in enumerate(frame[:most]):
            numbers[place].append(count)
            joints[place].frombytes(np.asarray(body, np.float32).tobytes())
        count += 1
    found = [
        Body(np.frombuffer(number, np.int64), np.frombuffer(body, np.float32).reshape(-1, *shape))
        for number, body in zip(numbers, joints, strict=True)
        if number
    ]
    return found, count


def busiest(bodies: list[Body], frames: int, count: int) -> np.ndarray:
    """The `count` bodies whose joints vary most, in that order, `[M, T, V, C]`, 0 where one is not there.

    Variation is the standard deviation over frames and joints, summed over the coordinates, of the frames in which
    the body is there: the rule of the published tools of UAV-Human and Toyota Smarthome.
    """
    chosen = sorted(bodies, key=lambda body: -_spread(body.joints))[:count]
    if len(chosen) == 1 and len(chosen[0].frames) == frames:
        return chosen[0].joints[None]
    keypoints = np.zeros((len(chosen), frames, *bodies[0].joints.shape[1:]), np.float32)
    for place, body in enumerate(chosen):
        keypoints[place, body.frames] = body.joints
    return keypoints


def _spread(joints: np.ndarray) -> float:
    there = joints.sum(axis=(1, 2)) != 0
    seen = joints if there.all() else joints[there]
    return sum(float(seen[..., axis].std()) for axis in range(seen.shape[-1])) if len(seen) else 0.0
