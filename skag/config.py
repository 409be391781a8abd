"""The complete configuration of a run: frozen dataclasses, stored as JSON beside every result.

A recipe (see `recipes.py`) is a function that returns one `Config`; a variant changes fields of it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .errors import RunError


def _within(config: Any, low: float, high: float, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not low <= value <= high:
            limits = f"at least {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
            raise RunError(f"{name} is {value:g}; it must be {limits}.")


_MANY = float("inf")


@dataclass(frozen=True)
class DataConfig:
    """Which clips, and in which form the network sees them."""

    protocol: str | None = None  # which train/test split; None where the store has only one
    stream: Literal["j", "b", "k", "jm", "bm", "km"] = "j"
    num_frames: int = 100  # T of the network
    num_bodies: int = 2  # M of the network; further bodies are left out, absent ones are zero
    # How T frames come out of a recording. stretch: spread evenly, between frames where need be. The other two are
    # the published samplings, one random frame out of each of T equal parts: uniform-decode takes motions from the
    # whole recording first (its 3-D data), uniform-frames takes them between the chosen frames (its 2-D data).
    sampling: Literal["stretch", "uniform-decode", "uniform-frames"] = "stretch"
    align_spine: bool = False  # turn every clip by its first frame: spine to the z axis, shoulders to the x axis
    stand_upright: bool = False  # turn every clip so that people stand along the up axis (undoes camera tilt)
    face_forward: bool = False  # turn every clip about the vertical so that people face one way
    unit_height: bool = False  # scale every clip to one body size
    pixels: bool = False  # 2-D: image coordinates as recorded (published) instead of the clip's box
    bone_confidence: Literal["mean", "difference"] = "mean"  # of a 2-D bone or motion; the published code subtracts
    test_views: int = 1  # views per clip in `skag eval`, whose probabilities are averaged
    mirror_views: bool = False  # evaluate the mirror image of every view too (for actions with either side)
    val_fraction: float = 0.1  # part of the training split held out for model selection

    def __post_init__(self) -> None:
        _within(self, 1, _MANY, "num_frames", "num_bodies", "test_views")
        _within(self, 0, 0.9, "val_fraction")


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training clips; test clips see none of them."""

    heading: float = 0.0  # rotation about the vertical, uniform within +- radians
    tilt: float = 0.0  # rotation about each other axis, uniform within +- radians
    scale: float = 0.0  # size, uniform within 1 +- scale
    mirror: float = 0.0  # probability that left and right change places
    mirror_kind: Literal["reflect", "swap"] = "reflect"  # swap (published, 3-D): joints change places, x keeps its sign
    part_drop: float = 0.0  # probability that one arm or leg is set to zero
    mix: bool = False  # double the batch with mixtures of pairs of its clips (published code, not in the paper)
    shortest_part: float = 1.0  # training sees a random part of a clip, at least this share of it
    jitter: float = 0.0  # standard deviation of noise per joint and frame, in the data's unit

    def __post_init__(self) -> None:
        _within(self, 0, 1, "mirror", "part_drop", "scale")
        _within(self, 0.01, 1, "shortest_part")
        _within(self, 0, _MANY, "heading", "tilt", "jitter")


@dataclass(frozen=True)
class NetworkConfig:
    """Width and depth of the network; the rest of its shape follows from the data."""

    channels: tuple[int, ...] = (96, 96, 96, 192, 192, 192, 384, 384, 384)
    strides: tuple[int, ...] = (1, 1, 1, 2, 1, 1, 2, 1, 1)
    joint_embedding: bool = True  # lift joints to channels[0] and add a learned position (published, not for Kinetics)
    # What the learned graphs begin as: noise (published), or first some adjacency of the skeleton (`graph.py`).
    graph: Literal["noise", "binary", "spatial", "stgcn_spatial"] = "noise"
    dropout: float = 0.0
    # Bodies that are not there (published: zeros that go through the network) are left out, in batch norm's statistics
    # and in the mean over bodies: other numbers, and half the work for clips of one person among those of two.
    present_bodies_only: bool = False

    def __post_init__(self) -> None:
        if not self.channels or len(self.channels) != len(self.strides):
            raise RunError(
                f"channels has {len(self.channels)} and strides {len(self.strides)} numbers: give one each per block."
            )
        if bad := [width for width in self.channels if width < 8 or width % 8]:
            raise RunError(f"channels holds {bad[0]}: every width must be a multiple of 8.")
        if min(self.strides) < 1:
            raise RunError(f"strides holds {min(self.strides)}: every stride must be at least 1.")
        _within(self, 0, 0.99, "dropout")


