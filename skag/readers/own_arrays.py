"""People's own recordings as numpy files: one recording per `.npy` or `.npz` file, or all of them in one `.npz`.

One recording per file: the array of the `.npy` file, or `keypoints` in the `.npz` file, is `[T, V, C]`, or `[M, T, V,
C]` for M people. All in one file:

    keypoints      [N, M, T, V, C]   shorter recordings filled up with zeros
    labels         [N]               numbers from 0, or class names
    frames         [N]               how long every recording is, where the zeros at the end shall not tell
    names, subjects, cameras, splits [N]
    class_names    [K]               in the order of the numbers

C may be one more than the layout has coordinates: the last is a confidence then; or `confidence` holds it, in the
shape of `keypoints` without C. Recordings of one large file are read one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np

from ..errors import DataError
from ..skeleton.layouts import Layout
from ..skeleton.store import Clip
from . import joints
from .archives import Files, printable
from .arrays import Arrays, Header, npz_of, open_npz, read_npy
from .labels import Catalogue, Own, clean
from .source import NoneUsable, Options, Skipped, Source, Unusable, begin_at_1, numbered, streams

KEYS = ("keypoints", "keypoint", "data")
MAX_CLASSES = 100_000
_MOST_BODIES = 10  # that an array of ST-GCN has
_FARTHEST = 8  # metres from the origin that a body may be; farther away are pixels
_BY_RECORDING = ("names", "subjects", "cameras", "splits")


def recognises(files: Files) -> bool:
    """Whether there is a .npy or .npz file (what is in it is seen when it is read)."""
    return any(map(_is_array, files.names))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their files, or of the one file. Raises `DataError`."""
    names = paths(files)
    if not names:
        raise DataError(f"{files.shown} holds no .npy or .npz file.")
    try:
        if len(names) == 1 and _is_npz(names[0]):
            with npz_of(files, names[0]) as arrays:
                if "labels" in arrays.names:
                    return _Table(files, names[0], options, arrays).source()
        layout = options.layout or _layout_of_first(files)
    except Unusable as unusable:
        raise DataError(f"{files.shown} {unusable}.") from None
    catalogue = Catalogue(names, files, options)
    clips = _each(files, partial(_clip, layout=layout, catalogue=catalogue), catalogue)
    return catalogue.source(layout, clips, len(names))


def paths(files: Files) -> list[str]:
    """The files."""
    return list(filter(_is_array, files.names))


def _is_npz(name: str) -> bool:
    return name.lower().endswith(".npz")


def _is_array(name: str) -> bool:
    return name.lower().endswith((".npz", ".npy"))


# One recording per file


def _layout_of_first(files: Files) -> Layout:
    """The layout that fits the first usable file. Raises `DataError`."""
    problems: list[tuple[str, Unusable]] = []
    for name, stream in streams(files, _is_array):
        try:
            values, confidence = _loaded(name, stream)
            return _layout_of(values) if confidence is None else _layout(values.shape)
        except Unusable as unusable:
            problems.append((name, unusable))
    raise NoneUsable(files, problems, "array")


def _layout(shape: tuple[int, ...]) -> Layout:
    """The layout of an array `[T, V, C]`, or of several. Raises `Unusable`."""
    if len(shape) < 3:
        raise Unusable(_no_recording(shape))
    if len(shape) == 5 and shape[1] in (2, 3) and shape[4] <= _MOST_BODIES:
        raise Unusable(
            f"has the shape {shape}, as ST-GCN's arrays [N, C, T, V, M]: call it train_data.npy, and put the classes "
            "beside it, train_label.pkl or train_label.npy (docs/formats.md)"
        )
    return joints.layout_of_shape(shape[-2], 3 if shape[-1] == 4 else shape[-1])


def _layout_of(values: np.ndarray) -> Layout:
    """The layout of an array whose third number may be a depth or a confidence. Raises `Unusable`."""
    if values.ndim < 3 or values.shape[-1] != 3 or values.dtype.kind not in "fiu":
        return _layout(values.shape)
    solid, flat = (joints.layouts_of_shape(values.shape[-2], dims) for dims in (3, 2))
    if not flat or not is_confidence(values[..., 2]):
        return _layout(values.shape)
    if not solid or np.nanmax(np.abs(values[..., :2]), initial=0) > _FARTHEST:
        return flat[0]
    names = ", ".join(layout.name for layout in (*solid, *flat))
    raise Unusable(f"has three numbers a joint, the third a depth or a confidence: say which layout, --layout {names}")


def is_confidence(values: np.ndarray) -> bool:
    """Whether numbers can be confidences: they lie in 0 to 1 (NaN where there is no joint)."""
    values = np.asarray(values)
    known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return not known.size or bool(known.min() >= 0 and known.max() <= 1 + 1e-3)


