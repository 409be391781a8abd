"""Where class, subject, camera and splits of people's own recordings come from, and what else they could be.

In this order: `--labels FILE` or a `labels.csv` in the source (`skag.readers.label_tables`); file names by
`--label-from` (`skag.readers.name_patterns`); what the recordings say themselves, such as columns of a table; the
folders they lie in. `--classes-from` takes a column or a level of folders instead. Folders called train, test or val
name a split, and a level of folders such as P01, P02 the subjects.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import takewhile
from pathlib import PurePosixPath

from ..errors import DataError
from ..plural import counted
from ..skeleton.layouts import Layout
from ..skeleton.store import UNKNOWN, Clip
from .archives import Files, printable
from .counted import listed
from .label_tables import Labels, Row, find_labels, keys, natural
from .name_patterns import guess
from .source import Options, Skipped, Source, Unusable
from .split_names import SPLIT_FOLDERS, split_name, splits_in

__all__ = ["UNLABELLED", "Catalogue", "Facts", "Labels", "Own", "natural", "split_name"]

_TABLES = (".csv", ".tsv", ".parquet", ".pq")
_ENDING = re.compile(r"\.(csv|tsv|parquet|pq|npy|npz|json|txt|dat|bvh|amc|c3d)$", re.IGNORECASE)
_PEOPLE = re.compile(
    r"(s|p|u|sub|subj|subject|person|participant|patient|user|actor|performer|player|volunteer)[ _-]?\d+", re.IGNORECASE
)
_MOST_ALTERNATIVES = 4

Key = tuple[str, str]  # path of a recording, and what its name has after it where it is a part of that

UNLABELLED = Labels("", {}, others={"label": "unknown"})  # recordings whose classes are not known, or not wanted


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one recording besides its joints."""

    label: str
    subject: int = UNKNOWN
    camera: int = UNKNOWN
    splits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Own:
    """What recordings say of themselves: columns of a table, or arrays beside the joints."""

    rows: dict[Key, Row]  # label, subject, camera, split, group
    names: dict[str, str] = field(default_factory=dict)  # fact -> name of its column
    where: str = ""  # of the labels
    maybe: tuple[str, ...] = ()  # columns that could be the label and are not taken
    unused: tuple[str, ...] = ()  # other columns


