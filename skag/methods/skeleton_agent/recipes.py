"""SkeletonAgent's recipes: the published ones and skag's own, and where every value of them comes from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...config import AugmentConfig, DataConfig, StreamName, TrainConfig, flat, replace
from ...plural import counted
from ...skeleton.store import SkeletonStore
from ..base import Card
from ..from_data import FromData
from .config import AgentConfig, NetworkConfig, SkeletonAgentConfig

_CPU_CLIP_PASSES = 36_000  # training clips that two CPU cores take through the small network in ten minutes
_SMALL_NETWORK = NetworkConfig(channels=(48, 48, 96, 96, 96), strides=(2, 1, 2, 1, 1))
_KINETICS_NETWORK = NetworkConfig(
    channels=(96, 96, 96, 96, 192, 192, 192, 384, 384, 384),
    strides=(1, 1, 1, 1, 2, 1, 1, 2, 1, 1),
    joint_embedding=False,
)

# ---------------------------------------------------------------- the published recipes

_PerBase = tuple[float, float, float]  # for the joint, bone and k-bone stream; a motion has its base stream's
_FLIP = AugmentConfig(mirror=0.5)
_TURN = AugmentConfig(heading=0.2, tilt=0.2)
_TURN_FLIP = AugmentConfig(heading=0.2, tilt=0.2, mirror=0.5, mirror_kind="swap")
_TURN_DROP = AugmentConfig(heading=0.2, tilt=0.2, part_drop=0.2)


@dataclass(frozen=True)
class Published:
    """What the published code's configuration files say of one benchmark, and the paper of its accuracy."""

    folder: str  # of the configuration files, configs/FOLDER/STREAM.py
    protocol: str | None
    layout: str
    classes: int
    alpha: _PerBase
    beta: _PerBase
    augment: tuple[AugmentConfig, AugmentConfig, AugmentConfig]
    accuracy: dict[str, float]  # top-1 in percent by stream or number of fused streams (paper, Tables 1 to 3)
    query_period: int = 5
    epochs: int = 150
    lr: float = 0.025
    batch_size: int = 16
    network: NetworkConfig = field(default_factory=NetworkConfig)


def _accuracy(j: float, b: float, k: float, two: float, four: float, six: float) -> dict[str, float]:
    return {"j": j, "b": b, "k": k, "2": two, "4": four, "6": six}


PUBLISHED = {
    "ntu60-xsub": Published(
        "ntu60_xsub", "xsub", "nturgb+d", 60, (0.2, 0.2, 0.2), (0.5, 0.2, 0.2), (_TURN, _TURN_FLIP, _TURN_FLIP),
        _accuracy(92.75, 93.01, 93.01, 94.01, 94.30, 94.51),
    ),
    "ntu60-xview": Published(
        "ntu60_xview", "xview", "nturgb+d", 60, (0.2, 0.2, 0.2), (0.5, 0.2, 0.2), (_TURN, _TURN, _TURN_DROP),
        _accuracy(97.39, 96.94, 97.01, 97.73, 97.99, 98.19),
    ),
    "ntu120-xsub": Published(
        "ntu120_xsub", "xsub", "nturgb+d", 120, (0.3, 0.3, 0.2), (0.1, 0.3, 0.3), (_TURN_FLIP, _TURN_FLIP, _TURN_DROP),
        _accuracy(87.39, 90.01, 89.49, 90.51, 91.35, 91.70),
    ),
    "ntu120-xset": Published(
        "ntu120_xset", "xset", "nturgb+d", 120, (0.3, 0.3, 0.2), (0.1, 0.3, 0.3), (_TURN, _TURN_FLIP, _TURN_FLIP),
        _accuracy(89.59, 91.57, 90.46, 92.43, 92.97, 93.05),
    ),
    "k400": Published(
        "k400", None, "coco-17+3", 400, (0.005, 0.005, 0.005), (0.01, 0.01, 0.01), (_FLIP, _FLIP, _FLIP),
        _accuracy(50.69, 49.10, 48.26, 52.24, 52.98, 53.57),
        query_period=50, lr=0.1, batch_size=64, network=_KINETICS_NETWORK,
    ),
    "finegym": Published(
        "finegym", None, "coco-17+3", 99, (0.1, 0.1, 0.05), (0.1, 0.1, 0.1), (_FLIP, _FLIP, _FLIP),
        _accuracy(94.64, 95.70, 95.54, 96.08, 96.46, 96.53),
    ),
    "uav-csv1": Published(
        "uav_csv1", "csv1", "uav", 155, (0.2, 0.3, 0.05), (0.2, 0.2, 0.2), (AugmentConfig(),) * 3,
        _accuracy(47.25, 48.50, 47.44, 50.31, 50.85, 52.05), epochs=300,
    ),
    "uav-csv2": Published(
        "uav_csv2", "csv2", "uav", 155, (0.2, 0.3, 0.05), (0.2, 0.2, 0.2), (AugmentConfig(),) * 3,
        _accuracy(73.66, 73.98, 73.42, 76.00, 76.95, 78.07),
    ),
}  # fmt: skip


