"""One annotation of a PYSKL or MMAction2 pickle: a dict with the joints of a recording, checked before use."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..errors import DataError
from ..skeleton.store import UNKNOWN, Clip
from .archives import printable
from .source import Unusable
from .split_names import split_name

MAX_LABEL, MAX_SPLITS = 99_999, 100
NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")  # setup, camera, performer, replication, action
UAV_NAME = re.compile(r"P(\d{3})S(\d\d)G\d\dB\d\dH\d\dUC\d{6}LC\d{6}A(\d{3})R\d_\d{8}")  # person, setup, action


def parts(data: Any, shown: str) -> tuple[list[Any], dict[str, list[str]]]:
    """The annotations of a pickle, and the names in every split. Raises `DataError`."""
    annotations = data.get("annotations") if isinstance(data, dict) else data
    if isinstance(annotations, np.ndarray) and annotations.dtype.hasobject:
        annotations = annotations.ravel().tolist()
    if not isinstance(annotations, list | tuple):
        raise DataError(
            f"{shown} is no PYSKL-style pickle: it needs a list of annotations, or a dict of 'split' and 'annotations'."
        )
    splits = data.get("split") if isinstance(data, dict) else None
    if not isinstance(splits or {}, dict) or len(splits or {}) > MAX_SPLITS:
        raise DataError(f"{shown}: 'split' is no dict of up to {MAX_SPLITS} lists of names: mend or remove it.")
    names: dict[str, list[str]] = {}
    for split, members in (splits or {}).items():
        members = members.tolist() if isinstance(members, np.ndarray) else members
        if not isinstance(members, list | tuple | set) or not all(isinstance(name, str) for name in members):
            what = printable(str(split), 60)
            raise DataError(f"{shown}: split {what!r} is no list of recording names: mend or remove it.")
        names[split_name(str(split))] = list(members)
    return list(annotations), names


def name_of(annotation: Any) -> str:
    """The name of a recording, "" where it has none."""
    for key in ("frame_dir", "filename"):
        name = annotation.get(key) if isinstance(annotation, dict) else None
        if isinstance(name, str) and name:
            return str(name)
    return ""


def facts_of(annotation: Any) -> Clip:
    """A clip without joints: name, label, what the name says, and the image size. Raises `Unusable`."""
    if not isinstance(annotation, dict):
        raise Unusable("is no dict with keypoint, label and frame_dir")
    name = name_of(annotation)
    if not name:
        raise Unusable("has no frame_dir (its name)")
    label = _whole(annotation.get("label"), "label")
    if label is not None and label > MAX_LABEL:
        raise Unusable(f"has the label {label}, beyond {MAX_LABEL}")
    setup = camera = subject = UNKNOWN
    if match := NTU_NAME.fullmatch(name):
        setup, camera, subject = (int(group) for group in match.groups()[:3])
    elif match := UAV_NAME.fullmatch(name):
        subject, setup = int(match[1]), int(match[2])
    height, width = _image_size(annotation.get("img_shape"))
    known = UNKNOWN if label is None or label < 0 else label
    nothing = np.empty((0, 0, 0, 0), np.float32)
    return Clip(name, known, nothing, None, subject, camera, setup, (), width, height)


def joints_of(annotation: dict) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Keypoints, confidence, and the sign of (stated number of frames - frames there). Raises `Unusable`."""
    keypoints = _numbers(annotation, "keypoint")
    if keypoints is None:
        raise Unusable("has no keypoint")
    if keypoints.ndim != 4:
        raise Unusable(f"has a keypoint of shape {keypoints.shape}, not [bodies, frames, joints, coordinates]")
    confidence = _numbers(annotation, "keypoint_score")
    if confidence is not None and confidence.shape != keypoints.shape[:3]:
        raise Unusable(f"has a keypoint_score of shape {confidence.shape} for a keypoint of {keypoints.shape}")
    stated = _whole(annotation.get("total_frames"), "total_frames")
    frames = keypoints.shape[1]
    stated = frames if stated is None else stated
    if 0 < stated < frames:
        keypoints = keypoints[:, :stated]
        confidence = None if confidence is None else confidence[:, :stated]
    return keypoints, confidence, (stated > frames) - (0 < stated < frames)


def _numbers(annotation: dict, key: str) -> np.ndarray | None:
    array = annotation.get(key)
    if array is None:
        return None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise Unusable(f"has a {key} that is no numpy array of numbers")
    return array


def _image_size(shape: Any) -> tuple[int, int]:
    """(height, width) in pixels of what `img_shape` holds; unknown where it is missing or no such pair."""
    if not isinstance(shape, tuple | list) or len(shape) != 2:
        return UNKNOWN, UNKNOWN
    height, width = (_whole(side, "img_shape") for side in shape)
    return (height, width) if height and width and min(height, width) > 0 else (UNKNOWN, UNKNOWN)


def _whole(value: Any, what: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or abs(int(value)) >= 1 << 31:
        raise Unusable(f"has a {what} that is no whole number")
    return int(value)
