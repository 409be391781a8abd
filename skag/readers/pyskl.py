"""Pickles of PYSKL and MMAction2: NTU RGB+D 60 and 120 in 3D and 2D, FineGYM, UAV-Human and others.

`{"split": {name: [frame_dir, ...]}, "annotations": [annotation, ...]}`, or the bare list of annotations. An
annotation is a dict with `keypoint [M, T, V, C]` (often float16), `keypoint_score [M, T, V]` for 2D, `label` (from
0), `frame_dir` (its name; `filename` in some files), `total_frames` and, for 2D, `img_shape` (height, width).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from .. import pickles
from ..archives import Files, printable
from ..errors import DataError
from ..label_names import known_names
from ..layouts import Layout, load_layout
from ..splitting import Recording, make_splits
from ..store import UNKNOWN, Clip
from .labels import split_name
from .source import Options, Skipped, Source, Unusable, numbered

LAYOUTS = {(25, 3): "nturgb+d", (20, 3): "kinect-v1", (17, 2): "coco"}  # by joints and coordinates
MAX_LABEL, MAX_SPLITS = 99_999, 100
_NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")  # setup, camera, performer, replication, action
_NTU60_SETUPS = 17  # NTU RGB+D 60 is setups 1 to 17 and actions 1 to 60


def recognises(files: Files) -> bool:
    """Whether it is a single file named or beginning like a pickle, or holds exactly one so named."""
    if files.kind != "file":
        return sum(map(is_pickle, files.names)) == 1
    with files.path.open("rb") as file:
        head = file.read(2)
    return is_pickle(files.path.name) or (head[:1] == b"\x80" and head[1:] in (b"\2\3\4\5"))


def is_pickle(name: str) -> bool:
    """Whether a file is named like a pickle."""
    return name.lower().endswith((".pkl", ".pickle"))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of the file, with its splits, or with random ones where it has none."""
    data, size, shown = _loaded(files)
    annotations, splits = _parts(data, shown)
    notes = [f"A pickle has to be loaded whole: this one takes about {size / 2**20:.0f} MiB of memory."]
    clips = _clips(annotations, size, shown, notes)
    layout = options.layout or _layout(clips, shown)
    usable = [clip for clip in clips if isinstance(clip, Clip)]
    classes = options.classes or _classes(usable, splits, notes)
    in_splits = _in_splits(splits, clips, notes) if splits else _random_splits(usable, notes)
    return Source(layout, classes, _with_splits(clips, in_splits), len(clips), notes)


def _loaded(files: Files) -> tuple[Any, int, str]:
    """What the one pickle of the source holds, its size in bytes, and its name for messages."""
    if files.kind == "file":
        return pickles.load(files.path), files.path.stat().st_size, files.shown
    names = [name for name in files.names if is_pickle(name)]
    if len(names) != 1:
        what = f"{len(names)} pickles: give the one to read" if names else "no pickle: give one, or the right --format"
        raise DataError(f"{files.shown} holds {what}.")
    shown = f"{printable(names[0])} in {files.shown}"
    if files.kind == "folder":
        path = files.path / names[0]
        return pickles.load(path), path.stat().st_size, shown
    member = next(files.read(names[0].__eq__))
    if member.data is None:
        raise DataError(f"{shown} {member.problem}: unpack it and give the pickle itself.")
    return pickles.loads(member.data, shown), len(member.data), shown


def _with_splits(clips: list[Clip | Skipped], in_splits: dict[str, tuple[str, ...]]) -> Iterator[Clip | Skipped]:
    for item in clips:
        yield replace(item, splits=in_splits.get(item.name, ())) if isinstance(item, Clip) else item


def _parts(data: Any, shown: str) -> tuple[list[Any], dict[str, list[str]]]:
    """The annotations, and the names in every split. Raises `DataError`."""
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


def _clips(annotations: list[Any], size: int, shown: str, notes: list[str]) -> list[Clip | Skipped]:
    """All annotations; their arrays are views on the loaded bytes."""
    clips: list[Clip | Skipped] = []
    cut = longer = held = 0
    for number, annotation in enumerate(annotations, 1):
        try:
            clip, stated = _clip(annotation)
        except Unusable as unusable:
            clips.append(Skipped(_name(annotation) or f"number {number}", str(unusable)))
            continue
        cut += stated < 0
        longer += stated > 0
        held += clip.keypoints.nbytes + (0 if clip.confidence is None else clip.confidence.nbytes)
        if held > 4 * size:
            raise DataError(f"{shown} uses the same arrays for many recordings ({number} so far): write it anew.")
        clips.append(clip)
    if cut:
        notes.append(f"{cut} recordings were cut to their total_frames; the rest of their arrays is padding.")
    if longer:
        notes.append(f"{longer} recordings have fewer frames than their total_frames says; all there are were taken.")
    return clips


