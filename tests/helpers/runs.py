"""Run folders that no training made, and finished runs opened for prediction."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from skag import recipes, runs
from skag.config import Config, NetworkConfig, replace
from skag.encoders.protogcn import Recogniser
from skag.inference import predict
from skag.skeleton.store import SkeletonStore
from skag.training.loop import model_shape

CPU = torch.device("cpu")


def untrained(store_path: Path, folder: Path, stream: str = "j", held_out: range = range(3, 11), seed: int = 0) -> Path:
    """A run folder with random weights."""
    config: Config = replace(recipes.nw_ucla_small(stream), "data", num_frames=8)
    config = dataclasses.replace(config, network=NetworkConfig(channels=(16,), strides=(1,)))
    folder.mkdir()
    with SkeletonStore(store_path) as store:
        shape = model_shape(config, store, 8)
        runs.write_run_facts(folder, config, shape, store, np.arange(3), np.array(held_out), CPU, {})
    torch.manual_seed(seed)
    torch.save({"model": Recogniser(shape).state_dict()}, folder / "best.pt")
    return folder


def opened(*folders: Path, **options: object) -> predict.Predictor:
    return predict.open_predictor(list(folders), device=CPU, **options)
