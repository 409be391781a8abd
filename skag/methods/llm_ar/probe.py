"""How much of the classes a sentence keeps, told by linear classifiers, which train in a moment.

Letters of this file: n training clips, m test clips, F numbers of a clip, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # times the mean squared length of a clip's numbers


def linear_top1(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, num_classes: int) -> float:
    """Top-1 in percent of a ridge classifier of `train` `[n, F]` on `test` `[m, F]`; its strength is the one of
    `RIDGES` that does best on the training clips, each left out in turn. Computed in float64, on the CPU."""
    train, test = train.cpu().double(), test.cpu().double()
    middle = train.mean(0)
    train, test = train - middle, test - middle
    targets = torch.nn.functional.one_hot(labels.cpu(), num_classes).double()
    share = targets.mean(0)
    kernel = train @ train.T  # n n
    values, vectors = torch.linalg.eigh(kernel)
    size = kernel.diagonal().mean().clamp(min=1e-12)
    rotated = vectors.T @ (targets - share)
    best, weights = -1.0, rotated
    for ridge in (factor * size for factor in RIDGES):
        inverse = 1 / (values.clamp(min=0) + ridge)
        dual = vectors @ (inverse[:, None] * rotated)  # n K
        leverage = 1 - ridge * (vectors.square() @ inverse) + 1 / len(train)  # the mean is fitted too
        left_out = targets - ridge * dual / (1 - leverage).clamp(min=1e-9)[:, None]  # what a clip is given without it
        right = float((left_out.argmax(1) == labels.cpu()).double().mean())
        if right > best:
            best, weights = right, dual
    scores = test @ (train.T @ weights) + share
    return 100 * float((scores.argmax(1) == test_labels.cpu()).double().mean())
