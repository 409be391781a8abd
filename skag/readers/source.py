"""What every reader hands to `convert`: recordings as they come, and the facts that hold for all of them.

A reader is one module with two functions, entered in `skag.readers.FORMATS`:

    recognises(files: Files) -> bool                        by names and first bytes, cheap
    read(files: Files, options: Options) -> Source          raises `DataError` where nothing can be read at all

`options` is what the user chose; a reader derives what is None. A reader of people's own recordings takes class
names, subjects and splits from `options.labels` or from folder names, see `skag.readers.labels`. What such recordings
in several formats are together, `skag.readers.together` makes of them; each of their readers has a third function:

    paths(files: Files) -> list[str]                        of the recordings inside the source, by names alone
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import DataError
from ..parallel import Workers
from ..skeleton.layouts import Layout
from ..skeleton.store import Clip
from .archives import Files, Member, printable
from .counted import counted_reasons

if TYPE_CHECKING:
    from .label_tables import Labels
    from .name_patterns import NamePattern


@dataclass(frozen=True)
class ClassesFrom:
    """What the user chose classes from: a column of tables, or else a level of folders (None: skag's choice)."""

    column: str | None = None
    level: int | None = None


@dataclass(frozen=True)
class Options:
    """What the user chose; None where the reader decides."""

    layout: Layout | None = None
    classes: list[str] | None = None
    labels: Labels | None = None
    to_predict: bool = False  # classes are not needed: recordings without them are wanted too
    workers: Workers = field(default_factory=Workers)  # who reads the files of a source
    beside: tuple[str, ...] = ()  # paths of people's own recordings in other formats of the same source
    classes_from: ClassesFrom | None = None
    pattern: NamePattern | None = None  # of file names that say label, subject, camera, split or what to split by
    split_column: str | None = None  # what is split by, where that is not known of every clip

    @property
    def may_take_column(self) -> bool:
        """Whether a column of a table may be the class."""
        if self.classes_from is not None:
            return self.classes_from.column is not None
        return self.pattern is None or "label" not in self.pattern.fields


@dataclass(frozen=True)
class Skipped:
    """A recording that cannot be used, and why; `expected` where that is known of the data set (not even with
    --strict does it stop a conversion)."""

    name: str
    reason: str
    expected: bool = False


class Unusable(Exception):
    """Raised inside a reader where a single recording cannot be used; `str()` is the reason."""


class NoneUsable(DataError):
    """No file that a reader would take can be used; `reasons` are why, by file."""

    def __init__(self, files: Files, problems: list[tuple[str, Unusable]], what: str) -> None:
        """`what` a file is, such as "table"."""
        self.reasons = {name: str(problem) for name, problem in problems}
        super().__init__(_none_usable(files, list(self.reasons.items()), what))


def _none_usable(files: Files, reasons: list[tuple[str, str]], what: str) -> str:
    if not reasons:
        return f"{files.shown} holds no {what}: give the recordings, or leave --format out."
    name, reason = reasons[0]
    if files.kind == "file":
        return f"{files.shown} {reason}."
    if len(reasons) == 1:
        return f"{files.shown}: {printable(name, 200)} {reason}."
    return f"none of the {len(reasons)} {what}s in {files.shown} can be used: {counted_reasons(reasons)}."


@dataclass(frozen=True)
class Source:
    """An opened data set. `clips` can be gone through once; `notes` is complete when it is at its end."""

    layout: Layout
    classes: list[str]
    clips: Iterator[Clip | Skipped]  # a label of -1 says that the recording has none
    total: int | None = None  # recordings to come, where known
    notes: list[str] = field(default_factory=list)  # what the user should know, a sentence each
    has_splits: bool = True  # False: the data say nothing about training and test, `convert` makes splits
    frame_rate: float | None = None  # of clips without one of their own, where the data set's paper states it
    first_label: int = 0  # 1 where labels of classes without known names begin there
    where: str = ""  # what classes were taken from, such as "column 'Action'"; "" where the format says them
    could_be: list[str] = field(default_factory=list)  # what else they could be, each with the option for it
    groups: Mapping[str, str] = field(default_factory=dict)  # of recordings gone through: what is split by


def each_file(
    files: Files,
    wanted: Callable[[str], bool],
    clip_of: Callable[[Member], Clip],
    workers: Workers | None = None,
    *,
    by_path: bool = False,
) -> Iterator[Clip | Skipped]:
    """A clip of every wanted file; `clip_of` raises `Unusable` for one that cannot be used. That is named by its file,
    or `by_path`, where files are named alike.

    With workers it has to be a module's function or a `partial` of one, see `Workers.map`.
    """
    return (workers or Workers()).map(
        partial(_clip_or_why, clip_of, by_path), files.read(wanted, later=True), attrgetter("size")
    )


def _clip_or_why(clip_of: Callable[[Member], Clip], by_path: bool, member: Member) -> Clip | Skipped:
    name = member.name if by_path else PurePosixPath(member.name).name
    try:
        return clip_of(member)
    except Unusable as unusable:
        return Skipped(name, str(unusable))
    except MemoryError:
        return Skipped(name, "does not fit into memory")


def content(member: Member, longest: int) -> bytes:
    """The bytes of a member that is there and no longer than `longest`; they are read now where they were not yet."""
    member = member.loaded()
    if member.data is None:
        raise Unusable(member.problem)
    if len(member.data) > longest:
        raise Unusable(f"is longer than {longest >> 20} MiB")
    return member.data


def streams(files: Files, wanted: Callable[[str], bool]) -> Iterator[tuple[str, BinaryIO | str]]:
    """(name, opened file or why it could not be had) of every wanted file; on the disk it can be of any length."""
    if files.kind in ("zip", "tar"):
        for member in files.read(wanted):
            yield member.name, member.problem if member.data is None else io.BytesIO(member.data)
        return
    for name in filter(wanted, files.names):
        if files.is_packed(name):
            (member,) = files.read(name.__eq__)
            yield name, member.problem if member.data is None else io.BytesIO(member.data)
            continue
        try:
            with files.path_of(name).open("rb") as file:
                yield name, file
        except OSError as error:
            yield name, f"cannot be read ({error.strerror})"


def first(files: Files, wanted: Callable[[str], bool]) -> Member | None:
    """The first wanted member by name, to look into."""
    name = next(filter(wanted, files.names), None)
    return None if name is None else next(files.read(name.__eq__), None)


def begin_at_1(labels: set[int]) -> bool:
    """Whether labels are counted from 1: none is 0, and none is left out."""
    return len(labels) > 1 and labels == set(range(1, max(labels) + 1))


def groups(name: re.Pattern[str], text: str) -> tuple[str | Any, ...]:
    """The groups of a text that is known to fit: the files that are read were chosen by it."""
    match = name.fullmatch(text)
    assert match is not None
    return match.groups()


def numbered(count: int) -> list[str]:
    """Class names where none are known."""
    return [f"class {number}" for number in range(1, count + 1)]