@dataclass(frozen=True)
class AgentConfig:
    """Questioner, Selector and the two loss terms they feed."""

    alpha: float = 0.2  # weight of the joint constraint, L_con (0: off)
    beta: float = 0.5  # weight of the alignment, L_align (0: off)
    # Weight of L_motion (0: off): the features of a joint must tell how it moves in the clip, which is measured once,
    # beforehand. Asked of the joints that are critical for the clip's class, or of all. Beyond the paper.
    gamma: float = 0.0
    motion_of: Literal["critical", "all"] = "critical"
    constraint_over: Literal["sum", "mean"] = (
        "sum"  # critical joints (eq. 4), or their mean: classes with many weigh alike
    )
    temperature: float = 0.1  # tau of the alignment (eq. 6, 7)
    # What the cosines are multiplied with. temperature: 1 / tau (paper). learned: a learned number that begins at
    # ln(1/0.07) and is used as it is (published code; CLIP would take its exponential).
    alignment_scale: Literal["temperature", "learned"] = "temperature"
    # q of eq. 8 over the clips of one class: uniform, or the published code's softmax of 10 times "same class".
    alignment_target: Literal["uniform", "softmax"] = "uniform"
    query_period: int = 5  # epochs between two refreshes
    max_similar: int = 10  # k of eq. 3
    # False: answers come in while training goes on, and count from the epoch after they are complete.
    wait_for_answers: bool = False
    max_questions: int | None = None  # that a run may put while it trains; None: as many as it takes
    min_confusions: int = 1  # a class counts as similar from this many confused clips on
    confusion: Literal["train", "val"] = "train"  # clips that are counted: the epoch's own (eq. 3), or held-out ones
    confusion_rule: Literal["paper", "release"] = "paper"  # eq. 3, or how the published code counts and chooses
    joints_from_distinctions: bool = True  # joints named in round 6 become critical too, not only those of round 4
    both_sides: bool = False  # a critical joint's mirror image is critical too, as it is in a clip that is mirrored
    recall_distinctions: bool = False  # round 6 is asked with the class's distinction so far before it
    text_encoder: str = "lexical"  # or open_clip:NAME, hf:NAME
    train_text_encoder: bool = False  # train an open_clip encoder along, as the published code does
    shuffled: bool = False  # control: every class is given the joints and the sentence of another one

    def __post_init__(self) -> None:
        _within(self, 0, _MANY, "alpha", "beta", "gamma")
        _within(self, 1e-4, _MANY, "temperature")
        _within(self, 1, _MANY, "query_period", "max_similar", "min_confusions")
        if self.max_questions is not None:
            _within(self, 0, _MANY, "max_questions")
        if self.train_text_encoder and not self.text_encoder.startswith("open_clip:"):
            raise RunError(f"train_text_encoder trains open_clip:NAME, not {self.text_encoder}: change one of the two.")

    @property
    def used(self) -> bool:
        """Whether anything looks at what the agents say."""
        return bool(self.alpha or self.beta or (self.gamma and self.motion_of == "critical"))


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation, and which epoch is kept."""

    epochs: int = 150
    batch_size: int = 16  # clips per step, of each process
    optimizer: Literal["sgd", "adamw"] = "sgd"  # sgd (Nesterov, as published) or adamw (converges in fewer epochs)
    lr: float = 0.025  # cosine per step to 0
    warmup: int = 0  # epochs of linear rise to lr
    momentum: float = 0.9  # of sgd
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    repeats: int = 1  # how often an epoch shows every clip
    # How far rare classes are shown more often: a class of n clips in proportion to n ** (1 - balance), 0 as they come,
    # 1 all equally often (q = 1 - balance in Kang et al., "Decoupling Representation and Classifier for Long-Tailed
    # Recognition", ICLR 2020, eq. 1).
    balance: float = 0.0
    # Of the blocks' products and activations; weights, coordinates, heads, losses and evaluation are float32 always.
    # auto: bf16 on a GPU that has it, else float32. Some processors multiply bf16 faster (`skag doctor` tells).
    precision: Literal["auto", "float32", "bf16"] = "auto"
    compile: bool = False  # torch.compile of the network's blocks: faster steps after minutes of compiling
    ema: float = 0.0  # decay per step of the averaged weights that are validated and kept (0: off)
    # Clips that choose the epoch: held out from training, or (as the published code does) those of the test split,
    # whose result is then no estimate for new recordings; every output says so.
    select_on: Literal["validation", "test"] = "validation"
    keep: Literal["near-highest", "highest", "last"] = "near-highest"  # near: within a standard error
    sync_batch_norm: bool = False  # several processes: batch norm over the whole batch, not each process's part
    seed: int = 0

    def __post_init__(self) -> None:
        _within(self, 1, _MANY, "epochs", "repeats")
        _within(self, 2, _MANY, "batch_size")
        _within(self, 0, _MANY, "lr", "warmup", "weight_decay")
        _within(self, 0, 0.99999, "momentum", "label_smoothing", "ema")
        _within(self, 0, 1, "balance")


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


def flat(config: Config) -> dict[str, Any]:
    """Every field by its dotted name, as `--set` takes it: `{"recipe": ..., "data.stream": "j", ...}`."""
    found: dict[str, Any] = {"recipe": config.recipe}
    for section in dataclasses.fields(config)[1:]:
        for name, value in dataclasses.asdict(getattr(config, section.name)).items():
            found[f"{section.name}.{name}"] = value
    return found


def replace(config: Config, section: str, **changes: Any) -> Config:
    """A copy of `config` with some fields of one section changed; a change to None is no change."""
    kept = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **kept)})


def override(config: Config, assignments: Sequence[str]) -> Config:
    """A copy of `config` with fields set from text: `train.lr=0.05`, `network.channels=48,96`.

    Fields that must fit one another may be set together. Raises `RunError` for an unknown field, with the nearest
    known name, and for a value that does not fit.
    """
    known = list(flat(config))[1:]
    changes: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        path, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise RunError(f"--set {assignment}: write FIELD=VALUE, such as train.lr=0.05.")
        if path not in known:
            by_last_part = [name for name in known if name.rpartition(".")[2] == path.rpartition(".")[2]]
            near = by_last_part or difflib.get_close_matches(path, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else "`skag recipes show NAME` lists all."
            raise RunError(f"--set {assignment}: no field {path!r}; {hint}")
        section, name = path.split(".")
        wanted = get_type_hints(type(getattr(config, section)))[name]
        value = _read(wanted, _parsed(wanted, text), f"--set {assignment}: {name}")
        changes.setdefault(section, {})[name] = value
    for section, values in changes.items():
        try:
            config = dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})
        except RunError as error:
            raise RunError(f"--set {section}: {error}") from None
    return config


def _parsed(wanted: Any, text: str) -> Any:
    """`text` as the nearest thing to a value of type `wanted`; left as text where it is none."""
    if wanted == tuple[int, ...]:
        parts = [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
        return [int(part) if part.isdecimal() else part for part in parts]
    if wanted is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if type(None) in get_args(wanted) and text.lower() in ("", "none"):
        return None
    for kind in (int, float):
        if kind in (get_args(wanted) or (wanted,)):
            try:
                return kind(text)
            except ValueError:
                return text
    return text


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
        if dataclasses.is_dataclass(types[name]):
            read[name] = from_dict(types[name], value, f"{where}: {name}")
        else:
            read[name] = _read(types[name], value, f"{where}: {name}")
    try:
        return kind(**read)
    except RunError as error:
        raise RunError(f"{where}: {error}") from None
    except (TypeError, ValueError) as error:
        raise RunError(f"{where} is not complete ({error}); it was written by another version of skag.") from None


def _read(wanted: Any, value: Any, where: str) -> Any:
    """`value` if it is of the type `wanted`. Raises `RunError`."""
    if wanted == tuple[int, ...]:
        if not isinstance(value, list | tuple) or any(type(number) is not int for number in value):
            raise RunError(f"{where} is {value!r}, which is no list of whole numbers.")
        return tuple(value)
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise RunError(f"{where} is {value!r}: use {' or '.join(map(str, get_args(wanted)))}.")
        return value
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) not in (get_args(wanted) or (wanted,)):
        raise RunError(f"{where} is {value!r}, which is no {getattr(wanted, '__name__', wanted)}.")
    return value
