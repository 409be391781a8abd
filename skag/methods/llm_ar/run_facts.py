"""What a run's network follows from, looked at before anything is made: data, configuration, base model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...errors import RunError
from ...skeleton.store import SkeletonStore
from ..base import Note
from .base_model import width_and_identity
from .codebook_task import NetworkShape
from .config import LlmArConfig

CHANNELS = 3  # of prepared clips: x, y and z, or the confidence


def describe(config: LlmArConfig, store: SkeletonStore, tell: Note | None) -> dict[str, Any]:
    """The fields of config.json. Raises `RunError` for too short clips and too many codes, `ModelError`."""
    each, frames = config.vqvae.frames_per_code, config.data.num_frames
    if frames % each or frames < each:
        raise RunError(
            f"data.num_frames is {frames}, and a code stands for {each} frames: set it to a multiple of {each}."
        )
    if config.data.timing != "none":
        raise RunError("llm-ar's codes stand for coordinates alone: set data.timing=none.")
    numbers = store.splits[store.protocol(config.data.protocol)[0]]
    bodies = store.bodies[numbers].clip(1, config.data.num_bodies)
    rows = len(numbers) if config.vqvae.bodies == "joined" else int(bodies.sum())
    config.codebook.check(rows * (frames // each))
    width, identity = width_and_identity(config, tell)
    found = NetworkShape(store.layout.num_joints, config.data.num_bodies, CHANNELS, width, len(store.classes))
    return {"model": asdict(found), "base_model": identity}
