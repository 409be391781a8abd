"""Prepared clips in a memory-mapped file, for data larger than memory: written once, shared by all processes of a
machine, whose system keeps one copy of what is read often and forgets the rest.

    bytes 0 to 4095   JSON, padded with spaces: format, shape of the rows, number of clips, CRC-32 of what follows
    rows              float32 [R, M, V, C]  frames of all clips, one after another
    frames            int64 [n]
    widths            float64 [n]           of the images, only where joints lie in pixels

A file is named by a hash of all that its rows come from, is written under another name and renamed when it is complete,
and is read once when it is opened: one that was cut or changed is made anew.
"""

from __future__ import annotations

import io
import json
import logging
import mmap
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, cause

PREPARED = Path("cache/prepared")  # beside the dialogue store
_FORMAT, _HEAD = "skag-prepared-1", 4096  # the rows begin at a page
_AT_A_TIME = 4 << 20  # bytes that are checked
_RESIDENT = 128 << 20  # bytes of the file that a process holds at most, but for what one batch needs
_log = logging.getLogger(__name__)


@dataclass
class ClipFile:
    """An open file. What it holds cannot be written to: that would end the process."""

    rows: Tensor  # float32 [R, M, V, C], the file itself
    frames: np.ndarray  # int64 [n]
    widths: np.ndarray | None  # float64 [n]
    _map: mmap.mmap
    _since: int = 0  # bytes read since the last time that pages were given up

    def read_ahead(self, first_row: Tensor, frames: Tensor) -> None:
        """Have the system read clips, by first row and frames `[n]`, while this process does something else."""
        if not hasattr(mmap, "MADV_WILLNEED"):
            return
        row_bytes = self._row_bytes
        for first, count in zip(first_row.tolist(), frames.tolist(), strict=True):
            start = _HEAD + first * row_bytes
            page = start - start % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, page, start + count * row_bytes - page)

    def was_read(self, frames: Tensor) -> None:
        """Count what was read of clips of so many frames `[n]`; now and then give up the pages, which stay in the
        system's cache as long as there is room. Else all that was ever read would count as this process's memory."""
        self._since += int(frames.sum()) * self._row_bytes
        if self._since > _RESIDENT and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._since = 0

    @property
    def _row_bytes(self) -> int:
        return self.rows[:1].nbytes


def opened(
    path: Path, make: Callable[[], tuple[tuple[int, ...], Iterable[tuple[np.ndarray, float | None]]]]
) -> ClipFile:
    """The file at `path`, which is made where it is missing or damaged.

    `make` says the shape `[R, M, V, C]` of all rows, or of more, since their number is known when all are made; and the
    clips, their rows `[T, M, V, C]` and the width of their image. Of several processes one makes the file, and the
    others wait for it. Raises `DataError` where it cannot be written.
    """
    from filelock import FileLock

    if (found := _read(path)) is not None:
        return found
    lock = FileLock(f"{path}.lock")
    with _told_in_a_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        if (found := _read(path)) is None:  # nobody has made it meanwhile
            _write(path, *make())
            found = _read(path)
    finally:
        lock.release()
    if found is None:
        raise _unwritable(path, "it does not come back as it was written")
    return found


def _write(path: Path, shape: tuple[int, ...], clips: Iterable[tuple[np.ndarray, float | None]]) -> None:
    """Put a complete file in its place. Call with the lock held. Raises `DataError`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    frames: list[int] = []
    widths: list[float] = []
    check = 0
    with _told_in_a_line(path):
        for left in path.parent.glob(f".{path.name}.*.partial"):  # by a process that was killed
            left.unlink()
        most, free = _HEAD + 4 * int(np.prod(shape)), shutil.disk_usage(path.parent).free
        if free < most:
            raise _unwritable(path, f"{most / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")
        file = partial.open("wb")
    try:
        with _told_in_a_line(path):
            file.write(b" " * _HEAD)
        for rows, width in clips:  # what reading them raises has to do with the store
            data = np.ascontiguousarray(rows, np.float32).data.cast("B")
            check = zlib.crc32(data, check)
            with _told_in_a_line(path):
                file.write(data)
            frames.append(len(rows))
            widths += [] if width is None else [width]
        rest = np.array(frames, np.int64).tobytes() + np.array(widths, np.float64).tobytes()
        head = {"format": _FORMAT, "rows": [sum(frames), *shape[1:]], "clips": len(frames)}
        head |= {"widths": bool(widths), "crc32": zlib.crc32(rest, check)}
        with _told_in_a_line(path):
            file.write(rest)
            file.seek(0)
            file.write(json.dumps(head).encode())
            file.flush()
            os.fsync(file.fileno())
            file.close()
            partial.replace(path)
    finally:
        with suppress(OSError):  # of a disk that is full: what waits to be written is of no use
            file.close()
        partial.unlink(missing_ok=True)


@contextmanager
def _told_in_a_line(path: Path) -> Iterator[None]:
    """What the system refuses, as a `DataError`."""
    try:
        yield
    except OSError as error:
        raise _unwritable(path, cause(error)) from None


def _read(path: Path) -> ClipFile | None:
    """The file, or None where there is none, or no whole one."""
    try:
        with path.open("rb") as file:
            head = _checked(file)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise DataError(f"{path} may not be read: change its access rights.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        _log.warning("The prepared clips %s are damaged (%s): made anew.", path, cause(error))
        return None
    shape, count = head["rows"], head["clips"]
    end = _HEAD + 4 * int(np.prod(shape))
    rows = np.frombuffer(mapped, np.float32, offset=_HEAD, count=(end - _HEAD) // 4).reshape(shape)
    with warnings.catch_warnings():  # of an array that cannot be written to: nothing writes
        warnings.simplefilter("ignore", UserWarning)
        tensor = torch.from_numpy(rows)
    frames = np.frombuffer(mapped, np.int64, offset=end, count=count).copy()
    widths = np.frombuffer(mapped, np.float64, offset=end + 8 * count, count=count).copy() if head["widths"] else None
    return ClipFile(tensor, frames, widths, mapped)


def _checked(file: io.BufferedReader) -> dict[str, Any]:
    """What stands at the file's beginning, if the rest is what was written. Raises `ValueError`, `KeyError`,
    `TypeError`."""
    head = json.loads(file.read(_HEAD))
    if head["format"] != _FORMAT:
        raise ValueError(f"format {head['format']}")
    size = _HEAD + 4 * int(np.prod(head["rows"])) + 8 * head["clips"] * (2 if head["widths"] else 1)
    if os.fstat(file.fileno()).st_size != size:
        raise ValueError("it was cut")
    check = 0
    for part in _parts(file):
        check = zlib.crc32(part, check)
    if check != head["crc32"]:
        raise ValueError("its checksum differs")
    return head


def _parts(file: io.BufferedReader) -> Iterator[memoryview]:
    """The rest of a file; its bytes do not become this process's memory."""
    buffer = memoryview(bytearray(_AT_A_TIME))
    while count := file.readinto(buffer):
        yield buffer[:count]


def _unwritable(path: Path, why: str) -> DataError:
    return DataError(
        f"cannot write the prepared clips {path} ({why}): make room there, "
        "or keep them in memory by --set data.prepared=memory."
    )
