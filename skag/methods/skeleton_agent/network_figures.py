"""Figures of what a network has learned: its graph of joints, its embeddings beside the sentences, critical joints.

Names of classes and joints are drawn as plain text and shortened, as in `figures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...results.analysis import nearest_is_own
from ...results.figures import INK, ORANGE, saved_figure, shortened
from ...skeleton.layouts import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .refreshes import Snapshot

# Okabe and Ito's colours with a marker each, so that ten classes can be told apart with any colour vision
_SIGNS = (
    ("#0072B2", "o"), ("#E69F00", "o"), ("#009E73", "o"), ("#CC79A7", "o"), ("#56B4E9", "o"),
    ("#D55E00", "^"), ("#000000", "^"), ("#0072B2", "^"), ("#E69F00", "^"), ("#009E73", "^"),
)  # fmt: skip
_MOST_POINTS = 500  # clips of a t-SNE; more take minutes and hide one another
MOST_BODIES = 60  # classes whose critical joints are drawn
_MOST_NAMED = 40  # joints of a layout that are named


def topology_figure(graphs: np.ndarray, joints: Sequence[str], path: Path) -> None:
    """Learned topology (the paper's Fig. 6): the graphs `[B, V, V]` of all blocks, each the mean over its subsets
    (`confusion.learned_topology`), small, and their mean, large. Rows give to columns."""
    from matplotlib.colors import CenteredNorm

    num_blocks, num_joints = len(graphs), len(joints)
    mean = graphs.mean(axis=0)
    side, margin, small = max(3.5, 0.23 * num_joints), 1.9, 1.15
    named = num_joints <= _MOST_NAMED
    columns = -(-num_blocks // 3)
    with saved_figure(path, margin + side + 1.4 + columns * (small + 0.1), margin + side + 0.5, dpi=110) as figure:
        width, height = figure.get_size_inches()
        axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
        image = axes.imshow(mean, cmap="PuOr_r", norm=CenteredNorm(float(mean.mean())), interpolation="nearest")
        ticks, labels = range(num_joints), [shortened(name, 20) for name in joints]
        if not named:
            ticks, labels = range(0, num_joints, 5), [str(v + 1) for v in range(0, num_joints, 5)]
        axes.set_xticks(ticks, labels=labels, rotation=90, fontsize=9)
        axes.set_yticks(ticks, labels=labels, fontsize=9)
        axes.set_xlabel("to joint")
        axes.set_ylabel("from joint")
        axes.set_title(f"Learned graph of the joints, mean of {num_blocks} blocks", fontsize=12)
        bar = figure.add_axes(((margin + side + 0.15) / width, margin / height, 0.15 / width, side / height))
        figure.colorbar(image, cax=bar).set_label("weight (white: their mean)", fontsize=9)
        centre = float(graphs.mean())
        reach = float(np.abs(graphs - centre).max()) or 1.0
        for number, graph in enumerate(graphs):
            x = margin + side + 1.2 + (number // 3) * (small + 0.1)
            y = margin + side - (number % 3 + 1) * (small + 0.25) + 0.05
            part = figure.add_axes((x / width, y / height, small / width, small / height))
            part.imshow(graph, cmap="PuOr_r", norm=CenteredNorm(centre, reach), interpolation="nearest")
            part.set_xticks([])
            part.set_yticks([])
            part.set_title(f"block {number + 1}", fontsize=8, pad=2)


def embedding_figure(
    snapshots: Sequence[Snapshot], classes: Sequence[str], shown: Sequence[int], path: Path, seed: int = 0
) -> None:
    """Clip embeddings beside their classes' sentences over epochs (the paper's Fig. 5), by t-SNE of their directions.

    `shown`: up to ten classes in colour, with their sentences as numbered stars; other clips are grey. Each picture
    starts from the one before, so that what has not moved stays where it is.
    """
    from matplotlib.lines import Line2D

    shown = list(shown)[: len(_SIGNS)]
    clips = _clips_to_draw(snapshots, shown, seed)
    points = _embedded(snapshots, clips, seed)
    with saved_figure(path, max(4.1 * len(snapshots) + 0.2, 8), 5.4, dpi=110) as figure:
        for number, (snapshot, points_P2) in enumerate(zip(snapshots, points, strict=True)):
            axes = figure.add_axes(((number + 0.02) / len(snapshots), 0.17, 0.96 / len(snapshots), 0.68))
            labels = snapshot.clip_labels[clips]
            spots, stars = points_P2[: len(clips)], points_P2[len(clips) :]
            others = ~np.isin(labels, shown)
            axes.scatter(*spots[others].T, s=9, color="#cccccc", linewidths=0)
            for k, (colour, marker) in zip(shown, _SIGNS, strict=False):
                axes.scatter(*spots[labels == k].T, s=22, color=colour, marker=marker, linewidths=0, alpha=0.75)
            for i, (k, (colour, _)) in enumerate(zip(shown, _SIGNS, strict=False), 1):
                axes.scatter(*stars[k], s=230, color=colour, marker="*", edgecolors="white", linewidths=1, zorder=3)
                axes.annotate(
                    str(i),
                    stars[k],
                    xytext=(9, 6),
                    textcoords="offset points",
                    fontsize=10,
                    fontweight="bold",
                    color=INK,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.75},
                    zorder=4,
                )
            when = "before training" if snapshot.epoch == 0 else f"epoch {snapshot.epoch}"
            share = nearest_is_own(snapshot.clip_embeddings, snapshot.clip_labels, snapshot.text_before)
            axes.set_title(f"{when}: {share:.0f} % of clips nearest\ntheir own sentence", fontsize=11)
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_color("#dddddd")
        handles = [
            Line2D([], [], color=colour, marker=marker, linewidth=0, label=f"{i} {shortened(classes[k], 28)}")
            for i, (k, (colour, marker)) in enumerate(zip(shown, _SIGNS, strict=False), 1)
        ]
        if len(shown) < len(classes):
            handles.append(Line2D([], [], color="#cccccc", marker="o", linewidth=0, label="other classes"))
        handles.append(Line2D([], [], color=INK, marker="*", markersize=13, linewidth=0, label="sentence of a class"))
        figure.legend(handles=handles, ncols=4, loc="lower center", frameon=False, fontsize=9)
        figure.suptitle("Embeddings of clips and of their classes' sentences (t-SNE)", fontsize=13)


def _clips_to_draw(snapshots: Sequence[Snapshot], shown: Sequence[int], seed: int) -> np.ndarray:
    """Numbers of the clips drawn: those of the classes shown first, up to `_MOST_POINTS`."""
    labels = snapshots[-1].clip_labels
    count = min(len(snapshot.clip_labels) for snapshot in snapshots)
    mixed = np.random.default_rng(seed).permutation(count)
    mixed = np.concatenate([mixed[np.isin(labels[mixed], shown)], mixed[~np.isin(labels[mixed], shown)]])
    return np.sort(mixed[:_MOST_POINTS])


def _embedded(snapshots: Sequence[Snapshot], clips: np.ndarray, seed: int) -> list[np.ndarray]:
    """Per snapshot `[P + K, 2]`: where the clips drawn lie, then the sentences."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    found: list[np.ndarray] = []
    for snapshot in snapshots:
        vectors = np.concatenate([snapshot.clip_embeddings[clips].astype(np.float32), snapshot.text_before])
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        perplexity = max(1.0, min(30.0, (len(vectors) - 1) / 4))
        start = found[-1] / max(float(found[-1].std()), 1e-12) * 1e-4 if found else "pca"
        tsne = TSNE(2, perplexity=perplexity, init=start, max_iter=500, random_state=seed)
        with threadpool_limits(1):  # so few points take seconds in one thread, minutes in threads that wait for a core
            found.append(tsne.fit_transform(vectors))
    return found


