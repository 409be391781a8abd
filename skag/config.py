"""The configuration of a run: frozen dataclasses, stored as JSON beside every result.

Here are the sections that all methods share; a method's `config.py` adds its own. A recipe is a function that returns
one `Config`; a variant changes fields of it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

from .checks import MANY, within
from .errors import RunError

AnyConfig = TypeVar("AnyConfig", bound="Config")
StreamName = Literal["j", "b", "k", "jm", "bm", "km"]  # as `skeleton.layouts.STREAMS` has them


def stream_named(name: str) -> StreamName:
    """The stream of that name. Raises `RunError` where there is none."""
    for stream in get_args(StreamName):
        if stream == name:
            return stream
    raise RunError(f"no stream {name!r}: use {' or '.join(get_args(StreamName))}.")


@dataclass(frozen=True)
class DataConfig:
    """Which clips, and in which form the network sees them."""

    protocol: str | None = None  # which train/test split; None where the store has only one
    stream: StreamName = "j"
    num_frames: int = 100  # T of the network
    num_bodies: int = 2  # M of the network; further bodies are left out, absent ones are zero
    # How T frames come out of a recording. stretch: spread evenly, between frames where need be. The other two are
    # the published samplings, one random frame out of each of T equal parts: uniform-decode takes motions from the
    # whole recording first (its 3-D data), uniform-frames takes them between the chosen frames (its 2-D data).
    sampling: Literal["stretch", "uniform-decode", "uniform-frames"] = "stretch"
    # Real time, of which a stretched clip has lost all (not in the paper). duration: the logarithm of a clip's seconds
    # as one more channel. speed: how far every joint moves in a second as further channels. Needs known frame rates.
    timing: Literal["none", "duration", "speed"] = "none"
    align_spine: bool = False  # turn every clip by its first frame: spine to the z axis, shoulders to the x axis
    stand_upright: bool = False  # turn every clip so that people stand along the up axis (undoes camera tilt)
    face_forward: bool = False  # turn every clip about the vertical so that people face one way
    unit_height: bool = False  # scale every clip to one body size
    pixels: bool = False  # 2-D: image coordinates as recorded (published) instead of the clip's box
    bone_confidence: Literal["mean", "difference"] = "mean"  # of a 2-D bone or motion; the published code subtracts
    test_views: int = 1  # views per clip in `skag eval`, whose probabilities are averaged
    mirror_views: bool = False  # evaluate the mirror image of every view too (for actions with either side)
    val_fraction: float = 0.1  # part of the training split held out for model selection
    unseen: tuple[str, ...] = ()  # classes whose clips nothing is learned from: `skag train --unseen`
    # Seen classes that a second training, the run's rehearsal, leaves out too: it says how far scores of seen classes
    # are to be lowered, and how much measured motion counts, when unseen classes are asked for (0: no rehearsal).
    rehearse: int = 0
    # Where prepared clips are kept while a run lasts: memory, or a file under cache/prepared that all processes of a
    # machine share (`skeleton.mapped`). auto: in a file where they would take more than a quarter of the memory.
    prepared: Literal["auto", "memory", "file"] = "auto"

    def __post_init__(self) -> None:
        within(self, 1, MANY, "num_frames", "num_bodies", "test_views")
        within(self, 0, MANY, "rehearse")
        within(self, 0, 0.9, "val_fraction")
        if self.timing != "none" and self.sampling != "stretch":
            raise RunError(f"timing {self.timing} needs frames an even time apart: set data.sampling=stretch.")


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training clips; test clips see none of them."""

    heading: float = 0.0  # rotation about the vertical, uniform within +- radians
    tilt: float = 0.0  # rotation about each other axis, uniform within +- radians
    scale: float = 0.0  # size, uniform within 1 +- scale
    mirror: float = 0.0  # probability that left and right change places
    mirror_kind: Literal["reflect", "swap"] = "reflect"  # swap (published, 3-D): joints change places, x keeps its sign
    part_drop: float = 0.0  # probability that one arm or leg is set to zero
    # Probability that joints of a clip are set to zero, as those that were not seen are: an arm or a leg, or up to 30 %
    # of all joints, frame by frame.
    joint_dropout: float = 0.0
    mix: bool = False  # double the batch with mixtures of pairs of its clips (published code, not in the paper)
    shortest_part: float = 1.0  # training sees a random part of a clip, at least this share of it

    def __post_init__(self) -> None:
        within(self, 0, 1, "mirror", "part_drop", "joint_dropout", "scale")
        within(self, 0.01, 1, "shortest_part")
        within(self, 0, MANY, "heading", "tilt")


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
        within(self, 1, MANY, "epochs", "repeats")
        within(self, 2, MANY, "batch_size")
        within(self, 0, MANY, "lr", "warmup", "weight_decay")
        within(self, 0, 0.99999, "momentum", "label_smoothing", "ema")
        within(self, 0, 1, "balance")


@dataclass(frozen=True)
class Config:
    """What the configuration of every method has; a method's own class adds its sections.

    Together they fix everything of a run but the data and the dialogues.
    """

    method: ClassVar[str]  # its name among `methods.METHODS`
    removed: ClassVar[Mapping[str, Any]] = {}  # fields of earlier versions, with the values that changed nothing
    recipe: str
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def settings_of(self, stage: str) -> TrainConfig:
        """Of a stage of training: the section of its name where that is one, else `train`."""
        own = getattr(self, stage, None)
        return own if isinstance(own, TrainConfig) else self.train


def flat(config: Config) -> dict[str, Any]:
    """Every field by its dotted name, as `--set` takes it: `{"recipe": ..., "data.stream": "j", ...}`."""
    found: dict[str, Any] = {"recipe": config.recipe}
    for section in dataclasses.fields(config)[1:]:
        for name, value in dataclasses.asdict(getattr(config, section.name)).items():
            found[f"{section.name}.{name}"] = value
    return found


def replace(config: AnyConfig, section: str, **changes: Any) -> AnyConfig:
    """A copy of `config` with some fields of one section changed; a change to None is no change."""
    kept = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **kept)})


def override(config: AnyConfig, assignments: Sequence[str]) -> AnyConfig:
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
        if path.startswith("*."):  # in whichever section it stands
            path = next((name for name in known if name.endswith(path[1:])), path)
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
    if wanted in (tuple[int, ...], tuple[str, ...]):
        parts = [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
        return [int(part) if part.isdecimal() and wanted == tuple[int, ...] else part for part in parts]
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


def config_from_dict(kind: type[AnyConfig], values: Any, where: str) -> AnyConfig:
    """The inverse of `Config.to_dict`, of the class `kind`.

    Fields that an earlier version had are left out where they changed nothing. Raises `RunError` naming one that did,
    and an unknown, mistyped or missing field.
    """
    if isinstance(values, dict):
        values = {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}
        for path, harmless in kind.removed.items():
            section, name = path.split(".")
            fields = values.get(section)
            if isinstance(fields, dict) and name in fields and fields.pop(name) != harmless:
                raise RunError(f"{where}: {path} is set, which this version no longer has: skag 0.1.0 reads this run.")
    return from_dict(kind, values, where)


def from_dict(kind: type, values: Any, where: str) -> Any:
    """A dataclass of plain and nested fields from what JSON made of it. Raises `RunError`."""
    hints = get_type_hints(kind)
    types = {each.name: hints[each.name] for each in dataclasses.fields(kind)}
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
    if wanted == tuple[str, ...]:
        if not isinstance(value, list | tuple) or any(type(name) is not str for name in value):
            raise RunError(f"{where} is {value!r}, which is no list of names.")
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
