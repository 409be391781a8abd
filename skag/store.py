"""The skeleton store: one HDF5 file with all recordings of a data set.

    /keypoints   float32 [R, V, C]  rows of all clips, body after body, frame after frame
    /confidence  float32 [R, V]     only where the recordings have it
    /clips/*     offset, bodies, frames, label, subject, camera, setup, width, height   int32/int64 [n] (-1 = unknown)
    /clips/name_bytes, name_ends    UTF-8 names, concatenated
    /splits/*    int64 clip numbers of every split, in order
    attributes   format, version, layout (JSON), classes (JSON), fingerprint

Clip i holds the rows offset[i] : offset[i] + bodies[i] * frames[i]. Everything is concatenated because one
HDF5 object per clip is tens of times slower to open and read (h5py#2540).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from .errors import DataError
from .layouts import Layout

FORMAT, VERSION = "skag-skeletons", 2
UNKNOWN = -1
_BUFFERED_ROWS = 1 << 16
_CLIP_FIELDS = ("offset", "bodies", "frames", "label", "subject", "camera", "setup", "width", "height")
_SINCE_VERSION_2 = ("width", "height")


@dataclass(frozen=True)
class Clip:
    """One labelled recording."""

    name: str
    label: int
    keypoints: np.ndarray  # float32 [M, T, V, C]
    confidence: np.ndarray | None = None  # float32 [M, T, V]
    subject: int = UNKNOWN
    camera: int = UNKNOWN
    setup: int = UNKNOWN
    splits: tuple[str, ...] = ()
    width: int = UNKNOWN  # of the image that 2-D key points lie in, in pixels
    height: int = UNKNOWN


class StoreWriter:
    """Appends clips to a store that is being made; see `write_store`."""

    def __init__(self, file: h5py.File, layout: Layout) -> None:
        self._file, self._layout = file, layout
        self._keypoints = self._growing("keypoints", (layout.num_joints, layout.dims))
        self._confidence: h5py.Dataset | None = None
        self._rows: list[np.ndarray] = []
        self._confidence_rows: list[np.ndarray] = []
        self._buffered = 0
        self._fields: dict[str, list[int]] = {name: [] for name in _CLIP_FIELDS}
        self._names: list[bytes] = []
        self._splits: dict[str, list[int]] = {}
        self._end = 0
        self._hash = hashlib.sha256()

    def _growing(self, name: str, tail: tuple[int, ...]) -> h5py.Dataset:
        row_bytes = 4 * int(np.prod(tail))
        chunk = (max(1, (1 << 18) // row_bytes), *tail)  # 256 KiB
        return self._file.create_dataset(name, (0, *tail), "f4", maxshape=(None, *tail), chunks=chunk)

    def add(self, clip: Clip) -> None:
        """Append one clip; the layout's derived joints are added. Raises `DataError` where its array does not fit."""
        if self._layout.derived and clip.keypoints.shape[2:3] == (self._layout.num_recorded,):
            confidence = clip.confidence
            confidence = None if confidence is None else self._layout.extend(confidence, 2)
            clip = replace(clip, keypoints=self._layout.extend(clip.keypoints, 2), confidence=confidence)
        wanted = (self._layout.num_joints, self._layout.dims)
        shape = clip.keypoints.shape
        if len(shape) != 4 or shape[2:] != wanted or 0 in shape:
            raise DataError(
                f"clip {clip.name!r} has the shape {shape}; layout {self._layout.name!r} needs "
                f"[bodies, frames, {wanted[0]}, {wanted[1]}] with at least one body and frame."
            )
        first = not self._names
        if not first and (clip.confidence is None) != (self._confidence is None):
            raise DataError(f"clip {clip.name!r}: some clips have a confidence per joint and some have none.")
        try:
            encoded = clip.name.encode()
        except UnicodeEncodeError:
            raise DataError(f"clip {clip.name!r} has a name that is no text.") from None
        rows = np.ascontiguousarray(clip.keypoints, "<f4").reshape(-1, *wanted)
        confidence_rows = None
        if clip.confidence is not None:
            if clip.confidence.shape != shape[:3]:
                raise DataError(f"clip {clip.name!r}: confidence is {clip.confidence.shape}, keypoints {shape}.")
            if first:
                self._confidence = self._growing("confidence", (wanted[0],))
            confidence_rows = np.ascontiguousarray(clip.confidence, "<f4").reshape(-1, wanted[0])
            self._confidence_rows.append(confidence_rows)
        number = len(self._names)
        facts = (clip.label, clip.subject, clip.camera, clip.setup, clip.width, clip.height)
        values = (self._end, shape[0], shape[1], *map(int, facts))
        for name, value in zip(_CLIP_FIELDS, values, strict=True):
            self._fields[name].append(value)
        self._names.append(encoded)
        for split in clip.splits:
            self._splits.setdefault(split, []).append(number)
        self._hash.update(repr((clip.name, values, sorted(clip.splits), confidence_rows is not None)).encode())
        self._hash.update(rows)
        if confidence_rows is not None:
            self._hash.update(confidence_rows)
        self._rows.append(rows)
        self._end += len(rows)
        self._buffered += len(rows)
        if self._buffered >= _BUFFERED_ROWS:
            self._flush()

    def _flush(self) -> None:
        for dataset, buffer in ((self._keypoints, self._rows), (self._confidence, self._confidence_rows)):
            if buffer:
                rows = np.concatenate(buffer)
                dataset.resize(len(dataset) + len(rows), axis=0)
                dataset[-len(rows) :] = rows
                buffer.clear()
        self._buffered = 0

    def finish(self, classes: Iterable[str], more_splits: Mapping[str, str] | None = None) -> None:
        """Write everything but the key points: call once, last.

        `more_splits` (clip name -> split) are splits that could only be made when all clips were known.
        """
        self._flush()
        classes = list(classes)
        if more_splits:
            for number, name in enumerate(self._names):
                if split := more_splits.get(name.decode()):
                    self._splits.setdefault(split, []).append(number)
            self._splits = {split: sorted(set(numbers)) for split, numbers in self._splits.items()}
            self._hash.update(json.dumps(sorted(more_splits.items())).encode())
        clips = self._file.create_group("clips")
        for name, values in self._fields.items():
            clips[name] = np.array(values, "i8" if name == "offset" else "i4")
        clips["name_bytes"] = np.frombuffer(b"".join(self._names), "u1")
        clips["name_ends"] = np.cumsum([len(name) for name in self._names], dtype="i8")
        splits = self._file.create_group("splits")
        for name, numbers in sorted(self._splits.items()):
            splits[name] = np.array(numbers, "i8")
        layout = self._layout.to_json()
        self._hash.update(json.dumps([classes, layout]).encode())
        self._file.attrs.update(
            format=FORMAT,
            version=VERSION,
            layout=layout,
            classes=json.dumps(classes),
            fingerprint=self._hash.hexdigest(),
        )