class Catalogue:
    """Where the facts of every recording come from, and which classes there are."""

    def __init__(self, names: list[str], files: Files, options: Options, own: Own | None = None) -> None:
        """`names` are the paths of the recordings inside the source. Raises `DataError`."""
        self._options, self._own, self._paths = options, own or Own({}), names
        self._labels = options.labels or find_labels(files)
        self._folders = _Folders([*names, *options.beside])
        self._shared = self._folders.shared
        self.notes: list[str] = []
        self.could_be: list[str] = []
        self.groups: dict[str, str] = {}  # what splits are made by, of the recordings that were asked about
        self._choose()
        keyed = list(self._own.rows) or [(name, "") for name in names]
        found = self._labels_found(keyed)
        self._found = set(found)
        self.classes = options.classes or natural(found)
        self._index = {name: number for number, name in enumerate(self.classes)}
        self._check_classes(natural(found))
        self._number = {fact: self._numbered(fact, keyed) for fact in ("subject", "camera")}
        self.has_splits = any(self._splits(key) for key in keyed) or any(
            row.get("split") for row in (self._labels.rows.values() if self._labels else ())
        )
        if self._labels and not any(path.lower().endswith(_TABLES) for path in options.beside):
            self.notes += _absent(self._labels, [*names, *options.beside])

    # ---- where classes come from

    def _choose(self) -> None:
        """Decide on the source of labels, and say what else they could be."""
        chosen, pattern = self._options.classes_from, self._options.pattern
        self._level = self._folders.level
        if chosen is not None and chosen.column is None:
            self._from, self._level = "folder", self._folders.checked(chosen.level)
        elif pattern is not None and "label" in pattern.fields:
            self._from = "pattern"
        elif self._labels is not None and (chosen is None or self._options.labels is not None):
            self._from = "labels"
        else:
            self._from = self._column_or_folder(forced=chosen is not None)
        self.where = {
            "labels": self._labels.where if self._labels else "",
            "pattern": f"file names, by {pattern.text}" if pattern else "",
            "own": self._own.where,
            "folder": self._folders.named(self._level),
        }[self._from]
        if self._from in ("own", "folder"):
            self._tell_alternatives()
        if self._own.unused and self._options.labels is not UNLABELLED:
            self.notes.append(f"Columns that are not used: {', '.join(self._own.unused[:8])}.")

    def _column_or_folder(self, forced: bool) -> str:
        labels = self._own_labels()
        folders = {key: self._folders.of(key[0], self._level) for key in labels}
        column = printable(self._own.names.get("label", ""), 40)
        if not labels:
            return "folder"
        if forced or not column or len(set(folders.values())) < 2:
            return "own"
        pairs = set(zip(labels.values(), folders.values(), strict=True))
        one_to_one = len(pairs) == len(set(labels.values())) == len(set(folders.values()))
        if len(set(labels.values())) == 1:
            label = next(iter(labels.values()))
            self.notes.append(
                f"Column {column!r} says {label!r} of every recording, so the folders are the classes; "
                f"--classes-from {column} takes the column."
            )
            return "folder"
        if one_to_one and all(label.isdigit() for label in labels.values()):
            self.notes.append(f"Column {column!r} numbers the folders, whose names are the classes.")
            return "folder"
        if not one_to_one:
            other = [key for key in labels if not alike(labels[key], folders[key])]
            if other:
                self.notes.append(
                    f"Column {column!r} is the class, and {len(other)} of {len(labels)} recordings lie in a folder "
                    f"that is called otherwise, such as {printable(other[0][0], 80)} ({labels[other[0]]}); "
                    "--classes-from folder takes the folders."
                )
        return "own"

    def _own_labels(self) -> dict[Key, str]:
        return {key: clean(row["label"]) for key, row in self._own.rows.items() if row.get("label")}

    def _tell_alternatives(self) -> None:
        same = {self._level} if self._from == "folder" else self._folders.like(self._own_labels())
        for level, counts in self._folders.levels.items():
            if level not in same and len(counts) > 1 and not _are_splits(counts):
                self.could_be.append(
                    f"the folders of level {level} ({listed(counts, 4)}): --classes-from folder:{level}"
                )
        self.could_be += [f"column {name!r}: --classes-from {name!r}" for name in self._own.maybe]
        if self._from == "folder" and (column := self._own.names.get("label")):
            self.could_be.append(f"column {column!r}: --classes-from {column!r}")
        self.could_be = list(dict.fromkeys(self.could_be))[:_MOST_ALTERNATIVES]

    def _labels_found(self, keyed: list[Key]) -> set[str]:
        if self._from == "labels":
            assert self._labels is not None
            rows = [*self._labels.rows.values(), *([self._labels.others] if self._labels.others else [])]
            return {clean(row["label"]) for row in rows}
        if self._from == "folder":
            found = set(self._folders.counts(self._level))
            return found if len(found) > 1 or self._options.classes else set()
        return {label for key in keyed if (label := self._label(key))}

    def _check_classes(self, found: list[str]) -> None:
        """Refuse labels that are misspelt, or none of which is a class; those of other classes are left out."""
        if self._from != "labels" and self._from != "own":
            return
        none = found and self._found.isdisjoint(self._index)
        for label in found:
            near = [] if label in self._index else get_close_matches(label, set(self.classes) - self._found, 1)
            if near or (none and label not in self._index):
                raise DataError(f"{self.where} has the label {label!r}, {_nearest(label, self.classes)}.")
        folded = Counter(name.casefold() for name in self.classes)
        if twice := [name for name in self.classes if folded[name.casefold()] > 1]:
            self.notes.append(f"Classes {', '.join(map(repr, twice[:4]))} differ in capitals alone: are they one?")

    # ---- facts of a recording

    def facts(self, path: str, suffix: str = "", shown: str | None = None) -> tuple[int, Facts]:
        """Class number and facts of a recording. Raises `Unusable` where its class is unknown."""
        key = path, suffix
        label = self._label(key)
        if label is None or (self._from == "folder" and label not in self._found):
            raise Unusable(self._without_label(label or "", path))
        if label not in self._index:
            where = f"is in folder {label!r}" if self._from == "folder" else f"has the label {label!r}"
            raise Unusable(f"{where}, {_nearest(label, self.classes)}")
        if self._options.split_column is not None and (group := self._text("group", key)):
            self.groups[printable(shown or self.name(path), 255)] = group
        numbers = {fact: known.get(self._text(fact, key), UNKNOWN) for fact, known in self._number.items()}
        return self._index[label], Facts(label, numbers["subject"], numbers["camera"], self._splits(key))

    def _label(self, key: Key) -> str | None:
        """The label of a recording, None where it has none. Raises `Unusable` for one without a row."""
        path = key[0]
        if self._from == "labels":
            assert self._labels is not None
            return clean(self._labels.of(path)["label"])
        if self._from == "folder":
            return self._folders.of(path, self._level)
        if self._from == "pattern":
            assert self._options.pattern is not None
            return (self._options.pattern.of(path) or {}).get("label")
        return clean(self._own.rows.get(key, {}).get("label", "")) or None

    def _text(self, fact: str, key: Key) -> str:
        """What is said of a recording's subject, camera, split or group."""
        path = key[0]
        named = (self._options.split_column or "") if fact == "group" else fact
        if self._options.pattern is not None and (found := (self._options.pattern.of(path) or {}).get(named)):
            return found
        if self._labels is not None and self._labels.rows:
            row = next((self._labels.rows[each] for each in keys(path) if each in self._labels.rows), {})
            if text := next((text for name, text in row.items() if name.casefold() == named.casefold()), ""):
                return text
        if text := self._own.rows.get(key, {}).get(fact, ""):
            return text
        if fact == "group" and (match := re.fullmatch(r"folder:(\d+)", named)):
            return self._folders.of(path, int(match[1]))
        if fact == "subject" and self._folders.people not in (None, self._level):
            return self._folders.of(path, self._folders.people)
        return ""

    def _splits(self, key: Key) -> tuple[str, ...]:
        if text := self._text("split", key):
            return splits_in(text)
        level = self._level if self._from == "folder" else 0
        return () if self._from == "labels" else self._folders.split(key[0], level)

    def _numbered(self, fact: str, keyed: list[Key]) -> dict[str, int]:
        """Numbers of all subjects or cameras: their own, or their places in the sorted list of names."""
        there = {self._text(fact, key) for key in keyed}
        there |= {row.get(fact, "") for row in self._labels.rows.values()} if self._labels else set()
        there -= {""}
        found = [(value, re.fullmatch(r"([^\d]{0,20}?)(\d{1,9})", value)) for value in there]
        numbers = {value: (match[1], int(match[2])) for value, match in found if match}
        if len(numbers) == len(there) and len({word for word, _ in numbers.values()}) == 1:
            return {value: number for value, (_, number) in numbers.items()}
        order = natural(there)
        if there and self._options.labels is not UNLABELLED:
            who = ", ".join(f"{number} {printable(name, 30)}" for number, name in enumerate(order[:8], 1))
            more = ", ..." if len(order) > 8 else ""
            self.notes.append(
                f"{fact.capitalize()}s have names; they are numbered from 1 in the order of these names: {who}{more}."
            )
        return {value: number for number, value in enumerate(order, 1)}

    def _without_label(self, label: str, path: str) -> str:
        """Why a recording has no class; `label` is its folder, "" for none."""
        if self._from == "pattern":
            assert self._options.pattern is not None
            return f"has a name that does not fit --label-from {self._options.pattern.text}"
        if self._from == "own":
            return f"has no label in {self.where}"
        if label:
            return (
                f"is in folder {label!r} as all recordings are, which makes one class: put those of other classes "
                "into folders beside it, name all classes with --classes FILE, or give --labels FILE.csv"
            )
        why = "has no label: give --labels FILE.csv, or put recordings into a folder per class, and give the one above"
        if guessed := guess(self._paths):
            pattern, counts = guessed
            why += f"; or take it out of file names, --label-from '{pattern.text}' ({listed(counts, 4)})"
        if columns := (*self._own.maybe, *self._own.unused):
            why += f"; or take a column, such as --classes-from {shlex.quote(printable(columns[0], 60))}"
        return why

    # ---- the source

    def name(self, path: str) -> str:
        """The name of a recording: its path below the folders that all share, without ending."""
        return _ENDING.sub("", str(PurePosixPath(*PurePosixPath(path).parts[self._shared :])))

    def source(self, layout: Layout, clips: Iterator[Clip | Skipped], total: int | None) -> Source:
        """The source of these recordings, with all that the catalogue knows of them."""
        if self._from == "folder" and self._found and (other := self._folders.crossed(self._level)):
            self.notes.append(other)
        return Source(
            layout,
            self.classes,
            clips,
            total,
            self.notes,
            self.has_splits,
            where=self.where,
            could_be=self.could_be,
            groups=self.groups,
        )


