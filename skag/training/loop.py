"""The training loop: epochs of any method's stage, resumable, by one process or several."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import runs
from ..config import Config
from ..errors import RunError
from ..methods import method
from ..methods.base import Facts, Knowledge, KnowledgeSource, Note, Task, Watcher
from ..skeleton.clips import Clips, prepare
from ..skeleton.store import SkeletonStore
from ..skeleton.tempo import rates_of
from . import distributed
from .batches import hold_out, num_batches, training_batches
from .optim import Average, make_optimizer, make_scheduler
from .start_from import Start, axes_of, reopened, take_over

LAST, BEST = "last.pt", "best.pt"  # in a run folder


@dataclass(frozen=True)
class TrainReport:
    """What a training run came to; accuracies in percent, on the clips that chose the epoch."""

    run: str
    epochs: int  # of the last stage, as are the next two
    best_epoch: int
    val_top1: float
    selected_on: str  # "validation", or "test" where these were the test split's
    majority_top1: float  # of always naming the class that is commonest among the clips that chose the epoch
    of_method: dict[str, Any]  # what the method adds

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the method's among them."""
        own = dict(vars(self))
        return own | own.pop("of_method")


def train(
    store: SkeletonStore,
    config: Config,
    run: Path,
    knowledge: Knowledge,
    device: torch.device,
    watcher: Watcher,
    *,
    source: KnowledgeSource | None = None,
    resume: bool = False,
    start: Start | None = None,
    note: Note = lambda text: None,
) -> TrainReport:
    """Train one recogniser and leave everything about it in the folder `run`.

    The training split alone is used: part of it is held out, and chooses the epoch that is kept as `best.pt`; with
    `select_on` "test" nothing is held out and the test split chooses. `source` is noted in the run: where its
    `knowledge` comes from. With `resume` a run that was interrupted goes on after its last finished epoch, to the same
    weights as if it never had been (on a CPU, bit for bit). Raises `DataError` where the split is too small, `RunError`
    where a run cannot be resumed, or somebody else trains it. With `start` the network begins with what fits of
    weights that were trained before, which `note` is told.

    Several processes that torchrun started train one run together: the `knowledge` of the one that leads counts.
    """
    with runs.training(run) if distributed.leads() else nullcontext():
        return _train(store, config, run, knowledge, device, watcher, source, resume, start, note)


def _train(
    store: SkeletonStore,
    config: Config,
    run: Path,
    knowledge: Knowledge,
    device: torch.device,
    watcher: Watcher,
    source: KnowledgeSource | None,
    resume: bool,
    start: Start | None,
    note: Note,
) -> TrainReport:
    train_split, test_split = store.protocol(config.data.protocol)
    training, validation = store.splits[train_split], store.splits[test_split]
    if config.train.select_on == "validation":
        training, validation = hold_out(store, training, config.data.val_fraction, config.train.seed)
    if len(validation) < distributed.size():
        raise RunError(
            f"{len(validation)} clips to choose the epoch by, for {distributed.size()} processes: use fewer."
        )
    if config.data.timing != "none":
        rates_of(store.frame_rates)  # before there is a run folder
    knowledge.use_snapshot(distributed.share(knowledge.snapshot))
    of_method = method(config.method)
    if not resume and distributed.leads():
        knowledge.begin_run(run)
        shape = of_method.shape(config, store, knowledge) | ({} if start is None else {"from": start.to_record()})
        asking = {} if source is None else source.to_record()
        runs.write_run_facts(run, config, shape, store, training, validation, device, asking)
    distributed.share(None)  # the run folder is there
    if resume and not (run / LAST).exists() and (record := runs.read_json(run, runs.CONFIG).get("from")):
        start = reopened(record)
    numbers = validation[distributed.rank() :: distributed.size()]
    facts = Facts(
        classes=tuple(store.classes),
        layout=store.layout,
        run=run,
        training=prepare(store, training, config.data, device),
        validation=prepare(store, numbers, config.data, device),
        validation_labels=store.labels[validation].astype(np.int64),
        validation_numbers=numbers,
    )
    stages = of_method.stages(config)
    reached = _stage_reached(run, stages) if resume else 0
    for number in range(reached, len(stages)):
        torch.manual_seed(config.train.seed)
        task = of_method.make_task(stages[number], config, facts, knowledge, device)
        if start is not None and number == 0:
            taken = take_over(start, task.model, axes_of(of_method, config), store.layout, store.classes)
            if distributed.leads():
                runs.note_fact(run, "from", start.to_record() | taken.to_record())
                note(f"Starting from {start.path}:\n" + "\n".join(f"  {line}" for line in taken.lines()))
        loop = Loop(task, config, facts, watcher, stages, number)
        if resume and number == reached:
            loop.resume()
        own_folder = loop.stage if len(stages) > 1 else ""
        writer = runs.scalar_writer(run, loop.epoch, own_folder) if distributed.leads() else nullcontext()
        with writer as write_scalars:
            while loop.epoch < task.settings.epochs:
                metrics = loop.run_epoch()
                if write_scalars is not None:
                    write_scalars(metrics)
    commonest = np.bincount(facts.validation_labels).max() / len(facts.validation_labels)
    return TrainReport(
        run=str(run),
        epochs=loop.task.settings.epochs,
        best_epoch=loop.best_epoch,
        val_top1=round(loop.best_score, 2),
        selected_on=config.train.select_on,
        majority_top1=round(100 * commonest, 2),
        of_method=loop.task.report(),
    )


