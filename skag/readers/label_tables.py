"""Class, subject, camera and splits of people's own recordings from a small CSV file.

It has a header with the columns `file` and `label`, and where wanted `subject`, `camera`, `split`, and others to split
by:

    file,label,subject,split
    walk/001.csv,walk,anna,train

`file` is the path of a recording inside the source, with or without its ending, or the last part of that path.
`label` is a class name. Subjects and cameras are numbers or names. A recording can be in several splits: write them
with a semicolon between. A file `labels.csv` in the source is used where no other is named.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import DataError
from .archives import MAX_MEMBER, Files, printable
from .fact_columns import fact_of, same_column
from .source import Unusable, first

FILE_NAME = "labels.csv"
_FACTS = ("label", "subject", "camera", "split")

Row = dict[str, str]


@dataclass(frozen=True)
class Labels:
    """The rows of a CSV file by recording."""

    where: str
    rows: dict[str, Row]  # path of a recording -> column -> text
    columns: tuple[str, ...] = ()
    others: Row | None = None  # of recordings without a row

    def of(self, name: str) -> Row:
        """The row of a recording by its path. Raises `Unusable`."""
        for key in keys(name):
            if key in self.rows:
                return self.rows[key]
        if self.others is not None:
            return self.others
        raise Unusable(f"has no row in {self.where}")


def keys(name: str) -> list[str]:
    """What a row may call the recording of this path."""
    path = PurePosixPath(name)
    return [name, str(path.with_suffix("")) if path.suffix else name, path.name, path.stem]


def natural(names: Iterable[str]) -> list[str]:
    """Sorted with the numbers in them by value: "2" before "10"."""

    def key(name: str) -> tuple[list[str], str]:
        parts = re.split(r"(\d+)", name)  # text and digits by turns
        return [part.zfill(30) if place % 2 else part.casefold() for place, part in enumerate(parts)], name

    return sorted(names, key=key)


def read_labels(path: Path) -> Labels:
    """Read a CSV file. Raises `DataError` naming the line."""
    try:
        if path.stat().st_size > MAX_MEMBER:
            raise DataError(f"{path} is longer than {MAX_MEMBER >> 20} MiB: give a CSV with a row per recording.")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"no labels in {path} ({error.strerror}): give a CSV with the columns file, label.") from None
    return _parsed(data, printable(str(path), 200))


def find_labels(files: Files) -> Labels | None:
    """The `labels.csv` of the source. Raises `DataError` where it is none."""
    member = first(files, is_labels)
    if member is None:
        return None
    shown = printable(member.name, 200)
    if member.data is None:
        raise DataError(f"{shown} {member.problem}: write the labels anew.")
    return _parsed(member.data, shown)


def is_labels(name: str) -> bool:
    """Whether a file is the `labels.csv` of a source."""
    return PurePosixPath(name).name.lower() == FILE_NAME


def _parsed(data: bytes, where: str) -> Labels:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{where} is not UTF-8: save it as UTF-8.") from None
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = [name.strip() for name in next(reader, [])]
        at = _places(header)
        if not {"file", "label"} <= at.keys():
            found = printable(", ".join(filter(None, header)), 100) or "no names"
            raise DataError(
                f"{where} needs a first line with the columns file and label, and maybe subject, camera and split; "
                f"it has {found}."
            )
        cells = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{where}, line {reader.line_num}: {printable(str(error))}; write it anew.") from None
    rows: dict[str, Row] = {}
    for line, row in cells:
        values = {name: row[i].strip() if i < len(row) else "" for name, i in at.items()}
        if not values["file"] or not values["label"]:
            raise DataError(f"{where}, line {line}: file or label is empty; every recording needs both.")
        name = values.pop("file").replace("\\", "/").removeprefix("./")
        if rows.setdefault(name, values) != values:
            raise DataError(f"{where}, line {line}: {printable(name)} is on a line before with other values.")
    return Labels(where, rows, tuple(name for name in at if name != "file"))


def _places(header: list[str]) -> dict[str, int]:
    """Columns by what they say, or by their own name where that is nothing known."""
    at: dict[str, int] = {}
    for wanted in ("file", *_FACTS):  # names as documented first
        for number, name in enumerate(header):
            if same_column(name, wanted):
                at.setdefault(wanted, number)
    for number, name in enumerate(header):
        if number in at.values() or not name:
            continue
        fact = "subject" if (fact := fact_of(name)) == "person" else fact
        known = fact if fact in ("subject", "camera", "split") and fact not in at else None
        at.setdefault(known or name, number)
    return at
