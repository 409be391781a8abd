"""Small runs on the tiny store, and watchers of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skag.config import replace
from skag.methods.base import Facts, KnowledgeSource
from skag.methods.skeleton_agent.agents import Agents
from skag.methods.skeleton_agent.config import NetworkConfig, SkeletonAgentConfig
from skag.methods.skeleton_agent.network import Recogniser
from skag.methods.skeleton_agent.opening import open_agents, recorded_agents
from skag.methods.skeleton_agent.recipes import nw_ucla_small
from skag.methods.skeleton_agent.task import SkeletonAgentTask
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import SkeletonStore
from skag.training.loop import TrainReport, train

CPU = torch.device("cpu")


class Silent:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.metrics: list[dict] = []
        self.records: list[dict] = []
        self.asked: list[int] = []
        self.notes: list[str] = []
        self.steps = 0

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        self.promised = steps

    def step_done(self, means: object) -> None:
        self.steps += 1

    def asking(self, epoch: int, classes: int) -> None:
        self.asked.append(epoch)

    def epoch_done(self, metrics: dict) -> None:
        self.metrics.append(metrics)

    def refreshed(self, record: dict) -> None:
        self.records.append(record)

    def noted(self, text: str) -> None:
        self.notes.append(text)


def quiet(text: str) -> None:
    """Takes a note, and tells nobody."""


def small(epochs: int = 4, **agents: object) -> SkeletonAgentConfig:
    config = replace(nw_ucla_small("j"), "data", num_frames=8, val_fraction=0.25)
    config = dataclasses.replace(config, network=NetworkConfig(channels=(16, 16), strides=(1, 2)))
    config = replace(config, "train", epochs=epochs, ema=0.8)
    return replace(config, "agents", **({"query_period": 2} | agents))


@contextmanager
def agents_of(config: SkeletonAgentConfig, store: SkeletonStore, dialogues: Path, **source: object) -> Iterator[Agents]:
    """The agents that a dialogue store opens; `source` are further fields of the `KnowledgeSource`."""
    with open_agents(config, store, KnowledgeSource(dialogues, **source), "cpu", quiet) as agents:
        yield agents


def repeated(config: SkeletonAgentConfig, store: SkeletonStore, run: Path, **source: object) -> Agents:
    """The agents that say what they said in `run`; no dialogue store is read."""
    source = {"dialogues": run / "nowhere.h5"} | source
    return recorded_agents(config, store, KnowledgeSource(repeat=run, **source), "cpu", quiet)


def run_training(
    config: SkeletonAgentConfig, store_path: Path, dialogues: Path, run: Path, **source: object
) -> tuple[TrainReport, Silent]:
    watcher = Silent()
    with SkeletonStore(store_path) as store, agents_of(config, store, dialogues, **source) as agents:
        report = train(store, config, run, agents, CPU, watcher)
    return report, watcher


def task_for_a_step(
    config: SkeletonAgentConfig, model: Recogniser, text: Tensor, forward: torch.nn.Module | None = None
) -> SkeletonAgentTask:
    """A task of `text` `[K, D]` and Kinect v1 bodies, of which only `step` is called, with the network given."""
    layout, nothing = load_layout("kinect-v1"), np.zeros(0, np.int64)
    classes = tuple(f"class {k}" for k in range(len(text)))
    facts = Facts(classes, layout, Path("nowhere"), None, None, nothing, nothing)
    task = SkeletonAgentTask(config, facts, Agents(config.agents, layout, len(classes)), CPU)
    task.model, task.forward, task.text = model, forward or model, text
    return task


class Stop(Exception):
    """Stands for whatever ends a process."""


class StopsAt(Silent):
    """Ends the run in the middle of a step, or right after an epoch's metrics or refresh were written."""

    def __init__(self, event: str, count: int) -> None:
        super().__init__()
        self.event, self.left = event, count

    def _maybe(self, event: str) -> None:
        if event == self.event:
            self.left -= 1
            if not self.left:
                raise Stop

    def step_done(self, means: object) -> None:
        super().step_done(means)
        self._maybe("step")

    def epoch_done(self, metrics: dict) -> None:
        super().epoch_done(metrics)
        self._maybe("epoch")

    def refreshed(self, record: dict) -> None:
        super().refreshed(record)
        self._maybe("refresh")


def refresh(agents: Agents, confusions: np.ndarray, epoch: int) -> dict:
    """A refresh whose answers are waited for, as training does at the end of an epoch."""
    agents.begin_refresh(confusions, epoch)
    return agents.finish_refresh(epoch + 1)
