"""`skag add`: a class more by a few recordings, and everything that a run does with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from skag import runs
from skag.errors import RunError
from skag.inference import added, adding
from skag.inference.loaded import load_run
from skag.methods.base import Candidate
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, write_store

from .helpers.commands import document, failure, invoke
from .helpers.tiny import CLASSES, clip, tiny_clip
from .helpers.training import CPU

NEW = "kick"


def kick(seed: int, frames: int = 14) -> np.ndarray:
    """A clip unlike those of the tiny store: the right foot goes up and forward."""
    joints = clip(3, seed, frames)
    foot = load_layout("kinect-v1").index["right foot"]
    joints[:, :, :, 0] -= np.linspace(0, 0.6, frames)[:, None]
    joints[:, :, foot, 1] += np.linspace(0, 0.9, frames)
    return joints


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for seed in range(8):
        np.save(folder / f"kick-{seed}.npy", kick(seed))
    return folder


@pytest.fixture(scope="module")
def extended(trained: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A run with the class added by three recordings, and what the command says of it."""
    out = tmp_path_factory.mktemp("added") / "run"
    files = [recordings / f"kick-{seed}.npy" for seed in range(3)]
    return out, document("add", trained, out, *files, "--class", NEW, "--description", "The right foot is thrown up.")


def test_the_new_class_is_predicted_and_the_old_ones_stay(
    trained: Path, extended: tuple[Path, dict], recordings: Path, tmp_path: Path
) -> None:
    out, report = extended
    assert (report["classes"], report["recordings"], report["fitted_on"]) == (5, 3, "held-out")
    for label in range(4):
        np.save(tmp_path / f"old-{label}.npy", clip(label, 30 + label))
    files = [*sorted(recordings.glob("kick-[4-7].npy")), *sorted(tmp_path.glob("old-*.npy"))]
    lines = invoke("predict", out, *files, "--json", "--quiet").splitlines()
    found = [json.loads(line)["top"][0]["class"] for line in lines]
    assert found == [NEW] * 4 + CLASSES
    first = json.loads(lines[0])
    assert first["sentence"] == "The right foot is thrown up." and first["evidence"]["ranked_by"] == "gradient"


def test_old_classes_have_among_themselves_what_they_had(trained: Path, extended: tuple[Path, dict]) -> None:
    before, after = (load_run(folder, CPU) for folder in (trained, extended[0]))
    assert after.classes == [*before.classes, NEW] and after.trained == before.classes
    x = torch.from_numpy(np.stack([kick(1), clip(0), clip(3)])).float()[:, :, :8]
    with torch.inference_mode():
        old, new = before.classifier.log_scores(x), after.classifier.log_scores(x)
        torch.testing.assert_close(new[:, :4].log_softmax(1), old.log_softmax(1))
        some = [Candidate(NEW), Candidate(CLASSES[2])]
        torch.testing.assert_close(after.classifier.log_scores(x, some), torch.stack([new[:, 4], 0 * new[:, 4]], 1))
        alone = [Candidate(CLASSES[2]), Candidate(CLASSES[0])]
        assert torch.equal(after.classifier.log_scores(x, alone), before.classifier.log_scores(x, alone))


def test_the_log_odds_by_hand() -> None:
    class Two:
        model = torch.nn.Identity()

        def log_scores(self, x: torch.Tensor, candidates: object = None) -> torch.Tensor:
            return torch.zeros(len(x), 2)

        def embed(self, x: torch.Tensor) -> torch.Tensor:
            return x

    kept = added.Added(
        ("new",),
        ("",),
        np.eye(3, dtype=np.float32)[:2],
        np.eye(3, dtype=np.float32)[2:],
        np.array([10], np.float32),
    )
    found = added.WithAdded(Two(), ["a", "b"], kept).log_scores(torch.tensor([[0, 3.0, 4.0]]))
    torch.testing.assert_close(found, torch.tensor([[-np.log(2), -np.log(2), 10 * (0.8 - 0.6)]]).float())


def test_the_run_is_evaluated_and_analysed_as_any(
    extended: tuple[Path, dict], tiny_store: Path, tmp_path: Path
) -> None:
    """On its own store, and on one in which the new class stands first."""
    out = shutil.copytree(extended[0], tmp_path / "run")
    assert document("eval", out)["runs"][0]["top1"] > 90
    path, rng = tmp_path / "other.h5", np.random.default_rng(3)
    with write_store(path, load_layout("kinect-v1")) as writer:
        for number in range(20):
            label = number % 5
            joints = kick(40 + number) if label == 0 else tiny_clip(label - 1, rng)
            writer.add(Clip(str(number), label, joints, splits=("test" if number >= 5 else "train",)))
        writer.finish([NEW, *CLASSES])
    found = document("eval", out, "--data", path)
    assert found["runs"][0]["top1"] == 100, found
    analysis = document("analyze-confusion", out, "--data", path)
    assert {row["class"]: row["accuracy"] for row in analysis["per_class"]}[NEW] == 100
    assert (out / "report.html").exists()
    assert next(run for run in document("runs", tmp_path)["runs"])["state"] == "finished"


