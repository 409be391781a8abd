"""Run folders that no training made, and finished runs opened for prediction."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from skag import runs
from skag.config import replace
from skag.inference import predict
from skag.methods.skeleton_agent.config import NetworkConfig
from skag.methods.skeleton_agent.network import Recogniser
from skag.methods.skeleton_agent.recipes import nw_ucla_small
from skag.methods.skeleton_agent.task import model_shape
from skag.skeleton.store import SkeletonStore

CPU = torch.device("cpu")


def untrained(store_path: Path, folder: Path, stream: str = "j", held_out: range = range(3, 11), seed: int = 0) -> Path:
    """A run folder with random weights."""
    config = replace(nw_ucla_small(stream), "data", num_frames=8)
    config = dataclasses.replace(config, network=NetworkConfig(channels=(16,), strides=(1,)))
    folder.mkdir()
    with SkeletonStore(store_path) as store:
        shape = model_shape(config, store, 8)
        facts = {"model": dataclasses.asdict(shape)}
        runs.write_run_facts(folder, config, facts, store, np.arange(3), np.array(held_out), CPU, {})
    torch.manual_seed(seed)
    torch.save({"model": Recogniser(shape).state_dict()}, folder / "best.pt")
    return folder


def opened(*folders: Path, **options: object) -> predict.Predictor:
    return predict.open_predictor(list(folders), device=CPU, **options)
