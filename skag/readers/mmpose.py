"""What MMPose's inferencer saves: a JSON file per video, `[{"frame_id": 0, "instances": [{...}, ...]}, ...]`.

An instance has `keypoints [V][2 or 3]` and `keypoint_scores [V]`, and a `track_id` where people were tracked. The list
can be under `instance_info` beside `meta_info`. With 17 joints, or 26, 133 or 136 whose first 17 they are, these are
COCO's; others need a layout with as many joints (`--layout`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..skeleton.layouts import load_layout
from . import poses
from .archives import Files, Member
from .source import Options, Source, Unusable, content, first
from .text import joint_table, json_items

MAX_BYTES = 64 << 20  # of one file
COCO = load_layout("coco").joints
NAMES = dict.fromkeys((17, 26, 133, 136), COCO)


def recognises(files: Files) -> bool:
    """Whether the first JSON file holds frames with instances."""
    member = first(files, is_json)
    data = None if member is None else member.data
    return data is not None and b'"instances"' in data and b'"keypoints"' in data


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names."""
    recordings = poses.one_file_each(files, is_json)
    return poses.read(files, options, recordings, paths(files), _frames, "coco", NAMES)


def paths(files: Files) -> list[str]:
    """The files."""
    return list(filter(is_json, files.names))


def is_json(name: str) -> bool:
    return name.lower().endswith(".json")


def _frames(members: list[Member]) -> Iterator[list[poses.Person]]:
    found = False
    for key, frame in json_items(content(members[0], MAX_BYTES), long=("instance_info",)):
        if key in ("", "instance_info"):
            found = True
            instances = frame.get("instances") if isinstance(frame, dict) else None
            if not isinstance(instances, list):
                raise Unusable('has a frame without "instances"')
            yield [_person(instance) for instance in instances]
    if not found:
        raise Unusable("has no frames")


def _person(instance: Any) -> poses.Person:
    if not isinstance(instance, dict):
        raise Unusable('has "instances" that are no objects')
    points = instance.get("keypoints")
    if isinstance(points, list) and len(points) == 1:  # some versions keep the axis of instances
        points = points[0]
    joints = joint_table(points, '"keypoints"', 2)
    scores = instance.get("keypoint_scores")
    if scores is None:
        return poses.Person(joints, None, poses.identity(instance.get("track_id")))
    if isinstance(scores, list) and len(scores) == 1 != len(joints):
        scores = scores[0]
    confidence = joint_table(scores, '"keypoint_scores"', 1)
    if len(confidence) != len(joints):
        raise Unusable(f"has {len(confidence)} keypoint_scores for {len(joints)} keypoints")
    return poses.Person(joints, confidence, poses.identity(instance.get("track_id")))
