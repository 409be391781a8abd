"""Validation of a classifier: what chooses the epoch that is kept."""

from __future__ import annotations

import numpy as np

from ..config import DataConfig
from ..inference.scores import predict_prepared
from ..methods.base import Classifier, Facts, Validation
from ..metrics import accuracy
from . import distributed


def validated(classifier: Classifier, facts: Facts, config: DataConfig, batch_size: int) -> Validation:
    """What a classifier makes of the clips that choose the epoch, over all processes, as `classified` has it."""
    labels = facts.validation_labels
    found = predict_prepared(classifier, facts.validation, config, batch_size)
    return classified(labels, distributed.interleave(found, len(labels)))


def classified(labels: np.ndarray, probabilities: np.ndarray) -> Validation:
    """Top-1 in percent and the mean of -ln(probability of the true class), of `labels` `[n]` and `probabilities`
    `[n, K]`; top-1 chooses."""
    top1 = accuracy(labels, probabilities).top1
    loss = float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-12).mean())
    return Validation({"val_top1": top1, "val_loss": loss}, top1, len(labels))