def published(name: str, stream: StreamName) -> SkeletonAgentConfig:
    """A published recipe with skag's choices where the code leaves the paper (see `faithful`), `name` a key of
    `PUBLISHED`."""
    facts, base = PUBLISHED[name], "jbk".index(stream[0])
    flat_data = facts.layout != "nturgb+d"
    return SkeletonAgentConfig(
        recipe=name,
        data=DataConfig(
            protocol=facts.protocol,
            stream=stream,
            sampling="uniform-frames" if flat_data else "uniform-decode",
            pixels=flat_data,
            bone_confidence="difference" if flat_data else "mean",
            test_views=10,
        ),
        augment=dataclasses.replace(facts.augment[base], mix=True),
        network=facts.network,
        agents=AgentConfig(
            alpha=facts.alpha[base],
            beta=facts.beta[base],
            query_period=facts.query_period,
            joints_from_distinctions=False,
            text_encoder="open_clip:ViT-B-32",
        ),
        train=TrainConfig(epochs=facts.epochs, lr=facts.lr, batch_size=facts.batch_size),
    )


# ---------------------------------------------------------------- skag's own


def nw_ucla(stream: StreamName) -> SkeletonAgentConfig:
    """NW-UCLA with the published network, for a GPU."""
    small = nw_ucla_small(stream)
    return dataclasses.replace(
        small,
        recipe="nw-ucla",
        data=dataclasses.replace(small.data, num_frames=64),
        network=NetworkConfig(dropout=0.2),
        train=dataclasses.replace(small.train, epochs=65, lr=1e-3, repeats=2),
    )


