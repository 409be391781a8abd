"""Acclaim motion capture, as the CMU database and HDM05 publish it: a skeleton `.asf` and motions `.amc`.

Source: the format's description by Lander (1998), and CMU's own page on it. A bone of the ASF has a direction, a length
and an axis, all in the space of the root; a line of the AMC turns it about the axes that it may turn about (`dof`).
With C the rotation of its axis and M that of the frame, a bone turns by the one before it times C M C^-1, and its end
lies a length further in its direction. Angles of `XYZ` turn about x first, then y, then z, about fixed axes.

Lengths are inches divided by the file's unit of length; points become metres. A recording takes the ASF whose name it
begins with (`HDM_mm.asf` for `HDM_mm_walk.amc`) or the only one in its folder or above. The joints are named after what
ends there: the femur ends at the knee.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np

from . import mocap
from .archives import MAX_MEMBER, Files, Member, printable
from .label_tables import find_labels
from .mocap import Motion
from .name_patterns import name_pattern
from .source import Options, Source, Unusable

INCH = 0.0254  # metres
_ENDS = {  # of bones whose ends have a name in the field
    "hipjoint": "hip", "femur": "knee", "tibia": "ankle", "foot": "foot", "toes": "toes", "clavicle": "shoulder",
    "humerus": "elbow", "radius": "wrist", "wrist": "hand", "hand": "knuckles", "fingers": "fingers", "thumb": "thumb",
}  # fmt: skip
_HDM05 = "HDM_{subject}_{label}_{take}_{rate}"  # how that data set calls its files
_HDM05_NAME = re.compile(r"HDM_[a-z]+_[A-Za-z][^_/]*_[0-9]+_([1-9][0-9]{1,3})\.amc", re.IGNORECASE)
_DOFS = {"rx": "x", "ry": "y", "rz": "z"}


@dataclass
class Bone:
    """A bone of an ASF file; `offset` leads from its start to its end."""

    name: str = ""
    direction: np.ndarray = field(default_factory=lambda: np.zeros(3))
    length: float = 0.0
    axis: np.ndarray = field(default_factory=lambda: np.eye(3))
    dof: tuple[str, ...] = ()


@dataclass
class Skeleton:
    """An ASF file: the root first, every bone behind the one that it hangs on."""

    bones: dict[str, Bone]
    parents: dict[str, str]
    order: list[str]
    unit: float  # metres of one unit of its lengths
    position: np.ndarray
    root_order: tuple[str, ...]


def recognises(files: Files) -> bool:
    """Whether there is an AMC file."""
    return any(map(_is_amc, files.names))


def paths(files: Files) -> list[str]:
    """The AMC files."""
    return list(filter(_is_amc, files.names))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names. Those of HDM05 say in their names who does what, and at which rate."""
    found = paths(files)
    if options.labels is None and options.pattern is None and not options.to_predict and all(map(_named, found)):
        folders = {PurePosixPath(path).parent for path in found}
        own = len(folders) == 1 and options.classes_from is None and find_labels(files) is None
        options = replace(options, pattern=name_pattern(_HDM05 if own else _HDM05.replace("{label}", "*")))
    return mocap.read(files, options, found, lambda: _motions(files), "asf-amc")


def _named(path: str) -> re.Match[str] | None:
    return _HDM05_NAME.fullmatch(PurePosixPath(path).name)


def _is_amc(name: str) -> bool:
    return name.lower().endswith(".amc")


def _motions(files: Files) -> Iterator[tuple[str, Motion | Unusable]]:
    skeletons: dict[str, Skeleton | Unusable] = {}
    for member in files.read(lambda name: name.lower().endswith(".asf")):
        try:
            skeletons[member.name] = read_asf(member)
        except Unusable as unusable:
            skeletons[member.name] = unusable
    for member in files.read(_is_amc, later=True):
        try:
            name = _asf_of(member.name, list(skeletons))
            found = skeletons[name]
            if isinstance(found, Unusable):
                raise Unusable(f"has the skeleton {printable(name, 60)}, which {found}")
            made, hdm05 = motion(found, member), _named(member.name)
            yield member.name, made if hdm05 is None else replace(made, rate=float(hdm05[1]))
        except Unusable as unusable:
            yield member.name, unusable


def _asf_of(name: str, skeletons: list[str]) -> str:
    """The ASF file of a recording. Raises `Unusable` where that is not clear."""
    path = PurePosixPath(name)
    begins = [one for one in skeletons if path.stem.startswith(PurePosixPath(one).stem)]
    if begins:
        return max(begins, key=lambda one: (PurePosixPath(one).parent == path.parent, len(PurePosixPath(one).stem)))
    for folder in path.parents:
        beside = [one for one in skeletons if PurePosixPath(one).parent == folder]
        if len(beside) == 1:
            return beside[0]
    if len(skeletons) == 1:
        return skeletons[0]
    raise Unusable(f"has no skeleton: put its .asf beside it ({len(skeletons)} are here, none of its name)")


