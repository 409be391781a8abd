"""Drawing a clip: a strip of frames (PNG), a moving picture (GIF), or a page on which it can be turned (HTML).

Bones have the colour of their part, joints their names and their numbers from 0, as pose tools count them (the lists
that language models are given count from 1). Where a layout has no middle joint between the shoulders or the hips, a
line between them is drawn all the same, so that a trunk is seen. 3-D clips are seen from the sensor, upright by the
layout's up axis. What comes from files (names of clips, classes and joints) is drawn as plain text and escaped in the
page, which loads nothing and may not, by its own content policy.
"""

from __future__ import annotations

import difflib
import html
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..skeleton.layouts import Layout
from ..skeleton.store import SkeletonStore
from ..targets import check_target, start_of
from .figures import name_joints, saved_figure, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KIND_NAMES = {".png": "PNG picture", ".gif": "GIF picture", ".html": "page of a clip"}
KINDS = tuple(_KIND_NAMES)
_PAGE = Path(__file__).with_name("clip_page.html")
# Okabe and Ito's colours, which people with any colour vision can tell apart; the first part in ink
_COLOURS = ("#333333", "#0072B2", "#D55E00", "#56B4E9", "#E69F00", "#009E73", "#CC79A7")
FRAME_RATE = 30.0  # frames a second where a clip's own rate is not known; nearly all sensors give as many
_STRIP, _MOVING, _TURNING = 8, 150, 1500  # most frames drawn
_FAINT = 0.55  # opacity of bodies after the first
_CONFIDENT = 0.3  # of a pose estimator's score; joints below are guesses


@dataclass(frozen=True)
class View:
    """A clip as it is drawn: `points [T, M, V, 3]` across, up and depth within -1 to 1, NaN where there is no joint."""

    points: np.ndarray
    layout: Layout
    title: str
    facts: str
    frame_rate: float = FRAME_RATE

    @property
    def bones(self) -> np.ndarray:
        """`[B, 2]` joint numbers at both ends of every line, the outer one of a bone first."""
        index = self.layout.index
        lines = [*self.layout.bones.items(), *_across(self.layout)]
        return np.array([[index[joint] for joint in line] for line in lines], int).reshape(-1, 2)


def _across(layout: Layout) -> list[tuple[str, str]]:
    """The lines across the trunk, (left, right), that the bones of a layout leave out: between shoulders that hang on
    the head, and hips that hang on the shoulders."""
    found = []
    for joint in ("shoulder", "hip"):
        left, right = f"left {joint}", f"right {joint}"
        if left not in layout.index or right not in layout.index:
            continue
        above = {layout.bones.get(left), layout.bones.get(right)}
        if len(above) > 1 or above & {"nose", "head"}:
            found.append((left, right))
    return found


def clip_number(store: SkeletonStore, wanted: str) -> int:
    """The clip of that name, or else of that number (from 0). Raises `DataError` that names the nearest."""
    if wanted in store.names:
        return store.names.index(wanted)
    if wanted.isdecimal() and wanted.isascii():
        if len(wanted) < 19 and int(wanted) < len(store):
            return int(wanted)
        raise DataError(f"{store.path} has no clip {wanted}: its {len(store)} clips are numbered from 0.")
    near = difflib.get_close_matches(wanted, store.names, 3, cutoff=0) or store.names[:3]
    raise DataError(f"{store.path} has no clip {wanted!r}: the nearest are {', '.join(near)}.")


def draw_clip(store: SkeletonStore, number: int, path: Path) -> None:
    """Draw a clip to a file; its ending, one of `KINDS`, says how. Raises `DataError`."""
    draw_view(lambda: view(store, number), path)


def draw_view(make: Callable[[], View], path: Path) -> None:
    """Draw what `make` gives to a file, as `draw_clip` does; it is made where the file's name is right. Raises
    `DataError`."""
    if path.suffix.lower() not in KINDS:
        raise DataError(f"{path}: clips are drawn as {', '.join(KINDS)}; give --out a name that ends so.")
    ending = path.suffix.lower()
    check_target(path, partial(_begins_as, ending), _KIND_NAMES[ending], DataError)
    draw = {".png": draw_strip, ".gif": draw_moving, ".html": write_page}[ending]
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(make(), path)


