"""Run folders and evaluation: what was trained is what is loaded, and damage is named."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from skag import metrics, runs
from skag.cli import app
from skag.errors import DataError, RunError
from skag.inference import evaluate
from skag.inference.fusion import fit_weights, fuse_streams, stream_weight
from skag.inference.loaded import check_same_clips, held_out_clips, load_run, split_clips
from skag.inference.scores import Predictions, load_predictions, predict_split, save_predictions
from skag.methods.skeleton_agent.config import SkeletonAgentConfig
from skag.skeleton.store import SkeletonStore

from .helpers.commands import failure
from .helpers.runs import untrained
from .helpers.tiny import CLASSES

CPU = torch.device("cpu")


@pytest.fixture
def run_folder(tiny_store: Path, tmp_path: Path) -> Path:
    """An untrained run of the tiny store."""
    return untrained(tiny_store, tmp_path / "run")


def make_predictions(streams: list[str], seed: int = 0) -> list[Predictions]:
    """Random predictions of 30 clips of 4 classes, one for each stream."""
    rng = np.random.default_rng(seed)
    names, labels = [f"clip {n}" for n in range(30)], rng.integers(0, 4, 30)
    return [Predictions("test", names, labels, rng.dirichlet(np.ones(4), 30), list("abcd"), 1, "same") for _ in streams]


def test_predictions_are_saved_and_read_back(run_folder: Path) -> None:
    run = load_run(run_folder, CPU)
    with SkeletonStore(run.store_path) as store:
        made = predict_split(run, store, "xsub_test", CPU, batch_size=5)
    assert made.probabilities.shape == (16, 4)
    np.testing.assert_allclose(made.probabilities.sum(1), 1, atol=1e-5)
    save_predictions(run_folder, made)
    read = load_predictions(run_folder, "xsub_test")
    assert read.names == made.names and read.classes == made.classes
    np.testing.assert_array_equal(read.probabilities, made.probabilities)
    assert load_predictions(run_folder, "other") is None


def test_the_batch_size_does_not_change_predictions(run_folder: Path) -> None:
    run = load_run(run_folder, CPU)
    with SkeletonStore(run.store_path) as store:
        one = predict_split(run, store, "xsub_test", CPU, batch_size=1)
        many = predict_split(run, store, "xsub_test", CPU, batch_size=64)
    np.testing.assert_allclose(one.probabilities, many.probabilities, atol=1e-5)


def test_published_ensemble_weights() -> None:
    assert [stream_weight(stream) for stream in ("j", "b", "k", "jm", "bm", "km")] == [2, 2, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("streams", "wanted"),
    [
        ("j", {}),
        ("b j", {"2-stream": "j b"}),
        ("j b k", {"2-stream": "j b", "all": "j b k"}),
        ("bm jm b j", {"2-stream": "j b", "4-stream": "j b jm bm"}),
        ("k jm", {"all": "k jm"}),
        (
            "j b k jm bm km",
            {"2-stream": "j b", "4-stream": "j b jm bm", "6-stream": "j b jm bm k km"},
        ),
        ("j j b", {"all": "j j b"}),
        ("j b km km", {"2-stream": "j b", "all": "j b km km"}),
    ],
)
def test_the_published_fusions_that_the_runs_allow_and_all_of_them_are_made(streams: str, wanted: dict) -> None:
    given = streams.split()
    found = fuse_streams(given, make_predictions(given))
    assert {fusion.name: " ".join(given[i] for i in fusion.members) for fusion in found} == wanted
    if found:  # the last is that of all runs
        assert sorted(found[-1].members) == list(range(len(given)))


def test_published_fusions_weigh_probabilities_by_stream() -> None:
    streams = ["jm", "b", "j", "bm"]
    made = make_predictions(streams)
    found = {fusion.name: fusion for fusion in fuse_streams(streams, made)}["4-stream"]
    assert (found.members, found.weights) == ((2, 1, 0, 3), (2, 2, 1, 1))
    jm, b, j, bm = (one.probabilities for one in made)
    assert found.accuracy == metrics.accuracy(made[0].labels, (2 * j + 2 * b + jm + bm) / 6)


def random_runs(seed: int, skills: list[float], clips: int, blur: float = 1.0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels of five classes, and runs that know them more or less; `blur` below 1 makes them less sure."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, clips)
    logits = rng.normal(size=(len(skills), clips, 5))
    logits[:, np.arange(clips), labels] += np.array(skills)[:, None]
    exp = np.exp(blur * logits)
    return labels, list(exp / exp.sum(2, keepdims=True))


@settings(deadline=None)
@given(st.integers(0, 10**6), st.lists(st.floats(-0.5, 3), min_size=1, max_size=6), st.integers(1, 60))
def test_fitted_weights_are_shares_whatever_the_order_of_the_runs(seed, skills, clips):
    labels, made = random_runs(seed, skills, clips)
    weights = fit_weights(labels, made, [2.0] * len(skills))
    assert len(weights) == len(skills) and min(weights) >= 0
    assert sum(weights) == pytest.approx(1)
    assert fit_weights(labels, made[::-1], [2.0] * len(skills))[::-1] == pytest.approx(weights, abs=1e-3)


def test_fitted_weights_equal_those_of_another_optimiser() -> None:
    from scipy.optimize import minimize  # comes with scikit-learn

    prior = np.array([2.0, 2.0, 1.0, 1.0])
    for seed in range(4):
        labels, made = random_runs(seed, [2, 1, 1.5, 0], 40, blur=0.6)

        def loss(logs: np.ndarray) -> float:
            """The formula of the docstring, class by class."""
            weights = prior * np.exp(logs[:4])
            fused = metrics.fuse(made, weights) ** np.exp(logs[4])  # noqa: B023
            right = fused[np.arange(40), labels] / fused.sum(1)  # noqa: B023
            return -np.log(right).sum() + 0.5 * ((logs / np.log(2)) ** 2).sum()

        best = minimize(loss, np.zeros(5), method="Powell", options={"ftol": 1e-14, "xtol": 1e-10, "maxiter": 10**4})
        wanted = prior * np.exp(best.x[:4])
        assert fit_weights(labels, made, prior) == pytest.approx(wanted / wanted.sum(), abs=2e-3)


def test_fitted_weights_find_the_shares_of_a_mixture() -> None:
    rng = np.random.default_rng(2)
    made = [rng.dirichlet(np.full(6, 0.3), 20_000) for _ in range(3)]
    mixed = metrics.fuse(made, [0.6, 0.3, 0.1])
    labels = (mixed.cumsum(1) < rng.random((20_000, 1))).sum(1).clip(max=5)
    assert fit_weights(labels, made, [1, 1, 1]) == pytest.approx((0.6, 0.3, 0.1), abs=0.03)


def test_few_clips_leave_the_published_weights_and_many_overrule_them() -> None:
    labels, made = random_runs(0, [2.5, -0.5], 2000)
    assert fit_weights(labels[:2], [run[:2] for run in made], [2, 2]) == pytest.approx((0.5, 0.5), abs=0.2)
    assert fit_weights(labels, made, [1, 9])[0] > 0.9


def test_equally_good_runs_that_are_not_sure_share_the_weight() -> None:
    labels, made = random_runs(3, [2, 2, 2, 2], 100, blur=0.4)
    assert min(fit_weights(labels, made, [1, 1, 1, 1])) > 0.15


def test_a_run_that_is_sure_and_wrong_does_not_stop_the_fit() -> None:
    labels = np.array([0, 1] * 20)
    right, wrong = np.eye(2)[labels], np.eye(2)[1 - labels]
    assert fit_weights(labels, [right, wrong], [1, 1])[0] > 0.75


def test_fitted_weights_are_those_of_the_held_out_clips_for_each_fusion() -> None:
    streams = ["j", "b", "k"]
    made, held_out = make_predictions(streams), make_predictions(streams, seed=1)
    right = np.eye(4)[held_out[0].labels] * 0.8 + 0.05
    held_out[1] = dataclasses.replace(held_out[1], probabilities=right)
    two, everything = fuse_streams(streams, made, held_out)
    assert two.weights[1] > 0.7 and everything.weights[1] > 0.5
    assert sum(two.weights) == pytest.approx(1) and len(everything.weights) == 3
    wanted = metrics.fuse([made[0].probabilities, made[1].probabilities], two.weights)
    assert two.accuracy == metrics.accuracy(made[0].labels, wanted)


def test_runs_of_other_clips_or_classes_are_not_fused(run_folder: Path) -> None:
    run = load_run(run_folder, CPU)
    with SkeletonStore(run.store_path) as store:
        clips = split_clips(run, store, "xsub_test")
    folders = [Path("a"), Path("b")]
    check_same_clips(folders, [clips, clips])
    for change, message in (
        ({"classes": clips.classes[::-1]}, "b tells other classes apart than a"),
        ({"names": clips.names[::-1]}, "b is tested on other clips than a"),
        ({"names": clips.names[1:], "labels": clips.labels[1:]}, "xsub_test: 15, xsub_test: 16"),
        ({"labels": clips.labels[::-1]}, "b is tested on other clips than a"),
    ):
        with pytest.raises(RunError, match=message) as caught:
            check_same_clips(folders, [clips, dataclasses.replace(clips, **change)])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("held_out", [None, [], [0, 10**6], [-1], ["a"], [True], 5])
def test_held_out_clips_that_are_not_known_are_refused(held_out: object, run_folder: Path) -> None:
    facts = json.loads((run_folder / "data.json").read_text()) | {"validation": held_out}
    (run_folder / "data.json").write_text(json.dumps(facts))
    run = load_run(run_folder, CPU)
    with SkeletonStore(run.store_path) as store, pytest.raises(RunError, match="names no held-out clips"):
        held_out_clips(run, store)


def test_held_out_clips_are_those_of_the_runs_own_store(run_folder: Path) -> None:
    run = load_run(run_folder, CPU)
    with SkeletonStore(run.store_path) as store:
        clips = held_out_clips(run, store)
        assert clips.names == [store.names[n] for n in range(3, 11)]
        assert clips.labels.tolist() == store.labels[3:11].tolist()
        store.fingerprint = "another"
        with pytest.raises(RunError, match="is not the store"):
            held_out_clips(run, store)


def shown(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["eval", *map(str, arguments)])
    if isinstance(result.exception, RunError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_the_table_of_streams_and_fusions(tiny_store: Path, tmp_path: Path) -> None:
    folders = [
        untrained(tiny_store, tmp_path / stream, stream, seed=n) for n, stream in enumerate(("b", "jm", "j", "bm"))
    ]
    table = shown(*folders)
    assert [line.strip().split("  ")[0] for line in table.splitlines() if "%" not in line and " 2 " in line] == [
        "2 (j b)",
        "4 (+ jm bm)",
    ]
    assert "2 2 1 1" in table
    published = json.loads(shown(*folders, "--json", "--quiet"))
    assert [run["weight"] for run in published["runs"]] == [2, 1, 2, 1]
    assert [fusion["streams"] for fusion in published["fusions"]] == [["j", "b"], ["j", "b", "jm", "bm"]]
    assert published["fusions"][1]["runs"][0] == str(folders[2])
    assert published["top1"] == published["fusions"][-1]["top1"]
    assert (published["weights"], published["fitted_on"]) == ("published", None)
    fitted = json.loads(shown(*folders, "--fit-weights", "--json", "--quiet"))
    assert (fitted["weights"], fitted["fitted_on"]) == ("fitted", 8)
    assert [sum(fusion["weights"]) for fusion in fitted["fusions"]] == pytest.approx([1, 1])
    by_run = dict(zip(fitted["fusions"][-1]["runs"], fitted["fusions"][-1]["weights"], strict=True))
    assert {run["run"]: run["weight"] for run in fitted["runs"]} == by_run
    assert [run["top1"] for run in fitted["runs"]] == [run["top1"] for run in published["runs"]]
    assert "weights fitted on 8 held-out clips" in shown(*folders, "--fit-weights")


def test_a_run_that_stopped_and_a_folder_that_takes_nothing_are_noted(run_folder: Path, monkeypatch) -> None:
    (run_folder / runs.METRICS).write_text('{"epoch": 2, "val_top1": 50.0}\n')

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "somewhere")

    monkeypatch.setattr(evaluate, "save_predictions", refused)
    result = CliRunner().invoke(app, ["eval", str(run_folder)])
    assert result.exit_code == 0 and "top-1" in result.stdout
    epochs = runs.read_config(run_folder).train.epochs
    assert f"Note: {run_folder} has trained 2 of {epochs} epochs (interrupted)." in result.stderr
    assert f"the predictions are not kept in {run_folder} (Permission denied)" in result.stderr


def test_several_runs_of_a_stream_are_fused_with_a_note(tiny_store: Path, tmp_path: Path) -> None:
    folders = [untrained(tiny_store, tmp_path / f"{n}", stream, seed=n) for n, stream in enumerate(("j", "j", "b"))]
    table = shown(*folders)
    assert "2 runs of stream j" in table and "all (j j b)" in table and "2 2 2" in table
    assert "2 (j b)" not in table


def test_weights_are_not_fitted_where_runs_held_out_other_clips(tiny_store: Path, tmp_path: Path) -> None:
    folders = [
        untrained(tiny_store, tmp_path / "j"),
        untrained(tiny_store, tmp_path / "b", "b", held_out=range(4, 12)),
    ]
    with pytest.raises(RunError, match="held out other clips than"):
        shown(*folders, "--fit-weights")
    assert not list(tmp_path.glob("*/predictions-*"))  # known before anything is predicted
    assert "2 (j b)" in shown(*folders)
    result = CliRunner().invoke(app, ["eval", str(folders[0]), "--fit-weights"])
    assert result.exit_code == 2 and "one run needs no weights" in result.output


def break_checkpoint(folder: Path) -> None:
    (folder / "best.pt").write_bytes(b"nothing")


def change_shape(folder: Path, **changes: object) -> None:
    facts = json.loads((folder / "config.json").read_text())
    facts["model"] |= changes
    (folder / "config.json").write_text(json.dumps(facts))


def test_a_run_of_version_0_1_0_is_loaded_where_nothing_it_used_is_gone(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path, config = run_folder / "config.json", runs.read_config(run_folder)
    facts = json.loads(path.read_text())
    del facts["method"]  # there was one
    for name, harmless in SkeletonAgentConfig.removed.items():
        section, field = name.split(".")
        facts["config"][section][field] = harmless
    facts["model"]["motion_features"] = 0
    path.write_text(json.dumps(facts))
    run = load_run(run_folder, CPU)
    assert run.config == config and run.classes == CLASSES
    facts["config"]["agents"]["gamma"] = 3.0
    path.write_text(json.dumps(facts))
    code, printed = failure(monkeypatch, capsys, "eval", run_folder)
    assert code == 1 and printed.count("\n") == 1
    assert "agents.gamma is set, which this version no longer has: skag 0.1.0 reads this run." in printed
    facts["config"]["agents"]["gamma"] = 0.0
    facts["model"]["motion_features"] = 17
    path.write_text(json.dumps(facts))
    with pytest.raises(RunError, match="has a head for motion, .* skag 0.1.0 reads this run"):
        load_run(run_folder, CPU)


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
        (lambda folder: (folder / "config.json").write_text("{}"), "expected fields of SkeletonAgentConfig"),
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
        load_run(run_folder, CPU)
    assert "\n" not in str(caught.value)
    assert "never" not in capsys.readouterr().out


def test_a_store_without_any_class_of_the_run_is_refused(run_folder: Path) -> None:
    run = dataclasses.replace(load_run(run_folder, CPU), classes=["a", "b", "c", "d"])
    with SkeletonStore(run.store_path) as store, pytest.raises(DataError, match="none of the 4 classes of the run"):
        predict_split(run, store, "xsub_test", CPU)
