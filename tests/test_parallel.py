"""`Workers`: the same results in the same order as `map`, and processes that end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skag import parallel
from skag.errors import DataError
from skag.parallel import Workers, usable_cores

ROOT = Path(__file__).parents[1]


def square(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * number


def who(_: int) -> int:
    return os.getpid()


def end(_: int) -> None:
    os._exit(1)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "ALONE", 3)
    monkeypatch.setattr(parallel, "BATCH", 4)


def one(_: int) -> int:
    return 1


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("count", [0, 2, 3, 50])
def test_results_come_in_order(jobs: int, count: int) -> None:
    with Workers(jobs) as workers:
        assert list(workers.map(square, range(count), one)) == [n * n for n in range(count)]


def test_several_processes_work_and_little_is_read_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with Workers(2) as workers:
        results = workers.map(who, items(), one)
        processes = [next(results)]
        assert processes == [os.getpid()] and len(taken) == 1
        for number, process in enumerate(results, 2):
            processes.append(process)
            batches = parallel.BATCHES_PER_JOB * 2 + 2  # waiting, handed out, being filled
            assert len(taken) - number <= batches * parallel.BATCH
    assert len(processes) == 100 and len(set(processes)) > 1


def test_an_exception_comes_through() -> None:
    with Workers(2) as workers, pytest.raises(ValueError, match="-1 is negative"):
        list(workers.map(square, [1, 2, 3, 4, -1, 5, 6, 7], one))


def test_a_process_that_dies_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "ALONE", 0)
    with Workers(2) as workers, pytest.raises(DataError, match="--jobs 1"):
        list(workers.map(end, [0] * 3, lambda _: 4))


def test_cores() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks Linux which processes there are")
def test_processes_end_with_a_parent_that_is_killed() -> None:
    code = (
        "from skag import parallel; import tests.test_parallel as t; parallel.ALONE, parallel.BATCH = 0, 1\n"
        "if __name__ == '__main__':\n"
        "    with parallel.Workers(2) as workers:\n"
        "        for process in workers.map(t.who, iter(int, 1), t.one):\n"
        "            print(process, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as parent:
        children = {int(parent.stdout.readline()) for _ in range(20)}
        assert children and parent.pid not in children
        parent.send_signal(signal.SIGKILL)
        parent.stdout.close()
    deadline = time.monotonic() + 30
    while (left := {child for child in children if is_there(child)}) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left


def is_there(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False
