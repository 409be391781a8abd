"""Recordings in CSV files, a row per frame; columns as `skag.readers.tables` describes.

One file is a recording, or holds several one after another. The separator is a comma, a semicolon (numbers may then
have decimal commas) or a tab; a first line `sep=;` says which. Without a header the numbers of a row are those of a
layout, joint after joint (`skag.readers.headless`). Files are read line by line, so one of many recordings can be of
any length.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

import numpy as np

from ..skeleton.layouts import Layout
from . import tables
from .archives import Files, printable
from .headless import header_of, is_number
from .source import Options, Source, Unusable

ENDINGS = (".csv", ".tsv")
MAX_LINE = 1 << 18
MISSING = {"", "na", "n/a", "none", "null", "nil", "-", "#n/a"}  # cells of joints that were not seen, beside "nan"


class _Csv:
    """An opened CSV file, see `tables.Table`."""

    def __init__(self, stream: BinaryIO, layout: Layout | None = None) -> None:
        """`layout` is what the user named; it says what the columns are where the file has no header."""
        lines = _lines(stream)
        top = next(lines, "")
        said = re.fullmatch(r"sep=(.)\s*", top, re.IGNORECASE)
        top = next(lines, "") if said else top
        self._delimiter = said[1] if said else max(",;\t", key=top.count)
        try:
            self.header = next(csv.reader([top], delimiter=self._delimiter), [])
            if cells := _without_header(self.header, self._delimiter):
                self.header, lines = header_of(cells, layout), itertools.chain([top], lines)
        except csv.Error as error:
            raise Unusable(f"has no readable first line ({error})") from None
        self._rows = csv.reader(lines, delimiter=self._delimiter)

    def rows(self, facts: list[int], numbers: list[int]) -> Iterator[tables.Cells]:
        try:
            for row in self._rows:
                if not any(row):
                    continue
                short = len(row) < len(self.header)
                texts = [row[column].strip() if column < len(row) else "" for column in facts]
                yield texts, self._too_short(row) if short else self._numbers(row, numbers)
        except csv.Error as error:
            raise Unusable(f"has something wrong after line {self._rows.line_num + 1} ({error})") from None

    def _too_short(self, row: list[str]) -> str:
        return f"has {len(row)} values on line {self._rows.line_num + 1}, not {len(self.header)}"

    def _numbers(self, row: list[str], columns: list[int]) -> np.ndarray | str:
        cells = [cell if (cell := row[column].strip()).lower() not in MISSING else "nan" for column in columns]
        if self._delimiter == ";":
            cells = [cell.replace(",", ".") for cell in cells]
        try:
            return np.array(cells, np.float64)
        except ValueError:
            column = next((column for cell, column in zip(cells, columns, strict=True) if not is_number(cell)), None)
            where = f"line {self._rows.line_num + 1}"
            if column is None:
                return f"has something other than numbers on {where}"
            name = printable(self.header[column].strip(), 40)
            return f"has {printable(row[column].strip(), 40)!r} in column {name} on {where}, which is no number"


def _without_header(cells: list[str], delimiter: str) -> list[float]:
    """The numbers of the first line where it has no names, else none; an empty cell at its end does not count."""
    cells = [cell.strip() for cell in cells]
    cells = cells[:-1] if len(cells) > 1 and not cells[-1] else cells
    texts = [cell.replace(",", ".") for cell in cells] if delimiter == ";" else cells
    texts = ["nan" if cell.lower() in MISSING else cell for cell in texts]
    every = len(texts) > 1 and all(map(is_number, texts)) and any(map(is_number, cells))
    return list(map(float, texts)) if every else []


def _lines(stream: BinaryIO) -> Iterator[str]:
    encoding = "utf-8-sig"
    while line := stream.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise Unusable(f"has a line of more than {MAX_LINE >> 10} KiB")
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError:
            raise Unusable("is not UTF-8: save it as UTF-8") from None
        encoding = "utf-8"


def _is_csv(name: str) -> bool:
    return tables.is_table(name, ENDINGS)


def recognises(files: Files) -> bool:
    """Whether there is a CSV file (what is in it is seen when it is read)."""
    return any(map(_is_csv, files.names))


def paths(files: Files) -> list[str]:
    """The files, of which each may hold several recordings."""
    return list(filter(_is_csv, files.names))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of files and rows."""
    return tables.read(files, options, _is_csv, partial(_Csv, layout=options.layout))
