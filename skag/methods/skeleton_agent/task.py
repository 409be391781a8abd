"""SkeletonAgent's one stage of training: the network, its loss terms, and the refreshes at the end of epochs.

Letters of this file: N clips, V joints, K classes, D text width, L tokens of a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import runs
from ...device import send, trains_in_bf16
from ...encoders.graph import GRAPHS
from ...inference.scores import embed_clips, predict_prepared
from ...metrics import confusion_matrix
from ...skeleton import transforms
from ...skeleton.store import SkeletonStore
from ...skeleton.tempo import num_channels
from ...training import distributed
from ...training.batches import Batch
from ...training.validation import classified
from ..base import Facts, Step, Validation, Watcher
from . import class_knowledge
from .agents import REFRESHES, Agents
from .classifier import SkeletonAgentClassifier
from .config import SkeletonAgentConfig
from .losses import add_confusions, alignment_loss, class_alignment_loss, mixing_loss
from .network import ModelConfig, Recogniser

MAX_CLIPS_RECORDED = 2000  # of those that choose the epoch, at a refresh
STORED_ANSWERS_TAKE = 0.5  # seconds that answers are given at the end of an epoch: enough for those in the store
_RENAMED = {"num_put": "num_queries", "on_its_way": "pending"}  # in checkpoints of version 0.1.0


def model_shape(config: SkeletonAgentConfig, store: SkeletonStore | Facts, text_width: int) -> ModelConfig:
    """The network's shape for a store: joints and classes from the data, the rest from the recipe."""
    return ModelConfig(
        num_classes=len(store.classes),
        num_joints=store.layout.num_joints,
        num_bodies=config.data.num_bodies,
        in_channels=num_channels(config.data, store.layout),
        channels=config.network.channels,
        strides=config.network.strides,
        joint_embedding=config.network.joint_embedding,
        dropout=config.network.dropout,
        present_bodies_only=config.network.present_bodies_only,
        embedding_dim=text_width,
        learned_scale=config.agents.beta > 0 and config.agents.alignment_scale == "learned",
        text_space=config.agents.text_space if config.agents.beta > 0 else "raw",
    )


