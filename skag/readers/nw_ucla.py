"""NW-UCLA (Wang et al., CVPR 2014): one JSON file per recording, `aAA_sSS_eEE_vV.json`.

A file is `{"file_name": ..., "skeletons": [T][20][3], "label": 1..10}`: metres in the camera's space, y up, in the
joint order of Kinect v1. a is the action, s the subject, e the repetition, v the camera. The actions are numbered
with gaps in the names (7 and 10 are missing), without gaps in `label`. The published protocol trains on cameras 1
and 2 and tests on camera 3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from ..archives import Files, Member
from ..layouts import Layout, load_layout
from ..store import UNKNOWN, Clip
from .source import Skipped, Source, Unusable

CLASSES = [
    "pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down",
    "stand up", "donning", "doffing", "throw", "carry",
]  # fmt: skip
ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)  # numbers in the file names, in the order of CLASSES
PUBLISHED_CLIPS = 1484
MAX_BYTES = 16 << 20  # of one file, a quarter of an hour of frames; JSON can take twenty times its length in memory
SPLITS = {1: ("xview_train",), 2: ("xview_train",), 3: ("xview_test",)}  # by camera
_NAME = re.compile(r"a(\d{2})_s(\d{2})_e(\d{2})_v(\d{2})")


def recognises(files: Files) -> bool:
    """Whether there are JSON files."""
    return any(map(_is_json, files.names))


def read(files: Files, layout: Layout | None, classes: list[str] | None) -> Source:
    """Recordings in the order of their names, with subject, camera and the cross-view splits."""
    layout = layout or load_layout("kinect-v1")
    notes: list[str] = []
    clips = _clips(files, classes, notes)
    return Source(layout, classes or CLASSES, clips, sum(map(_is_json, files.names)), notes)


def _is_json(name: str) -> bool:
    return name.lower().endswith(".json")


def _clips(files: Files, classes: list[str] | None, notes: list[str]) -> Iterator[Clip | Skipped]:
    found = 0
    for member in files.read(_is_json):
        try:
            yield _clip(member, published=classes is None)
            found += 1
        except Unusable as unusable:
            yield Skipped(PurePosixPath(member.name).name, str(unusable))
    if classes is None and found != PUBLISHED_CLIPS:
        notes.append(f"NW-UCLA was published with {PUBLISHED_CLIPS} recordings; here are {found} usable ones.")


def _clip(member: Member, published: bool) -> Clip:
    if member.data is None:
        raise Unusable(member.problem)
    if len(member.data) > MAX_BYTES:
        raise Unusable(f"is longer than {MAX_BYTES >> 20} MiB")
    try:
        values = json.loads(member.data)
    except (ValueError, RecursionError):
        raise Unusable("is no JSON file, or a damaged one") from None
    if not isinstance(values, dict) or "skeletons" not in values:
        raise Unusable('has no "skeletons" ({"skeletons": [frames][joints][3], "label": n} is needed)')
    name = PurePosixPath(member.name).stem
    match = _NAME.fullmatch(name)
    if not match:
        raise Unusable("is not named aAA_sSS_eEE_vVV.json (action, subject, repetition, camera)")
    action, subject, _, camera = map(int, match.groups())
    label = values.get("label")
    if label is None and published and action in ACTIONS:
        label = ACTIONS.index(action) + 1
    if isinstance(label, bool) or not isinstance(label, int | None):
        raise Unusable("has a label that is no whole number")
    if published and label is not None and (not 1 <= label <= len(ACTIONS) or ACTIONS[label - 1] != action):
        raise Unusable(f"says label {label} inside and action {action} in its name")
    return Clip(
        name,
        UNKNOWN if label is None else label - 1,
        _skeletons(values["skeletons"])[None],
        subject=subject,
        camera=camera,
        splits=SPLITS.get(camera, ()),
    )


def _skeletons(values: object) -> np.ndarray:
    """`[T, V, C]` float32 out of nested lists."""
    try:
        with np.errstate(all="ignore"):  # what is too large becomes infinite and is dealt with like other gaps
            keypoints = np.array(values, dtype=np.float32)
    except (ValueError, TypeError, OverflowError, MemoryError):
        raise Unusable('has "skeletons" that are no table [frames][joints][3] of numbers') from None
    if keypoints.ndim != 3:
        raise Unusable(f'has "skeletons" of shape {keypoints.shape}, not [frames][joints][3]')
    return keypoints
