"""NW-UCLA (Wang et al., CVPR 2014): one JSON file per recording, `aAA_sSS_eEE_vV.json`.

A file is `{"file_name": ..., "skeletons": [T][20][3], "label": 1..10}`: metres in the camera's space, y up, in the
joint order of Kinect v1. a is the action, s the subject, e the repetition, v the camera. The actions are numbered
with gaps in the names (7 and 10 are missing), without gaps in `label`. The published protocol trains on cameras 1
and 2 and tests on camera 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from ..parallel import Workers
from ..skeleton.layouts import load_layout
from ..skeleton.store import UNKNOWN, Clip
from .archives import Files, Member
from .source import Options, Skipped, Source, Unusable, content, each_file, first
from .text import joint_table, json_items

CLASSES = [
    "pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down",
    "stand up", "donning", "doffing", "throw", "carry",
]  # fmt: skip
ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)  # numbers in the file names, in the order of CLASSES
PUBLISHED_CLIPS = 1484
MAX_BYTES = 16 << 20  # of one file, a quarter of an hour of frames
SPLITS = {1: ("xview_train",), 2: ("xview_train",), 3: ("xview_test",)}  # by camera
_NAME = re.compile(r"a(\d{2})_s(\d{2})_e(\d{2})_v(\d{2})")


def recognises(files: Files) -> bool:
    """Whether there is a JSON file of such a name, or one with "skeletons" in it."""
    if any(_NAME.fullmatch(PurePosixPath(name).stem) for name in filter(_is_json, files.names)):
        return True
    member = first(files, _is_json)
    return member is not None and b'"skeletons"' in (member.data or b"")


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names, with subject, camera and the cross-view splits."""
    layout = options.layout or load_layout("kinect-v1")
    notes: list[str] = []
    clips = _clips(files, options.classes is None, notes, options.workers)
    return Source(layout, options.classes or CLASSES, clips, sum(map(_is_json, files.names)), notes)


def _is_json(name: str) -> bool:
    return name.lower().endswith(".json")


def _clips(files: Files, published: bool, notes: list[str], workers: Workers) -> Iterator[Clip | Skipped]:
    found = 0
    for item in each_file(files, _is_json, partial(_clip, published=published), workers):
        yield item
        found += isinstance(item, Clip)
    if published and found != PUBLISHED_CLIPS:
        notes.append(f"NW-UCLA was published with {PUBLISHED_CLIPS} recordings; usable here: {found}.")


def _clip(member: Member, published: bool) -> Clip:
    label, shape, values = None, None, bytearray()
    for key, value in json_items(content(member, MAX_BYTES), long=("skeletons",)):
        if key == "label":
            label = value
        elif key == "skeletons":
            frame = joint_table(value, '"skeletons"', 2)
            if frame.shape != (shape or frame.shape):
                raise Unusable('has "skeletons" whose frames are of different shapes')
            shape = frame.shape
            values += frame.tobytes()
    if shape is None:
        raise Unusable('has no "skeletons" ({"skeletons": [frames][joints][3], "label": n} is needed)')
    name = PurePosixPath(member.name).stem
    match = _NAME.fullmatch(name)
    if not match:
        raise Unusable("is not named aAA_sSS_eEE_vVV.json (action, subject, repetition, camera)")
    action, subject, _, camera = map(int, match.groups())
    if label is None and published and action in ACTIONS:
        label = ACTIONS.index(action) + 1
    if isinstance(label, bool) or not isinstance(label, int | None):
        raise Unusable("has a label that is no whole number")
    if published and label is not None and (not 1 <= label <= len(ACTIONS) or ACTIONS[label - 1] != action):
        raise Unusable(f"says label {label} inside and action {action} in its name")
    return Clip(
        name,
        UNKNOWN if label is None else label - 1,
        np.frombuffer(values, np.float32).reshape(1, -1, *shape),
        subject=subject,
        camera=camera,
        splits=SPLITS.get(camera, ()),
    )
