"""Configurations and recipes: complete, stored without loss, and strict about what they are given."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import get_args

import pytest

from skag import recipes
from skag.config import Config, StreamName, config_from_dict, flat, override, replace
from skag.errors import RunError
from skag.lm.config import BaseModelConfig, LoraSettings
from skag.methods.skeleton_agent.config import SkeletonAgentConfig
from skag.methods.skeleton_agent.network import ModelConfig
from skag.methods.skeleton_agent.recipes import PUBLISHED, derived, faithful, sources
from skag.skeleton.layouts import STREAMS, load_layout
from skag.skeleton.store import SkeletonStore


@pytest.mark.parametrize("name", recipes.cards())
@pytest.mark.parametrize("stream", ["j", "bm"])
def test_recipes_survive_json(name: str, stream: str) -> None:
    config = recipes.recipe(name, stream)
    assert config.recipe == name and config.data.stream == stream
    assert config_from_dict(type(config), json.loads(json.dumps(config.to_dict())), "here") == config


def test_a_list_of_names_is_set_and_stored() -> None:
    @dataclasses.dataclass(frozen=True)
    class Adapted(Config):
        lm: BaseModelConfig = dataclasses.field(default_factory=BaseModelConfig)

    config = override(Adapted(""), ["lm.targets=k_proj, o_proj", "lm.layers=0,2", "lm.rank=8"])
    assert config.lm.lora == LoraSettings(8, targets=("k_proj", "o_proj"), layers=(0, 2))
    assert config_from_dict(Adapted, json.loads(json.dumps(config.to_dict())), "here") == config
    with pytest.raises(RunError, match="here: lm: targets is 'all', which is no list of names"):
        config_from_dict(Adapted, {"recipe": "", "lm": {"targets": "all"}}, "here")
    with pytest.raises(RunError, match="targets is empty"):
        override(Adapted(""), ["lm.targets="])


def test_the_nearest_recipe_is_named() -> None:
    with pytest.raises(RunError, match="did you mean 'ntu60-xsub'"):
        recipes.recipe("ntu60-xsubb", "j")


def test_the_streams_are_those_of_the_layouts() -> None:
    assert get_args(StreamName) == STREAMS
    with pytest.raises(RunError, match="no stream 'x': use j or b or k"):
        recipes.recipe("demo", "x")


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
        config_from_dict(SkeletonAgentConfig, {"recipe": "x"} | change, "here")


HARMLESS = SkeletonAgentConfig.removed  # fields of version 0.1.0 with the values that changed nothing


def of_version_0_1_0(**changes: object) -> dict:
    """What version 0.1.0 wrote into config.json, with every field that it had and this version has not."""
    values = json.loads(json.dumps(recipes.recipe("demo", "j").to_dict()))
    for path, value in (HARMLESS | changes).items():
        section, name = path.split(".")
        values[section][name] = value
    return values


def test_fields_that_changed_nothing_are_read_over() -> None:
    assert {"agents.gamma", "agents.motion_of", "agents.constraint_over", "agents.both_sides"} < set(HARMLESS)
    assert {"agents.recall_distinctions", "agents.shuffled", "augment.jitter"} < set(HARMLESS)
    values = of_version_0_1_0()
    before = json.dumps(values)
    assert config_from_dict(SkeletonAgentConfig, values, "here") == recipes.recipe("demo", "j")
    assert json.dumps(values) == before  # what was given stays as it was


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("agents.gamma", 3.0),
        ("agents.motion_of", "all"),
        ("agents.constraint_over", "mean"),
        ("agents.both_sides", True),
        ("agents.recall_distinctions", True),
        ("agents.shuffled", True),
        ("augment.jitter", 0.01),
    ],
)
def test_a_field_that_changed_something_names_the_version_that_has_it(path: str, value: object) -> None:
    with pytest.raises(RunError, match=f"here: {path} is set, .* skag 0.1.0 reads this run") as caught:
        config_from_dict(SkeletonAgentConfig, of_version_0_1_0(**{path: value}), "here")
    assert "\n" not in str(caught.value)


def test_replacing_changes_one_section_and_none_is_no_change() -> None:
    config = SkeletonAgentConfig("x")
    changed = replace(config, "agents", alpha=0.0, beta=None)
    assert changed.agents == dataclasses.replace(config.agents, alpha=0.0)
    assert changed.train == config.train


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_derived_recipe_fits_the_data(tiny_store: Path, device: str) -> None:
    with SkeletonStore(tiny_store) as store:
        config, reasons = derived(store, "xsub_train", "j", device)
        assert config.data.num_bodies == 1 and config.data.num_frames == 32
        assert config.train.repeats == 6  # 64 clips are few
        assert config.augment.mirror == 0  # "lower right hand" has no counterpart
        assert any("no mirroring" in reason for reason in reasons)
        store.classes = ["a", "b", "c", "d"]
        assert derived(store, "xsub_train", "j", device)[0].augment.mirror == 0.5
        assert any("64 clips, 4 classes" in reason for reason in reasons)
        ModelConfig(4, 20, 1, channels=config.network.channels, strides=config.network.strides)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("stream", STREAMS)
def test_published_recipes_have_a_source_for_every_value(name: str, stream: str) -> None:
    config = recipes.recipe(name, stream)
    found = sources(config)
    assert set(found) == set(flat(config))
    facts, base = PUBLISHED[name], "jbk".index(stream[0])
    assert f"configs/{facts.folder}/{stream}.py" in found["agents.alpha"]
    assert (config.agents.alpha, config.agents.beta) == (facts.alpha[base], facts.beta[base])
    assert config.augment.mix and config.data.test_views == 10 and config.train.select_on == "validation"
    layout = load_layout(facts.layout)
    ModelConfig(facts.classes, layout.num_joints, 2, channels=config.network.channels, strides=config.network.strides)
    assert config.data.pixels == (layout.dims == 2)


def test_paper_and_published_code_set_everything_in_which_they_differ() -> None:
    """The rows of the reference's table "where the code leaves the paper" that are choices of a run."""
    config = recipes.recipe("ntu60-xsub", "b")
    paper, release = faithful(config, "paper", 3), faithful(config, "release", 3)
    differ = {name for name, value in flat(paper).items() if value != flat(release)[name]}
    assert {
        "agents.alignment_scale", "agents.alignment_target", "agents.train_text_encoder", "agents.confusion_rule",
        "augment.mix", "augment.mirror_kind", "train.select_on", "train.lr", "train.batch_size",
    } <= differ  # fmt: skip
    assert (paper.agents.alpha, paper.agents.beta, paper.train.lr, paper.train.batch_size) == (0.2, 0.5, 0.1, 64)
    assert (release.agents.alpha, release.agents.beta, release.train.lr) == (0.2, 0.2, 0.025)  # the recipe's
    assert faithful(config, "release", 2).augment.mirror_kind == "reflect"
    for name, value in flat(faithful(recipes.recipe("demo", "j"), "paper", 3)).items():
        if name in ("train.epochs", "train.optimizer", "agents.query_period", "agents.max_similar"):
            assert value == flat(paper)[name]


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("train.lr=0.05", "train.lr", 0.05),
        (" train.lr = 5e-2 ", "train.lr", 0.05),
        ("train.epochs=7", "train.epochs", 7),
        ("augment.mix=true", "augment.mix", True),
        ("data.protocol=none", "data.protocol", None),
        ("data.protocol=xsub", "data.protocol", "xsub"),
        ("data.sampling=uniform-frames", "data.sampling", "uniform-frames"),
        ("agents.text_encoder=open_clip:ViT-B-16", "agents.text_encoder", "open_clip:ViT-B-16"),
    ],
)
def test_a_field_is_set_from_text(assignment: str, field: str, value: object) -> None:
    before = flat(recipes.recipe("demo", "j"))
    after = flat(override(recipes.recipe("demo", "j"), [assignment]))
    assert after == before | {field: value}


