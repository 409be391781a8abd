"""People's own recordings as tables, a row per frame: what the CSV and the Parquet reader share.

Columns with coordinates are named after a joint and an axis (`left_hand_x`, `LeftHand.x`) or numbered (`x0`, `0_x`,
`joint_0_x`; from 0 or from 1, in the order of the layout). A last part `c`, `conf`, `confidence`, `score`,
`visibility`, `likelihood` or `v` is a confidence. An empty cell is a joint that was not seen.

Further columns, all optional; others are ignored:

    clip                             the recording, where a file holds several; its rows follow one another
    frame                            a number; rows of one frame have the same one
    body                             which person a row is, where there are several (at most five in a recording)
    label, subject, camera, split    as in `skag.readers.labels`, on the first row of a recording
    width, height                    of the image in pixels
    timestamp, time                  of the frame; in seconds, or in thousandths, millionths or nanoseconds
                                     where a name such as `timestamp_ms` says so or no camera were else so slow
"""

from __future__ import annotations

import math
import re
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np

from ..errors import DataError
from ..skeleton import timing
from ..skeleton.layouts import Layout
from ..skeleton.store import UNKNOWN, Clip
from . import joints
from .archives import Files, printable
from .labels import Catalogue, Labels, find_labels, is_labels, labels_of
from .poses import ALWAYS_ALLOWED, EMPTIEST
from .source import NoneUsable, Options, Skipped, Source, Unusable, streams

TIMES = {  # columns of time stamps, and what a second is in them, where the name says so
    "timestamp": 0, "time": 0, "t": 0, "time_s": 1, "timestamp_s": 1, "time_sec": 1, "seconds": 1, "time_ms": 1e3,
    "timestamp_ms": 1e3, "milliseconds": 1e3, "time_us": 1e6, "timestamp_us": 1e6, "time_ns": 1e9, "timestamp_ns": 1e9,
}  # fmt: skip
FACTS = {
    "clip": "clip", "recording": "clip", "file": "clip", "name": "clip", "frame": "frame", "body": "body",
    "person": "body", "track": "body", "label": "label", "class": "label", "subject": "subject", "camera": "camera",
    "split": "split", "width": "width", "height": "height", **dict.fromkeys(TIMES, "time"),
}  # fmt: skip
CONFIDENCE = {"c", "conf", "confidence", "score", "visibility", "likelihood", "v"}
MAX_BODIES = 5
MAX_BYTES = 64 << 20  # of the numbers of one recording
_OF_LABELS = ("label", "subject", "camera", "split")
_OF_HANDS = {"hand", "finger", "thumb", "index", "pinky", "face"}
_JOINT_WORDS = {"joint", "j", "kp", "keypoint", "key", "point", "landmark", "lm"}

Row = tuple[list[str], np.ndarray | str]  # texts of the fact columns; numbers, or why there are none


class Table(Protocol):
    """An opened file. `rows` may raise `Unusable` where the file breaks off."""

    header: list[str]

    def rows(self, facts: list[int], numbers: list[int]) -> Iterator[Row]:
        """The rows, of each the columns `facts` as text and `numbers` as float64."""


Open = Callable[[BinaryIO], Table]  # raises `Unusable`


@dataclass(frozen=True)
class Columns:
    """What the columns of a table mean."""

    facts: dict[str, int]
    points: dict[str, list[int]]  # joint -> columns of its coordinates
    confidence: dict[str, int]
    numbered: bool  # joints are "0", "1", ... in their order

    @property
    def dims(self) -> int:
        return len(next(iter(self.points.values())))

    def layout(self) -> Layout:
        """The layout that fits. Raises `Unusable`."""
        if self.numbered:
            return joints.layout_of_shape(len(self.points), self.dims)
        return joints.layout_of_names(self.points, self.dims)

    def numbers(self, layout: Layout) -> list[int]:
        """Columns of all coordinates in the order of the layout, then of all confidences. Raises `Unusable`."""
        names = list(self.points)
        if self.dims < layout.dims:
            raise Unusable(f"has {self.dims} coordinates per joint, and layout {layout.name} has {layout.dims}")
        if not self.numbered:
            names = [names[place] for place in joints.places(layout, names)]
        elif len(names) != layout.num_recorded:
            raise Unusable(f"has {len(names)} joints, and layout {layout.name} has {layout.num_recorded}")
        found = [column for name in names for column in self.points[name][: layout.dims]]
        return found + [self.confidence.get(name, self.points[name][0]) for name in names if self.confidence]

    def assumed(self, layout: Layout) -> list[int]:
        """Where in `numbers` x stands for a confidence that is not there: such joints count as seen."""
        names = list(self.points)
        names = names if self.numbered else [names[place] for place in joints.places(layout, names)]
        start = layout.num_recorded * layout.dims
        return [start + n for n, name in enumerate(names) if self.confidence and name not in self.confidence]


