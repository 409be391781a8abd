"""UTKinect-Action3D (Xia et al., CVPRW 2012): twenty long recordings, each with ten actions one after another.

`joints_sSS_eEE.txt` is a recording (s the subject, e the repetition): a line is a frame, its number and x, y, z of the
20 joints in Kinect v1's order, in metres, y up. Frame numbers skip, and some lines repeat one: the first counts.
Frames are brought to even time.
`actionLabel_modified.txt` gives first and last frame of every action; where it is not there, the earlier
`actionLabel.txt` is taken, which has seven slips. One segment (s10_e02 carry) has no frames: 199 of 200 are left.
Without either, `skag predict` takes the recordings as they are.

Odd subjects train and even ones test.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import PurePosixPath

import numpy as np

from ..errors import DataError
from ..skeleton.layouts import load_layout
from ..skeleton.store import UNKNOWN, Clip
from .archives import Files, Member, printable
from .source import Options, Skipped, Source, Unusable, content, each_file, first, groups
from .text import number_blocks

ACTIONS = {  # as in the label files, and in words
    "walk": "walk", "sitDown": "sit down", "standUp": "stand up", "pickUp": "pick up", "carry": "carry",
    "throw": "throw", "push": "push", "pull": "pull", "waveHands": "wave hands", "clapHands": "clap hands",
}  # fmt: skip
PUBLISHED_CLIPS = 199
# All numbers are even, so a frame of the sensor's 30 a second counts two. The median step of 4 is then the paper's 15
# a second, and people walk at 0.9 m/s; with one number a frame they would at 0.4.
NUMBERS_A_SECOND = 60.0
FRAME_RATE = 15.0
MAX_BYTES = 64 << 20  # of one recording of several minutes
MAX_LABEL_BYTES = 1 << 20
_RECORDING = re.compile(r"joints_(s(\d\d)_e\d\d)\.txt")
_LABEL_FILES = ("actionLabel_modified.txt", "actionLabel.txt")  # the first that is there


@dataclass(frozen=True)
class _Segment:
    action: str
    start: float
    stop: float


def recognises(files: Files) -> bool:
    """Whether there is a recording of such a name."""
    return any(map(_is_recording, files.names))


def read(files: Files, options: Options) -> Source:
    """Segments in the order of the recordings and their label file; where classes are not needed and there is no such
    file, whole recordings. Raises `DataError` without a label file."""
    notes: list[str] = []
    layout = options.layout or load_layout("kinect-v1")
    if options.to_predict and not any(PurePosixPath(name).name in _LABEL_FILES for name in files.names):
        recordings = each_file(files, _is_recording, _whole, options.workers)
        return Source(layout, options.classes or list(ACTIONS.values()), recordings)
    segments = _segments(files, notes)
    clips = _clips(files, segments, options, notes)
    total = sum(map(len, segments.values()))
    return Source(layout, options.classes or list(ACTIONS.values()), clips, total, notes)


def _is_recording(name: str) -> bool:
    return bool(_RECORDING.fullmatch(PurePosixPath(name).name))


def _is_named(wanted: str, name: str) -> bool:
    return PurePosixPath(name).name == wanted


def _segments(files: Files, notes: list[str]) -> dict[str, list[_Segment]]:
    """Recording such as "s01_e02" -> its actions."""
    label_files = (first(files, partial(_is_named, file)) for file in _LABEL_FILES)
    member = next(filter(None, label_files), None)
    if member is None:
        raise DataError(f"{files.shown} has no {_LABEL_FILES[0]}: it says where the actions begin; put it there.")
    try:
        text = content(member, MAX_LABEL_BYTES).decode("utf-8", errors="replace")
    except Unusable as unusable:
        raise DataError(f"{printable(member.name)} in {files.shown} {unusable}: copy it again.") from None
    if PurePosixPath(member.name).name != _LABEL_FILES[0]:
        notes.append(f"{_LABEL_FILES[1]} has seven slips; with {_LABEL_FILES[0]} they are mended.")
    found: dict[str, list[_Segment]] = {}
    actions: list[_Segment] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.replace(":", " ").split()
        if len(words) == 1 and re.fullmatch(r"s\d\d_e\d\d", words[0]):
            actions = found.setdefault(words[0], [])
        elif words:
            try:
                action, start, stop = words
                if actions is None:
                    raise ValueError
                actions.append(_Segment(action, float(start), float(stop)))
            except ValueError:
                raise DataError(
                    f"{printable(member.name)} in {files.shown}, line {number} is neither a recording such as s01_e01 "
                    "nor an action with its first and last frame: mend it."
                ) from None
    return found


def _clips(
    files: Files, segments: dict[str, list[_Segment]], options: Options, notes: list[str]
) -> Iterator[Clip | Skipped]:
    found, seen = 0, set()
    members = files.read(_is_recording, later=True)
    for file, frames in options.workers.map(_frames_or_why, members, attrgetter("size")):
        recording, subject = groups(_RECORDING, PurePosixPath(file).name)
        if recording not in segments:
            yield Skipped(PurePosixPath(file).name, "is not in the label file")
            continue
        seen.add(recording)
        for segment in segments[recording]:
            name = f"{recording}_{segment.action}"
            try:
                if isinstance(frames, str):
                    raise Unusable(frames)
                if not np.isfinite([segment.start, segment.stop]).all():
                    yield Skipped(name, "has no first and last frame in the label file", expected=True)
                    continue
                yield _clip(name, int(subject), segment, *frames)
                found += 1
            except Unusable as unusable:
                yield Skipped(name, str(unusable))
    for recording in sorted(set(segments) - seen):
        yield Skipped(recording, f"has {len(segments[recording])} labels and no joints_{recording}.txt")
    if options.classes is None and found != PUBLISHED_CLIPS:
        notes.append(f"UTKinect-Action3D was published with {PUBLISHED_CLIPS} clips; usable here: {found}.")


def _frames_or_why(member: Member) -> tuple[str, tuple[np.ndarray, np.ndarray] | str]:
    """The name of a recording with its frames, or with why there are none."""
    try:
        return member.name, _frames(member)
    except Unusable as unusable:
        return member.name, f"its recording {unusable}"
    except MemoryError:
        return member.name, "its recording does not fit into memory"


def _frames(member: Member) -> tuple[np.ndarray, np.ndarray]:
    """Frame numbers `[T]` and joints `[T, 20, 3]`, every number once."""
    numbers, values = array("d"), bytearray()
    there: set[float] = set()
    for block in number_blocks(content(member, MAX_BYTES), 61):
        for number, row in zip(block[:, 0].tolist(), block[:, 1:].astype(np.float32), strict=True):
            if number not in there:
                there.add(number)
                numbers.append(number)
                values += row.tobytes()
    if not values:
        raise Unusable("holds no frames")
    return np.frombuffer(numbers, np.float64), np.frombuffer(values, np.float32).reshape(-1, 20, 3)


def _whole(member: Member) -> Clip:
    recording, subject = groups(_RECORDING, PurePosixPath(member.name).name)
    numbers, keypoints = _frames(member)
    times = numbers / NUMBERS_A_SECOND
    return Clip(recording, UNKNOWN, keypoints[None], None, int(subject) or UNKNOWN, frame_rate=FRAME_RATE, times=times)


def _clip(name: str, subject: int, segment: _Segment, numbers: np.ndarray, keypoints: np.ndarray) -> Clip:
    if segment.action not in ACTIONS:
        raise Unusable(f"is no action of this data set (known are {', '.join(ACTIONS)})")
    inside = np.flatnonzero((segment.start <= numbers) & (numbers <= segment.stop))
    if not len(inside):
        raise Unusable(f"has no frames from {segment.start:.0f} to {segment.stop:.0f}")
    split = "xsub_train" if subject % 2 else "xsub_test"
    return Clip(
        name,
        list(ACTIONS).index(segment.action),
        _rows(keypoints, inside)[None],
        subject=subject or UNKNOWN,
        splits=(split,),
        frame_rate=FRAME_RATE,
        times=numbers[inside] / NUMBERS_A_SECOND,
    )


def _rows(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Some rows in ascending order, without a copy where they follow one another."""
    first, last = int(places[0]), int(places[-1])
    return values[first : last + 1] if last - first + 1 == len(places) else values[places]
