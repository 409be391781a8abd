"""Run folders and evaluation: what was trained is what is loaded, and damage is named."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from skag import evaluate, recipes, runs
from skag.config import Config, NetworkConfig, replace
from skag.errors import RunError
from skag.model import Recogniser
from skag.store import SkeletonStore
from skag.train import model_shape

CPU = torch.device("cpu")


@pytest.fixture
def run_folder(tiny_store: Path, tmp_path: Path) -> Path:
    """An untrained run of the tiny store."""
    config: Config = replace(recipes.nw_ucla_small("j"), "data", num_frames=8)
    config = dataclasses.replace(config, network=NetworkConfig(channels=(16,), strides=(1,)))
    folder = tmp_path / "run"
    folder.mkdir()
    with SkeletonStore(tiny_store) as store:
        shape = model_shape(config, store, 8)
        runs.write_run_facts(folder, config, shape, store, np.arange(3), np.arange(3, 5), CPU)
    torch.manual_seed(0)
    torch.save({"model": Recogniser(shape).state_dict()}, folder / "best.pt")
    return folder


def test_predictions_are_saved_and_read_back(run_folder: Path) -> None:
    run = evaluate.load_run(run_folder, CPU)
    with SkeletonStore(run.store_path) as store:
        made = evaluate.predict_split(run, store, "xsub_test", CPU, batch_size=5)
    assert made.probabilities.shape == (16, 4)
    np.testing.assert_allclose(made.probabilities.sum(1), 1, atol=1e-5)
    evaluate.save_predictions(run_folder, made)
    read = evaluate.load_predictions(run_folder, "xsub_test")
    assert read.names == made.names and read.classes == made.classes
    np.testing.assert_array_equal(read.probabilities, made.probabilities)
    assert evaluate.load_predictions(run_folder, "other") is None


def test_the_batch_size_does_not_change_predictions(run_folder: Path) -> None:
    run = evaluate.load_run(run_folder, CPU)
    with SkeletonStore(run.store_path) as store:
        one = evaluate.predict_split(run, store, "xsub_test", CPU, batch_size=1)
        many = evaluate.predict_split(run, store, "xsub_test", CPU, batch_size=64)
    np.testing.assert_allclose(one.probabilities, many.probabilities, atol=1e-5)


def test_fusing_weighs_probabilities_and_refuses_other_clips(run_folder: Path) -> None:
    run = evaluate.load_run(run_folder, CPU)
    with SkeletonStore(run.store_path) as store:
        made = evaluate.predict_split(run, store, "xsub_test", CPU)
    other = dataclasses.replace(made, probabilities=made.probabilities[:, ::-1])
    fused = evaluate.fuse([made, other], [2, 1])
    np.testing.assert_allclose(fused.probabilities, (2 * made.probabilities + other.probabilities) / 3, atol=1e-6)
    with pytest.raises(RunError, match="different clips"):
        evaluate.fuse([made, dataclasses.replace(made, names=made.names[::-1])], [1, 1])


def test_published_ensemble_weights() -> None:
    assert [evaluate.stream_weight(stream) for stream in ("j", "b", "k", "jm", "bm", "km")] == [2, 2, 2, 1, 1, 1]


def break_checkpoint(folder: Path) -> None:
    (folder / "best.pt").write_bytes(b"nothing")


def change_shape(folder: Path, **changes: object) -> None:
    facts = json.loads((folder / "config.json").read_text())
    facts["model"] |= changes
    (folder / "config.json").write_text(json.dumps(facts))


class Evil:
    def __reduce__(self) -> tuple:
        return print, ("this must never be printed",)


def plant_code(folder: Path) -> None:
    (folder / "best.pt").write_bytes(pickle.dumps({"model": Evil()}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "config.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "is damaged"),
        (lambda folder: (folder / "config.json").write_text("{}"), "expected fields of Config"),
        (lambda folder: change_shape(folder, channels="wide"), "no list of whole numbers"),
        (lambda folder: change_shape(folder, num_joints=7), "cannot be loaded"),
        (lambda folder: change_shape(folder, strides=[1, 2]), "is not complete"),
        (lambda folder: (folder / "data.json").write_text("{}"), "lacks fields"),
        (lambda folder: (folder / "best.pt").unlink(), "has no best.pt"),
        (break_checkpoint, "cannot be loaded"),
        (plant_code, "cannot be loaded"),
    ],
)
def test_a_damaged_run_is_named(run_folder: Path, damage, message: str, capsys: pytest.CaptureFixture) -> None:
    damage(run_folder)
    with pytest.raises(RunError, match=message) as caught:
        evaluate.load_run(run_folder, CPU)
    assert "\n" not in str(caught.value)
    assert "never" not in capsys.readouterr().out


def test_another_class_list_is_refused(run_folder: Path) -> None:
    run = dataclasses.replace(evaluate.load_run(run_folder, CPU), classes=["a", "b", "c", "d"])
    with SkeletonStore(run.store_path) as store, pytest.raises(RunError, match="other classes"):
        evaluate.predict_split(run, store, "xsub_test", CPU)
