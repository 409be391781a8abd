"""NTU RGB+D 60 and 120 (Shahroudy et al., CVPR 2016; Liu et al., TPAMI 2020): raw `.skeleton` files of Kinect v2.

A file is `SsssCcccPpppRrrrAaaa.skeleton`: setup, camera, performer, replication, action. Metres, y up.

Bodies are put together by tracking id. The sensor also tracks chairs and shadows, so bodies are chosen as the
published preprocessing chooses them, `ntu_preproc.py` of PYSKL (which makes its ntu60_3danno.pkl and
ntu120_3danno.pkl) and the earlier scripts that CTR-GCN uses as well:

1. Frames without any body are dropped. Where a body is missing for some frames and comes back under its id, its
   frames follow each other without the gap.
2. Of several bodies those of at most 11 frames are noise.
3. A frame of a body is good where it is at most 0.8 times as wide (x) as high (y). A body with at least 69.754 % bad
   frames is noise; the motion of the others is taken over their good frames where that is less.
4. The motion of a body is the variance of x, y and z over all joints and frames, summed. The body that moves most is
   the first actor. The next ones join the first actor where they do not overlap it in time, else the second actor
   where they do not overlap that, else they are dropped.
5. Empty frames at both ends are cut, and the actors change places where the first is absent in the first frame.

The published scripts fail where step 2 or 3 leaves nobody; here such a step is left out. Their thresholds for motion
itself are not applied, neither there nor here.

Left out are the samples on the published list of missing or incomplete skeletons (`ntu_missing_skeletons.txt`).

Splits, by the papers: `xsub` by performer; `xview` of NTU RGB+D 60 (setups 1 to 17), camera 1 tests; `xset` of
NTU RGB+D 120, odd setups test.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath

import numpy as np

from ..parallel import Workers
from ..skeleton.layouts import load_layout
from ..skeleton.store import Clip
from .archives import Files, Member
from .label_names import known_names
from .skeleton_text import as_joints, read_frames
from .source import Options, Skipped, Source, Unusable, content, each_file

# Performers that train, NTU RGB+D 120 (Liu et al., section 3.2); those up to 40 are the 20 of NTU RGB+D 60
# (Shahroudy et al., section 4.3).
TRAINING_PERFORMERS = frozenset({
    1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38, 45, 46, 47, 49, 50, 52, 53, 54, 55, 56,
    57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103,
})  # fmt: skip
NTU60_SETUPS, NTU60_ACTIONS = 17, 60
PUBLISHED_CLIPS = {60: 56_880 - 302, 120: 114_480 - 535}
SHORTEST = 12  # frames of a body that is no noise
WIDEST, MOST_WIDE = 0.8, 0.69754
EMPTY = 1e-3  # sum of absolute coordinates below which nobody is there
MAX_BYTES = 64 << 20  # of one file
MAX_TRACKED = 1000  # bodies in one file
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_MISSING = Path(__file__).with_name("ntu_missing_skeletons.txt")


@cache
def missing_skeletons() -> frozenset[str]:
    """The published list of samples to leave out."""
    lines = _MISSING.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def recognises(files: Files) -> bool:
    """Whether there is a `.skeleton` file."""
    return any(map(_is_skeleton, files.names))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names, with performer, camera, setup and the official splits."""
    names = list(filter(_is_skeleton, files.names))
    matches = [match for name in names if (match := _NAME.fullmatch(PurePosixPath(name).stem))]
    extended = any(int(match[1]) > NTU60_SETUPS or int(match[5]) > NTU60_ACTIONS for match in matches)
    number = 120 if extended else 60
    notes: list[str] = []
    return Source(
        options.layout or load_layout("nturgb+d"),
        options.classes or known_names("ntu120")[:number],
        _clips(files, number, notes, options.workers),
        len(names),
        notes,
        frame_rate=30.0,
    )


def _is_skeleton(name: str) -> bool:
    return name.lower().endswith(".skeleton")


def _clips(files: Files, number: int, notes: list[str], workers: Workers) -> Iterator[Clip | Skipped]:
    listed = {PurePosixPath(name).stem for name in files.names} & missing_skeletons()
    for name in sorted(listed):
        yield Skipped(name, "is on the published list of missing or incomplete skeletons", expected=True)

    def wanted(name: str) -> bool:
        return _is_skeleton(name) and PurePosixPath(name).stem not in listed

    found = 0
    for item in each_file(files, wanted, partial(_clip, extended=number == 120), workers):
        yield item
        found += isinstance(item, Clip)
    if found != PUBLISHED_CLIPS[number]:
        notes.append(
            f"NTU RGB+D {number} has {PUBLISHED_CLIPS[number]} recordings with complete skeletons; here: {found}."
        )


