"""The formats that `skag convert` reads, one module each. What a reader is: see `skag.readers.source`."""

from __future__ import annotations

from types import ModuleType

from ..archives import Files
from ..errors import DataError
from . import nw_ucla, pyskl

FORMATS: dict[str, ModuleType] = {"pyskl": pyskl, "nw-ucla": nw_ucla}  # the first that recognises a source reads it
DESCRIPTIONS = {
    "pyskl": "a PYSKL or MMAction2 pickle (.pkl)",
    "nw-ucla": "a folder, zip or tar of aAA_sSS_eEE_vVV.json files",
}


def known_formats() -> str:
    """The formats in words, for messages."""
    return "; ".join(f"{name}: {text}" for name, text in DESCRIPTIONS.items())


def reader(files: Files, name: str | None) -> ModuleType:
    """The reader of a format, guessed from the files where it is not named. Raises `DataError`."""
    if name is not None:
        if name not in FORMATS:
            raise DataError(f"no format {name!r}; known are {known_formats()}.")
        return FORMATS[name]
    for module in FORMATS.values():
        if module.recognises(files):
            return module
    what = f"the files of {files.shown}" if files.kind != "file" else files.shown
    raise DataError(f"no reader recognises {what}; known are {known_formats()}.")
