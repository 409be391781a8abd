"""The whole analysis of a run folder: with and without agents, against a reference, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from skag.dialogue.transfer import to_line
from skag.errors import RunError
from skag.inference.loaded import load_run
from skag.inference.scores import Predictions, predict_split, save_predictions
from skag.methods.skeleton_agent.findings import learned_topology
from skag.methods.skeleton_agent.network import ModelConfig, Recogniser
from skag.results.confusion import analyze_confusion
from skag.results.poses import typical_poses
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store

from .helpers.exchanges import exchange
from .helpers.runs import untrained
from .helpers.tiny import CLASSES

CPU = torch.device("cpu")
WITHOUT_AGENTS = {"confusion", "class-accuracy", "reliability", "topology"}


@pytest.fixture
def run(tiny_store: Path, tmp_path: Path) -> Path:
    """An untrained run, as if asked once about its first two classes."""
    folder = untrained(tiny_store, tmp_path / "run")
    later = exchange(CLASSES[0], 6, "Unlike lower right hand, the right hand rises.", at=9)
    told = [exchange(name, number, text) for name in CLASSES for number, text in ((4, "4-head: nods"), (5, "It is."))]
    (folder / "dialogues.jsonl").write_text("".join(map(to_line, [*told, later])))
    change = {"sentence_before": "It is.", "sentence": later.answer, "joints_before": ["head"], "joints": ["spine"]}
    refresh = {
        "epoch": 5,
        "num_classes": 4,
        "confusions": [[0, 0, 3], [0, 1, 5]],
        "similar": {CLASSES[0]: [CLASSES[1]]},
        "failed": [],
        "changed": [{"class": CLASSES[0], **change}],
        "exchanges": [later.key],
    }
    (folder / "refreshes.jsonl").write_text(json.dumps(refresh) + "\n")
    (folder / "refreshes").mkdir()
    rng = np.random.default_rng(0)
    for epoch in (0, 5):
        np.savez(
            folder / "refreshes" / f"epoch-{epoch:03}.npz",
            text_before=rng.random((4, 8)),
            text=rng.random((4, 8)),
            joints_before=np.ones((4, 20), np.uint8),
            joints=np.ones((4, 20), np.uint8),
            clip_embeddings=rng.random((8, 8)),
            clip_labels=np.arange(8) % 4,
            clip_numbers=np.arange(8),
        )
    return folder


def predict_as(run: Path, predicted: list[int]) -> None:
    """Let a run's saved predictions be these classes, with 70 % each."""
    opened = load_run(run, CPU)
    with SkeletonStore(opened.store_path) as store:
        made = predict_split(opened, store, "xsub_test", CPU)
    probabilities = np.full(made.probabilities.shape, 0.1)
    probabilities[np.arange(16), predicted] = 0.7
    save_predictions(run, Predictions(**{**vars(made), "probabilities": probabilities}))


def test_a_run_with_agents_is_explained_and_drawn(run: Path) -> None:
    predict_as(run, [1] * 4 + [1] * 4 + [2] * 4 + [3] * 4)
    document = analyze_confusion(run, device=CPU)
    assert document["top1"] == 75
    (pair,) = document["pairs"]
    assert (pair["true"], pair["predicted"], pair["count"]) == (CLASSES[0], CLASSES[1], 4)
    assert (pair["true_sentence"], pair["predicted_sentence"]) == (
        "Unlike lower right hand, the right hand rises.",
        "It is.",
    )
    assert pair["joints_apart"] == ["spine", "head"]
    assert pair["refreshes"][0] | {"after": None, "change": None} == pair["refreshes"][0]
    assert document["refreshes"][0]["asked_before"] == 62.5
    assert [each["epoch"] for each in document["sentence_match"]] == [0, 5]
    assert set(document["figures"]) == WITHOUT_AGENTS | {"embeddings", "critical-joints"}
    assert all(Path(path).stat().st_size > 1000 for path in document["figures"].values())
    assert document["missing"] == document["remarks"] == []
    assert json.loads((run / "analysis.json").read_text()) == document


def test_a_run_without_agents_says_what_is_missing(tiny_store: Path, tmp_path: Path) -> None:
    document = analyze_confusion(untrained(tiny_store, tmp_path / "plain"), device=CPU)
    assert set(document["figures"]) == WITHOUT_AGENTS
    assert document["refreshes"] == [] and "without agents" in document["missing"][0]
    assert all(pair["true_sentence"] is None and pair["refreshes"] == [] for pair in document["pairs"])