def read_asf(member: Member) -> Skeleton:
    """The skeleton of an ASF file. Raises `Unusable`."""
    bones: dict[str, Bone] = {"root": Bone("root")}
    parents: dict[str, str] = {}
    root_order: tuple[str, ...] = ("tx", "ty", "tz", "rx", "ry", "rz")
    unit, position, section = INCH, np.zeros(3), ""
    bone = Bone()
    for line, cells in mocap.lines_of(member, MAX_MEMBER):
        word, rest = cells[0].lower(), cells[1:]
        if word.startswith(":"):
            section = word
        elif section == ":units" and word == "length" and rest:
            unit = INCH / (mocap.numbers(rest[:1], line)[0] or 1.0)
        elif section == ":root" and word == "order":
            root_order = tuple(cell.lower() for cell in rest)
            if sorted(root_order) != ["rx", "ry", "rz", "tx", "ty", "tz"]:
                raise Unusable(f"does not give the root three places and three angles on line {line}")
        elif section == ":root" and word == "position":
            position = _three(rest, line)
        elif section == ":root" and word == "orientation":
            bones["root"].axis = _axis([*rest[:3], "XYZ"], line)
        elif section == ":bonedata":
            bone = _bone_line(bones, bone, word, rest, line)
        elif section == ":hierarchy" and word not in ("begin", "end"):
            if word not in bones or any(child.lower() not in bones for child in rest):
                raise Unusable(f"names a bone on line {line} that is not described")
            parents.update((child.lower(), word) for child in rest)
    order = ["root"]
    for name in order:
        order += [child for child, parent in parents.items() if parent == name and child not in order]
        if len(order) > mocap.MAX_JOINTS:
            raise Unusable(f"has more than {mocap.MAX_JOINTS} bones")
    if len(order) < 2:
        raise Unusable("has no bones that hang on the root: it is no ASF file")
    return Skeleton(bones, parents, order, unit, position, root_order)


def _bone_line(bones: dict[str, Bone], bone: Bone, word: str, rest: list[str], line: int) -> Bone:
    """Take in a line of `:bonedata`; the bone that the next lines are about."""
    if word == "begin":
        return Bone()
    if word == "name" and rest:
        bone.name = rest[0].lower()
        bones[bone.name] = bone
    elif word == "direction":
        bone.direction = _three(rest, line)
    elif word == "length":
        bone.length = mocap.numbers(rest[:1], line)[0] if rest else 0.0
    elif word == "axis":
        bone.axis = _axis(rest, line)
    elif word == "dof":
        bone.dof = tuple(cell.lower() for cell in rest)
    return bone


def _three(cells: list[str], line: int) -> np.ndarray:
    values = mocap.numbers(cells[:3], line)
    if len(values) != 3:
        raise Unusable(f"has no three numbers on line {line}")
    return np.array(values)


def _axis(cells: list[str], line: int) -> np.ndarray:
    """The rotation of an axis given as three angles and their order."""
    order = cells[3].lower() if len(cells) > 3 else "xyz"
    if sorted(order) != ["x", "y", "z"]:
        raise Unusable(f"has an axis of the order {printable(order, 20)!r} on line {line}")
    return mocap.rotations(_three(cells, line)[None, ::-1], order[::-1])[0]


def motion(skeleton: Skeleton, member: Member) -> Motion:
    """The ends of all bones over the frames of an AMC file. Raises `Unusable`."""
    frames, values = _frames(skeleton, member)
    turn: dict[str, np.ndarray] = {}
    point: dict[str, np.ndarray] = {}
    for name in skeleton.order:
        bone = skeleton.bones[name]
        dof = skeleton.root_order if name == "root" else bone.dof
        given = values.get(name, np.zeros((frames, len(dof))))
        angles = [place for place, one in enumerate(dof) if one in _DOFS]
        axes = "".join(_DOFS[dof[place]] for place in angles)
        own = mocap.rotations(given[:, angles[::-1]], axes[::-1])  # about x first: it stands last in the product
        local = bone.axis @ own @ bone.axis.T
        if name == "root":
            moves = [dof.index(one) for one in ("tx", "ty", "tz")]
            turn[name], point[name] = local, skeleton.position + given[:, moves]
            continue
        parent = skeleton.parents[name]
        turn[name] = turn[parent] @ local
        point[name] = point[parent] + turn[name] @ (bone.direction * bone.length)
    points = np.stack([point[name] for name in skeleton.order], 1) * skeleton.unit
    parents = tuple(skeleton.order.index(skeleton.parents[name]) if name != "root" else -1 for name in skeleton.order)
    return Motion(_names(skeleton.order), parents, points.astype(np.float32))


def _names(bones: list[str]) -> tuple[str, ...]:
    """The joints at the ends of bones."""
    told = []
    for name in mocap.field_names(bones):
        side, _, bone = name.partition(" ")
        told.append(f"{side} {_ENDS[bone]}" if side in ("left", "right") and bone in _ENDS else name)
    return tuple(told)


def _frames(skeleton: Skeleton, member: Member) -> tuple[int, dict[str, np.ndarray]]:
    """The number of frames, and `[T, n]` numbers of every bone that the file moves. Raises `Unusable`."""
    rows: dict[str, list[list[float]]] = {}
    frames = 0
    for line, cells in mocap.lines_of(member, MAX_MEMBER):
        word = cells[0].lower()
        if word.startswith((":", "#")):
            if word == ":radians":
                raise Unusable("has angles in radians: write them in degrees")
            continue
        if len(cells) == 1 and word.isdigit():
            frames += 1
            if frames > mocap.MAX_FRAMES:
                raise Unusable(f"has more than {mocap.MAX_FRAMES} frames")
            continue
        if word not in skeleton.bones:
            raise Unusable(f"moves {printable(word, 40)!r} on line {line}, which its skeleton lacks")
        dof = skeleton.root_order if word == "root" else skeleton.bones[word].dof
        given = mocap.numbers(cells[1:], line)
        if len(given) != len(dof) or not frames:
            raise Unusable(f"has {len(given)} numbers for {printable(word, 40)} on line {line}, not {len(dof)}")
        rows.setdefault(word, []).append(given)
    if not frames:
        raise Unusable("has no frames")
    if uneven := [name for name, given in rows.items() if len(given) != frames]:
        raise Unusable(f"moves {printable(uneven[0], 40)} in {len(rows[uneven[0]])} of {frames} frames")
    return frames, {name: np.array(given) for name, given in rows.items()}
