"""Who is asking what: of several processes that want the same answer one asks, and the others wait for it.

A claim is a lock on one byte of the file `dialogues.h5.asking`, at a place that follows from the question's key; the
file itself stays empty. A claim ends with its process, however that ends.
"""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: two processes may ask the same question, and the answer stored first stays
    fcntl = None  # type: ignore[assignment]  # mypy knows no module that may be absent


_shared: weakref.WeakValueDictionary[Path, Claims] = weakref.WeakValueDictionary()
_sharing = threading.Lock()


def claims_of(path: Path) -> Claims:
    """This process's claims in a file: one object, since a process is never kept out by locks of its own, and loses
    all of them when it closes the file once."""
    with _sharing:
        claims = _shared.get(path.resolve()) or Claims(path.resolve())
        _shared[claims.path] = claims
        return claims


class Claims:
    """The questions that this process is asking. Safe with threads; opens its file when it is first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = threading.Lock()
        self._held: set[str] = set()
        self._handle: int | None = None
        self._process = 0
        self._close = lambda: None

    def take(self, key: str) -> bool:
        """Whether the question of `key` is now this caller's to ask; False while somebody else asks it."""
        with self._threads:
            if self._process != os.getpid():  # a fork inherits the handle and none of its locks
                self._held, self._handle, self._process = set(), None, os.getpid()
            if key in self._held or not self._lock(key):
                return False
            self._held.add(key)
            return True

    def drop(self, key: str) -> None:
        """Let others ask."""
        with self._threads:
            self._held.discard(key)
            if fcntl is not None and self._handle is not None:
                fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, _place(key))

    def close(self) -> None:
        """Let go of the file, unless there are questions on their way."""
        with self._threads:
            if not self._held:
                self._close()
                self._handle = None

    def _lock(self, key: str) -> bool:
        if fcntl is None:
            return True
        try:
            if self._handle is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                self._close = weakref.finalize(self, os.close, self._handle)
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
        except (BlockingIOError, PermissionError):
            return self._handle is None  # not even the file can be opened: `DialogueStore.add` says why
        except OSError:  # a disk without such locks: both may ask
            return True
        return True


def _place(key: str) -> int:
    """The byte of a key; two keys that share one only wait for each other."""
    return int(key[:15], 16)
