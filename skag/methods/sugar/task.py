"""SUGAR's two stages of training: the encoder learns from texts, then a language model learns to read its tokens.

Letters of this file: N clips, K classes, n texts of a class, D text width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import runs
from ...device import trains_in_bf16
from ...encoders.ctrgcn import CtrGcnConfig, spatial_graphs
from ...errors import RunError
from ...inference.scores import embed_clips
from ...lm.causal import CausalModel
from ...skeleton.layouts import Layout
from ...skeleton.store import SkeletonStore
from ...skeleton.tempo import num_channels
from ...training import distributed
from ...training.batches import Batch
from ...training.validation import validated
from ...weights import one_line
from ..base import Facts, Step, Validation, Watcher
from . import network as networks
from .base_model import Wording, open_base
from .classifier import SugarClassifier
from .config import SugarConfig
from .descriptions import Descriptions
from .losses import draw_texts, mil_nce_loss, nearest_text
from .network import Aligner, Answered, Bridge, Sugar

INACTIVE_TEXT_WIDTH = 8  # of the unused head where there are no texts
BEFORE = "embeddings-before.npz"  # of a run folder: where clips lay before anything was learned
MAX_CLIPS_RECORDED = 2000
TAUGHT = "teach.pt"  # of a run folder: the bridge as stage `teach` leaves it


def encoder_shape(config: SugarConfig, store: SkeletonStore | Facts) -> CtrGcnConfig:
    """The encoder's shape for a store: joints from the data, the rest from the recipe."""
    channels = num_channels(config.data, store.layout)
    return networks.shape(config.network, store.layout.num_joints, config.data.num_bodies, channels)


def make_encoder(
    config: SugarConfig, shape: CtrGcnConfig, layout: Layout, classes: int, width: int, texts: int
) -> Aligner:
    """An encoder with its heads, for texts of that width and number; without texts the head for them is not used."""
    graphs = spatial_graphs(layout)
    return Aligner(shape, graphs, classes, width or INACTIVE_TEXT_WIDTH, config.network.dropout, texts)


