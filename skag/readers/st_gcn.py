"""The arrays of ST-GCN and its successors (2s-AGCN, MS-G3D, CTR-GCN's feeders): `[N, C, T, V, M]` and their labels.

    train_data.npy, or train_data_joint.npy    float [N, C, T, V, M], shorter recordings filled up with zeros
    train_label.pkl                            ([name of every recording], [its class from 0])
    train_label.npy                            or the classes alone
    val_data.npy, val_label.pkl                the recordings that test

The folders that hold them may be named by protocol (`ntu/xsub/`, `ntu/xview/`). Recordings are streamed. The zeros at
the end are cut off. Of key points in the image the third number is a score: ST-GCN's are shares of the image, about its
middle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ..errors import DataError
from ..skeleton.layouts import Layout, load_layout
from ..skeleton.store import Clip
from .archives import Files, printable
from .arrays import Header, npy_header, npy_rows, read_npy
from .joints import layout_of_shape
from .label_names import known_names
from .pyskl import load
from .source import Options, Skipped, Source, Unusable, groups, numbered, streams

MAX_CLASSES = 100_000
_DATA = re.compile(r"(train|val|test)_data(?:_joint)?\.npy", re.IGNORECASE)
_SPLITS = {"train": "train", "val": "test", "test": "test"}
_PROTOCOL = re.compile(r"(?:^|[^a-z])(xsub|xview|xset|xsetup)(?:[^a-z]|$)", re.IGNORECASE)


def recognises(files: Files) -> bool:
    """Whether an array of such a name has labels beside it."""
    return any(_labels_of(name, files) in files.names for name in filter(_is_data, files.names))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of the arrays, the training ones first. Raises `DataError`."""
    names = sorted(filter(_is_data, files.names), key=lambda name: ("train" not in name.lower(), name))
    if not names:
        raise DataError(f"{files.shown} has no train_data.npy, nor one of val or test: leave --format out.")
    told = {name: _labels(files, _labels_of(name, files)) for name in names}
    try:
        headers = {name: npy_header(files, name) for name in names}
        shapes = {header.shape[1::2] for header in headers.values()}
        for name, header in headers.items():
            _check(header, name, len(told[name][0]))
    except Unusable as unusable:
        raise DataError(f"{files.shown} {unusable}.") from None
    if len(shapes) > 1:
        raise DataError(f"{files.shown} has arrays of different joints: give one data set.")
    channels, joints = next(iter(headers.values())).shape[1:4:2]
    layout = options.layout or _layout(joints, channels, files.shown)
    count = max(max(labels, default=-1) for _, labels in told.values()) + 1
    if count > MAX_CLASSES:
        raise DataError(f"{files.shown} has labels up to {count - 1}: give labels from 0.")
    notes: list[str] = []
    classes = options.classes or _classes(count, layout, notes)
    clips = (clip for name in names for clip in _clips(files, name, told[name], layout))
    return Source(layout, classes, clips, sum(len(found) for found, _ in told.values()), notes)


def _is_data(name: str) -> bool:
    return _DATA.fullmatch(PurePosixPath(name).name) is not None


def _labels_of(name: str, files: Files) -> str:
    """The labels beside an array, a pickle where both are there."""
    path = PurePosixPath(name)
    part = groups(_DATA, path.name)[0]
    pickled, plain = (str(path.with_name(f"{part}_label{ending}")) for ending in (".pkl", ".npy"))
    return plain if plain in files.names and pickled not in files.names else pickled


def _labels(files: Files, name: str) -> tuple[list[str], list[int]]:
    """Names and classes of the recordings. Raises `DataError`."""
    if name not in files.names:
        raise DataError(f"{files.shown} has no {printable(name, 100)}: put the labels beside the array.")
    if name.endswith(".npy"):
        return _plain_labels(files, name)
    data: Any = load(files, name)[0]
    if not isinstance(data, list | tuple) or len(data) != 2:
        raise DataError(f"{printable(name, 100)} holds no names and labels of recordings: write it anew.")
    names, labels = data
    labels = labels.tolist() if isinstance(labels, np.ndarray) else labels
    good = isinstance(names, list | tuple) and isinstance(labels, list | tuple) and len(names) == len(labels)
    if not good or not all(isinstance(label, int | np.integer) and -1 <= int(label) < 1 << 31 for label in labels):
        raise DataError(f"{printable(name, 100)} does not give every name a class from 0: write it anew.")
    return [printable(str(one), 255) for one in names], [int(label) for label in labels]


