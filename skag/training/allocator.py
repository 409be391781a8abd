"""How glibc's allocator treats the large tensors of a training step on a CPU. Other C libraries are left alone."""

from __future__ import annotations

import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # mallopt's parameter numbers in glibc's malloc.h
_TUNABLES = "GLIBC_TUNABLES"
_NO_SMALL_CACHES = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"


def keep_freed_memory() -> None:
    """Have glibc keep large freed blocks instead of giving each back to the system at once.

    By default every tensor of 32 MiB or more is mapped and faulted in anew, and smaller ones until glibc has seen one
    freed. What is kept is not given back before the process ends. `docs/training-step.md` has what it gains.
    """
    if _is_glibc():
        import ctypes

        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def without_small_caches(environment: dict[str, str]) -> dict[str, str]:
    """`environment` with the caches of small blocks switched off, which glibc reads when a process starts.

    A small block in such a cache counts as used, so that the large freed ones on both sides of it stay apart; and a
    large freed block alone never holds a tensor of its own size again, since PyTorch asks for aligned memory, which
    glibc (2.36) looks for in a block that is somewhat larger. Without the caches neighbours become one block.
    """
    if not _is_glibc() or "tcache_count" in environment.get(_TUNABLES, ""):
        return environment
    tunables = [environment[_TUNABLES]] if environment.get(_TUNABLES) else []
    return environment | {_TUNABLES: ":".join([*tunables, _NO_SMALL_CACHES])}


def restart_without_small_caches() -> None:
    """Start this very command again, in this process, where glibc's caches of small blocks are on."""
    arguments = sys.argv[1:]
    environment = without_small_caches(dict(os.environ))
    as_started = sys.orig_argv[len(sys.orig_argv) - len(arguments) :] == arguments
    if environment != os.environ and as_started:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):
        return False
