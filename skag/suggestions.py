"""What was probably meant by a path that is not there."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path


def nearest_path(path: Path, fits: Callable[[Path], bool] = Path.exists) -> Path | None:
    """The path beside `path` whose name is most like its own and which `fits`; None where none is like it.

    Endings such as ".h5" say nothing about likeness: they are only compared where the rest is equal.
    """
    folder = path.parent
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".") and fits(folder / name)]
    except OSError:
        return None
    wanted = path.stem.casefold()

    def likeness(name: str) -> tuple[float, bool]:
        ratio = difflib.SequenceMatcher(None, wanted, Path(name).stem.casefold()).ratio()
        return ratio, Path(name).suffix == path.suffix

    best = max(names, key=likeness, default=None)
    return None if best is None or likeness(best)[0] < 0.7 else folder / best


def did_you_mean(path: Path, otherwise: str, fits: Callable[[Path], bool] = Path.exists) -> str:
    """The next step of an error about a missing path: "did you mean ...?", or `otherwise` where nothing is like it."""
    near = nearest_path(path, fits)
    return otherwise if near is None else f"did you mean {near}?"
