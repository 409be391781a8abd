"""numpy's .npy and .npz files of strangers, read row by row.

`numpy.load` reserves what a file claims to hold. Here a claim is compared with what is there first, objects (pickles)
are refused, and the rows of a large array come one at a time.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO

import numpy as np

from .archives import MAX_RATIO, MIN_TOTAL, Files, printable
from .source import Unusable, streams

MAX_ROW = 32 << 20
_KINDS = "fiubUS"


@dataclass(frozen=True)
class Header:
    """What an array is, and where it begins in its file."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _header(file: IO[bytes], size: int, name: str = "") -> Header:
    """Read the header of a .npy file of `size` bytes, or of the array `name` in a .npz file; the file is at its first
    number afterwards."""
    shown = name or "an array"
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file)
        start = file.tell()
    except Exception:  # numpy's parser raises nearly anything
        where = f" in {name}" if name else ""
        raise Unusable(f"has no readable array{where}: it is no file of numpy, or damaged") from None
    header = Header(shape, dtype, bool(fortran) and len(shape) > 1)
    if dtype.hasobject:
        raise Unusable(
            f"has {shown} of type object, as a list of recordings of different length becomes: save a file per "
            "recording, or fill all up with zeros to one length and give their lengths as frames"
        )
    if dtype.kind not in _KINDS or not dtype.itemsize:
        raise Unusable(f"has {shown} of type {printable(str(dtype), 40)}, which is no table of numbers or text")
    if any(n < 0 for n in shape) or start + header.nbytes != size:
        raise Unusable(f"has {shown} of {size - start} bytes where its shape {shape} needs {header.nbytes}")
    return header


class Arrays:
    """The arrays of an opened .npz file, by name."""

    def __init__(self, archive: zipfile.ZipFile, path_size: int) -> None:
        self._archive = archive
        self._infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if sum(info.file_size for info in self._infos.values()) > max(MIN_TOTAL, MAX_RATIO * path_size):
            raise Unusable("expands to far more than its size: unpack it if you trust it")

    @property
    def names(self) -> list[str]:
        return list(self._infos)

    @contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], Header]]:
        info = self._infos[name]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unusable("is packed by a method other than deflate")
        try:
            with self._archive.open(info) as file:
                yield file, _header(file, info.file_size, printable(name, 40))
        except Unusable:
            raise
        except Exception as error:  # as above
            raise Unusable(f"is damaged in {printable(name, 40)} ({type(error).__name__})") from None

    def header(self, name: str) -> Header:
        """Shape and type of an array. Raises `Unusable`."""
        with self._open(name) as (_, header):
            return header

    def whole(self, name: str) -> np.ndarray:
        """A small array. Raises `Unusable`."""
        with self._open(name) as (file, header):
            if header.nbytes > MAX_ROW:
                raise Unusable(f"has {printable(name, 40)} of more than {MAX_ROW >> 20} MiB")
            return _read(file, header)

    def rows(self, name: str) -> Iterator[np.ndarray]:
        """The rows of an array along its first axis, one at a time. Raises `Unusable`."""
        with self._open(name) as (file, header):
            if not header.shape or header.fortran:
                raise Unusable(f"has {printable(name, 40)} without rows in C order: save it with np.ascontiguousarray")
            row = Header(header.shape[1:], header.dtype, False)
            if row.nbytes > MAX_ROW:
                raise Unusable(f"has rows of more than {MAX_ROW >> 20} MiB in {printable(name, 40)}")
            for _ in range(header.shape[0]):
                yield _read(file, row)


def _read(file: IO[bytes], header: Header) -> np.ndarray:
    data = file.read(header.nbytes)
    if len(data) != header.nbytes:
        raise EOFError
    if not data:
        return np.empty(header.shape)
    return np.frombuffer(data, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")


@contextmanager
def open_npz(stream: BinaryIO | str) -> Iterator[Arrays]:
    """Open an .npz file that `streams` has brought. Raises `Unusable`."""
    if isinstance(stream, str):
        raise Unusable(stream)
    size = stream.seek(0, io.SEEK_END)
    try:
        archive = zipfile.ZipFile(stream)
    except Exception:
        raise Unusable("is a damaged or truncated .npz file") from None
    with archive:
        yield Arrays(archive, size)


@contextmanager
def npz_of(files: Files, name: str) -> Iterator[Arrays]:
    """Open one .npz file of a source. Raises `Unusable`."""
    for _, stream in streams(files, name.__eq__):
        with open_npz(stream) as arrays:
            yield arrays


def read_npy(stream: BinaryIO | str) -> np.ndarray:
    """The array of a .npy file that `streams` has brought. Raises `Unusable`."""
    if isinstance(stream, str):
        raise Unusable(stream)
    size = stream.seek(0, io.SEEK_END)
    if size > MAX_ROW:
        raise Unusable(f"is longer than {MAX_ROW >> 20} MiB")
    stream.seek(0)
    return _read(stream, _header(stream, size))


def npy_header(files: Files, name: str) -> Header:
    """Shape and type of a .npy file of a source. Raises `Unusable`."""
    for _, stream in streams(files, name.__eq__):
        if isinstance(stream, str):
            raise Unusable(stream)
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        return _header(stream, size, printable(name, 40))
    raise Unusable(f"has no {printable(name, 40)}")


def npy_rows(files: Files, name: str) -> Iterator[np.ndarray]:
    """The rows of a .npy file along its first axis, one at a time. Raises `Unusable`."""
    for _, stream in streams(files, name.__eq__):
        if isinstance(stream, str):
            raise Unusable(stream)
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        header = _header(stream, size, printable(name, 40))
        if not header.shape or header.fortran:
            raise Unusable("has no rows in C order: save it with np.ascontiguousarray")
        row = Header(header.shape[1:], header.dtype, False)
        if row.nbytes > MAX_ROW:
            raise Unusable(f"has rows of more than {MAX_ROW >> 20} MiB")
        for _ in range(header.shape[0]):
            yield _read(stream, row)
