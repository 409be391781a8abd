"""AlphaPose's results: `alphapose-results.json` per video, a list with an object for every person of every frame.

`{"image_id": "12.jpg", "keypoints": [x, y, confidence, ...], "idx": who, ...}`; frames come in the order of the
numbers in `image_id`. With 17 joints, or 26, 133 or 136 whose first 17 they are, these are COCO's. A recording is
called after the folder of its file, or after the file where that has another name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from ..archives import Files, Member
from . import poses
from .labels import natural
from .mmpose import MAX_BYTES, NAMES, is_json
from .source import Options, Source, Unusable, content, first
from .text import json_items

FILE_NAME = "alphapose-results.json"


def recognises(files: Files) -> bool:
    """Whether the first JSON file is a list of people with images."""
    member = first(files, is_json)
    start = (member.data or b"")[:4096].lstrip() if member else b""
    return start.startswith(b"[") and b'"image_id"' in start and b'"keypoints"' in start


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names."""
    members = files.read(is_json, _path, later=True)
    recordings = (poses.Recording(_path(member.name), [member]) for member in members)
    paths = [_path(name) for name in files.names if is_json(name)]
    return poses.read(files, options, recordings, paths, _frames, "coco", NAMES)


def _path(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.parent) if path.name == FILE_NAME and path.parent.name else name


def _frames(members: list[Member]) -> Iterator[list[poses.Person]]:
    images: dict[str, list[poses.Person]] = defaultdict(list)
    for key, entry in json_items(content(members[0], MAX_BYTES), long=()):
        if key or not isinstance(entry, dict):
            raise Unusable("is no list of people")
        if not isinstance(entry.get("image_id"), str | int):
            raise Unusable('has a person without "image_id"')
        image = str(entry["image_id"])[:200]
        values = poses.triples(entry.get("keypoints"), '"keypoints"')
        if len(images[image]) < poses.MAX_PEOPLE:
            images[image].append(poses.Person(values[:, :2], values[:, 2], poses.identity(entry.get("idx"))))
    yield from map(images.__getitem__, natural(images))
