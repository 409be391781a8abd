"""What the readers of pose estimators' JSON files share: following people from frame to frame, and joints by name.

Where an estimator gives people an identity, it is kept. Otherwise a person is who was nearest in the frame before, if
the joints have moved by less than half the person's size on average; where no frame holds more than one person, it is
the same one. The five people with the most confidence over the whole recording are kept, the first one first; fewer
where a recording would take more than 12 MiB and be mostly empty because they are there one after another. Frames
without anybody stay where they are, so that time stays even.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from ..skeleton.layouts import Layout, load_layout
from ..skeleton.store import Clip
from .archives import Files, Member
from .joints import left_out, places, recorded
from .labels import Catalogue
from .source import Options, Skipped, Source, Unusable
from .text import joint_table

MAX_PEOPLE = 10  # of one frame, those with the most confidence
MAX_BODIES = 5
FORGOTTEN = 30  # frames after which nobody is taken for who was there before
MAX_FRAMES = 200_000
MAX_IDENTITIES = 10_000
ALWAYS_ALLOWED = 12 << 20  # bytes of a recording that may be as empty as it likes
EMPTIEST = 1.25  # times what was seen that a larger one may take
_UNKNOWN = 1 << 32  # numbers of people without an identity begin here
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Person:
    """One detection."""

    joints: np.ndarray  # float32 [V, C]
    confidence: np.ndarray | None = None  # float32 [V]
    identity: str | None = None

    @property
    def weight(self) -> float:
        """How surely the person was seen."""
        return float(np.nan_to_num(self.confidence).sum()) if self.confidence is not None else float(len(self.joints))


@dataclass(frozen=True)
class Recording:
    """The files of one recording in their order."""

    path: str
    members: list[Member]
    problem: str = ""  # why they are not all there

    @property
    def size(self) -> int:
        return sum(member.size for member in self.members)


Frames = Iterable[list[Person]]  # raises `Unusable` where a recording breaks off


@dataclass(frozen=True)
class Seen:
    """Everybody who was seen in a recording, n detections in the order of the frames."""

    joints: np.ndarray  # float32 [n, V, C]
    confidence: np.ndarray  # float32 [n, V], 1 where none was given
    weights: np.ndarray  # [n]
    given: np.ndarray  # bool [n], whether the confidence was
    frames: np.ndarray  # [n]
    length: int  # of the recording, in frames
    tracks: list[np.ndarray]  # of every person the numbers of its detections, those with an identity first


def identity(value: Any) -> str | None:
    """A person's number as an estimator writes it; None where it gives none."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    return f"{value:.15g}"


def one_file_each(files: Files, wanted: Callable[[str], bool]) -> Iterator[Recording]:
    """Recordings of one file, whose path is theirs."""
    return (Recording(member.name, [member]) for member in files.read(wanted, later=True))


def triples(values: Any, what: str, of: int = 3) -> np.ndarray:
    """A flat list of x, y and confidence of every joint as `[V, of]`."""
    flat = joint_table(values, what, 1)
    if not len(flat) or len(flat) % of:
        raise Unusable(f"has {what} of {len(flat)} numbers, no multiple of {of}")
    return flat.reshape(-1, of)


def read(
    files: Files,
    options: Options,
    recordings: Iterator[Recording],
    paths: list[str],
    frames_of: Callable[[list[Member]], Frames],
    layout_name: str,
    names: dict[int, tuple[str, ...]],
) -> Source:
    """A source of recordings, whose paths are `paths`; `names` are the joints of a skeleton by their number.

    `frames_of` has to be a module's function or a `partial` of one, see `Workers.map`.
    """
    layout = options.layout or load_layout(layout_name)
    catalogue = Catalogue(paths, files, options)
    read = partial(_arrays_or_why, frames_of, layout, names)
    lost = partial(_lost, layout, names)
    clips = _clips(options.workers.map(read, recordings, attrgetter("size")), catalogue, lost)
    return catalogue.source(layout, clips, len(paths))


Arrays = tuple[np.ndarray, np.ndarray | None]
Counts = frozenset[int]  # how many joints people of a recording have


def _lost(layout: Layout, names: dict[int, tuple[str, ...]], count: int) -> str:
    """A note on joints of so many that the layout lacks, or ""."""
    return left_out(layout, names[count]) if count in names and count != layout.num_recorded else ""