def columns_of(header: list[str]) -> Columns:
    """Understand a header. Raises `Unusable` where it names no joints."""
    if not header:
        raise Unusable("is empty")
    facts: dict[str, int] = {}
    axes: dict[str, dict[str, int]] = {}
    for number, name in enumerate(header):
        if (fact := FACTS.get(name.strip().lower())) is not None:
            facts.setdefault(fact, number)
        elif found := _joint_and_axis(name):
            joint, axis = found
            if axes.setdefault(joint, {}).setdefault(axis, number) != number:
                raise Unusable(f"has two columns for {axis} of joint {printable(joint, 40)}")
    if not axes:
        raise Unusable("has no columns with coordinates of joints, such as left_hand_x")
    wanted = "xyz" if any("z" in of_joint for of_joint in axes.values()) else "xy"
    for joint, of_joint in axes.items():
        if missing := [axis for axis in wanted if axis not in of_joint]:
            raise Unusable(f"has no column {missing[0]} for joint {printable(joint, 40)}")
    confidence = {joint: of_joint["c"] for joint, of_joint in axes.items() if "c" in of_joint}
    without = {joint for joint in axes.keys() - confidence.keys() if not _OF_HANDS & set(joint.split())}
    if confidence and without:  # MediaPipe gives a visibility for the pose, and none for hands and face
        raise Unusable(f"has no confidence for joint {printable(min(without), 40)}, but for others")
    points = {joint: [of_joint[axis] for axis in wanted] for joint, of_joint in axes.items()}
    numbered = all(joint.isdigit() for joint in points)
    if numbered:
        points = dict(sorted(points.items(), key=lambda item: int(item[0])))
        first = int(next(iter(points)))
        if first > 1 or list(map(int, points)) != list(range(first, first + len(points))):
            raise Unusable("has numbers of joints with gaps, or not from 0 or 1")
    return Columns(facts, points, confidence, numbered)


def _joint_and_axis(name: str) -> tuple[str, str] | None:
    """ "left_hand_x" -> ("left hand", "x"); None for a column of something else."""
    parts = joints.words(name) if len(name) < 100 else []
    for axis, rest in ((parts[-1:], parts[:-1]), (parts[:1], parts[1:])):
        is_confidence = axis and axis[0] in CONFIDENCE
        if rest and (is_confidence or axis[0] in ("x", "y", "z")):
            number = [part for part in rest if part not in _JOINT_WORDS]
            numbered = len(number) == 1 and re.fullmatch(r"\d{1,4}", number[0])
            rest = joints.bare(rest)
            return str(int(number[0])) if numbered else " ".join(rest), "c" if is_confidence else axis[0]
    return None


def _first(files: Files, wanted: Callable[[str], bool], opened: Open) -> Columns:
    """The columns of the first table that is one of recordings. Raises `DataError` where there is none."""
    problems: list[tuple[str, Unusable]] = []
    for name, stream in streams(files, wanted):
        try:
            return columns_of(opened(_there(stream)).header)
        except Unusable as unusable:
            problems.append((name, unusable))
    raise NoneUsable(files, problems, "table")


def _there(stream: BinaryIO | str) -> BinaryIO:
    if isinstance(stream, str):
        raise Unusable(stream)
    return stream


