"""Validation of a classifier: what chooses the epoch that is kept."""

from __future__ import annotations

import numpy as np

from ..methods.base import Validation
from ..metrics import accuracy


def classified(labels: np.ndarray, probabilities: np.ndarray) -> Validation:
    """Top-1 in percent and the mean of -ln(probability of the true class), of `labels` `[n]` and `probabilities`
    `[n, K]`; top-1 chooses."""
    top1 = accuracy(labels, probabilities).top1
    loss = float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-12).mean())
    return Validation({"val_top1": top1, "val_loss": loss}, top1, len(labels))