def nw_ucla_small(stream: StreamName) -> SkeletonAgentConfig:
    """NW-UCLA on two CPU cores within a quarter of an hour."""
    return SkeletonAgentConfig(
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


def kinder_gator(stream: StreamName) -> SkeletonAgentConfig:
    """Kinder-Gator's 48 actions of children and adults on two CPU cores within a quarter of an hour.

    Clips last five seconds in the middle. Names tell left from right, so that test clips are not mirrored too.
    """
    small = nw_ucla_small(stream)
    return dataclasses.replace(
        small,
        recipe="kinder-gator",
        data=dataclasses.replace(small.data, num_frames=48, mirror_views=False),
        train=dataclasses.replace(small.train, epochs=20, ema=0.99),
    )


def demo(stream: StreamName) -> SkeletonAgentConfig:
    """The simulated recordings of `make demo`, within a minute on two CPU cores."""
    return SkeletonAgentConfig(
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


def utkinect(stream: StreamName) -> SkeletonAgentConfig:
    """UTKinect-Action3D on two CPU cores within minutes: a hundred training clips, each shown often."""
    small = nw_ucla_small(stream)
    return dataclasses.replace(small, recipe="utkinect", train=dataclasses.replace(small.train, repeats=5))


def sbu(stream: StreamName) -> SkeletonAgentConfig:
    """SBU Kinect Interaction on two CPU cores within minutes; two bodies, five folds to be trained one by one."""
    small = nw_ucla_small(stream)
    return dataclasses.replace(
        small,
        recipe="sbu",
        data=dataclasses.replace(small.data, num_bodies=2, unit_height=False),
        train=dataclasses.replace(small.train, epochs=30, repeats=2),
    )


def _card(name: str) -> Card:
    facts = PUBLISHED[name]
    data = {"ntu": "NTU RGB+D", "k40": "Kinetics", "fin": "FineGYM", "uav": "UAV-Human"}[name[:3]]
    return Card(
        lambda stream: published(name, stream),
        data,
        facts.layout,
        facts.classes,
        layout_fixed=True,
        accuracy=facts.accuracy,
    )


RECIPES: dict[str, Card] = {
    **{name: _card(name) for name in PUBLISHED},
    "nw-ucla": Card(nw_ucla, "NW-UCLA", "kinect-v1", 10),
    "nw-ucla-small": Card(nw_ucla_small, "NW-UCLA", "kinect-v1", 10, "CPU"),
    "utkinect": Card(utkinect, "UTKinect", "kinect-v1", 10, "CPU"),
    "sbu": Card(sbu, "SBU Kinect", "sbu-15", 8, "CPU"),
    "kinder-gator": Card(kinder_gator, "Kinder-Gator", "kinect-v1", 48, "CPU"),
    "demo": Card(demo, "skag simulate", "nturgb+d", 10, "CPU"),
}


_PAPER: dict[str, dict[str, Any]] = {  # what the paper fixes, for all data sets (section 4.1, equations 3 and 6 to 9)
    "data": {"num_frames": 100},
    "agents": {
        "alpha": 0.2, "beta": 0.5, "temperature": 0.1, "max_similar": 10, "query_period": 5,
        "alignment_scale": "temperature", "alignment_target": "uniform", "confusion": "train",
        "confusion_rule": "paper", "text_encoder": "open_clip:ViT-B-32", "train_text_encoder": False,
        "joints_from_distinctions": False, "min_confusions": 1, "bone_masks": "joint",
    },
    "augment": {"mix": False},
    "train": {
        "epochs": 150, "batch_size": 64, "lr": 0.1, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4,
        "warmup": 0, "label_smoothing": 0.0, "ema": 0.0,
    },
}  # fmt: skip
_RELEASE: dict[str, dict[str, Any]] = {  # where the published code leaves the paper, for all data sets
    "data": {"num_frames": 100, "test_views": 10, "bone_confidence": "difference"},
    "agents": {
        "max_similar": 10, "alignment_scale": "learned", "alignment_target": "softmax", "confusion": "train",
        "confusion_rule": "release", "text_encoder": "open_clip:ViT-B-32", "train_text_encoder": True,
        "joints_from_distinctions": False, "bone_masks": "release",
    },
    "augment": {"mix": True},
    "train": {
        "optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "warmup": 0, "label_smoothing": 0.0, "ema": 0.0,
        "select_on": "test", "keep": "highest",
    },
}  # fmt: skip


def faithful(config: SkeletonAgentConfig, to: str, dims: int) -> SkeletonAgentConfig:
    """`config` with every option in which paper and published code differ set as `to` ("paper" or "release") has it.

    `dims` is the layout's: only 3-D joints are flipped by the published code without being reflected.
    """
    for section, changes in {"paper": _PAPER, "release": _RELEASE}[to].items():
        config = replace(config, section, **changes)
    kind = "swap" if to == "release" and dims == 3 else "reflect"
    return replace(config, "augment", mirror_kind=kind)


def for_unseen(config: SkeletonAgentConfig) -> SkeletonAgentConfig:
    """`config` for classes that nothing is seen of: the embedding is aligned with bare names, seen from their mean,
    over all seen classes, and no language model is asked. docs/unseen.md has what was compared.

    The last epoch is kept: to hold out classes that choose one costs classes to learn from.
    """
    config = replace(
        config,
        "agents",
        alpha=0.0,
        beta=1.0,
        alignment_text="name",
        alignment_over="classes",
        text_space="centred",
        train_text_encoder=False,
    )
    return replace(config, "train", keep="last")


def sources(config: SkeletonAgentConfig) -> dict[str, str]:
    """Where the value of every field of a recipe comes from, by its dotted name.

    "code" is the published code (github.com/firework8/SkeletonAgent), "paper" arXiv 2511.22433.
    """
    if config.recipe not in PUBLISHED:
        return dict.fromkeys(flat(config), "skag")
    facts = PUBLISHED[config.recipe]
    found = dict.fromkeys(flat(config), "skag")
    for names, source in (
        (
            "data.protocol data.stream data.num_frames data.num_bodies data.sampling data.align_spine data.pixels "
            "data.test_views augment.heading augment.tilt augment.mirror augment.part_drop augment.shortest_part "
            "agents.alpha agents.beta agents.query_period train.epochs train.batch_size train.optimizer train.lr "
            "train.warmup train.momentum train.weight_decay",
            f"code: configs/{facts.folder}/{config.data.stream}.py",
        ),
        ("data.bone_confidence augment.mirror_kind", "code: pipelines/pose_related.py"),
        ("augment.mix", "code: tools.py (not in the paper)"),
        (
            "network.channels network.strides network.joint_embedding network.graph network.present_bodies_only",
            "code: models/gcns",
        ),
        ("network.dropout", "code: simple_head.py"),
        ("agents.temperature agents.alignment_scale", "paper: eq. 6, 7 (code: learned)"),
        ("agents.alignment_target", "paper: eq. 8 (code: softmax)"),
        ("agents.max_similar agents.confusion agents.confusion_rule", "paper: eq. 3 (code: other)"),
        ("agents.text_encoder", "paper: Table 5"),
        ("agents.train_text_encoder", "skag (code: true)"),
        ("agents.joints_from_distinctions", "paper: section 3, round 4"),
        ("train.select_on", "skag (code: test)"),
        ("train.keep", "skag (code: highest)"),
    ):
        found |= dict.fromkeys(names.split(), source)
    return found


def derived(
    store: SkeletonStore, train_split: str, stream: StreamName, device: str
) -> tuple[SkeletonAgentConfig, list[str]]:
    """A sensible configuration for any store, and one reason per choice.

    On a CPU a small network whose epochs fit in about ten minutes; elsewhere the published network.
    """
    found = FromData.of(store, train_split)
    clips, bodies, upright = found.clips, found.bodies, found.upright
    on_cpu = device == "cpu"
    num_frames = found.num_frames(64 if on_cpu else 100)
    repeats = max(1, 400 // clips)
    epochs = int(np.clip(_CPU_CLIP_PASSES // (clips * repeats * bodies), 10, 60)) if on_cpu else 65
    config = SkeletonAgentConfig(
        recipe="derived",
        data=found.config(stream, num_frames),
        augment=AugmentConfig(
            heading=0.5 if upright else 0.0,
            tilt=0.1 if upright else 0.0,
            scale=0.15,
            mirror=0.0 if found.sided else 0.5,
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
        *found.reasons(num_frames),
        f"{epochs} epochs of {counted(repeats, 'pass')} over {counted(clips, 'clip')}, "
        f"{counted(len(store.classes), 'class')}",
    ]
    if upright:
        reasons.append("clips turned to face one way, and rotated about the vertical at random: 3-D layout")
    return config, reasons
