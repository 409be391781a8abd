"""MediaPipe Pose landmarks as JSON, a file per recording: a list of frames, alone or under `frames`.

MediaPipe itself writes no files. A frame is what its results are called in Python or JavaScript: an object with
`pose_world_landmarks` (metres) or `pose_landmarks` (shares of the image's width and height), or `worldLandmarks` or
`landmarks`; or just the landmarks. These are 33 objects with x, y, z and maybe visibility, or lists of these numbers,
for one person or a list of such for several; null or an empty list where nobody was seen. For a layout of three
coordinates world landmarks are preferred, for one of two those in the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..skeleton.layouts import load_layout
from . import poses
from .archives import Files, Member
from .mmpose import MAX_BYTES, is_json, paths
from .source import Options, Source, Unusable, content, first
from .text import joint_table, json_items

WORLD = ("pose_world_landmarks", "poseWorldLandmarks", "world_landmarks", "worldLandmarks")
IMAGE = ("pose_landmarks", "poseLandmarks", "landmarks")
NAMES = {33: load_layout("mediapipe-33").joints}


def recognises(files: Files) -> bool:
    """Whether the first JSON file speaks of landmarks."""
    member = first(files, is_json)
    return member is not None and any(f'"{key}"'.encode() in (member.data or b"") for key in WORLD + IMAGE)


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names."""
    flat = options.layout is not None and options.layout.dims == 2
    keys = IMAGE + WORLD if flat else WORLD + IMAGE
    recordings, frames_of = poses.one_file_each(files, is_json), partial(_frames, keys=keys)
    return poses.read(files, options, recordings, paths(files), frames_of, "mediapipe-33", NAMES)


def _frames(members: list[Member], keys: tuple[str, ...]) -> Iterator[list[poses.Person]]:
    found = False
    for key, frame in json_items(content(members[0], MAX_BYTES), long=("frames",)):
        if key in ("", "frames"):
            found = True
            yield [_person(landmarks) for landmarks in _people(frame, keys)]
    if not found:
        raise Unusable("has no frames")


def _people(frame: Any, keys: tuple[str, ...]) -> list[Any]:
    """The landmarks of every person in a frame."""
    if isinstance(frame, dict):
        frame = next((frame[key] for key in keys if frame.get(key)), None)
    frame = _unwrapped(frame)
    if not frame:
        return []
    if not isinstance(frame, list):
        raise Unusable("has a frame that is no list of landmarks")
    inner = _unwrapped(frame[0])
    several = isinstance(inner, list) and inner and isinstance(inner[0], list | dict)
    return [_unwrapped(person) for person in frame] if several else [frame]


def _unwrapped(value: Any) -> Any:
    """Landmarks out of {"landmark": [...]}, as protocol buffers write them."""
    return value["landmark"] if isinstance(value, dict) and "landmark" in value else value


def _person(landmarks: Any) -> poses.Person:
    if not isinstance(landmarks, list):
        raise Unusable("has landmarks that are no list")
    if any(isinstance(landmark, dict) for landmark in landmarks):
        rows = [_row(landmark) for landmark in landmarks]
        landmarks = [row[: min(map(len, rows))] for row in rows]
    values = joint_table(landmarks, "landmarks", 2)
    if values.shape[1] < 2:
        raise Unusable("has landmarks without x and y")
    confidence = np.clip(values[:, 3], 0, 1) if values.shape[1] > 3 else None
    return poses.Person(values[:, :3], confidence)


def _row(landmark: Any) -> list[Any]:
    if not isinstance(landmark, dict):
        raise Unusable("has landmarks of different kinds")
    return [landmark[key] for key in ("x", "y", "z", "visibility") if key in landmark]
