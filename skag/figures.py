"""Figures for reports: confusions as a heat map, accuracy by class, critical joints on a skeleton.

Class names come from files and models. They are drawn as plain text, never as mathematics or TeX, and shortened.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .analysis import EASY_ABOVE, HARD_BELOW, ClassResult
from .layouts import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision can tell apart
_BLUE, _ORANGE, _RED = "#0072B2", "#E69F00", "#D55E00"
_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Microsoft YaHei", "Arial Unicode MS")
_NAME_LENGTH = 32  # characters of a name before it is shortened
_NUMBERED_UP_TO = 20  # classes with which a heat map's cells hold numbers


def confusion_figure(matrix: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Heat map of a confusion matrix `[K, K]`: percent of each true class (row) taken for each class (column)."""
    num_classes = len(classes)
    clips = matrix.sum(axis=1, keepdims=True)
    percent = np.divide(100 * matrix, clips, out=np.full(matrix.shape, np.nan), where=clips > 0)
    cell = 0.5 if num_classes <= _NUMBERED_UP_TO else 0.17 if num_classes <= 150 else 0.1  # inches
    side, margin = max(3.5, cell * num_classes), 2.6
    with saved_figure(path, side + margin + 0.9, side + margin, dpi=120 if num_classes <= 150 else 100) as figure:
        width, height = figure.get_size_inches()
        axes = figure.add_axes((margin / width, margin / height, side / width, (side - 0.4) / height))
        _draw_heat_map(axes, percent)
        size = 9 if num_classes <= _NUMBERED_UP_TO else 7 if num_classes <= 150 else 5
        names = [shortened(name) for name in classes]
        axes.set_xticks(range(num_classes), labels=names, rotation=90, fontsize=size)
        axes.set_yticks(range(num_classes), labels=names, fontsize=size)
        axes.tick_params(length=0)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.set_title("Confusions, percent of the true class's clips", fontsize=11)
        bar = figure.add_axes(((margin + side + 0.2) / width, margin / height, 0.15 / width, (side - 0.4) / height))
        figure.colorbar(axes.images[0], cax=bar, ticks=[0, 1, 5, 10, 25, 50, 75, 100])


def _draw_heat_map(axes: Axes, percent_KK: np.ndarray) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    num_classes = len(percent_KK)
    colours = colormaps["Blues"].with_extremes(bad="#dddddd")  # grey: no clip of that class
    # the square root of the share: a confusion of 2 % is visible beside a diagonal of 95 %
    axes.imshow(percent_KK, cmap=colours, norm=PowerNorm(0.5, 0, 100), aspect="auto", interpolation="nearest")
    lines = np.arange(num_classes + 1) - 0.5
    axes.vlines(lines, *lines[[0, -1]], color="#e5e5e5", linewidth=0.4)
    axes.hlines(lines, *lines[[0, -1]], color="#e5e5e5", linewidth=0.4)
    if num_classes <= _NUMBERED_UP_TO:
        for row, column in zip(*np.nonzero(np.nan_to_num(percent_KK)), strict=True):
            value = percent_KK[row, column]
            text = "<1" if value < 0.5 else f"{value:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if value > 40 else "black")


def class_accuracy_figure(
    results: Sequence[ClassResult], path: Path, reference: Sequence[ClassResult] | None = None
) -> None:
    """Accuracy of every class with its 95 % interval, best first.

    With a reference run's results for the same classes: the difference to it (the paper's Fig. 4c), greatest gain
    first. Classes with no clip are left out.
    """
    judges = results if reference is None else reference
    rows = [
        (result, result.accuracy, judge.accuracy)
        for result, judge in zip(results, judges, strict=True)
        if result.accuracy is not None and judge.accuracy is not None
    ]
    rows.sort(key=lambda row: row[1] if reference is None else row[1] - row[2])
    with saved_figure(path, 8.5, 1.3 + 0.2 * max(len(rows), 3), dpi=130) as figure:
        axes = figure.add_subplot()
        own, before = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
        if reference is None:
            _draw_accuracies(axes, own, np.array([[row[0].low, row[0].high] for row in rows]).reshape(-1, 2))
        else:
            _draw_differences(axes, own, before)
        names = [f"{shortened(result.name)}  ({result.n})" for result, _, _ in rows]
        axes.set_yticks(range(len(rows)), labels=names, fontsize=8)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.tick_params(axis="y", length=0)
        axes.set_axisbelow(True)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        figure.tight_layout()


def _draw_accuracies(axes: Axes, percent_K: np.ndarray, interval_K2: np.ndarray) -> None:
    from matplotlib.patches import Patch

    colours = {
        f"below {HARD_BELOW:.0f} %": _RED,
        f"{HARD_BELOW:.0f} to {EASY_ABOVE:.0f} %": _ORANGE,
        f"above {EASY_ABOVE:.0f} %": _BLUE,
    }
    hard, medium, easy = colours.values()
    bars = [hard if value < HARD_BELOW else easy if value > EASY_ABOVE else medium for value in percent_K]
    errors = np.abs(interval_K2.T - percent_K)
    axes.barh(range(len(bars)), percent_K, 0.7, color=bars, xerr=errors, error_kw={"lw": 0.9, "ecolor": "#333333"})
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy in percent, with 95 % interval (number of clips)")
    handles = [Patch(color=colour, label=label) for label, colour in colours.items()]
    axes.legend(handles=handles, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8)


