"""SUGAR's stage `teach` (beyond the paper): the bridge alone learns to say the class's name in words of the base model.

BLIP-2 too teaches its Q-Former from texts before a language model reads it (Li et al., ICML 2023, section 3.2). Here
the texts are the names, and their vectors those of the base model's own words, which are not trained.

Letters of this file: N clips, K classes, k queries, W width of the base model's words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...training import distributed
from ...training.batches import Batch
from ...training.validation import validated
from ..base import Candidate, Facts, Step, Validation, Watcher
from .base_model import open_base
from .config import SugarConfig
from .descriptions import Descriptions
from .network import Aligner, Bridge
from .task import aligned, begun_bridge, encoder_shape


def name_vectors(lm: Any, names: Sequence[str]) -> Tensor:
    """The mean word vector of every name `[K, W]`, from the mean of all names, of length 1."""
    words = lm.words().float()
    found = torch.stack([words[lm.encode(f" {name}")].mean(0) for name in names])
    return F.normalize(found - found.mean(0), dim=1)


class Teacher(nn.Module):
    """Clips `[N, M, T, V, C]` to cosines with the names' vectors `[N, K]`: the frozen encoder, and the bridge, whose
    vectors are averaged."""

    names: Tensor

    def __init__(self, encoder: Aligner, bridge: Bridge, names: Tensor) -> None:
        super().__init__()
        self.encoder, self.bridge = encoder.requires_grad_(False), bridge
        self.register_buffer("names", names, persistent=False)

    def train(self, mode: bool = True) -> Teacher:
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        each = self.encoder.config.token_bodies == "each"
        vectors, counts = self.bridge(self.encoder.tokens(x), self.encoder.token_mask(x) if each else None)
        weights = counts.to(vectors.dtype)[:, :, None]
        mean = (vectors * weights).sum(1) / weights.sum(1).clamp(min=1)
        return F.normalize(mean.float(), dim=1) @ self.names.T


@dataclass
class Nearest:
    """What a `Teacher` names, of the classes that it was made with; see `methods.base.Classifier`."""

    model: Teacher
    temperature: float
    classes: tuple[str, ...] = ()

    def log_scores(self, x: Tensor, candidates: Sequence[Candidate] | None = None) -> Tensor:
        return self.model(x) / self.temperature


class TeachTask:
    """Stage `teach`; see `methods.base.Task`."""

    def __init__(self, config: SugarConfig, facts: Facts, texts: Descriptions, device: torch.device) -> None:
        self.config, self.facts = config, facts
        self.settings = dataclasses.replace(
            config.settings_of("teach"), seed=config.train.seed, select_on=config.train.select_on
        )
        shape = encoder_shape(config, facts)
        encoder = aligned(config, shape, facts)
        lm = open_base(config, str(device), len(facts.classes))  # let go once its words are taken
        bridge, names = begun_bridge(config, shape, lm), name_vectors(lm, facts.classes).cpu()
        self.model = Teacher(encoder, bridge, names).to(device)
        self.forward = distributed.together(self.model, device)

    @property
    def trained(self) -> list[dict[str, Any]]:
        return [{"params": [*self.model.bridge.parameters()]}]

    def begin_epoch(self, epoch: int, network: nn.Module) -> None: ...

    def step(self, batch: Batch, generator: torch.Generator) -> Step:
        """Cross-entropy of the cosines over all names."""
        labels = batch.labels[distributed.part_of(len(batch.labels))]
        cosines = self.forward(batch.x)
        loss = F.cross_entropy(cosines / self.config.bridge.temperature, labels)
        top1 = 100 * (cosines.argmax(1) == labels).float().mean()
        share = len(labels) * distributed.size() / len(batch.labels)
        return Step(share * loss, {"loss": loss.detach(), "train_top1": top1}, len(labels))

    def validate(self, network: Any) -> Validation:
        """Top-1 by the nearest name on the clips that choose the epoch."""
        nearest = Nearest(network, self.config.bridge.temperature)
        return validated(nearest, self.facts, self.config.data, self.settings.batch_size)

    def end_epoch(self, epoch: int, network: nn.Module, watcher: Watcher) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any] | None, epoch: int) -> None: ...

    def report(self) -> dict[str, Any]:
        return {}