class AlignTask:
    """Stage `align`: the encoder learns from texts, or from the classes alone; see `methods.base.Task`."""

    model: Aligner

    def __init__(self, config: SugarConfig, facts: Facts, texts: Descriptions, device: torch.device) -> None:
        self.config, self.settings, self.facts, self.texts, self.device = config, config.train, facts, texts, device
        K, layout = len(facts.classes), facts.layout
        if config.learns_texts and not texts.text_width:
            raise RunError("there are no texts to learn from: describe the classes, or set texts.knowledge=none.")
        shape = encoder_shape(config, facts)
        model = make_encoder(config, shape, layout, K, texts.text_width, texts.num_texts).to(device)
        if self.settings.sync_batch_norm and distributed.size() > 1:
            model = distributed.synchronise_batch_norm(model)
        model.bf16 = trains_in_bf16(self.settings.precision, device)
        self.model = model
        self._take_texts(model)
        if self.settings.compile:
            torch._dynamo.config.recompile_limit = 64
            for block in model.blocks:
                block.compile(dynamic=True)
        self.forward: Callable[[Tensor], Any] = distributed.together(model, device)

    def _take_texts(self, model: Any) -> None:
        if self.texts.text_width:
            model.texts.copy_(torch.from_numpy(self.texts.vectors))
            model.available.copy_(torch.from_numpy(self.texts.available))

    @property
    def trained(self) -> list[dict[str, Any]]:
        return [{"params": [*self.model.parameters()]}]

    def begin_epoch(self, epoch: int, network: nn.Module) -> None:
        """Keep where the clips that choose the epoch lie before anything is learned. Weights that training starts from
        bring the texts of another run with them, which are not this one's."""
        self._take_texts(self.model)
        self._take_texts(network)
        if epoch == 1 and distributed.leads() and self.config.learns_texts:
            self._record(network)

    def step(self, batch: Batch, generator: torch.Generator) -> Step:
        """The loss of one batch and its terms. Where several processes train, the contrast is of the whole batch."""
        align, x, everyone = self.config.align, batch.x, batch.labels
        labels = everyone[distributed.part_of(len(everyone))]
        out = self.forward(x)
        logits = out.class_logits.float()
        share = len(labels) * distributed.size() / len(everyone)
        nothing = logits.new_zeros(())
        if self.config.learns_texts:
            embedding = distributed.gather(out.embedding.float(), len(everyone))
            contrast = self._contrast(embedding, everyone, generator)
            cls = nothing
            if align.supervision:
                cls = F.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)
            loss = contrast + share * align.supervision * cls
            told, _ = nearest_text(out.embedding.detach().float(), self.model.texts, self.model.available)
            whole = contrast + align.supervision * cls
        else:
            contrast, told = nothing, logits
            cls = F.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)
            loss, whole = share * cls, cls
        if distributed.size() > 1:  # every parameter must get a gradient there, if only of zeros
            loss = loss + 0 * (out.class_logits.sum() + out.embedding.sum())
        top1 = 100 * (told.argmax(1) == labels).float().mean()
        terms = {"loss": whole, "loss_mil_nce": contrast, "loss_cls": cls, "train_top1": top1}
        return Step(loss, {name: value.detach() for name, value in terms.items()}, len(labels))

    def _contrast(self, embedding: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """MIL-NCE of clips `[N, D]` with texts drawn for each of them, or with all texts of all classes."""
        align, model = self.config.align, self.model
        available = model.available
        if align.candidates == "all":
            text, of = model.texts[available], available.nonzero()[:, 0]
        else:
            numbers, drawn = draw_texts(available, labels, align.texts_per_clip, align.motion_always, generator)
            text = model.texts[labels[:, None], numbers][drawn]
            of = labels[:, None].expand_as(drawn)[drawn]
        return mil_nce_loss(embedding, labels, text, of, align.temperature, align.direction, align.normalise)

    def validate(self, network: Any) -> Validation:
        """Top-1 by the nearest text (or the class head) on the clips that choose the epoch."""
        distributed.share_buffers(network)
        with self._not_compiled():
            classifier = SugarClassifier(network, self.config, self.facts.classes)
            return validated(classifier, self.facts, self.config.data, self.settings.batch_size)

    def end_epoch(self, epoch: int, network: nn.Module, watcher: Watcher) -> None: ...

    def _record(self, network: nn.Module) -> None:
        clips, numbers = self.facts.validation, self.facts.validation_numbers
        shown = np.linspace(0, len(numbers) - 1, min(len(numbers), MAX_CLIPS_RECORDED)).round().astype(np.int64)
        with self._not_compiled():
            found = embed_clips(network, clips.at(shown), self.config.data, self.settings.batch_size)

        def write(file: IO[bytes]) -> None:
            np.savez_compressed(file, embeddings=found, numbers=numbers[shown])

        runs.write_whole(self.facts.run / BEFORE, write)

    def _not_compiled(self) -> AbstractContextManager[Any]:
        return torch.compiler.set_stance("force_eager") if self.settings.compile else nullcontext()

    def state(self) -> dict[str, Any]:
        """The texts are buffers of the model, and stand in the run's own record."""
        return {}

    def restore(self, state: Mapping[str, Any] | None, epoch: int) -> None:
        """Go on after `epoch`, with the texts that the run has begun with."""

    def report(self) -> dict[str, Any]:
        return {}


class TuneTask:
    """Stage `tune`: the encoder is frozen, the bridge and the adapter learn; see `methods.base.Task`."""

    model: Sugar

    def __init__(self, config: SugarConfig, facts: Facts, texts: Descriptions, device: torch.device) -> None:
        self.config, self.facts, self.device = config, facts, device
        self.settings = dataclasses.replace(config.tune, seed=config.train.seed, select_on=config.train.select_on)
        shape = encoder_shape(config, facts)
        encoder = aligned(config, shape, facts)
        lm = open_base(config, str(device), len(facts.classes))
        bridge = begun_bridge(config, shape, lm)
        if config.bridge.taught:
            _take_taught(bridge, facts.run / TAUGHT)
        self.model = Sugar(encoder, bridge, lm).to(device)
        self.words = Wording.of(lm, config.answer, facts.classes)
        self.names = [self.words.naming(name) for name in facts.classes]
        told = [self.words.answer(name, each) for name, each in zip(facts.classes, texts.answers, strict=True)]
        self.answers = [self.names, told]  # without a description, and with one
        self.lengths = torch.tensor([[len(lm.encode(answer)) + 1 for answer in kind] for kind in self.answers])
        self.forward: Callable[..., Answered] = distributed.together(self.model, device)

    @property
    def trained(self) -> list[dict[str, Any]]:
        bridge = {"params": [*self.model.bridge.parameters()], "lr": self.config.bridge.lr or self.settings.lr}
        adapter = [*self.model.adapter.values()]
        return [bridge, {"params": adapter}] if adapter else [bridge]

    def begin_epoch(self, epoch: int, network: nn.Module) -> None: ...

    def step(self, batch: Batch, generator: torch.Generator) -> Step:
        """The mean cross-entropy of the answers' tokens, over the batch of all processes; `lm.clips_at_once` of it go
        through the base model at a time."""
        everyone = batch.labels.cpu()
        told = (torch.rand(len(everyone), generator=generator) < self.config.answer.described).long()
        total = int(self.lengths[told, everyone].sum())
        part = distributed.part_of(len(everyone))
        labels = everyone[part].tolist()
        answers = [self.answers[kind][k] for kind, k in zip(told[part].tolist(), labels, strict=True)]
        names = [self.names[k] for k in labels]
        size = self.config.lm.clips_at_once or len(labels)
        sums, tokens, right = batch.x.new_zeros(()), 0, batch.x.new_zeros(())
        for start in range(0, len(labels), size):
            some, last = slice(start, start + size), start + size >= len(labels)
            no_sync = getattr(self.forward, "no_sync", nullcontext)
            with nullcontext() if last else no_sync():
                out = self.forward(batch.x[some], self.words.before, self.words.after, answers[some], names[some])
                loss = out.loss * distributed.size() / total
                if not last:
                    loss.backward()
            sums, tokens, right = sums + out.loss.detach(), tokens + out.tokens, right + out.right.sum()
        terms = {"loss": sums / tokens, "train_top1": 100 * right / len(labels)}
        return Step(loss, terms, len(labels))

    def validate(self, network: Any) -> Validation:
        """Top-1 by the likeliest answer on the clips that choose the epoch."""
        classifier = SugarClassifier(network, self.config, self.facts.classes)
        return validated(classifier, self.facts, self.config.data, self.settings.batch_size)

    def end_epoch(self, epoch: int, network: nn.Module, watcher: Watcher) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any] | None, epoch: int) -> None: ...

    def report(self) -> dict[str, Any]:
        trained = sum(weight.numel() for group in self.trained for weight in group["params"])
        return {"base_model": self.model.lm.identity["base_model"], "trained_parameters": trained}


