"""Figures of what a run confuses: the matrix, accuracy and difference by class, reliability.

Class names come from files and models. They are drawn as plain text, never as mathematics or TeX, and shortened.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..metrics import Bin
from .analysis import EASY_ABOVE, HARD_BELOW, ClassResult, Difference, confusion_groups, confusion_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision can tell apart
BLUE, ORANGE, RED = "#0072B2", "#E69F00", "#D55E00"
PALE_BLUE, PALE_RED = "#A9CCE3", "#F3C6A5"
INK, GREY = "#333333", "#999999"
_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Microsoft YaHei", "Arial Unicode MS")
_NAME_LENGTH = 32  # characters of a name before it is shortened
_NUMBERED_UP_TO = 25  # classes with which a heat map's cells hold numbers
_NAMED_UP_TO = 60  # classes with which a heat map's rows and columns hold names that can be read
_MOST_BARS = 60  # classes of a bar chart
_GROUPS = "ABCDEFGH"  # of confused classes, drawn large beside a matrix without names


def confusion_figure(matrix: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Heat map of a confusion matrix `[K, K]`: percent of each true class (row) taken for each class (column).

    Classes that are confused stand together (`analysis.confusion_order`). Beside a matrix too large for names, the
    groups with the most confusions are drawn large.
    """
    matrix, order = np.asarray(matrix), confusion_order(matrix)
    clips = matrix.sum(axis=1, keepdims=True)
    percent = np.divide(100 * matrix, clips, out=np.full(matrix.shape, np.nan), where=clips > 0)
    if len(classes) <= _NAMED_UP_TO:
        _draw_named_matrix(percent[np.ix_(order, order)], [classes[k] for k in order], path)
    else:
        groups = confusion_groups(matrix)[: len(_GROUPS)]
        _draw_large_matrix(percent, classes, order, groups, int(matrix.sum() - np.trace(matrix)), path)


def _draw_named_matrix(percent_KK: np.ndarray, classes: Sequence[str], path: Path) -> None:
    num_classes = len(classes)
    cell = 0.5 if num_classes <= _NUMBERED_UP_TO else 0.2  # inches
    side, margin = max(3.5, cell * num_classes), 2.6
    with saved_figure(path, side + margin + 1.6, side + margin, dpi=110) as figure:
        width, height = figure.get_size_inches()
        axes = figure.add_axes((margin / width, margin / height, side / width, (side - 0.4) / height))
        images = _draw_heat_map(axes, percent_KK, numbers=num_classes <= _NUMBERED_UP_TO)
        names = [shortened(name) for name in classes]
        axes.set_xticks(range(num_classes), labels=names, rotation=90, fontsize=9)
        axes.set_yticks(range(num_classes), labels=names, fontsize=9)
        axes.set_xlabel("predicted class", fontsize=11)
        axes.set_ylabel("true class", fontsize=11)
        axes.set_title("Confusions, percent of the true class's clips", fontsize=12)
        _add_bars(figure, images, (margin + side + 0.2) / width, margin / height, (side - 0.4) / height, 0.15 / width)


