"""Kinetics-Skeleton as ST-GCN published it (Yan et al., AAAI 2018): JSON files of clips and of labels.

    kinetics_train/NAME.json        {"data": [{"frame_index": 1, "skeleton": [{"pose": [x, y, ...], "score": [...]}]}],
                                     "label": ..., "label_index": ...}
    kinetics_train_label.json       {NAME: {"has_skeleton": true, "label": ..., "label_index": ...}}

A skeleton has the 18 joints of OpenPose's COCO model, as shares of the image's width and height, and a score each.
Joints with a score of 0 were not seen. People are followed as in the files of other pose estimators (ST-GCN sorts them
by score instead). The clips of `kinetics_val` are the test split. Clips without a skeleton are left out, as expected.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ..errors import DataError
from ..skeleton.layouts import Layout, load_layout
from ..skeleton.store import UNKNOWN, Clip
from . import poses
from .archives import MAX_MEMBER, Files, Member, printable
from .source import Options, Skipped, Source, Unusable, content, each_file, first
from .text import joint_table, json_items

NAMES = {18: load_layout("openpose-18").joints}
_LABELS = "_label.json"


def recognises(files: Files) -> bool:
    """Whether the first JSON file of a clip has frames with skeletons."""
    member = first(files, _is_clip)
    start = (member.data or b"")[:65536] if member else b""
    return b'"frame_index"' in start and b'"skeleton"' in start


def read(files: Files, options: Options) -> Source:
    """Clips in the order of their names. Raises `DataError` for a file of labels that is none."""
    layout = options.layout or load_layout("openpose-18")
    facts = _labels(files)
    names = list(filter(_is_clip, files.names))
    classes = options.classes or _class_names(facts)
    notes = [] if facts or options.to_predict else ["There is no file of labels (kinetics_train_label.json) here."]
    clip_of = partial(_clip, layout=layout, facts=facts, classes=classes)
    clips = each_file(files, _is_clip, clip_of, options.workers)
    both = {_split(name) for name in names} >= {"train", "test"}
    return Source(layout, classes, _expected(clips), len(names), notes, has_splits=both)


def _is_clip(name: str) -> bool:
    return name.lower().endswith(".json") and not name.lower().endswith(_LABELS)


def _labels(files: Files) -> dict[str, tuple[str, int]]:
    """Name of a clip -> its label in words, and its number."""
    found: dict[str, tuple[str, int]] = {}
    for member in files.read(lambda name: name.lower().endswith(_LABELS)):
        shown = printable(member.name, 200)
        if member.data is None or len(member.data) > MAX_MEMBER:
            raise DataError(f"{shown} {member.problem or 'is too long'}: copy it again.")
        try:
            rows = json.loads(member.data)
            found.update(
                {name: (printable(str(row["label"]), 100), int(row["label_index"])) for name, row in rows.items()}
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise DataError(f"{shown} does not give every clip a label and a label_index: copy it again.") from None
    return found


def _class_names(facts: dict[str, tuple[str, int]]) -> list[str]:
    """The labels that occur, in the order of their numbers."""
    return list(dict.fromkeys(label for label, _ in sorted(facts.values(), key=lambda fact: fact[1])))


def _expected(clips: Iterator[Clip | Skipped]) -> Iterator[Clip | Skipped]:
    for item in clips:
        if isinstance(item, Skipped) and item.reason == "has nobody in any frame":
            item = Skipped(PurePosixPath(item.name).stem, item.reason, expected=True)
        yield item


def _clip(member: Member, layout: Layout, facts: dict[str, tuple[str, int]], classes: list[str]) -> Clip:
    path = PurePosixPath(member.name)
    told: dict[str, Any] = {}
    keypoints, confidence = poses.arrays(_frames(content(member, MAX_MEMBER), told), layout, NAMES)
    label = facts[path.stem][0] if path.stem in facts else printable(str(told.get("label", "")), 100)
    split = _split(member.name)
    number = classes.index(label) if label in classes else UNKNOWN
    return Clip(path.stem, number, keypoints, confidence, splits=(split,) if split else ())


def _split(name: str) -> str:
    """The split of a clip by its folder, "" where that says none."""
    folders = " ".join(PurePosixPath(name).parts[:-1]).lower()
    return next(
        (split for word, split in (("train", "train"), ("val", "test"), ("test", "test")) if word in folders), ""
    )


def _frames(data: bytes, told: dict[str, Any]) -> Iterator[list[poses.Person]]:
    """The people of every frame, also of those that are left out; `told` takes what stands beside the frames."""
    number = 0
    for key, value in json_items(data, long=("data",)):
        if key != "data":
            told[key] = value
            continue
        if not isinstance(value, dict) or not isinstance(value.get("skeleton"), list):
            raise Unusable('has a frame without "skeleton"')
        index = value.get("frame_index", number + 1)
        if not isinstance(index, int) or not number < index <= poses.MAX_FRAMES:
            raise Unusable('has "frame_index" that do not ascend from 1')
        while number + 1 < index:
            number += 1
            yield []
        number = index
        yield [_person(skeleton) for skeleton in value["skeleton"]]


def _person(skeleton: Any) -> poses.Person:
    if not isinstance(skeleton, dict):
        raise Unusable("has a skeleton that is no object")
    points = poses.triples(skeleton.get("pose"), '"pose"', 2).copy()
    score = joint_table(skeleton.get("score"), '"score"', 1)
    if len(score) != len(points):
        raise Unusable(f"has {len(score)} scores for {len(points)} joints")
    points[score == 0] = 0
    return poses.Person(points, np.clip(score, 0, 1))
