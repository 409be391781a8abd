"""Names of commands and options that other tools have, and what they are here."""

from __future__ import annotations

COMMANDS = {
    "test": "eval",
    "evaluate": "eval",
    "analyze": "analyze-confusion",
    "analyse": "analyze-confusion",
    "analyse-confusion": "analyze-confusion",
    "confusion": "analyze-confusion",
    "report": "analyze-confusion",
}
_WITH_SET = ("train", "ablate")  # commands that take --set
_FIELDS = {
    "learning-rate": "lr",
    "bs": "batch-size",
    "batch": "batch-size",
    "wd": "weight-decay",
    "num-epochs": "epochs",
}


def field_for(command: str, option: str) -> str | None:
    """What to say of an option that is a field of recipes, which `--set` changes; None for any other."""
    if command not in _WITH_SET:
        return None
    from dataclasses import fields, is_dataclass
    from typing import get_type_hints

    from ..config import Config

    name = option.lstrip("-").lower().replace("_", "-")
    wanted = _FIELDS.get(name, name).replace("-", "_")
    for section, kind in get_type_hints(Config).items():
        if is_dataclass(kind) and wanted in (field.name for field in fields(kind)):
            return f"No such option: {option}. It is a field of the recipe: --set {section}.{wanted}=VALUE."
    return None
