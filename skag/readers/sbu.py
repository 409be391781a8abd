"""SBU Kinect Interaction (Yun et al., CVPRW 2012): two people, `sXXsYY/AA/NNN/skeleton_pos.txt`.

XX and YY are the two people (XX stands on the left), AA is the action 1 to 8, NNN the repetition. A line is a frame:
its number, then x, y, z of the 15 joints of the left and of the right person, separated by commas. Either may act.

The published numbers are normalised; the README of the data set gives the way back, which is taken here:
x = 1280 - 2560 x', y = 960 - 1920 y', z = 10000 z' / 7.8125 (millimetres, x and y approximately so; y up).

The published evaluation is the mean over five folds, each testing on four or five pairs. They come as the protocols
fold1 to fold5. The subject of a recording is its pair, 100 XX + YY: the folds share people but no pairs.
"""

from __future__ import annotations

import re

import numpy as np

from ..skeleton.layouts import load_layout
from ..skeleton.store import Clip
from .archives import Files, Member
from .source import Options, Source, Unusable, content, each_file
from .text import number_blocks

CLASSES = [
    "approaching", "departing", "kicking", "pushing",
    "shaking hands", "hugging", "exchanging an object", "punching",
]  # fmt: skip
FOLDS = (  # README of the data set, "Details"
    ("s01s02", "s03s04", "s05s02", "s06s04"),
    ("s02s03", "s02s07", "s03s05", "s05s03"),
    ("s01s03", "s01s07", "s07s01", "s07s03"),
    ("s02s01", "s02s06", "s03s02", "s03s06"),
    ("s04s02", "s04s03", "s04s06", "s06s02", "s06s03"),
)
SCALE = np.array([-2560, -1920, 10000 / 7.8125])
ORIGIN = np.array([1280, 960, 0])
MAX_BYTES = 16 << 20  # of one file
_PATH = re.compile(r"(?:.*/)?(s(\d\d)s(\d\d))/(\d\d)/(\d{3})/skeleton_pos\.txt")


def recognises(files: Files) -> bool:
    """Whether there is such a path."""
    return any(map(_PATH.fullmatch, files.names))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their files, with the five folds."""
    wanted = [name for name in files.names if name.endswith("skeleton_pos.txt")]
    clips = each_file(files, lambda name: name.endswith("skeleton_pos.txt"), _clip, options.workers, by_path=True)
    return Source(
        options.layout or load_layout("sbu-15"), options.classes or CLASSES, clips, len(wanted), frame_rate=15.0
    )


def _clip(member: Member) -> Clip:
    match = _PATH.fullmatch(member.name)
    if not match:
        raise Unusable("does not lie in a folder sXXsYY/AA/NNN (people, action, repetition)")
    pair, left, right, action, take = match.groups()
    values = bytearray()
    for block in number_blocks(content(member, MAX_BYTES), 91, b","):
        points = block[:, 1:].reshape(-1, 2, 15, 3)
        there = points.any(axis=-1, keepdims=True)
        values += np.where(there, points * SCALE + ORIGIN, 0).astype(np.float32).tobytes()
    if not values:
        raise Unusable("holds no frames")
    keypoints = np.frombuffer(values, np.float32).reshape(-1, 2, 15, 3).swapaxes(0, 1)
    splits = tuple(f"fold{n}_{'test' if pair in fold else 'train'}" for n, fold in enumerate(FOLDS, 1))
    in_folds = any(pair in fold for fold in FOLDS)
    return Clip(
        f"{pair}_{action}_{take}",
        int(action) - 1,
        keypoints,
        subject=100 * int(left) + int(right),
        splits=splits if in_folds else (),
    )
