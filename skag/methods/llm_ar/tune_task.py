"""The second stage, `tune`: the base model learns to read the sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ... import runs
from ...errors import RunError
from ...lm.lora import checkpoint_activations
from ...lm.prompts import Part, answers_told, assemble
from ...lm.spread import accumulated
from ...skeleton.clips import test_batches
from ...training import distributed
from ...training.batches import Batch
from ...training.validation import validated
from ..base import Facts, Step, Validation, Watcher
from .base_model import open_base_model
from .classifier import LlmArClassifier
from .codebook_task import NetworkShape, make_vqvae
from .config import LlmArConfig
from .reader import BEFORE, Reader
from .vqvae import ActionVqVae

CODEBOOK = "codebook.pt"  # of the first stage, in a run folder


class TuneTask:
    """Trains what is adapted of the base model; see `methods.base.Task`. Clips are augmented and written as sentences
    anew in every epoch; the codebook stays as it is."""

    def __init__(self, config: LlmArConfig, facts: Facts, about: Mapping[str, Any], device: torch.device) -> None:
        self.config, self.facts, self.device = config, facts, device
        self.settings = dataclasses.replace(config.tune, seed=config.train.seed)
        vqvae = read_codebook(config, facts.run, about).to(device)
        codes = vqvae.num_codes(config.data.num_frames)
        base = open_base_model(config, about["base_model"], facts.run, device, codes)
        self.model = Reader(config, vqvae, base).to(device)
        self.model.begin()
        if config.lm.checkpoint_activations:
            checkpoint_activations(self.model.lm)
        self.classifier = LlmArClassifier(self.model, facts.classes)
        self.parameters = self.model.trained

    @property
    def trained(self) -> list[dict[str, Any]]:
        return [{"params": self.parameters}]

    def begin_epoch(self, epoch: int, network: nn.Module) -> None:
        """Nothing: batches differ by the loop's own numbers."""

    def step(self, batch: Batch, generator: torch.Generator) -> Step:
        """Cross-entropy on the answers' tokens (paper, eq. 13), mean over those of the whole batch."""
        labels = batch.labels[distributed.part_of(len(batch.labels))]
        names = [self.facts.classes[k] for k in labels.tolist()]
        lists = self._lists(batch.labels, generator)[distributed.part_of(len(batch.labels))]
        sentences = self.model.sentences(batch.x)
        rows = list(zip(sentences, lists, names, strict=True))
        size = self.config.lm.clips_at_once or len(rows)
        told: list[Tensor] = []

        def loss(some: list[tuple[Part, list[str], str]]) -> tuple[Tensor, int]:
            prompts = [self.model.prompt(sentence, listed) for sentence, listed, _ in some]
            inputs = assemble(self.model.lm, prompts, [BEFORE + name for *_, name in some])
            found, count, right = answers_told(self.model.lm, inputs)
            told.append(right)
            return found, count

        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        mean = accumulated(loss, parts, self.parameters)
        top1 = 100 * torch.cat(told).float().mean()
        return Step(mean, {"loss": mean.detach(), "train_top1": top1}, len(labels))

    def _lists(self, labels: Tensor, generator: torch.Generator) -> list[list[str]]:
        """For every clip of the batch the classes that its prompt lists, none for most."""
        settings, classes = self.config.read, self.facts.classes
        if not settings.lists:
            return [[] for _ in labels]
        found: list[list[str]] = []
        for label in labels.tolist():
            order = torch.randperm(len(classes), generator=generator).tolist()
            listed = [k for k in order if k != label][: settings.listed - 1]
            listed.insert(int(torch.randint(len(listed) + 1, (1,), generator=generator)), label)
            wanted = float(torch.rand((), generator=generator)) < settings.lists
            found.append([classes[k] for k in listed] if wanted else [])
        return found

    def validate(self, network: Any) -> Validation:
        """Top-1 in percent and loss on the clips that choose the epoch; where answers are generated, also the share
        that matched no class."""
        classifier = LlmArClassifier(network, self.facts.classes)
        found = validated(classifier, self.facts, self.config.data, self.settings.batch_size)
        if self.config.read.answer != "generate":
            return found
        unmatched = torch.zeros(2, device=self.device)
        with torch.inference_mode():
            for x in test_batches(self.facts.validation, self.config.data, self.settings.batch_size):
                unmatched += unmatched.new_tensor([classifier.said(x[:, 0]).count(None), len(x)])
        distributed.add_up(unmatched)
        share = 100 * float(unmatched[0] / unmatched[1])
        return dataclasses.replace(found, metrics={**found.metrics, "val_unmatched": share})

    def end_epoch(self, epoch: int, network: nn.Module, watcher: Watcher) -> None: ...

    def state(self) -> dict[str, Any]:
        """Nothing beside the weights: all chance is the loop's."""
        return {}

    def restore(self, state: Mapping[str, Any] | None, epoch: int) -> None: ...

    def report(self) -> dict[str, Any]:
        return {}


def read_codebook(config: LlmArConfig, run: Path, about: Mapping[str, Any]) -> ActionVqVae:
    """The VQ-VAE that the first stage left in the run, or in the run that `codebook.of` names. Raises `RunError`."""
    folder = Path(config.codebook.of) if config.codebook.of else run
    path = folder / CODEBOOK
    if not path.exists():
        raise RunError(f"{path} is missing, and nothing reads without a codebook: train the run again.")
    if config.codebook.of:
        _check_other(folder, run, about)
    vqvae = make_vqvae(config, NetworkShape(**about["model"]))
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["model"]
        own = {name.removeprefix("vqvae."): value for name, value in weights.items() if name.startswith("vqvae.")}
        vqvae.load_state_dict(own)
    except Exception as error:  # a damaged or foreign file fails in many ways, none of them runs code
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"{path} is no codebook of this configuration ({cause}): train the run again.") from None
    return vqvae


def _check_other(folder: Path, run: Path, about: Mapping[str, Any]) -> None:
    """Raise `RunError` where another run's codebook is of another base model, or has seen other clips."""
    there = runs.read_json(folder, runs.CONFIG)
    made_for = there.get("base_model") or {}
    if made_for.get("weights") != about["base_model"].get("weights"):
        raise RunError(
            f"the codebook of {folder} is for the words of {made_for.get('base_model')}, not of "
            f"{about['base_model'].get('base_model')}: give that base model, or train a codebook."
        )
    runs.check_same_clips(run, folder)