def _begins_as(ending: str, path: Path) -> bool:
    """Whether a file is a picture of that kind, or a page that was made here."""
    page = _PAGE.read_text(encoding="utf-8").partition("$")[0].encode()
    start = {".png": b"\x89PNG", ".gif": b"GIF8", ".html": page}[ending]
    return start_of(path, len(start)) == start


def view(store: SkeletonStore, number: int) -> View:
    """What there is to draw of a clip: joints that were found, with some confidence where that is known.

    Raises `DataError` where there is none, or where the arrays are not the layout's.
    """
    layout, name = store.layout, store.names[number]
    keypoints = store.keypoints(number).astype(np.float64)
    if keypoints.shape[2:] != (layout.num_joints, layout.dims):
        raise DataError(f"{store.path}: the arrays are not those of layout {layout.name}; see skag check {store.path}.")
    there = np.asarray(np.isfinite(keypoints).all(axis=-1) & keypoints.any(axis=-1))
    confidence = store.confidence(number)
    if confidence is not None and (there & (confidence >= _CONFIDENT)).any():
        there &= confidence >= _CONFIDENT
    if not there.any():
        raise DataError(f"clip {name!r} has no joint in any frame: there is nothing to draw.")
    label = int(store.labels[number])
    what = store.classes[label] if 0 <= label < len(store.classes) else f"label {label}"
    bodies, frames = keypoints.shape[:2]
    facts = [f"{frames} frame{'' if frames == 1 else 's'}", f"{bodies} bod{'y' if bodies == 1 else 'ies'}"]
    known = (("subject", store.subjects), ("camera", store.cameras), ("setup", store.setups))
    facts += [f"{fact} {values[number]}" for fact, values in known if values[number] >= 0]
    facts += [split for split, numbers in store.splits.items() if number in numbers]
    facts.append(f"layout {layout.name}")
    rate = store.frame_rate(number)
    facts += [] if rate is None else [f"{rate:g} frames a second"]
    points = _placed(keypoints, there, layout)
    return View(points, layout, f"{name}: {what}", ", ".join(facts), rate or FRAME_RATE)


def view_of(keypoints: np.ndarray, layout: Layout, title: str, facts: str = "") -> View:
    """What there is to draw of bodies `[M, T, V, C]` in no store; a joint at 0 or without a number is not there."""
    keypoints = keypoints[..., : layout.dims].astype(np.float64)
    there = np.isfinite(keypoints).all(axis=-1) & keypoints.any(axis=-1)
    return View(_placed(keypoints, there, layout), layout, title, facts)


def _placed(keypoints: np.ndarray, there: np.ndarray, layout: Layout) -> np.ndarray:
    """Bodies `[M, T, V, C]` as the points of a `View`; `there` `[M, T, V]` tells which joints are."""
    axis, sign = layout.up_axis
    across, *depth = (other for other in range(layout.dims) if other != axis)
    points = np.zeros((*keypoints.shape[:3], 3))
    points[..., 0], points[..., 1] = keypoints[..., across], sign * keypoints[..., axis]
    if depth:
        points[..., 2] = keypoints[..., depth[0]]
    if there.any():
        low, high = _bounds(points[there])
        reach = float((high - low).max()) / 2
        points = (points - (low + high) / 2) / (reach if reach > 0 else 1.0)
    points[~there] = np.nan
    return points.swapaxes(0, 1)


def _chosen_frames(clip: View, most: int) -> np.ndarray:
    """Up to `most` frame numbers, evenly, of those in which somebody is seen."""
    seen = np.flatnonzero(np.isfinite(clip.points).any(axis=(1, 2, 3)))
    return seen[np.unique(np.linspace(0, len(seen) - 1, min(most, len(seen))).round().astype(int))]


