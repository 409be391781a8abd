"""Key points of Ultralytics' YOLO pose models: text files of `save_txt=True`, or the JSON of its results.

Text: a file per frame, `labels/VIDEO_12.txt`, a line per person: class, box (centre, width, height), then x, y and,
where the model gives it, a confidence of every joint, all as shares of the image; then the confidence of the person
where `save_conf` was given, and the number of a tracked person. Frames without a file had nobody. JSON: a file per
recording, a list of frames (alone or under `frames`), each what `result.to_json()` gives: a list of people with
`"keypoints": {"x": [...], "y": [...], "visible": [...]}`, in pixels. With 17 joints these are COCO's.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from . import poses
from .archives import Files, Member, printable
from .mmpose import COCO, MAX_BYTES, is_json
from .source import Options, Source, Unusable, content, first, groups
from .text import joint_table, json_items

NAMES = {17: COCO}
MAX_TEXT = 1 << 20  # of one frame
_TEXT = re.compile(r"(.*?)_?(\d{1,18})\.txt", re.IGNORECASE)
_BOX = 5  # class and box come first
_FORMS = {  # numbers of a line after class and box -> numbers of a joint, whether a confidence, whether who it is
    17 * per + conf + who: (per, conf, who) for per in (3, 2) for conf in (0, 1) for who in (0, 1)
}


def recognises(files: Files) -> bool:
    """Whether the first JSON file has such key points, or the first text file of a frame such lines."""
    member = first(files, is_json)
    if member is not None:
        start = (member.data or b"")[:65536]
        return re.search(rb'"keypoints\\?"\s*:\s*\{\s*\\?"x', start) is not None
    member = first(files, _is_frame)
    line = (member.data or b"").split(b"\n", 1)[0].split() if member else []
    return len(line) - _BOX in _FORMS and line[0].isdigit() and all(_is_share(value) for value in line[1:_BOX])


def _is_share(value: bytes) -> bool:
    return re.fullmatch(rb"[01](\.\d*)?([eE]-?\d+)?|\d(\.\d+)?[eE]-\d+", value) is not None


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names."""
    if any(map(is_json, files.names)):
        recordings = poses.one_file_each(files, is_json)
        return poses.read(files, options, recordings, paths(files), _frames_of_json, "coco", NAMES)
    groups = groupby(files.read(_is_frame, _order, later=True), lambda member: _path(member.name))
    recordings = (poses.Recording(path, list(members)) for path, members in groups)
    return poses.read(files, options, recordings, paths(files), _frames_of_text, "coco", NAMES)


def paths(files: Files) -> list[str]:
    """The files of JSON, or the videos of the files of text."""
    if any(map(is_json, files.names)):
        return list(filter(is_json, files.names))
    return sorted(set(map(_path, filter(_is_frame, files.names))))


def _is_frame(name: str) -> bool:
    return _TEXT.fullmatch(PurePosixPath(name).name) is not None


def _path(name: str) -> str:
    """The recording of a frame's file: its video, without the folder `labels`."""
    path = PurePosixPath(name)
    folder = path.parent.parent if path.parent.name == "labels" else path.parent
    video = groups(_TEXT, path.name)[0]
    return str(folder / video) if video else str(folder)


def _order(name: str) -> tuple[str, int]:
    return _path(name), int(groups(_TEXT, PurePosixPath(name).name)[1])


def _frames_of_text(members: list[Member]) -> Iterator[list[poses.Person]]:
    by_number: dict[int, Member] = {_order(member.name)[1]: member for member in members}
    start, end = min(by_number), max(by_number)
    if end - start >= poses.MAX_FRAMES:
        raise Unusable(f"has frames {start} to {end}, more than {poses.MAX_FRAMES}")
    for number in range(start, end + 1):
        yield _people(by_number[number]) if number in by_number else []


def _people(member: Member) -> list[poses.Person]:
    found = []
    for line in content(member, MAX_TEXT).decode("ascii", "replace").splitlines():
        cells = line.split()
        if not cells:
            continue
        form = _FORMS.get(len(cells) - _BOX)
        if form is None:
            shown = printable(PurePosixPath(member.name).name, 60)
            raise Unusable(f"has {len(cells)} numbers on a line of {shown}, not those of a box and 17 joints")
        try:
            values = np.array(cells[_BOX:], np.float32)
        except ValueError:
            raise Unusable(f"has something other than numbers in {printable(member.name, 60)}") from None
        per, _, tracked = form
        joints = values[: 17 * per].reshape(17, per)
        confidence = np.clip(joints[:, 2], 0, 1) if per == 3 else None
        who = poses.identity(float(values[-1])) if tracked else None
        found.append(poses.Person(joints[:, :2], confidence, who))
    return found


def _frames_of_json(members: list[Member]) -> Iterator[list[poses.Person]]:
    rows: dict[int, list[poses.Person]] = defaultdict(list)
    for key, frame in json_items(content(members[0], MAX_BYTES), long=("frames",)):
        if key not in ("", "frames"):
            continue
        people = _decoded(frame)
        if isinstance(people, dict) and "keypoints" in people:  # a flat list of people: of one frame each, or numbered
            number = people.get("frame", people.get("frame_id", len(rows)))
            if not isinstance(number, int) or not 0 <= number < poses.MAX_FRAMES:
                raise Unusable('has a person whose "frame" is no number of a frame')
            rows[number].append(_person(people))
            continue
        if isinstance(people, dict):
            people = _decoded(
                next((people[name] for name in ("detections", "people", "results") if name in people), None)
            )
        if not isinstance(people, list):
            raise Unusable("has a frame that is no list of people")
        yield [_person(person) for person in people]
    for number in range(min(rows, default=0), max(rows, default=-1) + 1):
        yield rows.get(number, [])


def _decoded(value: Any) -> Any:
    """What `to_json()` gives is text: JSON in JSON where it was stored as it came."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise Unusable("has a frame that is no JSON") from None


def _person(person: Any) -> poses.Person:
    points = person.get("keypoints") if isinstance(person, dict) else None
    if not isinstance(points, dict) or "x" not in points or "y" not in points:
        raise Unusable('has a person without "keypoints" of x and y')
    x, y = joint_table(points["x"], '"x"', 1), joint_table(points["y"], '"y"', 1)
    seen = points.get("visible")
    confidence = None if seen is None else np.clip(joint_table(seen, '"visible"', 1), 0, 1)
    if len(x) != len(y) or (confidence is not None and len(confidence) != len(x)):
        raise Unusable("has x, y and visible of different length")
    return poses.Person(np.stack([x, y], 1), confidence, poses.identity(person.get("track_id")))
