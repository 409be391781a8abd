"""The help of commands with many options: in groups, those first that most people need."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

_MODEL = ("--prompts", "--base-url", "--fallback", "--timeout", "--jobs", "--offline", "--max-questions",
          "--wait-for-answers", "--temperature", "--think", "--structured", "--pull", "--price-in", "--price-out",
          "--dry-run", "--show")  # fmt: skip
_DATA = (
    "--protocol",
    "--classes",
    "--unseen",
    "--rehearse",
    "--layout",
    "--data",
    "--split",
    "--format",
    "--fps",
    "--batch-size",
)
_RECIPE = ("--method", "--stream", "--alpha", "--beta", "--text-encoder", "--text-weights", "--base-model", "--from",
           "--faithful-to", "--set")  # fmt: skip
_OUTPUT = ("--seed", "--device", "--json", "--quiet", "--help")

# command -> title of a group -> its options, each group in the order of the command; what is named nowhere is `OTHER`.
# "Options" comes first: what most people need.
PANELS: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "Options": ("--recipe", "--out", "--llm", "--epochs", "--resume"),
        "Data": _DATA,
        "Recipe": _RECIPE,
        "Language model": ("--store", *_MODEL),
        "Earlier runs": ("--repeat",),
        "Output and device": _OUTPUT,
    },
    "describe": {
        "Options": ("--llm", "--store", "--dry-run", "--offline", "--fallback"),
        "Data": (*_DATA, "--method"),
        "Language model": ("--seed", *_MODEL),
        "Pictures": ("--frames", "--frames-per-class", "--frames-by"),
        "Output and device": _OUTPUT,
    },
    "predict": {
        "Options": ("--with", "--abstain", "--window", "--reasons", "--json"),
        "Recordings": (*_DATA, "--stride"),
        "Recogniser": ("--kinematics", "--classes", "--every-joint"),
        "Output and device": _OUTPUT,
    },
    "ablate": {
        "Options": ("--out", "--recipe", "--llm", "--seeds", "--rows"),
        "Data": _DATA,
        "Recipe": (*_RECIPE, "--row", "--against", "--kinematics"),
        "Runs": ("--jobs", "--only-finished", "--part"),
        "Language model": ("--store", *_MODEL),
        "Output and device": ("--markdown", "--title", *_OUTPUT),
    },
}
OTHER = "Other options"


class InPanels(TyperCommand):
    """A command whose help is grouped as `PANELS` has it."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels = PANELS[self.name or ""]
        arguments: list[tuple[str, str]] = []
        grouped: dict[str, list[tuple[str, str]]] = {title: [] for title in (*panels, OTHER)}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is None:
                continue
            if param.param_type_name == "argument":
                arguments.append(record)
            else:
                grouped[self.panel_of(param)].append(record)
        for title, records in ({"Arguments": arguments} | grouped).items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def panel_of(self, param: Any) -> str:
        """The title under which an option stands."""
        panels = PANELS[self.name or ""]
        return next((title for title, options in panels.items() if set(param.opts) & set(options)), OTHER)