def draw_strip(clip: View, path: Path) -> None:
    """Up to eight frames side by side, and below them the fullest of these with all joint names."""
    frames = _chosen_frames(clip, _STRIP)
    extent = extent_of(clip)
    panel = 1.75  # inches
    height = panel * (extent[3] - extent[2]) / (extent[1] - extent[0])
    height = float(np.clip(height, 1.2, 4.5))
    width = max(panel * len(frames), 9.5)
    total = 0.75 + height + 0.3 + 4.9
    with saved_figure(path, width, total, dpi=110) as figure:
        figure.text(0.5, 1 - 0.15 / total, shortened(clip.title, 90), ha="center", va="center", fontsize=13)
        figure.text(0.5, 1 - 0.42 / total, shortened(clip.facts, 140), ha="center", va="center", fontsize=9)
        start = (width - panel * len(frames)) / 2
        for at, frame in enumerate(frames):
            place = ((start + at * panel) / width, 5.2 / total, 0.97 * panel / width, height / total)
            axes = figure.add_axes(place)
            draw_pose(axes, clip, frame, extent)
            axes.set_title(f"frame {frame + 1}", fontsize=9)
        axes = figure.add_axes((0, 0, 1, 4.9 / total))
        _draw_named(axes, clip, _fullest(clip, frames))


def draw_moving(clip: View, path: Path) -> None:
    """The clip as a GIF in its own time, beside one frame with all joint names."""
    from matplotlib.collections import LineCollection
    from PIL import Image

    frames = _chosen_frames(clip, _MOVING)
    with saved_figure(None, 8, 5, dpi=80) as figure:
        figure.text(0.5, 0.97, shortened(clip.title, 70), ha="center", va="center", fontsize=11)
        _draw_named(figure.add_axes((0, 0, 1, 0.9)), clip, _fullest(clip, frames))
        beside = _pixels(figure)
    pictures = []
    with saved_figure(None, 4.5, 5, dpi=80) as figure:  # apart, since drawing the names takes longest
        axes = figure.add_axes((0.01, 0.01, 0.98, 0.92))
        draw_pose(axes, clip, frames[0], extent_of(clip))
        lines = [artist for artist in axes.collections if isinstance(artist, LineCollection)]
        dots = [artist for artist in axes.collections if not isinstance(artist, LineCollection)]
        for frame in frames:
            for line, dot, points in zip(lines, dots, clip.points[frame, ..., :2], strict=True):
                line.set_segments(points[clip.bones])
                dot.set_offsets(points)
            axes.set_title(f"frame {frame + 1} of {len(clip.points)}", fontsize=9)
            pictures.append(Image.fromarray(np.concatenate([_pixels(figure), beside], axis=1)))
    wait = 1000 / clip.frame_rate * max(1, frames[-1] - frames[0] + 1) / len(frames)
    wait = max(20, 10 * round(wait / 10))  # the format counts in hundredths; browsers slow down what is under two
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=wait, loop=0)


def _pixels(figure: Figure) -> np.ndarray:
    """`[height, width, 3]` of what is drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)  # as `saved_figure` makes them
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def extent_of(clip: View) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of everything that is drawn, but for joints that jump away."""
    flat = clip.points[..., :2][np.isfinite(clip.points).all(axis=-1)]
    (left, bottom), (right, top) = _bounds(flat)
    middle, half = (left + right) / 2, max((right - left) / 2, 0.3)
    return middle - half - 0.08, middle + half + 0.08, bottom - 0.08, max(top, bottom + 0.3) + 0.08