def test_fields_that_must_fit_one_another_are_set_together() -> None:
    config = override(recipes.recipe("demo", "j"), ["network.channels=16,24,32", "network.strides=(1,2,1)"])
    assert (config.network.channels, config.network.strides) == ((16, 24, 32), (1, 2, 1))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.lr", "write FIELD=VALUE"),
        ("train.lrr=1", "did you mean train.lr?"),
        ("lr=1", "did you mean train.lr?"),
        ("nonsense=1", "lists all"),
        ("train.lr=fast", "lr is 'fast'"),
        ("train.lr=nan", "lr is nan"),
        ("train.epochs=1.5", "epochs is '1.5'"),
        ("train.epochs=0", "at least 1"),
        ("augment.mix=yes", "mix is 'yes'"),
        ("train.optimizer=adam", "use sgd or adamw"),
        ("network.channels=16", "channels has 1 and strides 4"),
        ("network.channels=12,12,12,12", "multiple of 8"),
        ("network.channels=a", "no list of whole numbers"),
    ],
)
def test_what_cannot_be_set_is_named(assignment: str, message: str) -> None:
    with pytest.raises(RunError, match=re.escape(message)):
        override(recipes.recipe("demo", "j"), [assignment])


def test_a_recipe_for_another_layout_is_refused(tiny_store: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        with pytest.raises(RunError, match="layout nturgb\\+d .* has kinect-v1: leave out"):
            recipes.fitted(recipes.recipe("ntu60-xsub", "j"), store)
        config = recipes.recipe("nw-ucla-small", "j")
        assert recipes.fitted(override(config, ["data.protocol=xset"]), store).data.protocol is None