def _each(
    files: Files, clip_of: Callable[[str, BinaryIO | str], Clip], catalogue: Catalogue
) -> Iterator[Clip | Skipped]:
    for name, stream in streams(files, _is_array):
        try:
            yield clip_of(name, stream)
        except Unusable as unusable:
            yield Skipped(catalogue.name(name), str(unusable))
        except MemoryError:
            yield Skipped(catalogue.name(name), "does not fit into memory")


def _loaded(name: str, stream: BinaryIO | str) -> tuple[np.ndarray, np.ndarray | None]:
    """Key points and confidence of one file, as they are in it."""
    if not _is_npz(name):
        return read_npy(stream), None
    with open_npz(stream) as arrays:
        key = _key(arrays)
        return arrays.whole(key), arrays.whole("confidence") if "confidence" in arrays.names else None


def _key(arrays: Arrays) -> str:
    for key in KEYS:
        if key in arrays.names:
            return key
    there = printable(", ".join(arrays.names), 80)
    raise Unusable(f"has no array keypoints{f' (but {there})' if there else ''}")


def _clip(name: str, stream: BinaryIO | str, layout: Layout, catalogue: Catalogue) -> Clip:
    keypoints, confidence = _bodies(*_loaded(name, stream), layout)
    label, facts = catalogue.facts(name)
    return Clip(
        catalogue.name(name),
        label,
        keypoints,
        confidence,
        subject=facts.subject,
        camera=facts.camera,
        splits=facts.splits,
    )


def _no_recording(shape: tuple[int, ...]) -> str:
    flat = ": reshape it" if len(shape) == 2 else ""
    return f"has keypoints of shape {shape}, not [frames, joints, coordinates]{flat}"


def _bodies(values: np.ndarray, confidence: np.ndarray | None, layout: Layout) -> tuple[np.ndarray, np.ndarray | None]:
    """`[M, T, V, C]` and `[M, T, V]` of one recording. Raises `Unusable`."""
    if values.ndim not in (3, 4):
        raise Unusable(_no_recording(values.shape))
    if values.dtype.kind not in "fiu":
        raise Unusable(f"has keypoints of type {values.dtype}, not numbers")
    values = values[None] if values.ndim == 3 else values
    count, dims = values.shape[-2:]
    if count != layout.num_recorded:
        raise Unusable(f"has {count} joints, and layout {layout.name} has {layout.num_recorded}")
    if confidence is None and dims == layout.dims + 1:
        values, confidence = values[..., :-1], values[..., -1]
        if not is_confidence(confidence):
            where = f"from {np.nanmin(confidence):.3g} to {np.nanmax(confidence):.3g}"
            raise Unusable(
                f"has a {'third' if dims == 3 else 'last'} number a joint {where}, and a confidence is within 0 to 1: "
                f"is it a depth? Name a layout of {dims} coordinates with --layout"
                + (", such as human3.6m-17" if (count, dims) == (17, 3) else "")
            )
    elif dims != layout.dims:
        raise Unusable(f"has {dims} values per joint, and layout {layout.name} has {layout.dims} coordinates")
    if confidence is not None:
        confidence = confidence[None] if confidence.ndim == 2 else confidence
        if confidence.shape != values.shape[:-1] or confidence.dtype.kind not in "fiu":
            raise Unusable(f"has a confidence of shape {confidence.shape}, not {values.shape[:-1]}")
        confidence = confidence.astype(np.float32)
    return values.astype(np.float32), confidence


# All recordings in one file


