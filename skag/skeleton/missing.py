"""Joints that were not seen and were written as a number all the same: found, and set to 0 as skag stores them.

0 in all coordinates is the field's own sign, and stays what it is. Pose estimators and exports have others:

    a number    all coordinates are one number, such as (-1, -1, -1): negative, or the same again and again in 3-D
    one point   all joints of a body lie on one point of a frame
    a constant  a joint stays at exactly one place for many frames while most others move; or several joints do on the
                same place
    confidence  0, of a recording whose other joints have more

A joint that recordings are centred on stays at one place for good reason, 0 or not, and so does what they are scaled
by: the trunk is let off where it is constant from the first frame to the last. Whole numbers (pixels, millimetres)
repeat by themselves: there only long repeats count that several joints share.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from ..plural import counted
from .layouts import Layout
from .store import Clip

WORDS = {
    "number": "a number such as -1 in all coordinates",
    "point": "all joints of a frame on one point",
    "constant": "one constant place for many frames",
    "confidence": "confidence 0",
}
_HELD = 10  # frames from which on an exactly constant place is no coincidence
_OTHERS_MOVE = 0.5  # of the joints, from frame to frame
_MANY_ZEROS = 0.005  # share of all joints in frames in which somebody is seen; sensors lose fewer
_SHARED = 2  # joints on the same place


def mark_missing(clip: Clip, layout: Layout) -> tuple[Clip, Counter[str]]:
    """The clip with joints that were not seen set to 0, and how many joints in frames there were, by the keys of
    `WORDS`. The clip itself where there are none; its arrays are float32 `[M, T, V, C]` and `[M, T, V]` and finite.

    A confidence of a missing joint becomes 0 too. Where nothing would be left, only negative numbers go: a recording
    that lies on one point throughout is for `skag check` to name. The joints may be those recorded alone.
    """
    found = missing_as_number(clip.keypoints, clip.confidence, layout)
    if not found:
        return clip, Counter()
    mask = np.any(list(found.values()), axis=0)
    if mask[clip.keypoints.any(axis=-1)].all():  # nothing would be left
        found = {"number": mask & (clip.keypoints < 0).all(axis=-1)}
        mask = found["number"]
        if not mask.any():
            return clip, Counter()
    counts = Counter({kind: int(where.sum()) for kind, where in found.items()})
    keypoints = np.where(mask[..., None], 0, clip.keypoints).astype(np.float32)
    confidence = None if clip.confidence is None else np.where(mask, 0, clip.confidence).astype(np.float32)
    return replace(clip, keypoints=keypoints, confidence=confidence), counts


def missing_as_number(keypoints: np.ndarray, confidence: np.ndarray | None, layout: Layout) -> dict[str, np.ndarray]:
    """Masks `[M, T, V]` of joints that are missing and not 0, by the keys of `WORDS`, each joint once; {} where there
    are none. Arrays of another shape than the layout's are left to others to refuse."""
    if (
        keypoints.ndim != 4
        or 0 in keypoints.shape
        or keypoints.shape[2] not in (layout.num_recorded, layout.num_joints)
    ):
        return {}
    present = np.any(keypoints, axis=-1)
    found = {}
    for kind, where in (
        ("number", _one_number),
        ("point", _one_point),
        ("confidence", lambda points, there: _no_confidence(confidence, there)),
        ("constant", lambda points, there: _constant(points, there, layout)),
    ):
        mask = where(keypoints, present) & present
        if mask.any():
            found[kind] = mask
            present = present & ~mask
    return found


def _one_number(points: np.ndarray, there: np.ndarray) -> np.ndarray:
    """All coordinates are the same number, which is negative or, in 3-D, comes again."""
    first = points[..., 0]
    alike = (points == first[..., None]).all(axis=-1) & there
    if not alike.any():
        return alike
    numbers, counts = np.unique(first[alike], return_counts=True)
    again = counts > 2 if points.shape[-1] > 2 else np.zeros(len(counts), bool)
    signs = numbers[(numbers == -1) | ((numbers < 0) & (counts > 1)) | again]
    return alike & np.isin(first, signs)


def _one_point(points: np.ndarray, there: np.ndarray) -> np.ndarray:
    """All joints of a body that are there in a frame, three or more, lie on one point."""
    lowest = np.where(there[..., None], points, np.inf).min(axis=2)
    highest = np.where(there[..., None], points, -np.inf).max(axis=2)
    one = (lowest == highest).all(axis=-1) & (there.sum(axis=2) > 2)
    return np.broadcast_to(one[..., None], there.shape)


