"""Options and arguments that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .completion import method_names, recipe_names, run_folders


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
KinematicsOption = Annotated[
    bool,
    typer.Option("--kinematics", help="Also ask how joints are measured to move, by a linear discriminant."),
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder made by `skag train`.", autocompletion=run_folders)
]


class Streams(StrEnum):
    j = "j"
    b = "b"
    k = "k"
    jm = "jm"
    bm = "bm"
    km = "km"
    all = "all"


class Faithful(StrEnum):
    paper = "paper"
    release = "release"


RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Recipe by name (skag recipes).  [default: derived from the data]",
        autocompletion=recipe_names,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change one field of the recipe; may be given several times."),
]
FaithfulOption = Annotated[
    Faithful | None,
    typer.Option("--faithful-to", help="Set every option in which paper and published code differ as one has it."),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method", help="Published method.  [default: skeleton-agent, or the recipe's]", autocompletion=method_names
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="NAMES|FILE",
        help="These classes alone: names with commas between, or a file with a name a line.  [default: all with clips]",
    ),
]

# ---- of everything that asks a language model

DIALOGUES = Path("cache/dialogues.h5")
StoreOption = Annotated[Path, typer.Option("--store", help="The dialogue store.")]
PromptsOption = Annotated[
    Path | None, typer.Option("--prompts", help="Folder with prompts of your own.  [default: skag's]")
]
BaseUrlOption = Annotated[
    str | None, typer.Option("--base-url", help="Address of the server.  [default: the backend's own]")
]
FallbackOption = Annotated[
    str | None, typer.Option("--fallback", help="Who answers what the first model refuses.  [default: nobody]")
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for a server that is silent.")]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Ask nobody: take answers from the dialogue store, and name what it lacks.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say how many questions would be asked and how many are answered, and leave.")
]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, max=64, help="Questions to ask at the same time.")]