class _Table:
    """One .npz file with all recordings."""

    def __init__(self, files: Files, name: str, options: Options, arrays: Arrays) -> None:
        """Read all but the key points. Raises `Unusable` and `DataError`."""
        self._files, self._file, self._key = files, name, _key(arrays)
        header = arrays.header(self._key)
        self._check(header, arrays)
        shape, count = header.shape[1:], header.shape[0]
        self._layout = options.layout or self._layout_of(arrays, shape)
        columns = {key: _texts(arrays.whole(key), key, count) for key in _BY_RECORDING if key in arrays.names}
        labels, classes = _labels(arrays, count, options.classes)
        self._frames = _frames(arrays, count)
        self._names = columns.pop("names", []) or [f"{n:06}" for n in range(count)]
        columns = {key.removesuffix("s"): texts for key, texts in columns.items()}
        if not options.may_take_column:
            labels = [""] * count
        own = Own(_rows(self._names, labels, columns, files.shown), where="array labels")
        options = replace(options, classes=options.classes or classes)
        self._catalogue = Catalogue(self._names, files, options, own)

    def _check(self, header: Header, arrays: Arrays) -> None:
        """Whether the large arrays belong together."""
        if len(header.shape) not in (4, 5) or header.dtype.kind not in "fiu":
            raise Unusable(f"has {self._key} of shape {header.shape} and type {header.dtype}, not [N, M, T, V, C]")
        self._has_confidence = "confidence" in arrays.names
        if self._has_confidence and (shape := arrays.header("confidence").shape) != header.shape[:-1]:
            raise Unusable(f"has a confidence of shape {shape}, not {header.shape[:-1]}")

    def _layout_of(self, arrays: Arrays, shape: tuple[int, ...]) -> Layout:
        """The layout by the first recording. Raises `Unusable`."""
        first_row = None if self._has_confidence else next(arrays.rows(self._key), None)
        return _layout(shape) if first_row is None else _layout_of(first_row)

    def source(self) -> Source:
        return self._catalogue.source(self._layout, self._clips(), len(self._names))

    def _clips(self) -> Iterator[Clip | Skipped]:
        number = -1
        try:
            with npz_of(self._files, self._file) as arrays:
                scores = arrays.rows("confidence") if self._has_confidence else repeat(None)
                for number, (row, confidence) in enumerate(zip(arrays.rows(self._key), scores, strict=False)):
                    yield self._clip(number, row, confidence)
        except Unusable as unusable:
            rest = len(self._names) - number - 2
            shown = printable(PurePosixPath(self._file).name, 60)
            yield Skipped(self._names[number + 1], f"and {rest} after it cannot be read: {shown} {unusable}")

    def _clip(self, number: int, row: np.ndarray, confidence: np.ndarray | None) -> Clip | Skipped:
        name = self._names[number]
        try:
            keypoints, confidence = _bodies(row, confidence, self._layout)
            label, facts = self._catalogue.facts(name)
        except Unusable as unusable:
            return Skipped(name, str(unusable))
        end = self._frames[number] if self._frames is not None else _end(keypoints)
        confidence = confidence if confidence is None else confidence[:, :end]
        return Clip(
            name,
            label,
            keypoints[:, :end],
            confidence,
            subject=facts.subject,
            camera=facts.camera,
            splits=facts.splits,
        )


def _end(keypoints: np.ndarray) -> int:
    """The number of frames without the zeros at the end."""
    there = np.flatnonzero(keypoints.any(axis=(0, 2, 3)))
    return int(there[-1]) + 1 if len(there) else 0


def _texts(values: np.ndarray, key: str, count: int) -> list[str]:
    """An array `[N]` of numbers or text as text. Raises `Unusable`."""
    if values.shape != (count,):
        raise Unusable(f"has {key} of shape {values.shape}, not {(count,)}")
    if values.dtype.kind == "f":
        if not (np.isfinite(values) & (values == np.floor(values))).all():
            raise Unusable(f"has {key} that are no whole numbers")
        return [str(int(value)) for value in values]
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values.tolist()]


def _labels(arrays: Arrays, count: int, given: list[str] | None) -> tuple[list[str], list[str] | None]:
    """The class name of every recording, and all classes where numbers say so; `given` are names for them. Numbers
    without names may begin at 1."""
    values = arrays.whole("labels")
    texts = _texts(values, "labels", count)
    if values.dtype.kind not in "fiu":
        return list(map(clean, texts)), None
    numbers = list(map(int, texts))
    if not numbers or min(numbers) < 0 or max(numbers) >= MAX_CLASSES:
        raise Unusable("has labels other than numbers from 0")
    may_shift = len(given or ()) in (0, max(numbers)) and "class_names" not in arrays.names
    start = int(may_shift and begin_at_1(set(numbers)))
    names = given or numbered(max(numbers) + 1 - start)
    if "class_names" in arrays.names:
        stored = arrays.whole("class_names")
        names = _texts(stored, "class_names", stored.size)
        names = list(map(clean, names))
        if len(set(names)) < len(names) or len(names) <= max(numbers):
            raise Unusable(f"has {len(set(names))} different class_names, and labels up to {max(numbers)}")
    elif len(names) <= max(numbers) - start:
        raise Unusable(f"has labels up to {max(numbers)} (from 0), and --classes has {len(names)} names")
    return [names[number - start] for number in numbers], names


def _frames(arrays: Arrays, count: int) -> list[int] | None:
    if "frames" not in arrays.names:
        return None
    return [max(0, int(text)) for text in _texts(arrays.whole("frames"), "frames", count)]


def _rows(
    names: list[str], labels: list[str], columns: dict[str, list[str]], shown: str
) -> dict[tuple[str, str], dict[str, str]]:
    """What the arrays say of every recording. Raises `DataError` where they contradict themselves."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for number, (name, label) in enumerate(zip(names, labels, strict=True)):
        row = {"label": label, **{key: texts[number] for key, texts in columns.items()}}
        if found.setdefault((name, ""), row) != row:
            raise DataError(f"{shown} has {printable(name, 60)!r} in names twice, with other values.")
    return found
