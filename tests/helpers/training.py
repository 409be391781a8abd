"""Small runs on the tiny store, and watchers of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from skag import recipes
from skag.config import Config, NetworkConfig, replace
from skag.encoders.protogcn import Recogniser
from skag.methods.skeleton_agent.agents import Agents, open_agents
from skag.skeleton.store import SkeletonStore
from skag.training.loop import TrainReport, _State, train

CPU = torch.device("cpu")


class Silent:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.metrics: list[dict] = []
        self.records: list[dict] = []
        self.asked: list[int] = []
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


def small(epochs: int = 4, **agents: object) -> Config:
    config = replace(recipes.nw_ucla_small("j"), "data", num_frames=8, val_fraction=0.25)
    config = dataclasses.replace(config, network=NetworkConfig(channels=(16, 16), strides=(1, 2)))
    config = replace(config, "train", epochs=epochs, ema=0.8)
    return replace(config, "agents", **({"query_period": 2} | agents))


@contextmanager
def agents_of(config: Config, store: SkeletonStore, dialogues: Path) -> Iterator[Agents]:
    with open_agents(config.agents, store, llm=None, protocol=None, dialogues=dialogues) as agents:
        yield agents


def run_training(config: Config, store_path: Path, dialogues: Path, run: Path) -> tuple[TrainReport, Silent]:
    watcher = Silent()
    with SkeletonStore(store_path) as store, agents_of(config, store, dialogues) as agents:
        report = train(store, config, run, agents, CPU, watcher)
    return report, watcher


def state_for_a_step(model: Recogniser, forward: torch.nn.Module) -> _State:
    """What one step needs that is to leave gradients and no other weights."""
    return _State(
        model=model,
        averaged=None,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
        scheduler=SimpleNamespace(step=lambda: None),
        generator=torch.Generator(),
        confusions=torch.zeros(4, 4, dtype=torch.long),
        forward=forward,
    )


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
