"""UAV-Human (Li et al., CVPR 2021): raw text files of 17 joints, `PpppSss...AaaaRr_MMDDhhmm.txt`.

P is the main person, S the setup (clothes), A the action 0 to 154. The files have the shape of Kinect v2's, but the
first two values of a joint are its place in the image in pixels, and the joints are those of COCO in its order
(uavhumanposetools/pose_data_tools/graph.py of sutdcv/UAV-Human); they are put into the order of the layout by name.

As in the tools of the data set (uavhumanposetools/generate_data.py), the n-th body of a frame is body n, at most four
of them, and the two whose joints vary most are taken, the one that varies more first. Frames without a body stay, as
missing.

The protocols csv1 and csv2 (cross-subject v1 and v2) train on the persons listed in the README of sutdcv/UAV-Human.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import PurePosixPath

from ..errors import DataError
from ..skeleton.layouts import Layout, load_layout
from ..skeleton.store import Clip
from .annotations import UAV_NAME
from .archives import Files, Member
from .bodies import busiest, by_place
from .label_names import known_names
from .skeleton_text import as_joints, read_frames
from .source import Options, Source, Unusable, content, each_file

TRAINING_PERSONS = {
    "csv1": frozenset({
        0, 2, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 25, 26, 27, 28, 29, 30, 32, 33, 34, 35, 36,
        37, 38, 39, 40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 55, 56, 57, 59, 61, 62, 63, 64, 65, 67, 68,
        69, 70, 71, 73, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 98, 100, 102, 103, 105, 106, 110,
        111, 112, 114, 115, 116, 117, 118,
    }),
    "csv2": frozenset({
        0, 3, 4, 5, 6, 8, 10, 11, 12, 14, 16, 18, 19, 20, 21, 22, 24, 26, 29, 30, 31, 32, 35, 36, 37, 38, 39, 40, 43,
        44, 45, 46, 47, 49, 52, 54, 56, 57, 59, 60, 61, 62, 63, 64, 66, 67, 69, 70, 71, 72, 73, 74, 75, 77, 78, 79,
        80, 81, 83, 84, 86, 87, 88, 89, 91, 92, 93, 94, 95, 96, 97, 99, 100, 101, 102, 103, 104, 106, 107, 108, 109,
        110, 111, 112, 113, 114, 115, 117, 118,
    }),
}  # fmt: skip
MAX_TRACKED, MAX_BODIES = 4, 2
MAX_BYTES = 64 << 20  # of one file
_CSV = ("csv1", "csv2")


def recognises(files: Files) -> bool:
    """Whether there is a text file of such a name."""
    return any(_is_text(name) and UAV_NAME.fullmatch(PurePosixPath(name).stem) for name in files.names)


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names, with person, setup and both protocols."""
    layout = options.layout or load_layout("uav")
    clips = each_file(files, _is_text, partial(_clip, order=_order(layout), dims=layout.dims), options.workers)
    return Source(layout, options.classes or known_names("uav-human"), clips, sum(map(_is_text, files.names)))


def _is_text(name: str) -> bool:
    return name.lower().endswith(".txt") and re.match(r"P\d", PurePosixPath(name).name) is not None


def _order(layout: Layout) -> list[int]:
    """COCO's number of every joint of the layout. Raises `DataError` where it has others."""
    coco = load_layout("coco").index
    recorded = layout.joints[: layout.num_recorded]
    if sorted(recorded) != sorted(coco):
        raise DataError(
            f"layout {layout.name!r} does not have the 17 joints of COCO that UAV-Human has: take uav or coco."
        )
    return [coco[joint] for joint in recorded]


def _clip(member: Member, order: list[int], dims: int) -> Clip:
    name = PurePosixPath(member.name).stem
    match = UAV_NAME.fullmatch(name)
    if not match:
        raise Unusable("is not named PpppSssGggBbbHhhUCccccccLCccccccAaaaRr_MMDDhhmm.txt")
    person, setup, action = map(int, match.groups())
    frames = read_frames(content(member, MAX_BYTES), 17)
    bodies, count = by_place(([as_joints(joints) for _, joints in frame] for frame in frames), (17, 3), MAX_TRACKED)
    if not bodies:
        raise Unusable("holds no bodies")
    keypoints = busiest(bodies, count, MAX_BODIES)
    splits = [f"{name}_{'train' if person in TRAINING_PERSONS[name] else 'test'}" for name in _CSV]
    return Clip(name, action, keypoints[:, :, order, :dims], subject=person, setup=setup, splits=tuple(splits))
