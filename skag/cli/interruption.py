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
from .unknown import COMMANDS, field_for


class Interrupted(BaseException):
    """Ctrl-C in a command, `str(error)` is how to go on. No `KeyboardInterrupt`: Typer makes an exit code of those
    before anybody can say a word."""


class Group(TyperGroup):
    """The commands, of which an interrupted one raises `Interrupted` and a wrong option is told of in plain words."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command, also under a name that other tools have for it."""
        found = super().get_command(ctx, cmd_name)
        return found or super().get_command(ctx, COMMANDS.get(cmd_name, ""))

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
    except Exception as error:
        if type(error).__name__ == "NoSuchOption":  # of Click's, which newer Typers bring in a module of their own
            context: Any = getattr(error, "ctx", None)
            if told := field_for(getattr(context, "info_name", "") or "", getattr(error, "option_name", "")):
                error.message, error.possibilities = told, []  # type: ignore[attr-defined]
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
