"""The dialogue store: every exchange with a language model, kept for good in one HDF5 file.

An exchange is found by a hash of everything that shaped its answer, so that nothing is asked twice and a run
can be repeated without a language model. What is promised, and how, is in `docs/dialogue-store.md`:

    dialogues.h5           written under a temporary name and renamed, never changed in place
    dialogues.h5.journal   the exchanges since then, on the disk before `add` returns (`journal.py`)
    dialogues.h5.lock      held while writing, never while a model is being asked
    dialogues.h5.asking    who is asking what, so that two processes share the work (`claims.py`)

    /keys                uint8 [n, 32]    SHA-256 of each request
    /exchanges/numbers   float64 [n, 6]   columns `_NUMBERS` (NaN = unknown)
    /exchanges/texts     int64 [n, 12]    columns `_TEXTS`, as numbers of texts
    /messages            int64 [R, 2]     role and text of the messages of all exchanges, one after another
    /text/bytes, ends, digests            all distinct texts: concatenated UTF-8, where each ends, BLAKE2b-128

A text stands once however often later rounds repeat it as history, and nothing is an HDF5 object of its own:
many small objects are tens of times slower (h5py#2540).
"""

from __future__ import annotations

import glob
import hashlib
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

from .claims import Claims
from .errors import DialogueError
from .exchanges import Conversation, Exchange, exchange_key, label_set_id
from .journal import Journal, sync_folder

__all__ = ["Conversation", "DialogueStore", "Exchange", "exchange_key", "label_set_id"]

FORMAT, VERSION = "skag-dialogues", 1
LOCK_TIMEOUT = 120.0  # seconds; it is held for milliseconds, or seconds while a very big store is folded
POLL = 0.05  # seconds between two looks for an answer that another process is asking for
_NUMBERS = ("round", "attempt", "tokens_in", "tokens_out", "seconds", "messages_end")
_TEXTS = (
    "label_set", "class_name", "identity", "schema", "prompt_hash", "similar",
    "answer", "repaired", "thoughts", "details", "created", "notes",
)  # fmt: skip
_JSON_TEXTS = frozenset({"identity", "schema", "similar", "details", "notes"})
_ROLES = ("system", "user", "assistant")
_DATASETS = (
    "keys", "exchanges/numbers", "exchanges/texts", "messages", "text/bytes", "text/ends", "text/digests",
)  # fmt: skip
_READ_GAP = 1 << 14  # bytes between two wanted texts that are read along rather than skipped
_UNREADABLE = (OSError, RuntimeError, ValueError, TypeError, LookupError)  # what damaged HDF5 or JSON raises


