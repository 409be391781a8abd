"""What is made sure of before a run begins, and what its network costs: nothing is computed."""

from __future__ import annotations

from pathlib import Path

from ... import runs
from ...encoders.cost import cost
from ...encoders.ctrgcn import spatial_graphs
from ...errors import RunError
from ...skeleton.store import SkeletonStore
from . import network as networks
from .base_model import sizes
from .config import SugarConfig
from .network import Aligner, bridge_cost
from .task import encoder_shape


def check(config: SugarConfig, store: SkeletonStore) -> str:
    """Parameters and FLOPs of encoder and bridge for one clip. Raises `ModelError` for a base model that cannot be had,
    `RunError` for one that is narrower than the bridge's query, for a query that is longer than a clip, and where
    `align.of` is no run."""
    import torch

    if config.align.of:
        runs.read_json(Path(config.align.of), runs.CONFIG)
    shape, frames = encoder_shape(config, store), config.data.num_frames
    with torch.device("meta"):
        encoder = Aligner(shape, spatial_graphs(store.layout).to("meta"), len(store.classes), 1).eval()
        clip = torch.empty(1, config.data.num_bodies, frames, shape.num_joints, shape.in_channels)
    found = f"encoder {cost(encoder, lambda: encoder.features(clip))}"
    if not config.tunes:
        return f"For one clip: {found}."
    word_width, tokens = sizes(config).width, shape.num_tokens(frames)
    bridge = networks.resolved(config.bridge, tokens)
    if bridge.kind == "tqp" and bridge.num_queries > tokens:
        raise RunError(
            f"the bridge's query has length {bridge.num_queries} and clips have {tokens} tokens: set "
            f"bridge.num_queries to {tokens} or less, or network.token_by to time_joint."
        )
    return f"For one clip: {found}; bridge {bridge_cost(bridge, shape.width, word_width, tokens)}."