def aligned(config: SugarConfig, shape: CtrGcnConfig, facts: Facts) -> Aligner:
    """The encoder that stage `align` has left, of this run or of `align.of`. Raises `RunError` where that cannot be
    read, or learned from other clips."""
    path = facts.run / "align.pt"
    if config.align.of:
        path = Path(config.align.of) / "align.pt"
        runs.check_same_clips(facts.run, path.parent)
        if not path.exists():  # of a run of that stage alone
            path = path.with_name("best.pt")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["model"]
        return encoder_of(config, shape, facts.layout, weights)
    except Exception as error:  # a damaged or foreign file fails in many ways, none of them runs code
        raise RunError(f"{path} cannot be read ({one_line(error)}): take it from a copy, or train again.") from None


def _take_taught(bridge: Bridge, path: Path) -> None:
    """What stage `teach` has made of the bridge. Raises `RunError` where that cannot be read."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["model"]
        own = {name.removeprefix("bridge."): value for name, value in weights.items() if name.startswith("bridge.")}
        bridge.load_state_dict(own)
    except Exception as error:
        raise RunError(f"{path} cannot be read ({one_line(error)}): take it from a copy, or train again.") from None


def encoder_of(config: SugarConfig, shape: CtrGcnConfig, layout: Layout, weights: Mapping[str, Any]) -> Aligner:
    """The encoder that stage `align` has kept. Raises what weights of another network raise."""
    classes, texts, width = weights["texts"].shape
    encoder = make_encoder(config, shape, layout, classes, width, texts)
    encoder.load_state_dict(weights)
    return encoder


def make_bridge(config: SugarConfig, shape: CtrGcnConfig, word_width: int) -> Bridge:
    """The bridge of a run. Raises `RunError` where its query is wider than the base model's words."""
    tokens = shape.num_tokens(config.data.num_frames)
    return Bridge(networks.resolved(config.bridge, tokens), shape.width, word_width)


def begun_bridge(config: SugarConfig, shape: CtrGcnConfig, lm: CausalModel) -> Bridge:
    """The bridge as it is before anything is learned."""
    bridge = make_bridge(config, shape, lm.width)
    if config.bridge.begin_like_words:
        networks.begin_like_words(bridge, lm.words())
    return bridge
