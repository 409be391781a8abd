"""C3D files (`.c3d`) of clinics and motion laboratories: the places of markers, read with the package `c3d`.

The markers of a layout are found by name, so `--layout` with a file that lists them is needed; a marker that was not
seen (a negative residual) is missing. Places become metres where the file names its unit. Which axis points up is for
the layout to say: in laboratories it is mostly z.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator

import numpy as np

from ..errors import DataError
from . import mocap
from .archives import MAX_MEMBER, Files, Member, printable
from .mocap import Motion
from .source import Options, Source, Unusable, content

_UNITS = {"mm": 0.001, "cm": 0.01, "dm": 0.1, "m": 1.0, "in": 0.0254, "meters": 1.0, "millimeters": 0.001}


def recognises(files: Files) -> bool:
    """Whether there is a C3D file."""
    return any(map(_is_c3d, files.names))


def paths(files: Files) -> list[str]:
    """The C3D files."""
    return list(filter(_is_c3d, files.names))


def read(files: Files, options: Options) -> Source:
    """Recordings in the order of their names. Raises `DataError` where the package `c3d` is missing."""
    try:
        import c3d  # noqa: F401
    except ImportError:
        raise DataError("C3D files need the package c3d: pip install c3d (or skag[c3d]).") from None
    return mocap.read(files, options, paths(files), lambda: _motions(files), "c3d")


def _is_c3d(name: str) -> bool:
    return name.lower().endswith(".c3d")


def _motions(files: Files) -> Iterator[tuple[str, Motion | Unusable]]:
    for member in files.read(_is_c3d, later=True):
        try:
            yield member.name, motion(member)
        except Unusable as unusable:
            yield member.name, unusable


def motion(member: Member) -> Motion:
    """The markers over the frames of a C3D file. Raises `Unusable`."""
    import c3d

    data = content(member, MAX_MEMBER)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader = c3d.Reader(io.BytesIO(data))
            if reader.point_used > mocap.MAX_JOINTS or reader.last_frame - reader.first_frame >= mocap.MAX_FRAMES:
                raise Unusable("claims more markers or frames than a recording can have")
            frames = [points for _, points, _ in reader.read_frames(copy=True)]
            labels = [label.strip() for label in reader.point_labels][: reader.point_used]
            unit = reader.get("POINT:UNITS")
            unit = "" if unit is None else unit.string_value.strip().lower()
            rate = float(reader.point_rate)
    except Unusable:
        raise
    except Exception as error:  # a parser of foreign bytes raises nearly anything
        raise Unusable(f"is no C3D file, or a damaged one ({printable(str(error), 80)})") from None
    if not frames or not labels:
        raise Unusable("has no markers in any frame")
    points = np.stack(frames).astype(np.float64)  # x, y, z, residual, cameras
    if points.shape[1] != len(labels):
        raise Unusable(f"has {points.shape[1]} markers and {len(labels)} names")
    places = points[..., :3] * _UNITS.get(unit, 1.0)
    places[(points[..., 3] < 0) | ~np.isfinite(places).all(-1)] = 0
    return Motion(tuple(mocap.field_names(labels)), (), places.astype(np.float32), rate if rate > 0 else None)
