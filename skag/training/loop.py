"""The training loop: the one place where recogniser, losses, Questioner and Selector meet."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from .. import runs
from ..config import Config
from ..device import send, trains_in_bf16
from ..dialogue.transfer import read_lines, to_line
from ..encoders.graph import GRAPHS
from ..encoders.protogcn import ModelConfig, Recogniser
from ..errors import RunError
from ..inference.evaluate import embed_clips, predict
from ..methods.skeleton_agent.agents import Agents
from ..methods.skeleton_agent.losses import add_confusions, alignment_loss, mixing_loss, motion_loss
from ..results.analysis import accuracy, confusion_matrix
from ..skeleton import clips as data
from ..skeleton import transforms
from ..skeleton.kinematics import JOINT_FEATURES
from ..skeleton.layouts import Layout
from ..skeleton.store import SkeletonStore
from . import distributed

MAX_CLIPS_RECORDED = 2000  # of those that choose the epoch, at a refresh
STORED_ANSWERS_TAKE = 0.5  # seconds that answers are given at the end of an epoch: enough for those in the store


class Watcher(Protocol):
    """Who is told how training goes: the terminal, or nobody."""

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None: ...
    def step_done(self, means: Callable[[], dict[str, float]]) -> None: ...  # of the epoch so far; waits for the device
    def epoch_done(self, metrics: dict[str, Any]) -> None: ...
    def asking(self, epoch: int, classes: int) -> None: ...  # the answers of a refresh are waited for in the background
    def refreshed(self, record: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class TrainReport:
    """What a training run came to; accuracies in percent, on the clips that chose the epoch."""

    run: str
    epochs: int
    best_epoch: int
    val_top1: float
    selected_on: str  # "validation", or "test" where these were the test split's
    refreshes: int
    asked: int
    majority_top1: float  # of always naming the class that is commonest among the clips that chose the epoch
    too_late: int | None = None  # the epoch of a refresh whose answers did not come before the end


@dataclass
class _State:
    """Everything that changes while a run trains."""

    model: Recogniser
    averaged: _Average | None
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    confusions: Tensor  # [K, K] of the current epoch
    forward: Callable[[Tensor], Any]  # the model, as it is trained
    val_confusions: np.ndarray | None = None  # [K, K] of the last validation
    tower: torch.nn.Module | None = None  # the text encoder, where it is trained along
    encode: Callable[[Tensor], Tensor] | None = None  # tokens [n, L] to vectors [n, D], as the tower is trained
    tokenise: Callable[[list[str]], Tensor] | None = None
    epoch: int = 0
    highest_top1: float = 0.0  # on validation, of all epochs so far
    best_epoch: int = 0  # the one that is kept: see `runs.is_kept`
    best_top1: float = 0.0  # its own top-1 on validation

    @property
    def evaluated(self) -> Recogniser:
        """The network that is validated and kept: the averaged one where there is one."""
        return self.averaged.module if self.averaged is not None else self.model


def train(
    store: SkeletonStore,
    config: Config,
    run: Path,
    agents: Agents,
    device: torch.device,
    watcher: Watcher,
    *,
    asking: dict[str, Any] | None = None,
    resume: bool = False,
) -> TrainReport:
    """Train one recogniser and leave everything about it in the folder `run`.

    The training split alone is used: part of it is held out, and chooses the epoch that is kept as `best.pt`; with
    `select_on` "test" nothing is held out and the test split chooses. `asking` is noted in the run: how its agents
    were opened. With `resume` a run that was interrupted goes on after its last finished epoch, to the same weights as
    if it never had been (on a CPU, bit for bit). Raises `DataError` where the split is too small, `RunError` where a
    run cannot be gone on with, or somebody else trains it.

    Several processes that torchrun started train one run together: `agents` are those of the one that leads, and are
    not asked elsewhere.
    """
    with runs.training(run) if distributed.leads() else nullcontext():
        return _train(store, config, run, agents, device, watcher, asking or {}, resume)


def _train(
    store: SkeletonStore,
    config: Config,
    run: Path,
    agents: Agents,
    device: torch.device,
    watcher: Watcher,
    asking: dict[str, Any],
    resume: bool,
) -> TrainReport:
    train_split, test_split = store.protocol(config.data.protocol)
    training, validation = store.splits[train_split], store.splits[test_split]
    if config.train.select_on == "validation":
        training, validation = data.hold_out(store, training, config.data.val_fraction, config.train.seed)
    if len(validation) < distributed.size():
        raise RunError(
            f"{len(validation)} clips to choose the epoch by, for {distributed.size()} processes: use fewer."
        )
    numbers = validation[distributed.rank() :: distributed.size()]
    agents.hear(distributed.share(agents.told))
    model_config = model_shape(config, store, agents.text_width)
    leads = distributed.leads()
    if not resume and leads:
        _write_dialogues(run, agents)
        runs.write_run_facts(run, config, model_config, store, training, validation, device, asking)
    distributed.share(None)  # the run folder is there
    torch.manual_seed(config.train.seed)
    train_clips = data.prepare(store, training, config.data, device)
    if config.agents.gamma:
        train_clips = data.with_motion(train_clips, store, training)
    val_clips = data.prepare(store, numbers, config.data, device)
    val_labels = store.labels[validation].astype(np.int64)
    state = _start(config, model_config, train_clips, agents)
    if resume:
        _go_on(state, agents, run)
        agents.hear(distributed.share(agents.told))  # as the leader's checkpoint has it
    if agents.active and state.epoch == 0:
        _record_vectors(state, config, agents, (agents.joints, agents.text), run, 0, val_clips, numbers)
    with runs.scalar_writer(run, state.epoch) if leads else nullcontext() as write_scalars:
        while state.epoch < config.train.epochs:
            metrics = _train_epoch(state, config, train_clips, agents, watcher)
            metrics |= _validate(state, config, val_clips, val_labels)
            if leads:
                runs.append_line(run / runs.METRICS, metrics)
                write_scalars(metrics)
                watcher.epoch_done(metrics)
                if agents.active and state.epoch < config.train.epochs:
                    _refresh(state, config, agents, run, watcher, val_clips, numbers)
                _save(state, agents, run, is_best=state.best_epoch == state.epoch)
            agents.hear(distributed.share(agents.told))
    return TrainReport(
        str(run),
        config.train.epochs,
        state.best_epoch,
        round(state.best_top1, 2),
        config.train.select_on,
        agents.num_refreshes,
        agents.num_asked,
        round(100 * np.bincount(val_labels).max() / len(val_labels), 2),
        None if agents.on_its_way is None else agents.on_its_way.epoch,
    )


def _refresh(
    state: _State,
    config: Config,
    agents: Agents,
    run: Path,
    watcher: Watcher,
    val_clips: data.Clips,
    numbers: np.ndarray,
) -> None:
    """At the end of an epoch: take over the refresh whose answers are there, and begin one if it is time for it.

    Answers of a server that come later count from a later epoch on, unless the configuration says to wait.
    """
    waits = config.agents.wait_for_answers or not agents.answers_late

    def take_over(patience: float) -> None:
        before = agents.joints, agents.text
        record = agents.finish_refresh(state.epoch + 1, None if waits else patience)
        if record is not None:
            _write_dialogues(run, agents)
            runs.append_line(run / runs.REFRESHES, record)
            _record_vectors(state, config, agents, before, run, record["epoch"], val_clips, numbers)
            watcher.refreshed(record)

    take_over(0)
    if agents.on_its_way is None and state.epoch % config.agents.query_period == 0:
        on_validation = config.agents.confusion == "val"
        counts = state.val_confusions if on_validation else state.confusions.cpu().numpy()
        agents.begin_refresh(counts, state.epoch)
        take_over(STORED_ANSWERS_TAKE)
    if agents.on_its_way is not None:
        watcher.asking(agents.on_its_way.epoch, len(agents.on_its_way.similar))


def _record_vectors(
    state: _State,
    config: Config,
    agents: Agents,
    before: tuple[np.ndarray, np.ndarray],
    run: Path,
    epoch: int,
    clips: data.Clips,
    numbers: np.ndarray,
) -> None:
    """Write `refreshes/epoch-NNN.npz`: critical joints and sentence embeddings before and after a refresh, and where
    the network puts the clips that choose the epoch (at most `MAX_CLIPS_RECORDED`), to be looked at later."""
    shown = np.linspace(0, len(numbers) - 1, min(len(numbers), MAX_CLIPS_RECORDED)).round().astype(np.int64)
    with _not_compiled(config):
        embeddings = embed_clips(state.evaluated, clips.at(shown), config.data, config.train.batch_size)
    arrays = {
        "joints_before": before[0],
        "joints": agents.joints,
        "text_before": before[1],
        "text": agents.text,
        "clip_embeddings": embeddings,
        "clip_labels": clips.labels.cpu().numpy()[shown],
        "clip_numbers": numbers[shown],
    }
    path = run / "refreshes" / f"epoch-{epoch:03}.npz"
    path.parent.mkdir(exist_ok=True)
    runs.write_whole(path, lambda file: np.savez_compressed(file, **arrays))


def _write_dialogues(run: Path, agents: Agents) -> None:
    runs.write_lines(run / runs.DIALOGUES, map(to_line, agents.exchanges.values()))


def model_shape(config: Config, store: SkeletonStore, text_width: int) -> ModelConfig:
    """The network's shape for a store: joints and classes from the data, the rest from the recipe."""
    return ModelConfig(
        num_classes=len(store.classes),
        num_joints=store.layout.num_joints,
        num_bodies=config.data.num_bodies,
        channels=config.network.channels,
        strides=config.network.strides,
        joint_embedding=config.network.joint_embedding,
        dropout=config.network.dropout,
        present_bodies_only=config.network.present_bodies_only,
        embedding_dim=text_width,
        motion_features=len(JOINT_FEATURES) if config.agents.gamma else 0,
        learned_scale=config.agents.beta > 0 and config.agents.alignment_scale == "learned",
    )


