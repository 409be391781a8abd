"""The formats that `skag convert` reads, one module each. What a reader is: see `skag.readers.source`."""

from __future__ import annotations

from difflib import get_close_matches
from types import ModuleType

from ..errors import DataError
from . import (
    alphapose,
    asf_amc,
    bvh,
    c3d_markers,
    csv_table,
    ctr_gcn,
    kinetics_skeleton,
    kpfiles,
    mediapipe,
    mmpose,
    msr_action3d,
    ntu,
    number_text,
    nw_ucla,
    openpose,
    own_arrays,
    parquet_table,
    pku_mmd,
    pyskl,
    sbu,
    smarthome,
    st_gcn,
    together,
    uav_human,
    utd_mhad,
    utkinect,
    yolo,
)
from .archives import Files, printable
from .source import Options, Skipped, Source
from .unknown import not_recognised

FORMATS: dict[str, ModuleType] = {  # the first that recognises a source reads it
    "st-gcn": st_gcn,
    "pyskl": pyskl,
    "kinetics": kpfiles,
    "kinetics-skeleton": kinetics_skeleton,
    "ntu": ntu,
    "uav-human": uav_human,
    "pku-mmd": pku_mmd,
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
    "yolo": yolo,
    "bvh": bvh,
    "asf-amc": asf_amc,
    "c3d": c3d_markers,
    "npz": own_arrays,
    "parquet": parquet_table,
    "csv": csv_table,
    "numbers": number_text,
}
# people's own recordings, with classes from --labels or folder names
OWN = (
    openpose,
    mmpose,
    alphapose,
    mediapipe,
    yolo,
    bvh,
    asf_amc,
    c3d_markers,
    own_arrays,
    parquet_table,
    csv_table,
    number_text,
)


_JSON = (openpose, mmpose, alphapose, mediapipe, yolo)  # one of them at most reads the JSON files of a source
_ENDINGS = {
    **dict.fromkeys(_JSON, (".json",)),
    bvh: (".bvh",),
    asf_amc: (".amc",),
    c3d_markers: (".c3d",),
    own_arrays: (".npy", ".npz"),
    parquet_table: parquet_table.ENDINGS,
    csv_table: csv_table.ENDINGS,
    number_text: number_text.ENDINGS,
}


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
    raise DataError(f"{not_recognised(files)}. docs/formats.md has all formats, --format NAME forces one.")


def read(files: Files, name: str | None, options: Options, module: ModuleType) -> Source:
    """What `module`, the `reader` of the format `name`, reads; where no format is named and it is one of people's own,
    with the recordings in others of these. Raises `DataError`."""
    if name is not None or module not in OWN:
        return module.read(files, options)
    modules = [module, *(other for other in OWN if _reads_too(other, module, files))]
    source = together.read(files, options, modules)
    if any(one in _JSON for one in modules):
        return source
    unknown = [path for path in files.names if path.lower().endswith(".json")]
    reason = "is no recording in a JSON format that skag reads"
    return together.with_skipped(source, [Skipped(path, reason, expected=True) for path in unknown])


def _reads_too(other: ModuleType, module: ModuleType, files: Files) -> bool:
    """Whether a source has recordings for another reader besides."""
    if other is module or (other in _JSON and module in _JSON):
        return False
    return any(path.lower().endswith(_ENDINGS[other]) for path in files.names) and other.recognises(files)
