"""Biovision hierarchy files (`.bvh`): a skeleton and its motion in one file, as animation and capture tools write them.

`HIERARCHY` lists the joints with their offsets from the one above and the channels that move them; `MOTION` has a line
of numbers per frame, all channels in that order. A joint's rotations multiply in the order of its channels. The root's
places are added to its offset; where another joint has places too, they are its offset anew if they are close to it,
and added otherwise (both are written). Ends of the last bones (`End Site`) are joints called "... end". Lengths stay in
the file's unit, of which the format says nothing (`skag check` names the likely one); y points up by custom.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from . import mocap
from .archives import MAX_MEMBER, Files, Member, printable
from .mocap import Motion
from .source import Options, Source, Unusable

_CLOSE = 0.1  # of an offset, within which places stand for it


@dataclass
class _Joint:
    name: str
    parent: int
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    channels: tuple[str, ...] = ()


def recognises(files: Files) -> bool:
    """Whether there is a BVH file."""
    return any(map(_is_bvh, files.names))


def paths(files: Files) -> list[str]:
    """The BVH files."""
    return list(filter(_is_bvh, files.names))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names."""
    return mocap.read(files, options, paths(files), lambda: _motions(files), "bvh")


def _is_bvh(name: str) -> bool:
    return name.lower().endswith(".bvh")


def _motions(files: Files) -> Iterator[tuple[str, Motion | Unusable]]:
    for member in files.read(_is_bvh, later=True):
        try:
            yield member.name, motion(member)
        except Unusable as unusable:
            yield member.name, unusable


def motion(member: Member) -> Motion:
    """All joints over the frames of a BVH file. Raises `Unusable`."""
    lines = mocap.lines_of(member, MAX_MEMBER)
    joints = _hierarchy(lines)
    wide = sum(len(joint.channels) for joint in joints)
    values, rate = _values(lines, wide)
    turn, point = [], []
    at = 0
    for joint in joints:
        given = values[:, at : at + len(joint.channels)]
        at += len(joint.channels)
        moved = _offset(joint, given)
        order = [(place, name[0]) for place, name in enumerate(joint.channels) if name.endswith("rotation")]
        own = mocap.rotations(given[:, [place for place, _ in order]], "".join(axis for _, axis in order))
        if joint.parent < 0:
            turn.append(own)
            point.append(moved)
        else:
            turn.append(turn[joint.parent] @ own)
            point.append(point[joint.parent] + np.einsum("tij,tj->ti", turn[joint.parent], moved))
    names = mocap.field_names([joint.name for joint in joints])
    parents = tuple(joint.parent for joint in joints)
    return Motion(tuple(names), parents, np.stack(point, 1).astype(np.float32), rate)


def _offset(joint: _Joint, given: np.ndarray) -> np.ndarray:
    """`[T, 3]` from the joint above to this one, in the space of the one above."""
    moved = np.zeros((len(given), 3))
    places = [place for place, name in enumerate(joint.channels) if name.endswith("position")]
    for place in places:
        moved[:, "xyz".index(joint.channels[place][0])] = given[:, place]
    size = np.linalg.norm(joint.offset)
    if (
        joint.parent >= 0
        and len(places) == 3
        and np.abs(np.median(moved, axis=0) - joint.offset).max() <= _CLOSE * size
    ):
        return moved
    return joint.offset + moved


def _hierarchy(lines: Iterator[tuple[int, list[str]]]) -> list[_Joint]:
    """The joints, each behind the one above it. Raises `Unusable`."""
    joints: list[_Joint] = []
    above: list[int] = []
    for line, cells in lines:
        word = cells[0].upper()
        if word == "MOTION":
            break
        if word in ("ROOT", "JOINT", "END"):
            if (word == "ROOT") == bool(joints) or len(joints) >= mocap.MAX_JOINTS:
                raise Unusable(f"has a second skeleton, or none, on line {line}" if joints else "begins without a root")
            parent = above[-1] if above else -1
            name = f"{joints[parent].name} end" if word == "END" else " ".join(cells[1:]) or f"joint {len(joints)}"
            joints.append(_Joint(printable(name, 60), parent))
        elif word == "{":
            above.append(len(joints) - 1)
        elif word == "}":
            if not above:
                raise Unusable(f"closes a joint on line {line} that is not open")
            above.pop()
        elif word == "OFFSET" and joints:
            offset = mocap.numbers(cells[1:4], line)
            if len(offset) != 3:
                raise Unusable(f"has an offset of other than three numbers on line {line}")
            joints[-1].offset = np.array(offset)
        elif word == "CHANNELS" and joints:
            joints[-1].channels = tuple(cell.lower() for cell in cells[2:])
            if any(name[0] not in "xyz" or name[1:] not in ("rotation", "position") for name in joints[-1].channels):
                raise Unusable(f"has channels on line {line} that are neither rotations nor positions")
    if not joints or above:
        raise Unusable("has no whole HIERARCHY: it is no BVH file, or cut off")
    return joints


def _values(lines: Iterator[tuple[int, list[str]]], wide: int) -> tuple[np.ndarray, float | None]:
    """`[T, channels]` and the frames a second. Raises `Unusable`."""
    rows: list[np.ndarray] = []
    rate = None
    for line, cells in lines:
        if cells[0].lower() == "frames:":
            continue
        if [cell.lower() for cell in cells[:2]] == ["frame", "time:"]:
            seconds = mocap.numbers(cells[2:3], line)
            rate = 1 / seconds[0] if seconds and seconds[0] > 0 else None
            continue
        if len(cells) != wide:
            raise Unusable(f"has {len(cells)} numbers on line {line}, and its channels are {wide}")
        rows.append(np.array(mocap.numbers(cells, line)))
        if len(rows) > mocap.MAX_FRAMES:
            raise Unusable(f"has more than {mocap.MAX_FRAMES} frames")
    if not rows:
        raise Unusable("has no frames")
    return np.stack(rows), rate