def _arrays_or_why(
    frames_of: Callable[[list[Member]], Frames],
    layout: Layout,
    names: dict[int, tuple[str, ...]],
    recording: Recording,
) -> tuple[str, Arrays | str, Counts]:
    """The path of a recording with its `arrays`, or with why there are none, and how many joints its people have."""
    orders: dict[int, np.ndarray] = {}
    try:
        if recording.problem:
            raise Unusable(recording.problem)
        return recording.path, arrays(frames_of(recording.members), layout, names, orders), frozenset(orders)
    except Unusable as unusable:
        return recording.path, str(unusable), frozenset()
    except MemoryError:
        return recording.path, "does not fit into memory", frozenset()


def _clips(
    items: Iterator[tuple[str, Arrays | str, Counts]], catalogue: Catalogue, lost: Callable[[int], str]
) -> Iterator[Clip | Skipped]:
    told: set[int] = set()
    for path, found, counts in items:
        for count in counts - told:
            told.add(count)
            if note := lost(count):
                catalogue.notes.append(note)
        name = catalogue.name(path)
        try:
            if isinstance(found, str):
                raise Unusable(found)
            label, facts = catalogue.facts(path)
        except Unusable as unusable:
            yield Skipped(name, str(unusable))
            continue
        keypoints, confidence = found
        yield Clip(name, label, keypoints, confidence, subject=facts.subject, camera=facts.camera, splits=facts.splits)


