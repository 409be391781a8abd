"""The application and the options that all commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from .. import __version__

app = typer.Typer(
    name="skag",
    help=(
        "Skeleton-based action recognition that asks a language model what tells look-alike actions apart.\n\n"
        "Begin with: skag convert, skag describe, skag train, skag eval, skag analyze-confusion."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Stream(StrEnum):
    j = "j"
    b = "b"
    k = "k"
    jm = "jm"
    bm = "bm"
    km = "km"


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random in this command.")]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to compute.")]


def _version(show: bool) -> None:
    if show:
        print(f"skag {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


# Importing a module registers its commands; help lists them in this order, the order of use.
# isort: off
from . import recordings  # noqa: E402, F401
from . import inspect  # noqa: E402, F401
from . import ask  # noqa: E402, F401
from . import train  # noqa: E402, F401
from . import recipes  # noqa: E402, F401
from . import evaluate  # noqa: E402, F401
from . import predict  # noqa: E402, F401
from . import dialogues  # noqa: E402, F401