class _Folders:
    """The folders of all recordings, level by level from the outermost inside the source."""

    def __init__(self, paths: list[str]) -> None:
        self._parts = [PurePosixPath(path).parts[:-1] for path in paths]
        self.shared = _shared_folders(self._parts)
        depths = {len(parts) for parts in self._parts}
        self.depth = depths.pop() if len(depths) == 1 else 0  # 0: not all lie equally deep
        self.levels = {n: self.counts(n) for n in range(1, self.depth + 1)}
        people = [n for n, counts in self.levels.items() if len(counts) > 1 and all(map(_PEOPLE.fullmatch, counts))]
        usable = [n for n, counts in self.levels.items() if not _are_splits(counts)]
        named = [n for n in usable if n not in people]
        self.level = max(named or usable, default=None)  # None: the folder that a recording lies in
        self.people = people[0] if len(people) == 1 else None

    def of(self, path: str, level: int | None) -> str:
        """The folder of a recording at a level, "" where it has none."""
        return self._at(PurePosixPath(path).parts[:-1], level)

    def _at(self, parts: tuple[str, ...], level: int | None) -> str:
        place = len(parts) if level is None else level
        return clean(parts[place - 1]) if 0 < place <= len(parts) else ""

    def counts(self, level: int | None) -> dict[str, int]:
        """How many recordings lie in every folder of a level."""
        found = Counter(self._at(parts, level) for parts in self._parts)
        del found[""]
        return {name: found[name] for name in natural(found)}

    def checked(self, level: int | None) -> int | None:
        """The level that the user chose. Raises `DataError` where no recording has one."""
        if level is not None and not self.counts(level):
            most = max(map(len, self._parts), default=0)
            there = f"levels 1 to {most}" if most else "no folders"
            raise DataError(f"--classes-from folder:{level}: the recordings have {there}, counted from the outermost.")
        return self.level if level is None else level

    def named(self, level: int | None) -> str:
        """A level in words."""
        return "the folders" if level is None or self.depth < 2 else f"the folders of level {level} of {self.depth}"

    def split(self, path: str, level: int | None) -> tuple[str, ...]:
        """The split that a folder names, other than that of the class."""
        parts = PurePosixPath(path).parts[:-1]
        place = len(parts) if level is None else level
        found = [SPLIT_FOLDERS[p.lower()] for n, p in enumerate(parts, 1) if n != place and p.lower() in SPLIT_FOLDERS]
        return tuple(found[-1:])

    def like(self, labels: dict[Key, str]) -> set[int]:
        """The levels whose folders part the recordings as their labels do."""
        found = set()
        for level in self.levels:
            pairs = {(label, self.of(key[0], level)) for key, label in labels.items()}
            if len(pairs) == len({label for label, _ in pairs}) == len({folder for _, folder in pairs}):
                found.add(level)
        return found

    def crossed(self, level: int | None) -> str:
        """A remark where the names of one level stand below several of another, as people and what they do."""
        for other, counts in self.levels.items():
            if level is None or other in (level, self.people) or len(counts) < 2 or _are_splits(counts):
                continue
            pairs = {(self._at(parts, level), self._at(parts, other)) for parts in self._parts}
            if len(pairs) > max(len(counts), len(self.levels[level])):
                field = ["{label}" if n == level else "{subject}" if n == other else "*" for n in self.levels]
                return (
                    f"Each class has folders of the same names ({', '.join(list(counts)[:3])}) as others: if these are "
                    f"people, --label-from '{'/'.join([*field, '*'])}' takes them as subjects; if they are "
                    f"the classes, --classes-from folder:{other} does."
                )
        return ""


