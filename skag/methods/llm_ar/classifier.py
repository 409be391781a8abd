"""A trained LLM-AR as a classifier: the base model reads a clip's sentence and says which name fits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...lm.generate import answer_freely
from ...lm.score import Candidates, candidate_log_likelihoods
from ..base import Candidate
from . import reader
from .reader import Reader

_NOT_SAID = -30.0  # score of a class that was not generated, where another one was


class LlmArClassifier:
    """See `methods.base.Classifier`. Any name can be a candidate; the model has read those of its training."""

    not_exportable = "it answers with a language model, which is no graph of tensors; use skag predict"

    def __init__(self, model: Reader, classes: Sequence[str]) -> None:
        self.model, self.classes = model, tuple(classes)
        self._known: dict[tuple[str, ...], Candidates] = {}

    def log_scores(self, x: Tensor, candidates: Sequence[Candidate] | None = None) -> Tensor:
        """Log-likelihoods of the names `[N, K]`, the end of the answer included.

        Candidates that are given are listed in the prompt, as the paper does for classes that were not trained. Where
        answers are generated, the class that was written has 0 and the others a score far below; a clip whose answer
        is no class gives all the same.
        """
        names = self.classes if candidates is None else tuple(each.name for each in candidates)
        inputs = self.model.inputs(x, () if candidates is None else names)
        if self.model.config.read.answer == "generate":
            said, _ = answer_freely(self.model.lm, inputs, names)
            scores = torch.full((len(x), len(names)), _NOT_SAID, device=x.device)
            for n, name in enumerate(said):
                scores[n, names.index(name) if name is not None else slice(None)] = 0
            return scores
        by_token = self.model.config.lm.score_by_token
        return candidate_log_likelihoods(self.model.lm, inputs, self._candidates(names), by_token=by_token)

    def embed(self, x: Tensor) -> Tensor:
        """The mean of a clip's latents, those that its codes stand for `[N, d]`."""
        _, mask, latents = self.model.vqvae.look(x)
        weight = mask[:, :, None].to(latents.dtype)
        return (latents * weight).sum(1) / weight.sum(1).clamp(min=1)

    def said(self, x: Tensor) -> list[str | None]:
        """What is written of every clip when nothing holds the answer, as the class that it is, None for none."""
        return answer_freely(self.model.lm, self.model.inputs(x), self.classes)[0]

    def reconstructed(self, x: Tensor) -> Tensor:
        """Clips as the decoder makes them of their sentences."""
        made: Tensor = self.model.vqvae(x).reconstruction
        return made

    def _candidates(self, names: tuple[str, ...]) -> Candidates:
        if names not in self._known:
            self._known[names] = reader.candidates(self.model.lm, names)
        return self._known[names]
