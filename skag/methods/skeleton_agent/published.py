"""Checkpoints of the published SkeletonAgent code (mmcv files, or bare state dicts) as networks of skag.

The published network computes the same function in more pieces: its temporal branches have a convolution each, where
`encoders.protogcn.TemporalBranches` has one for all; its 1x1 convolutions over joints are `nn.Linear` here; of its
eight alphas and betas per block only the first acts, and of its critical-joint matrices one column says it all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ... import runs
from ...encoders.protogcn import NUM_BRANCHES
from ...errors import RunError
from ...skeleton.layouts import Layout, load_layout
from .config import SkeletonAgentConfig
from .network import ModelConfig, Recogniser

_NORM = ("weight", "bias", "running_mean", "running_var")
_AFFINE = ("weight", "bias")
# Counters of batch norm, which no output depends on, and the CLIP text tower that was trained along.
_IGNORED = ("num_batches_tracked",)
_IGNORED_PREFIX = "backbone.model_text_dict."
_SHOWN = 5  # names in an error


@dataclass(frozen=True)
class Weight:
    """One published weight and where it goes: `rows` of the first axis of `ours`, or all of it."""

    theirs: str
    ours: str
    rows: slice | None = None

    def part_of(self, ours: Tensor) -> Tensor:
        """The part of the tensor named `ours` that this weight is."""
        return ours if self.rows is None else ours[self.rows]


def weight_table(config: ModelConfig, encoder: str = "ViT-B/32") -> list[Weight]:
    """Every published weight of a network of this shape; `encoder` names the CLIP model its embedding head was for."""
    found = [
        *_pairs("cls_head.fc_cls", "class_head", _AFFINE),
        *_pairs("backbone.direct_fc", "constraint_head", _AFFINE),
        *_pairs(f"backbone.linear_head.{encoder}", "embedding_head", _AFFINE),
        *_pairs("backbone.data_bn", "data_bn", _NORM),
        Weight("backbone.examplar", "critical_joints"),
    ]
    if config.learned_scale:
        found.append(Weight("backbone.logit_scale", "alignment_scale"))
    if config.joint_embedding:
        found += _pairs("backbone.to_joint_embedding", "to_joint_embedding", _AFFINE)
        found.append(Weight("backbone.pos_embedding", "pos_embedding"))
    before = config.channels[0] if config.joint_embedding else config.in_channels
    for number, (width, stride) in enumerate(zip(config.channels, config.strides, strict=True)):
        has_residual = number > 0 or config.joint_embedding
        found += _block(number, before, width, has_residual and (before != width or stride != 1))
        before = width
    return found


def _pairs(theirs: str, ours: str, parts: tuple[str, ...], rows: slice | None = None) -> list[Weight]:
    return [Weight(f"{theirs}.{part}", f"{ours}.{part}", rows) for part in parts]


def _block(number: int, before: int, width: int, residual: bool) -> list[Weight]:
    theirs, ours = f"backbone.gcn.{number}", f"blocks.{number}"
    found = [Weight(f"{theirs}.gcn.{name}", f"{ours}.gcn.{name}") for name in ("A", "alpha", "beta")]
    for name, parts in (
        ("gcn.pre.0", _AFFINE), ("gcn.pre.1", _NORM), ("gcn.conv1", _AFFINE), ("gcn.conv2", _AFFINE),
        ("gcn.post", _AFFINE), ("gcn.bn", _NORM), ("tcn.bn", _NORM),
    ):  # fmt: skip
        found += _pairs(f"{theirs}.{name}", f"{ours}.{name}", parts)
    if before != width:
        found += _pairs(f"{theirs}.gcn.down.0", f"{ours}.gcn.down.0", _AFFINE)
        found += _pairs(f"{theirs}.gcn.down.1", f"{ours}.gcn.down.1", _NORM)
    if residual:
        found += _pairs(f"{theirs}.residual.conv", f"{ours}.residual.0", _AFFINE)
        found += _pairs(f"{theirs}.residual.bn", f"{ours}.residual.1", _NORM)
    found.append(Weight(f"{theirs}.tcn.add_coeff", f"{ours}.tcn.add_coeff"))
    found += _pairs(f"{theirs}.tcn.transform.0", f"{ours}.tcn.transform_bn", _NORM)
    found += _pairs(f"{theirs}.tcn.transform.2", f"{ours}.tcn.transform", _AFFINE)
    narrow = width // NUM_BRANCHES
    start = 0
    for branch in range(NUM_BRANCHES):  # the first takes what the others leave
        rows = slice(start, start := start + (width - narrow * (NUM_BRANCHES - 1) if branch == 0 else narrow))
        last = branch == NUM_BRANCHES - 1
        found += _pairs(f"{theirs}.tcn.branches.{branch}{'' if last else '.0'}", f"{ours}.tcn.split", _AFFINE, rows)
        if not last:
            found += _pairs(f"{theirs}.tcn.branches.{branch}.1", f"{ours}.tcn.split_bn", _NORM, rows)
        if branch < NUM_BRANCHES - 2:
            found += _pairs(f"{theirs}.tcn.branches.{branch}.3.conv", f"{ours}.tcn.dilated.{branch}", _AFFINE)
    return found


def from_published(state: Mapping[str, Tensor], where: str = "the checkpoint") -> tuple[ModelConfig, dict[str, Tensor]]:
    """Shape and state dict of skag's network with published weights. `where` names the file in errors.

    Raises `RunError` naming weights that are missing, unknown or of another shape.
    """
    state = {name.removeprefix("module."): value for name, value in state.items()}
    config, encoder = _shape(state, where)
    table = weight_table(config, encoder)
    known = {weight.theirs for weight in table}
    ignored = {name for name in state if name.endswith(_IGNORED) or name.startswith(_IGNORED_PREFIX)}
    missing, unknown = sorted(known - set(state)), sorted(set(state) - known - ignored)
    if missing or unknown:
        told = [f"lacks {_listed(missing)}"] if missing else []
        told += [f"holds the unknown {_listed(unknown)}"] if unknown else []
        raise RunError(f"{where} is no checkpoint of the published network: it {' and '.join(told)}.")
    own = Recogniser(config).to(state[table[0].theirs].dtype).state_dict()
    for weight in table:
        place = weight.part_of(own[weight.ours])
        place.copy_(_fitted(state[weight.theirs], weight, place.shape, where))
    return config, own


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _shape(state: Mapping[str, Tensor], where: str) -> tuple[ModelConfig, str]:
    """The network's shape, from the shapes of its weights, and the name of the CLIP model of its embedding head."""
    heads = [name for name in state if name.startswith("backbone.linear_head.") and name.endswith(".weight")]
    numbers = {name.split(".")[2] for name in state if name.startswith("backbone.gcn.")}
    needed = [f"backbone.gcn.{i}.gcn.bn.weight" for i in range(max(1, len(numbers)))]
    needed += ["cls_head.fc_cls.weight", "backbone.data_bn.weight", "backbone.gcn.0.gcn.A"]
    if missing := sorted(name for name in needed if name not in state):
        raise RunError(f"{where} is no checkpoint of the published network: it lacks {_listed(missing)}.")
    if len(heads) != 1:
        raise RunError(
            f"{where} has {len(heads)} embedding heads (backbone.linear_head.*); the published network has 1."
        )
    channels = tuple(len(state[name]) for name in needed[: len(numbers)])
    num_joints = state["backbone.gcn.0.gcn.A"].shape[-1]
    embedding = "backbone.pos_embedding" in state
    per_body = num_joints * channels[0]
    try:
        config = ModelConfig(
            num_classes=len(state["cls_head.fc_cls.weight"]),
            num_joints=num_joints,
            num_bodies=max(1, len(state["backbone.data_bn.weight"]) // per_body) if embedding else 2,
            in_channels=3,
            channels=channels,
            strides=(1, *(2 if wide != narrow else 1 for narrow, wide in zip(channels, channels[1:], strict=False))),
            joint_embedding=embedding,
            embedding_dim=len(state[heads[0]]),
            learned_scale=True,
        )
    except ValueError as error:
        raise RunError(f"{where} is no checkpoint of the published network: {error}.") from None
    return config, heads[0].removeprefix("backbone.linear_head.").removesuffix(".weight")


def _fitted(value: Tensor, weight: Weight, shape: torch.Size, where: str) -> Tensor:
    """A published weight in the shape that skag's network has it in."""
    name, original = weight.ours.rpartition(".")[2], tuple(value.shape)
    if name == "critical_joints" and value.ndim == 3:
        if (value != value[:, :, :1]).any():
            raise RunError(f"{where}: {weight.theirs} has rows that are not constant, which no joint mask has.")
        value = value[:, :, 0]
    elif name in ("alpha", "beta", "add_coeff"):  # longer than what acts
        value = value[: shape[0]]
    elif name == "alignment_scale":
        value = value[:, 0].mean()
    if value.numel() != shape.numel() or value.shape[:1] != shape[:1]:
        raise RunError(f"{where}: {weight.theirs} is {original}, which does not fit the rest of the network.")
    return value.reshape(shape)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state dict in a PyTorch file, with or without mmcv's frame around it. Nothing in the file is executed.

    Raises `RunError`.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"no checkpoint {path}.") from None
    except Exception as error:  # pickles, zip files and torch's own refusals fail in many ways
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RunError(f"{path} cannot be loaded as weights alone ({reason}).") from None
    state = saved.get("state_dict", saved) if isinstance(saved, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise RunError(f"{path} holds no state dict: give a checkpoint of the published code.")
    return {str(name): value for name, value in state.items()}


_LAYOUTS = {25: "nturgb+d", 20: "kinect-v1", 17: "coco"}  # of published checkpoints, by their joints: they do not say


def start(path: Path) -> tuple[dict[str, Tensor], Layout, list[str]]:
    """Weights of a published checkpoint as skag's network names them, the layout that it must be of, and the fields of
    a configuration whose network has its shape. Raises `RunError`."""
    config, state = from_published(read_checkpoint(path), str(path))
    if config.num_joints not in _LAYOUTS:
        known = ", ".join(f"{joints} ({name})" for joints, name in _LAYOUTS.items())
        raise RunError(f"{path} is of {config.num_joints} joints, and which ones it does not say: known are {known}.")
    fields = {
        "network.channels": ",".join(map(str, config.channels)),
        "network.strides": ",".join(map(str, config.strides)),
        "network.joint_embedding": str(config.joint_embedding).lower(),
        "network.present_bodies_only": "false",
        "data.num_bodies": str(config.num_bodies),
    }
    weights = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    return weights, load_layout(_LAYOUTS[config.num_joints]), [f"{name}={value}" for name, value in fields.items()]


def import_checkpoint(
    path: Path, run: Path, config: SkeletonAgentConfig, classes: list[str], layout: Layout
) -> ModelConfig:
    """Make the run folder `run` out of a published checkpoint; `skag eval RUN --data DATA.h5` goes on from it.

    Raises `RunError` where weights, recipe, classes and layout do not fit together.
    """
    model_config, state = from_published(read_checkpoint(path), str(path))
    for what, found, wanted in (
        ("classes", model_config.num_classes, len(classes)),
        ("joints", model_config.num_joints, layout.num_joints),
        ("bodies", model_config.num_bodies, config.data.num_bodies),
        ("blocks", len(model_config.channels), len(config.network.channels)),
    ):
        if found != wanted:
            raise RunError(f"{path} has {found} {what} and recipe {config.recipe} {wanted}: name its own recipe.")
    run.mkdir(parents=True, exist_ok=True)
    facts = {
        "method": config.method,
        "config": config.to_dict(),
        "model": asdict(model_config),
        "classes": classes,
        "layout": layout.to_dict(),
        "imported": path.name,
    }
    runs.write_json(run / runs.CONFIG, facts)
    runs.write_json(run / runs.DATA, {"store": None, "fingerprint": None, "training": [], "validation": []})
    weights = {"model": {name: value.float() if value.is_floating_point() else value for name, value in state.items()}}
    runs.write_whole(run / "best.pt", lambda file: torch.save(weights, file))
    return model_config
