"""What the shell is told when Tab is pressed; nothing heavy is imported for it.

A function takes what was typed so far and returns what it may become. Files are completed by the shell itself.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path


def recipe_names(incomplete: str) -> list[str]:
    """The names of the recipes."""
    from ..recipes import cards

    return [name for name in cards() if name.startswith(incomplete)]


def method_names(incomplete: str) -> list[str]:
    """The names of the methods."""
    from ..methods import METHODS

    return [name for name in METHODS if name.startswith(incomplete)]


def layout_names(incomplete: str) -> list[str]:
    """The layouts that come with skag."""
    from ..skeleton.layouts import layout_names as known

    return [name for name in known() if name.startswith(incomplete)]


def run_folders(incomplete: str) -> list[str]:
    """Run folders in the folder that is being typed and one below it, and at the start those in runs/."""
    typed = Path(incomplete)
    folder = typed if incomplete.endswith("/") else typed.parent
    found = chain(folder.glob("*/config.json"), folder.glob("*/*/config.json"))
    if folder == Path():
        found = chain(found, Path("runs").glob("*/*/config.json"))
    try:
        names = {str(path.parent) for path in found if (path.parent / "data.json").is_file()}
    except OSError:  # a folder that may not be read
        return []
    return sorted(name for name in names if name.startswith(incomplete))
