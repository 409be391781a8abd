"""The command line: thin commands over the library, one file per group."""

from __future__ import annotations

import errno
import os
import sys

from ..training.allocator import restart_without_small_caches
from .app import app
from .interruption import Interrupted
from .terminal import prepare_streams

# Importing a module registers its commands; help lists them in this order, the order of use.
# isort: off
from . import recordings  # noqa: F401
from . import inspect  # noqa: F401
from . import describe  # noqa: F401
from . import train  # noqa: F401
from . import recipes  # noqa: F401
from . import add  # noqa: F401
from . import evaluate  # noqa: F401
from . import baseline  # noqa: F401
from . import ablate  # noqa: F401
from . import runs  # noqa: F401
from . import export  # noqa: F401
from . import predict  # noqa: F401
from . import dialogues  # noqa: F401
from . import doctor  # noqa: F401
# isort: on

__all__ = ["app", "main"]

_SMALLER_BATCHES = {
    "train": "--set train.batch_size=N",
    "ablate": "--set train.batch_size=N",
    "eval": "--batch-size N",
    "predict": "--batch-size N",
    "add": "--batch-size N",
}


def main() -> None:
    """Run the command line. What a user can mend ends in one line on stderr and exit code 1."""
    from ..errors import INTERRUPTED, INTERRUPTED_CODE, SkagError, cause

    prepare_streams()
    if sys.argv[1:2] in (["train"], ["ablate"]):
        restart_without_small_caches()
    try:
        app()
    except SkagError as error:
        if os.environ.get("SKAG_DEBUG") == "1":
            raise
        print(f"skag: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except (Interrupted, KeyboardInterrupt) as error:
        print(f"{INTERRUPTED} {error}".rstrip(), file=sys.stderr)
        sys.exit(INTERRUPTED_CODE)
    except RuntimeError as error:
        if _was_left(error):
            print(f"skag: process {os.environ.get('RANK')} ends, since another one did.", file=sys.stderr)
            sys.exit(1)
        if not _wants_memory(error):
            raise
        way = _SMALLER_BATCHES.get("".join(sys.argv[1:2]))
        hint = f"use smaller batches, {way}" if way else "use --device cpu"
        print(f"skag: the device has no memory left for this: {hint}.", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output went away, as `skag ... | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if os.environ.get("SKAG_DEBUG") == "1" or error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"skag: {where}{cause(error)}: {_what_to_do(error)}.", file=sys.stderr)
        sys.exit(1)


def _what_to_do(error: OSError) -> str:
    """The next step after an error of the system that no command expected."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        if sys.argv[1:2] == ["train"]:
            return "free some space, then go on with `skag train --resume RUN`; finished epochs are kept"
        return "free some space and run the command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "choose a place that you may read and write"
    return "check the path" if error.filename else "SKAG_DEBUG=1 tells where it happened"


def _was_left(error: RuntimeError) -> bool:
    """Whether one of several processes that train together is gone, which tells itself why."""
    gone = type(error).__name__ in ("DistBackendError", "DistNetworkError") or "by peer" in str(error)
    return gone and "RANK" in os.environ and os.environ.get("SKAG_DEBUG") != "1"


def _wants_memory(error: RuntimeError) -> bool:
    """Whether PyTorch could not have the memory that it asked a GPU or the CPU for."""
    return type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
