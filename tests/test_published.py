"""Checkpoints of the published code become runs, or are refused with the names that do not fit."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

import skag
from skag import recipes
from skag.errors import RunError
from skag.methods.skeleton_agent import published
from skag.skeleton.layouts import load_layout

from .helpers.golden import golden, published_state
from .helpers.published import SHAPE, checkpoint


def test_every_weight_comes_over() -> None:
    state = checkpoint()
    config, own = published.from_published(state)
    assert config == SHAPE
    again = published.from_published({f"module.{name}": value for name, value in state.items()})[1]
    assert own.keys() == again.keys() and all(torch.equal(own[name], again[name]) for name in own)
    changed = {
        name: value + 1 if name.endswith(("weight", "bias", "A", "var")) else value for name, value in state.items()
    }
    other = published.from_published(changed)[1]
    for name, value in own.items():
        if not name.endswith(("num_batches_tracked", "alpha", "beta", "critical_joints", "add_coeff", "running_mean")):
            assert torch.equal(other[name], value + 1) or name in ("pos_embedding", "alignment_scale"), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("backbone.gcn.1.gcn.A"), "lacks backbone.gcn.1.gcn.A"),
        (lambda s: s.update({"head.extra": torch.ones(1)}), "holds the unknown head.extra"),
        (lambda s: s.pop("cls_head.fc_cls.weight"), "lacks cls_head.fc_cls.weight"),
        (lambda s: s.update({"backbone.gcn.0.tcn.bn.bias": torch.ones(3)}), r"tcn.bn.bias is \(3,\)"),
        (lambda s: s["backbone.examplar"][0, 0].copy_(torch.arange(25)), "rows that are not constant"),
        (lambda s: [s.pop(name) for name in list(s) if "linear_head" in name], "0 embedding heads"),
    ],
)
def test_what_does_not_fit_is_named(change, message: str) -> None:
    state = checkpoint()
    change(state)
    with pytest.raises(RunError, match=message):
        published.from_published(state)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state_dict": checkpoint(), "meta": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(RunError, match="cannot be loaded as weights alone"):
        published.read_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()
    torch.save({"state_dict": {"a": "text"}}, tmp_path / "text.pth")
    with pytest.raises(RunError, match="holds no state dict"):
        published.read_checkpoint(tmp_path / "text.pth")
    with pytest.raises(RunError, match="no checkpoint"):
        published.read_checkpoint(tmp_path / "absent.pth")


def test_an_imported_run_says_what_the_reference_says(tmp_path: Path) -> None:
    arrays = golden("model_nturgb+d_60.npz")
    meta = {"epoch": 150, "iter": 1, "config": "model = ..."}
    torch.save({"meta": meta, "state_dict": OrderedDict(published_state(arrays))}, tmp_path / "ntu.pth")
    config = recipes.recipe("ntu60-xsub", "j")
    names = [f"class {number}" for number in range(60)]
    published.import_checkpoint(tmp_path / "ntu.pth", tmp_path / "run", config, names, load_layout("nturgb+d"))
    run = skag.load(tmp_path / "run")
    assert run.classes == names and run.config == config and run.layout.name == "nturgb+d"
    clips = torch.from_numpy(arrays["eval/keypoint"]).flatten(0, 1)
    with torch.inference_mode():
        out = run.model(clips)
    np.testing.assert_allclose(out.class_logits, arrays["eval/cls_score_f64"], atol=1e-5)
    assert out.constraint_logits.shape == (4, 60) and out.embedding.shape == (4, 512)
    with pytest.raises(RunError, match="60 classes and recipe ntu60-xsub 59"):
        published.import_checkpoint(tmp_path / "ntu.pth", tmp_path / "b", config, names[1:], load_layout("nturgb+d"))
    with pytest.raises(RunError, match="25 joints and recipe ntu60-xsub 17"):
        published.import_checkpoint(tmp_path / "ntu.pth", tmp_path / "b", config, names, load_layout("coco"))
    assert not (tmp_path / "b").exists()
