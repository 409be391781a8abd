"""Which layout joints belong to, by the names or the numbers of joints that people's own files have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

import numpy as np

from ..skeleton.layouts import Layout, layout_names, load_layout
from .source import Unusable

_STEP = (
    "name one with --layout, or describe your joints in a TOML file and give that "
    "(docs/formats.md, Layouts of one's own)"
)
_SPELLINGS = {"l": "left", "r": "right", "center": "centre", "middle": "mid"}


def words(name: str) -> list[str]:
    """The words of a joint's name in lower case: "LeftHand", "left_hand" and "L. hand" are all left, hand."""
    found = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)
    return [_SPELLINGS.get(word.lower(), word.lower()) for word in found]


def key(name: str) -> tuple[str, ...]:
    """What two spellings of a joint have in common."""
    return tuple(sorted(words(name)))


def recorded(layout: Layout) -> tuple[str, ...]:
    """The joints of a layout that recordings bring."""
    return layout.joints[: layout.num_recorded]


@cache
def _known() -> list[Layout]:
    """The layouts that come with skag, those with derived joints last."""
    return sorted(map(load_layout, layout_names()), key=lambda layout: len(layout.derived))


def layout_of_names(names: Iterable[str], dims: int) -> Layout:
    """The largest known layout whose joints all have one of these names. Raises `Unusable`."""
    there = set(map(key, names))
    fits = [one for one in _known() if one.dims == dims and there.issuperset(map(key, recorded(one)))]
    if not fits:
        raise Unusable(f"has {len(there)} joints with {dims} coordinates of no known layout; {_STEP}")
    return max(fits, key=lambda layout: layout.num_recorded)


def layout_of_shape(joints: int, dims: int) -> Layout:
    """The known layout with so many joints and coordinates. Raises `Unusable`."""
    for layout in _known():
        if (layout.num_recorded, layout.dims) == (joints, dims):
            return layout
    raise Unusable(f"has {joints} joints with {dims} coordinates, as no known layout; {_STEP}")


def places(layout: Layout, names: Iterable[str]) -> np.ndarray:
    """`[V]` where the recorded joints of a layout are among `names`. Raises `Unusable` naming one that is missing."""
    at = {key(name): place for place, name in enumerate(names)}
    for joint in recorded(layout):
        if key(joint) not in at:
            raise Unusable(f"has no joint {joint!r}, which layout {layout.name} needs")
    return np.array([at[key(joint)] for joint in recorded(layout)])
