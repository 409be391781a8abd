"""Configurations and recipes: complete, stored without loss, and strict about what they are given."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from skag import recipes
from skag.config import Config, config_from_dict, replace
from skag.errors import RunError
from skag.model import ModelConfig
from skag.store import SkeletonStore


@pytest.mark.parametrize("name", recipes.RECIPES)
@pytest.mark.parametrize("stream", ["j", "bm"])
def test_recipes_survive_json(name: str, stream: str) -> None:
    config = recipes.recipe(name, stream)
    assert config.recipe == name and config.data.stream == stream
    assert config_from_dict(json.loads(json.dumps(config.to_dict())), "here") == config


def test_the_nearest_recipe_is_named() -> None:
    with pytest.raises(RunError, match="did you mean 'ntu60-xsub'"):
        recipes.recipe("ntu60-xsubb", "j")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown field 'colour'"),
        ({"train": {"epochs": "many"}}, "epochs is 'many'"),
        ({"train": {"epochs": True}}, "epochs is True"),
        ({"train": {"optimizer": "lion"}}, "optimizer is 'lion'"),
        ({"data": 3}, "expected fields of DataConfig"),
    ],
)
def test_strange_fields_are_named(change: dict, message: str) -> None:
    with pytest.raises(RunError, match=message):
        config_from_dict({"recipe": "x"} | change, "here")


def test_replacing_changes_one_section_and_none_is_no_change() -> None:
    config = Config("x")
    changed = replace(config, "agents", alpha=0.0, beta=None)
    assert changed.agents == dataclasses.replace(config.agents, alpha=0.0)
    assert changed.train == config.train


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_derived_recipe_fits_the_data(tiny_store: Path, device: str) -> None:
    with SkeletonStore(tiny_store) as store:
        config, reasons = recipes.derived(store, "xsub_train", "j", device)
        assert config.data.num_bodies == 1 and config.data.num_frames == 32
        assert config.train.repeats == 6  # 64 clips are few
        assert config.augment.mirror == 0  # "raise right hand" and "raise left hand" must not become one
        store.classes = ["a", "b", "c", "d"]
        assert recipes.derived(store, "xsub_train", "j", device)[0].augment.mirror == 0.5
        assert any("64 clips, 4 classes" in reason for reason in reasons)
        ModelConfig(4, 20, 1, channels=config.network.channels, strides=config.network.strides)
