"""Text files of numbers alone, a row per frame, for a layout that the user names.

Numbers are separated by commas, semicolons, tabs or blanks, joint after joint, with a confidence or a number of the
frame where one is over (`skag.readers.headless`). Such a file does not say what its numbers are: without `--layout` it
is read only where their count fits a single known layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

import numpy as np

from ..skeleton.layouts import Layout
from . import tables, yolo
from .archives import Files
from .headless import header_of, is_number
from .source import Options, Source, Unusable, first
from .text import MAX_LINE

ENDINGS = (".txt", ".dat")
FEWEST = 6  # numbers a row
_SEPARATORS = str.maketrans(",;\t", "   ")


def recognises(files: Files) -> bool:
    """Whether the first text file begins with a row of numbers."""
    member = first(files, _is_text)
    line = (member.data or b"").lstrip()[:MAX_LINE].split(b"\n", 1)[0] if member else b""
    cells = line.decode("latin-1").translate(_SEPARATORS).split()
    return len(cells) >= FEWEST and all(map(is_number, cells)) and not yolo.recognises(files)


def paths(files: Files) -> list[str]:
    """The files."""
    return list(filter(_is_text, files.names))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names."""
    return tables.read(files, options, _is_text, partial(_Numbers, layout=options.layout))


def _is_text(name: str) -> bool:
    return tables.is_table(name, ENDINGS)


class _Numbers:
    """An opened file, see `tables.Table`."""

    def __init__(self, stream: BinaryIO, layout: Layout | None) -> None:
        self._lines = _rows(stream)
        self._first = next(self._lines, (1, []))
        if not self._first[1]:
            raise Unusable("is empty")
        self.header = header_of(self._first[1], layout)

    def rows(self, facts: list[int], numbers: list[int]) -> Iterator[tables.Cells]:
        line, cells = self._first
        while cells:
            if len(cells) != len(self.header):
                yield [""] * len(facts), f"has {len(cells)} values on line {line}, not {len(self.header)}"
            else:
                yield [f"{cells[column]:g}" for column in facts], np.array([cells[column] for column in numbers])
            line, cells = next(self._lines, (line, []))


def _rows(stream: BinaryIO) -> Iterator[tuple[int, list[float]]]:
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise Unusable(f"has a line of more than {MAX_LINE >> 10} KiB")
        cells = line.decode("latin-1").translate(_SEPARATORS).split()
        if not cells:
            continue
        try:
            yield number, list(map(float, cells))
        except ValueError:
            raise Unusable(f"has something other than numbers on line {number}") from None
