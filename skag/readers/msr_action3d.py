"""MSR Action3D (Li et al., CVPRW 2010): `aAA_sSS_eEE_skeleton3D.txt`, actions 1 to 20, subjects 1 to 10.

A line is x, y, z and confidence of a joint, twenty lines are a frame; metres in the space of the camera, y up
(MSRAction3DSkeletonReal3D). The files `aAA_sSS_eEE_skeleton.txt` hold places in the depth image instead: x, y in pixels
and the depth; they are read too, with y turned to point up. The joints are put into Kinect v1's order. Frames in which
every joint is 0 stay where they are, as missing; `a13_s09_e02` has no others.

Odd subjects train and even ones test, over all actions (`xsub`) and within the three published sets of eight
actions (`as1`, `as2`, `as3`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from ..parallel import Workers
from ..skeleton.layouts import load_layout
from ..skeleton.store import Clip
from .archives import Files, Member
from .source import Options, Skipped, Source, Unusable, content, each_file, groups
from .text import number_blocks

CLASSES = [
    "high arm wave", "horizontal arm wave", "hammer", "hand catch", "forward punch", "high throw", "draw x",
    "draw tick", "draw circle", "hand clap", "two hand wave", "side boxing", "bend", "forward kick", "side kick",
    "jogging", "tennis swing", "tennis serve", "golf swing", "pick up and throw",
]  # fmt: skip
ACTION_SETS = {  # Li et al., table 1, by the number of the action
    "as1": {2, 3, 5, 6, 10, 13, 18, 20},
    "as2": {1, 4, 7, 8, 9, 11, 12, 14},
    "as3": {6, 14, 15, 16, 17, 18, 19, 20},
}
# The recorded order begins left shoulder, right shoulder, shoulder centre, spine, left hip, right hip, hip centre,
# left elbow, ... and ends with the head (body_model.mat of the data set: left wrist 10 and left hip 5, counted from 1);
# here is the place of every joint of Kinect v1's layout in it.
ORDER = [6, 3, 2, 19, 0, 7, 9, 11, 1, 8, 10, 12, 4, 13, 15, 17, 5, 14, 16, 18]
EMPTY_RECORDING = "a13_s09_e02"
MAX_BYTES = 16 << 20  # of one file
_NAME = re.compile(r"(a(\d\d)_s(\d\d)_e\d\d)_skeleton(3D)?")


def recognises(files: Files) -> bool:
    """Whether there is a text file of such a name."""
    return any(map(_is_recording, files.names))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names, with the cross-subject splits."""
    names = list(filter(_is_recording, files.names))
    notes = []
    if not all(groups(_NAME, PurePosixPath(name).stem)[3] for name in names):
        notes.append("These are places in the depth image; MSRAction3DSkeletonReal3D has the same in metres.")
    clips = _clips(files, options.workers)
    layout = options.layout or load_layout("kinect-v1")
    return Source(layout, options.classes or CLASSES, clips, len(names), notes, frame_rate=15.0)


def _is_recording(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() == ".txt" and _NAME.fullmatch(path.stem) is not None


def _clips(files: Files, workers: Workers) -> Iterator[Clip | Skipped]:
    for item in each_file(files, _is_recording, _clip, workers):
        if isinstance(item, Clip) and item.name == EMPTY_RECORDING and not item.keypoints.any():
            yield Skipped(item.name, "is empty as published", expected=True)
        else:
            yield item


def _clip(member: Member) -> Clip:
    name, action, subject, metres = groups(_NAME, PurePosixPath(member.name).stem)
    values = bytearray()
    for block in number_blocks(content(member, MAX_BYTES), 4):
        values += block[:, :3].astype(np.float32).tobytes()
    recorded = np.frombuffer(values, np.float32).reshape(-1, 3)
    if not len(recorded) or len(recorded) % 20:
        raise Unusable(f"has {len(recorded)} lines, not 20 per frame")
    keypoints = recorded.reshape(-1, 20, 3)[:, ORDER]
    if not metres:
        keypoints[..., 1] *= -1
    part = "train" if int(subject) % 2 else "test"
    sets = [name for name, actions in ACTION_SETS.items() if int(action) in actions]
    return Clip(
        name,
        int(action) - 1,
        keypoints[None],
        subject=int(subject),
        splits=tuple(f"{protocol}_{part}" for protocol in ("xsub", *sets)),
    )
