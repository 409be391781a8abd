"""Which layout joints belong to, by the names or the numbers of joints that people's own files have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from ..skeleton.layouts import Layout, layout_names, load_layout
from .source import Unusable

_STEP = (
    "name one with --layout, or describe your joints in a TOML file and give that "
    "(docs/formats.md, Layouts of one's own)"
)
_SPELLINGS = {"l": "left", "r": "right", "center": "centre", "middle": "mid"}
_SMALL_WORDS = {"of", "the"}
_SAME: dict[tuple[str, ...], tuple[str, ...]] = {
    ("shoulder", "spine"): ("spine", "upper")
}  # Kinect v2's SDK and NTU RGB+D, whose joints are the same
_PREFIXES = {"pose", "world", "landmark", "landmarks"}  # "PoseLandmark.NOSE", "pose_left_hip"
_SHOWN = 8  # joints that a note names


def words(name: str) -> list[str]:
    """The words of a joint's name in lower case: "LeftHand", "left_hand" and "L. hand" are all left, hand."""
    found = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)
    return [_SPELLINGS.get(word.lower(), word.lower()) for word in found]


def key(name: str) -> tuple[str, ...]:
    """What two spellings of a joint have in common."""
    found = tuple(sorted(word for word in words(name) if word not in _SMALL_WORDS))
    return _SAME.get(found, found)


def bare(parts: list[str]) -> list[str]:
    """The words of a joint's name without what tools put before them; MediaPipe's numbers of a hand's joints become
    their names: "pose left hip" is the left hip, "left hand 8" the tip of the left index finger."""
    rest = list(parts)
    while len(rest) > 1 and rest[0] in _PREFIXES:
        rest.pop(0)
    if len(rest) == 3 and rest[1] == "hand" and rest[2].isdecimal() and int(rest[2]) < 21:
        return [*rest[:2], *words(load_layout("mediapipe-hand-21").joints[int(rest[2])])]
    return rest


def recorded(layout: Layout) -> tuple[str, ...]:
    """The joints of a layout that recordings bring."""
    return layout.joints[: layout.num_recorded]


@cache
def known_layouts() -> list[Layout]:
    """The layouts that come with skag, those with derived joints last."""
    return sorted(map(load_layout, layout_names()), key=lambda layout: len(layout.derived))


def layout_of_names(names: Iterable[str], dims: int) -> Layout:
    """The largest known layout whose joints all have one of these names. Raises `Unusable`."""
    names = list(names)
    there = set(map(key, names))
    fits = [one for one in known_layouts() if one.dims == dims and there.issuperset(map(key, recorded(one)))]
    if not fits:
        raise Unusable(
            f"has {len(there)} joints with {dims} coordinates of no known layout{near(names, dims)}; {_STEP}"
        )
    return max(fits, key=lambda layout: layout.num_recorded)


def near(names: Sequence[str], dims: int) -> str:
    """The known layout that has the most in common with these joints, and the difference: "; 17 of your 19 joints are
    those of coco; not in it: ..."; "" where none has half of them."""
    there = {key(name): name for name in names}

    def common(layout: Layout) -> float:
        of = set(map(key, recorded(layout)))
        return len(of & there.keys()) / len(of | there.keys())

    layout = max(known_layouts(), key=lambda one: (common(one), one.dims == dims, -one.num_recorded))
    of = {key(joint): joint for joint in recorded(layout)}
    shared = len(of.keys() & there.keys())
    if 2 * shared < len(there):
        return ""
    parts = [f"{shared} of your {len(there)} joints are those of {layout.name}"]
    if more := [there[name] for name in there if name not in of]:
        parts.append(f"not in it: {_named(more)}")
    if lacking := [of[name] for name in of if name not in there]:
        parts.append(f"it also has: {_named(lacking)}")
    if layout.dims != dims:
        parts.append(f"its joints have {layout.dims} coordinates")
    return f" ({'; '.join(parts)})"


def _named(joints: Sequence[str]) -> str:
    return ", ".join(joints[:_SHOWN]) + (f" and {len(joints) - _SHOWN} more" if len(joints) > _SHOWN else "")


def left_out(layout: Layout, names: Iterable[str]) -> str:
    """A note on joints of a recording that its layout does not have, and on a layout that has them; "" where it has
    all."""
    names = list(names)
    there = set(map(key, recorded(layout)))
    lost = [name for name in names if key(name) not in there]
    if not lost:
        return ""
    fits = [
        one
        for one in known_layouts()
        if one.dims == layout.dims and set(map(key, names)) <= set(map(key, recorded(one)))
    ]
    step = f"; --layout {min(fits, key=lambda one: one.num_recorded).name} keeps them" if fits else ""
    return f"{len(lost)} of {len(names)} joints are left out, which layout {layout.name} lacks ({_named(lost)}){step}."


def layouts_of_shape(joints: int, dims: int) -> list[Layout]:
    """The known layouts with so many joints and coordinates."""
    return [layout for layout in known_layouts() if (layout.num_recorded, layout.dims) == (joints, dims)]


def layout_of_shape(joints: int, dims: int) -> Layout:
    """The known layout with so many joints and coordinates. Raises `Unusable`."""
    for layout in layouts_of_shape(joints, dims):
        return layout
    counts = sorted({one.num_recorded for one in known_layouts() if one.dims == dims}, key=lambda n: abs(n - joints))
    nearest = " and ".join(f"{count} ({layout_of_shape(count, dims).name})" for count in counts[:2])
    raise Unusable(
        f"has {joints} joints with {dims} coordinates, as no known layout"
        f"{f' (the nearest have {nearest})' if nearest else ''}; {_STEP}"
    )


def places(layout: Layout, names: Iterable[str]) -> np.ndarray:
    """`[V]` where the recorded joints of a layout are among `names`. Raises `Unusable` naming one that is missing."""
    at = {key(name): place for place, name in enumerate(names)}
    for joint in recorded(layout):
        if key(joint) not in at:
            raise Unusable(f"has no joint {joint!r}, which layout {layout.name} needs")
    return np.array([at[key(joint)] for joint in recorded(layout)])
