"""SUGAR's recipes: the paper's settings for its benchmarks, small ones for two CPU cores, and one for any store.

There is no published code. Where the paper is silent, the values are skag's; `sources` says which they are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from ...config import AugmentConfig, DataConfig, StreamName, TrainConfig, flat, replace
from ...errors import RunError
from ...lm.config import BaseModelConfig
from ...plural import counted
from ...skeleton.store import SkeletonStore
from ..base import Card
from ..from_data import FromData
from .config import AlignConfig, AnswerConfig, BridgeConfig, EncoderConfig, SugarConfig, TextConfig

_SMALL_ENCODER = EncoderConfig(channels=(48, 48, 96, 96, 128), strides=(2, 1, 2, 1, 1), dropout=0.2)
_SMALL_BRIDGE = BridgeConfig(num_queries=16, layers=2, width=192, heads=3, lr=1e-3, taught=30)
_SMALL_TEXTS = TextConfig(knowledge="motion")
_CPU_CLIP_PASSES = 36_000  # training clips that two CPU cores take through the small encoder in ten minutes
_CPU_PROMPTS = 3_000  # and through smollm2, there and back, in about half an hour


@dataclass(frozen=True)
class Paper:
    """One benchmark of the paper: its data and its accuracy (Tables 1 and 2)."""

    data: str
    protocol: str
    layout: str
    classes: int
    top1: float
    batch_size: int = 200


PAPER = {
    "sugar-ntu60-xsub": Paper("NTU RGB+D", "xsub", "nturgb+d", 60, 95.2),
    "sugar-ntu60-xview": Paper("NTU RGB+D", "xview", "nturgb+d", 60, 97.8),
    "sugar-ntu120-xsub": Paper("NTU RGB+D", "xsub", "nturgb+d", 120, 90.1),
    "sugar-ntu120-xset": Paper("NTU RGB+D", "xset", "nturgb+d", 120, 89.7),
    "sugar-pku-xsub": Paper("PKU-MMD", "xsub", "nturgb+d", 51, 89.0),
    "sugar-pku-xview": Paper("PKU-MMD", "xview", "nturgb+d", 51, 94.3),
    "sugar-smarthome-xsub": Paper("Toyota Smarthome", "xsub", "smarthome-13", 31, 70.2, batch_size=100),
    "sugar-smarthome-xview1": Paper("Toyota Smarthome", "xview1", "smarthome-13", 19, 50.9, batch_size=100),
    "sugar-smarthome-xview2": Paper("Toyota Smarthome", "xview2", "smarthome-13", 19, 67.1, batch_size=100),
}


def of_paper(name: str, stream: StreamName) -> SugarConfig:
    """The paper's settings for one of its benchmarks, `name` a key of `PAPER`."""
    facts = PAPER[name]
    return SugarConfig(
        recipe=name,
        data=DataConfig(protocol=facts.protocol, stream=stream, num_frames=64),
        augment=AugmentConfig(heading=0.3, tilt=0.3),
        texts=TextConfig(text_encoder="open_clip:ViT-B-32"),
        lm=BaseModelConfig(
            base_model="meta-llama/Llama-2-7b-hf",
            precision="bf16",
            targets=("all-linear",),
            clips_at_once=4,
            checkpoint_activations=True,
        ),
        train=TrainConfig(epochs=200, batch_size=facts.batch_size, lr=0.01, weight_decay=4e-4),
        tune=TrainConfig(epochs=1, batch_size=128, optimizer="adamw", lr=2e-5, weight_decay=0.0, keep="last"),
    )


def small(stream: StreamName) -> SugarConfig:
    """Kinect recordings of one person with `smollm2`, on two CPU cores."""
    return SugarConfig(
        recipe="sugar-small",
        data=DataConfig(
            stream=stream, num_frames=32, num_bodies=1, stand_upright=True, face_forward=True, unit_height=True
        ),
        augment=AugmentConfig(heading=0.3, tilt=0.05, scale=0.1, mirror=0.5, shortest_part=0.9),
        network=_SMALL_ENCODER,
        texts=_SMALL_TEXTS,
        align=AlignConfig(candidates="all"),
        bridge=_SMALL_BRIDGE,
        lm=BaseModelConfig(),
        train=_small_training(40),
        tune=_small_tuning(5),
    )


def align_small(stream: StreamName) -> SugarConfig:
    """The encoder of `sugar-small` alone, whose class is that of the nearest text; no language model is tuned."""
    return dataclasses.replace(small(stream), recipe="sugar-align-small", answer=AnswerConfig(by="encoder"))


def _small_training(epochs: int, repeats: int = 1) -> TrainConfig:
    return TrainConfig(
        epochs=epochs, optimizer="adamw", lr=2e-3, warmup=2, weight_decay=0.05, ema=0.998, repeats=repeats
    )


def _small_tuning(epochs: int) -> TrainConfig:
    return TrainConfig(epochs=epochs, batch_size=8, optimizer="adamw", lr=3e-3, warmup=1, weight_decay=0.01)


