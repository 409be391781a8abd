"""OpenPose's `--write_json`: a file per frame, `NAME_000000000012_keypoints.json`, all of a video in one folder.

`{"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": [x, y, confidence, ...]}, ...]}`, with 25 joints
(BODY_25, all of which `--layout body-25` keeps) or the 18 of OpenPose's COCO model, both of which have those of layouts
openpose-18 and coco. A
recording is called after its folder, or after NAME where a folder holds several. A joint that was not seen is 0.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath

from ..skeleton.layouts import load_layout
from . import poses
from .archives import Files, Member
from .source import Options, Source, Unusable, content, first, groups
from .text import json_items

MAX_BYTES = 4 << 20  # of one frame
KEYS = ("pose_keypoints_2d", "pose_keypoints")
_NAME = re.compile(r"(.*?)_?(\d{1,18})_keypoints\.json", re.IGNORECASE)
_OPENPOSE_18 = load_layout("openpose-18").joints
NAMES = {
    18: _OPENPOSE_18,
    25: load_layout("body-25").joints,
}


def recognises(files: Files) -> bool:
    """Whether there are files of such names, and people in the first."""
    member = first(files, _is_frame)
    return member is not None and b'"people"' in (member.data or b"")


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their paths."""
    path = _recordings(files)
    frames = Counter(path.values())
    groups = groupby(files.read(_is_frame, _parts, later=True), lambda member: path[member.name])
    recordings = (_recording(name, list(members), frames[name]) for name, members in groups)
    return poses.read(files, options, recordings, sorted(frames), _frames, "openpose-18", NAMES)


def paths(files: Files) -> list[str]:
    """The folders of frames, or the videos in them."""
    return sorted(set(_recordings(files).values()))


def _recordings(files: Files) -> dict[str, str]:
    """The recording of every frame."""
    names = list(filter(_is_frame, files.names))
    videos: dict[str, set[str]] = defaultdict(set)
    for name in names:
        folder, video, _ = _parts(name)
        videos[folder].add(video)
    alone = all(len(inside) == 1 for inside in videos.values()) and "." not in videos

    def path(name: str) -> str:
        folder, video, _ = _parts(name)
        return folder if alone else str(PurePosixPath(folder) / (video or "frames"))

    return {name: path(name) for name in names}


def _is_frame(name: str) -> bool:
    return _NAME.fullmatch(PurePosixPath(name).name) is not None


def _parts(name: str) -> tuple[str, str, int]:
    """Folder, video and number of a frame."""
    path = PurePosixPath(name)
    video, number = groups(_NAME, path.name)
    return str(path.parent), video, int(number)


def _recording(path: str, members: list[Member], count: int) -> poses.Recording:
    apart = "has frames far apart in the archive: unpack it, and give the folder"
    return poses.Recording(path, members, "" if len(members) == count else apart)


def _frames(members: list[Member]) -> Iterator[list[poses.Person]]:
    return map(_people, members)


def _people(member: Member) -> list[poses.Person]:
    found = []
    try:
        for key, person in json_items(content(member, MAX_BYTES), long=("people",)):
            if key != "people":
                continue
            if not isinstance(person, dict):
                raise Unusable('has "people" that are no objects')
            points = next((person[key] for key in KEYS if key in person), None)
            if points:
                values = poses.triples(points, '"pose_keypoints_2d"')
                found.append(poses.Person(values[:, :2], values[:, 2], poses.identity(person.get("person_id"))))
    except Unusable as unusable:
        raise Unusable(f"{unusable} (frame {_parts(member.name)[2]})") from None
    return found
