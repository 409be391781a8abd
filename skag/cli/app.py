"""The application and the options that all commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from ..version import __version__
from .interruption import Group

app = typer.Typer(
    name="skag",
    cls=Group,
    help=(
        "Skeleton-based action recognition that asks a language model what tells look-alike actions apart.\n\n"
        "Begin with: skag convert, skag describe, skag train, skag eval, skag analyze-confusion."
    ),
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


WELCOME = """\
skag tells look-alike actions apart, from recordings of body joints. Begin with

  skag convert RECORDINGS data.h5      recordings (folder, file, archive) in
  skag describe data.h5                what tells the actions apart, in words
  skag train data.h5 --out runs/first  a recogniser; it says how to evaluate it

No recordings at hand? skag simulate demo makes some. skag --help lists all
commands, skag doctor tells what is installed here.
"""


def _version(show: bool) -> None:
    if show:
        print(f"skag {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(WELCOME, end="")