def _start(config: Config, model_config: ModelConfig, clips: data.Clips, agents: Agents) -> _State:
    settings, device = config.train, clips.device
    model = Recogniser(model_config)
    if config.network.graph != "noise":
        model.begin_graphs(torch.from_numpy(GRAPHS[config.network.graph](clips.layout)).float())
    model = model.to(device)
    if settings.sync_batch_norm and distributed.size() > 1:
        model = distributed.synchronise_batch_norm(model)
    model.bf16 = trains_in_bf16(settings.precision, device)
    averaged = None
    if settings.ema:
        averaged = _Average(model, settings.ema)
    if settings.compile:
        torch._dynamo.config.recompile_limit = 64  # blocks of several shapes share their code; 8 are soon reached
        for block in model.blocks:
            block.compile(dynamic=True)
    tower, tokenise = agents.open_tower() if agents.open_tower else (None, None)
    trained = [*model.parameters(), *(tower.parameters() if tower is not None else ())]
    optimizer = _optimizer(config, trained)
    steps = _steps_per_epoch(config, len(clips))
    warmup, total = settings.warmup * steps, settings.epochs * steps

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    K = model_config.num_classes
    return _State(
        model=model,
        forward=_together(model, device),
        averaged=averaged,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, rate),
        generator=torch.Generator().manual_seed(settings.seed),
        confusions=torch.zeros(K, K, dtype=torch.long, device=device),
        tower=tower,
        encode=None if tower is None else _together(_Encode(tower), device),
        tokenise=tokenise,
    )


