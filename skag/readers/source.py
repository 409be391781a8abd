"""What every reader hands to `convert`: recordings as they come, and the facts that hold for all of them.

A reader is one module with two functions, entered in `skag.readers.FORMATS`:

    recognises(files: Files) -> bool                                         by names and first bytes, cheap
    read(files: Files, layout: Layout | None, classes: list[str] | None) -> Source

`layout` and `classes` are what the user chose; a reader derives what is None.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..layouts import Layout
from ..store import Clip


@dataclass(frozen=True)
class Skipped:
    """A recording that cannot be used, and why."""

    name: str
    reason: str


class Unusable(Exception):
    """Raised inside a reader where a single recording cannot be used; `str()` is the reason."""


@dataclass(frozen=True)
class Source:
    """An opened data set. `clips` can be gone through once; `notes` is complete when it is at its end."""

    layout: Layout
    classes: list[str]
    clips: Iterator[Clip | Skipped]  # a label of -1 says that the recording has none
    total: int | None = None  # recordings to come, where known
    notes: list[str] = field(default_factory=list)  # what the user should know, a sentence each
