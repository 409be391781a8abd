"""The skeleton store: one HDF5 file with all recordings of a data set.

    /keypoints   float32 [R, V, C]  rows of all clips, body after body, frame after frame; contiguous
    /confidence  float32 [R, V]     only where the recordings have it; contiguous
    /clips/*     offset, bodies, frames, label, subject, camera, setup, width, height   int32/int64 [n] (-1 = unknown)
    /clips/name_bytes, name_ends    UTF-8 names, concatenated
    /clips/frame_rate float64 [n]    frames per second, NaN = unknown; only where a clip's is known
    /splits/*    int64 clip numbers of every split, in order
    attributes   format, version, layout (JSON), classes (JSON), fingerprint

Clip i holds the rows offset[i] : offset[i] + bodies[i] * frames[i]. Everything is concatenated because one
HDF5 object per clip is tens of times slower to open and read (h5py#2540), and contiguous because a clip out of chunks
takes three times as long (stores of skag before it wrote contiguous ones are in chunks and can be read as well).
HDF5 has to know the length of a contiguous array beforehand, so rows wait in a file without a name until it is known.

The first 512 bytes of the file are HDF5's user block: a line of text with the SHA-256 of all bytes after it, as
`tail -c +513 DATA.h5 | sha256sum` gives it. Opening does not look at it, `skag check` does. Stores of skag before it
wrote checksums begin with HDF5's own signature.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import h5py
import numpy as np

from ..errors import DataError, cause
from ..suggestions import did_you_mean, nearest_name, no_store
from .layouts import Layout

FORMAT, VERSION = "skag-skeletons", 2
UNKNOWN = -1
_DAMAGE = (KeyError, ValueError, OSError, RuntimeError, TypeError, AttributeError)  # what damaged HDF5 raises
_COPIED = 4 << 20  # bytes at a time, from where rows wait to the store
_CLIP_FIELDS = ("offset", "bodies", "frames", "label", "subject", "camera", "setup", "width", "height")
_SINCE_VERSION_2 = ("width", "height")
_USER_BLOCK = 512  # the least that HDF5 has
_CHECKSUM = "skag skeleton store, sha256 of the bytes from 512 on: {}\n"


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
    frame_rate: float | None = None  # frames per second, where it is known
    times: np.ndarray | None = None  # [T] seconds, where a reader has them; `timing.even` makes a rate of them


class StoreWriter:
    """Appends clips to a store that is being made; see `write_store`."""

    def __init__(self, file: h5py.File, layout: Layout, keypoints: BinaryIO, confidence: BinaryIO) -> None:
        """The two other files are empty: key points and confidences wait in them."""
        self._file, self._layout = file, layout
        self._keypoints, self._confidence = keypoints, confidence
        self._has_confidence = False
        self._fields = {name: array("q") for name in _CLIP_FIELDS}
        self._rates = array("d")
        self._names: list[bytes] = []
        self._splits: dict[str, array[int]] = {}
        self._end = 0
        self._hash = hashlib.sha256()

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
        has_confidence = clip.confidence is not None
        if self._names and has_confidence != self._has_confidence:
            raise DataError(f"clip {clip.name!r}: some clips have a confidence per joint and some have none.")
        try:
            encoded = clip.name.encode()
        except UnicodeEncodeError:
            raise DataError(f"clip {clip.name!r} has a name that is no text.") from None
        if clip.frame_rate is not None and not 0 < clip.frame_rate < math.inf:
            raise DataError(f"clip {clip.name!r}: {clip.frame_rate} frames per second is no rate.")
        if clip.confidence is not None and clip.confidence.shape != shape[:3]:
            raise DataError(f"clip {clip.name!r}: confidence is {clip.confidence.shape}, keypoints {shape}.")
        self._has_confidence = has_confidence
        number = len(self._names)
        facts = (clip.label, clip.subject, clip.camera, clip.setup, clip.width, clip.height)
        values = (self._end, shape[0], shape[1], *map(int, facts))
        for name, value in zip(_CLIP_FIELDS, values, strict=True):
            self._fields[name].append(value)
        self._names.append(encoded)
        for split in clip.splits:
            self._splits.setdefault(split, array("q")).append(number)
        self._hash.update(repr((clip.name, values, sorted(clip.splits), has_confidence)).encode())
        self._rates.append(math.nan if clip.frame_rate is None else clip.frame_rate)
        if clip.frame_rate is not None:  # stores without rates keep the fingerprint they had before there were any
            self._hash.update(repr(("frame_rate", float(clip.frame_rate))).encode())
        for rows, waiting in ((clip.keypoints, self._keypoints), (clip.confidence, self._confidence)):
            for body in () if rows is None else rows:
                data = np.ascontiguousarray(body, "<f4").data
                self._hash.update(data)
                waiting.write(data)
        self._end += shape[0] * shape[1]

    def _copy(self, waiting: BinaryIO, name: str, tail: tuple[int, ...]) -> None:
        """Make a contiguous dataset of the rows that wait in a file."""
        dataset = self._file.create_dataset(name, (self._end, *tail), "<f4")
        waiting.seek(0)
        row_bytes = 4 * int(np.prod(tail))
        step = max(1, _COPIED // row_bytes)
        for start in range(0, self._end, step):
            rows = np.frombuffer(waiting.read(step * row_bytes), "<f4").reshape(-1, *tail)
            dataset[start : start + len(rows)] = rows

    def finish(self, classes: Iterable[str], more_splits: Mapping[str, str] | None = None) -> None:
        """Write the store out of what was added: call once, last.

        `more_splits` (clip name -> split) are splits that could only be made when all clips were known.
        """
        joints = self._layout.num_joints
        self._copy(self._keypoints, "keypoints", (joints, self._layout.dims))
        if self._has_confidence:
            self._copy(self._confidence, "confidence", (joints,))
        classes = list(classes)
        if more_splits:
            for number, encoded in enumerate(self._names):
                if split := more_splits.get(encoded.decode()):
                    self._splits.setdefault(split, array("q")).append(number)
            self._splits = {split: array("q", sorted(set(numbers))) for split, numbers in self._splits.items()}
            self._hash.update(json.dumps(sorted(more_splits.items())).encode())
        clips = self._file.create_group("clips")
        for name, values in self._fields.items():
            clips[name] = np.array(values, "i8" if name == "offset" else "i4")
        if not np.isnan(self._rates).all():
            clips["frame_rate"] = np.array(self._rates, "f8")
        clips["name_bytes"] = np.frombuffer(b"".join(self._names), "u1")
        clips["name_ends"] = np.cumsum([len(encoded) for encoded in self._names], dtype="i8")
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

    Nothing is left under `path` when the block raises; what was there before stays. What killed processes left of
    the same store is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with (
            TemporaryFile(dir=path.parent) as keypoints,
            TemporaryFile(dir=path.parent) as confidence,
            h5py.File(partial, "w", userblock_size=_USER_BLOCK) as file,
        ):
            yield StoreWriter(file, layout, keypoints, confidence)
        with partial.open("r+b") as file:
            head = _head(file)
            file.seek(0)
            file.write(head)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _head(file: io.BufferedReader | io.BufferedRandom) -> bytes:
    """The user block that belongs to the bytes after it."""
    file.seek(_USER_BLOCK)
    return _CHECKSUM.format(hashlib.file_digest(file, "sha256").hexdigest()).encode().ljust(_USER_BLOCK, b"\0")


def is_as_written(path: Path) -> bool | None:
    """Whether all bytes of a store are those that `skag convert` wrote; None for a store without a checksum.

    Reads the whole file, and not through HDF5, which damaged bytes can lead anywhere. Raises `DataError` where the
    file cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_USER_BLOCK)
            return None if head.startswith(b"\x89HDF\r\n\x1a\n") else head == _head(file)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from None