def test_another_class_is_added_to_that(
    extended: tuple[Path, dict], recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    np.save(tmp_path / "still.npy", np.repeat(clip(0)[:, :1], 14, 1))
    out, again = extended[0], tmp_path / "again"
    report = document("add", out, again, tmp_path / "still.npy", "--class", "stand still")
    assert report["classes"] == 6
    run, facts = load_run(again, CPU), json.loads((again / runs.CONFIG).read_text())
    assert run.classes == [*CLASSES, NEW, "stand still"]
    assert [len(each["recordings"]) for each in facts["added"]] == [3, 1]
    assert facts["added"][0]["recordings"][0]["recording"] == "kick-0"
    assert len(facts["added"][1]["recordings"][0]["sha256"]) == 64
    before = load_run(out, CPU)
    x = torch.from_numpy(np.stack([kick(1), clip(0), clip(3)])).float()[:, :, :8]
    with torch.inference_mode():
        torch.testing.assert_close(run.classifier.log_scores(x)[:, :5], before.classifier.log_scores(x))
    code, told = failure(monkeypatch, capsys, "train", "--resume", again)
    assert code == 1 and "classes were added to it: go on with" in told
    code, told = failure(monkeypatch, capsys, "eval", again, "--kinematics")
    assert code == 1 and "knows trained classes alone" in told


def test_what_cannot_be_added_is_told(
    trained: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    np.save(tmp_path / "other.npy", np.ones((5, 17, 3)))
    np.save(tmp_path / "empty.npy", np.zeros((5, 20, 3)))
    good, imported = recordings / "kick-0.npy", shutil.copytree(trained, tmp_path / "imported")
    source = json.loads((imported / runs.DATA).read_text())
    (imported / runs.DATA).write_text(json.dumps(source | {"store": None, "fingerprint": None, "training": []}))
    for folder, file, name, said in (
        (trained, good, "STEP", "knows 'step' already"),
        (trained, good, " ", "is no name for a class"),
        (trained, tmp_path / "other.npy", NEW, "other.npy"),
        (trained, tmp_path / "empty.npy", NEW, "no joint other than 0 in any frame"),
        (trained, tmp_path / "nowhere.npy", NEW, "nowhere.npy"),
        (imported, good, NEW, "holds imported weights"),
    ):
        code, told = failure(monkeypatch, capsys, "add", folder, tmp_path / "out", file, "--class", name, "-q")
        assert code == 1 and said in told and told.count("\n") == 1, told
        assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    code, told = failure(monkeypatch, capsys, "add", trained, tmp_path / "out", good, "--class", NEW)
    assert code == 1 and "is there already" in told


def test_a_damaged_file_is_told(extended: tuple[Path, dict], tmp_path: Path) -> None:
    out = shutil.copytree(extended[0], tmp_path / "run")
    whole = (out / added.FILE).read_bytes()
    (out / added.FILE).write_bytes(whole[:300])
    with pytest.raises(RunError, match=r"added.npz is damaged"):
        load_run(out, CPU)
    (out / added.FILE).unlink()
    with pytest.raises(RunError, match=r"added.npz is damaged"):
        load_run(out, CPU)


# ---- what is fitted


def gathered(rng: np.random.Generator, centres: np.ndarray, each: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(len(centres)), each)
    return adding.unit(centres[labels] + rng.normal(0, noise, (len(labels), centres.shape[1]))), labels


@pytest.mark.parametrize(("noise", "low", "high"), [(0.02, 0.0, 0.5), (0.35, 0.35, 1.0)])
def test_the_description_pulls_where_recordings_say_little(noise: float, low: float, high: float) -> None:
    """Texts that say exactly where a class lies are worth more, the less one recording says."""
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(13, 6))
    centres = adding.unit(texts @ rng.normal(size=(6, 24)))
    held, labels = gathered(rng, centres[:12], 12, noise)
    new, _ = gathered(rng, centres[12:], 1, noise)
    found = adding.fit(held, labels, centres[:12], new, (texts[:12], texts[12]))
    assert low <= found.pull <= high and found.classes == 12
    nothing = adding.fit(held, labels, centres[:12], new, None)
    assert nothing.pull == 0 and found.prototype @ centres[12] >= nothing.prototype @ centres[12] - 0.02
    wrong = adding.fit(held, labels, centres[:12], new, (rng.permutation(texts[:12]), texts[12]))
    assert wrong.pull <= found.pull


def test_the_scale_is_the_likeliest() -> None:
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 0.2, 4000)
    is_new = rng.random(4000) < 1 / (1 + np.exp(-12 * margin))
    _, scale = adding._logistic(margin, is_new, np.ones(4000))
    assert scale == pytest.approx(12, rel=0.1)