def read(files: Files, options: Options, wanted: Callable[[str], bool], opened: Open) -> Source:
    """Recordings in the order of the files and rows. Raises `DataError`."""
    names = list(filter(wanted, files.names))
    try:
        columns = _first(files, wanted, opened)
        layout = options.layout or columns.layout()
        columns.numbers(layout)
    except Unusable as unusable:
        raise DataError(f"{files.shown} {unusable}.") from None
    reader = _Reader(files, wanted, opened, layout)
    if "clip" in columns.facts or "label" in columns.facts:
        reader.look_through("clip" in columns.facts)
        names = list(reader.first_rows)
    labels = options.labels or find_labels(files)
    if not labels and "label" in columns.facts:
        labels = reader.own_labels()
    reader.catalogue = catalogue = Catalogue(names, files, options, labels)
    if not columns.numbered and (note := joints.left_out(layout, columns.points)):
        catalogue.notes.append(note)
    return Source(layout, catalogue.classes, reader.clips(), len(names), catalogue.notes, catalogue.has_splits)


def is_table(name: str, ending: tuple[str, ...]) -> bool:
    """Whether a file is a table that can be one of recordings."""
    return name.lower().endswith(ending) and not is_labels(name)


class _Reader:
    """Goes through the tables of a source."""

    catalogue: Catalogue

    def __init__(self, files: Files, wanted: Callable[[str], bool], opened: Open, layout: Layout) -> None:
        self._files, self._wanted, self._opened, self._layout = files, wanted, opened, layout
        self._by_clip = False
        self.first_rows: dict[str, tuple[str, ...]] = {}  # of every recording, where the tables were looked through:
        # the columns `_OF_LABELS`; "" where there are none
        self._scattered: set[str] = set()
        self._told: set[str] = set()

    def look_through(self, by_clip: bool) -> None:
        """Find all recordings and what their first rows say."""
        self._by_clip = by_clip
        for file, stream in streams(self._files, self._wanted):
            try:
                for name, row in self._starts(file, _there(stream)):
                    if name in self.first_rows:
                        self._scattered.add(name)
                    told = tuple(sys.intern(row.get(key, "")) for key in _OF_LABELS)
                    self.first_rows.setdefault(name, told)
            except Unusable:
                self.first_rows.setdefault(file, ("",) * len(_OF_LABELS))  # `clips` says why

    def _starts(self, file: str, stream: BinaryIO) -> Iterator[tuple[str, dict[str, str]]]:
        """(recording, its first row) in one table."""
        table = self._opened(stream)
        facts = columns_of(table.header).facts
        before = None
        for texts, _ in table.rows(list(facts.values()), []):
            row = dict(zip(facts, texts, strict=True))
            name = self._name(file, row)
            if name != before:
                yield name, row
            if not self._by_clip:
                return
            before = name

    def _name(self, file: str, row: dict[str, str]) -> str:
        return row.get("clip") or file if self._by_clip else file

    def own_labels(self) -> Labels:
        """The labels in the tables themselves. Raises `DataError`."""
        rows = (
            {"file": name, **dict(zip(_OF_LABELS, row, strict=True))}
            for name, row in self.first_rows.items()
            if row[_OF_LABELS.index("label")]
        )
        return labels_of(list(enumerate(rows, 1)), f"the column label of {self._files.shown}")

    def clips(self) -> Iterator[Clip | Skipped]:
        for file, stream in streams(self._files, self._wanted):
            try:
                yield from self._clips_of(file, _there(stream))
            except Unusable as unusable:
                yield Skipped(file, str(unusable))
            except MemoryError:
                yield Skipped(file, "does not fit into memory")

    def _clips_of(self, file: str, stream: BinaryIO) -> Iterator[Clip | Skipped]:
        table = self._opened(stream)
        columns = columns_of(table.header)
        self._time_unit = TIMES[table.header[columns.facts["time"]].strip().lower()] if "time" in columns.facts else 0
        numbers, assumed = columns.numbers(self._layout), columns.assumed(self._layout)
        recording: _Recording | None = None
        for texts, values in table.rows(list(columns.facts.values()), numbers):
            row = dict(zip(columns.facts, texts, strict=True))
            name = self._name(file, row)
            if recording is None or name != recording.name:
                if recording:
                    yield from self._closed(recording)
                recording = _Recording(name, row, self._layout, bool(columns.confidence))
            if assumed and not isinstance(values, str):
                values[assumed] = np.isfinite(values[assumed]) & (values[assumed] != 0)
            recording.add(row, values)
        if recording is None:
            raise Unusable("has no rows")
        yield from self._closed(recording)

    def _closed(self, recording: _Recording) -> Iterator[Clip | Skipped]:
        name = recording.name
        shown = name if self._by_clip else self.catalogue.name(name)
        try:
            if name in self._scattered:
                if name in self._told:
                    return
                self._told.add(name)
                raise Unusable("has rows in several places: sort the table by its recordings")
            keypoints, confidence = recording.arrays()
            label, facts = self.catalogue.facts(name)
        except Unusable as unusable:
            yield Skipped(shown, str(unusable))
            return
        size = [_pixels(recording.row.get(side, "")) for side in ("width", "height")]
        yield Clip(shown, label, keypoints, confidence, facts.subject, facts.camera, splits=facts.splits,
                   width=size[0], height=size[1], times=recording.times(self._time_unit))  # fmt: skip


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan


