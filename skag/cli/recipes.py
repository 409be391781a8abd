"""`skag recipes` and `skag recipes show`."""

from __future__ import annotations

from typing import Annotated

import typer

from .app import app
from .completion import recipe_names
from .options import FaithfulOption, JsonOption, QuietOption, SetOption, Stream
from .output import Output

group = typer.Typer(
    help="The recipes: what they are for, and every value of one with its source.\n\n"
    "Those on GPU have the published network, those on CPU a small one that two cores train within a quarter of an "
    "hour. Without --recipe, `skag train` derives one from the data.",
    invoke_without_command=True,
    epilog="Example: skag recipes show ntu60-xsub --stream b",
)
app.add_typer(group, name="recipes")


@group.callback()
def list_recipes(context: typer.Context, as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """List the recipes with the published top-1 accuracy beside; `skag recipes show NAME` prints one."""
    if context.invoked_subcommand is not None:
        return
    from ..methods import METHODS
    from ..recipes import cards

    output = Output(as_json, quiet)
    columns = ("j", "b", "k", "2", "4", "6")
    known, found = cards(), []
    for of in METHODS:
        rows = []
        for name, card in ((name, card) for name, (method, card) in known.items() if method == of):
            shown = [_percent(card.accuracy.get(key)) for key in columns]
            rows.append([name, card.data, card.trained_on, card.layout, card.classes, *shown])
            facts = {"data": card.data, "trained_on": card.trained_on, "layout": card.layout, "classes": card.classes}
            found.append({"name": name, "method": of, **facts, "published": dict(card.accuracy)})
        title = f"Recipes of {of}, and published top-1 % of joint, bone, k-bone and 2, 4, 6 fused streams"
        output.table(title, ["recipe", "for", "on", "layout", "classes", *columns], rows, spare=("classes", "layout"))
    output.document({"recipes": found})


@group.command(epilog="Example: skag recipes show ntu60-xsub --stream b")
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A recipe of `skag recipes`.", autocompletion=recipe_names)
    ],
    stream: Annotated[Stream, typer.Option("--stream", help="Joint, bone, k-bone, or their motions.")] = Stream.j,
    faithful_to: FaithfulOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Print every value of a recipe with its source; --set and --faithful-to show what they change."""
    from .. import recipes
    from ..config import flat, override
    from ..methods import method
    from ..skeleton.layouts import load_layout

    output = Output(as_json, quiet)
    config = recipes.recipe(name, stream.value)
    found = method(config.method).sources(config)
    before = flat(config)
    if faithful_to is not None:
        dims = load_layout(recipes.cards()[name][1].layout).dims
        config = method(config.method).faithful(config, faithful_to.value, dims)
        found |= {key: f"--faithful-to {faithful_to}" for key, value in flat(config).items() if value != before[key]}
    config = override(config, assignments or [])
    found |= {assignment.partition("=")[0].strip(): "--set" for assignment in assignments or []}
    rows = [[key, _shown(value), found[key]] for key, value in flat(config).items()]
    output.table(f"{name}, stream {stream.value}", ["field", "value", "source"], rows)
    output.document({"config": config.to_dict(), "sources": found})


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