def test_a_run_of_an_earlier_skag_lacks_its_embeddings(run: Path) -> None:
    for path in (run / "refreshes").iterdir():
        path.unlink()
    document = analyze_confusion(run, device=CPU)
    assert "embeddings" not in document["figures"] and "epoch-NNN.npz" in document["missing"][0]
    assert document["pairs"][0]["true_sentence"]


def test_a_reference_is_compared_clip_by_clip(run: Path, tiny_store: Path, tmp_path: Path) -> None:
    other = untrained(tiny_store, tmp_path / "other", seed=1)
    predict_as(run, [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4)
    predict_as(other, [0] * 4 + [1] * 4 + [2] * 4 + [0] * 4)
    document = analyze_confusion(run, reference=other, device=CPU)
    assert (document["comparison"]["gained"], document["comparison"]["lost"]) == (4, 0)
    assert document["comparison"]["p"] == pytest.approx(2 / 16, abs=0.01) and not document["comparison"]["clear"]
    assert [row["difference"] for row in document["per_class"]] == [0, 0, 0, 100]
    assert document["sets"]["hard"] == {"classes": [CLASSES[3]], "accuracy": 100, "reference": 0}
    assert "difference" in document["figures"]


def test_a_reference_of_other_clips_or_classes_is_refused(run: Path, tiny_store: Path, tmp_path: Path) -> None:
    other = untrained(tiny_store, tmp_path / "other")
    with SkeletonStore(tiny_store) as store:
        clips = [store.keypoints(n) for n in store.splits["xsub_test"]]
    for name, classes, count, cause in (
        ("classes", ["a", "b", "c", "d"], 16, "other classes"),
        ("clips", CLASSES, 15, "other clips"),
    ):
        path = tmp_path / f"{name}.h5"
        with write_store(path, load_layout("kinect-v1")) as writer:
            for number, clip in enumerate(clips[:count]):
                splits = ("xsub_test",) if number else ("xsub_test", "xsub_train")
                writer.add(Clip(f"{number}", number % 4, clip, splits=splits))
            writer.finish(classes)
        facts = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps(facts | {"classes": classes}))
        source = json.loads((other / "data.json").read_text())
        (other / "data.json").write_text(json.dumps(source | {"store": str(path)}))
        with pytest.raises(RunError, match=cause) as caught:
            analyze_confusion(run, reference=other, device=CPU)
        assert "\n" not in str(caught.value)


def test_a_run_is_analysed_on_recordings_that_have_no_training_split(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.h5"
    with write_store(path, load_layout("kinect-v1")) as writer:
        for label in range(4):
            clip = np.random.default_rng(label).random((1, 9, 20, 3)).astype(np.float32)
            writer.add(Clip(f"new {label}", label, clip, splits=("all",)))
        writer.finish(CLASSES)
    document = analyze_confusion(run, data=path, split="all", device=CPU)
    assert document["clips"] == 4 and "critical-joints" in document["figures"]


def test_clips_that_a_run_learned_from_are_remarked(run: Path, tiny_store: Path, tmp_path: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        tested = store.splits["xsub_test"]
    source = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps(source | {"training": [0, int(tested[0]), int(tested[1])]}))
    assert analyze_confusion(run, device=CPU)["remarks"] == [
        f"{run} learned from 2 of these 16 clips, so its accuracy says little of new ones"
    ]


def test_the_learned_graph_is_the_mean_over_subsets() -> None:
    model = Recogniser(ModelConfig(2, 5, 1, channels=(8, 8), strides=(1, 1)))
    found = learned_topology(model)
    assert found.shape == (2, 5, 5)
    np.testing.assert_allclose(found[1], model.blocks[1].gcn.A.detach().numpy().mean(0), rtol=1e-6)


def test_a_pose_is_a_frame_of_the_class_in_which_joints_are_apart(tmp_path: Path) -> None:
    layout = load_layout("kinect-v1")
    spread = np.random.default_rng(0).uniform(1, 2, (20, 3)).astype(np.float32)
    clip = np.repeat(spread[None, None], 9, 1)
    clip[0, [0, 1, 2, 3, 5, 6, 7, 8], 4:] = clip[0, 0, 4]  # everything on one spot but in the fifth frame
    clip[0, 4, 3] = 0  # not seen
    path = tmp_path / "store.h5"
    with write_store(path, layout) as writer:
        writer.add(Clip("a", 0, clip, splits=("train",)))
        writer.finish(["a", "b"])
    with SkeletonStore(path) as store:
        poses = typical_poses(store, np.array([0]), [0, 1])
    assert np.isnan(poses[0, 3]).all()
    np.testing.assert_allclose(np.delete(poses[0], 3, 0), np.delete(spread, 3, 0), atol=1e-3)
    assert np.isnan(poses[1]).all()  # no clip of that class
