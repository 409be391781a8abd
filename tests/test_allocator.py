"""What skag asks of glibc's allocator, and how a command is started again to get it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from skag.training.allocator import restart_without_small_caches, without_small_caches

glibc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is a C library of Linux")


@pytest.mark.long
def test_freed_memory_is_kept() -> None:
    """A large tensor made again and again is faulted in once, and not every time."""
    code = (
        "import resource, sys, torch; from skag.training.allocator import keep_freed_memory;"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt;"
        "keep_freed_memory() if sys.argv[1] == 'kept' else None; torch.ones(1 << 24); before = faults();"
        "all(len(torch.ones(1 << 24)) for _ in range(5)); print(faults() - before)"
    )
    environment = without_small_caches({name: os.environ[name] for name in os.environ if name != "GLIBC_TUNABLES"})
    kept, freed = (
        int(subprocess.run([sys.executable, "-c", code, how], env=environment, capture_output=True, check=True).stdout)
        for how in ("kept", "freed")
    )
    assert kept < freed / 10 and freed > 100


@glibc
def test_the_environment_of_a_restart() -> None:
    found = without_small_caches({"A": "b"})
    assert found == {"A": "b", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"}
    assert without_small_caches(found) == found, "once is enough"
    own = without_small_caches({"GLIBC_TUNABLES": "glibc.malloc.check=1"})["GLIBC_TUNABLES"]
    assert own == "glibc.malloc.check=1:glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"
    theirs = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=3"}
    assert without_small_caches(theirs) == theirs, "what a user has set, stays"


@glibc
def test_a_restarted_command_is_the_same_process_with_the_same_arguments() -> None:
    code = (
        "import os, sys; from skag.training.allocator import restart_without_small_caches;"
        "print(os.getpid(), sys.argv[1:], 'tcache_count=0' in os.environ.get('GLIBC_TUNABLES', ''), flush=True);"
        "restart_without_small_caches()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", code, "train", "a b", "--out="]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.endswith("['train', 'a b', '--out='] False")
    assert second == first.replace("False", "True")


@glibc
def test_only_what_was_started_as_it_stands_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("started again"))
    monkeypatch.setattr(sys, "argv", ["skag", "train", "other.h5"])  # as a test or a notebook sets it
    restart_without_small_caches()


@glibc
@pytest.mark.parametrize(("command", "again"), [("train", True), ("ablate", True), ("check", False)])
def test_commands_that_train_are_started_again(command: str, again: bool) -> None:
    code = (
        "import os; from skag import cli;"
        "os.execve = lambda path, arguments, environment: print('again', arguments[-2:], flush=True) or os._exit(0);"
        "cli.main()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", code, command, "--help"], env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout == f"again ['{command}', '--help']\n") is again
