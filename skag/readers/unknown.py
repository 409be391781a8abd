"""What is said of a source that no reader recognises: what was found in it, and what would help."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import PurePosixPath

from ..suggestions import VIDEOS
from .archives import Files, printable
from .counted import listed
from .joints import layout_of_shape
from .pyskl import is_pickle
from .source import Unusable, first

_LOOKED_AT = 1 << 16  # bytes
_TEXT = {".txt", ".dat", ".tsv", ".asc", ""}
_KNOWN_HELP = {
    ".mat": "save the joints of each recording as a .npy file [frames, joints, coordinates]",
    ".fbx": "export it as BVH, or its joints' positions as CSV",
    ".trc": "export the markers as C3D or CSV",
    ".xlsx": "save the sheets as CSV, a row per frame",
    ".json": "skag knows the JSON of OpenPose, MMPose, AlphaPose and MediaPipe; others become CSV, a row per frame",
}


def not_recognised(files: Files) -> str:
    """A sentence without its end: the endings and names that are there, and the next step."""
    if videos := [name for name in files.names if PurePosixPath(name).suffix.lower() in VIDEOS]:
        return _pose_estimator(files, videos)
    endings = Counter(PurePosixPath(name).suffix.lower() or "no ending" for name in files.names)
    found = listed(dict(endings.most_common()), 4)
    names = ", ".join(printable(PurePosixPath(name).name, 60) for name in files.names[:2])
    here = (
        f"{files.shown} ({found}: {names}{', ...' if len(files.names) > 2 else ''})"
        if files.kind != "file"
        else files.shown
    )
    return f"no reader recognises {here}: {_help(files, endings.most_common(1)[0][0] if endings else '')}"


def _pose_estimator(files: Files, videos: list[str]) -> str:
    """What to do with videos, which hold no joints."""
    shown = files.shown if files.kind == "file" else f"{printable(videos[0], 100)} in {files.shown}"
    return (
        f"{shown} is a video, and skag reads joints: let a pose estimator find them first. With `pip install "
        "ultralytics`, `yolo pose predict model=yolo11n-pose.pt source=VIDEO save_txt=True` writes labels/VIDEO_1.txt "
        "and so on, which skag reads (--format yolo); it reads the JSON of MMPose, OpenPose and AlphaPose too, and "
        "MediaPipe's landmarks"
    )


def _help(files: Files, ending: str) -> str:
    pickles = sum(map(is_pickle, files.names))
    if pickles > 1:
        return (
            f"{pickles} pickles side by side are no data set that skag knows; give one PYSKL-style pickle, or save "
            "each recording as a .npy file [frames, joints, coordinates] in a folder per class"
        )
    if ending in _KNOWN_HELP:
        return _KNOWN_HELP[ending]
    return (
        _numbers(files) or "a table needs a header (left_hand_x, left_hand_y, ...), docs/formats.md shows each format"
    )


def _numbers(files: Files) -> str:
    """What the lines of a text without a header hold."""
    member = first(files, lambda name: PurePosixPath(name.removesuffix(".gz")).suffix.lower() in _TEXT)
    if member is None or member.data is None:
        return ""
    data = member.data[:_LOOKED_AT]
    if data.startswith(b"\x1f\x8b"):  # gzip
        try:
            data = zlib.decompressobj(31).decompress(data, _LOOKED_AT)
        except zlib.error:
            return ""
    for line in data.decode("utf-8", "replace").splitlines()[:5]:
        cells = line.replace(",", " ").replace(";", " ").split()
        try:
            count = len([float(cell) for cell in cells])
        except ValueError:
            continue
        if count > 5:
            fits = _shapes(count)
            return f"it has {count} numbers a line{fits}; save it as .csv with a header, joint_0_x, joint_0_y, ..."
    return ""


def _shapes(count: int) -> str:
    fits = []
    for dims in (3, 2):
        if count % dims == 0:
            try:
                layout = f" of layout {layout_of_shape(count // dims, dims).name}"
            except Unusable:
                layout = ""
            fits.append(f"{count // dims} joints of {dims}{layout}")
    return f" ({' or '.join(fits)}?)" if fits else ""