def _draw_differences(axes: Axes, own_K: np.ndarray, before_K: np.ndarray) -> None:
    values = own_K - before_K
    axes.barh(range(len(values)), values, 0.7, color=[_BLUE if value >= 0 else _RED for value in values])
    reach = max(5.0, 1.45 * np.abs(values).max(initial=0))
    for i, (value, before, own) in enumerate(zip(values, before_K, own_K, strict=True)):
        text = f"{value:+.1f}  ({before:.0f} to {own:.0f})"
        offset = reach / 80 if value >= 0 else -reach / 80
        axes.text(value + offset, i, text, va="center", ha="left" if value >= 0 else "right", fontsize=7)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlim(-reach, reach)
    axes.set_xlabel("accuracy minus the reference's, in percentage points (number of clips)")


def critical_joints_figure(
    layout: Layout, mask_V: np.ndarray, pose_VC: np.ndarray, path: Path, title: str = ""
) -> None:
    """One pose seen from the sensor, bones in grey, its critical joints (where the mask is not 0) marked and named.

    Joints whose coordinates are not finite are left out.
    """
    axis, sign = layout.up_axis
    across = 1 if axis == 0 else 0
    points = _in_unit_square(np.stack([pose_VC[:, across], sign * pose_VC[:, axis]], axis=1).astype(float))
    critical = [i for i in np.flatnonzero(mask_V).tolist() if np.isfinite(points[i]).all()]
    with saved_figure(path, 9, 5, dpi=130) as figure:
        axes = figure.add_axes((0, 0, 1, 0.93))
        for child, parent in layout.bones.items():
            ends = points[[layout.index[child], layout.index[parent]]]
            axes.plot(*ends.T, color="#bbbbbb", linewidth=3, solid_capstyle="round", zorder=1)
        axes.scatter(points[:, 0], points[:, 1], s=22, color="#777777", zorder=2)
        marks = points[critical]
        axes.scatter(marks[:, 0], marks[:, 1], s=90, color=_ORANGE, edgecolors="black", linewidths=1, zorder=3)
        name_joints(axes, points, critical, layout.joints)
        axes.set_xlim(-0.65, 1.65)
        axes.set_ylim(-0.06, 1.06)
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.set_title(shortened(title, 70), fontsize=12)


def _in_unit_square(points_V2: np.ndarray) -> np.ndarray:
    """The same drawing, moved and scaled into the unit square; what is not finite stays so."""
    finite = points_V2[np.isfinite(points_V2).all(axis=1)]
    if not len(finite):
        return points_V2
    low, high = finite.min(axis=0), finite.max(axis=0)
    return 0.5 + (points_V2 - (low + high) / 2) / max(*(high - low), 1e-9)


def name_joints(axes: Axes, points_V2: np.ndarray, joints: Sequence[int], names: Sequence[str]) -> None:
    """Names in a column on the nearer side, from top to bottom as the joints lie, each with a line to its joint."""
    if not len(joints):
        return
    across_V = points_V2[np.isfinite(points_V2).all(axis=1), 0]
    middle = np.median(points_V2[joints, 0]) if len(joints) > 1 else 0.5
    for side, x in ((-1, across_V.min() - 0.1), (1, across_V.max() + 0.1)):
        members = [i for i in joints if (points_V2[i, 0] > middle) == (side > 0)]
        members.sort(key=lambda i: -points_V2[i, 1])
        heights = _spread([points_V2[i, 1] for i in members], gap=min(0.065, 1 / max(len(members), 1)))
        for i, y in zip(members, heights, strict=True):
            axes.annotate(
                f"{i + 1} {shortened(names[i])}",
                xy=points_V2[i],
                xytext=(x, y),
                ha="right" if side < 0 else "left",
                va="center",
                fontsize=10,
                arrowprops={"arrowstyle": "-", "color": "#555555", "linewidth": 0.8, "shrinkB": 5},
            )


def _spread(heights: Sequence[float], gap: float) -> np.ndarray:
    """Falling heights, moved as little as need be so that each lies at least `gap` below the one before."""
    steps = gap * np.arange(len(heights))
    levels = [[height, 1] for height in np.asarray(heights) + steps]  # runs of equal level: mean and length
    merged: list[list[float]] = []
    for level, count in levels:
        merged.append([level, count])
        while len(merged) > 1 and merged[-1][0] > merged[-2][0]:  # least squares by pooling adjacent violators
            last, n = merged.pop()
            before, m = merged[-1]
            merged[-1] = [(before * m + last * n) / (m + n), m + n]
    return np.concatenate([np.full(n, level) for level, n in merged] or [[]]) - steps


@contextmanager
def saved_figure(path: Path | None, width: float, height: float, dpi: int) -> Iterator[Figure]:
    """A figure of that size in inches, saved to `path` (where there is one) when the block ends.

    Text is never mathematics or TeX.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import get_font_names

    fonts = [font for font in _FONTS if font in get_font_names()]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the user's own settings may ask for TeX
        matplotlib.rcParams.update({"font.family": fonts, "text.usetex": False, "text.parse_math": False})
        figure = Figure(figsize=(width, height), dpi=dpi)
        FigureCanvasAgg(figure)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands for it
            yield figure
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(path, bbox_inches="tight", pad_inches=0.15)


def shortened(name: str, length: int = _NAME_LENGTH) -> str:
    """A name as one printable line of at most `length` characters."""
    name = "".join(sign if sign.isprintable() else " " for sign in name)
    if len(name) <= length:
        return name
    tail = length // 3  # the middle goes: names of look-alike classes often differ at the end
    return f"{name[: length - tail - 1].rstrip()}…{name[-tail:].lstrip()}"