def _pixels(text: str) -> int:
    return int(text) if re.fullmatch(r"[1-9]\d{0,5}", text) else UNKNOWN


class _Recording:
    """Collects the rows of one recording."""

    def __init__(self, name: str, row: dict[str, str], layout: Layout, with_confidence: bool) -> None:
        self.name, self.row = name, row
        self._layout, self._with_confidence = layout, with_confidence
        self._values = bytearray()
        self._frames, self._bodies, self._stamps = array("d"), array("b"), array("d")
        self._body: dict[str, int] = {}
        self._rows_of: Counter[int] = Counter()
        self._problem = ""

    def add(self, row: dict[str, str], values: np.ndarray | str) -> None:
        if self._problem:
            return
        try:
            if isinstance(values, str):
                raise Unusable(values)
            body = self._body.setdefault(row.get("body", ""), len(self._body))
            if body == MAX_BODIES:
                raise Unusable(f"has more than {MAX_BODIES} bodies")
            if len(self._values) > MAX_BYTES:
                raise Unusable(f"is longer than {MAX_BYTES >> 20} MiB")
            self._frames.append(self._frame(row, body))
            self._bodies.append(body)
            self._stamps.append(_number(row.get("time", "")))
            self._values += values.astype(np.float32).tobytes()
        except Unusable as unusable:
            self._problem = str(unusable)
            self._values, self._frames = bytearray(), array("d")

    def _frame(self, row: dict[str, str], body: int) -> float:
        if "frame" not in row:  # the n-th row of a body is its n-th frame
            self._rows_of[body] += 1
            return self._rows_of[body]
        try:
            return float(row["frame"])
        except ValueError:
            raise Unusable(f"has {printable(row['frame'], 40)!r} for the number of a frame") from None

    def times(self, unit: float) -> np.ndarray | None:
        """Seconds of the frames `[T]`, of which `unit` are in a second of the stamps (0: not known); None without."""
        _, first = np.unique(self._frames, return_index=True)
        stamps = np.frombuffer(self._stamps, np.float64)[first]
        return None if np.isnan(stamps).any() else timing.in_seconds(stamps, unit)

    def arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """`[M, T, V, C]` and `[M, T, V]`, 0 where a body is not in a frame. Raises `Unusable`."""
        if self._problem:
            raise Unusable(self._problem)
        numbers, frames = np.unique(self._frames, return_inverse=True)
        bodies = np.frombuffer(self._bodies, np.int8)
        place = bodies * np.int64(len(numbers)) + frames
        if len(np.unique(place)) < len(place):
            which = np.flatnonzero(np.bincount(place) > 1)[0]
            what = f"frame {numbers[which % len(numbers)]:g} twice"
            raise Unusable(f"has {what}" + ("" if "body" in self.row else ": say in a column body who is who"))
        joint_count, dims = self._layout.num_recorded, self._layout.dims
        values = np.frombuffer(self._values, np.float32).reshape(len(frames), -1)
        size = 4 * len(self._body) * len(numbers) * values.shape[1]
        if size > max(ALWAYS_ALLOWED, EMPTIEST * values.nbytes):
            raise Unusable(f"has bodies one after another, which would take {size >> 20} MiB, mostly empty: cut it")
        dense = values[None]
        if (np.diff(place) != 1).any() or len(self._body) > 1:
            dense = np.zeros((len(self._body), len(numbers), values.shape[1]), np.float32)
            for part in np.array_split(np.arange(len(values)), len(values) // 4096 + 1):
                dense[bodies[part], frames[part]] = values[part]
        points = dense[..., : joint_count * dims].reshape(*dense.shape[:2], joint_count, dims)
        return points, dense[..., joint_count * dims :] if self._with_confidence else None
