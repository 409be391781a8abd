"""The text of Kinect v2 recordings, as NTU RGB+D and UAV-Human write it (`read_skeleton_file.m` of NTU RGB+D).

number of frames
per frame: number of bodies
    per body: tracking id and nine further values
              number of joints
              per joint: x y z, and nine further values (places in images, orientation, tracking state)
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np

from .source import Unusable
from .text import MAX_LINE

MAX_BODIES_PER_FRAME = 100


def read_frames(data: bytes, num_joints: int) -> Iterator[list[tuple[bytes, np.ndarray]]]:
    """The bodies of every frame: (tracking id, float32 `[num_joints, 3]`). Raises `Unusable`."""
    lines = _Lines(data)
    for _ in range(lines.count("frames", 1 << 31)):
        bodies = []
        for _ in range(lines.count("bodies", MAX_BODIES_PER_FRAME)):
            identity = lines.next().split(None, 1)
            if not identity:
                raise Unusable(f"has no tracking id on line {lines.number}")
            joints = lines.count("joints", 1 << 31)
            if joints != num_joints:
                raise Unusable(f"has a body of {joints} joints on line {lines.number}, not {num_joints}")
            bodies.append((identity[0], lines.joints(num_joints)))
        yield bodies


class _Lines:
    def __init__(self, data: bytes) -> None:
        self._file, self.number = io.BytesIO(data), 0

    def next(self) -> bytes:
        line = self._file.readline()
        self.number += 1
        if not line:
            raise Unusable(f"ends on line {self.number}, within a frame")
        if len(line) > MAX_LINE:
            raise Unusable(f"has a line {self.number} of more than {MAX_LINE >> 10} KiB")
        return line

    def count(self, what: str, most: int) -> int:
        line = self.next().strip()
        if not line.isdigit() or len(line) > 10 or int(line) > most:
            raise Unusable(f"has no number of {what} on line {self.number}")
        return int(line)

    def joints(self, count: int) -> np.ndarray:
        start = self.number + 1
        cells = [self.next().split(None, 3)[:3] for _ in range(count)]
        try:
            return np.array(cells, np.float64).reshape(count, 3).astype(np.float32)
        except ValueError:
            raise Unusable(
                f"has something other than x, y and z on one of the lines {start} to {self.number}"
            ) from None