def _clip(member: Member, extended: bool) -> Clip:
    name = PurePosixPath(member.name).stem
    match = _NAME.fullmatch(name)
    if not match:
        raise Unusable("is not named SsssCcccPpppRrrrAaaa.skeleton (setup, camera, performer, replication, action)")
    setup, camera, performer, _, action = map(int, match.groups())
    keypoints = actors(_bodies(content(member, MAX_BYTES)))
    splits = official_splits(performer, camera, setup, extended)
    return Clip(name, action - 1, keypoints, None, performer, camera, setup, splits)


def official_splits(performer: int, camera: int, setup: int, extended: bool) -> tuple[str, ...]:
    """The splits of the papers that a recording is in; `extended` is for NTU RGB+D 120."""
    splits = ["xsub_train" if performer in TRAINING_PERFORMERS else "xsub_test"]
    if setup <= NTU60_SETUPS:
        splits.append("xview_test" if camera == 1 else "xview_train")
    if extended:
        splits.append("xset_test" if setup % 2 else "xset_train")
    return tuple(splits)


@dataclass
class Body:
    """One tracked body: the frame it begins in, and its joints `[T, 25, 3]`."""

    start: int
    joints: np.ndarray

    @property
    def stop(self) -> int:
        return self.start + len(self.joints)


def _bodies(data: bytes) -> list[Body]:
    """All bodies in the order in which they appear."""
    tracks: dict[bytes, tuple[int, array]] = {}
    frame = 0
    for bodies in read_frames(data, 25):
        for identity, joints in bodies:
            tracks.setdefault(identity, (frame, array("f")))[1].extend(joints)
        if len(tracks) > MAX_TRACKED:
            raise Unusable(f"has more than {MAX_TRACKED} tracking ids")
        frame += bool(bodies)
    return [Body(start, as_joints(joints).reshape(-1, 25, 3)) for start, joints in tracks.values()]


def _motion(joints: np.ndarray) -> float:
    return float(joints.reshape(-1, 3).var(axis=0).sum())


def actors(bodies: list[Body]) -> np.ndarray:
    """The one or two people who act, `[M, T, 25, 3]`: steps 2 to 5 above. Raises `Unusable` where there is nobody."""
    if not bodies:
        raise Unusable("holds no bodies")
    if len(bodies) > 1:
        bodies = [body for body in bodies if len(body.joints) >= SHORTEST] or bodies
    if len(bodies) == 1:
        return bodies[0].joints[None]
    ranked = []
    for body in bodies:
        width, height = np.ptp(body.joints[..., 0], axis=1), np.ptp(body.joints[..., 1], axis=1)
        good = width <= WIDEST * height
        if 1 - good.sum() / len(good) < MOST_WIDE:
            ranked.append((min(_motion(body.joints), _motion(body.joints[good])), body))
    ranked = ranked or [(_motion(body.joints), body) for body in bodies]
    # Bodies of equal motion stay as they were ranked before step 3, as in the published script.
    before = {id(body): -_motion(body.joints) for _, body in ranked}
    ranked.sort(key=lambda pair: (-pair[0], before[id(pair[1])]))
    chosen = [body for _, body in ranked]
    return chosen[0].joints[None] if len(chosen) == 1 else _two(chosen)


def _two(bodies: list[Body]) -> np.ndarray:
    """Two actors out of several bodies, the first of them the main one."""
    keypoints = np.zeros((2, max(body.stop for body in bodies), *bodies[0].joints.shape[1:]), np.float32)
    spans = [(bodies[0].start, bodies[0].stop), (0, 0)]
    keypoints[0, bodies[0].start : bodies[0].stop] = bodies[0].joints
    for body in bodies[1:]:
        for actor, (start, stop) in enumerate(spans):
            if max(start, body.start) >= min(stop, body.stop):
                keypoints[actor, body.start : body.stop] = body.joints
                spans[actor] = min(start, body.start), max(stop, body.stop)
                break
    seen = np.flatnonzero(np.abs(keypoints).sum(axis=(0, 2, 3)) >= EMPTY)
    if not len(seen):
        raise Unusable("has no joint other than 0 in any frame")
    keypoints = keypoints[:, seen[0] : seen[-1] + 1]
    first, second = np.abs(keypoints[:, 0, 1]).sum(axis=-1)  # the middle of the spine
    return keypoints[::-1] if first < EMPTY < second else keypoints
