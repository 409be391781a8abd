"""A trained SkeletonAgent network as a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...errors import RunError
from ..base import Candidate
from .network import Recogniser


class SkeletonAgentClassifier:
    """See `methods.base.Classifier`. At test time no language takes part: the encoder and its class head answer."""

    def __init__(self, model: Recogniser | Any, classes: Sequence[str] = ()) -> None:
        self.model, self.classes = model, tuple(classes)

    def log_scores(self, x: Tensor, candidates: Sequence[Candidate] | None = None) -> Tensor:
        """The class logits `[N, K]`; raises `RunError` for a candidate that is no class of the training."""
        logits = self.model(x).class_logits.float()
        if candidates is None:
            return logits
        if unknown := [each.name for each in candidates if each.name not in self.classes]:
            raise RunError(f"{unknown[0]!r} is no class of this run's training: it has {', '.join(self.classes)}.")
        return logits[:, [self.classes.index(each.name) for each in candidates]]
