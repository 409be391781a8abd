"""Reads what recordings come in (one file, a folder, a zip or a tar archive) without unpacking to disk. A single text
file may be packed (`walk.csv.gz`), alone or in a folder.

Archives come from strangers. Members are read into memory one at a time and their names are never used as
paths, so nothing can be written anywhere. Limits, far above any published set of recordings:

    a member        64 MiB (longer ones are passed on as a problem, not read)
    members         2 million
    all of them     100 times the archive's size, or 256 MiB if that is more
    held back       512 MiB while a tar archive is brought into the order of its names
"""

from __future__ import annotations

import bz2
import gzip
import heapq
import io
import lzma
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from ..errors import DataError
from ..plural import counted
from ..suggestions import did_you_mean

MAX_MEMBER = 64 << 20
MAX_MEMBERS = 2_000_000
MAX_RATIO, MIN_TOTAL = 100, 256 << 20
MAX_HELD = 512 << 20

_COMPRESSED: dict[bytes, Callable[[BinaryIO], io.BufferedIOBase]] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
_SINGLE = re.compile(r"(.+\.(?:txt|csv|tsv|json|skeleton|amc|asf|bvh))\.(?:gz|bz2|xz)", re.IGNORECASE)  # packed text


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a source: its bytes, or why they could not be had."""

    name: str
    data: bytes | None
    problem: str = ""
    path: str | None = None  # of one that is still to be read, see `loaded`
    size: int = 0  # in bytes

    def loaded(self) -> Member:
        """With its bytes, where it is on the disk and still to be read."""
        return self if self.path is None else _read_path(self.path, self.name, self.size)


@dataclass(frozen=True, order=True, slots=True)
class _Entry:
    """Sorts by file name, then by path; `number` counts the regular files of the source as it lists them."""

    base: str
    name: str
    number: int
    size: int


def printable(text: str, longest: int = 120) -> str:
    """Foreign text for one line of a message or a name: no control characters or lone surrogates, not too long."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: longest + 1])
    return text if len(text) <= longest else text[: longest - 1] + "…"


class Files:
    """The files of a source, by name. `kind` is "file", "folder", "zip" or "tar"."""

    def __init__(self, path: Path, without: Iterable[Path] = ()) -> None:
        """List the files, but not those `without` (a table of labels that lies among them is no recording).

        Raises `DataError` where the source is missing, empty, truncated or over the limits.
        """
        self.path, self.shown = path, printable(str(path), 400)
        try:
            self.kind = _kind(path, self.shown)
            entries = self._list()
            if self.kind == "folder":
                apart = {other.resolve() for other in without}
                entries = [entry for entry in entries if not apart or (path / entry.name).resolve() not in apart]
        except OSError as error:
            raise DataError(f"{self.shown} cannot be read ({error.strerror or error}): check the path.") from None
        self._packed = self._unpacked_names(entries)
        self._in_source_order = entries
        self._entries = sorted(entries)
        if not entries:
            raise DataError(f"{self.shown} holds no files: give the folder or archive with the recordings.")

    def _list(self) -> list[_Entry]:
        listing = {"file": _list_file, "folder": _list_folder, "zip": _list_zip, "tar": _list_tar}[self.kind]
        entries = []
        for entry in listing(self.path, self.shown):
            entries.append(entry)
            if len(entries) > MAX_MEMBERS:
                raise DataError(f"{self.shown} holds more than {MAX_MEMBERS} files: give a smaller part of it.")
        return entries

    def _unpacked_names(self, entries: list[_Entry]) -> dict[str, str]:
        """Name of a single packed file without the packer's ending -> as it is on the disk; changes `entries`."""
        packed: dict[str, str] = {}
        if self.kind not in ("file", "folder"):
            return packed
        names = {entry.name for entry in entries}
        for place, entry in enumerate(entries):
            if (match := _SINGLE.fullmatch(entry.name)) and match[1] not in names:
                packed[match[1]] = entry.name
                entries[place] = _Entry(match[1].rpartition("/")[2], match[1], entry.number, entry.size)
        return packed

    def path_of(self, name: str) -> Path:
        """Where a file of a folder, or the only one, is on the disk."""
        return self.path if self.kind == "file" else self.path / self._packed.get(name, name)

    def is_packed(self, name: str) -> bool:
        """Whether a file on the disk is packed by itself."""
        return name in self._packed

    @property
    def names(self) -> list[str]:
        """Names of all files (paths inside the source), sorted by file name."""
        return [entry.name for entry in self._entries]

    def read(
        self,
        wanted: Callable[[str], bool] = lambda name: True,
        key: Callable[[str], Any] | None = None,
        *,
        later: bool = False,
    ) -> Iterator[Member]:
        """Members whose name is wanted, one at a time, sorted by file name, or by the `key` of their names.

        With `later` those that lie on the disk are not read yet, see `Member.loaded`. A tar archive that is so far out
        of order that sorting would hold back more than `MAX_HELD` bytes comes in its own order. Raises `DataError`
        where the archive breaks off.
        """
        entries = [entry for entry in self._entries if wanted(entry.name)]
        if key:
            entries.sort(key=lambda entry: key(entry.name))
        if self.kind == "zip":
            yield from _read_zip(self.path, entries)
        elif self.kind == "tar":
            in_source_order = [entry for entry in self._in_source_order if wanted(entry.name)]
            yield from _read_tar(self.path, self.shown, in_source_order, entries)
        else:
            for entry in entries:
                path = str(self.path_of(entry.name))
                member = Member(entry.name, None, path=path, size=entry.size)
                yield member if later else member.loaded()


