"""One function applied to many things by several processes: results in order, memory bounded.

Processes are started, not forked, and only where there is enough to do: they take half a second each to be there.
They end with the process that started them, also where that one was killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

ALONE = 8 << 20  # bytes that are read before processes are worth their start
BATCH, MOST_IN_BATCH = 1 << 20, 256  # bytes and items that go to a process at once
IN_FLIGHT = 8 << 20  # bytes per process that are read ahead
BATCHES_PER_JOB = 2


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_memory() -> int | None:
    """Bytes of memory that this process may have: the machine's, less where a control group (of a container, or of a
    job on a cluster) or `ulimit -d` sets a limit. None where it cannot be told."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None
    limits += _limits_of_groups()
    with contextlib.suppress(ImportError):
        import resource

        limits += [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    return min(limit for limit in limits if limit >= 0)  # -1: none


def _limits_of_groups(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Of the control groups that this process is in, and of those around them; of both versions of Linux's."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        for line in groups.read_text().splitlines():
            _, kinds, group = line.split(":", 2)
            if kinds and "memory" not in kinds.split(","):
                continue
            folder, file = (mounted / "memory", "memory.limit_in_bytes") if kinds else (mounted, "memory.max")
            inner = folder / group.strip("/")
            for place in [inner, *inner.parents]:
                if place.is_relative_to(folder):
                    with contextlib.suppress(OSError, ValueError):  # "max", or not to be seen from a container
                        found.append(int((place / file).read_text()))
    return found


class Workers:
    """`jobs` processes that work for this one; with 1 everything is done here."""

    def __init__(self, jobs: int = 1) -> None:
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None
        self._alone = 0  # bytes done here

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], size: Callable[[Item], int]
    ) -> Iterator[Result]:
        """`function` of every item, in their order; `size` says how many bytes an item stands for.

        `function` and its results go from process to process: it has to be a module's function, or a `partial` of
        one. What it raises is raised here. Raises `DataError` where a process died.
        """
        waiting: deque[tuple[int, Future[list[Result]]]] = deque()
        batch: list[Item] = []
        held = weight = 0
        for item in items:
            if self._jobs == 1 or self._alone < ALONE:
                self._alone += size(item)
                yield function(item)
                continue
            batch.append(item)
            weight += size(item)
            if weight >= BATCH or len(batch) == MOST_IN_BATCH:
                while waiting and (len(waiting) >= BATCHES_PER_JOB * self._jobs or held > IN_FLIGHT * self._jobs):
                    done, future = waiting.popleft()
                    held -= done
                    yield from _results(future)
                waiting.append((weight, self._started().submit(_apply, function, batch)))
                held += weight
                batch, weight = [], 0
        for _, future in waiting:
            yield from _results(future)
        yield from map(function, batch)

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._jobs, get_context("spawn"), _begin)
        return self._pool

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _results(future: Future[list[Any]]) -> list[Any]:
    try:
        return future.result()
    except BrokenProcessPool:
        raise DataError(
            "a process that read recordings died, perhaps for want of memory: try again with --jobs 1."
        ) from None


def _apply(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [function(item) for item in items]


def _begin() -> None:
    """What a process does first. An interrupt is the parent's business; without a parent there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    np.seterr(all="ignore")  # as in `skag.convert.convert`
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        connection.wait([parent.sentinel])
        os._exit(1)
