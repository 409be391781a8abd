"""What a terminal or a script gives and takes: arguments that are text, and streams that carry every character."""

from __future__ import annotations

import io
import os
import sys


def prepare_streams() -> None:
    """Let stdout and stderr take any text: what their encoding lacks is replaced, what was closed takes nothing.

    A closed stream would be missed by `print`, and its number would be the next opened file's.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the process lasts
    if isinstance(sys.stdout, io.TextIOWrapper):  # stderr replaces by itself
        sys.stdout.reconfigure(errors="replace")


def as_typed(argument: str) -> str:
    """An argument that is no path as it was typed, also in a locale whose encoding is not the terminal's UTF-8."""
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        return argument
