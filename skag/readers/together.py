"""People's own recordings where those of one source are in several formats: all of them are read, format by format.

The first format that can be opened decides on the layout. Recordings of the others are left out, by name, where theirs
is another.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import cast

from ..errors import DataError
from ..skeleton.store import Clip
from .archives import Files
from .labels import natural
from .source import NoneUsable, Options, Skipped, Source


def read(files: Files, options: Options, modules: list[ModuleType]) -> Source:
    """The recordings of all these readers. Raises `DataError` where none of them can be opened."""
    sources: list[Source] = []
    for module in modules:
        others = [other for other in modules if other is not module]
        beside = tuple(path for other in others for path in other.paths(files))
        layout = sources[0].layout if sources else options.layout
        try:
            sources.append(module.read(files, replace(options, layout=layout, beside=beside)))
        except DataError as error:
            try:
                rest = others and read(files, options, others)
            except DataError:  # the first error is that of the format that comes first
                rest = None
            if not rest:
                raise
            return with_skipped(rest, _left_out(files, module.paths(files), error))
    return sources[0] if len(sources) == 1 else _joined(sources, options)


def _left_out(files: Files, paths: list[str], error: DataError) -> list[Skipped]:
    """The recordings of a format that cannot be opened."""
    reason = str(error).removeprefix(f"{files.shown} ").removesuffix(".")
    if len(paths) > 1:
        reason = f"is not read: the first of its format {reason}"
    reasons = error.reasons if isinstance(error, NoneUsable) else {}
    return [Skipped(path, reasons.get(path, reason)) for path in paths]


def with_skipped(source: Source, skipped: list[Skipped]) -> Source:
    """A source with recordings besides that cannot be used."""

    def items() -> Iterator[Clip | Skipped]:
        yield from source.clips
        yield from skipped

    total = None if source.total is None else source.total + len(skipped)
    return replace(source, clips=items(), total=total)


def _joined(sources: list[Source], options: Options) -> Source:
    """Several sources of one layout as one; their classes are numbered anew where they are not the same."""
    classes = options.classes or natural({name for source in sources for name in source.classes})
    if all(source.classes == sources[0].classes for source in sources):
        classes = sources[0].classes
    totals = [source.total for source in sources if source.total is not None]
    notes: list[str] = []

    def items() -> Iterator[Clip | Skipped]:
        for source in sources:
            number = {old: classes.index(name) for old, name in enumerate(source.classes)}
            for item in source.clips:
                yield replace(item, label=number.get(item.label, item.label)) if isinstance(item, Clip) else item
            notes.extend(note for note in source.notes if note not in notes)

    return Source(
        sources[0].layout,
        classes,
        items(),
        sum(totals) if len(totals) == len(sources) else None,
        notes,
        any(source.has_splits for source in sources),
        where="; ".join(dict.fromkeys(source.where for source in sources)),
        could_be=list(dict.fromkeys(each for source in sources for each in source.could_be)),
        groups=ChainMap(*(cast(dict[str, str], source.groups) for source in sources)),
    )
