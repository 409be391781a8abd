"""Which clips a training sees, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config import AugmentConfig, DataConfig, TrainConfig
from ..errors import DataError
from ..skeleton.clips import Clips, augmented, num_draws
from ..skeleton.store import UNKNOWN, SkeletonStore
from . import distributed


def hold_out(store: SkeletonStore, numbers: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split clip numbers into (training, validation), for model selection without the test split.

    Whole subjects are held out where at least three are known, as many as come nearest to `fraction`
    and never one without whom a class would vanish from training; otherwise clips are drawn per class.
    Deterministic for a seed. Raises `DataError` where nothing can be held out.
    """
    rng = np.random.default_rng([seed, 0x5EED])
    labels, subjects = store.labels[numbers], store.subjects[numbers]
    held = np.zeros(len(numbers), bool)
    people = np.unique(subjects)
    if len(people) >= 3 and UNKNOWN not in people:
        for person in rng.permutation(people):
            trial = held | (subjects == person)
            nearer = abs(trial.mean() - fraction) < abs(held.mean() - fraction) or not held.any()
            if nearer and np.isin(labels, labels[~trial]).all():
                held = trial
    if not held.any():
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            count = min(max(1, round(fraction * len(members))), len(members) - 1)
            held[members[:count]] = True
    if not held.any():
        raise DataError("the training split is too small to hold out a validation part: record more clips per class.")
    return numbers[~held], numbers[held]


class Batch(NamedTuple):
    """Training clips."""

    x: Tensor  # [N, M, T, V, C]
    labels: Tensor  # [N], where several processes train those of all of them


def training_batches(
    clips: Clips,
    config: DataConfig,
    augment: AugmentConfig,
    batch_size: int,
    repeats: int,
    generator: torch.Generator,
    balance: float = 0.0,
) -> Iterator[Batch]:
    """One epoch of shuffled, augmented batches.

    All randomness comes from `generator` (on the CPU). A last batch of one clip is left out: batch norm
    cannot use it. Where several processes train, a batch holds `batch_size` clips for each of them: labels are of all,
    clips of this process's part (`distributed.part_of`).
    """
    order = epoch_order(clips.labels.cpu(), repeats, balance, generator)
    every = [chosen for chosen in order.split(batch_size * distributed.size()) if len(chosen) >= 2 * distributed.size()]
    for chosen, following in zip(every, [*every[1:], order[:0]], strict=True):
        part = distributed.part_of(len(chosen))
        draw = torch.rand(len(chosen), num_draws(config, augment, clips.layout), generator=generator)
        torch.randint(2**62, (1,), generator=generator)  # used by nobody; without it seeds would come to other runs
        x = augmented(clips, chosen[part], config, augment, draw[part])
        clips.read_ahead(following[distributed.part_of(len(following))])
        yield Batch(x, clips.shown(chosen, augment, draw))


def num_batches(clips: int, settings: TrainConfig) -> int:
    """How many batches `training_batches` makes of so many clips, in each process."""
    processes = distributed.size()
    shown, size = clips * settings.repeats, settings.batch_size * processes
    return shown // size + (shown % size >= 2 * processes)


def epoch_order(labels: Tensor, repeats: int, balance: float, generator: torch.Generator) -> Tensor:
    """Which clips an epoch shows, in order: numbers `[repeats * n]` for the clips' classes `labels` `[n]`.

    Without `balance` every clip comes once in each of `repeats` shuffled passes. With it, clips of a class of m are
    shown in proportion to m ** -balance, so that classes come in proportion to m ** (1 - balance); each clip as often
    as its share says, rounded down or up at random (systematic sampling, which varies less than independent draws).
    """
    if balance == 0:
        return torch.cat([torch.randperm(len(labels), generator=generator) for _ in range(repeats)])
    total = repeats * len(labels)
    weights = labels.bincount()[labels].double() ** -balance
    ends = (weights / weights.sum()).cumsum(0) * total + torch.rand((), generator=generator, dtype=torch.double)
    ends[-1] = total  # whatever was lost in rounding: the shares sum to the whole
    counts = ends.floor().diff(prepend=ends.new_zeros(1)).long()
    return torch.arange(len(labels)).repeat_interleave(counts)[torch.randperm(total, generator=generator)]