class _Encode(torch.nn.Module):
    """A text tower whose forward is its `encode_text`, which is what is trained."""

    def __init__(self, tower: torch.nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor) -> Tensor:
        return self.tower.encode_text(tokens)


def _together(module: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """A module whose gradients are those of all processes; itself where there is one process."""
    if distributed.size() == 1:
        return module
    return DistributedDataParallel(module, [device] if device.type == "cuda" else None)


class _Average:
    """Exponential moving average of a network's weights and buffers, which follows faster at first, so that the first
    steps are soon forgotten. It counts on the host: `torch.optim.swa_utils` asks the device at every step."""

    def __init__(self, model: Recogniser, decay: float) -> None:
        self.module, self.decay, self.updates = copy.deepcopy(model).requires_grad_(False), decay, 0
        pairs = list(zip(self.module.state_dict().values(), model.state_dict().values(), strict=True))
        self._reals = [list(side) for side in zip(*(p for p in pairs if p[0].is_floating_point()), strict=True)]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    def update(self) -> None:
        """Take in the model's weights as they are now."""
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.updates else 1.0
        torch._foreach_lerp_(*self._reals, share)
        for kept, current in self._counts:
            kept.copy_(current)
        self.updates += 1


def _optimizer(config: Config, trained: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    settings = config.train
    common = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    common["fused"] = trained[0].device.type in ("cpu", "cuda")
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(trained, **common)
    return torch.optim.SGD(trained, momentum=settings.momentum, nesterov=settings.momentum > 0, **common)


def _steps_per_epoch(config: Config, num_clips: int) -> int:
    shown, processes = num_clips * config.train.repeats, distributed.size()
    size = config.train.batch_size * processes
    return shown // size + (shown % size >= 2 * processes)


def _train_epoch(state: _State, config: Config, clips: data.Clips, agents: Agents, watcher: Watcher) -> dict[str, Any]:
    """One pass over the training clips; returns its mean loss terms and accuracy in percent."""
    started, device = time.perf_counter(), clips.device
    state.epoch += 1
    draw = int(torch.randint(2**62, (1,), generator=state.generator))
    torch.manual_seed(draw + distributed.rank())  # for dropout, whatever was drawn before
    state.confusions.zero_()
    state.model.train()
    text = torch.from_numpy(agents.text).to(device)  # K D
    if state.tower is not None:
        text = state.tokenise(agents.sentences).to(device)  # K L
    state.model.critical_joints.copy_(torch.from_numpy(agents.mask(config.data.stream)))
    sums = torch.zeros(8, device=device)

    def means() -> dict[str, float]:
        loss, cls, con, align, motion, mix, right = (sums[:-1] / sums[-1]).tolist()
        terms = {"loss": loss, "loss_cls": cls, "loss_con": con, "loss_align": align}
        return terms | {"loss_motion": motion, "loss_mix": mix, "train_top1": 100 * right}

    watcher.epoch_started(state.epoch, config.train.epochs, _steps_per_epoch(config, len(clips)))
    settings = config.train
    batches = data.training_batches(
        clips, config.data, config.augment, settings.batch_size, settings.repeats, state.generator, settings.balance
    )
    for batch in batches:
        sums += _step(state, config, clips.layout, batch, text)
        watcher.step_done(means)
    distributed.add_up(sums)
    distributed.add_up(state.confusions)
    seconds = round(time.perf_counter() - started, 2)
    return {"epoch": state.epoch, "lr": state.scheduler.get_last_lr()[0], **means(), "seconds": seconds}


def _step(state: _State, config: Config, layout: Layout, batch: data.Batch, text: Tensor) -> Tensor:
    """One optimiser step; returns, detached, the terms (L, L_cls, L_con, L_align, L_motion, L_mix) and the share
    that was right, each times the number of clips, and that number.

    `text` holds the vectors of all classes' sentences `[K, D]`, or their tokens `[K, L]` where the tower is trained
    along. With mixing the batch is doubled, and all but L_mix are of the clips as they were. Where several processes
    train, labels are of the whole batch, clips are this process's part of it, and so is what is returned; gradients are
    those of the whole batch, except that clips are mixed, and by the published rule counted, within a part.
    """
    agents, x, everyone = config.agents, batch.x, batch.labels
    labels = everyone[distributed.part_of(len(everyone))]
    count = len(labels)
    if config.augment.mix:
        generator = state.generator
        if distributed.size() > 1:
            seed = int(torch.randint(2**62, (1,), generator=generator))
            generator = torch.Generator().manual_seed(seed + distributed.rank())
        draw = transforms.draw_mix(count, len(layout.parts), x.shape[2], generator)
        mixed, weight = transforms.mix(x, layout, draw)
        x = torch.cat([x, mixed])
    out = state.forward(x)
    logits = out.class_logits[:count].float()
    cls = F.cross_entropy(logits, labels, label_smoothing=config.train.label_smoothing)
    con = align = motion = mix = cls.new_zeros(())
    if agents.alpha:
        con = F.cross_entropy(out.constraint_logits[:count].float(), labels)
    if agents.beta:
        learned = agents.alignment_scale == "learned"
        scale = state.model.alignment_scale if learned else 1 / agents.temperature
        if state.tower is None:
            sentences = text[everyone]
        else:  # each sentence of the batch once
            present, place = labels.unique(return_inverse=True)
            sentences = distributed.gather(state.encode(text[present]).float()[place], len(everyone))
        embedding = distributed.gather(out.embedding[:count].float(), len(everyone))
        align = alignment_loss(embedding, sentences, everyone, scale, agents.alignment_target)
    if batch.motion is not None:
        wanted = batch.motion
        if agents.motion_of == "critical":
            wanted = wanted.masked_fill(state.model.critical_joints[labels].eq(0).unsqueeze(2), math.nan)
        other_side = transforms.indices(layout.mirror_index, wanted.device)
        wanted = torch.where(batch.mirrored[:, None, None], wanted[:, other_side], wanted)
        motion = motion_loss(out.motion[:count].float(), wanted)
        if distributed.size() > 1:  # a mean over what is known: a part's counts by how much that is
            known = (~wanted.isnan()).sum()
            everywhere = known.clone()
            distributed.add_up(everywhere)
            motion = motion * known / everywhere.clamp(min=1) * len(everyone) / count
    if config.augment.mix:
        mix = mixing_loss(out.class_logits[count:].float(), labels, send(draw.partner, x.device), weight)
    # Processes average their gradients: a part's mean counts by its size. The alignment is of the whole batch in each.
    share = count * distributed.size() / len(everyone)
    own = cls + agents.alpha * con + agents.gamma * motion + mix
    loss = share * own + agents.beta * align
    if distributed.size() > 1:  # every parameter must get a gradient there, if only of zeros
        loss = loss + 0 * (out.constraint_logits.sum() + out.embedding.sum())
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    state.optimizer.step()
    state.scheduler.step()
    if state.averaged is not None:
        state.averaged.update()
    add_confusions(state.confusions, labels, logits, agents.confusion_rule)
    right = (logits.argmax(1) == labels).float().mean()
    total = own + agents.beta * align
    return torch.stack([total, cls, con, align, motion, mix, right, torch.ones_like(cls)]).detach() * count


def _validate(state: _State, config: Config, clips: data.Clips, labels: np.ndarray) -> dict[str, float]:
    """Top-1 in percent and loss on the clips that choose the epoch, which have `labels` and of which `clips` are this
    process's; notes whether this epoch is to be kept (`runs.is_kept`)."""
    state.evaluated.critical_joints.copy_(state.model.critical_joints)  # a mask is set, never averaged
    distributed.share_buffers(state.evaluated)
    with _not_compiled(config):
        probabilities = predict(state.evaluated, clips, config.data, config.train.batch_size)
    probabilities = distributed.interleave(probabilities, len(labels))
    top1 = accuracy(labels, probabilities).top1
    state.val_confusions = confusion_matrix(labels, probabilities.argmax(1), probabilities.shape[1])
    loss = float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-12).mean())
    earlier = state.highest_top1 if state.epoch > 1 else None
    if runs.is_kept(top1, earlier, len(labels), config.train.keep):
        state.best_epoch, state.best_top1 = state.epoch, top1
    state.highest_top1 = max(state.highest_top1, top1)
    return {"val_top1": top1, "val_loss": loss}