def arrays(
    frames: Frames,
    layout: Layout,
    names: dict[int, tuple[str, ...]],
    orders: dict[int, np.ndarray] | None = None,
) -> Arrays:
    """`[M, T, V, C]` and `[M, T, V]` of one recording in the joints of the layout; `orders` takes where they were, by
    the number of joints that people had. Raises `Unusable`."""
    orders = {} if orders is None else orders
    seen = follow(_placed(people, layout, names, orders) for people in frames)
    tracks = sorted(seen.tracks, key=lambda track: -seen.weights[track].sum())[:MAX_BODIES]
    if not tracks:
        raise Unusable("has nobody in any frame")
    while len(tracks) > 1 and _too_sparse(tracks, seen):
        tracks.pop()
    if _too_sparse(tracks, seen):
        raise Unusable(f"shows somebody in {len(tracks[0])} of {seen.length} frames: cut it to when people are there")
    given = any(seen.given[track].any() for track in tracks)
    if len(tracks) == 1 and len(tracks[0]) == len(seen.frames) == seen.length:  # nothing to sort out
        return seen.joints[None], seen.confidence[None] if given else None
    keypoints = np.zeros((len(tracks), seen.length, *seen.joints.shape[1:]), np.float32)
    confidence = np.zeros(keypoints.shape[:-1], np.float32)
    for m, track in enumerate(tracks):
        for part in np.array_split(track, len(track) // _AT_ONCE + 1):
            keypoints[m, seen.frames[part]] = seen.joints[part]
            confidence[m, seen.frames[part]] = seen.confidence[part]
    return keypoints, confidence if given else None


def _too_sparse(tracks: list[np.ndarray], seen: Seen) -> bool:
    """Whether an array of these people would be large and mostly empty."""
    row_bytes = seen.joints[0].nbytes + seen.confidence[0].nbytes
    there = sum(map(len, tracks))
    return len(tracks) * seen.length * row_bytes > max(ALWAYS_ALLOWED, EMPTIEST * there * row_bytes)


def _placed(
    people: list[Person], layout: Layout, names: dict[int, tuple[str, ...]], orders: dict[int, np.ndarray]
) -> list[Person]:
    """The people of one frame with the joints of the layout, at most `MAX_PEOPLE`; `orders` keeps what was found."""
    people = sorted(people, key=lambda person: -person.weight)[:MAX_PEOPLE]
    placed = []
    for person in people:
        count, dims = person.joints.shape
        if dims < layout.dims:
            raise Unusable(f"has {dims} coordinates per joint, and layout {layout.name} has {layout.dims}")
        if count not in orders:
            orders[count] = _order(count, layout, names.get(count, ()))
        order = orders[count]
        confidence = None if person.confidence is None else person.confidence[order]
        placed.append(Person(person.joints[order, : layout.dims], confidence, person.identity))
    return placed


def _order(count: int, layout: Layout, names: tuple[str, ...]) -> np.ndarray:
    """Where the joints of the layout are among `count` joints. Raises `Unusable`."""
    if count == layout.num_recorded and not set(recorded(layout)) <= set(names):
        return np.arange(count)  # a layout of one's own for an estimator of one's own
    if names:
        return places(layout, names)
    raise Unusable(f"has {count} joints, and layout {layout.name} has {layout.num_recorded}: name one with --layout")


class _Collected:
    """Collects detections as numbers: objects of Python take several times as much memory."""

    def __init__(self) -> None:
        self._shape = (0, 0)
        self._joints, self._confidence, self._weights = array("f"), array("f"), array("d")
        self._frames, self._who, self._given = array("q"), array("q"), array("b")

    def add(self, frame: int, person: Person, who: int) -> None:
        joints = np.asarray(person.joints, np.float32)
        confidence = np.ones(len(joints)) if person.confidence is None else person.confidence
        self._shape = joints.shape
        self._joints.frombytes(joints.tobytes())
        self._confidence.frombytes(np.asarray(confidence, np.float32).tobytes())
        self._weights.append(person.weight)
        self._frames.append(frame)
        self._who.append(who)
        self._given.append(person.confidence is not None)

    def seen(self, length: int, same: bool) -> Seen:
        """All of them, in `length` frames; with `same`, those without an identity are one person."""
        who = np.frombuffer(self._who, np.int64)
        who = np.where(who >= _UNKNOWN, _UNKNOWN, who) if same else who
        order = np.argsort(who, kind="stable")
        tracks = np.split(order, np.flatnonzero(np.diff(who[order])) + 1) if len(order) else []
        return Seen(
            np.frombuffer(self._joints, np.float32).reshape(len(who), *self._shape),
            np.frombuffer(self._confidence, np.float32).reshape(len(who), self._shape[0]),
            np.frombuffer(self._weights, np.float64),
            np.frombuffer(self._given, np.int8) > 0,
            np.frombuffer(self._frames, np.int64),
            length,
            tracks,
        )


def follow(frames: Iterable[list[Person]]) -> Seen:
    """The people of a recording, each with the frames in which they are. Raises `Unusable`."""
    found = _Collected()
    by_identity: dict[str, tuple[int, int]] = {}  # number of the person, last frame
    active: list[tuple[int, int, Person]] = []  # number of the person, last frame, how it was there
    most = new = 0  # of those without an identity: in one frame, in all
    number = -1
    for number, people in enumerate(frames):
        if number >= MAX_FRAMES:
            raise Unusable(f"has more than {MAX_FRAMES} frames")
        unknown = []
        for person in people:
            if person.identity is None:
                unknown.append(person)
                continue
            who, last = by_identity.setdefault(person.identity, (len(by_identity), -1))
            if last < number:
                by_identity[person.identity] = who, number
                found.add(number, person, who)
        if len(by_identity) > MAX_IDENTITIES:
            raise Unusable(f"has more than {MAX_IDENTITIES} people")
        most = max(most, len(unknown))
        active = [track for track in active if number - track[1] <= FORGOTTEN]
        for person, earlier in zip(unknown, _nearest(unknown, [track[2] for track in active]), strict=True):
            who = active[earlier][0] if earlier is not None else _UNKNOWN + new
            found.add(number, person, who)
            if earlier is None:
                new += 1
                active.append((who, number, person))
            else:
                active[earlier] = who, number, person
    return found.seen(number + 1, same=most == 1)  # one person, however far between two frames


def _nearest(people: list[Person], before: list[Person]) -> list[int | None]:
    """For each of the people the number of the one before who it is, nearest pairs first; None for somebody new."""
    found: list[int | None] = [None] * len(people)
    if not people or not before:
        return found
    distance = _distances(np.stack([p.joints for p in people]), np.stack([p.joints for p in before]))
    for place in np.argsort(distance, axis=None, kind="stable"):
        person, earlier = divmod(int(place), len(before))
        if not distance[person, earlier] < 0.5:
            break
        if found[person] is None and earlier not in found:
            found[person] = earlier
    return found


def _distances(people: np.ndarray, before: np.ndarray) -> np.ndarray:
    """`[P, B]` mean distance of the joints seen in both, in sizes of the person; infinite where none is."""
    seen, seen_before = np.any(people, axis=-1), np.any(before, axis=-1)
    with np.errstate(all="ignore"):
        high = np.where(seen[..., None], people, -np.inf).max(axis=1)
        low = np.where(seen[..., None], people, np.inf).min(axis=1)
        size = (high - low).max(axis=-1)
        both = seen[:, None] & seen_before[None]
        apart = np.linalg.norm(people[:, None] - before[None], axis=-1)
        mean = np.where(both, apart, 0).sum(axis=-1) / both.sum(axis=-1)
        relative = mean / size[:, None]
    return np.where(np.isfinite(relative), relative, np.inf)
