"""The formats that `skag convert` reads, one module each. What a reader is: see `skag.readers.source`."""

from __future__ import annotations

from difflib import get_close_matches
from types import ModuleType

from ..errors import DataError
from . import (
    alphapose,
    csv_table,
    ctr_gcn,
    kpfiles,
    mediapipe,
    mmpose,
    msr_action3d,
    ntu,
    nw_ucla,
    openpose,
    own_arrays,
    parquet_table,
    pyskl,
    sbu,
    smarthome,
    uav_human,
    utd_mhad,
    utkinect,
)
from .archives import Files, printable

FORMATS: dict[str, ModuleType] = {  # the first that recognises a source reads it
    "pyskl": pyskl,
    "kinetics": kpfiles,
    "ntu": ntu,
    "uav-human": uav_human,
    "utkinect": utkinect,
    "sbu": sbu,
    "msr-action3d": msr_action3d,
    "utd-mhad": utd_mhad,
    "ctr-gcn": ctr_gcn,
    "smarthome": smarthome,
    "nw-ucla": nw_ucla,
    "openpose": openpose,
    "mmpose": mmpose,
    "alphapose": alphapose,
    "mediapipe": mediapipe,
    "npz": own_arrays,
    "parquet": parquet_table,
    "csv": csv_table,
}
# people's own recordings, with classes from --labels or folder names
OWN = (openpose, mmpose, alphapose, mediapipe, own_arrays, parquet_table, csv_table)


def known_formats() -> str:
    """The formats in words, for messages."""
    return f"{', '.join(FORMATS)} (docs/formats.md says what their files look like)"


def reader(files: Files, name: str | None) -> ModuleType:
    """The reader of a format, guessed from the files where it is not named. Raises `DataError`."""
    if name is not None:
        if name not in FORMATS:
            near = get_close_matches(name, FORMATS, 1, 0.4)
            meant = f"; did you mean {near[0]}?" if near else "."
            raise DataError(f"no format {printable(name, 40)!r}{meant} Known are {', '.join(FORMATS)}.")
        return FORMATS[name]
    for module in FORMATS.values():
        if module.recognises(files):
            return module
    what = f"the files of {files.shown}" if files.kind != "file" else files.shown
    raise DataError(f"no reader recognises {what}; known formats are {known_formats()}; --format NAME forces one.")
