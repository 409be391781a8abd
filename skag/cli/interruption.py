"""What Ctrl-C ends in: one line, with the command that goes on where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

from .output import command


class Interrupted(BaseException):
    """Ctrl-C in a command, `str(error)` is how to go on. No `KeyboardInterrupt`: Typer makes an exit code of those
    before anybody can say a word."""


class Group(TyperGroup):
    """The commands, of which an interrupted one raises `Interrupted`."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _as_interrupted():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _as_interrupted():
            return super().invoke(ctx)


@contextmanager
def _as_interrupted() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None


@contextmanager
def resumable(run: Path) -> Iterator[None]:
    """Where training in the block is interrupted, the command that goes on with `run` is named."""
    from ..runs import DATA

    try:
        yield
    except KeyboardInterrupt:
        if not (run / DATA).exists():
            raise
        raise Interrupted(f"Go on with `{command('train', '--resume', run)}`.") from None