def _not_compiled(config: Config) -> AbstractContextManager[Any]:
    """Where compiled blocks are taken as they were written: epochs are chosen by the plain network's numbers."""
    return torch.compiler.set_stance("force_eager") if config.train.compile else nullcontext()


def _go_on(state: _State, agents: Agents, run: Path) -> None:
    """Put `state` and `agents` where `last.pt` left them; a run without one begins anew. Raises `RunError`."""
    path = run / "last.pt"
    if not path.exists():
        if distributed.leads():
            runs.keep_epochs(run, 0)
        return
    if not (run / "best.pt").exists():
        raise RunError(f"{run / 'best.pt'} is missing: take it from a copy, or train the run again.")
    try:
        last = torch.load(path, map_location="cpu", weights_only=True)
        if (processes := last.get("processes", distributed.size())) != distributed.size():
            raise RunError(
                f"{run} was trained by {processes} processes, and {distributed.size()} would take other steps: "
                "go on with as many."
            )
        state.model.load_state_dict(last["training_model"])
        if state.averaged is not None:
            state.averaged.module.load_state_dict(last["model"])
            state.averaged.updates = int(last["averaged_updates"])
        if state.tower is not None:
            state.tower.load_state_dict(last["text_encoder"])
        state.optimizer.load_state_dict(last["optimizer"])
        state.scheduler.load_state_dict(last["scheduler"])
        state.generator.set_state(last["generator"])
        state.epoch, state.best_epoch = last["epoch"], last["best_epoch"]
        state.best_top1, state.highest_top1 = last["best_top1"], last["highest_top1"]
        if agents.active:
            told = {exchange.key: exchange for exchange in read_lines(run / runs.DIALOGUES)}
            # What took effect after the checkpoint and before the end takes effect then again.
            records = runs.read_lines(run / runs.REFRESHES)
            if not agents.repeats:  # a run that repeats another has its records
                agents.repeat([record for record in records if record["effective"] > state.epoch + 1], told)
            kept = last["agents"]
            agents.restore(kept | {name: kept[name].numpy() for name in ("text", "joints", "confusions")}, told)
    except RunError:
        raise
    except Exception as error:  # a damaged file, or one of another version, fails in many ways
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"{path} cannot be gone on from ({cause}): train the run again.") from None
    if distributed.leads():
        runs.keep_epochs(run, state.epoch)


