"""Figures of a codebook: its use against Zipf's law, its codes as moving skeletons, and the words of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...results.drawing import View, draw_pose, extent_of
from ...results.figures import INK, ORANGE, saved_figure, shortened
from .losses import ZIPF_SHIFT

_FRAMES = 4  # of a code that are drawn
_COLUMNS = 2


def use_figure(shares: np.ndarray, path: Path) -> None:
    """Shares of tokens by the codes' rank `[U]`, the commonest first, and what Zipf's law has there."""
    ranks = np.arange(1, len(shares) + 1)
    law = 1 / (ranks + ZIPF_SHIFT)
    law = law / law.sum()
    with saved_figure(path, 6.4, 4.2, dpi=110) as figure:
        axes = figure.add_subplot()
        used = shares > 0
        axes.plot(ranks, 100 * law, color=ORANGE, linewidth=2, label="Zipf's law, 1 / (rank + 2.7)")
        axes.plot(
            ranks[used], 100 * shares[used], "o", color=INK, markersize=3, label=f"{used.sum()} of {len(shares)} codes"
        )
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.set_xlabel("rank of the code")
        axes.set_ylabel("% of tokens")
        axes.set_title("Use of the codes of training clips", fontsize=12)
        axes.legend(frameon=False)
        axes.grid(color="#dddddd", linewidth=0.6)


def codes_figure(views: Sequence[View], path: Path) -> None:
    """Some frames of every code, the commonest code first."""
    if not views:
        return
    rows = -(-len(views) // _COLUMNS)
    with saved_figure(path, _COLUMNS * (_FRAMES + 0.4) * 1.1, rows * 1.75, dpi=110) as figure:
        grid = figure.add_gridspec(rows, _COLUMNS * (_FRAMES + 1), wspace=0.05, hspace=0.35)
        for at, view in enumerate(views):
            extent = extent_of(view)
            frames = np.linspace(0, len(view.points) - 1, _FRAMES).round().astype(int)
            for place, frame in enumerate(frames):
                axes = figure.add_subplot(grid[at // _COLUMNS, at % _COLUMNS * (_FRAMES + 1) + place])
                draw_pose(axes, view, int(frame), extent, width=1.3)
                if not place:
                    axes.set_title(f"{view.title}, {view.facts}", fontsize=8, loc="left")


def words_figure(
    counts: np.ndarray, classes: Sequence[str], words: Sequence[Sequence[dict[str, Any]]], path: Path, most: int = 40
) -> None:
    """How large a share of each class's tokens the telling codes have, of counts `[K, U]`."""
    chosen = list(dict.fromkeys(word["code"] for own in words for word in own[:3]))[:most]
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    with saved_figure(path, 2.2 + 0.28 * max(len(chosen), 8), 1.4 + 0.3 * len(classes), dpi=110) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(share[:, chosen], cmap="Blues", vmin=0, aspect="auto")
        axes.set_xticks(range(len(chosen)), labels=[str(code) for code in chosen], fontsize=8, rotation=90)
        axes.set_yticks(range(len(classes)), labels=[shortened(name, 24) for name in classes], fontsize=9)
        axes.set_xlabel("code")
        axes.set_title("Action words of classes", fontsize=12)
        figure.colorbar(image).set_label("% of the class's tokens", fontsize=9)
