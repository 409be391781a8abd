"""The reference arrays that lie beside the project."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from skag.methods.skeleton_agent.network import ModelConfig, Recogniser
from skag.methods.skeleton_agent.published import from_published

SHARED = Path(__file__).parents[3] / "shared"


@lru_cache
def golden(name: str) -> np.lib.npyio.NpzFile:
    """Reference arrays by file name, opened once and kept open; skips the test where they are not there."""
    path = SHARED / "golden" / name
    if not path.exists():
        pytest.skip(f"reference arrays are not there: {path}")
    return np.load(path)


def published_state(arrays: np.lib.npyio.NpzFile) -> dict[str, torch.Tensor]:
    """The published state dict among the reference arrays."""
    return {key[6:]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("state/")}


def published_network(arrays: np.lib.npyio.NpzFile) -> tuple[ModelConfig, Recogniser]:
    """skag's network in float64 with the published weights."""
    config, state = from_published(published_state(arrays))
    model = Recogniser(config)
    model.load_state_dict(state)
    return config, model.double()