def _stage_reached(run: Path, stages: Sequence[str]) -> int:
    """The number of the stage that a run was in when it ended. Raises `RunError`."""
    if len(stages) == 1 or not (run / LAST).exists():
        return 0
    try:
        stage = torch.load(run / LAST, map_location="cpu", weights_only=True).get("stage", stages[0])
        return list(stages).index(stage)
    except Exception as error:  # a damaged file, or one of another version, fails in many ways
        raise _cannot_resume(run / LAST, error) from None


def _cannot_resume(path: Path, error: Exception) -> RunError:
    cause = (str(error) or type(error).__name__).splitlines()[0]
    return RunError(f"{path} cannot be resumed from ({cause}): train the run again.")


@dataclass
class Loop:
    """One stage of a run while it trains, and everything of it that changes."""

    task: Task
    config: Config
    facts: Facts
    watcher: Watcher
    stages: Sequence[str]  # of the run
    number: int  # of this one among them
    epoch: int = 0
    highest_score: float = 0.0  # on validation, of all epochs so far
    best_epoch: int = 0  # the one that is kept: see `runs.is_kept`
    best_score: float = 0.0  # its own on validation
    average: Average | None = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    scheduler: torch.optim.lr_scheduler.LambdaLR = field(init=False)
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        settings = self.task.settings
        self.average = Average(self.task.model, settings.ema) if settings.ema else None
        self.optimizer = make_optimizer(settings, self.task.trained)
        self.scheduler = make_scheduler(settings, self.optimizer, self.steps_per_epoch)
        self.generator = torch.Generator().manual_seed(settings.seed)

    @property
    def stage(self) -> str:
        return self.stages[self.number]

    @property
    def keeps(self) -> Path:
        """The checkpoint of the kept epoch: the last stage's is the run's."""
        return self.facts.run / (BEST if self.number == len(self.stages) - 1 else f"{self.stage}.pt")

    @property
    def clips(self) -> Clips:
        return self.facts.training

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept: the averaged one where there is one."""
        return self.task.model if self.average is None else self.average.module

    @property
    def steps_per_epoch(self) -> int:
        return num_batches(len(self.clips), self.task.settings)

    def run_epoch(self) -> dict[str, Any]:
        """Train, validate and save; returns the epoch's metrics, which are written into the run."""
        metrics = self._train()
        metrics |= self._validate()
        if distributed.leads():
            runs.append_line(self.facts.run / runs.METRICS, metrics)
            self.watcher.epoch_done(metrics)
        self.task.end_epoch(self.epoch, self.evaluated, self.watcher)
        if distributed.leads():
            self._save()
        return metrics

    def _train(self) -> dict[str, Any]:
        """One pass over the training clips; returns the means of the terms over them."""
        started, settings, device = time.perf_counter(), self.task.settings, self.clips.device
        self.epoch += 1
        draw = int(torch.randint(2**62, (1,), generator=self.generator))
        torch.manual_seed(draw + distributed.rank())  # for dropout, whatever was drawn before
        self.task.begin_epoch(self.epoch, self.evaluated)
        self.task.model.train()
        names: list[str] = []
        sums = torch.zeros(0)

        def means() -> dict[str, float]:
            return dict(zip(names, (sums[:-1] / sums[-1]).tolist(), strict=True))

        self.watcher.epoch_started(self.epoch, settings.epochs, self.steps_per_epoch)
        batches = training_batches(
            self.clips,
            self.config.data,
            self.config.augment,
            settings.batch_size,
            settings.repeats,
            self.generator,
            settings.balance,
        )
        for batch in batches:
            self.optimizer.zero_grad(set_to_none=True)
            step = self.task.step(batch, self.generator)
            self._update(step.loss)
            if not names:
                names, sums = list(step.terms), torch.zeros(len(step.terms) + 1, device=device)
            sums += torch.stack([*step.terms.values(), torch.ones_like(step.loss)]).detach() * step.count
            self.watcher.step_done(means)
        distributed.add_up(sums)
        seconds = round(time.perf_counter() - started, 2)
        where = {"stage": self.stage} if len(self.stages) > 1 else {}
        return where | {"epoch": self.epoch, "lr": self.scheduler.get_last_lr()[0], **means(), "seconds": seconds}

    def _update(self, loss: Tensor) -> None:
        """One step of the optimiser; gradients add to those that the task has left of parts of the batch."""
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        if self.average is not None:
            self.average.update()

    def _validate(self) -> dict[str, float]:
        """The metrics of the clips that choose the epoch; notes whether this one is to be kept."""
        found = self.task.validate(self.evaluated)
        earlier = self.highest_score if self.epoch > 1 else None
        keep = self.task.settings.keep if found.clips is not None or self.task.settings.keep == "last" else "highest"
        if runs.is_kept(found.score, earlier, found.clips or 0, keep):
            self.best_epoch, self.best_score = self.epoch, found.score
        self.highest_score = found.score if earlier is None else max(earlier, found.score)
        return dict(found.metrics)

    def resume(self) -> None:
        """Go on where `last.pt` ended; a run without one begins anew. Raises `RunError`."""
        run, path, last = self.facts.run, self.facts.run / LAST, None
        if path.exists() and not self.keeps.exists():
            raise RunError(f"{self.keeps} is missing: take it from a copy, or train the run again.")
        try:
            if path.exists():
                last = torch.load(path, map_location="cpu", weights_only=True)
                self._restore(last)
            self.task.restore(last, self.epoch)
        except RunError:
            raise
        except Exception as error:
            raise _cannot_resume(path, error) from None
        if distributed.leads():
            runs.keep_lines(run / runs.METRICS, self._is_kept_line)

    def _is_kept_line(self, metrics: dict[str, Any]) -> bool:
        """Whether an epoch was done before the checkpoint that is resumed from."""
        stage = self.stages.index(metrics.get("stage", self.stages[0]))
        return stage < self.number or (stage == self.number and metrics["epoch"] <= self.epoch)

    def _restore(self, last: dict[str, Any]) -> None:
        """Everything but the task's own part of a checkpoint."""
        if (processes := last.get("processes", distributed.size())) != distributed.size():
            raise RunError(
                f"{self.facts.run} was trained by {processes} processes, and {distributed.size()} would take other "
                "steps: resume with as many."
            )
        self.task.model.load_state_dict(last["training_model"])
        if self.average is not None:
            self.average.module.load_state_dict(last["model"])
            self.average.updates = int(last["averaged_updates"])
        self.optimizer.load_state_dict(last["optimizer"])
        self.scheduler.load_state_dict(last["scheduler"])
        for group, base, rate in zip(
            self.optimizer.param_groups, self.scheduler.base_lrs, self.scheduler.lr_lambdas, strict=True
        ):  # as it was, unless the run is prolonged
            group["lr"] = base * rate(self.scheduler.last_epoch)
        self.generator.set_state(last["generator"])
        self.epoch, self.best_epoch = last["epoch"], last["best_epoch"]
        self.best_score, self.highest_score = last["best_top1"], last["highest_top1"]

    def _save(self) -> None:
        """Write `last.pt` (to resume from) and, after an epoch that is to be kept, `best.pt` (weights alone); both load
        where there is no such device as they were trained on."""
        run, weights = self.facts.run, self.evaluated.state_dict()
        if self.best_epoch == self.epoch:
            best = _on_cpu({"model": weights, "epoch": self.epoch, "val_top1": self.best_score})
            runs.write_whole(self.keeps, lambda file: torch.save(best, file))
            for old in run.glob("predictions-*.npz"):  # of weights that are gone
                old.unlink()
        last = {
            "model": weights,
            "training_model": self.task.model.state_dict(),
            "averaged_updates": None if self.average is None else self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generator": self.generator.get_state(),
            "processes": distributed.size(),
            "stage": self.stage,
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_top1": self.best_score,
            "highest_top1": self.highest_score,
            **self.task.state(),
        }
        last = _on_cpu(last)
        runs.write_whole(run / LAST, lambda file: torch.save(last, file))


def _on_cpu(value: Any) -> Any:
    """`value` with every tensor in it on the CPU, itself where it is there already."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(one) for key, one in value.items()}
    return [_on_cpu(one) for one in value] if isinstance(value, list) else value