class SkeletonAgentTask:
    """Trains the recogniser on class labels, critical joints and sentences; see `methods.base.Task`."""

    model: Recogniser
    tower: nn.Module | None
    tokenise: Callable[[Sequence[str]], Tensor] | None

    def __init__(self, config: SkeletonAgentConfig, facts: Facts, agents: Agents, device: torch.device) -> None:
        self.config, self.settings, self.facts, self.agents = config, config.train, facts, agents
        shape = model_shape(config, facts, agents.text_width)
        model = Recogniser(shape)
        if config.network.graph != "noise":
            model.begin_graphs(torch.from_numpy(GRAPHS[config.network.graph](facts.layout)).float())
        model = model.to(device)
        if self.settings.sync_batch_norm and distributed.size() > 1:
            model = distributed.synchronise_batch_norm(model)
        model.bf16 = trains_in_bf16(self.settings.precision, device)
        self.model = model
        if self.settings.compile:
            torch._dynamo.config.recompile_limit = 64  # blocks of several shapes share their code; 8 are soon reached
            for block in model.blocks:
                block.compile(dynamic=True)
        self.tower, self.tokenise = agents.open_tower() if agents.open_tower else (None, None)
        self.forward: Callable[[Tensor], Any] = distributed.together(model, device)
        self.encode = None if self.tower is None else distributed.together(_Encode(self.tower), device)
        K = shape.num_classes
        self.confusions = torch.zeros(K, K, dtype=torch.long, device=device)  # of the epoch's clips
        self.val_confusions = np.zeros((K, K), np.int64)  # of the last validation

    @property
    def device(self) -> torch.device:
        return self.confusions.device

    @property
    def trained(self) -> list[dict[str, Any]]:
        return [{"params": [*self.model.parameters(), *(self.tower.parameters() if self.tower is not None else ())]}]

    # ---- an epoch

    def begin_epoch(self, epoch: int, network: nn.Module) -> None:
        """Take what the agents say now to the device."""
        if epoch == 1 and self.agents.active:
            self._record_vectors(0, (self.agents.joints, self.agents.text_vectors), network)
        self.confusions.zero_()
        self.text = torch.from_numpy(self.agents.text_vectors).to(self.device)  # K D
        if self.tokenise is not None:
            self.text = self.tokenise(self.agents.sentences).to(self.device)  # K L
        else:
            self.model.begin_text(self.text)
            self.text = self.model.placed(self.text)
        self.model.critical_joints.copy_(torch.from_numpy(self.agents.mask(self.config.data.stream)))

    def step(self, batch: Batch, generator: torch.Generator) -> Step:
        """The loss of one batch and its terms.

        With mixing the batch is doubled, and all terms but L_mix are of the clips as they were. Where several processes
        train, labels are of the whole batch, clips are this process's part of it, and so are the terms; gradients are
        those of the whole batch, except that clips are mixed, and by the published rule counted, within a part.
        """
        config, settings = self.config, self.config.agents
        x, everyone = batch.x, batch.labels
        labels = everyone[distributed.part_of(len(everyone))]
        count = len(labels)
        partner, weight = None, 0.0
        if config.augment.mix:
            x, partner, weight = self._mixed(x, generator)
        out = self.forward(x)
        logits = out.class_logits[:count].float()
        cls = F.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)
        con = align = mix = cls.new_zeros(())
        if settings.alpha:
            con = F.cross_entropy(out.constraint_logits[:count].float(), labels)
        if settings.beta:
            align = self._alignment(distributed.gather(out.embedding[:count].float(), len(everyone)), everyone, labels)
        if partner is not None:
            mix = mixing_loss(out.class_logits[count:].float(), labels, send(partner, x.device), weight)
        # Processes average their gradients: a part's mean counts by its size. The alignment is of the whole batch in
        # each.
        share = count * distributed.size() / len(everyone)
        own = cls + settings.alpha * con + mix
        loss = share * own + settings.beta * align
        if distributed.size() > 1:  # every parameter must get a gradient there, if only of zeros
            loss = loss + 0 * (out.constraint_logits.sum() + out.embedding.sum())
        add_confusions(self.confusions, labels, logits.detach(), settings.confusion_rule)
        terms = {"loss": own + settings.beta * align, "loss_cls": cls, "loss_con": con, "loss_align": align}
        terms |= {"loss_mix": mix, "train_top1": 100 * (logits.argmax(1) == labels).float().mean()}
        return Step(loss, {name: value.detach() for name, value in terms.items()}, count)

    def _mixed(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
        """Clips and their mixtures, the partner of each, and its weight."""
        if distributed.size() > 1:
            seed = int(torch.randint(2**62, (1,), generator=generator))
            generator = torch.Generator().manual_seed(seed + distributed.rank())
        layout = self.facts.layout
        draw = transforms.draw_mix(len(x), len(layout.parts), x.shape[2], generator)
        mixed, weight = transforms.mix(x, layout, draw)
        return torch.cat([x, mixed]), draw.partner, weight

    def _alignment(self, embedding: Tensor, everyone: Tensor, labels: Tensor) -> Tensor:
        """L_align of the whole batch: its embeddings `[n, D]`, the labels of all, and of this process's part."""
        settings = self.config.agents
        scale = self.model.alignment_scale if settings.alignment_scale == "learned" else 1 / settings.temperature
        if settings.alignment_over == "classes":
            return class_alignment_loss(embedding, self.text, everyone, scale)
        if self.encode is None:
            sentences = self.text[everyone]
        else:  # each sentence of the batch once
            present, place = labels.unique(return_inverse=True)
            sentences = distributed.gather(self.encode(self.text[present]).float()[place], len(everyone))
        return alignment_loss(embedding, sentences, everyone, scale, settings.alignment_target)

    def validate(self, network: Any) -> Validation:
        """Top-1 in percent and loss on the clips that choose the epoch."""
        for name in ("critical_joints", "text_centre", "text_map"):  # they are set, never averaged
            if name in self.model._buffers:
                getattr(network, name).copy_(getattr(self.model, name))
        distributed.share_buffers(network)
        with self._not_compiled():
            classifier, clips = SkeletonAgentClassifier(network), self.facts.validation
            probabilities = predict_prepared(classifier, clips, self.config.data, self.settings.batch_size)
        probabilities = distributed.interleave(probabilities, len(self.facts.validation_labels))
        labels = self.facts.validation_labels
        self.val_confusions = confusion_matrix(labels, probabilities.argmax(1), probabilities.shape[1])
        return classified(labels, probabilities)

    def end_epoch(self, epoch: int, network: nn.Module, watcher: Watcher) -> None:
        """Take over the refresh whose answers are there, and begin one if it is time for it."""
        distributed.add_up(self.confusions)
        if distributed.leads() and self.agents.active and epoch < self.settings.epochs:
            self._refresh(epoch, network, watcher)
        self.agents.use_snapshot(distributed.share(self.agents.snapshot))

    def _refresh(self, epoch: int, network: nn.Module, watcher: Watcher) -> None:
        """Answers of a server that come later count from a later epoch on, unless the configuration says to wait."""
        agents, settings = self.agents, self.config.agents
        waits = settings.wait_for_answers or not agents.answers_late

        def take_over(patience: float) -> None:
            before, known = (agents.joints, agents.text_vectors), agents.class_knowledge()
            record = agents.finish_refresh(epoch + 1, None if waits else patience)
            if record is not None:
                agents.write_dialogues(self.facts.run)
                runs.append_line(self.facts.run / REFRESHES, record)
                now = agents.class_knowledge()
                changed = {name: each for name, each in now.items() if each != known[name]}
                class_knowledge.append(self.facts.run, record["effective"], changed)
                self._record_vectors(record["epoch"], before, network)
                watcher.refreshed(record)

        take_over(0)
        if agents.pending is None and epoch % settings.query_period == 0:
            on_validation = settings.confusion == "val"
            counts = self.val_confusions if on_validation else self.confusions.cpu().numpy()
            agents.begin_refresh(counts, epoch)
            take_over(STORED_ANSWERS_TAKE)
        if agents.pending is not None:
            watcher.asking(agents.pending.epoch, len(agents.pending.similar))

    def _record_vectors(self, epoch: int, before: tuple[np.ndarray, np.ndarray], network: nn.Module) -> None:
        """Write the snapshot `refreshes/epoch-NNN.npz`: critical joints and sentence embeddings before and after a
        refresh, and where the network puts the clips that choose the epoch (at most `MAX_CLIPS_RECORDED`)."""
        clips, numbers = self.facts.validation, self.facts.validation_numbers
        shown = np.linspace(0, len(numbers) - 1, min(len(numbers), MAX_CLIPS_RECORDED)).round().astype(np.int64)
        with self._not_compiled():
            embeddings = embed_clips(network, clips.at(shown), self.config.data, self.settings.batch_size)

        def write(file: IO[bytes]) -> None:
            np.savez_compressed(
                file,
                joints_before=before[0],
                joints=self.agents.joints,
                text_before=before[1],
                text=self.agents.text_vectors,
                clip_embeddings=embeddings,
                clip_labels=clips.labels.cpu().numpy()[shown],
                clip_numbers=numbers[shown],
            )

        path = self.facts.run / "refreshes" / f"epoch-{epoch:03}.npz"
        path.parent.mkdir(exist_ok=True)
        runs.write_whole(path, write)

    def _not_compiled(self) -> AbstractContextManager[Any]:
        """Where compiled blocks are taken as they were written: epochs are chosen by the plain network's numbers."""
        return torch.compiler.set_stance("force_eager") if self.settings.compile else nullcontext()

    # ---- interruption

    def state(self) -> dict[str, Any]:
        """What `restore` needs beside the model's weights."""
        agents = self.agents.state()
        return {
            "text_encoder": None if self.tower is None else self.tower.state_dict(),
            "confusions": self.confusions,
            "agents": {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in agents.items()},
        }

    def restore(self, state: Mapping[str, Any] | None, epoch: int) -> None:
        """Go on after `epoch`; without a state from the beginning. Raises what a damaged state raises."""
        run, agents = self.facts.run, self.agents
        if state is not None and self.tower is not None:
            self.tower.load_state_dict(state["text_encoder"])
        if state is not None and agents.active:
            exchanges = class_knowledge.read_dialogue(run)
            # What took effect after the checkpoint and before the end takes effect then again.
            records = runs.read_lines(run / REFRESHES)
            if not agents.repeats:  # a run that repeats another has its records
                agents.repeat([record for record in records if record["effective"] > epoch + 1], exchanges)
            kept = {_RENAMED.get(name, name): value for name, value in state["agents"].items()}
            agents.restore(kept | {name: kept[name].numpy() for name in ("text", "joints", "confusions")}, exchanges)
        if distributed.leads():
            if agents.active and not (run / class_knowledge.FILE).exists():  # of version 0.1.0
                from_distinctions = self.config.agents.joints_from_distinctions
                class_knowledge.write_worked_out(run, self.facts.classes, self.facts.layout, from_distinctions)
            # What takes effect in the next epoch was written in the last one.
            runs.keep_lines(run / REFRESHES, lambda record: record["effective"] <= epoch + 1)
            runs.keep_lines(run / class_knowledge.FILE, lambda known: known["epoch"] <= epoch + 1)
        agents.use_snapshot(distributed.share(agents.snapshot))  # as the leader's checkpoint has it

    def report(self) -> dict[str, Any]:
        """`too_late` is the epoch of a refresh whose answers did not come before the end."""
        agents = self.agents
        return {
            "refreshes": agents.num_refreshes,
            "asked": agents.num_asked,
            "too_late": None if agents.pending is None else agents.pending.epoch,
        }


class _Encode(nn.Module):
    """A text tower whose forward is its `encode_text`, which is what is trained."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor) -> Tensor:
        return self.tower.encode_text(tokens)
