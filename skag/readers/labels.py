"""Class, subject, camera and splits of people's own recordings: from a small CSV file, or from folder names.

The CSV has a header with the columns `file` and `label`, and where wanted `subject`, `camera` and `split`:

    file,label,subject,split
    walk/001.csv,walk,anna,train

`file` is the path of a recording inside the source, with or without its ending, or the last part of that path.
`label` is a class name. Subjects and cameras are numbers or names; names are numbered in their sorted order. A
recording can be in several splits: write them with a semicolon between. A file `labels.csv` in the source is used
where no other is named.

Without a CSV the folder that a recording lies in names its class, and a folder `train`, `test` or `val` above that
its split.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..skeleton.store import UNKNOWN
from .archives import MAX_MEMBER, Files, printable
from .source import Options, Unusable, first

FILE_NAME = "labels.csv"
SPLIT_FOLDERS = ("train", "test", "val")
_COLUMNS = ("file", "label", "subject", "camera", "split")
_MAX_SPLITS = 20
_TABLES = (".csv", ".tsv", ".parquet", ".pq")
_ENDING = re.compile(r"\.(csv|tsv|parquet|pq|npy|npz|json)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one recording besides its joints."""

    label: str
    subject: int = UNKNOWN
    camera: int = UNKNOWN
    splits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labels:
    """The rows of a CSV file by recording."""

    where: str
    rows: dict[str, Facts]
    notes: list[str] = field(default_factory=list)
    others: Facts | None = None  # of recordings without a row

    def of(self, name: str) -> Facts:
        """The row of a recording by its path. Raises `Unusable`."""
        for key in _keys(name):
            if key in self.rows:
                return self.rows[key]
        if self.others is not None:
            return self.others
        raise Unusable(f"has no row in {self.where}")

    @property
    def classes(self) -> list[str]:
        """The labels in their natural order."""
        others = () if self.others is None else (self.others,)
        return natural({facts.label for facts in (*self.rows.values(), *others)})


UNLABELLED = Labels("", {}, others=Facts("unknown"))  # recordings whose classes are not known, or not wanted


def _keys(name: str) -> list[str]:
    path = PurePosixPath(name)
    return [name, str(path.with_suffix("")) if path.suffix else name, path.name, path.stem]


def natural(names: Iterable[str]) -> list[str]:
    """Sorted with the numbers in them by value: "2" before "10"."""

    def key(name: str) -> tuple[list[str], str]:
        parts = re.split(r"(\d+)", name)  # text and digits by turns
        return [part.zfill(30) if place % 2 else part.casefold() for place, part in enumerate(parts)], name

    return sorted(names, key=key)


def split_name(text: str) -> str:
    """A split's name as it can be one of a data set in the store."""
    return re.sub(r"[^\w+-]", "_", text)[:60] or "_"


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
        header = [name.strip().lower() for name in next(reader, [])]
        if not {"file", "label"} <= set(header):
            found = printable(", ".join(filter(None, header)), 100) or "no names"
            raise DataError(
                f"{where} needs a first line with the columns file and label, and maybe subject, camera and split; "
                f"it has {found}."
            )
        cells = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{where}, line {reader.line_num}: {printable(str(error))}; write it anew.") from None
    at = {name: header.index(name) for name in _COLUMNS if name in header}
    table = []
    for line, row in cells:
        values = {name: row[i].strip() if i < len(row) else "" for name, i in at.items()}
        if not values["file"] or not values["label"]:
            raise DataError(f"{where}, line {line}: file or label is empty; every recording needs both.")
        table.append((line, values))
    return labels_of(table, where)


def labels_of(table: list[tuple[int, dict[str, str]]], where: str) -> Labels:
    """Labels from rows `(line, {column: text})` with file and label. Raises `DataError` where rows contradict."""
    notes: list[str] = []
    numbers = {name: _numbered([v.get(name, "") for _, v in table], name, notes) for name in ("subject", "camera")}
    rows: dict[str, Facts] = {}
    for line, values in table:
        splits = tuple(split_name(part.strip()) for part in values.get("split", "").split(";") if part.strip())
        facts = Facts(
            printable(values["label"], 100),
            numbers["subject"].get(values.get("subject", ""), UNKNOWN),
            numbers["camera"].get(values.get("camera", ""), UNKNOWN),
            tuple(dict.fromkeys(splits[:_MAX_SPLITS])),
        )
        name = values["file"].replace("\\", "/").removeprefix("./")
        if rows.setdefault(name, facts) != facts:
            raise DataError(f"{where}, line {line}: {printable(name)} is on a line before with other values.")
    return Labels(where, rows, notes)