def _bounds(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest coordinates of `points` `[n, C]`. A joint that jumps far away must not shrink the rest: no
    farther than a third beyond what nearly all points take up, which leaves room for hands that are rarely raised."""
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    room = (high - low) / 3
    return np.maximum(points.min(0), low - room), np.minimum(points.max(0), high + room)


def _fullest(clip: View, frames: np.ndarray) -> int:
    """The frame with the most joints of one body; of equals the one in the middle."""
    counts = np.isfinite(clip.points[frames, ..., 0]).sum(axis=-1).max(axis=-1)
    best = frames[counts == counts.max()]
    return int(best[len(best) // 2])


def _part_of_joint(layout: Layout) -> np.ndarray:
    """`[V]` number of the part of every joint."""
    part = np.zeros(layout.num_joints, int)
    for number, joints in enumerate(layout.part_index.values()):
        part[joints] = number
    return part


def draw_pose(axes: Axes, clip: View, frame: int, extent: tuple[float, float, float, float], width: float = 2) -> None:
    """Draw a frame's bodies into axes that show `extent`, as `extent_of` gives it."""
    from matplotlib.collections import LineCollection

    part = _part_of_joint(clip.layout)
    colours = np.array(_COLOURS)[part % len(_COLOURS)]
    for body, points in enumerate(clip.points[frame, ..., :2]):
        alpha = 1 if body == 0 else _FAINT
        lines = LineCollection(
            points[clip.bones],
            colors=colours[clip.bones[:, 0]],
            alpha=alpha,
            linewidths=width,
            capstyle="round",
            zorder=1,
        )
        axes.add_collection(lines, autolim=False)
        axes.scatter(points[:, 0], points[:, 1], s=3 * width**2, c=colours, alpha=alpha, linewidths=0, zorder=2)
    axes.set_xlim(*extent[:2])
    axes.set_ylim(*extent[2:])
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color("#dddddd")


def _draw_named(axes: Axes, clip: View, frame: int) -> None:
    """The body with the most joints in that frame, all of them named, and the parts' colours."""
    from matplotlib.lines import Line2D

    poses = clip.points[frame]
    pose = poses[np.isfinite(poses[..., 0]).sum(axis=-1).argmax()]
    there = np.isfinite(pose).all(axis=-1)
    low, high = pose[there, :2].min(axis=0), pose[there, :2].max(axis=0)
    square = 0.5 + (pose[:, :2] - (low + high) / 2) / max(float((high - low).max()), 1e-9)
    alone = View(np.concatenate([square, square[:, :1] * 0], axis=1)[None, None], clip.layout, clip.title, clip.facts)
    draw_pose(axes, alone, 0, (-0.9, 1.9, -0.06, 1.06), width=3)
    name_joints(axes, square, np.flatnonzero(there).tolist(), clip.layout.joints, first=0)
    handles = [
        Line2D([], [], color=_COLOURS[number % len(_COLOURS)], linewidth=3, label=shortened(part))
        for number, part in enumerate(clip.layout.parts)
    ]
    axes.legend(handles=handles, loc="lower right", frameon=False, fontsize=8)
    axes.set_title(f"frame {frame + 1}, all joints", fontsize=9)
    axes.set_axis_off()


def write_page(clip: View, path: Path) -> None:
    """A page of its own on which the clip plays and can be turned, by pointer or keys."""
    layout = clip.layout
    step = -(-len(clip.points) // _TURNING)
    values: dict[str, Any] = {
        "joints": list(layout.joints),
        "parts": list(layout.parts),
        "part": _part_of_joint(layout).tolist(),
        "colours": [_COLOURS[number % len(_COLOURS)] for number in range(len(layout.parts))],
        "bones": clip.bones.tolist(),
        "frames": [[_points_or_none(body) for body in frame] for frame in clip.points[::step]],
        "step": step,
        "total": len(clip.points),
        "rate": clip.frame_rate,
        "flat": layout.dims == 2,
    }
    data = json.dumps(values, separators=(",", ":")).replace("<", "\\u003c")
    keys = "Space plays and pauses, comma and full stop go a frame back and on. Point at a joint, or move to its name."
    if layout.dims == 3:
        keys = f"Drag to turn the clip. With the picture in focus, the arrow keys turn it, {keys[0].lower()}{keys[1:]}"
    else:
        keys = f"With the picture in focus, {keys[0].lower()}{keys[1:]}"
    texts = {"title": clip.title, "facts": clip.facts, "help": keys}
    escaped = {name: html.escape(_text(text)) for name, text in texts.items()}
    page = Template(_PAGE.read_text(encoding="utf-8")).substitute(escaped, data=data)
    path.write_text(page, encoding="utf-8")


def _points_or_none(points: np.ndarray) -> list[list[int] | None]:
    """Points in thousandths; None where there is no joint."""
    return [[round(1000 * value) for value in point] if np.isfinite(point).all() else None for point in points.tolist()]


def _text(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)
