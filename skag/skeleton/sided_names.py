"""Classes whose names tell left from right, and what their mirror images show."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SIDE = re.compile(r"(?<![^\W\d_])(left|right)(?![^\W\d_])", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left"}


def mirrored_classes(names: Sequence[str]) -> list[int]:
    """For every class the number of the one that its mirror image shows: its own where the name tells no side, that of
    the name with left and right exchanged ("raise left arm", "raise right arm"), or -1 where there is no such class."""
    number = {name.lower(): k for k, name in enumerate(names)}
    return [number.get(_SIDE.sub(lambda side: _OTHER[side[0].lower()], name.lower()), -1) for name in names]


def tells_sides(names: Sequence[str]) -> bool:
    """Whether some name tells left from right."""
    return any(_SIDE.search(name) for name in names)
