"""Layouts: which joints a skeleton has, how they hang together, and everything derived from that.

A layout is described once, by joint names, in a TOML file (see `layout_files/`). Indices, bone pairs,
masks, flips and the numbered joint list of the prompts are all derived here and nowhere else.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import DataError

LAYOUT_FOLDER = Path(__file__).parent / "layout_files"
ALIASES = {"kinect-v2": "nturgb+d", "openpose-25": "body-25", "h36m-17": "human3.6m-17"}  # the same joints
_EXCHANGED_BONES = {"nturgb+d": (20, 21)}  # in the published masks, see `Layout.stream_mask`
STREAMS = ("j", "b", "k", "jm", "bm", "km")


def _text(value: object) -> bool:
    return isinstance(value, str)


def _texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(map(_text, value))


def _pairs(value: object) -> bool:
    return isinstance(value, dict) and all(map(_text, value.values()))


_FIELDS = {  # what a layout file may hold
    "name": _text,
    "dims": lambda value: type(value) is int,
    "joints": _texts,
    "bones": _pairs,
    "centre": _text,
    "parts": lambda value: isinstance(value, dict) and all(map(_texts, value.values())),
    "up": _text,
    "stream_bones": _pairs,
    "stream_kbones": _pairs,
    "edges": lambda value: isinstance(value, list | tuple) and all(_texts(edge) and len(edge) == 2 for edge in value),
    "derived": lambda value: isinstance(value, dict) and all(_texts(joints) and joints for joints in value.values()),
    "spine": lambda value: _texts(value) and len(value) in (0, 2),
}


@dataclass(frozen=True)
class Layout:
    """One joint layout. `bones` and `stream_bones` map a child joint to its parent, by name."""

    name: str
    dims: int  # 2 or 3 coordinates per joint
    joints: tuple[str, ...]
    bones: dict[str, str]  # a tree over all joints
    centre: str  # the joint that pre-normalisation puts at the origin
    parts: dict[str, tuple[str, ...]]  # every joint in exactly one part
    up: str = "y"  # axis that points up, with "-" where it points down
    stream_bones: dict[str, str] = field(default_factory=dict)  # the bone stream's departures from `bones`
    stream_kbones: dict[str, str] = field(default_factory=dict)  # the k-bone stream's, where not the parent's parent
    edges: tuple[tuple[str, str], ...] = ()  # of the published graph, where they are not `bones`
    derived: dict[str, tuple[str, ...]] = field(default_factory=dict)  # the last joints: means of recorded ones
    spine: tuple[str, ...] = ()  # (lower, upper) joint of the line that `preparation.align_spine` turns to z

    def __post_init__(self) -> None:
        known = set(self.joints)
        where = f"layout {self.name!r}"
        if self.dims not in (2, 3):
            raise DataError(f"{where}: dims is {self.dims}; write 2 or 3.")
        if len(known) != len(self.joints):
            raise DataError(f"{where}: a joint is listed twice; give every joint its own name.")
        named = {*self.bones, *self.bones.values(), *self.stream_bones, *self.stream_bones.values(), self.centre}
        named.update(self.stream_kbones, self.stream_kbones.values())
        named.update(joint for part in self.parts.values() for joint in part)
        named.update(self.spine, *self.edges, self.derived, *self.derived.values())
        if unknown := sorted(named - known):
            raise DataError(f"{where}: {unknown[0]!r} is no joint of it; use the names of `joints`.")
        roots = [joint for joint in self.joints if joint not in self.bones]
        if len(roots) != 1:
            raise DataError(f"{where}: {len(roots)} joints have no parent; exactly one (the root) may lack one.")
        for joint in self.joints:  # every joint must lead to the root
            seen = set()
            while joint in self.bones:
                if joint in seen:
                    raise DataError(f"{where}: the bones around {joint!r} form a ring; make them a tree.")
                seen.add(joint)
                joint = self.bones[joint]
        in_parts = [joint for part in self.parts.values() for joint in part]
        if sorted(in_parts) != sorted(self.joints):
            raise DataError(f"{where}: every joint must be in exactly one of `parts`.")
        before = set(self.joints[: self.num_recorded])
        if before & set(self.derived):
            raise DataError(f"{where}: the joints of `derived` must be the last of `joints`.")
        if unknown := [joint for sources in self.derived.values() for joint in sources if joint not in before]:
            raise DataError(f"{where}: a derived joint is the mean of {unknown[0]!r}, which is derived itself.")
        if self.up.lstrip("-") not in ("x", "y", "z"):
            raise DataError(f"{where}: up is {self.up!r}; write x, y or z, with '-' if the axis points down.")

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def num_recorded(self) -> int:
        """Joints that recordings hold; the others are derived from them."""
        return len(self.joints) - len(self.derived)

    @cached_property
    def index(self) -> dict[str, int]:
        """0-based index of every joint name."""
        return {joint: i for i, joint in enumerate(self.joints)}

    @property
    def root(self) -> str:
        return next(joint for joint in self.joints if joint not in self.bones)

    @property
    def up_axis(self) -> tuple[int, int]:
        """Index and sign of the axis that points up."""
        return "xyz".index(self.up[-1]), -1 if self.up.startswith("-") else 1

    @cached_property
    def bone_parents(self) -> np.ndarray:
        """`[V]` parent of every joint in the bone stream; a root is its own parent."""
        parents = {self.root: self.root, **self.bones, **self.stream_bones}
        return np.array([self.index[parents[joint]] for joint in self.joints])

    @cached_property
    def edge_index(self) -> np.ndarray:
        """`[E, 2]` edges of the skeleton's graph, from the outer joint to the inner one where `bones` gives them."""
        edges = self.edges or tuple(self.bones.items())
        return np.array([[self.index[joint] for joint in edge] for edge in edges], dtype=int).reshape(-1, 2)

    @cached_property
    def kbone_parents(self) -> np.ndarray:
        """`[V]` grandparent of every joint (k-bone stream); itself where the parent is a root."""
        parent = self.bone_parents
        grandparent = np.where(parent[parent] == parent, np.arange(self.num_joints), parent[parent])
        for joint, other in self.stream_kbones.items():
            grandparent[self.index[joint]] = self.index[other]
        return grandparent

    def extend(self, values: np.ndarray, axis: int) -> np.ndarray:
        """`values` of the recorded joints along `axis`, with the derived joints added, in the same precision.

        A derived joint is the plain mean of its joints, also where one of them was not seen (published code).
        """
        weights = np.eye(self.num_joints, self.num_recorded)
        for joint, sources in self.derived.items():
            weights[self.index[joint]] = np.mean([weights[self.index[source]] for source in sources], axis=0)
        return np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis).astype(values.dtype)

    @cached_property
    def mirror_index(self) -> np.ndarray:
        """`[V]` the joint on the other side: "left x" and "right x" swap, the others stay."""
        other = {"left": "right", "right": "left"}
        swapped = []
        for joint in self.joints:
            side, _, rest = joint.partition(" ")
            swapped.append(self.index.get(f"{other[side]} {rest}" if side in other else joint, self.index[joint]))
        return np.array(swapped)

    @cached_property
    def part_index(self) -> dict[str, np.ndarray]:
        """Joint indices of every part."""
        return {part: np.array([self.index[j] for j in joints]) for part, joints in self.parts.items()}

    def standing_lines(self, body: np.ndarray, there: np.ndarray) -> np.ndarray:
        """Lines `[n, C]` from the middle of the legs to that of the trunk in the frames of `body` `[T, V, C]` in which
        all their joints are `there` `[T, V]`; none where the layout has no parts "trunk" and "... leg"."""
        legs = [part for name, part in self.part_index.items() if name.endswith("leg")]
        if not legs or "trunk" not in self.part_index:
            return np.empty((0, body.shape[-1]))
        trunk, leg_joints = self.part_index["trunk"], np.concatenate(legs)
        whole = there[:, trunk].all(1) & there[:, leg_joints].all(1)
        return body[whole][:, trunk].mean(1) - body[whole][:, leg_joints].mean(1)

    def numbered(self) -> str:
        """The joint list of the prompts, one `number-name` a line, numbers from 1."""
        return "\n".join(f"{i}-{joint}" for i, joint in enumerate(self.joints, 1))

    def stream_mask(self, mask_KV: np.ndarray, stream: str, published: bool = False) -> np.ndarray:
        """Critical joints `[K, V]` as seen by a stream.

        In bone streams element v is the bone from joint v to its (grand)parent, which is critical when
        either end is ("every bone touching a critical joint"). The published code numbers the bones of NTU RGB+D by
        their place in a list in which the spine's (20, 20) stands after the left hand's (21, 22)
        (tools/text/cls_matrix.py), while its bone stream numbers them by their joint: elements 20 and 21 of its masks
        are exchanged. `published` gives them so.
        """
        parent = {"j": None, "b": self.bone_parents, "k": self.kbone_parents}[stream[0]]
        if parent is None:
            return mask_KV
        mask_KV = np.maximum(mask_KV, mask_KV[:, parent])
        first, second = _EXCHANGED_BONES.get(self.name, (0, 0)) if published else (0, 0)
        order = np.arange(self.num_joints)
        order[[first, second]] = order[[second, first]]
        return mask_KV[:, order]

    def to_dict(self) -> dict:
        """Plain values that `from_dict` takes back."""
        return asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_dict(cls, values: dict, where: str = "layout") -> Layout:
        """Build a layout from plain values. Raises `DataError` naming the missing or unknown field."""
        fields = set(cls.__dataclass_fields__)
        if unknown := sorted(set(values) - fields):
            raise DataError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(sorted(fields))}.")
        if missing := sorted({"name", "dims", "joints", "bones", "centre", "parts"} - set(values)):
            raise DataError(f"{where}: {missing[0]!r} is missing.")
        for name, value in values.items():
            if not _FIELDS[name](value):
                raise DataError(f"{where}: {name!r} has the wrong type; compare it with {LAYOUT_FOLDER / 'coco.toml'}.")
        values = dict(values, joints=tuple(values["joints"]))
        for name in ("parts", "derived"):
            values[name] = {key: tuple(joints) for key, joints in values.get(name, {}).items()}
        values["edges"] = tuple(map(tuple, values.get("edges", ())))
        values["spine"] = tuple(values.get("spine", ()))
        return cls(**values)


def layout_names() -> list[str]:
    """The layouts that come with skag."""
    return sorted(path.stem for path in LAYOUT_FOLDER.glob("*.toml"))


def load_layout(name: str | Path) -> Layout:
    """A layout by name, or from a TOML file of one's own. Raises `DataError`."""
    name = ALIASES.get(str(name), name)
    path = LAYOUT_FOLDER / f"{name}.toml"
    if str(name) not in layout_names():
        path = Path(name)
        if path.suffix != ".toml" or not path.is_file():
            raise DataError(
                f"no layout {str(name)!r}: use one of {', '.join(layout_names())}, or a layout's TOML file."
            )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no valid TOML ({error}); compare it with {LAYOUT_FOLDER / 'coco.toml'}.") from None
    return Layout.from_dict(values, where=str(path))
