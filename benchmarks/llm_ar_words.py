"""Which coordinates are worth coding as words? k-means in the place of LLM-AR's codebook, within seconds.

    python benchmarks/llm_ar_words.py utkinect.h5

Words of four frames of 64; a linear classifier on the words' vectors, position by position, is tested on each subject
of the training split in turn. Prints top-1 in percent, mean over subjects and two seeds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skag.methods.llm_ar.probe import linear_top1
from skag.methods.llm_ar.recipes import small
from skag.skeleton.clips import prepare, test_batches
from skag.skeleton.store import SkeletonStore

ROUNDS, SEEDS, EACH = 15, 2, 4


def words(pieces: Tensor, known: Tensor, count: int, seed: int) -> Tensor:
    """Pieces `[n, 16, F]` as the nearest of `count` means of those of the `known` clips `[n]`."""
    rows = pieces[known].flatten(0, 1)
    means = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:count]].clone()
    for _ in range(ROUNDS):
        nearest = torch.cdist(rows, means).argmin(1)
        number = torch.bincount(nearest, minlength=count)[:, None]
        sums = torch.zeros_like(means).index_add_(0, nearest, rows)
        means = torch.where(number > 0, sums / number.clamp(min=1), means)
    return means[torch.cdist(pieces.flatten(0, 1), means).argmin(1)].view_as(pieces)


def coded(pieces: Tensor, known: Tensor, how: str, parts: list[list[int]], seed: int) -> Tensor:
    """Pieces `[n, 16, F]` as words: `codes U`, `residual U` (words of what the first words leave) or `parts U`."""
    kind, _, number = how.partition(" ")
    if kind == "features":
        return pieces
    if kind == "codes":
        return words(pieces, known, int(number), seed)
    if kind == "residual":
        first = words(pieces, known, int(number), seed)
        return first + words(pieces - first, known, int(number), seed)
    points = pieces.unflatten(2, (EACH, -1, 3))
    made = torch.zeros_like(points)
    for part in parts:
        own = points[:, :, :, part]
        made[:, :, :, part] = words(own.flatten(2), known, int(number), seed).view_as(own)
    return made.flatten(2)


def main(path: Path) -> None:
    config = small("j").data
    with SkeletonStore(path) as store:
        numbers = store.splits[store.protocol(None)[0]]
        clips = prepare(store, numbers, config, torch.device("cpu"))
        labels, subjects = clips.labels, store.subjects[numbers]
        x = torch.cat([views[:, 0] for views in test_batches(clips, config, 256)])[:, 0]  # n T V C
        parts = [list(joints) for joints in store.layout.part_index.values()]
        classes = len(store.classes)
    middle = x.mean(2, keepdim=True)
    apart = torch.cat([x - middle, middle], 2)
    for name, points, groups in (("joints", x, parts), ("middle apart", apart, [*parts, [x.shape[2]]])):
        for how in ("features", "codes 128", "codes 512", "residual 128", "parts 64"):
            found = []
            for held in np.unique(subjects):
                known = torch.from_numpy(subjects != held)
                seen = points[known].flatten(0, 1)
                pieces = ((points - seen.mean(0)) / seen.std(0).clamp(min=1e-6)).flatten(2)
                pieces = pieces.unflatten(1, (-1, EACH)).flatten(2)
                for seed in range(SEEDS):
                    made = coded(pieces, known, how, groups, seed).flatten(1)
                    found.append(linear_top1(made[known], labels[known], made[~known], labels[~known], classes))
            print(f"{name:<14}{how:<14}{np.mean(found):.1f}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