def _save(state: _State, agents: Agents, run: Path, is_best: bool) -> None:
    """Write `last.pt` (to go on from) and, after an epoch that is to be kept, `best.pt` (weights alone); both load
    where there is no such device as they were trained on."""
    weights = state.evaluated.state_dict()
    if is_best:
        best = _on_cpu({"model": weights, "epoch": state.epoch, "val_top1": state.best_top1})
        runs.write_whole(run / "best.pt", lambda file: torch.save(best, file))
        for old in run.glob("predictions-*.npz"):  # of weights that are gone
            old.unlink()
    last = {
        "model": weights,
        "training_model": state.model.state_dict(),
        "text_encoder": None if state.tower is None else state.tower.state_dict(),
        "averaged_updates": None if state.averaged is None else state.averaged.updates,
        "optimizer": state.optimizer.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "generator": state.generator.get_state(),
        "confusions": state.confusions,
        "processes": distributed.size(),
        "epoch": state.epoch,
        "best_epoch": state.best_epoch,
        "best_top1": state.best_top1,
        "highest_top1": state.highest_top1,
        "agents": {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in agents.state().items()
        },
    }
    last = _on_cpu(last)
    runs.write_whole(run / "last.pt", lambda file: torch.save(last, file))


def _on_cpu(value: Any) -> Any:
    """`value` with every tensor in it on the CPU, itself where it is there already."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(one) for key, one in value.items()}
    return [_on_cpu(one) for one in value] if isinstance(value, list) else value
