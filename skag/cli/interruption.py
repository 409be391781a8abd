"""What a command ends in that Ctrl-C or Typer ends: one line, with the command that goes on where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer import BadParameter
from typer.core import TyperGroup

from .output import command


class Interrupted(BaseException):
    """Ctrl-C in a command, `str(error)` is how to go on. No `KeyboardInterrupt`: Typer makes an exit code of those
    before anybody can say a word."""


class Group(TyperGroup):
    """The commands, of which an interrupted one raises `Interrupted` and a wrong option is told of in plain words."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _ended():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _ended():
            return super().invoke(ctx)


@contextmanager
def _ended() -> Iterator[None]:
    """How a command ends that does not end well."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None
    except BadParameter as error:
        error.message = error.message.removeprefix("Value error, ")  # pydantic's, by which newer Typers read options
        raise


@contextmanager
def resumable(run: Path) -> Iterator[None]:
    """Where training in the block is interrupted, the command that goes on with `run` is named."""
    from ..runs import CONFIG

    try:
        yield
    except KeyboardInterrupt:
        if not (run / CONFIG).exists():
            raise
        go_on = command("train", "--resume", run)
        if processes := os.environ.get("LOCAL_WORLD_SIZE"):  # torchrun's
            go_on = f"torchrun --nproc-per-node {processes} -m {go_on}"
        raise Interrupted(f"Go on with `{go_on}`.") from None
