"""The journal beside a dialogue store: exchanges that are on the disk and not yet in the HDF5 file.

HDF5 cannot be appended to safely under `kill -9`; a file of lines can. The first line is a header with a number
of its own, each further line is `["crc32", {exchange}]`. Writers hold the store's lock, readers need none.
"""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import DialogueError
from .exchanges import Exchange

_HEADER = '["skag-dialogue-journal", 1, "{}"]\n'


class Journal:
    """Reads on where it stopped, and anew when the header has another number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self._header = b""
        self._end = 0  # bytes read
        self._torn = False  # something half-written follows them

    def read_new(self) -> list[Exchange]:
        """Exchanges appended since the last call, by whomever. Raises `DialogueError` for a damaged file.

        A torn last line is left out: its writer was killed, or is at it still. After a loss of power the end of
        a file can be zeros up to a line's end, which is torn too; JSON has no NUL bytes.
        """
        try:
            with self.path.open("rb") as file:
                header = file.readline(200)
                if not header.startswith(b'["skag-dialogue-journal", 1, ') or not header.endswith(b"\n"):
                    raise DialogueError(f"{self.path} is no journal of skag: move it away; it is not overwritten.")
                if header != self._header:
                    self._header, self._end = header, len(header)
                file.seek(self._end)
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            self._forget()
            return []
        except OSError as error:
            raise DialogueError(f"{self.path} cannot be read: {error.strerror}.") from None
        last = lines.pop()  # what follows the last line's end
        self._torn = bool(last)
        if not last and lines and b"\0" in lines[-1]:
            lines.pop()
            self._torn = True
        exchanges = [self._parse(line) for line in lines]
        self._end += sum(len(line) + 1 for line in lines)
        return exchanges

    def _parse(self, line: bytes) -> Exchange:
        try:
            check, record = json.loads(line)
            if check != f"{zlib.crc32(line[12:-1]):08x}":
                raise ValueError("wrong checksum")
            return Exchange.from_record(record)
        except (ValueError, TypeError, LookupError, RecursionError):
            raise DialogueError(
                f"{self.path} is damaged after byte {self._end}: take it from a backup, or move it away to go on "
                "without the answers in it; it is not overwritten."
            ) from None

    def append(self, exchanges: Sequence[Exchange]) -> None:
        """Add exchanges; on return they are on the disk. Call with the lock held, right after `read_new`."""
        lines = []
        for exchange in exchanges:
            body = json.dumps(exchange.to_record()).encode()
            lines.append(b'["%08x",%s]\n' % (zlib.crc32(body), body))
        if not self._header:
            self._create()
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            if self._torn:  # its writer was killed before its `append` returned
                os.ftruncate(handle, self._end)
            try:
                _write(handle, b"".join(lines))
                getattr(os, "fdatasync", os.fsync)(handle)
            except OSError:  # a full disk: leave no half line
                with suppress(OSError):
                    os.ftruncate(handle, self._end)
                raise
        finally:
            os.close(handle)
        self._end += sum(map(len, lines))
        self._torn = False

    def _create(self) -> None:
        """A journal with its header, which is never torn."""
        header = _HEADER.format(uuid.uuid4().hex).encode()
        partial = self.path.with_name(f".{self.path.name}.partial")
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            _write(handle, header)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(partial, self.path)
        sync_folder(self.path.parent)
        self._header, self._end, self._torn = header, len(header), False

    def remove(self) -> None:
        """Call when everything in it is on the disk elsewhere."""
        self.path.unlink(missing_ok=True)
        sync_folder(self.path.parent)
        self._forget()


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder durable (POSIX; elsewhere there is no such call)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
