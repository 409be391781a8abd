"""The formats that `skag convert` reads, one module each. What a reader is: see `skag.readers.source`."""

from __future__ import annotations

from difflib import get_close_matches
from types import ModuleType

from ..archives import Files, printable
from ..errors import DataError
from . import ctr_gcn, kpfiles, msr_action3d, ntu, nw_ucla, pyskl, sbu, smarthome, uav_human, utd_mhad, utkinect

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
}
DESCRIPTIONS = {
    "pyskl": "a PYSKL or MMAction2 pickle (.pkl)",
    "kinetics": "a PYSKL pickle of annotations with a folder of kpfiles",
    "ntu": "raw NTU RGB+D 60 or 120 files (.skeleton)",
    "uav-human": "raw UAV-Human files (P000S00...A000R0_08241716.txt)",
    "utkinect": "joints_sSS_eEE.txt files with actionLabel.txt",
    "sbu": "sXXsYY/AA/NNN/skeleton_pos.txt files",
    "msr-action3d": "aAA_sSS_eEE_skeleton3D.txt files",
    "utd-mhad": "aA_sS_tT_skeleton.mat files",
    "ctr-gcn": "an .npz file with x_train and y_train",
    "smarthome": "Toyota Smarthome's Activity_pPP_rRR_vVV_cCC.json files",
    "nw-ucla": "aAA_sSS_eEE_vVV.json files",
}
OWN: tuple[ModuleType, ...] = ()  # people's own recordings, with classes from --labels or folder names


def known_formats() -> str:
    """The formats in words, for messages."""
    return "; ".join(f"{name}: {text}" for name, text in DESCRIPTIONS.items())


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
    raise DataError(f"no reader recognises {what}; known are {known_formats()}.")