def _name(annotation: Any) -> str:
    for key in ("frame_dir", "filename"):
        name = annotation.get(key) if isinstance(annotation, dict) else None
        if isinstance(name, str) and name:
            return str(name)
    return ""


def _clip(annotation: Any) -> tuple[Clip, int]:
    """A clip, and the sign of (stated number of frames - frames in the array). Raises `Unusable`."""
    if not isinstance(annotation, dict):
        raise Unusable("is no dict with keypoint, label and frame_dir")
    name = _name(annotation)
    if not name:
        raise Unusable("has no frame_dir (its name)")
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
    label = _whole(annotation.get("label"), "label")
    if label is not None and label > MAX_LABEL:
        raise Unusable(f"has the label {label}, beyond {MAX_LABEL}")
    setup = camera = subject = UNKNOWN
    if match := _NTU_NAME.fullmatch(name):
        setup, camera, subject = (int(group) for group in match.groups()[:3])
    height, width = _image_size(annotation.get("img_shape"))
    known = UNKNOWN if label is None or label < 0 else label
    clip = Clip(name, known, keypoints, confidence, subject, camera, setup, (), width, height)
    return clip, (stated > frames) - (0 < stated < frames)


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


def _layout(clips: list[Clip | Skipped], shown: str) -> Layout:
    """The layout that most recordings have by their numbers of joints and coordinates."""
    shapes = Counter(clip.keypoints.shape[2:] for clip in clips if isinstance(clip, Clip))
    if not shapes:
        first = next((clip for clip in clips if isinstance(clip, Skipped)), None)
        why = f"; the first, {printable(first.name)}: {first.reason}" if first else ""
        raise DataError(f"none of the {len(clips)} recordings in {shown} can be used{why}.")
    shape = shapes.most_common(1)[0][0]
    if shape not in LAYOUTS:
        known = ", ".join(f"{joints}x{dims} {name}" for (joints, dims), name in LAYOUTS.items())
        raise DataError(
            f"{shown} has {shape[0]} joints with {shape[1]} coordinates, and guessed are only {known}: "
            "name the layout with --layout NAME or a layout's TOML file."
        )
    return load_layout(LAYOUTS[shape])


def _classes(clips: list[Clip], splits: dict[str, list[str]], notes: list[str]) -> list[str]:
    """Class names: NTU's where every name and label is NTU's, else numbers."""
    labelled = [clip for clip in clips if clip.label >= 0]
    most = max((clip.label for clip in labelled), default=0) + 1
    matches = [_NTU_NAME.fullmatch(clip.name) for clip in labelled]
    if labelled and all(m and int(m[5]) == clip.label + 1 for m, clip in zip(matches, labelled, strict=True)):
        names = known_names("ntu120")
        small = all(clip.setup <= _NTU60_SETUPS for clip in clips) and not any("xset" in split for split in splits)
        if most <= len(names):
            return names[:60] if small and most <= 60 else names
    notes.append(f"The class names are unknown: they are 'class 1' to 'class {most}' unless --classes FILE names them.")
    return numbered(most)


def _in_splits(
    splits: dict[str, list[str]], clips: list[Clip | Skipped], notes: list[str]
) -> dict[str, tuple[str, ...]]:
    """Recording name -> its splits. A note names what the splits list and the file does not hold."""
    there = {clip.name for clip in clips}
    found: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for split, members in splits.items():
        absent = [name for name in dict.fromkeys(members) if name not in there]
        if absent:
            example = printable(absent[0], 60)
            notes.append(f"Split {split} names {len(absent)} recordings that are not in the file, such as {example}.")
        for name in set(members):
            found[name] += (split,)
    return found


def _random_splits(clips: list[Clip], notes: list[str]) -> dict[str, tuple[str, ...]]:
    """Where a file brings none. Made here and not by `convert`, which would load the pickle a second time."""
    recordings = (Recording(clip.name, clip.label, clip.subject, clip.camera) for clip in clips if clip.label >= 0)
    found, note = make_splits(recordings, "random")
    notes.append(f"There are no splits in the file: {note[0].lower()}{note[1:]}")
    return {name: (split,) for name, split in found.items()}