def _remove_leftovers(path: Path) -> None:
    """Remove unfinished stores of `path` whose processes are no longer there."""
    if os.name != "posix":  # elsewhere asking for a process can end it
        return
    for leftover in path.parent.iterdir():
        match = re.fullmatch(rf"\.{re.escape(path.name)}\.(\d{{1,18}})\.partial", leftover.name)
        if match and not _is_running(int(match[1])) and not _is_locked(leftover):
            leftover.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _is_locked(path: Path) -> bool:
    """Whether somebody writes a file, maybe from another machine: HDF5 locks what it writes."""
    import fcntl

    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def is_store(path: Path) -> bool:
    """Whether a file is a skeleton store, of any version."""
    try:
        with h5py.File(path, "r") as file:
            return file.attrs.get("format") == FORMAT
    except OSError:
        return False


def _reopened(path: Path, classes: tuple[str, ...] | None) -> SkeletonStore:
    """A store in a process that it was sent to."""
    store = SkeletonStore(path)
    return store if classes is None else store.of_classes(classes, absent=True)


class SkeletonStore:
    """A skeleton store opened for reading.

    A process that was forked, or that it was sent to, opens the file anew: handles shared across a fork read wrong
    data (pytorch#11887).
    """

    _rows: np.ndarray | None = None  # of `of_classes`: which clips of the file these are
    _classes_shown: tuple[str, ...] | None = None
    cut_splits: frozenset[str] = frozenset()  # of `of_classes`: those that lost a clip of another class

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            if other := no_store(self.path):
                raise DataError(other)
            otherwise = f"make one with `skag convert SOURCE {self.path}`."
            step = did_you_mean(self.path, otherwise, lambda path: path.suffix == ".h5" and path.is_file())
            raise DataError(f"no skeleton store {self.path}: {step}")
        self._open()
        try:
            self._check_format()
            self._open_parts()
        except DataError:
            self.close()
            raise
        except _DAMAGE as error:
            self.close()
            raise DataError(f"{self.path} is damaged ({cause(error)}): convert it again.") from None

    def _check_format(self) -> None:
        attrs = self._file.attrs
        if attrs.get("format") != FORMAT:
            other = no_store(self.path)
            raise DataError(other or f"{self.path} is no skeleton store: make one with `skag convert SOURCE OUT.h5`.")
        if (version := attrs["version"]) > VERSION:
            raise DataError(f"{self.path} was written by a newer skag (store version {version}): update skag.")

    def _open(self) -> None:
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            damaged = f"{self.path} is no readable HDF5 file ({cause(error)}); convert it again."
            raise DataError(no_store(self.path) or damaged) from None
        self._process = os.getpid()

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
        self.frame_rates = clips["frame_rate"][:] if "frame_rate" in clips else np.full(len(unknown), np.nan)
        self.widths, self.heights = (fields.get(name, unknown) for name in _SINCE_VERSION_2)
        self.splits: dict[str, np.ndarray] = {name: data[:] for name, data in self._file["splits"].items()}
        self._open_arrays()

    def _open_arrays(self) -> None:
        self._arrays = {name: self._file[name] for name in ("keypoints", "confidence") if name in self._file}
        self._tails = {name: data.shape[1:] for name, data in self._arrays.items()}

    def _of_this_process(self) -> None:
        if self._process != os.getpid():
            self._open()
            self._open_arrays()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self._classes_shown)

    @cached_property
    def names(self) -> list[str]:
        """Names of all clips, decoded on first use."""
        self._of_this_process()
        data = self._file["clips/name_bytes"][:].tobytes()
        ends = self._file["clips/name_ends"][:].tolist()
        names = [data[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
        return names if self._rows is None else [names[row] for row in self._rows]

    def of_classes(self, classes: Sequence[str], *, absent: bool = False) -> SkeletonStore:
        """This store as if it held the clips of some classes alone, in the order they are named; shares its file.

        Clips are numbered and labelled anew, in the order of the store, so that who is given such a store knows nothing
        of the others; `fingerprint` stays the whole file's. With `absent` there may be classes among them that the
        store has not, which are then without clips. Raises `DataError` for such a class otherwise, and for one that is
        named twice.
        """
        if not absent and (unknown := [name for name in classes if name not in self.classes]):
            raise DataError(f"{self.path} has no class {unknown[0]!r}: {nearest_name(unknown[0], self.classes)}")
        if len(set(classes)) < len(classes):
            raise DataError(f"a class is named twice in {', '.join(classes)}: name each once.")
        part = copy(self)
        for cached in ("names", "content"):
            part.__dict__.pop(cached, None)
        number = np.full(len(self.classes) + 1, UNKNOWN, self.labels.dtype)
        for new, name in enumerate(classes):
            if name in self.classes:
                number[self.classes.index(name)] = new
        known = (self.labels >= 0) & (self.labels < len(self.classes))
        labels = np.where(known, number[np.where(known, self.labels, -1)], UNKNOWN)
        chosen = np.flatnonzero(labels != UNKNOWN)
        for name in (
            "_offset",
            "bodies",
            "frames",
            "subjects",
            "cameras",
            "setups",
            "frame_rates",
            "widths",
            "heights",
        ):
            setattr(part, name, getattr(self, name)[chosen])
        place = np.full(len(self), UNKNOWN)
        place[chosen] = np.arange(len(chosen))
        part.splits = {name: there[there != UNKNOWN] for name, rows in self.splits.items() for there in [place[rows]]}
        lost = {name for name, rows in self.splits.items() if (known[rows] & (labels[rows] == UNKNOWN)).any()}
        part.cut_splits = self.cut_splits | lost
        part.labels, part.classes, part._classes_shown = labels[chosen], list(classes), tuple(classes)
        part._rows = chosen if self._rows is None else self._rows[chosen]
        return part

    def in_file(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers of clips of this store as those of the whole file, which are the same whatever classes are chosen."""
        return np.asarray(numbers, np.int64) if self._rows is None else self._rows[numbers]

    def of_file(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers of clips of the whole file as those of this store, without clips that it has not."""
        if self._rows is None:
            return np.asarray(numbers, np.int64)
        place = {int(row): number for number, row in enumerate(self._rows)}
        return np.array([place[int(row)] for row in numbers if int(row) in place], np.int64)

    @property
    def is_part(self) -> bool:
        """Whether this is what `of_classes` made."""
        return self._rows is not None

    @cached_property
    def content(self) -> str:
        """What the clips are: of a part a hash of its own clips and classes, which nothing else in the file changes;
        of a whole store its `fingerprint`."""
        if not self.is_part:
            return self.fingerprint
        found = hashlib.sha256(json.dumps([self.classes, self.layout.to_json()]).encode())
        for fact in (self.labels, self.bodies, self.frames, self.subjects, self.cameras, self.frame_rates):
            found.update(np.ascontiguousarray(fact).tobytes())
        for name, rows in sorted(self.splits.items()):
            found.update(name.encode() + np.ascontiguousarray(rows, np.int64).tobytes())
        for number in range(len(self)):
            for part in (self.keypoints(number), self.confidence(number)):
                found.update(b"" if part is None else np.ascontiguousarray(part).tobytes())
        return found.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def keypoints(self, number: int) -> np.ndarray:
        """Key points `[M, T, V, C]` of one clip."""
        return self._read("keypoints", number)

    def confidence(self, number: int) -> np.ndarray | None:
        """Confidence `[M, T, V]` of one clip, where the recordings have it."""
        return self._read("confidence", number) if "confidence" in self._arrays else None

    def frame_rate(self, number: int) -> float | None:
        """Frames per second of one clip; None where it is not known."""
        rate = float(self.frame_rates[number])
        return None if math.isnan(rate) else rate

    def _read(self, name: str, number: int) -> np.ndarray:
        self._of_this_process()
        start, bodies, frames = int(self._offset[number]), int(self.bodies[number]), int(self.frames[number])
        return self._arrays[name][start : start + bodies * frames].reshape(bodies, frames, *self._tails[name])

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
        if not found and name is None:
            there = ", ".join(self.splits) or "none"
            raise DataError(
                f"{self.path} has no training split with its test split (splits: {there}), no --protocol: convert the "
                "recordings again with --split-by subject, random or a column."
            )
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