def _numbered(values: list[str], what: str, notes: list[str]) -> dict[str, int]:
    """Numbers of all subjects or cameras: their own, or their places in the sorted list of names."""
    there = set(values) - {""}
    if all(re.fullmatch(r"\d{1,9}", value) for value in there):
        return {value: int(value) for value in there}
    notes.append(f"{what.capitalize()}s have names; they are numbered from 1 in the order of these names.")
    return {value: number for number, value in enumerate(natural(there), 1)}


class Catalogue:
    """Where the facts of every recording come from, and which classes there are."""

    def __init__(self, names: list[str], files: Files, options: Options, labels: Labels | None = None) -> None:
        """`names` are the paths of the recordings inside the source; `labels` come before those of the user, or of
        the source. Raises `DataError`."""
        self._labels = labels or options.labels or find_labels(files)
        names, classes = [*names, *options.beside], options.classes
        self._shared = _shared_folders(names)
        self.notes: list[str] = []
        if self._labels:
            found = self._labels.classes
            self.has_splits = any(facts.splits for facts in self._labels.rows.values())
            self.notes += self._labels.notes
            if not any(path.lower().endswith(_TABLES) for path in options.beside):  # with names of their own inside
                self.notes += _absent(self._labels, names)
        else:
            folders = {printable(PurePosixPath(name).parent.name, 100) for name in names} - {""}
            found = natural(folders) if len(folders) > 1 or classes else []
            self.has_splits = any(_split_folder(name) for name in names)
        self._found = set(found)
        self.classes = classes or found
        self._index = {name: number for number, name in enumerate(self.classes)}
        for label in found:
            if self._labels and label not in self._index:
                raise DataError(f"{self._labels.where} has the label {label!r}, {_nearest(label, self.classes)}.")

    def facts(self, name: str) -> tuple[int, Facts]:
        """Class number and facts of a recording. Raises `Unusable` where its class is unknown."""
        if self._labels:
            facts = self._labels.of(name)
        else:
            label = printable(PurePosixPath(name).parent.name, 100)
            if label not in self._found:
                raise Unusable(_without_label(label))
            facts = Facts(label, splits=_split_folder(name))
        if facts.label not in self._index:
            raise Unusable(f"is in folder {facts.label!r}, {_nearest(facts.label, self.classes)}")
        return self._index[facts.label], facts

    def name(self, path: str) -> str:
        """The name of a recording: its path below the folders that all share, without ending."""
        return _ENDING.sub("", str(PurePosixPath(*PurePosixPath(path).parts[self._shared :])))


def _without_label(folder: str) -> str:
    """Why a recording in that folder, "" for none, has no class."""
    if not folder:
        return "has no label: give --labels FILE.csv, or put recordings into a folder per class, and give the one above"
    return (
        f"is in folder {folder!r} as all recordings are, which makes one class: put those of other classes into "
        "folders beside it, name all classes with --classes FILE, or give --labels FILE.csv"
    )


def _split_folder(name: str) -> tuple[str, ...]:
    above = [part.lower() for part in PurePosixPath(name).parts[:-2] if part.lower() in SPLIT_FOLDERS]
    return tuple(above[-1:])


def _absent(labels: Labels, names: list[str]) -> list[str]:
    """A note on rows without a recording."""
    there = {key for name in names for key in _keys(name)}
    absent = [name for name in labels.rows if there.isdisjoint(_keys(name))]
    if not absent:
        return []
    example = printable(absent[0], 60)
    return [f"{labels.where} names {len(absent)} files that are not here, such as {example}."]


def _nearest(label: str, classes: list[str]) -> str:
    near = get_close_matches(label, classes, 1)
    return "which is no class" + (f"; did you mean {near[0]!r}?" if near else " of those given with --classes")


def _shared_folders(names: list[str]) -> int:
    """How many leading folders all paths share."""
    shared: tuple[str, ...] | None = None
    for name in names:
        folders = PurePosixPath(name).parts[:-1]
        shared = (
            folders
            if shared is None
            else tuple(a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(shared, folders, strict=False)))
        )
        if not shared:
            return 0
    return len(shared or ())
