"""The dialogue store: every exchange with a language model, kept for good in one HDF5 file.

An exchange is found by a hash of everything that shaped its answer, so that nothing is asked twice and a run
can be repeated without a language model. What is promised, and how, is in `docs/dialogue-store.md`:

    dialogues.h5           written under a temporary name and renamed, never changed in place
    dialogues.h5.journal   the exchanges since then, on the disk before `add` returns (`journal.py`)
    dialogues.h5.lock      held while writing, never while a model is being asked
    dialogues.h5.asking    who is asking what, so that two processes share the work (`claims.py`)
"""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import h5py
import numpy as np

from ..errors import DialogueError, cause
from ..suggestions import what_is
from .claims import claims_of
from .exchanges import Conversation, Exchange, exchange_key, label_set_id
from .file import DATASETS, FORMAT, NUMBERS, TEXTS, VERSION, append, row_exchange, text_digest
from .journal import Journal, sync_folder

__all__ = ["Conversation", "DialogueStore", "Exchange", "exchange_key", "label_set_id"]

LOCK_TIMEOUT = 120.0  # seconds; it is held for milliseconds, or seconds while a very big store is folded
POLL = 0.05  # seconds between two looks for an answer that another process is asking for
_EMPTY_STORE = 1 << 19  # bytes of a store of few exchanges, most of them for indices
_READ_GAP = 1 << 14  # bytes between two wanted texts that are read along rather than skipped
_OTHER = {  # that is given as a dialogue store: see `what_is`
    "recordings": "a recording", "video": "a video", "part of a run": "a file of a run", "checkpoint": "a checkpoint",
    "onnx": "an exported network",
}  # fmt: skip
_UNREADABLE = (OSError, RuntimeError, ValueError, TypeError, LookupError)  # what damaged HDF5 or JSON raises