def _kind(path: Path, shown: str) -> str:
    if path.is_dir():
        return "folder"
    if not path.is_file():
        step = "give a file, folder or archive of recordings."
        if path.exists():
            raise DataError(f"{shown} is neither file nor folder: {step}")
        raise DataError(f"{shown} does not exist: {did_you_mean(path, step)}")
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK\x03\x04") and path.suffix.lower() != ".npz":
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    if any(head.startswith(magic) for magic in _COMPRESSED):
        return "file" if _SINGLE.fullmatch(path.name) else "tar"
    return "file"


def _entry(name: str, number: int, size: int) -> _Entry | None:
    """None for the hidden files that desktop systems leave in folders and archives."""
    parts = name.split("/")
    if any(part == "__MACOSX" for part in parts) or parts[-1].startswith("."):
        return None
    return _Entry(parts[-1], name, number, size)


def _list_file(path: Path, shown: str) -> Iterator[_Entry]:
    yield _Entry(path.name, path.name, 0, path.stat().st_size)


def _list_folder(path: Path, shown: str) -> Iterator[_Entry]:
    for folder, _, files in os.walk(path):
        for file in files:
            full = Path(folder, file)
            if full.is_file():  # a named pipe would wait for ever
                entry = _entry(full.relative_to(path).as_posix(), 0, full.stat().st_size)
                if entry:
                    yield entry


def _read_path(path: str, name: str, size: int) -> Member:
    if size > MAX_MEMBER:
        return _too_long(name)
    try:
        with open(path, "rb") as file:
            if _SINGLE.fullmatch(os.path.basename(path)):
                return _unpacked(name, file)
            return _whole(name, file.read(MAX_MEMBER))
    except OSError as error:
        return Member(name, None, f"cannot be read ({error.strerror})")


def _unpacked(name: str, file: BinaryIO) -> Member:
    """The content of a file that is packed by itself, or the file as it is where it only has the ending."""
    head = file.read(6)
    file.seek(0)
    opener = next((opener for magic, opener in _COMPRESSED.items() if head.startswith(magic)), None)
    try:
        data = (opener(file) if opener else file).read(MAX_MEMBER + 1)
    except Exception as error:  # parsers of foreign bytes raise nearly anything
        return Member(name, None, f"is damaged ({_brief(error)})")
    return _too_long(name) if len(data) > MAX_MEMBER else _whole(name, data)


def _whole(name: str, data: bytes) -> Member:
    return Member(name, data, size=len(data))


def _too_long(name: str) -> Member:
    return Member(name, None, f"is longer than {MAX_MEMBER >> 20} MiB")


def _allowance(path: Path) -> int:
    return max(MIN_TOTAL, MAX_RATIO * path.stat().st_size)


def _expands(path: Path, shown: str) -> DataError:
    limit = _allowance(path) >> 20
    return DataError(f"{shown} expands to more than {limit} MiB: unpack it if you trust it, and give the folder.")


def _list_zip(path: Path, shown: str) -> Iterator[_Entry]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except Exception as error:  # parsers of foreign bytes raise nearly anything
        raise DataError(f"{shown} is a damaged or truncated zip archive ({_brief(error)}): copy it again.") from None
    if sum(info.file_size for info in infos) > _allowance(path):
        raise _expands(path, shown)
    for number, info in enumerate(infos):
        entry = None if info.is_dir() else _entry(info.filename, number, info.file_size)
        if entry:
            yield entry


def _read_zip(path: Path, entries: list[_Entry]) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        for entry in entries:
            info = infos[entry.number]
            if entry.size > MAX_MEMBER:
                yield _too_long(entry.name)
                continue
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # unpacked without bounds
                yield Member(entry.name, None, "is packed by a method other than deflate")
                continue
            try:
                with archive.open(info) as file:
                    yield _whole(entry.name, file.read(entry.size))
            except Exception as error:
                yield Member(entry.name, None, f"is damaged in the archive ({_brief(error)})")


