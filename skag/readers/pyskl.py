"""Pickles of PYSKL and MMAction2: NTU RGB+D 60 and 120 in 3D and 2D, FineGYM, UAV-Human, Kinetics and others.

`{"split": {name: [frame_dir, ...]}, "annotations": [annotation, ...]}`, or the bare list of annotations. An
annotation is a dict with `keypoint [M, T, V, C]` (often float16), `keypoint_score [M, T, V]` for 2D, `label` (from
0), `frame_dir` (its name; `filename` in some files), `total_frames` and, for 2D, `img_shape` (height, width). The
compressed form of Kinetics is in `skag.readers.kinetics`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..errors import DataError
from ..plural import counted
from ..skeleton.layouts import Layout, load_layout
from ..skeleton.store import Clip
from . import pickles
from .annotations import NTU_NAME, UAV_NAME, facts_of, joints_of, name_of, parts
from .archives import Files, printable
from .kinetics import decompressed, is_compressed
from .label_names import known_names
from .ntu import NTU60_ACTIONS, NTU60_SETUPS, official_splits
from .source import Options, Skipped, Source, Unusable, begin_at_1, numbered

MEMORY = 1.1  # times the length of a pickle: it is read as it is, and a little for every recording
LAYOUTS = {(25, 3): "nturgb+d", (20, 3): "kinect-v1", (17, 2): "coco", (18, 2): "openpose-18"}  # joints, coordinates
_GYM_NAME = re.compile(r".{11}_E_\d{6}_\d{6}_A_\d{4}_\d{4}")  # video, event, action


@dataclass(frozen=True)
class _Entry:
    """A recording: its clip, or its facts alone where the joints are still compressed."""

    clip: Clip
    shape: tuple[int, int]  # joints, coordinates
    compressed: dict[str, Any] | None = None


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
    """Recordings in the order of the file, with its splits, or with the official ones of NTU RGB+D."""
    names = files.names if files.kind == "file" else [name for name in files.names if is_pickle(name)]
    if len(names) != 1:
        what = f"{len(names)} pickles: give the one to read" if names else "no pickle: give one, or the right --format"
        raise DataError(f"{files.shown} holds {what}.")
    data, size, shown = load(files, names[0])
    annotations, splits = parts(data, shown)
    notes = [memory_note(size)]
    entries = _entries(annotations, size, shown, notes)
    usable = [entry for entry in entries if isinstance(entry, _Entry)]
    layout = options.layout or _layout(entries, shown)
    clips = [entry.clip for entry in usable]
    classes = options.classes or class_names(clips, splits, any(entry.compressed for entry in usable), notes)
    found = splits_of(clips, splits, {name_of(annotation) for annotation in annotations}, notes)
    found_labels = {clip.label for clip in clips if clip.label >= 0}
    return Source(
        layout,
        classes,
        _clips(entries, found),
        len(entries),
        notes,
        has_splits=bool(found),
        first_label=int(classes == numbered(len(classes)) and begin_at_1(found_labels)),
    )


def load(files: Files, name: str) -> tuple[Any, int, str]:
    """What a pickle of the source holds, its size in bytes, and its name for messages. Raises `DataError`."""
    shown = files.shown if files.kind == "file" else f"{printable(name)} in {files.shown}"
    if files.kind in ("file", "folder"):
        path = files.path if files.kind == "file" else files.path / name
        return pickles.load(path), path.stat().st_size, shown
    member = next(files.read(name.__eq__))
    if member.data is None:
        raise DataError(f"{shown} {member.problem}: unpack it and give the pickle itself.")
    return pickles.loads(member.data, shown), len(member.data), shown


def memory_note(size: int) -> str:
    """What the user should know of pickles."""
    return f"A pickle has to be loaded whole: this one takes about {MEMORY * size / 2**20:.0f} MiB of memory."


def _entries(annotations: list[Any], size: int, shown: str, notes: list[str]) -> list[_Entry | Skipped]:
    """All annotations; their arrays are views on the loaded bytes."""
    entries: list[_Entry | Skipped] = []
    cut = longer = held = 0
    for number, annotation in enumerate(annotations, 1):
        try:
            facts = facts_of(annotation)
            if is_compressed(annotation):
                joints = annotation["keypoint"]
                entries.append(_Entry(facts, (joints.shape[1], joints.shape[2] - 1), annotation))
                held += joints.nbytes
            else:
                keypoints, confidence, stated = joints_of(annotation)
                cut += stated < 0
                longer += stated > 0
                held += keypoints.nbytes + (0 if confidence is None else confidence.nbytes)
                clip = replace(facts, keypoints=keypoints, confidence=confidence)
                entries.append(_Entry(clip, keypoints.shape[2:]))
        except Unusable as unusable:
            entries.append(Skipped(name_of(annotation) or f"number {number}", str(unusable)))
        if held > 4 * size:
            raise DataError(f"{shown} uses the same arrays for many recordings ({number} so far): write it anew.")
    if cut:
        notes.append(f"{counted(cut, 'recording', 'was/were')} cut to total_frames; the rest of the array is padding.")
    if longer:
        notes.append(
            f"{counted(longer, 'recording', 'has/have')} fewer frames than total_frames says; all there are were taken."
        )
    return entries


def _clips(entries: list[_Entry | Skipped], found: dict[str, tuple[str, ...]]) -> Iterator[Clip | Skipped]:
    for entry in entries:
        if isinstance(entry, Skipped):
            yield entry
            continue
        clip = replace(entry.clip, splits=found.get(entry.clip.name, ()))
        yield clip if entry.compressed is None else whole_clip(clip, entry.compressed)


def whole_clip(facts: Clip, annotation: dict[str, Any]) -> Clip | Skipped:
    """The clip of an annotation whose joints may be compressed."""
    try:
        keypoints, confidence, _ = joints_of(decompressed(annotation) if is_compressed(annotation) else annotation)
    except (Unusable, MemoryError) as problem:
        return Skipped(facts.name, str(problem) or "does not fit into memory")
    return replace(facts, keypoints=keypoints, confidence=confidence)


def _layout(entries: list[_Entry | Skipped], shown: str) -> Layout:
    """The layout that most recordings have by their numbers of joints and coordinates."""
    shapes = Counter(entry.shape for entry in entries if isinstance(entry, _Entry))
    if not shapes:
        first = next((entry for entry in entries if isinstance(entry, Skipped)), None)
        why = f"; the first, {printable(first.name)}: {first.reason}" if first else ""
        raise DataError(f"none of the {len(entries)} recordings in {shown} can be used{why}.")
    shape = shapes.most_common(1)[0][0]
    if shape not in LAYOUTS:
        known = ", ".join(f"{joints}x{dims} {name}" for (joints, dims), name in LAYOUTS.items())
        raise DataError(
            f"{shown} has {shape[0]} joints with {shape[1]} coordinates, and guessed are only {known}: "
            "name the layout with --layout NAME or a layout's TOML file."
        )
    return load_layout(LAYOUTS[shape])


def class_names(clips: list[Clip], splits: dict[str, list[str]], compressed: bool, notes: list[str]) -> list[str]:
    """Class names: those of NTU RGB+D, UAV-Human, Gym99 and Kinetics-400 where names and labels are theirs."""
    labelled = [clip for clip in clips if clip.label >= 0]
    most = max((clip.label for clip in labelled), default=0) + 1
    if labelled and _are_actions(labelled, NTU_NAME, 5, 1):
        names = known_names("ntu120")
        small = all(clip.setup <= NTU60_SETUPS for clip in clips) and not any("xset" in split for split in splits)
        if most <= len(names):
            return names[:60] if small and most <= 60 else names
    if labelled and _are_actions(labelled, UAV_NAME, 3, 0):
        return known_names("uav-human")
    if most == 99 and all(_GYM_NAME.fullmatch(clip.name) for clip in labelled):
        return known_names("gym99")
    if most == 400 and compressed:
        return known_names("kinetics400")
    notes.append(f"The class names are unknown: they are 'class 1' to 'class {most}' unless --classes FILE names them.")
    return numbered(most)


def _are_actions(clips: list[Clip], pattern: re.Pattern[str], group: int, first: int) -> bool:
    """Whether every name says the action that its label says; actions are numbered from `first`."""
    matches = ((pattern.fullmatch(clip.name), clip.label) for clip in clips)
    return all(match and int(match[group]) == label + first for match, label in matches)


def splits_of(
    clips: list[Clip], splits: dict[str, list[str]], there: set[str], notes: list[str]
) -> dict[str, tuple[str, ...]]:
    """Recording name -> its splits; where the file has none, the official ones if its names are NTU RGB+D's.

    A note names what the splits list and the file does not hold.
    """
    found: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for split, members in splits.items():
        absent = [name for name in dict.fromkeys(members) if name not in there]
        if absent:
            example = printable(absent[0], 60)
            notes.append(f"Split {split} names {counted(len(absent), 'recording')} not in the file, such as {example}.")
        for name in set(members):
            found[name] += (split,)
    labelled = [clip for clip in clips if clip.label >= 0]
    if not splits and labelled and _are_actions(labelled, NTU_NAME, 5, 1):
        extended = any(clip.setup > NTU60_SETUPS or clip.label >= NTU60_ACTIONS for clip in labelled)
        notes.append("There are no splits in the file; its recordings are those of NTU RGB+D, and so are the splits.")
        for clip in labelled:
            found[clip.name] = official_splits(clip.subject, clip.camera, clip.setup, extended)
    return found