def label_column(options: Options) -> str | None:
    """The column that the user chose for the label."""
    return None if options.classes_from is None else options.classes_from.column


def clean(label: str) -> str:
    """A class name as it is stored: without blanks around it, and with single ones inside."""
    return " ".join(printable(label, 100).split())


def alike(one: str, other: str) -> bool:
    """Whether two names differ in capitals and signs alone, or one is a part of the other."""
    first, second = ("".join(c for c in text.casefold() if c.isalnum()) for text in (one, other))
    return bool(first) and bool(second) and (first in second or second in first)


def _are_splits(names: dict[str, int]) -> bool:
    return bool(names) and all(name.lower() in SPLIT_FOLDERS for name in names)


def _absent(labels: Labels, names: list[str]) -> list[str]:
    """A note on rows without a recording."""
    there = {key for name in names for key in keys(name)}
    absent = [name for name in labels.rows if there.isdisjoint(keys(name))]
    if not absent:
        return []
    example = printable(absent[0], 60)
    return [f"{labels.where} names {counted(len(absent), 'file', 'that is/that are')} not here, such as {example}."]


def _nearest(label: str, classes: list[str]) -> str:
    near = get_close_matches(label, classes, 1)
    return "which is no class" + (f"; did you mean {near[0]!r}?" if near else " of those given with --classes")


def _shared_folders(folders: list[tuple[str, ...]]) -> int:
    """How many leading folders all recordings share."""
    shared: tuple[str, ...] | None = None
    for parts in folders:
        pairs = zip(shared, parts, strict=False) if shared is not None else ()
        shared = parts if shared is None else tuple(a for a, b in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if not shared:
            return 0
    return len(shared or ())
