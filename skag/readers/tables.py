"""People's own recordings as tables, a row per frame: what the CSV and the Parquet reader share.

Columns with coordinates are named after a joint and an axis (`left_hand_x`, `LeftHand.x`) or numbered (`x0`, `0_x`,
`joint_0_x`; from 0 or from 1, in the order of the layout). A last part `c`, `conf`, `confidence`, `score`,
`visibility`, `likelihood` or `v` is a confidence. An empty cell is a joint that was not seen.

Further columns, all optional, in any spelling (`User-ID`, see `skag.readers.fact_columns`):

    clip                             the recording, where a file holds several; its rows follow one another
    frame                            a number; rows of one frame have the same one
    body                             which person a row is, where there are several (at most five in a recording)
    label                            where it changes, a new clip begins (see `skag.readers.table_cuts`)
    subject, take                    where they change, a new recording begins
    camera, split                    as in `skag.readers.labels`
    width, height                    of the image in pixels
    timestamp, time                  of the frame; in seconds, or in thousandths, millionths or nanoseconds
                                     where a name such as `timestamp_ms` says so or no camera were else so slow

`person` is a body where rows of several people are mixed, else a subject.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO, Protocol

import numpy as np

from ..errors import DataError
from ..skeleton import timing
from ..skeleton.layouts import Layout
from ..skeleton.store import UNKNOWN, Clip
from . import joints
from .archives import Files, printable
from .fact_columns import BODY, CLIP, FRAME, LABEL, PERSON, SPLIT, SUBJECT, TAKE, TIME, fact_of, time_unit
from .label_tables import find_labels, is_labels
from .labels import Catalogue, Own, label_column
from .poses import ALWAYS_ALLOWED, EMPTIEST
from .source import NoneUsable, Options, Skipped, Source, Unusable, streams
from .table_columns import GROUP, Choice, Columns, columns_of
from .table_cuts import Cuts, Cutter, Row, Segment, Visit

MAX_BODIES = 5
MAX_BYTES = 64 << 20  # of the numbers of one recording
_OF_CLIPS = {CLIP, LABEL, SUBJECT, TAKE, "camera", SPLIT, GROUP, PERSON}  # facts that tables are looked through for

Cells = tuple[list[str], np.ndarray | str]  # texts of the fact columns; numbers, or why there are none


class Table(Protocol):
    """An opened file. `rows` may raise `Unusable` where the file breaks off."""

    header: list[str]

    def rows(self, facts: list[int], numbers: list[int]) -> Iterator[Cells]:
        """The rows, of each the columns `facts` as text and `numbers` as float64."""


Open = Callable[[BinaryIO], Table]  # raises `Unusable`


def _first(files: Files, wanted: Callable[[str], bool], opened: Open, choice: Choice) -> tuple[Columns, list[str]]:
    """Columns and header of the first table that is one of recordings. Raises `DataError` where there is none."""
    problems: list[tuple[str, Unusable]] = []
    for name, stream in streams(files, wanted):
        try:
            header = opened(_there(stream)).header
            return columns_of(header, choice), header
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
    labels = options.labels or find_labels(files)
    elsewhere = [*(labels.columns if labels else ()), *(options.pattern.fields if options.pattern else ())]
    by = options.split_column
    in_tables = by is not None and by not in elsewhere and not re.fullmatch(r"folder:\d+", by)
    choice = Choice(
        label=label_column(options),
        without_label=labels is not None or not options.may_take_column,
        group=by if in_tables else None,
    )
    try:
        columns, header = _first(files, wanted, opened, choice)
        layout = options.layout or columns.layout()
        columns.numbers(layout)
    except Unusable as unusable:
        raise DataError(f"{files.shown} {unusable}.") from None
    reader = _Reader(files, wanted, opened, layout, choice)
    facts = {fact_of(name) for name in header}
    if PERSON in facts and not (BODY in facts and SUBJECT in facts):
        reader.choose_person(len(names), options.to_predict)
        columns = columns_of(header, reader.choice)
    if not _OF_CLIPS.isdisjoint(columns.facts):
        reader.look_through(CLIP in columns.facts)
        names = reader.paths
    where = f"column {columns.names.get(LABEL, '')!r}"
    own = Own(reader.cuts.rows, columns.names, where, columns.labels, columns.unused)
    reader.catalogue = catalogue = Catalogue(names, files, options, own)
    if LABEL in columns.names:
        catalogue.notes += reader.cuts.notes(columns.names[LABEL])
    if not columns.numbered and (note := joints.left_out(layout, columns.points)):
        catalogue.notes.append(note)
    return catalogue.source(layout, reader.clips(), max(len(names), len(reader.cuts.rows)))


def is_table(name: str, ending: tuple[str, ...]) -> bool:
    """Whether a file is a table that can be one of recordings."""
    return name.lower().endswith(ending) and not is_labels(name)


class _Reader:
    """Goes through the tables of a source."""

    catalogue: Catalogue

    def __init__(
        self, files: Files, wanted: Callable[[str], bool], opened: Open, layout: Layout, choice: Choice
    ) -> None:
        self._files, self._wanted, self._opened, self._layout = files, wanted, opened, layout
        self.choice = choice
        self._by_clip = False
        self.cuts = Cuts()
        self.paths: list[str] = []  # of all recordings, where the tables were looked through
        self._told: set[str] = set()
        self._time_unit = 0.0  # of the table that is read, see `times`

    def choose_person(self, tables: int, to_predict: bool) -> None:
        """Whether a column "person" is the body or the subject: rows of several people in one frame are bodies.

        People one after another are bodies in a table of one recording beside others, and subjects in a table of all.
        """
        self.choice = replace(self.choice, person=BODY)
        together = several = by_clip = False
        for file, stream in streams(self._files, self._wanted):
            try:
                before: tuple[str, str, str] = ("", "", "")
                met: dict[str, set[str]] = {}
                for row in self._facts(_there(stream)):
                    path, who, frame = row.get(CLIP) or file, row.get(BODY, ""), row.get(FRAME, "")
                    by_clip = by_clip or CLIP in row
                    people = met.setdefault(path, set())
                    if path == before[0] and who != before[1]:
                        several = True
                        together = together or (frame == before[2] if FRAME in row else who in people)
                    people.add(who)
                    before = path, who, frame
            except Unusable:
                continue  # `clips` says why
        if not together and not (several and (by_clip or tables > 1 or to_predict)):
            self.choice = replace(self.choice, person=SUBJECT)

    def look_through(self, by_clip: bool) -> None:
        """Find all recordings, where they are cut, and what their rows say of them."""
        self._by_clip = by_clip
        for file, stream in streams(self._files, self._wanted):
            try:
                table = self._opened(_there(stream))
                facts = columns_of(table.header, self.choice).facts
                cutter = Cutter(self.cuts, by_clip, BODY in facts)
                visits: list[Visit] = []
                try:
                    rows = ((self._path(file, row), row) for row in _rows(table, facts))
                    for visit in cutter.visits(rows):
                        visits.append(visit)
                finally:  # those before a damaged place
                    self.cuts.add(file, visits)
                    self.paths += dict.fromkeys(visit.path for visit in visits)
                    if not visits:
                        self.paths.append(file)
            except Unusable:
                continue  # `clips` says why

    def _facts(self, stream: BinaryIO) -> Iterator[Row]:
        table = self._opened(stream)
        return _rows(table, columns_of(table.header, self.choice).facts)

    def _path(self, file: str, row: Row) -> str:
        return row.get(CLIP) or file if self._by_clip else file

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
        columns = columns_of(table.header, self.choice)
        self._time_unit = time_unit(columns.names[TIME]) if TIME in columns.names else 0
        rows = _cells(table, columns, self._layout)
        if (visits := self.cuts.visits.get(file)) is not None:
            for visit in visits:
                yield from self._clips_of_visit(visit, rows, bool(columns.confidence))
            for _ in rows:  # to the damaged place
                pass
            if not visits:
                raise Unusable("has no rows")
            return
        recording: _Recording | None = None
        for row, values in rows:
            recording = recording or _Recording(file, row, self._layout, bool(columns.confidence))
            recording.add(row, values)
        if recording is None:
            raise Unusable("has no rows")
        yield self._closed(recording, file, "")

    def _clips_of_visit(
        self, visit: Visit, rows: Iterator[tuple[Row, np.ndarray | str]], with_confidence: bool
    ) -> Iterator[Clip | Skipped]:
        if visit.path in self.cuts.scattered:
            for _ in zip(visit.owners(), rows, strict=False):
                pass
            if visit.path not in self._told:
                self._told.add(visit.path)
                yield Skipped(visit.path, "has rows in several places: sort the table by its recordings")
            return
        open_ones: dict[int, _Recording] = {}
        for number, (owner, (row, values)) in enumerate(zip(visit.owners(), rows, strict=False)):
            if owner < 0:
                continue
            segment: Segment = visit.segments[owner]
            if owner not in open_ones:
                facts = {**segment.facts, **({BODY: ""} if BODY in row else {})}
                open_ones[owner] = _Recording(visit.path, facts, self._layout, with_confidence)
            open_ones[owner].add(row, values)
            if number == segment.last:
                yield self._closed(open_ones.pop(owner), visit.path, segment.suffix)

    def _closed(self, recording: _Recording, path: str, suffix: str) -> Clip | Skipped:
        shown = path if self._by_clip else self.catalogue.name(path)
        shown += suffix
        try:
            keypoints, confidence = recording.arrays()
            label, facts = self.catalogue.facts(path, suffix, shown)
        except Unusable as unusable:
            return Skipped(shown, str(unusable))
        size = [_pixels(recording.row.get(side, "")) for side in ("width", "height")]
        return Clip(shown, label, keypoints, confidence, facts.subject, facts.camera, splits=facts.splits,
                    width=size[0], height=size[1], times=recording.times(self._time_unit))  # fmt: skip


def _rows(table: Table, facts: dict[str, int]) -> Iterator[Row]:
    return (dict(zip(facts, texts, strict=True)) for texts, _ in table.rows(list(facts.values()), []))


def _cells(table: Table, columns: Columns, layout: Layout) -> Iterator[tuple[Row, np.ndarray | str]]:
    """The facts of every row, and its numbers in the order of the layout, or why there are none."""
    assumed = columns.assumed(layout)
    for texts, values in table.rows(list(columns.facts.values()), columns.numbers(layout)):
        if assumed and not isinstance(values, str):
            values[assumed] = np.isfinite(values[assumed]) & (values[assumed] != 0)
        yield dict(zip(columns.facts, texts, strict=True)), values


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
        self._frames, self._bodies = array("d"), array("b")
        self._stamps = array("d")
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
            self._stamps.append(_number(row.get(TIME, "")))
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
