"""What MMPose's inferencer saves: a JSON file per video, `[{"frame_id": 0, "instances": [{...}, ...]}, ...]`.

An instance has `keypoints [V][2 or 3]` and `keypoint_scores [V]`, and a `track_id` where people were tracked. The list
can be under `instance_info` beside `meta_info`. With 17 joints these are COCO's; of 26 (Halpe), 133 (COCO-WholeBody)
and 136 (Halpe with face and hands) they are the first 17, and `--layout` keeps the others. Other numbers need a layout
with as many joints. Three coordinates are a lifted pose, whose 17 joints are Human3.6M's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from ..skeleton.layouts import load_layout
from . import poses
from .archives import Files, Member
from .source import Options, Source, Unusable, content, first
from .text import joint_table, json_items

MAX_BYTES = 64 << 20  # of one file
COCO = load_layout("coco").joints
FULL = ("halpe-26", "coco-wholebody-133", "halpe-136")
NAMES = {17: COCO} | {layout.num_joints: layout.joints for layout in map(load_layout, FULL)}


def recognises(files: Files) -> bool:
    """Whether the first JSON file holds frames with instances."""
    member = first(files, is_json)
    data = None if member is None else member.data
    return data is not None and b'"instances"' in data and b'"keypoints"' in data


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names."""
    recordings = poses.one_file_each(files, is_json)
    dims = options.layout.dims if options.layout else 2
    return poses.read(files, options, recordings, paths(files), partial(_frames, dims=dims), "coco", NAMES)


def paths(files: Files) -> list[str]:
    """The files."""
    return list(filter(is_json, files.names))


def is_json(name: str) -> bool:
    return name.lower().endswith(".json")


def _frames(members: list[Member], dims: int) -> Iterator[list[poses.Person]]:
    found = False
    for key, frame in json_items(content(members[0], MAX_BYTES), long=("instance_info",)):
        if key in ("", "instance_info"):
            found = True
            instances = frame.get("instances") if isinstance(frame, dict) else None
            if not isinstance(instances, list):
                raise Unusable('has a frame without "instances"')
            yield [_person(instance, dims) for instance in instances]
    if not found:
        raise Unusable("has no frames")


def _person(instance: Any, dims: int) -> poses.Person:
    if not isinstance(instance, dict):
        raise Unusable('has "instances" that are no objects')
    points = instance.get("keypoints")
    if isinstance(points, list) and len(points) == 1:  # some versions keep the axis of instances
        points = points[0]
    joints = joint_table(points, '"keypoints"', 2)
    if joints.shape[1] > dims:
        raise Unusable(
            f"has {joints.shape[1]} coordinates a joint: name a layout of them, such as --layout human3.6m-17"
        )
    scores = instance.get("keypoint_scores")
    if scores is None:
        return poses.Person(joints, None, poses.identity(instance.get("track_id")))
    if isinstance(scores, list) and len(scores) == 1 != len(joints):
        scores = scores[0]
    confidence = joint_table(scores, '"keypoint_scores"', 1)
    if len(confidence) != len(joints):
        raise Unusable(f"has {len(confidence)} keypoint_scores for {len(joints)} keypoints")
    return poses.Person(joints, confidence, poses.identity(instance.get("track_id")))
