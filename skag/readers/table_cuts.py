"""Where rows of a table become recordings: at each change of recording, person or take, and where the label changes.

A clip has one label. Rows whose label differs from the row before begin a new clip; where two bodies have different
labels at the same time, each body becomes clips of its own. Rows without a label between rows with one belong to no
clip. A label that stands on single rows alone, with empty rows after each, holds for those too.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from ..plural import counted
from .archives import printable

Row = dict[str, str]  # fact -> text
OF_RECORDING = ("label", "subject", "camera", "split", "group", "width", "height")
_PARTS = ("subject", "take", "body")
_NONE = {"", "nan", "null"}  # what tools write for a cell without a text


@dataclass
class Segment:
    """Rows that are one clip."""

    facts: Row
    last: int  # its last row in the visit
    parts: dict[str, str]  # who and which take, and the body where it is alone
    span: str  # "@0-59", its frames
    suffix: str = ""  # what its name has after that of the recording


@dataclass
class Visit:
    """Rows of one recording that follow one another."""

    path: str  # of the recording: its file, or its name in a column
    segments: list[Segment]
    runs: list[tuple[int, int]]  # (row at which it ends, number of the segment or -1), by rows

    def owners(self) -> Iterator[int]:
        """The segment of every row, -1 for none."""
        row = 0
        for end, segment in self.runs:
            yield from (segment for _ in range(row, end))
            row = end


@dataclass
class Cuts:
    """All visits of a source by file, and what there is to be said of them."""

    visits: dict[str, list[Visit]] = field(default_factory=dict)
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)  # of every clip, by its path and suffix
    seen: set[tuple[str, ...]] = field(default_factory=set)
    scattered: set[str] = field(default_factory=set)  # recordings with other ones between their rows
    changed: list[tuple[str, int]] = field(default_factory=list)  # (recording, clips) where the label changes
    apart: list[str] = field(default_factory=list)  # recordings whose bodies have different labels at one time
    unlabelled: Counter[str] = field(default_factory=Counter)  # rows without a label by recording

    def add(self, file: str, visits: Iterable[Visit]) -> None:
        """Take the visits of a file, and give their segments names that differ."""
        found = list(visits)
        self.visits[file] = found
        for path, group in groupby(sorted(found, key=lambda visit: visit.path), key=lambda visit: visit.path):
            segments = [segment for visit in group for segment in visit.segments]
            told = [part for part in _PARTS if len({segment.parts.get(part, "") for segment in segments}) > 1]
            taken: Counter[str] = Counter()
            for segment in segments if len(segments) > 1 else ():
                within = "".join(f".{segment.parts[part]}" for part in told if segment.parts.get(part))
                segment.suffix = printable(within + segment.span, 100)
                taken[segment.suffix] += 1
                if taken[segment.suffix] > 1:
                    segment.suffix += f"#{taken[segment.suffix]}"
            for segment in segments:
                self.rows.setdefault((path, segment.suffix), segment.facts)

    def notes(self, column: str) -> list[str]:
        """What the user should know, a sentence each; `column` has the label."""
        said = []
        if self.changed:
            clips = sum(count for _, count in self.changed)
            name = printable(self.changed[0][0], 60)
            many = f"{len(self.changed)} recordings were" if len(self.changed) > 1 else f"Recording {name} was"
            said.append(
                f"{many} cut where column {column!r} changes, into {clips} clips named RECORDING@FIRST-LAST by frames."
            )
        if self.apart:
            name = printable(self.apart[0], 60)
            said.append(
                f"{counted(len(self.apart), 'recording', 'has/have')} two bodies with different labels at one time, "
                f"such as {name}: "
                "each body is a clip of its own, named RECORDING.BODY."
            )
        if self.unlabelled:
            rows, name = sum(self.unlabelled.values()), printable(next(iter(self.unlabelled)), 60)
            said.append(f"{rows} rows without a label in column {column!r} are left out, first of {name}.")
        return said


class Cutter:
    """Collects the rows of one visit after another, of one file, and cuts them."""

    def __init__(self, cuts: Cuts, by_clip: bool, has_body: bool) -> None:
        self._cuts, self._by_clip, self._has_body = cuts, by_clip, has_body
        self._start()

    def _start(self) -> None:
        self._path: str | None = None
        self._state: dict[str, str] = {}
        self._first: Row = {}
        self._frames, self._bodies, self._labels = array("d"), array("i"), array("i")
        self._label_of: dict[str, int] = {}
        self._body_of: dict[str, int] = {}
        self._rows_of: Counter[int] = Counter()

    def visits(self, rows: Iterable[tuple[str, Row]]) -> Iterator[Visit]:
        """The visits of one file from its rows, each with the path of its recording."""
        number = 0  # of the row in its recording
        for path, row in rows:
            state = self._states(path, row)
            number = number + 1 if path == self._path else 0
            if path != self._path or state != self._state:
                if self._path is not None:
                    yield self._closed()
                self._start()
                self._path, self._state = path, state
                key = (path, *state.values())
                if self._by_clip and key in self._cuts.seen:
                    self._cuts.scattered.add(path)
                self._cuts.seen.add(key)
            self._take(row, number)
        if self._path is not None:
            yield self._closed()
        self._start()

    def _states(self, path: str, row: Row) -> dict[str, str]:
        """What makes rows another recording when it changes; an empty cell changes nothing."""
        facts = ("take",) if self._has_body else ("subject", "take")
        same = self._state if path == self._path else {}
        return {fact: row[fact] or same.get(fact, "") for fact in facts if fact in row}

    def _take(self, row: Row, number: int) -> None:
        body = self._body_of.setdefault(row.get("body", ""), len(self._body_of))
        label = row.get("label", "")
        label = "" if label.casefold() in _NONE else label
        self._labels.append(self._label_of.setdefault(label, len(self._label_of)))
        self._bodies.append(body)
        for fact in OF_RECORDING:
            if row.get(fact):
                self._first.setdefault(fact, row[fact])
        frame = number if not self._has_body else self._rows_of[body]  # without numbers of frames
        self._rows_of[body] += 1
        try:
            self._frames.append(float(row["frame"]) if "frame" in row else frame)
        except ValueError:  # told when the row is read
            self._frames.append(np.nan)

    def _closed(self) -> Visit:
        """The visit that ends here."""
        path = self._path
        assert path is not None
        frames, bodies = np.array(self._frames), np.array(self._bodies)
        labels = self._filled(np.array(self._labels))
        names = list(self._label_of)
        apart = len(self._body_of) > 1 and self._differ(frames, bodies, labels)
        if apart:
            owner = _runs_of_each(bodies, labels)
            self._cuts.apart.append(path)
        elif len(self._body_of) > 1:
            owner = _runs_by_frame(frames, labels)
        else:
            owner = np.concatenate([[0], np.cumsum(labels[1:] != labels[:-1])])
        segments: list[Segment] = []
        place = np.full(owner.max() + 1, -1)
        for number in range(len(place)):
            rows = np.flatnonzero(owner == number)
            label = names[labels[rows[0]]]
            if not label and any(names):
                self._cuts.unlabelled[path] += len(rows)
                continue
            place[number] = len(segments)
            segments.append(self._segment(rows, label, frames, bodies if apart else None))
        if len(segments) > 1 and not apart:
            self._cuts.changed.append((path, len(segments)))
        owner = place[owner]
        ends = [*(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(owner)]
        return Visit(path, segments, [(end, int(owner[end - 1])) for end in ends])

    def _filled(self, labels: np.ndarray) -> np.ndarray:
        """The label of every row; empty ones as those before them where a label stands on the first row alone."""
        empty = self._label_of.get("")
        if empty is None or len(self._label_of) == 1:
            return labels
        there = labels != empty
        starts = np.flatnonzero(there & ~np.concatenate([[False], there[:-1]]))
        if there.sum() > len(starts) or not there[0]:  # a label on rows that follow one another
            return labels
        return labels[np.maximum.accumulate(np.where(there, np.arange(len(labels)), 0))]

    def _differ(self, frames: np.ndarray, bodies: np.ndarray, labels: np.ndarray) -> bool:
        """Whether bodies have different labels in one frame."""
        order = np.lexsort((labels, frames))
        same_frame = np.diff(frames[order]) == 0
        return bool((same_frame & (np.diff(labels[order]) != 0) & (np.diff(bodies[order]) != 0)).any())

    def _segment(self, rows: np.ndarray, label: str, frames: np.ndarray, bodies: np.ndarray | None) -> Segment:
        facts = self._first | {fact: value for fact, value in self._state.items() if fact != "take"}
        if "label" in facts or label:
            facts["label"] = label
        parts = dict(self._state)
        if bodies is not None:
            parts["body"] = list(self._body_of)[bodies[rows[0]]]
        there = frames[rows][np.isfinite(frames[rows])]
        span = f"@{there.min():g}-{there.max():g}" if len(there) else ""
        return Segment(facts, int(rows[-1]), parts, span)


def _runs_of_each(bodies: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`[n]` numbers of runs of rows of one body with one label."""
    owner, number = np.empty(len(bodies), int), 0
    for body in range(bodies.max() + 1):
        rows = np.flatnonzero(bodies == body)
        own = np.concatenate([[0], np.cumsum(np.diff(labels[rows]) != 0)])
        owner[rows] = own + number
        number += int(own[-1]) + 1
    return owner


def _runs_by_frame(frames: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`[n]` numbers of runs of frames with one label, whoever is in them."""
    order = np.argsort(frames, kind="stable")
    owner = np.empty(len(frames), int)
    owner[order] = np.concatenate([[0], np.cumsum(np.diff(labels[order]) != 0)])
    return owner
