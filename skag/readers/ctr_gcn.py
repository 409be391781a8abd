"""The .npz files that the scripts of CTR-GCN (Chen et al., ICCV 2021) and its successors make of NTU RGB+D.

`x_train [N, T, 150]`, `y_train [N, K]` (one row of 0 and a 1 per recording, or `[N]` numbers), `x_test`, `y_test`.
150 is two bodies of 25 joints with x, y, z; T is 300, filled up with zeros, which are cut off here. A second body
that repeats the first (as some of these scripts write where there is one person) is left out.

The files know no names: recordings are called train_000000 and so on. The protocol is taken from the name of the file
(NTU60_CS, NTU60_CV, NTU120_CSub, NTU120_CSet) where it says one. Recordings are streamed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePosixPath

import numpy as np

from ..errors import DataError
from ..skeleton.layouts import Layout, load_layout
from ..skeleton.store import Clip
from .archives import Files, printable
from .arrays import Header, npz_of
from .label_names import known_names
from .source import Options, Skipped, Source, Unusable, numbered

PARTS = ("train", "test")
PROTOCOLS = {"cs": "xsub", "csub": "xsub", "xsub": "xsub", "cv": "xview", "xview": "xview", "cset": "xset"}
PROTOCOLS |= {"xset": "xset"}
MAX_CLASSES, MAX_LABELS_BYTES = 100_000, 1 << 30


def recognises(files: Files) -> bool:
    """Whether the one .npz file has an x_train."""
    names = [name for name in files.names if _is_npz(name)]
    with suppress(Unusable, OSError):
        if len(names) == 1:
            with npz_of(files, names[0]) as arrays:
                return "x_train" in arrays.names
    return False


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of the file, first the training ones."""
    names = [name for name in files.names if _is_npz(name)]
    if len(names) != 1:
        what = f"{len(names)} .npz files: give the one to read" if names else "no .npz file"
        raise DataError(f"{files.shown} holds {what}.")
    try:
        headers = _headers(files, names[0])
        width = _width(headers)
        labels = _labels(files, names[0], headers)
    except Unusable as unusable:
        raise DataError(f"{files.shown} {unusable}.") from None
    layout = options.layout or _layout(width, files.shown)
    per_body = layout.num_recorded * layout.dims
    if width % per_body or not width:
        raise DataError(f"{files.shown} has {width} numbers per frame, no multiple of {per_body} of {layout.name!r}.")
    protocol = next((PROTOCOLS[word] for word in _words(names[0]) if word in PROTOCOLS), "")
    clips = _clips(files, names[0], labels, layout, f"{protocol}_" if protocol else "")
    classes = options.classes or _classes(headers, labels, layout)
    return Source(layout, classes, clips, sum(map(len, labels.values())))


def _is_npz(name: str) -> bool:
    return name.lower().endswith(".npz")


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", PurePosixPath(name).stem.lower())


def _headers(files: Files, name: str) -> dict[str, Header]:
    """Shapes of x and y of every part that is there. Raises `Unusable`."""
    with npz_of(files, name) as arrays:
        wanted = [f"{letter}_{part}" for part in PARTS for letter in "xy"]
        headers = {key: arrays.header(key) for key in wanted if key in arrays.names}
    for part in PARTS:
        x, y = headers.get(f"x_{part}"), headers.get(f"y_{part}")
        if x is None and y is None:
            continue
        if x is None or y is None:
            raise Unusable(f"has only one of x_{part} and y_{part}")
        if len(x.shape) != 3 or len(y.shape) not in (1, 2) or x.shape[0] != y.shape[0]:
            raise Unusable(f"has x_{part} of shape {x.shape} and y_{part} of shape {y.shape}, not [N, T, D] and [N, K]")
        if x.dtype.kind not in "fiu" or y.dtype.kind not in "fiub" or y.nbytes > MAX_LABELS_BYTES:
            raise Unusable(f"has x_{part} of type {x.dtype} and y_{part} of type {y.dtype}, not numbers")
    if not headers:
        raise Unusable("has no x_train and y_train")
    return headers


def _width(headers: dict[str, Header]) -> int:
    """Numbers per frame. Raises `Unusable`."""
    widths = {header.shape[2] for key, header in headers.items() if key.startswith("x_")}
    classes = {header.shape[1:] for key, header in headers.items() if key.startswith("y_")}
    if len(widths) != 1 or len(classes) != 1:
        raise Unusable("has training and test arrays of different widths")
    return widths.pop()


def _labels(files: Files, name: str, headers: dict[str, Header]) -> dict[str, np.ndarray]:
    """The class of every recording of every part, -1 where it has none. Raises `Unusable`."""
    with npz_of(files, name) as arrays:
        return {
            part: np.fromiter(map(_label, arrays.rows(f"y_{part}")), np.int64)
            for part in PARTS
            if f"y_{part}" in headers
        }


def _layout(width: int, shown: str) -> Layout:
    if width != 150:
        raise DataError(f"{shown} has {width} numbers per frame, not 150 as NTU RGB+D: name the layout with --layout.")
    return load_layout("nturgb+d")


def _classes(headers: dict[str, Header], labels: dict[str, np.ndarray], layout: Layout) -> list[str]:
    """As many as one-hot labels are long, or as the highest number asks for."""
    one_hot = next(header.shape[1:] for key, header in headers.items() if key.startswith("y_"))
    count = one_hot[0] if one_hot else max(int(numbers.max(initial=-1)) for numbers in labels.values()) + 1
    if layout.name == "nturgb+d":
        known = 60 if count <= 60 else 120
        if count == known or not one_hot and count <= known:
            return known_names("ntu120")[:known]
    return numbered(min(count, MAX_CLASSES))


def _clips(
    files: Files, name: str, labels: dict[str, np.ndarray], layout: Layout, prefix: str
) -> Iterator[Clip | Skipped]:
    for part, numbers in labels.items():
        number = -1
        try:
            with npz_of(files, name) as arrays:
                for number, row in enumerate(arrays.rows(f"x_{part}")):
                    yield _clip(f"{part}_{number:06}", row, int(numbers[number]), layout, f"{prefix}{part}")
        except Unusable as unusable:
            rest = len(numbers) - number - 1
            shown = printable(PurePosixPath(name).name, 60)
            yield Skipped(f"{part}_{number + 1:06}", f"and {rest - 1} after it cannot be read: {shown} {unusable}")


def _label(row: np.ndarray) -> int:
    """The class of a one-hot row or a number; -1 where it is neither."""
    if row.ndim == 0:
        return int(row) if np.isfinite(row) and row == int(row) and abs(int(row)) < MAX_CLASSES else -1
    return int(row.argmax()) if (row != 0).sum() == 1 else -1


def _clip(name: str, row: np.ndarray, label: int, layout: Layout, split: str) -> Clip | Skipped:
    frames = np.flatnonzero(row.any(axis=1))
    if not len(frames):
        return Skipped(name, "has no joint other than 0 in any frame")
    bodies = row[: frames[-1] + 1].astype(np.float32)
    keypoints = bodies.reshape(len(bodies), -1, layout.num_recorded, layout.dims).swapaxes(0, 1)
    if len(keypoints) == 2 and (keypoints[0] == keypoints[1]).all():
        keypoints = keypoints[:1]
    return Clip(name, label, keypoints, splits=(split,))
