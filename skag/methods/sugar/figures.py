"""SUGAR's figures: how alike the texts of classes are, and where clips lie before and after training.

Names of classes are drawn as plain text and shortened, as in `results.figures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...results.analysis import nearest_is_own
from ...results.figures import INK, saved_figure, shortened

_SIGNS = (
    ("#0072B2", "o"), ("#E69F00", "o"), ("#009E73", "o"), ("#CC79A7", "o"), ("#56B4E9", "o"),
    ("#D55E00", "^"), ("#000000", "^"), ("#0072B2", "^"), ("#E69F00", "^"), ("#009E73", "^"),
)  # fmt: skip
_NAMED_UP_TO = 60  # classes whose names can be read
_NAME_LENGTH = 28


def alike_figure(alike: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Heat map of the cosines `[K, K]` between the texts of classes."""
    K = len(classes)
    side, margin = max(3.5, (0.4 if K <= 25 else 0.18) * K), 2.4
    with saved_figure(path, side + margin + 1.2, side + margin, dpi=110) as figure:
        width, height = figure.get_size_inches()
        axes = figure.add_axes((margin / width, margin / height, side / width, (side - 0.4) / height))
        image = axes.imshow(alike, cmap="Blues", interpolation="nearest")
        if K <= _NAMED_UP_TO:
            names = [shortened(name, _NAME_LENGTH) for name in classes]
            axes.set_xticks(range(K), labels=names, rotation=90, fontsize=8)
            axes.set_yticks(range(K), labels=names, fontsize=8)
        axes.set_title("How alike the classes' texts are, mean cosine", fontsize=12)
        bar = figure.add_axes(((margin + side + 0.15) / width, margin / height, 0.15 / width, (side - 0.4) / height))
        figure.colorbar(image, cax=bar)


def embedding_figure(
    found: Mapping[str, np.ndarray], texts: np.ndarray, classes: Sequence[str], shown: Sequence[int], path: Path
) -> None:
    """Clips `[N, D]` "before" training and "after", of classes "labels" `[N]`, beside the first texts `[K, D]`: the two
    main directions of each picture. `shown` are up to ten classes in colour, with their texts as stars."""
    from matplotlib.lines import Line2D

    shown, labels = list(shown)[: len(_SIGNS)], found["labels"]
    with saved_figure(path, 9.4, 5.4, dpi=110) as figure:
        for number, (when, key) in enumerate((("before training", "before"), ("kept epoch", "after"))):
            axes = figure.add_axes(((number + 0.03) / 2, 0.2, 0.94 / 2, 0.66))
            points = _flattened(np.concatenate([_units(found[key]), _units(texts)]))
            clips, stars = points[: len(labels)], points[len(labels) :]
            others = ~np.isin(labels, shown)
            axes.scatter(clips[others, 0], clips[others, 1], s=9, color="#cccccc", linewidths=0)
            for k, (colour, marker) in zip(shown, _SIGNS, strict=False):
                x, y = clips[labels == k].T
                axes.scatter(x, y, s=20, color=colour, marker=marker, linewidths=0, alpha=0.75)
                x, y = stars[k]
                axes.scatter(x, y, s=200, color=colour, marker="*", edgecolors="white", linewidths=1, zorder=3)
            share = nearest_is_own(found[key], labels, texts)
            axes.set_title(f"{when}: {share:.0f} % of clips nearest\ntheir class's first text", fontsize=11, color=INK)
            axes.set_xticks([])
            axes.set_yticks([])
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle="", label=shortened(classes[k], _NAME_LENGTH))
            for k, (colour, marker) in zip(shown, _SIGNS, strict=False)
        ]
        if handles:
            figure.legend(handles=handles, loc="lower center", ncols=5, fontsize=8, frameon=False)


def _units(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _flattened(vectors: np.ndarray) -> np.ndarray:
    """`[P, D]` to `[P, 2]`: along the two directions in which they differ most."""
    centred = vectors - vectors.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return centred @ directions[:2].T