class DialogueStore:
    """All exchanges of one store file; safe with threads, and with other processes at work on it.

    Nothing is created before the first `add`. Reading takes no lock. Raises `DialogueError` for a file that is
    damaged or something else, which is never overwritten.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            example = self.path / "dialogues.h5"
            raise DialogueError(f"{self.path} is a folder: name the store's file, such as {example}.")
        self._journal = Journal(self.path.with_name(f"{self.path.name}.journal"))
        self._lock_path = self.path.with_name(f"{self.path.name}.lock")
        self._claims = claims_of(self.path.with_name(f"{self.path.name}.asking"))
        self._threads = threading.RLock()
        self._pending: dict[str, Exchange] = {}  # in the journal only
        self._file: h5py.File | None = None
        self._data: dict[str, h5py.Dataset] = {}
        self._seen: tuple | None = None  # which file `_file` is
        self._rows: dict[bytes, int] = {}  # key -> row
        self._text_ends = np.zeros(0, np.int64)
        with self._threads:
            self._refresh()

    # ---- reading

    def get(self, key: str) -> Exchange | None:
        """The exchange of a key, also if another process has just added it."""
        with self._threads:
            self._refresh()
            if key in self._pending:
                return self._pending[key]
            row = self._rows.get(bytes.fromhex(key))
            return None if row is None else self._read(np.array([row]))[0]

    @contextmanager
    def asking(self, key: str) -> Iterator[Exchange | None]:
        """The exchange of a key, or None where it is for the caller to ask.

        Waits while somebody else, in this process or another, asks the same question; inside the block nobody does.
        """
        while (stored := self.get(key)) is None and not self._claims.take(key):
            time.sleep(POLL)
        if stored is not None:
            yield stored
            return
        try:
            yield self.get(key)  # it can have been stored just before the claim
        finally:
            self._claims.drop(key)

    def __len__(self) -> int:
        with self._threads:
            self._refresh()
            return len(self._rows) + len(self._pending)

    def __iter__(self) -> Iterator[Exchange]:
        """All exchanges in the order in which they were stored, a thousand at a time in memory."""
        start, ended = 0, False
        while not ended:
            with self._threads:
                self._refresh()
                stop = min(start + 1000, len(self._rows))
                ended = stop == len(self._rows)
                exchanges = self._read(np.arange(start, stop)) + (list(self._pending.values()) if ended else [])
            yield from exchanges
            start = stop

    def find(
        self, *, class_names: Collection[str] | None = None, rounds: Collection[int] | None = None
    ) -> list[Exchange]:
        """Exchanges of some classes and rounds (of all by default), in the order in which they were stored."""
        with self._threads:
            self._refresh()
            found = self._find_stored(class_names, rounds) if self._rows else []
            return found + [
                exchange
                for exchange in self._pending.values()
                if (class_names is None or exchange.class_name in class_names)
                and (rounds is None or exchange.round in rounds)
            ]

    def identities(self) -> list[dict]:
        """Who has answered anything: the distinct identities, the one that answered last at the end."""
        with self._threads:
            self._refresh()
            found: dict[str, None] = {}
            if self._rows:
                with self._reading() as data:
                    column = data["exchanges/texts"][:, TEXTS.index("identity")]
                    numbers, from_end = np.unique(column[::-1], return_index=True)
                    texts = self._read_texts(numbers)
                    found = {texts[number]: None for number in numbers[np.argsort(-from_end)].tolist()}
            for exchange in self._pending.values():
                text = json.dumps(exchange.identity, sort_keys=True)
                found.pop(text, None)
                found[text] = None
            return [json.loads(text) for text in found]

    def damaged(self) -> set[str]:
        """Keys of the exchanges that hold a text whose digest is not the stored one; empty in a sound store."""
        with self._threads:
            self._refresh()
            if not self._rows:
                return set()
            with self._reading() as data:
                digests, ends = data["text/digests"][:], [0, *self._text_ends.tolist()]
                texts = memoryview(data["text/bytes"][:])
                wrong = [
                    number
                    for number, (start, end) in enumerate(zip(ends, ends[1:], strict=False))
                    if text_digest(texts[start:end]) != digests[number].tobytes()
                ]
                if not wrong:
                    return set()
                in_row = np.any(np.isin(data["exchanges/texts"][:], wrong), axis=1)
                messages_end = data["exchanges/numbers"][:, NUMBERS.index("messages_end")]
                messages = np.flatnonzero(np.isin(data["messages"][:, 1], wrong))
                in_row[np.searchsorted(messages_end, messages, side="right")] = True
                return {row.tobytes().hex() for row in data["keys"][:][in_row]}

    def _find_stored(self, class_names: Collection[str] | None, rounds: Collection[int] | None) -> list[Exchange]:
        with self._reading() as data:
            wanted = np.ones(len(self._rows), bool)
            if rounds is not None:
                wanted &= np.isin(data["exchanges/numbers"][:, NUMBERS.index("round")], list(rounds))
            if class_names is not None:
                names = data["exchanges/texts"][:, TEXTS.index("class_name")]
                named = self._read_texts(names)
                wanted &= np.isin(names, [number for number, name in named.items() if name in class_names])
        return self._read(np.flatnonzero(wanted))

    def _read(self, rows: np.ndarray) -> list[Exchange]:
        """Exchanges of stored rows, which ascend."""
        if not len(rows):
            return []
        with self._reading() as data:
            first, stop = int(rows[0]), int(rows[-1]) + 1
            keys = data["keys"][first:stop][rows - first]
            texts = data["exchanges/texts"][first:stop][rows - first]
            numbers = data["exchanges/numbers"][max(first - 1, 0) : stop]  # with the row before: messages start there
            if first == 0:
                numbers = np.pad(numbers, ((1, 0), (0, 0)))
            ends = numbers[:, NUMBERS.index("messages_end")].astype(np.int64)
            starts, stops = ends[rows - first], ends[rows - first + 1]
            messages = data["messages"][int(starts[0]) : int(stops[-1])]
            spans = [messages[a:b] for a, b in zip(starts - starts[0], stops - starts[0], strict=True)]
            known = self._read_texts(np.concatenate([texts.ravel(), *(span[:, 1] for span in spans)]))
            return [
                row_exchange(
                    key.tobytes().hex(), row, [known[i] for i in refs], [(r, known[i]) for r, i in span.tolist()]
                )
                for key, row, refs, span in zip(
                    keys, numbers[rows - first + 1].tolist(), texts.tolist(), spans, strict=True
                )
            ]

    def _read_texts(self, wanted: np.ndarray) -> dict[int, str]:
        """Texts by number, in as few reads as they lie apart."""
        numbers = np.unique(wanted)
        if numbers[0] < 0:
            raise ValueError("negative text number")
        stops = self._text_ends[numbers]
        starts = np.where(numbers > 0, self._text_ends[numbers - 1], 0)
        texts = {}
        for run in np.split(np.arange(len(numbers)), np.flatnonzero(starts[1:] - stops[:-1] > _READ_GAP) + 1):
            offset = int(starts[run[0]])
            data = self._data["text/bytes"][offset : int(stops[run[-1]])].tobytes()
            for i in run.tolist():
                texts[int(numbers[i])] = data[int(starts[i]) - offset : int(stops[i]) - offset].decode(
                    "utf-8", "surrogatepass"
                )
        return texts

    # ---- writing

    def add(self, exchange: Exchange) -> Exchange:
        """Keep an exchange; it is on the disk when this returns.

        Returns the one that is kept: an answer that was stored first, perhaps by another process, stays.
        """
        return self.add_all([exchange])[0]

    def add_all(self, exchanges: Sequence[Exchange]) -> list[Exchange]:
        """`add` for many at once: all of them are on the disk when this returns."""
        with self._threads:
            with self._locked():
                self._refresh()
                new: dict[str, Exchange] = {}
                for exchange in exchanges:
                    if exchange.key not in self._pending and bytes.fromhex(exchange.key) not in self._rows:
                        new.setdefault(exchange.key, exchange)
                if new:
                    self._journal.append(list(new.values()))
                    self._pending.update(new)
                if len(self._pending) > max(50, len(self._rows) // 10):
                    with suppress(OSError):  # they are safe in the journal; a disk that stays full is told of then
                        self._fold()
            kept = (new.get(exchange.key) or self.get(exchange.key) for exchange in exchanges)
            return [exchange for exchange in kept if exchange is not None]  # all of them are there

    def fold(self) -> None:
        """Move what is in the journal into the HDF5 file."""
        with self._threads:
            self._refresh()
            if self._journal.path.exists():
                with self._locked():
                    self._refresh()
                    self._fold()

    def _fold(self) -> None:
        """`fold` with the lock held. Raises `OSError` where the new file cannot be written."""
        if self._pending:
            for left in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.partial"):
                left.unlink(missing_ok=True)  # of a process that was killed
            partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
            try:
                self._expect_space()
                if self.path.exists():
                    shutil.copyfile(self.path, partial)
                with h5py.File(partial, "a") as file:
                    append(file, list(self._pending.values()))
                with partial.open("rb") as written:
                    os.fsync(written.fileno())
                self._close_file()
                os.replace(partial, self.path)
            except (RuntimeError, ValueError, TypeError, LookupError) as error:
                raise OSError(str(error)) from error
            finally:
                partial.unlink(missing_ok=True)
            sync_folder(self.path.parent)
        # Killed here, exchanges stand in both files: `_refresh` knows them by their keys.
        self._journal.remove()
        self._refresh()

    def _expect_space(self) -> None:
        """Raise `OSError` where the new file surely has no room: on a full disk HDF5 prints tracebacks."""
        needed = _EMPTY_STORE + sum(path.stat().st_size for path in (self.path, self._journal.path) if path.exists())
        if shutil.disk_usage(self.path.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> None:
        """Fold, where that is allowed, and let go of the files. A store opens by itself when it is used again."""
        if os.access(self.path.parent, os.W_OK):
            self.fold()
        with self._threads:
            self._close_file()
        self._claims.close()

    def __enter__(self) -> DialogueStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ---- files

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock file, and say what is wrong with folder or disk."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self._lock_path, LOCK_TIMEOUT, poll_interval=0.005)
            with lock:
                yield
        except filelock.Timeout:
            raise DialogueError(
                f"{self._lock_path} has been held by another skag for {LOCK_TIMEOUT:.0f} s: wait for it, or end it."
            ) from None
        except (OSError, NotImplementedError) as error:
            raise DialogueError(
                f"{self.path} cannot be written ({cause(error)}): free the space or choose another --store; "
                "all answers stored before are safe."
            ) from None

    def _refresh(self) -> None:
        """See what others have written. The journal first: what leaves it is in the HDF5 file already."""
        for exchange in self._journal.read_new():
            if bytes.fromhex(exchange.key) not in self._rows:
                self._pending.setdefault(exchange.key, exchange)
        try:
            status = self.path.stat()
            seen = (os.getpid(), status.st_ino, status.st_size, status.st_mtime_ns)  # a fork opens its own handle
        except FileNotFoundError:
            seen = None
        except OSError as error:
            raise DialogueError(f"{self.path} cannot be read: {error.strerror}.") from None
        if seen != self._seen:
            self._close_file()
            self._rows, self._text_ends = {}, np.zeros(0, np.int64)
            if seen is not None:
                self._open()
            self._seen = seen
            self._pending = {k: e for k, e in self._pending.items() if bytes.fromhex(k) not in self._rows}

    def _open(self) -> None:
        with self._reading():
            # HDF5's own lock stays off: the file is never changed in place, and network disks lack locks.
            self._file = file = h5py.File(self.path, "r", locking=False)
            version = file.attrs.get("version", 0)
            if file.attrs.get("format") != FORMAT:
                raise DialogueError(f"{self.path} is no dialogue store: choose another --store; it is not overwritten.")
            if version > VERSION:
                raise DialogueError(f"{self.path} was written by a newer skag (store version {version}): update skag.")
            self._data = {name: file[name] for name in DATASETS}
            keys = self._data["keys"][:].tobytes()
            self._rows = {keys[i : i + 32]: i // 32 for i in range(0, len(keys), 32)}
            self._text_ends = self._data["text/ends"][:]

    @contextmanager
    def _reading(self) -> Iterator[dict[str, h5py.Dataset]]:
        """The data sets of the HDF5 file; what a damaged one raises becomes one line."""
        try:
            yield self._data
        except _UNREADABLE as error:
            self._close_file()
            if self.path.is_file() and not h5py.is_hdf5(self.path) and (kind := _OTHER.get(what_is(self.path))):
                raise DialogueError(
                    f"{self.path} is {kind}, no dialogue store: choose another --store; it is not overwritten."
                ) from None
            reason = cause(error)[:120]
            raise DialogueError(
                f"{self.path} is no readable dialogue store ({reason}): take it from a backup, or choose another "
                "--store; it is not overwritten."
            ) from None

    def _close_file(self) -> None:
        self._seen = None  # an inode number can come again once its file is closed
        self._data = {}
        if self._file is not None:
            with suppress(*_UNREADABLE):
                self._file.close()
            self._file = None


def check_apart(path: Path, skeletons: Path) -> None:
    """Raise `DialogueError` where dialogues are to go into the skeleton store they are about."""
    if path.exists() and skeletons.exists() and path.samefile(skeletons):
        raise DialogueError(f"{path} is the skeleton store, which dialogues cannot go into: leave --store out.")
