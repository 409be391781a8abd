"""A trained SkeletonAgent network as a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import text
from ...errors import RunError
from ..base import Candidate
from .config import AgentConfig
from .network import Recogniser


class TextReader:
    """What reads candidates as the run's training read its classes: the text encoder and the scale of cosines."""

    def __init__(self, config: AgentConfig, weights: Path | None = None) -> None:
        self.config, self._weights = config, weights
        self._known: dict[str, Tensor] = {}

    def vectors(self, sentences: Sequence[str]) -> Tensor:
        """Vectors `[n, D]`, L2-normalised; each sentence is read once. Raises `TextError`."""
        if missing := [each for each in dict.fromkeys(sentences) if each not in self._known]:
            encoder = text.open_encoder(self.config.text_encoder, weights=self._weights)
            self._known |= zip(missing, torch.from_numpy(encoder.encode(missing)), strict=True)
        return torch.stack([self._known[each] for each in sentences])


class SkeletonAgentClassifier:
    """See `methods.base.Classifier`. Trained classes are answered by the class head, and no language takes part; where
    candidates have descriptions, or were never trained, the embedding is compared with their texts."""

    def __init__(self, model: Recogniser | Any, classes: Sequence[str] = (), reader: TextReader | None = None) -> None:
        self.model, self.classes, self.reader = model, tuple(classes), reader

    @property
    def reads_descriptions(self) -> bool:
        """Whether the embedding was aligned with sentences, and not with names."""
        return self.reader is not None and self.reader.config.alignment_text == "sentence"

    def log_scores(self, x: Tensor, candidates: Sequence[Candidate] | None = None) -> Tensor:
        """The class logits `[N, K]`, or the cosines of clips and candidates times the scale of the training, of several
        descriptions of a class their mean. Raises `RunError` for a candidate that was not trained where the run was
        aligned with no texts."""
        if candidates is None:
            return self.model(x).class_logits.float()
        trained = all(each.name in self.classes and not each.descriptions for each in candidates)
        if trained:
            logits = self.model(x).class_logits.float()
            return logits[:, [self.classes.index(each.name) for each in candidates]]
        return self._aligned(x, candidates)

    def text_vectors(self, candidates: Sequence[Candidate]) -> Any:
        """What stands for candidates among the texts, float64 `[K, D]`: the mean of their descriptions' vectors."""
        assert self.reader is not None  # of a loaded run there is one
        vectors = []
        for each in candidates:
            said = self.reader.vectors(each.descriptions or (text.words_of(each.name),))
            vectors.append(F.normalize(said.double().mean(0), dim=0))
        return torch.stack(vectors).cpu().numpy()

    def _aligned(self, x: Tensor, candidates: Sequence[Candidate]) -> Tensor:
        reader = self.reader
        if reader is None or not reader.config.beta or reader.config.train_text_encoder:
            why = (
                "its text encoder was trained along" if reader and reader.config.beta else "it was aligned with no text"
            )
            unknown = [each.name for each in candidates if each.name not in self.classes]
            raise RunError(
                f"this run tells its {len(self.classes)} trained classes apart and no others"
                f"{f', such as {unknown[0]!r}' if unknown else ''} ({why}): train with --unseen, or with --beta 0.5."
            )
        sentences = [said for each in candidates for said in each.descriptions or (text.words_of(each.name),)]
        counts = [len(each.descriptions) or 1 for each in candidates]
        vectors = self.model.placed(reader.vectors(sentences).to(x.device))  # S D
        embedding = self.model(x).embedding.float()
        learned = reader.config.alignment_scale == "learned"
        scale = self.model.alignment_scale if learned else 1 / reader.config.temperature
        cosines = scale * F.normalize(embedding, dim=-1) @ F.normalize(vectors, dim=-1).T  # N S
        return torch.stack([part.mean(1) for part in cosines.split(counts, 1)], 1)

    def embed(self, x: Tensor) -> Tensor:
        """The pooled features `[N, C]` that all heads read."""
        return self.model.mean_features(x).mean(2).float()