def _draw_large_matrix(
    percent_KK: np.ndarray,
    classes: Sequence[str],
    order: np.ndarray,
    groups: Sequence[np.ndarray],
    confused: int,
    path: Path,
) -> None:
    from matplotlib.patches import Rectangle

    dpi, num_classes = 100, len(classes)
    side = max(3, round(1000 / num_classes)) * num_classes / dpi  # whole pixels per cell
    left, bottom, top = 1.0, 0.6, 0.9
    panel, names, rows = 2.3, 2.5, -(-len(groups) // 2)
    width, height = left + side + 1.2 + 2 * (names + panel), bottom + side + top
    with saved_figure(path, width, height, dpi=dpi) as figure:
        axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
        images = _draw_heat_map(axes, percent_KK[np.ix_(order, order)], numbers=False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel("predicted class", fontsize=13)
        axes.set_ylabel("true class", fontsize=13)
        title = f"{confused} confusions of {num_classes} classes; those that are confused stand together"
        axes.set_title(title, fontsize=14, pad=10)
        place = np.argsort(order)
        for letter, members in zip(_GROUPS, groups, strict=False):
            first, last = place[members].min() - 0.5, place[members].max() + 0.5
            axes.add_patch(Rectangle((first, first), last - first, last - first, fill=False, color="black", lw=1.2))
            axes.annotate(
                letter,
                (last, first),
                xytext=(5, 5),
                textcoords="offset points",
                fontsize=13,
                fontweight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8},
            )
        _add_bars(figure, images, (left - 0.85) / width, bottom / height, side / height, 0.15 / width, "left")
        for number, (letter, members) in enumerate(zip(_GROUPS, groups, strict=False)):
            x = left + side + 0.5 + names + (number % 2) * (names + panel + 0.2)
            y = bottom + side - (number // 2 + 1) * (side / max(rows, 1)) + 0.35
            room = min(panel, side / max(rows, 1) - 0.75)
            part = figure.add_axes((x / width, y / height, room / width, room / height))
            _draw_heat_map(part, percent_KK[np.ix_(members, members)], numbers=True)
            labels = [f"{shortened(classes[k], 30)}  {i}" for i, k in enumerate(members, 1)]
            part.set_yticks(range(len(members)), labels=labels, fontsize=11)
            part.set_xticks(range(len(members)), labels=[str(i) for i in range(1, len(members) + 1)], fontsize=11)
            part.xaxis.tick_top()
            part.tick_params(length=0)
            part.set_title(letter, fontsize=13, fontweight="bold", loc="left", pad=4)


def _draw_heat_map(axes: Axes, percent_KK: np.ndarray, *, numbers: bool) -> tuple[ScalarMappable, ScalarMappable]:
    """Draws what is right in blue and what is confused, on its own steeper scale, from orange to brown."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, PowerNorm

    num_classes = len(percent_KK)
    # the square root of the share: a confusion of 2 % is visible beside a diagonal of 95 %
    wrong = ListedColormap(colormaps["YlOrBr"](np.linspace(0.3, 1, 256))).with_extremes(under="white", bad="#dddddd")
    right = ListedColormap(colormaps["Blues"](np.linspace(0.05, 0.9, 256)))
    shown = np.where(percent_KK == 0, -1.0, percent_KK)
    np.fill_diagonal(shown, np.where(np.isnan(np.diag(percent_KK)), np.nan, -1.0))
    diagonal = np.full(shown.shape, np.nan)
    np.fill_diagonal(diagonal, np.diag(percent_KK))
    scale = PowerNorm(0.5, 0, 50, clip=False)
    images = (
        axes.imshow(diagonal, cmap=right, norm=PowerNorm(1, 0, 100), aspect="auto", interpolation="nearest", zorder=2),
        axes.imshow(shown, cmap=wrong, norm=scale, aspect="auto", interpolation="nearest", zorder=1),
    )
    axes.tick_params(length=0)
    if num_classes <= 150:
        lines = np.arange(num_classes + 1) - 0.5
        axes.vlines(lines, *lines[[0, -1]], color="#e5e5e5", linewidth=0.4, zorder=3)
        axes.hlines(lines, *lines[[0, -1]], color="#e5e5e5", linewidth=0.4, zorder=3)
    if numbers:
        for row, column in zip(*np.nonzero(np.nan_to_num(percent_KK)), strict=True):
            value = percent_KK[row, column]
            dark = value > (60 if row == column else 20)
            text = "<1" if value < 0.5 else f"{value:.0f}"
            colour = "white" if dark else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour, zorder=4)
    return images


def _add_bars(
    figure: Figure,
    images: tuple[ScalarMappable, ScalarMappable],
    x: float,
    y: float,
    height: float,
    width: float,
    side: Literal["left", "right"] = "right",
) -> None:
    for image, text, at, ticks in zip(
        images,
        ("right, %", "taken for another, %"),
        (y + 0.55 * height, y),
        ((0, 25, 50, 75, 100), (0, 1, 5, 10, 25, 50)),
        strict=True,
    ):
        bar = figure.colorbar(image, cax=figure.add_axes((x, at, width, 0.42 * height)), ticks=ticks)
        bar.ax.yaxis.set_ticks_position(side)
        bar.ax.yaxis.set_label_position(side)
        bar.set_label(text, fontsize=9)


def class_accuracy_figure(results: Sequence[ClassResult], path: Path) -> None:
    """Accuracy of every class with its 95 % interval, worst first; of many classes, of the worst.

    Classes with no clip are left out.
    """
    from matplotlib.patches import Patch

    rows = sorted((row for row in results if row.accuracy is not None), key=attrgetter("accuracy"))
    shown = rows[:_MOST_BARS][::-1]  # from the bottom up
    title = "Accuracy of every class, with 95 % interval"
    if len(rows) > len(shown):
        others = np.array([row.accuracy for row in rows[len(shown) :]])
        title = (
            f"Accuracy of the {len(shown)} worst of {len(rows)} classes, with 95 % interval\n"
            f"(the {len(others)} others: {others.min():.0f} % or better, {others.mean():.0f} % on average)"
        )
    colours = {
        f"hard: below {HARD_BELOW:.0f} %": RED,
        f"medium: {HARD_BELOW:.0f} to {EASY_ABOVE:.0f} %": ORANGE,
        f"easy: above {EASY_ABOVE:.0f} %": BLUE,
    }
    hard, medium, easy = colours.values()
    with _bars(path, [f"{shortened(row.name)}  ({row.n})" for row in shown], title) as axes:
        percent = np.array([row.accuracy for row in shown])
        interval = np.array([[row.low, row.high] for row in shown]).reshape(-1, 2)
        bars = [hard if value < HARD_BELOW else easy if value > EASY_ABOVE else medium for value in percent]
        axes.barh(range(len(bars)), percent, 0.7, color=bars)
        _draw_intervals(axes, interval)
        axes.set_xlim(0, 100)
        axes.set_xlabel("accuracy in percent (number of clips)")
        handles = [Patch(color=colour, label=label) for label, colour in colours.items()]
        axes.legend(handles=handles, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=9)


def difference_figure(differences: Sequence[Difference], path: Path, reference: str = "the reference") -> None:
    """What every class gains or loses against a reference, with 95 % interval, greatest gain first (Fig. 4c).

    Classes that differ by no more than noise are pale. Of many classes, those that gain and lose most.
    """
    from matplotlib.patches import Patch

    rows = sorted(differences, key=lambda row: (row.difference, -row.n))
    better, worse = (sum(row.clear and row.difference * sign > 0 for row in rows) for sign in (1, -1))
    title = (
        f"Accuracy minus that of {shortened(reference, 40)}, by class:\n"
        f"{better} clearly better, {worse} clearly worse, {len(rows) - better - worse} within noise"
    )
    shown = rows
    if len(rows) > _MOST_BARS:
        shown = rows[: _MOST_BARS // 2] + rows[-(_MOST_BARS // 2) :]
        title += f" (shown: the {_MOST_BARS // 2} that gain and the {_MOST_BARS // 2} that lose most)"
    legend = {
        "clearly better": BLUE,
        "better, maybe noise": PALE_BLUE,
        "clearly worse": RED,
        "worse, maybe noise": PALE_RED,
    }
    with _bars(path, [f"{shortened(row.name or 'all')}  ({row.n})" for row in shown], title) as axes:
        values = np.array([row.difference for row in shown])
        interval = np.array([[row.low, row.high] for row in shown]).reshape(-1, 2)
        colours = [
            (BLUE if row.clear else PALE_BLUE) if row.difference >= 0 else (RED if row.clear else PALE_RED)
            for row in shown
        ]
        axes.barh(range(len(shown)), values, 0.7, color=colours)
        _draw_intervals(axes, interval)
        reach = max(5.0, 1.05 * np.abs(interval).max(initial=0))
        for i, row in enumerate(shown):
            text = f"{row.difference:+.1f}  ({row.reference:.0f} to {row.accuracy:.0f})"
            axes.text(1.02 * reach, i, text, va="center", fontsize=8, fontweight="bold" if row.clear else "normal")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlim(-reach, reach)
        axes.set_xlabel("percentage points (number of clips)")
        handles = [Patch(color=colour, label=label) for label, colour in legend.items()]
        axes.legend(handles=handles, ncols=4, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=9)


def stress_figure(rows: Sequence[tuple[str, float, float, float]], path: Path) -> None:
    """Top-1 in percent with its interval, (meaning, top-1, low, high) a row: the clean clips, and each corruption."""
    rows = rows[::-1]
    with _bars(path, [meaning for meaning, *_ in rows], "Accuracy on test clips that were made worse") as axes:
        top1 = [row[1] for row in rows]
        axes.barh(range(len(rows)), top1, 0.7, color=[*[BLUE] * (len(rows) - 1), GREY])
        _draw_intervals(axes, np.array([row[2:] for row in rows]))
        axes.axvline(top1[-1], color=INK, linewidth=0.8, linestyle="--")
        for i, value in enumerate(top1):
            axes.text(101, i, f"{value:.1f}", va="center", fontsize=8)
        axes.set_xlim(0, 100)
        axes.set_xlabel("top-1 accuracy in percent (dashed: on the clips as they are)")


@contextmanager
def _bars(path: Path, names: Sequence[str], title: str) -> Iterator[Axes]:
    """Axes for horizontal bars with these names, from the bottom up."""
    with saved_figure(path, 10, 1.8 + 0.21 * max(len(names), 3), dpi=110) as figure:
        axes = figure.add_subplot()
        yield axes
        axes.set_yticks(range(len(names)), labels=names, fontsize=9)
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.tick_params(axis="y", length=0)
        axes.set_axisbelow(True)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.set_title(title, fontsize=11, loc="left", pad=24)


def _draw_intervals(axes: Axes, interval_K2: np.ndarray) -> None:
    for colour, width in (("white", 2.6), (INK, 1.2)):  # to be seen on bars and beside them
        axes.hlines(range(len(interval_K2)), *interval_K2.T, color=colour, linewidth=width)


def reliability_figure(curve: Sequence[Bin], error: float, by_chance: float, path: Path) -> None:
    """Accuracy by confidence with 95 % intervals, and how many clips have it (a reliability diagram; DeGroot and
    Fienberg 1983). `error` is the expected calibration error, `by_chance` what chance alone gives (percent)."""
    found = [part for part in curve if part.n]
    sure, right = np.array([part.confidence for part in found]), np.array([part.accuracy for part in found])
    interval = np.array([[part.accuracy_low, part.accuracy_high] for part in found]).reshape(-1, 2)
    total = sum(part.n for part in found)
    mean_sure, mean_right = (
        sum(part.n * v for part, v in zip(found, values, strict=True)) / total for values in (sure, right)
    )
    if error <= by_chance:
        verdict = f"no more than chance gives {total} clips ({by_chance:.1f} %)"
    else:
        verdict = (
            f"{'too sure' if mean_sure > mean_right else 'not sure enough'}; chance alone gives up to {by_chance:.1f} %"
        )
    with saved_figure(path, 6.2, 6.6, dpi=110) as figure:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        axes.plot([0, 100], [0, 100], color=GREY, linewidth=1.2, linestyle="--")
        axes.text(3, 6, "calibrated", rotation=42, color="#666666", fontsize=9)
        axes.vlines(sure, interval[:, 0], interval[:, 1], color=BLUE, linewidth=1.2)
        axes.plot(sure, right, color=BLUE, marker="o", markersize=6, linewidth=1.2)
        axes.set_ylim(0, 103)
        axes.set_ylabel("accuracy in percent, with 95 % interval")
        axes.set_title(f"Expected calibration error {error:.1f} %:\n{verdict}", fontsize=11, loc="left")
        below.bar(
            [part.low for part in curve],
            [part.n for part in curve],
            [part.high - part.low for part in curve],
            align="edge",
            color=PALE_BLUE,
            edgecolor="white",
        )
        below.set_ylabel("clips")
        below.set_xlabel("confidence: probability of the predicted class, in percent")
        below.set_xlim(0, 100)
        for part in (axes, below):
            part.grid(color="#dddddd", linewidth=0.6)
            part.set_axisbelow(True)
            for side in ("top", "right"):
                part.spines[side].set_visible(False)
        figure.align_ylabels()


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


def name_joints(axes: Axes, points_V2: np.ndarray, joints: Sequence[int], names: Sequence[str], first: int = 1) -> None:
    """Names in a column on the nearer side, from top to bottom as the joints lie, each with a line to its joint and its
    number, counted from `first`."""
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
                f"{i + first} {shortened(names[i])}",
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