RECIPES: dict[str, Card] = {
    **{
        name: Card(
            lambda stream, name=name: of_paper(name, stream),  # type: ignore[misc]  # a default binds the name
            facts.data,
            facts.layout,
            facts.classes,
            layout_fixed=True,
            accuracy={"j": facts.top1},
        )
        for name, facts in PAPER.items()
    },
    "sugar-small": Card(small, "NW-UCLA, UTKinect", "kinect-v1", 10, "CPU"),
    "sugar-align-small": Card(align_small, "NW-UCLA, UTKinect", "kinect-v1", 10, "CPU"),
}


def faithful(config: SugarConfig, to: str, dims: int) -> SugarConfig:
    """`config` with the paper's losses, bridge and answers; raises `RunError` for "release", of which there is none."""
    if to == "release":
        raise RunError("SUGAR has no published code to be faithful to: use --faithful-to paper.")
    bridge = config.bridge
    own = BridgeConfig(bridge.kind, bridge.num_queries, bridge.layers, bridge.width, bridge.heads, lr=bridge.lr)
    return dataclasses.replace(
        config,
        texts=TextConfig(text_encoder=config.texts.text_encoder),
        align=AlignConfig(),
        bridge=dataclasses.replace(own, kind="tqp"),
        answer=AnswerConfig(),
    )


def for_unseen(config: SugarConfig) -> SugarConfig:
    """`config` for classes that nothing is seen of: the encoder learns from bare names, against those of all seen
    classes, and no language model is asked what they look like (beyond the paper; docs/sugar.md has the comparison).

    The last epoch is kept: to hold out classes that choose one costs classes to learn from.
    """
    config = replace(config, "texts", knowledge="none", name=True, parts=False)
    config = replace(replace(config, "align", candidates="all"), "train", keep="last")
    return replace(config, "tune", keep="last")


def sources(config: SugarConfig) -> dict[str, str]:
    """Where the value of every field of a recipe comes from, by its dotted name; "paper" is arXiv 2511.10091."""
    found = dict.fromkeys(flat(config), "skag")
    if config.recipe not in PAPER:
        return found
    silent = "skag (not stated in the paper)"
    for names, source in (
        ("data.protocol train.batch_size", "paper: section 4.1"),
        ("train.epochs train.lr train.optimizer", "paper: section 4.2 (it steps the rate down, at epochs not stated)"),
        ("lm.base_model lm.rank lm.alpha tune.lr tune.batch_size tune.epochs", "paper: section 4.2"),
        ("texts.knowledge texts.text_encoder align.loss align.direction network.max_pool", "paper: section 3"),
        ("bridge.kind bridge.num_queries answer.by answer.instruction", "paper: section 3"),
        ("align.temperature align.normalise align.texts_per_clip bridge.layers bridge.width bridge.heads", silent),
        ("bridge.lr bridge.positions lm.targets lm.dropout answer.described answer.words answer.frame", silent),
        ("network.token_by network.token_bodies network.strides network.dropout data.num_frames", silent),
        ("augment.heading augment.tilt tune.optimizer tune.weight_decay train.weight_decay", silent),
    ):
        found |= dict.fromkeys(names.split(), source)
    return found


def derived(store: SkeletonStore, train_split: str, stream: StreamName, device: str) -> tuple[SugarConfig, list[str]]:
    """A configuration for any store, and one reason per choice; on a CPU the small encoder and bridge."""
    found, on_cpu = FromData.of(store, train_split), device == "cpu"
    clips, bodies, upright = found.clips, found.bodies, found.upright
    num_frames = found.num_frames(64)
    repeats = max(1, 400 // clips)
    epochs = int(np.clip(_CPU_CLIP_PASSES // (clips * repeats * bodies), 10, 60)) if on_cpu else 65
    tuning = int(np.clip(_CPU_PROMPTS // clips, 3, 10)) if on_cpu else 5
    network = _SMALL_ENCODER if on_cpu else EncoderConfig()
    tokens = 8 if on_cpu else num_frames // 4
    config = SugarConfig(
        recipe="derived",
        data=found.config(stream, num_frames),
        augment=AugmentConfig(
            heading=0.5 if upright else 0.0,
            tilt=0.1 if upright else 0.0,
            scale=0.15,
            mirror=0.0 if found.sided else 0.5,
            shortest_part=0.8,
        ),
        network=network,
        texts=_SMALL_TEXTS,
        align=AlignConfig(candidates="all"),
        bridge=dataclasses.replace(_SMALL_BRIDGE, num_queries=min(16, tokens * store.layout.num_joints)),
        train=_small_training(epochs, repeats),
        tune=_small_tuning(tuning),
    )
    reasons = [
        f"{'the small encoder' if on_cpu else 'CTR-GCN'} ({len(network.channels)} blocks) for {device}",
        *found.reasons(num_frames),
        f"{epochs} epochs of {counted(repeats, 'pass')} over {counted(clips, 'clip')} for the encoder, "
        f"{tuning} for the language model",
        "texts of the motion alone: of what is seen there is nothing without pictures (texts.knowledge)",
    ]
    if upright:
        reasons.append("clips turned to face one way, and rotated about the vertical at random: 3-D layout")
    return config, reasons
