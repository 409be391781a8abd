"""Kinetics-Skeleton of PYSKL: one pickle of annotations without joints, and many `kpfiles` with them.

The annotations are a PYSKL pickle whose entries lack `keypoint`: they have `frame_inds`, `box_score` and the file
that holds the joints. A kpfile is a pickled dict, `frame_dir: {"keypoint": [N, V, 3]}`; in the older form of MMAction2
a file holds the bare array of one recording and is named like it. Skeletons are found by the names of recordings
alone: a path out of a pickle is never opened.

The annotations have to be loaded whole, and one kpfile at a time. The pickle of annotations lies above the others, or
is the only one beside their folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ..errors import DataError
from ..skeleton.layouts import load_layout
from ..skeleton.store import Clip
from .annotations import facts_of, name_of, parts
from .archives import Files
from .pyskl import class_names, is_pickle, load, memory_note, splits_of, whole_clip
from .source import Options, Skipped, Source, Unusable


def recognises(files: Files) -> bool:
    """Whether there is one pickle of annotations above others, or beside the folder of others."""
    names = [name for name in files.names if is_pickle(name)] if files.kind != "file" else []
    depths = sorted(len(PurePosixPath(name).parts) for name in names)
    return len(names) > 1 and depths[0] < depths[1]


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of the kpfiles. Raises `DataError` where the annotations are not found."""
    names = [name for name in files.names if is_pickle(name)]
    depth = {name: len(PurePosixPath(name).parts) for name in names}
    top = [name for name in names if depth[name] == min(depth.values())]
    if len(names) < 2 or len(top) != 1:
        raise DataError(
            f"{files.shown} needs one pickle of annotations, and a folder with the kpfiles beside it: "
            f"here are {len(top)} at the top."
        )
    data, size, shown = load(files, top[0])
    annotations, splits = parts(data, shown)
    notes = [memory_note(size)]
    pending: dict[str, tuple[Clip, dict[str, Any]]] = {}
    skipped: list[Skipped] = []
    for number, annotation in enumerate(annotations, 1):
        try:
            facts = facts_of(annotation)
            if facts.name in pending:
                raise Unusable("has the name of a recording before it")
            pending[facts.name] = facts, annotation
        except Unusable as unusable:
            skipped.append(Skipped(name_of(annotation) or f"number {number}", str(unusable)))
    clips = [facts for facts, _ in pending.values()]
    found = splits_of(clips, splits, set(pending), notes)
    return Source(
        options.layout or load_layout("coco"),
        options.classes or class_names(clips, splits, True, notes),
        _clips(files, [name for name in names if name != top[0]], pending, skipped, found),
        len(annotations),
        notes,
        has_splits=bool(found),
    )


def _clips(
    files: Files,
    kpfiles: list[str],
    pending: dict[str, tuple[Clip, dict[str, Any]]],
    skipped: list[Skipped],
    found: dict[str, tuple[str, ...]],
) -> Iterator[Clip | Skipped]:
    yield from skipped
    damaged = ""
    for name in kpfiles:
        try:
            joints = _joints(load(files, name)[0], name)
        except DataError as error:
            damaged = f"; {error}"
            continue
        for key, keypoint in joints.items():
            if key in pending:
                facts, annotation = pending.pop(key)
                clip = replace(facts, splits=found.get(key, ()))
                yield whole_clip(clip, {**annotation, "keypoint": keypoint})
    for name in pending:
        yield Skipped(name, f"is in none of the {len(kpfiles)} kpfiles{damaged}")


def _joints(data: Any, name: str) -> dict[str, Any]:
    """Recording name -> what stands for its joints in one kpfile."""
    if isinstance(data, np.ndarray):
        return {PurePosixPath(name).stem: data}
    if not isinstance(data, dict):
        return {}
    if isinstance(data.get("keypoint"), np.ndarray):
        return {PurePosixPath(name).stem: data["keypoint"]}
    return {
        key: pack["keypoint"] if isinstance(pack, dict) and "keypoint" in pack else pack
        for key, pack in data.items()
        if isinstance(key, str)
    }
