"""Recordings in CSV files, a row per frame; columns as `skag.readers.tables` describes.

One file is a recording, or holds several one after another. The separator is a comma, a semicolon (numbers may then
have decimal commas) or a tab. Files are read line by line, so one of many recordings can be of any length.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from . import tables
from .archives import Files, printable
from .source import Options, Source, Unusable

ENDINGS = (".csv", ".tsv")
MAX_LINE = 1 << 18


class _Csv:
    """An opened CSV file, see `tables.Table`."""

    def __init__(self, stream: BinaryIO) -> None:
        lines = _lines(stream)
        top = next(lines, "")
        self._delimiter = max(",;\t", key=top.count)
        try:
            self.header = next(csv.reader([top], delimiter=self._delimiter), [])
        except csv.Error as error:
            raise Unusable(f"has no readable first line ({error})") from None
        self._rows = csv.reader(lines, delimiter=self._delimiter)

    def rows(self, facts: list[int], numbers: list[int]) -> Iterator[tables.Row]:
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
        cells = [row[column].strip() or "nan" for column in columns]
        if self._delimiter == ";":
            cells = [cell.replace(",", ".") for cell in cells]
        try:
            return np.array(cells, np.float64)
        except ValueError:
            column = next((column for cell, column in zip(cells, columns, strict=True) if not _is_number(cell)), None)
            where = f"line {self._rows.line_num + 1}"
            if column is None:
                return f"has something other than numbers on {where}"
            name = printable(self.header[column].strip(), 40)
            return f"has {printable(row[column].strip(), 40)!r} in column {name} on {where}, which is no number"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
    return tables.read(files, options, _is_csv, _Csv)