def _no_confidence(confidence: np.ndarray | None, there: np.ndarray) -> np.ndarray:
    """Confidence 0, where any joint of the recording has one."""
    if confidence is None or confidence.shape != there.shape or not (confidence > 0).any():
        return np.zeros_like(there)
    return confidence == 0


def _constant(points: np.ndarray, there: np.ndarray, layout: Layout) -> np.ndarray:
    """A joint stays exactly where it was for many frames while most others move."""
    mask = np.zeros_like(there)
    frames = points.shape[1]
    if frames <= _HELD:
        return mask
    let_off = _let_off(layout)
    trunk = [v for v, joint in enumerate(layout.joints[: points.shape[2]]) if joint in let_off]
    for body, seen, held in zip(points, there, mask, strict=True):
        both = seen[1:] & seen[:-1]
        same = (body[1:] == body[:-1]).all(axis=-1) & both  # T-1 V
        if (same.sum(axis=0) < _HELD).all():
            continue
        moving = (~same & both).sum(axis=1) >= _OTHERS_MOVE * np.maximum(both.sum(axis=1), 1)
        long = _runs(same & moving[:, None])
        throughout = same.all(axis=0)
        whole = not (body % 1).any()
        for v in np.flatnonzero(long.any(axis=0)).tolist():
            for_good_reason = whole or (v in trunk and throughout[v])
            if not for_good_reason or _is_shared(body, seen, long[:, v], v):
                held[:, v] = long[:, v]
    return mask


def _let_off(layout: Layout) -> set[str]:
    trunk = layout.parts.get("trunk", ())
    return {layout.centre, layout.root, *layout.spine, *trunk}


def _runs(same: np.ndarray) -> np.ndarray:
    """`[T, V]` frames in runs of more than `_HELD` frames that are each the `same` `[T - 1, V]` as the one before."""
    frames, joints = len(same) + 1, same.shape[1]
    long = np.zeros((frames, joints), bool)
    padded = np.zeros((frames + 1, joints), np.int8)
    padded[1:frames] = same
    edges = np.diff(padded, axis=0)
    for v in np.flatnonzero(same.sum(axis=0) >= _HELD):
        for start, stop in zip(np.flatnonzero(edges[:, v] > 0), np.flatnonzero(edges[:, v] < 0), strict=True):
            if stop - start >= _HELD:
                long[start : stop + 1, v] = True
    return long


def _is_shared(body: np.ndarray, there: np.ndarray, held: np.ndarray, joint: int) -> bool:
    """Whether another joint lies on exactly the same place in most of the frames in which this one is held."""
    here = body[held]
    on_it = ((here == here[:, joint : joint + 1]).all(axis=-1) & there[held]).sum(axis=1) >= _SHARED
    return bool(on_it.mean() > 0.5)


class Missing:
    """What a conversion found missing, for its notes."""

    def __init__(self) -> None:
        self._clips, self._counts = 0, Counter[str]()
        self._zeros = self._joints = self._with_zeros = 0

    def add(self, counts: Counter[str]) -> None:
        """Count what `mark_missing` found in one clip."""
        self._clips += bool(counts)
        self._counts += counts

    def count_zeros(self, clip: Clip) -> None:
        """Count the joints at 0 in frames in which the body was seen, those just marked included."""
        there = clip.keypoints.any(axis=-1)
        seen = there.any(axis=-1)
        zeros = int(seen.sum()) * there.shape[-1] - int(there.sum())
        self._zeros, self._joints = self._zeros + zeros, self._joints + int(seen.sum()) * there.shape[-1]
        self._with_zeros += zeros > 0

    def notes(self) -> list[str]:
        """A sentence on joints written as a number, and one on joints at 0 where there are many."""
        notes = []
        if self._clips:
            told = ", ".join(f"{WORDS[kind]} ({count:,})" for kind, count in self._counts.most_common())
            notes.append(
                f"{counted(self._clips, 'recording', 'has/have')} joints that were not seen written as a number; "
                "they are now 0 (missing): "
                f"{told}, counted in joints of a frame."
            )
        if self._joints and self._zeros >= _MANY_ZEROS * self._joints:
            share = 100 * self._zeros / self._joints
            notes.append(
                f"{counted(self._with_zeros, 'recording', 'has/have')} missing joints (all coordinates 0), "
                f"{share:.1f} % of all."
            )
        return notes
