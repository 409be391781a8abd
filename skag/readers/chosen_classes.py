"""Which classes a user chose, and where they are to come from: `skag convert --classes` and `--classes-from`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches

from ..errors import DataError
from ..plural import counted
from ..skeleton.store import Clip
from .source import ClassesFrom, Skipped, Source, numbered

_UNKNOWN_NAMES = "The class names are unknown"


def classes_from(text: str) -> ClassesFrom:
    """What `--classes-from` means: `folder`, `folder:N`, or a column's name, also as `column:NAME`. Raises
    `DataError`."""
    text = text.strip()
    if match := re.fullmatch(r"folders?(?:[:=](\d{1,2}))?", text, re.IGNORECASE):
        level = int(match[1]) if match[1] else None
        if level != 0:
            return ClassesFrom(level=level)
    column = re.sub(r"^column[:=]", "", text, flags=re.IGNORECASE).strip()
    if not column or text.lower().startswith("folder:"):
        raise DataError(f"--classes-from {text!r}: give folder, folder:1 for the outermost, or the name of a column.")
    return ClassesFrom(column=column)


def with_classes(source: Source, given: list[str]) -> Source | None:
    """A published data set, opened without class names, with those that the user gave.

    Where they are some of the names that its classes have, these are kept alone; where its classes have no known
    names, they are the names of its labels in their order. None: they are other names for classes that have some, and
    the source is to be opened with them. Raises `DataError` for a name misspelt.
    """
    known = {name: number for number, name in enumerate(source.classes)}
    strange = [name for name in given if name not in known]
    if source.classes == numbered(len(source.classes)):
        source.notes[:] = [note for note in source.notes if not note.startswith(_UNKNOWN_NAMES)]
        if source.first_label == 1 and len(given) == len(source.classes) - 1:
            source = counted_from_0(source)
        return replace(source, classes=given)
    if not strange:
        kept = {known[name]: place for place, name in enumerate(given)}
        return replace(source, classes=given, clips=_chosen(source, kept))
    if len(strange) <= len(given) / 2:
        near = get_close_matches(strange[0], source.classes, 1)
        meant = f"; did you mean {near[0]!r}?" if near else " of the data."
        raise DataError(f"--classes has {strange[0]!r}, which is no class{meant}")
    return None


def counted_from_0(source: Source) -> Source:
    """The source with labels counted from 0, where those of classes without known names begin at 1."""
    if source.first_label != 1:
        return source
    source.notes[:] = [note for note in source.notes if not note.startswith(_UNKNOWN_NAMES)]
    source.notes.append("The labels begin at 1: label 1 is 'class 1' unless --classes FILE names it.")
    kept = {number: number - 1 for number in range(1, len(source.classes))}
    return replace(source, classes=source.classes[:-1], clips=_chosen(source, kept), first_label=0)


def _chosen(source: Source, kept: dict[int, int]) -> Iterator[Clip | Skipped]:
    """The recordings of these classes, numbered anew; a note counts the others."""
    others = 0
    for item in source.clips:
        if isinstance(item, Skipped) or not 0 <= item.label < len(source.classes):
            yield item
        elif item.label in kept:
            yield replace(item, label=kept[item.label])
        else:
            others += 1
    if others:
        source.notes.append(f"{counted(others, 'recording', 'is/are')} of classes that --classes leaves out.")
