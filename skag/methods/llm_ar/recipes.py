"""LLM-AR's recipes: the paper's, small ones, and where every value of them comes from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...config import AugmentConfig, DataConfig, StreamName, TrainConfig, flat, replace
from ...errors import RunError
from ...lm.config import BaseModelConfig
from ...plural import counted
from ...skeleton.store import SkeletonStore
from ..base import Card
from ..from_data import FromData
from .config import BiasConfig, CodebookConfig, LlmArConfig, ReadConfig, VqVaeConfig

_HELD_OUT = 0.1  # of the training clips
_STEPS, _BATCH = 300_000, 256  # of the first stage (paper, section 4.2)
_TUNED_CLIPS = 300_000  # 75,000 micro-batches of 4 (paper; as optimiser steps it would be 300 epochs)


@dataclass(frozen=True)
class Published:
    """One benchmark of the paper."""

    protocol: str
    layout: str
    classes: int
    training: int  # clips
    data: str
    accuracy: float  # top-1 in percent (paper, Tables 1 to 3)
    bodies: int = 2


PUBLISHED = {
    "llm-ar-ntu60-xsub": Published("xsub", "nturgb+d", 60, 40_091, "NTU RGB+D", 95.0),
    "llm-ar-ntu60-xview": Published("xview", "nturgb+d", 60, 37_646, "NTU RGB+D", 98.4),
    "llm-ar-ntu120-xsub": Published("xsub", "nturgb+d", 120, 63_026, "NTU RGB+D", 88.7),
    "llm-ar-ntu120-xset": Published("xset", "nturgb+d", 120, 54_468, "NTU RGB+D", 91.5),
    "llm-ar-uav": Published("csv1", "uav", 155, 16_432, "UAV-Human", 46.3),
}
_PAPER: dict[str, dict[str, Any]] = {  # what the paper fixes, for all data sets (section 4.2 and equations)
    "codebook": {"num_codes": 512, "geometry": "hyperbolic", "curvature": 1.0, "embedding": 1.0, "commitment": 0.02},
    "bias": {"weight": 0.2, "zipf": 1.0, "context": 1.0, "mmd": 1.0},
    "train": {"optimizer": "adamw", "lr": 2e-4, "batch_size": _BATCH},
    "tune": {"optimizer": "adamw", "lr": 3e-3, "weight_decay": 0.01, "batch_size": 256},
    "lm": {"adapt": "lora", "rank": 64, "alpha": 16.0},
}
_AS_PRINTED: dict[str, dict[str, Any]] = {  # the plainest reading of what the paper leaves open
    "vqvae": {"bodies": "joined"},
    "codebook": {
        "latent_scale": "none", "max_norm": 0.0, "code_loss": "mean_square", "begin": "normal", "revive_every": 0,
    },
    "bias": {"mmd_words": "as_is"},
}  # fmt: skip


def published(name: str, stream: StreamName) -> LlmArConfig:
    """The paper's settings for one benchmark, `name` a key of `PUBLISHED`: LLaMA-13B, for several GPUs. What it leaves
    open is read as it is printed, with which the codebook collapses on small data (docs/llm-ar.md)."""
    facts = PUBLISHED[name]
    trained = round(facts.training * (1 - _HELD_OUT))
    config = LlmArConfig(
        recipe=name,
        data=DataConfig(protocol=facts.protocol, stream=stream, num_frames=64, num_bodies=facts.bodies),
        train=TrainConfig(epochs=round(_STEPS * _BATCH / trained), weight_decay=0.0, keep="last"),
        lm=BaseModelConfig("huggyllama/llama-13b", precision="bf16", clips_at_once=4),
        tune=TrainConfig(epochs=max(1, round(_TUNED_CLIPS / trained)), warmup=1),
    )
    return _with(config, _PAPER, _AS_PRINTED)


def small(stream: StreamName) -> LlmArConfig:
    """UTKinect or recordings of its size on two CPU cores, with the base model that the index of packages has."""
    return LlmArConfig(
        recipe="llm-ar-small",
        data=DataConfig(
            stream=stream,
            num_frames=64,
            num_bodies=1,
            stand_upright=True,
            face_forward=True,
            unit_height=True,
        ),
        augment=AugmentConfig(heading=0.3, tilt=0.05, scale=0.1, mirror=0.5, shortest_part=0.9),
        vqvae=VqVaeConfig(width=128, supervision=0.3),
        codebook=CodebookConfig(num_codes=128, revive_every=25),
        bias=BiasConfig(),
        read=ReadConfig(),
        lm=BaseModelConfig("smollm2"),
        train=TrainConfig(epochs=12, batch_size=32, optimizer="adamw", lr=1e-3, warmup=1, weight_decay=0.0, repeats=20),
        tune=TrainConfig(epochs=15, batch_size=16, optimizer="adamw", lr=3e-3, warmup=1, weight_decay=0.01),
    )


def _card(name: str) -> Card:
    facts = PUBLISHED[name]
    return Card(
        lambda stream: published(name, stream),
        facts.data,
        facts.layout,
        facts.classes,
        layout_fixed=True,
        accuracy={"j": facts.accuracy},
    )


RECIPES: dict[str, Card] = {
    **{name: _card(name) for name in PUBLISHED},
    "llm-ar-small": Card(small, "UTKinect", "kinect-v1", 10, "CPU"),
}


def _with(config: LlmArConfig, *changes: dict[str, dict[str, Any]]) -> LlmArConfig:
    for each in changes:
        for section, values in each.items():
            config = replace(config, section, **values)
    return config


def faithful(config: LlmArConfig, to: str, dims: int) -> LlmArConfig:
    """`config` with what the paper states, and what it leaves open as it is printed. Raises `RunError` for "release":
    no code was published."""
    if to == "release":
        raise RunError("LLM-AR's code was never published: use --faithful-to paper.")
    return _with(config, _PAPER, _AS_PRINTED)


def sources(config: LlmArConfig) -> dict[str, str]:
    """Where the value of every field of a recipe comes from, by its dotted name. "paper" is Qu et al., CVPR 2024."""
    found = dict.fromkeys(flat(config), "skag")
    if config.recipe not in PUBLISHED:
        return found
    for section, values in _PAPER.items():
        found |= dict.fromkeys((f"{section}.{name}" for name in values), "paper: section 4.2, eq. 3 to 13")
    for section, values in _AS_PRINTED.items():
        found |= dict.fromkeys((f"{section}.{name}" for name in values), "paper: as printed")
    for names, source in (
        ("data.protocol data.stream", "paper: section 4.1, 4.3"),
        ("lm.base_model train.epochs", "paper: section 4.2"),
        ("tune.epochs", "paper: section 4.2, 75,000 micro-batches"),
        ("vqvae.width vqvae.depth vqvae.growth", "code of T2M-GPT, which the paper builds on"),
        ("vqvae.halvings", "paper: section 4.2, a quarter"),
        ("lm.dropout lm.targets lm.clips_at_once tune.warmup", "code of MotionGPT, whose settings the paper has"),
        ("read.tokens read.space", "paper: section 3.2, likely"),
    ):
        found |= dict.fromkeys(names.split(), source)
    return found


def derived(store: SkeletonStore, train_split: str, stream: StreamName, device: str) -> tuple[LlmArConfig, list[str]]:
    """A sensible configuration for any store, and one reason per choice."""
    found = FromData.of(store, train_split)
    clips, bodies, upright = found.clips, found.bodies, found.upright
    num_frames = found.num_frames(64)
    tokens = int(store.bodies[store.splits[train_split]].clip(1, bodies).sum()) * num_frames // 4
    num_codes = 512 if tokens >= 16_384 else 128
    num_codes = max(2, min(num_codes, tokens // 8 * 2))
    repeats = max(1, round(1600 / clips))
    tune_epochs = int(np.clip(4000 // clips, 5, 15))
    config = small(stream)
    config = dataclasses.replace(
        config,
        recipe="derived",
        data=found.config(stream, num_frames),
        augment=AugmentConfig(
            heading=0.3 if upright else 0.0,
            tilt=0.05 if upright else 0.0,
            scale=0.1,
            mirror=0.0 if found.sided else 0.5,
            shortest_part=0.9,
        ),
        vqvae=dataclasses.replace(config.vqvae, width=128 if device == "cpu" else 512),
        codebook=dataclasses.replace(config.codebook, num_codes=num_codes),
        train=dataclasses.replace(config.train, repeats=repeats),
        tune=dataclasses.replace(config.tune, epochs=tune_epochs),
    )
    frames, *others = found.reasons(num_frames)
    reasons = [
        f"base model {config.lm.base_model}: --base-model takes another",
        frames,
        f"{num_codes} codes: training clips have {tokens} tokens",
        *others,
        f"codebook: {config.train.epochs} epochs of {counted(repeats, 'pass')} over {counted(clips, 'clip')}; "
        f"base model: {tune_epochs} epochs",
    ]
    return config, reasons
