"""What SUGAR has trained, as a classifier: the nearest text, the class head, or the language model's answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...errors import RunError
from ...lm.generate import generate
from ...lm.prompts import assemble
from ...lm.score import Candidates, candidate_log_likelihoods
from ...text import words_of
from ..base import Candidate
from .base_model import Wording
from .config import SugarConfig
from .losses import nearest_text
from .network import Aligner, Sugar

Embed = Callable[[list[str]], np.ndarray]  # n texts -> float32 [n, D]


class SugarClassifier:
    """See `methods.base.Classifier`. `read` is the text encoder, which new candidates alone need."""

    def __init__(
        self, model: Aligner | Sugar, config: SugarConfig, classes: Sequence[str], read: Embed | None = None
    ) -> None:
        self.model, self.config, self.classes, self.read = model, config, tuple(classes), read
        self._texts: dict[tuple[Candidate, ...], tuple[Tensor, Tensor]] = {}
        self._words: dict[tuple[str, ...], tuple[Wording, Candidates]] = {}

    @property
    def reads_descriptions(self) -> bool:
        """Whether the encoder names classes by what is told of their motion, and not by their names alone."""
        return isinstance(self.model, Aligner) and self.config.learns_texts and self.config.texts.motion

    @property
    def not_exportable(self) -> str:
        """Why this is no graph of tensors, if so."""
        named = isinstance(self.model, Sugar)
        return (
            "a language model names its classes; train it with answer.by=encoder for one that can be" if named else ""
        )

    def log_scores(self, x: Tensor, candidates: Sequence[Candidate] | None = None) -> Tensor:
        """Of the language model: log-likelihoods of the candidates' names, which are also the list in its instruction.
        Of the encoder alone: cosines with each candidate's nearest text, divided by the temperature; or the logits of
        its class head, which knows no others than the classes of the training (`RunError`)."""
        if isinstance(self.model, Sugar):
            names = self.classes if candidates is None else tuple(each.name for each in candidates)
            return self._by_language_model(x, names)
        if self.config.learns_texts:
            out = self.model(x).embedding.float()
            texts, available = self._texts_of(candidates)
            return nearest_text(out, texts, available)[0] / self.config.align.temperature
        logits = self.model(x).class_logits.float()
        if candidates is None:
            return logits
        if unknown := [each.name for each in candidates if each.name not in self.classes]:
            raise RunError(f"{unknown[0]!r} is no class of this run's training: it has {', '.join(self.classes)}.")
        return logits[:, [self.classes.index(each.name) for each in candidates]]

    def embed(self, x: Tensor) -> Tensor:
        """The encoder's pooled features `[N, C]`."""
        encoder = self.model.encoder if isinstance(self.model, Sugar) else self.model
        return encoder.pooled(x).float()

    @property
    def text_vectors(self) -> Callable[[Sequence[Candidate]], np.ndarray] | None:
        """What stands for candidates among the texts, float64 `[K, D]`; None where there is no text encoder."""
        return self._vectors_of if self.read is not None else None

    def _vectors_of(self, candidates: Sequence[Candidate]) -> np.ndarray:
        assert self.read is not None
        found = [self.read(list(each.descriptions or (words_of(each.name),))).mean(0) for each in candidates]
        vectors = np.stack(found).astype(np.float64)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def describe(self, x: Tensor, chosen: Sequence[int], candidates: Sequence[Candidate] | None = None) -> list[str]:
        """What the language model goes on to say of every clip after it has named the class of that number; empty where
        none does."""
        if not isinstance(self.model, Sugar) or not self.config.answer.max_tokens or not self.config.answer.described:
            return [""] * len(x)
        names = self.classes if candidates is None else tuple(each.name for each in candidates)
        words, _ = self._words_of(names)
        begun = [
            (words.before, own, words.after + words.naming(names[k]))
            for own, k in zip(self.model.each(x), chosen, strict=True)
        ]
        inputs = assemble(self.model.lm, begun)
        answers = generate(self.model.lm, inputs, max_tokens=self.config.answer.max_tokens)
        return [" ".join(each.text.split()) for each in answers]

    def _by_language_model(self, x: Tensor, names: tuple[str, ...]) -> Tensor:
        assert isinstance(self.model, Sugar)
        words, answers = self._words_of(names)
        size, found = self.config.lm.clips_at_once or len(x), []
        for part in x.split(max(1, size)):
            inputs = assemble(self.model.lm, self.model.prompts(part, words.before, words.after))
            by_token = self.config.lm.score_by_token
            found.append(candidate_log_likelihoods(self.model.lm, inputs, answers, by_token=by_token))
        return torch.cat(found)

    def _words_of(self, names: tuple[str, ...]) -> tuple[Wording, Candidates]:
        if names not in self._words:
            assert isinstance(self.model, Sugar)
            words = Wording.of(self.model.lm, self.config.answer, names)
            try:
                answers = Candidates.of(self.model.lm, names, before=words.opening, after="}.")
            except ValueError:
                raise RunError("two of the candidates have the same name for the language model: rename one.") from None
            self._words[names] = words, answers
        return self._words[names]

    def _texts_of(self, candidates: Sequence[Candidate] | None) -> tuple[Tensor, Tensor]:
        """Vectors `[K, n, D]` of the candidates' descriptions, and which there are `[K, n]`. What has none is
        described by the texts it was trained with, or by its name."""
        assert isinstance(self.model, Aligner)
        if candidates is None:
            return self.model.texts, self.model.available
        key = tuple(candidates)
        if key not in self._texts:
            own = [self._own(each) for each in candidates]
            most = max(map(len, own))
            texts = self.model.texts.new_zeros(len(own), most, self.model.texts.shape[2])
            available = self.model.available.new_zeros(len(own), most)
            for k, vectors in enumerate(own):
                texts[k, : len(vectors)], available[k, : len(vectors)] = vectors, True
            self._texts[key] = texts, available
        return self._texts[key]

    def _own(self, candidate: Candidate) -> Tensor:
        assert isinstance(self.model, Aligner)
        if not candidate.descriptions and candidate.name in self.classes:
            k = self.classes.index(candidate.name)
            return self.model.texts[k, self.model.available[k]]
        if self.read is None:
            raise RunError(f"there is no text encoder to read what {candidate.name!r} is: load the run anew.")
        vectors = torch.from_numpy(self.read(list(candidate.descriptions or (words_of(candidate.name),))))
        return vectors.to(self.model.texts)