@contextmanager
def write_store(path: Path, layout: Layout) -> Iterator[StoreWriter]:
    """Make a store under a temporary name and give it its own name when it is complete.

    Nothing is left under `path` when the block raises; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with h5py.File(partial, "w") as file:
            yield StoreWriter(file, layout)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class SkeletonStore:
    """A skeleton store opened for reading.

    Open one per process: a handle shared across a fork reads wrong data (pytorch#11887).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"no skeleton store {self.path}: make one with `skag convert SOURCE {self.path}`.")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise DataError(f"{self.path} is no readable HDF5 file ({error}); convert it again.") from None
        attrs = self._file.attrs
        if attrs.get("format") != FORMAT:
            self.close()
            raise DataError(f"{self.path} is no skeleton store: make one with `skag convert SOURCE OUT.h5`.")
        if (version := attrs["version"]) > VERSION:
            self.close()
            raise DataError(f"{self.path} was written by a newer skag (store version {version}): update skag.")
        try:
            self._open_parts()
        except (KeyError, ValueError, OSError) as error:
            self.close()
            raise DataError(f"{self.path} is damaged ({error}): convert it again.") from None

    def _open_parts(self) -> None:
        attrs = self._file.attrs
        self.layout = Layout.from_dict(json.loads(attrs["layout"]), where=str(self.path))
        self.classes: list[str] = json.loads(attrs["classes"])
        self.fingerprint: str = attrs["fingerprint"]
        clips = self._file["clips"]
        there = [name for name in _CLIP_FIELDS if not (attrs["version"] < 2 and name in _SINCE_VERSION_2)]
        fields = {name: clips[name][:] for name in there}
        unknown = np.full(len(fields["label"]), UNKNOWN, "i4")
        self._offset, self.bodies, self.frames = fields["offset"], fields["bodies"], fields["frames"]
        self.labels, self.subjects = fields["label"], fields["subject"]
        self.cameras, self.setups = fields["camera"], fields["setup"]
        self.widths, self.heights = (fields.get(name, unknown) for name in _SINCE_VERSION_2)
        self.splits: dict[str, np.ndarray] = {name: data[:] for name, data in self._file["splits"].items()}
        self._keypoints = self._file["keypoints"]
        self._confidence = self._file.get("confidence")

    @cached_property
    def names(self) -> list[str]:
        """Names of all clips, decoded on first use."""
        data = self._file["clips/name_bytes"][:].tobytes()
        ends = self._file["clips/name_ends"][:].tolist()
        return [data[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]

    def __len__(self) -> int:
        return len(self.labels)

    def keypoints(self, number: int) -> np.ndarray:
        """Key points `[M, T, V, C]` of one clip."""
        return self._read(self._keypoints, number)

    def confidence(self, number: int) -> np.ndarray | None:
        """Confidence `[M, T, V]` of one clip, where the recordings have it."""
        return None if self._confidence is None else self._read(self._confidence, number)

    def _read(self, data: h5py.Dataset, number: int) -> np.ndarray:
        start, bodies, frames = int(self._offset[number]), int(self.bodies[number]), int(self.frames[number])
        return data[start : start + bodies * frames].reshape(bodies, frames, *data.shape[1:])

    def protocols(self) -> dict[str, tuple[str, str]]:
        """Evaluation protocols: name -> (training split, test split).

        Published files name their splits `xsub_train` and `xsub_val`, or `train` and `val` or `test`. A
        published "val" is the field's test split; skag's own validation part is held out from training.
        """
        found = {}
        for train in self.splits:
            if train != "train" and not train.endswith("_train"):
                continue
            prefix = train.removesuffix("train")
            for test in (f"{prefix}test", f"{prefix}val"):
                if test in self.splits:
                    found[prefix.rstrip("_") or "default"] = (train, test)
                    break
        return found

    def protocol(self, name: str | None = None) -> tuple[str, str]:
        """The (training, test) split names of a protocol; the only one when not named. Raises `DataError`."""
        found = self.protocols()
        known = ", ".join(found) or "none"
        if name is None:
            if len(found) != 1:
                raise DataError(f"{self.path} has {len(found)} protocols ({known}): choose one with --protocol.")
            return next(iter(found.values()))
        if name not in found:
            raise DataError(f"{self.path} has no protocol {name!r}: it has {known}.")
        return found[name]

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> SkeletonStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