def _plain_labels(files: Files, name: str) -> tuple[list[str], list[int]]:
    """The same of an array of classes alone: recordings are called after its part and numbered. Raises `DataError`."""
    try:
        (labels,) = [read_npy(stream) for _, stream in streams(files, name.__eq__)]
    except Unusable as unusable:
        raise DataError(f"{printable(name, 100)} {unusable}.") from None
    whole = labels.ndim == 1 and labels.dtype.kind in "iu"
    if not whole or (len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < 1 << 31):
        raise DataError(f"{printable(name, 100)} does not give every recording a class from 0: write it anew.")
    part = PurePosixPath(name).name.removesuffix("_label.npy")
    return [f"{part}/{number}" for number in range(len(labels))], labels.tolist()


def _check(header: Header, name: str, labels: int) -> None:
    if len(header.shape) != 5 or header.dtype.kind not in "fiu":
        shown = printable(name, 100)
        raise Unusable(f"has {shown} of shape {header.shape} and type {header.dtype}, not numbers [N, C, T, V, M]")
    if header.shape[0] != labels:
        raise Unusable(f"has {header.shape[0]} recordings in {printable(name, 100)} and {labels} labels")


def _layout(joints: int, channels: int, shown: str) -> Layout:
    """18 joints are OpenPose's with a score; others are a known layout. Raises `DataError`."""
    try:
        return load_layout("openpose-18") if joints == 18 else layout_of_shape(joints, channels)
    except Unusable as unusable:
        raise DataError(f"{shown} {unusable}.") from None


def _classes(count: int, layout: Layout, notes: list[str]) -> list[str]:
    if layout.name == "nturgb+d" and count in (60, 120):
        return known_names("ntu120")[:count]
    if layout.name == "openpose-18" and count == 400:
        return known_names("kinetics400")
    notes.append(
        f"The class names are unknown: they are 'class 1' to 'class {count}' unless --classes FILE names them."
    )
    return numbered(count)


def _clips(files: Files, name: str, told: tuple[list[str], list[int]], layout: Layout) -> Iterator[Clip | Skipped]:
    part = _SPLITS[groups(_DATA, PurePosixPath(name).name)[0].lower()]
    protocol = _PROTOCOL.search(str(PurePosixPath(name).parent)) or _PROTOCOL.search(str(files.path))
    split = f"{protocol[1].lower().replace('xsetup', 'xset')}_{part}" if protocol else part
    number = -1
    try:
        for number, row in enumerate(npy_rows(files, name)):
            yield _clip(told[0][number], told[1][number], row, layout, split)
    except Unusable as unusable:
        rest = len(told[0]) - number - 2
        yield Skipped(told[0][number + 1], f"and {rest} after it cannot be read: {printable(name, 60)} {unusable}")


def _clip(name: str, label: int, row: np.ndarray, layout: Layout, split: str) -> Clip | Skipped:
    values = row.transpose(3, 1, 2, 0).astype(np.float32)  # [M, T, V, C]
    there = np.flatnonzero(values.any(axis=(0, 2, 3)))
    if not len(there):
        return Skipped(name, "has no joint other than 0 in any frame")
    values = values[:, : there[-1] + 1]
    count, channels = values.shape[2:]
    if count != layout.num_recorded or channels not in (layout.dims, layout.dims + 1):
        wanted = f"{layout.num_recorded} joints of {layout.dims}"
        return Skipped(name, f"has {count} joints of {channels} numbers, and layout {layout.name} {wanted}")
    stem = re.sub(r"\.(skeleton|json)$", "", name)
    score = values[..., -1] if channels > layout.dims else None
    return Clip(stem, label, values[..., : layout.dims], score, splits=(split,))
