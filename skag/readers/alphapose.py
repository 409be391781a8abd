"""AlphaPose's results: `alphapose-results.json` per video, a list with an object for every person of every frame.

`{"image_id": "12.jpg", "keypoints": [x, y, confidence, ...], "idx": who, ...}`; frames come in the order of the
numbers in `image_id`. The list can lie under `annotations`, as in COCO's files. With 17 joints these are COCO's; of 26,
133 and 136 they are the first 17, and `--layout halpe-26`, `coco-wholebody-133` or `halpe-136` keeps all. A recording
is called after the folder of its file, or after the file where that has another name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby, islice
from operator import itemgetter
from pathlib import PurePosixPath

import numpy as np

from . import poses
from .archives import Files, Member
from .labels import natural
from .mmpose import MAX_BYTES, NAMES, is_json
from .source import Options, Source, Unusable, content, first
from .text import json_items

FILE_NAME = "alphapose-results.json"
MAX_OUT_OF_ORDER = 16 << 20  # bytes of a file that has to be held as a whole
_IMAGE = re.compile(rb'"image_id"\s*:\s*"?([^",}]{0,200})')


def recognises(files: Files) -> bool:
    """Whether the first JSON file is a list of people with images."""
    member = first(files, is_json)
    data = (member.data or b"") if member else b""
    start = data[:4096].lstrip()
    if not start.startswith(b"["):  # COCO's files list images and categories before them
        start = data[max(0, data.find(b'"annotations"')) :][:4096] if b'"annotations"' in data else b""
    return b'"image_id"' in start and b'"keypoints"' in start


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names."""
    members = files.read(is_json, _path, later=True)
    recordings = (poses.Recording(_path(member.name), [member]) for member in members)
    return poses.read(files, options, recordings, paths(files), _frames, "coco", NAMES)


def paths(files: Files) -> list[str]:
    """The files, or their folders."""
    return [_path(name) for name in files.names if is_json(name)]


def _path(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.parent) if path.name == FILE_NAME and path.parent.name else name


def _frames(members: list[Member]) -> Iterator[list[poses.Person]]:
    data = content(members[0], MAX_BYTES)
    if _in_order(data):
        for _, entries in groupby(_people(data), itemgetter(0)):
            yield [person for _, person in islice(entries, poses.MAX_PEOPLE)]
        return
    if len(data) > MAX_OUT_OF_ORDER:
        raise Unusable(f"is longer than {MAX_OUT_OF_ORDER >> 20} MiB, and its images are out of order: sort them")
    images: dict[str, list[poses.Person]] = defaultdict(list)
    for image, person in _people(data):
        if len(images[image]) < poses.MAX_PEOPLE:
            images[image].append(person)
    yield from map(images.__getitem__, natural(images))


def _in_order(data: bytes) -> bool:
    """Whether the people of an image follow each other and the images too: then one is held at a time.

    The second of two people for the same image is looked for among the text, which is many times faster than to parse.
    """
    last: list[str] = []
    for match in _IMAGE.finditer(data):
        pair = [*last, match[1].decode(errors="replace")]
        if natural(pair) != pair:
            return False
        last = pair[-1:]
    return True


def _people(data: bytes) -> Iterator[tuple[str, poses.Person]]:
    """(image, person) in the order of the file."""
    beside = found = False
    for key, entry in json_items(data, long=("annotations", "images")):
        if key not in ("", "annotations"):
            beside = True
            continue
        found = True
        if not isinstance(entry, dict):
            raise Unusable("is no list of people")
        if not isinstance(entry.get("image_id"), str | int):
            raise Unusable('has a person without "image_id"')
        image = str(entry["image_id"])[:200]
        values = poses.triples(entry.get("keypoints"), '"keypoints"')
        yield image, poses.Person(values[:, :2], np.clip(values[:, 2], 0, 1), poses.identity(entry.get("idx")))
    if beside and not found:
        raise Unusable("is no list of people, and has none under annotations")