class DialogueStore:
    """All exchanges of one store file; safe with threads, and with other processes at work on it.

    Nothing is created before the first `add`. Reading takes no lock. Raises `DialogueError` for a file that is
    damaged or something else, which is never overwritten.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._journal = Journal(self.path.with_name(f"{self.path.name}.journal"))
        self._lock_path = self.path.with_name(f"{self.path.name}.lock")
        self._claims = Claims(self.path.with_name(f"{self.path.name}.asking"))
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
                    column = data["exchanges/texts"][:, _TEXTS.index("identity")]
                    numbers, from_end = np.unique(column[::-1], return_index=True)
                    texts = self._read_texts(numbers)
                    found = {texts[number]: None for number in numbers[np.argsort(-from_end)].tolist()}
            for exchange in self._pending.values():
                text = json.dumps(exchange.identity, sort_keys=True)
                found.pop(text, None)
                found[text] = None
            return [json.loads(text) for text in found]

    def _find_stored(self, class_names: Collection[str] | None, rounds: Collection[int] | None) -> list[Exchange]:
        with self._reading() as data:
            wanted = np.ones(len(self._rows), bool)
            if rounds is not None:
                wanted &= np.isin(data["exchanges/numbers"][:, _NUMBERS.index("round")], list(rounds))
            if class_names is not None:
                names = data["exchanges/texts"][:, _TEXTS.index("class_name")]
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
            ends = numbers[:, _NUMBERS.index("messages_end")].astype(np.int64)
            starts, stops = ends[rows - first], ends[rows - first + 1]
            messages = data["messages"][int(starts[0]) : int(stops[-1])]
            spans = [messages[a:b] for a, b in zip(starts - starts[0], stops - starts[0], strict=True)]
            known = self._read_texts(np.concatenate([texts.ravel(), *(span[:, 1] for span in spans)]))
            return [
                _exchange(key.tobytes().hex(), row, [known[i] for i in refs], [(r, known[i]) for r, i in span.tolist()])
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
            return [new.get(exchange.key) or self.get(exchange.key) for exchange in exchanges]

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
                if self.path.exists():
                    shutil.copyfile(self.path, partial)
                with h5py.File(partial, "a") as file:
                    _append(file, list(self._pending.values()))
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
                f"{self.path} cannot be written ({error}): free the space or choose another --store; "
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
            self._data = {name: file[name] for name in _DATASETS}
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
            reason = " ".join(str(error).split())[:120]
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


def _exchange(key: str, numbers: list[float], texts: list[str], messages: list[tuple[int, str]]) -> Exchange:
    row = dict(zip(_NUMBERS, numbers, strict=True))
    values = {name: json.loads(text) if name in _JSON_TEXTS else text for name, text in zip(_TEXTS, texts, strict=True)}
    tokens = {name: None if np.isnan(row[name]) else int(row[name]) for name in ("tokens_in", "tokens_out")}
    record = {
        **values,
        **tokens,
        "key": key,
        "round": int(row["round"]),
        "attempt": int(row["attempt"]),
        "seconds": row["seconds"],
        "messages": [{"role": _ROLES[role], "content": text} for role, text in messages],
    }
    return Exchange.from_record(record)


def _append(file: h5py.File, exchanges: list[Exchange]) -> None:
    """Add rows to a store file that nobody else sees yet."""
    if "keys" not in file:
        _create(file)
    keys, digests = file["keys"][:].tobytes(), file["text/digests"][:].tobytes()
    held = {keys[i : i + 32] for i in range(0, len(keys), 32)}
    known = {digests[i : i + 16]: i // 16 for i in range(0, len(digests), 16)}
    parts: list[bytes] = []
    new_digests: list[bytes] = []

    def number_of(text: str) -> int:
        data = text.encode("utf-8", "surrogatepass")  # a file name of another encoding can be a class name
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if digest not in known:
            known[digest] = len(known)
            parts.append(data)
            new_digests.append(digest)
        return known[digest]

    new_keys, numbers, texts, messages = [], [], [], []
    messages_end = len(file["messages"])
    for exchange in exchanges:
        key = bytes.fromhex(exchange.key)
        if key in held:
            continue
        held.add(key)
        new_keys.append(key)
        messages += [(_ROLES.index(message["role"]), number_of(message["content"])) for message in exchange.messages]
        values = {**exchange.to_record(), "messages_end": messages_end + len(messages)}
        numbers.append([np.nan if values[name] is None else values[name] for name in _NUMBERS])
        texts.append(
            [
                number_of(json.dumps(values[name], sort_keys=True) if name in _JSON_TEXTS else values[name])
                for name in _TEXTS
            ]
        )
    text_end = int(file["text/ends"][-1]) if len(file["text/ends"]) else 0
    _extend(file["text/bytes"], np.frombuffer(b"".join(parts), "u1"))
    _extend(file["text/ends"], text_end + np.cumsum([len(part) for part in parts], dtype="i8"))
    _extend(file["text/digests"], np.frombuffer(b"".join(new_digests), "u1").reshape(-1, 16))
    _extend(file["messages"], np.array(messages, "i8").reshape(-1, 2))
    _extend(file["exchanges/numbers"], np.array(numbers, "f8").reshape(-1, len(_NUMBERS)))
    _extend(file["exchanges/texts"], np.array(texts, "i8").reshape(-1, len(_TEXTS)))
    _extend(file["keys"], np.frombuffer(b"".join(new_keys), "u1").reshape(-1, 32))


def _create(file: h5py.File) -> None:
    def growing(name: str, dtype: str, *tail: int, rows: int = 4096) -> h5py.Dataset:
        # Fletcher32: a disk's bit rot is an error when read, not another answer.
        return file.create_dataset(
            name, (0, *tail), dtype, maxshape=(None, *tail), chunks=(rows, *tail), fletcher32=True
        )

    growing("keys", "u1", 32)
    growing("exchanges/numbers", "f8", len(_NUMBERS), rows=1024).attrs["columns"] = json.dumps(_NUMBERS)
    growing("exchanges/texts", "i8", len(_TEXTS), rows=1024).attrs["columns"] = json.dumps(_TEXTS)
    growing("messages", "i8", 2).attrs["roles"] = json.dumps(_ROLES)
    growing("text/bytes", "u1", rows=1 << 16)
    growing("text/ends", "i8")
    growing("text/digests", "u1", 16)
    file.attrs.update(format=FORMAT, version=VERSION)


def _extend(data: h5py.Dataset, rows: np.ndarray) -> None:
    if len(rows):
        data.resize(len(data) + len(rows), axis=0)
        data[-len(rows) :] = rows
