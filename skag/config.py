"""The complete configuration of a run: frozen dataclasses, stored as JSON beside every result.

A recipe (see `recipes.py`) is a function that returns one `Config`; a variant changes fields of it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints

from .errors import RunError


@dataclass(frozen=True)
class DataConfig:
    """Which clips, and in which form the network sees them."""

    protocol: str | None = None  # which train/test split; None where the store has only one
    stream: str = "j"  # j b k jm bm km
    num_frames: int = 100  # T of the network
    num_bodies: int = 2  # M of the network; further bodies are left out, absent ones are zero
    stand_upright: bool = False  # turn every clip so that people stand along the up axis (undoes camera tilt)
    face_forward: bool = False  # turn every clip about the vertical so that people face one way
    unit_height: bool = False  # scale every clip to one body size
    mirror_views: bool = (
        False  # evaluate the mirror image of every view too, and average (for actions with either side)
    )
    val_fraction: float = 0.1  # part of the training split held out for model selection


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training clips; test clips see none of them."""

    heading: float = 0.0  # rotation about the vertical, uniform within +- radians
    tilt: float = 0.0  # rotation about each other axis, uniform within +- radians
    scale: float = 0.0  # size, uniform within 1 +- scale
    mirror: float = 0.0  # probability that left and right change places
    shortest_part: float = 1.0  # training sees a random part of a clip, at least this share of it
    jitter: float = 0.0  # standard deviation of noise per joint and frame, in the data's unit


@dataclass(frozen=True)
class NetworkConfig:
    """Width and depth of the network; the rest of its shape follows from the data."""

    channels: tuple[int, ...] = (96, 96, 96, 192, 192, 192, 384, 384, 384)
    strides: tuple[int, ...] = (1, 1, 1, 2, 1, 1, 2, 1, 1)
    dropout: float = 0.0


@dataclass(frozen=True)
class AgentConfig:
    """Questioner, Selector and the two loss terms they feed."""

    alpha: float = 0.2  # weight of the joint constraint, L_con (0: off)
    beta: float = 0.5  # weight of the alignment, L_align (0: off)
    temperature: float = 0.1  # tau of the alignment (eq. 6, 7)
    query_period: int = 5  # epochs between two refreshes
    max_similar: int = 10  # k of eq. 3
    min_confusions: int = 1  # a class counts as similar from this many confused clips on
    joints_from_distinctions: bool = True  # joints named in round 6 become critical too, not only those of round 4
    text_encoder: str = "lexical"  # or open_clip:NAME


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation."""

    epochs: int = 150
    batch_size: int = 16
    optimizer: str = "sgd"  # sgd (Nesterov, as published) or adamw (converges in fewer epochs)
    lr: float = 0.025  # cosine per step to 0
    warmup: int = 0  # epochs of linear rise to lr
    momentum: float = 0.9  # of sgd
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    repeats: int = 1  # how often an epoch shows every clip
    ema: float = 0.0  # decay per step of the averaged weights that are validated and kept (0: off)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "adamw"):
            raise RunError(f"train.optimizer is {self.optimizer!r}: use sgd or adamw.")


@dataclass(frozen=True)
class Config:
    """Everything that fixes a run but the data and the dialogues."""

    recipe: str
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    agents: AgentConfig = field(default_factory=AgentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def replace(config: Config, section: str, **changes: Any) -> Config:
    """A copy of `config` with some fields of one section changed; a change to None is no change."""
    kept = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **kept)})


def config_from_dict(values: dict[str, Any], where: str) -> Config:
    """The inverse of `Config.to_dict`. Raises `RunError` naming an unknown, mistyped or missing field."""
    return from_dict(Config, values, where)


def from_dict(kind: type, values: Any, where: str) -> Any:
    """A dataclass of plain and nested fields from what JSON made of it. Raises `RunError`."""
    types = get_type_hints(kind)
    if not isinstance(values, dict):
        raise RunError(f"{where}: expected fields of {kind.__name__}, found {type(values).__name__}.")
    if unknown := sorted(set(values) - set(types)):
        raise RunError(f"{where}: unknown field {unknown[0]!r}; it was written by another version of skag.")
    read = {}
    for name, value in values.items():
        wanted = types[name]
        if dataclasses.is_dataclass(wanted):
            read[name] = from_dict(wanted, value, f"{where}: {name}")
        elif wanted == tuple[int, ...]:
            if not isinstance(value, list | tuple) or any(type(number) is not int for number in value):
                raise RunError(f"{where}: {name} is {value!r}, which is no list of whole numbers.")
            read[name] = tuple(value)
        else:
            allowed = get_args(wanted) or (wanted,)
            if wanted is float and type(value) is int:
                value = float(value)
            if type(value) not in allowed:
                raise RunError(f"{where}: {name} is {value!r}, which is no {getattr(wanted, '__name__', wanted)}.")
            read[name] = value
    try:
        return kind(**read)
    except (TypeError, ValueError) as error:
        raise RunError(f"{where} is not complete ({error}); it was written by another version of skag.") from None
