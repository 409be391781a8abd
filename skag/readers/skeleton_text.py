"""The text of Kinect v2 recordings, as NTU RGB+D and UAV-Human write it (`read_skeleton_file.m` of NTU RGB+D).

number of frames
per frame: number of bodies
    per body: tracking id and nine further values
              number of joints
              per joint: x y z, and nine further values (places in images, orientation, tracking state)
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator

import numpy as np

from .source import Unusable
from .text import MAX_LINE

MAX_BODIES_PER_FRAME = 100
SHORTEST_JOINT = 23  # characters of twelve values: a line is then longer than the three of them that are kept


def read_frames(data: bytes, num_joints: int) -> Iterator[list[tuple[bytes, array]]]:
    """The bodies of every frame: (tracking id, float32 x, y, z of joint after joint). Raises `Unusable`."""
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


def as_joints(values: array) -> np.ndarray:
    """What `read_frames` brings, of one or several frames of V joints, as `[..., 3]` without a copy."""
    return np.frombuffer(values, np.float32).reshape(-1, 3)


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

    def joints(self, count: int) -> array:
        start = self.number + 1
        values = array("f")
        try:
            for _ in range(count):
                line = self.next()
                x, y, z = line.split(None, 3)[:3]
                if len(line) < SHORTEST_JOINT:
                    raise Unusable(f"has a joint without its twelve values on line {self.number}")
                values.extend((float(x), float(y), float(z)))
        except ValueError:
            raise Unusable(
                f"has something other than x, y and z on one of the lines {start} to {start + count - 1}"
            ) from None
        return values
