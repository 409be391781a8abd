"""The compressed form of Kinetics-Skeleton in PYSKL and MMAction2.

Videos with many people in few frames would be mostly padding as `[M, T, V, C]`. Their annotations hold one row per
skeleton instead: `keypoint [N, V, 3]` (x, y, confidence), `frame_inds [N]` its frame, in ascending order, and maybe
`anno_inds`, the rows to use.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .source import Unusable

MAX_PERSON = 10  # kept in a frame, as published


def decompress(
    frame_inds: np.ndarray,
    keypoint: np.ndarray,
    total_frames: int,
    squeeze: bool = True,
    max_person: int = MAX_PERSON,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows of skeletons to bodies: keypoints `[M, T, V, 2]`, confidence `[M, T, V]` (float16) and number of frames.

    The same numbers as `DecompressPose` of PYSKL. The n-th skeleton of a frame becomes body n. Where any frame has
    more than `max_person`, the skeletons of every frame are ordered by their summed confidence and the first
    `max_person` kept. With `squeeze` frames without a skeleton are left out, and `total_frames` is not used. There is
    no tracking: body n of one frame need not be body n of the next.

    Raises `Unusable` where `frame_inds` does not ascend or does not fit the others.
    """
    frame_inds = np.asarray(frame_inds)
    if frame_inds.shape != keypoint.shape[:1] or not len(frame_inds):
        raise Unusable(f"has {keypoint.shape[0]} skeletons and frame_inds of shape {frame_inds.shape}")
    if (np.diff(frame_inds) < 0).any() or frame_inds[0] < 0:
        raise Unusable("has frame_inds that do not ascend from 0 on")
    if squeeze:
        frames, frame_inds = np.unique(frame_inds, return_inverse=True)
        total_frames = len(frames)
    elif frame_inds[-1] >= total_frames:
        raise Unusable(f"has a skeleton in frame {frame_inds[-1]} of {total_frames}")
    counts = np.bincount(frame_inds, minlength=total_frames)
    points, scores = keypoint[..., :2].astype(np.float16), keypoint[..., 2].astype(np.float16)
    if counts.max() > max_person:
        order = np.lexsort((-scores.sum(axis=-1), frame_inds))
        points, scores = points[order], scores[order]
    person = np.arange(len(frame_inds)) - (np.cumsum(counts) - counts)[frame_inds]  # place within the frame
    kept = person < max_person
    shape = (min(int(counts.max()), max_person), total_frames, keypoint.shape[1])
    keypoints, confidence = np.zeros((*shape, 2), np.float16), np.zeros(shape, np.float16)
    keypoints[person[kept], frame_inds[kept]] = points[kept]
    confidence[person[kept], frame_inds[kept]] = scores[kept]
    return keypoints, confidence, total_frames


def is_compressed(annotation: dict[str, Any]) -> bool:
    """Whether an annotation is of the compressed form."""
    keypoint = annotation.get("keypoint")
    return isinstance(keypoint, np.ndarray) and keypoint.ndim == 3 and "frame_inds" in annotation


def decompressed(annotation: dict[str, Any]) -> dict[str, Any]:
    """The annotation in the usual form, frames without anybody left out. Raises `Unusable`."""
    keypoint, frame_inds = annotation["keypoint"], annotation["frame_inds"]
    if keypoint.dtype.kind not in "fiu" or keypoint.shape[2] != 3:
        raise Unusable(f"has a compressed keypoint of shape {keypoint.shape}, not [skeletons, joints, 3]")
    frame_inds = _whole_numbers(frame_inds, "frame_inds")
    if annotation.get("anno_inds") is not None:
        chosen = _whole_numbers(annotation["anno_inds"], "anno_inds")
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < min(len(keypoint), len(frame_inds))):
            raise Unusable("has anno_inds beyond its skeletons")
        keypoint, frame_inds = keypoint[chosen], frame_inds[chosen]
    keypoints, confidence, total = decompress(frame_inds, keypoint, 0)
    return {**annotation, "keypoint": keypoints, "keypoint_score": confidence, "total_frames": total}


def _whole_numbers(values: Any, what: str) -> np.ndarray:
    if isinstance(values, list | tuple):
        if not all(isinstance(value, int | np.integer) and abs(int(value)) < 1 << 31 for value in values):
            raise Unusable(f"has {what} that are no whole numbers")
        values = np.array(values, np.int64)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu" or values.ndim != 1:
        raise Unusable(f"has {what} that are no list of whole numbers")
    if len(values) and int(values.max()) >= 1 << 31:
        raise Unusable(f"has {what} beyond reason")
    return values.astype(np.int64)
