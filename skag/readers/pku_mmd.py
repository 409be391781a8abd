"""PKU-MMD part 1 (Liu et al., 2017): long recordings of Kinect v2 with the actions in them, cut into a clip per action.

    .../0002-L.txt              skeletons: 150 numbers a line, two people of 25 joints (x, y, z); zeros for nobody
    .../label.../0002-L.txt     labels: `class,start,end[,confidence]`, classes from 1, frames from 1, both included
    cross-subject.txt, cross-view.txt    splits: the recordings after a line that speaks of training, then the others

L, M and R are the left, middle and right camera. The joints are those of NTU RGB+D. Who is in a recording the files do
not say; the split `xsub` is that of cross-subject.txt.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from ..errors import DataError
from ..plural import counted
from ..skeleton.layouts import Layout, load_layout
from ..skeleton.store import Clip
from .archives import Files, Member, printable
from .label_names import known_names
from .source import Options, Skipped, Source, Unusable, content
from .text import number_blocks

MAX_BYTES = 64 << 20  # of one recording
CAMERAS = {"L": 0, "M": 1, "R": 2}
_NAME = re.compile(r"(\d{4})-([LMR])\.txt")
_ID = re.compile(r"\d{4}-[LMR]")
_SPLIT_FILES = {"cross-subject.txt": "xsub", "cross-view.txt": "xview"}

Segments = list[tuple[int, int, int]]  # class from 0, first frame from 0, the frame after the last


def recognises(files: Files) -> bool:
    """Whether there are recordings and labels of such names."""
    return files.kind != "file" and any(map(_is_label, files.names)) and any(map(_is_skeleton, files.names))


def read(files: Files, options: Options) -> Source:
    """Clips in the order of the recordings and of their labels. Raises `DataError` where the labels are missing."""
    names = [name for name in files.names if _is_skeleton(name)]
    if not names or not any(map(_is_label, files.names)):
        raise DataError(
            f"{files.shown} needs the skeletons (0002-L.txt) and a folder of labels of the same names (label...): "
            "give the folder above both."
        )
    segments, problems = _labels(files)
    splits = _splits(files)
    layout = options.layout or load_layout("nturgb+d")
    told = {PurePosixPath(name).stem for name in names}
    total = sum(len(found) for key, found in segments.items() if key in told)
    notes = [] if splits else ["There is no cross-subject.txt nor cross-view.txt here."]
    if absent := sorted(set(segments) - told):
        notes.append(
            f"{counted(len(absent), 'recording', 'has/have')} labels and no skeletons here, such as {absent[0]}."
        )
    work = partial(_clips_of, layout=layout, segments=segments, splits=splits)
    parts = options.workers.map(work, files.read(_is_skeleton, later=True), lambda member: member.size)
    clips = (clip for found in parts for clip in found)
    problems += [Skipped(name, "has no labels") for name in sorted(told - set(segments) - {p.name for p in problems})]
    return Source(
        layout, options.classes or known_names("pku-mmd"), _all(clips, problems), total + len(problems), notes,
        has_splits=bool(splits),
    )  # fmt: skip


def _all(clips: Iterator[Clip | Skipped], problems: list[Skipped]) -> Iterator[Clip | Skipped]:
    yield from clips
    yield from problems


def _is_label(name: str) -> bool:
    path = PurePosixPath(name)
    return _NAME.fullmatch(path.name) is not None and any("label" in folder.lower() for folder in path.parts[:-1])


def _is_skeleton(name: str) -> bool:
    return _NAME.fullmatch(PurePosixPath(name).name) is not None and not _is_label(name)


def _labels(files: Files) -> tuple[dict[str, Segments], list[Skipped]]:
    """What happens when in every recording, and the files of labels that cannot be used."""
    found: dict[str, Segments] = {}
    problems: list[Skipped] = []
    for member in files.read(_is_label):
        name = PurePosixPath(member.name).stem
        try:
            found[name] = list(_segments(content(member, 1 << 20)))
        except Unusable as unusable:
            problems.append(Skipped(name, f"has labels that cannot be used: it {unusable}"))
    return found, problems


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    for number, line in enumerate(data.decode("ascii", "replace").splitlines(), 1):
        cells = [cell.strip() for cell in line.split(",")]
        if cells == [""]:
            continue
        if len(cells) < 3 or not all(re.fullmatch(r"\d{1,7}", cell) for cell in cells[:3]):
            raise Unusable(f"has no class, start and end on line {number}")
        label, start, end = map(int, cells[:3])
        if label < 1 or start < 1 or end < start:
            raise Unusable(f"has class {label} from frame {start} to {end} on line {number}")
        yield label - 1, start - 1, end


def _splits(files: Files) -> dict[str, tuple[str, ...]]:
    """Recording -> its splits."""
    found: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for member in files.read(lambda name: PurePosixPath(name).name.lower() in _SPLIT_FILES):
        protocol = _SPLIT_FILES[PurePosixPath(member.name).name.lower()]
        part = ""
        for line in (member.data or b"").decode("utf-8", "replace").splitlines():
            if "train" in line.lower():
                part = "train"
            elif "valid" in line.lower() or "test" in line.lower():
                part = "test"
            for name in _ID.findall(line):
                if not part:
                    shown = printable(member.name, 100)
                    raise DataError(f"{shown} names recordings before it speaks of training: take the published file.")
                found[name] += (f"{protocol}_{part}",)
    return dict(found)


def _clips_of(
    member: Member, layout: Layout, segments: dict[str, Segments], splits: dict[str, tuple[str, ...]]
) -> list[Clip | Skipped]:
    """The clips of one recording."""
    name = PurePosixPath(member.name).stem
    wanted = segments.get(name, [])
    try:
        rows = [block.astype(np.float32) for block in number_blocks(content(member, MAX_BYTES), 150)]
    except Unusable as unusable:
        return [Skipped(_clip_name(name, number), str(unusable)) for number in range(1, len(wanted) + 1)]
    frames = np.concatenate(rows or [np.zeros((0, 150), np.float32)]).reshape(-1, 2, 25, 3)
    clips: list[Clip | Skipped] = []
    for number, (label, start, end) in enumerate(wanted, 1):
        if end > len(frames):
            clips.append(Skipped(_clip_name(name, number), f"ends in frame {end}, and the recording has {len(frames)}"))
            continue
        bodies = np.ascontiguousarray(frames[start:end].swapaxes(0, 1))
        camera, of = CAMERAS[name[-1]], splits.get(name, ())
        clips.append(Clip(_clip_name(name, number), label, bodies, camera=camera, splits=of))
    return clips


def _clip_name(recording: str, number: int) -> str:
    return f"{recording}_{number:03}"
