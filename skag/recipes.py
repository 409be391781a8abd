"""Recipes: functions that return a complete configuration for a data set and a stream."""

from __future__ import annotations

import dataclasses
import difflib

import numpy as np

from .config import AgentConfig, AugmentConfig, Config, DataConfig, NetworkConfig, TrainConfig
from .errors import RunError
from .store import SkeletonStore

_CPU_CLIP_PASSES = 36_000  # training clips that two CPU cores take through the small network in ten minutes
_SMALL_NETWORK = NetworkConfig(channels=(48, 48, 96, 96, 96), strides=(2, 1, 2, 1, 1))


def nw_ucla_small(stream: str) -> Config:
    """NW-UCLA on two CPU cores within a quarter of an hour."""
    return Config(
        recipe="nw-ucla-small",
        data=DataConfig(
            stream=stream,
            num_frames=32,
            num_bodies=1,
            stand_upright=True,
            face_forward=True,
            unit_height=True,
            mirror_views=True,
        ),
        augment=AugmentConfig(heading=0.3, tilt=0.05, scale=0.1, mirror=0.5, shortest_part=0.9),
        network=dataclasses.replace(_SMALL_NETWORK, dropout=0.2),
        agents=AgentConfig(),
        train=TrainConfig(
            epochs=40, optimizer="adamw", lr=2e-3, warmup=2, weight_decay=0.05, label_smoothing=0.1, ema=0.998
        ),
    )


def demo(stream: str) -> Config:
    """The simulated recordings of `make demo`, within a minute on two CPU cores."""
    return Config(
        recipe="demo",
        data=DataConfig(
            stream=stream, num_frames=32, num_bodies=1, stand_upright=True, face_forward=True, unit_height=True
        ),
        augment=AugmentConfig(heading=0.3, tilt=0.1, scale=0.1, mirror=0.5, shortest_part=0.9),
        network=NetworkConfig(channels=(32, 32, 64, 64), strides=(2, 1, 2, 1)),
        agents=AgentConfig(query_period=4),
        train=TrainConfig(
            epochs=20, optimizer="adamw", lr=2e-3, warmup=1, weight_decay=0.05, label_smoothing=0.1, ema=0.95
        ),
    )


RECIPES = {"nw-ucla-small": nw_ucla_small, "demo": demo}


def recipe(name: str, stream: str) -> Config:
    """A recipe by name. Raises `RunError` with the nearest known name."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(RECIPES)}."
        raise RunError(f"no recipe {name!r}: {hint} Without --recipe one is derived from the data.")
    return RECIPES[name](stream)


def derived(store: SkeletonStore, train_split: str, stream: str, device: str) -> tuple[Config, list[str]]:
    """A sensible configuration for any store, and one reason per choice.

    On a CPU a small network whose epochs fit in about ten minutes; elsewhere the published network.
    """
    numbers = store.splits[train_split]
    clips, layout = len(numbers), store.layout
    bodies = min(2, int(store.bodies[numbers].max()))
    median = float(np.median(store.frames[numbers]))
    on_cpu = device == "cpu"
    num_frames = int(np.clip(round(median / 16) * 16, 32, 64 if on_cpu else 100))
    repeats = max(1, 400 // clips)
    epochs = int(np.clip(_CPU_CLIP_PASSES // (clips * repeats * bodies), 10, 60)) if on_cpu else 65
    upright = layout.dims == 3
    sided = any(side in name.lower().split() for name in store.classes for side in ("left", "right"))
    config = Config(
        recipe="derived",
        data=DataConfig(
            stream=stream,
            num_frames=num_frames,
            num_bodies=bodies,
            stand_upright=upright,
            face_forward=upright,
            unit_height=upright and bodies == 1,
        ),
        augment=AugmentConfig(
            heading=0.5 if upright else 0.0,
            tilt=0.1 if upright else 0.0,
            scale=0.15,
            mirror=0.0 if sided else 0.5,
            shortest_part=0.8,
        ),
        network=_SMALL_NETWORK if on_cpu else NetworkConfig(),
        train=TrainConfig(
            epochs=epochs,
            optimizer="adamw",
            lr=2e-3 if on_cpu else 1e-3,
            warmup=2,
            weight_decay=0.05,
            repeats=repeats,
            label_smoothing=0.1,
            ema=0.98,
        ),
    )
    kind = (
        f"the small network ({len(config.network.channels)} blocks)" if on_cpu else "the published network (9 blocks)"
    )
    reasons = [
        f"{kind} for {device}",
        f"{num_frames} frames: training clips have {median:.0f} in the middle",
        f"{bodies} bod{'y' if bodies == 1 else 'ies'}: the most in a training clip, up to 2",
        f"{epochs} epochs of {repeats} {'pass' if repeats == 1 else 'passes'} over {clips} clips, "
        f"{len(store.classes)} classes",
    ]
    if upright:
        reasons.append("clips turned to face one way, and rotated about the vertical at random: 3-D layout")
    if sided:
        reasons.append("no mirroring: class names tell left from right")
    return config, reasons
