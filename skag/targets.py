"""Files written under a name that the user gives: nothing is replaced but an earlier file of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .errors import SkagError


def check_target(out: Path, is_same_kind: Callable[[Path], bool], kind: str, error: type[SkagError]) -> None:
    """Raise `error` where something is at `out` that is no file of the `kind` to be written. Links are followed."""
    if out.exists() and not (out.is_file() and is_same_kind(out)):
        raise error(f"{out} is there already and is no {kind}: choose another name, or remove it.")


def start_of(path: Path, length: int) -> bytes:
    """The first bytes of a file, to tell its kind; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(length)
    except OSError:
        return b""
