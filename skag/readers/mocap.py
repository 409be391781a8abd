"""What the readers of motion capture share: a skeleton out of a file's own tree, its layout, and clips of its joints.

A motion capture file brings its skeleton with it. Without `--layout` the layout is made of the first file's tree; with
one, its joints are found by name. The names that animation tools give are put into the field's words: what they call
LeftUpLeg is the left hip, LeftForeArm the left elbow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..skeleton.layouts import Layout
from ..skeleton.store import Clip
from .archives import Files, Member, printable
from .joints import key, places, words
from .labels import Catalogue
from .source import NoneUsable, Options, Skipped, Source, Unusable

MAX_JOINTS, MAX_FRAMES = 1000, 500_000
_ANIMATION = {  # joints as animation tools call them: after the bone that begins there
    "up leg": "hip", "leg": "knee", "foot": "ankle", "toe base": "toes", "toe": "toes", "shoulder": "collar",
    "arm": "shoulder", "fore arm": "elbow", "hand": "wrist",
}  # fmt: skip
_LEG = {"hip", "leg", "knee", "ankle", "foot", "toe", "toes", "heel", "thigh", "shin", "calf", "femur", "tibia"}
_ARM = {"collar", "shoulder", "arm", "elbow", "wrist", "hand", "finger", "fingers", "thumb", "knuckles", "clavicle"}


@dataclass(frozen=True)
class Motion:
    """The joints of one recording over time, metres or what the file says."""

    names: tuple[str, ...]
    parents: tuple[int, ...]  # -1 for the root; () where the file knows no tree
    points: np.ndarray  # float32 [T, V, 3], 0 where a joint was not seen
    rate: float | None = None  # frames a second, where the file says


def read(
    files: Files, options: Options, paths: list[str], motions: Callable[[], Iterator[tuple[str, Motion | Unusable]]],
    format_name: str,
) -> Source:  # fmt: skip
    """A source of the recordings `paths`; `motions()` begins to go through them anew. Raises `DataError`."""
    layout, notes = options.layout, []
    if layout is None:
        problems: list[tuple[str, Unusable]] = []
        for path, motion in motions():
            if isinstance(motion, Motion):
                layout = layout_of(motion, format_name)
                break
            problems.append((path, motion))
        else:
            raise NoneUsable(files, problems, "recording")
        notes.append(f"The layout is made of the skeleton in the files: {layout.num_joints} joints.")
    catalogue = Catalogue(paths, files, options)
    catalogue.notes.extend(notes)
    clips = _clips(motions(), layout, catalogue)
    return catalogue.source(layout, clips, len(paths))


def _clips(
    motions: Iterator[tuple[str, Motion | Unusable]], layout: Layout, catalogue: Catalogue
) -> Iterator[Clip | Skipped]:
    for path, motion in motions:
        name = catalogue.name(path)
        try:
            if isinstance(motion, Unusable):
                raise motion
            points = motion.points[:, places(layout, motion.names)][..., : layout.dims]
            label, facts = catalogue.facts(path)
        except Unusable as unusable:
            yield Skipped(name, str(unusable))
            continue
        yield Clip(
            name,
            label,
            points[None],
            subject=facts.subject,
            camera=facts.camera,
            splits=facts.splits,
            frame_rate=motion.rate,
        )


def field_names(names: list[str]) -> list[str]:
    """The names of a file's joints in the field's words: "LeftUpLeg" or "mixamorig:LeftUpLeg" is the left hip, where
    the file has such names; "lfemur" beside "rfemur" is the left femur."""
    plain = [name.rpartition(":")[2] for name in names]
    known = set(plain)
    told = []
    for name in plain:
        rest = name[1:]
        pair = (
            len(name) > 2 and name[0] in "lrLR" and {f"{side}{rest}" for side in ("lr" if name[0].islower() else "LR")}
        )
        if pair and pair <= known and words(name)[0] not in ("left", "right"):
            told.append(" ".join(["left" if name[0] in "lL" else "right", *(words(rest) or [rest])]))
        else:
            found = words(name)
            side = next((word for word in found if word in ("left", "right")), None)
            told.append(" ".join([side, *(w for w in found if w != side)] if side else found) or name)
    if {"left up leg", "left fore arm"} <= set(told):
        told = [_in_field_words(name) for name in told]
    return told if len(set(told)) == len(told) else names


def _in_field_words(name: str) -> str:
    side, _, joint = name.removesuffix(" end").partition(" ")
    end = " end" if name.endswith(" end") else ""
    return f"{side} {_ANIMATION[joint]}{end}" if side in ("left", "right") and joint in _ANIMATION else name


def layout_of(motion: Motion, name: str) -> Layout:
    """The layout of a file's own skeleton. Raises `DataError` where it has no tree."""
    if not motion.parents:
        markers = printable(", ".join(motion.names), 300)
        raise DataError(
            f"these recordings hold {len(motion.names)} markers and no skeleton ({markers}): list those you want, by "
            "name, in a layout file with their bones, and give it with --layout FILE.toml (docs/formats.md)."
        )
    names, parents = motion.names, motion.parents
    if len(set(map(key, names))) != len(names):
        raise DataError("two joints of the file have the same name: rename one.")
    root = parents.index(-1)
    part = ["trunk"] * len(names)
    for joint, parent in enumerate(parents):  # parents come before their children
        found, side = set(words(names[joint])), names[joint].split(" ")[0]
        inherited = part[parent] if parent >= 0 else "trunk"
        limb = "leg" if found & _LEG else "arm" if found & _ARM else ""
        part[joint] = f"{side} {limb}" if side in ("left", "right") and limb and inherited == "trunk" else inherited
    return Layout(
        name=name,
        dims=3,
        joints=names,
        bones={names[joint]: names[parent] for joint, parent in enumerate(parents) if parent >= 0},
        centre=names[root],
        parts={one: tuple(names[v] for v in range(len(names)) if part[v] == one) for one in dict.fromkeys(part)},
        up="y",
    )


def rotations(angles: np.ndarray, order: str) -> np.ndarray:
    """`[T, 3, 3]` rotations by `angles` `[T, n]` in degrees about the axes `order`, multiplied in that order."""
    total = np.broadcast_to(np.eye(3), (len(angles), 3, 3))
    for column, axis in enumerate(order):
        total = total @ _about(axis, np.deg2rad(angles[:, column]))
    return total


def _about(axis: str, angle: np.ndarray) -> np.ndarray:
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    turn = np.zeros((len(angle), 3, 3))
    turn[:, "xyz".index(axis), "xyz".index(axis)] = 1
    turn[:, first, first] = turn[:, second, second] = np.cos(angle)
    turn[:, second, first] = np.sin(angle)
    turn[:, first, second] = -turn[:, second, first]
    return turn


def lines_of(member: Member, longest: int) -> Iterator[tuple[int, list[str]]]:
    """Number and words of every line of a text file that has any. Raises `Unusable`."""
    from .source import content

    for number, line in enumerate(content(member, longest).decode("latin-1").splitlines(), 1):
        if cells := line.split():
            yield number, cells


def numbers(cells: list[str], line: int) -> list[float]:
    """Cells as numbers. Raises `Unusable`."""
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        raise Unusable(f"has something other than numbers on line {line}") from None