class _Bounded:
    """The decompressed bytes of a tar archive, refusing to go further than the archive's allowance."""

    def __init__(self, file: io.BufferedIOBase, path: Path, shown: str) -> None:
        self._file, self._path, self._shown = file, path, shown
        self._allowance = _allowance(path)

    def _check(self, end: int, size: int) -> None:
        if end > self._allowance or size > MAX_MEMBER + tarfile.BLOCKSIZE:
            raise _expands(self._path, self._shown)

    def read(self, size: int) -> bytes:
        self._check(self._file.tell() + size, size)
        return self._file.read(size)

    def seek(self, position: int) -> int:
        self._check(position, 0)
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _open_tar(path: Path, shown: str) -> Iterator[tarfile.TarFile]:
    with path.open("rb") as raw:
        head = raw.read(6)
        raw.seek(0)
        opener = next((o for magic, o in _COMPRESSED.items() if head.startswith(magic)), None)
        bounded = cast(IO[bytes], _Bounded(opener(raw) if opener else raw, path, shown))  # all that tarfile reads by
        with tarfile.open(fileobj=bounded, mode="r:") as tar:
            yield tar


def _regular(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (info := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # typeshed leaves it out; tarfile keeps all of them otherwise
        if info.isreg():
            yield info


def _check_end(tar: tarfile.TarFile) -> None:
    """tarfile takes a damaged header in the middle for the end; the true end is a block of zeros."""
    tar.fileobj.seek(tar.offset)
    block = tar.fileobj.read(tarfile.BLOCKSIZE)
    if not block:
        raise EOFError
    if block.strip(b"\0"):
        raise ValueError("bad header")


def _list_tar(path: Path, shown: str) -> Iterator[_Entry]:
    complete, opened = 0, False
    try:
        with _open_tar(path, shown) as tar:
            opened = True
            number = -1
            for number, info in enumerate(_regular(tar)):
                complete = number  # this one's bytes are still to come
                entry = _entry(info.name, number, info.size)
                if entry:
                    yield entry
            complete = number + 1
            _check_end(tar)
    except DataError:
        raise
    except (EOFError, tarfile.ReadError) as error:
        if not opened and not isinstance(error, EOFError):
            raise DataError(f"{shown} holds no tar archive ({_brief(error)}): give what was packed into it.") from None
        raise DataError(f"{shown} is truncated after {counted(complete, 'recording')}; copy it again.") from None
    except Exception as error:  # parsers of foreign bytes raise nearly anything
        raise DataError(
            f"{shown} is damaged after {counted(complete, 'recording')} ({_brief(error)}); copy it again."
        ) from None


def _read_tar(path: Path, shown: str, stored: list[_Entry], ordered: list[_Entry]) -> Iterator[Member]:
    """One pass through the archive; members that are not yet due are held back."""
    if _most_held(stored, ordered) > MAX_HELD:
        ordered = stored
    due = {entry.number: turn for turn, entry in enumerate(ordered)}
    held: list[tuple[int, Member]] = []
    turn = 0
    try:
        with _open_tar(path, shown) as tar:
            for number, info in enumerate(_regular(tar)):
                if number not in due:
                    continue
                entry = ordered[due[number]]
                data = tar.extractfile(info)
                assert data is not None  # of a regular file
                too_long = entry.size > MAX_MEMBER
                member = _too_long(entry.name) if too_long else _whole(entry.name, data.read())
                heapq.heappush(held, (due[number], member))
                del member  # nothing but `held` keeps it
                while held and held[0][0] == turn:
                    yield heapq.heappop(held)[1]
                    turn += 1
    except DataError:
        raise
    except Exception as error:  # the listing has read it whole before: it changed meanwhile
        raise DataError(
            f"{shown} cannot be read after {counted(turn, 'recording')} ({_brief(error)}); copy it again."
        ) from None


def _most_held(stored: list[_Entry], ordered: list[_Entry]) -> int:
    due = {entry.number: turn for turn, entry in enumerate(ordered)}
    sizes = {due[entry.number]: entry.size for entry in stored}
    waiting, turn, bytes_held, most = set(), 0, 0, 0
    for entry in stored:
        waiting.add(due[entry.number])
        bytes_held += entry.size
        most = max(most, bytes_held)
        while turn in waiting:
            waiting.discard(turn)
            bytes_held -= sizes[turn]
            turn += 1
    return most


def _brief(error: BaseException) -> str:
    """What a foreign parser complained about, on one line."""
    return printable(str(error) or type(error).__name__)
