"""The reference arrays that lie beside the project, and the published names mapped to skag's."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from skag.model import ModelConfig, Recogniser

SHARED = Path(__file__).parents[2] / "shared"


@lru_cache
def golden(name: str) -> np.lib.npyio.NpzFile:
    """Reference arrays by file name, opened once and kept open; skips the test where they are not there."""
    path = SHARED / "golden" / name
    if not path.exists():
        pytest.skip(f"reference arrays are not there: {path}")
    return np.load(path)


def published_network(arrays: np.lib.npyio.NpzFile, joint_embedding: bool) -> Recogniser:
    """skag's network in float64 with the weights of a published state dict; strict about every name."""
    state = {key[6:]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("state/")}
    K, V, _ = state["backbone.examplar"].shape
    num_blocks = len({key.split(".")[2] for key in state if key.startswith("backbone.gcn.")})
    channels = tuple(len(state[f"backbone.gcn.{i}.gcn.bn.weight"]) for i in range(num_blocks))
    strides = (1, *(2 if wide != narrow else 1 for narrow, wide in zip(channels, channels[1:], strict=False)))
    model = Recogniser(ModelConfig(K, V, 2, channels=channels, strides=strides, joint_embedding=joint_embedding))
    mapped = {}
    for key, value in state.items():
        if key.endswith(("num_batches_tracked", "logit_scale")) or ".branches." in key:
            continue
        name = key.replace("backbone.gcn.", "blocks.").replace("backbone.", "")
        for theirs, ours in (
            ("cls_head.fc_cls", "class_head"),
            ("direct_fc", "constraint_head"),
            ("linear_head.ViT-B/32", "embedding_head"),
            ("tcn.transform.0", "tcn.transform_bn"),
            ("tcn.transform.2", "tcn.transform"),
            ("residual.conv", "residual.0"),
            ("residual.bn", "residual.1"),
        ):
            name = name.replace(theirs, ours)
        if name == "examplar":  # rows are constant: one number per joint says it all
            name, value = "critical_joints", value[:, :, 0]
        elif name.endswith((".alpha", ".beta")):  # only the first acts
            value = value[:1]
        elif name.endswith("add_coeff"):
            value = value[:V]
        elif value.ndim == 4 and ("constraint_head" in name or ".conv1." in name or ".conv2." in name):
            value = value[:, :, 0, 0]
        mapped[name] = value
    for i in range(num_blocks):
        theirs, ours = f"backbone.gcn.{i}.tcn.branches", f"blocks.{i}.tcn"
        for part in ("weight", "bias"):
            branches = [state[f"{theirs}.{j}.0.{part}"] for j in range(5)] + [state[f"{theirs}.5.{part}"]]
            mapped[f"{ours}.split.{part}"] = torch.cat(branches)
            for j in range(4):
                mapped[f"{ours}.dilated.{j}.{part}"] = state[f"{theirs}.{j}.3.conv.{part}"]
        for part in ("weight", "bias", "running_mean", "running_var"):
            mapped[f"{ours}.split_bn.{part}"] = torch.cat([state[f"{theirs}.{j}.1.{part}"] for j in range(5)])
    wanted = {name for name in model.state_dict() if not name.endswith("num_batches_tracked")}
    assert wanted == set(mapped)
    model.load_state_dict(mapped, strict=False)
    return model.double()
