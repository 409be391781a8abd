"""UTD-MHAD (Chen et al., ICIP 2015): `aA_sS_tT_skeleton.mat` with the variable `d_skel [20, 3, T]`.

A is the action 1 to 27, S the subject 1 to 8, T the trial; Kinect v1, metres, y up. The recorded order of the joints
(Sample_Code/Skeleton_joint_order.txt of the data set) is Kinect v1's but for the first four, which come from the head
downwards. Odd subjects train and even ones test (section 4 of the paper).
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import PurePosixPath

import numpy as np

from ..skeleton.layouts import load_layout
from ..skeleton.store import Clip
from .archives import Files, Member
from .source import Options, Source, Unusable, content, each_file, groups

CLASSES = [
    "right arm swipe to the left", "right arm swipe to the right", "right hand wave", "two hand front clap",
    "right arm throw", "cross arms in the chest", "basketball shoot", "right hand draw x",
    "right hand draw circle (clockwise)", "right hand draw circle (counter clockwise)", "draw triangle",
    "bowling (right hand)", "front boxing", "baseball swing from right", "tennis right hand forehand swing",
    "arm curl (two arms)", "tennis serve", "two hand push", "right hand knock on door",
    "right hand catch an object", "right hand pick up and throw", "jogging in place", "walking in place",
    "sit to stand", "stand to sit", "forward lunge (left foot forward)", "squat (two arms stretch out)",
]  # fmt: skip
ORDER = [3, 2, 1, 0, *range(4, 20)]  # the place of every joint of Kinect v1's layout in the recorded order
MAX_BYTES = 1 << 20  # of one file; the published ones have at most 60 KiB
MAX_EXPANDED = 8 << 20  # of all variables in one file, which may be packed
_COMPRESSED = 15  # the type of such a variable in MATLAB's level 5 format
_NAME = re.compile(r"(a(\d{1,2})_s(\d)_t(\d))_skeleton")


def recognises(files: Files) -> bool:
    """Whether there is a MATLAB file of such a name."""
    return any(map(_is_recording, files.names))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names."""
    clips = each_file(files, _is_recording, _clip, options.workers)
    total = sum(map(_is_recording, files.names))
    layout = options.layout or load_layout("kinect-v1")
    return Source(layout, options.classes or CLASSES, clips, total, frame_rate=30.0)


def _is_recording(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() == ".mat" and _NAME.fullmatch(path.stem) is not None


def _clip(member: Member) -> Clip:
    name, action, subject, _ = groups(_NAME, PurePosixPath(member.name).stem)
    joints = _joints(content(member, MAX_BYTES))
    if joints.ndim != 3 or joints.shape[:2] != (20, 3) or joints.dtype.kind not in "fiu":
        raise Unusable(f"has a d_skel of shape {joints.shape} and type {joints.dtype}, not numbers [20, 3, frames]")
    keypoints = joints.transpose(2, 0, 1)[:, ORDER].astype(np.float32)
    split = "xsub_train" if int(subject) % 2 else "xsub_test"
    return Clip(name, int(action) - 1, keypoints[None], subject=int(subject), splits=(split,))


def _check_size(data: bytes) -> None:
    """Raises `Unusable` where the variables of a file expand too far, which scipy would let them do."""
    order = {b"IM": "<", b"MI": ">"}[data[126:128]]
    at = 128
    left = MAX_EXPANDED
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind == _COMPRESSED:
            left -= len(zlib.decompressobj().decompress(data[at + 8 : at + 8 + size], left + 1))
        if left < 0:
            raise Unusable(f"expands to more than {MAX_EXPANDED >> 20} MiB")
        at += 8 + size


def _joints(data: bytes) -> np.ndarray:
    from scipy.io import loadmat

    try:
        _check_size(data)
        values = loadmat(io.BytesIO(data), variable_names=["d_skel"], verify_compressed_data_integrity=True)
    except Unusable:
        raise
    except Exception as error:  # a parser of foreign bytes raises nearly anything
        raise Unusable(f"is no MATLAB file, or a damaged one ({type(error).__name__})") from None
    joints = values.get("d_skel")
    if not isinstance(joints, np.ndarray):
        raise Unusable("has no variable d_skel")
    return joints