def critical_joints_figure(
    layout: Layout,
    classes: Sequence[str],
    mask_KV: np.ndarray,
    poses_KVC: np.ndarray,
    path: Path,
    total: int | None = None,
) -> None:
    """A pose of every class seen from the sensor, its critical joints (where the mask is not 0) marked.

    At most `MOST_BODIES` classes are drawn, of `total` in the label set. Joints whose coordinates are not finite are
    left out. A first, larger body names the joints.
    """
    num_classes, total = min(len(classes), MOST_BODIES), total or len(classes)
    columns = min(max(4, int(np.ceil(np.sqrt(1.8 * num_classes)))), num_classes)
    rows = -(-num_classes // columns)
    cell, key = 1.75, 6.2  # inches
    tall = max(rows * (cell + 0.3), 4.4)
    with saved_figure(path, key + columns * cell, tall + 0.7, dpi=100) as figure:
        width, height = figure.get_size_inches()
        shown = "" if num_classes == total else f" of the {num_classes} most confused of {total} classes"
        title = f"Critical joints{shown}, by the dialogue"
        figure.text(0.5, 1 - 0.25 / height, title, ha="center", va="center", fontsize=13)
        axes = figure.add_axes((0, (tall - 4.4) / height, key / width, 4.3 / height))
        square = _in_unit_square(_seen(layout, poses_KVC[_widest(layout, poses_KVC)]))
        _draw_body(axes, layout, square, np.zeros(layout.num_joints))
        there = np.flatnonzero(np.isfinite(square).all(axis=1)).tolist()
        name_joints(axes, square, there if len(there) <= _MOST_NAMED else [], layout.joints)
        axes.set_xlim(-0.9, 1.9)
        for k in range(num_classes):
            row, column = divmod(k, columns)
            x, y = key + column * cell, tall - (row + 1) * (cell + 0.3)
            part = figure.add_axes((x / width, y / height, cell / width, cell / height))
            _draw_body(part, layout, _in_unit_square(_seen(layout, poses_KVC[k])), mask_KV[k])
            part.set_title(shortened(classes[k], 22), fontsize=9, pad=2)


def _widest(layout: Layout, poses_KVC: np.ndarray) -> int:
    """The upright body that shows the most joints and of these is widest: it is seen from the front."""

    def look(pose_VC: np.ndarray) -> tuple[int, float]:
        points = _seen(layout, pose_VC)
        there = points[np.isfinite(points).all(axis=1)]
        if len(there) < 2:
            return 0, 0.0
        across, up = np.ptp(there, axis=0)
        return len(there), float(across / up) if up > 2 * across else 0.0

    return max(range(len(poses_KVC)), key=lambda k: look(poses_KVC[k]))


def _seen(layout: Layout, pose_VC: np.ndarray) -> np.ndarray:
    """`[V, 2]` across and up."""
    axis, sign = layout.up_axis
    return np.stack([pose_VC[:, 1 if axis == 0 else 0], sign * pose_VC[:, axis]], axis=1).astype(float)


def _draw_body(axes: Axes, layout: Layout, points_V2: np.ndarray, mask_V: np.ndarray) -> None:
    from matplotlib.collections import LineCollection

    ends = [[points_V2[layout.index[joint]] for joint in bone] for bone in layout.bones.items()]
    axes.add_collection(LineCollection(ends, colors="#bbbbbb", linewidths=2.5, capstyle="round", zorder=1))
    axes.scatter(*points_V2.T, s=12, color="#777777", zorder=2)
    marks = points_V2[np.flatnonzero(mask_V)]
    axes.scatter(*marks.T, s=70, color=ORANGE, edgecolors="black", linewidths=1, zorder=3)
    axes.set_xlim(-0.06, 1.06)
    axes.set_ylim(-0.06, 1.06)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _in_unit_square(points_V2: np.ndarray) -> np.ndarray:
    """The same drawing, moved and scaled into the unit square; what is not finite stays so."""
    finite = points_V2[np.isfinite(points_V2).all(axis=1)]
    if not len(finite):
        return points_V2
    low, high = finite.min(axis=0), finite.max(axis=0)
    return 0.5 + (points_V2 - (low + high) / 2) / max(*(high - low), 1e-9)


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
