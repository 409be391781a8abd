"""Test clips made worse: what each corruption does to a body, and what a run makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from skag.inference import stress
from skag.inference.stress import CORRUPTIONS, Corrupted, centimetre, lacks
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store

from .helpers.commands import document, failure

LAYOUT = load_layout("kinect-v1")
RNG = np.random.default_rng(0)


@pytest.fixture
def clip() -> np.ndarray:
    """Two bodies, nine frames, in metres: one stands two metres high, one was not seen."""
    points = np.random.default_rng(1).normal(1, 0.4, (2, 9, 20, 3)).astype(np.float32)
    points[1] = 0
    return points


def changed(name: str, clip: np.ndarray, seed: int = 0) -> np.ndarray:
    change = CORRUPTIONS[name].change
    assert change is not None
    return change(clip, LAYOUT, np.random.default_rng(seed))


def test_joints_go_missing_by_the_share(clip: np.ndarray) -> None:
    many = np.tile(clip, (1, 200, 1, 1))
    for name, share in (("joints-10", 0.1), ("joints-30", 0.3)):
        found = changed(name, many)
        gone = ~found[0].any(-1)
        assert gone.mean() == pytest.approx(share, abs=0.01)
        np.testing.assert_array_equal(found[0][~gone], many[0][~gone])
        assert not found[1].any()


def test_a_limb_goes_whole_and_either_side_can(clip: np.ndarray) -> None:
    for ending in ("arm", "leg"):
        sides = set()
        for seed in range(8):
            gone = ~changed(ending, clip, seed)[0].any(-1)
            assert (gone == gone[0]).all()
            sides.add(tuple(np.flatnonzero(gone[0])))
        assert sides == {tuple(LAYOUT.part_index[f"{side} {ending}"]) for side in ("left", "right")}


def test_noise_is_in_centimetres_of_the_person(clip: np.ndarray) -> None:
    many = np.tile(clip, (1, 100, 1, 1))
    noise = (changed("noise-5cm", many) - many)[0]
    assert noise.std() == pytest.approx(5 * centimetre(many, LAYOUT), rel=0.03)
    assert not changed("noise-5cm", many)[1].any()
    thousandfold = changed("noise-5cm", 1000 * many) - 1000 * many
    assert thousandfold.std() == pytest.approx(1000 * (changed("noise-5cm", many) - many).std(), rel=0.01)


def test_a_centimetre_is_told_by_the_bones_from_head_to_foot() -> None:
    points = np.zeros((1, 2, 20, 3), np.float32)
    heights = {"head": 1.55, "shoulder centre": 1.4, "spine": 1.1, "hip centre": 0.9, "left hip": 0.85}
    heights |= {"left knee": 0.45, "left ankle": 0.1, "left foot": 0.05}
    for joint, height in heights.items():
        points[:, :, LAYOUT.index[joint]] = (1, 2 + height, 3)
    assert centimetre(points, LAYOUT) == pytest.approx(1.5 / 155)


def test_frames_are_left_out(tmp_path: Path, clip: np.ndarray) -> None:
    with write_store(tmp_path / "d.h5", LAYOUT) as writer:
        for number in range(8):
            writer.add(Clip(f"c{number}", 0, clip + number, np.full(clip.shape[:3], 0.5, np.float32)))
        writer.finish(["x"])
    with SkeletonStore(tmp_path / "d.h5") as store:
        half = Corrupted(store, CORRUPTIONS["half-rate"], 0)
        np.testing.assert_array_equal(half.keypoints(3), store.keypoints(3)[:, ::2])
        assert half.confidence(3).shape == (2, 5, 20)
        cut, ends = Corrupted(store, CORRUPTIONS["cut"], 0), set()
        for number in range(8):
            found, whole = cut.keypoints(number), store.keypoints(number)
            first = np.array_equal(found, whole[:, :6])
            assert first or np.array_equal(found, whole[:, 3:])
            ends.add(first)
        assert ends == {True, False}
        missing = Corrupted(store, CORRUPTIONS["arm"], 0)
        gone = ~missing.keypoints(2).any(-1)
        assert (missing.confidence(2) == np.where(gone, 0, 0.5)).all() and gone.any()
        np.testing.assert_array_equal(missing.keypoints(2), missing.keypoints(2))
        other = Corrupted(store, CORRUPTIONS["joints-30"], 1)
        assert not np.array_equal(other.keypoints(2), Corrupted(store, CORRUPTIONS["joints-30"], 0).keypoints(2))


def test_a_turned_camera_keeps_the_body_and_turns_it_about_the_vertical(clip: np.ndarray) -> None:
    for name, degrees in (("turn-30", 30), ("turn-60", 60)):
        found = changed(name, clip)
        np.testing.assert_allclose(found[..., 1], clip[..., 1], atol=1e-6)
        before, after = (np.diff(points[0, :, [4, 8]], axis=0)[0] for points in (clip, found))
        np.testing.assert_allclose(np.linalg.norm(after, axis=-1), np.linalg.norm(before, axis=-1), rtol=1e-5)
        flat = [each[:, [0, 2]] for each in (before, after)]
        cosine = (flat[0] * flat[1]).sum(-1) / np.prod([np.linalg.norm(each, axis=-1) for each in flat], axis=0)
        np.testing.assert_allclose(cosine, np.cos(np.radians(degrees)), atol=1e-4)
        assert not found[1].any()


def test_a_child_s_bones_are_shorter_by_their_part(clip: np.ndarray) -> None:
    clip[0, 4, LAYOUT.index["left knee"]] = 0
    found = changed("child", clip)
    root = LAYOUT.index["shoulder centre"]

    def ratio(child: str, parent: str, frame: int = 0) -> float:
        u, v = LAYOUT.index[child], LAYOUT.index[parent]
        after, before = (float(np.linalg.norm(points[0, frame, u] - points[0, frame, v])) for points in (found, clip))
        return after / before

    child = 116 / 170
    assert ratio("left elbow", "left shoulder") == pytest.approx(child, rel=1e-4)
    assert ratio("left ankle", "left knee") == pytest.approx(child * 0.45 / 0.48, rel=1e-4)
    assert ratio("head", "shoulder centre") == pytest.approx(child * 0.55 / 0.52, rel=1e-4)
    assert not found[0, 4, LAYOUT.index["left knee"]].any() and not found[1].any()
    assert ratio("left ankle", "left hip", 4) == pytest.approx(child * 0.45 / 0.48, rel=1e-4)
    np.testing.assert_allclose(
        found[0, :, root] - found[0, 0, root], child * (clip[0, :, root] - clip[0, 0, root]), atol=1e-5
    )


def test_what_a_layout_does_not_allow_is_left_out() -> None:
    assert not any(lacks(LAYOUT, each) for each in CORRUPTIONS.values())
    flat = {name for name, each in CORRUPTIONS.items() if lacks(load_layout("coco"), each)}
    assert flat == {"turn-30", "turn-60"}
    hand = {name for name, each in CORRUPTIONS.items() if lacks(load_layout("mediapipe-hand-21"), each)}
    assert hand == {"arm", "leg", "noise-1cm", "noise-5cm", "child"}


def test_the_command_tells_of_every_corruption(run_folder: Path, monkeypatch, capsys) -> None:
    found = document("eval", run_folder, "--stress")
    assert found["clean"]["top1"] == document("eval", run_folder)["top1"] and found["clean"]["difference"] == 0
    assert [row["name"] for row in found["rows"]] == list(CORRUPTIONS) and found["left_out"] == []
    for row in found["rows"]:
        assert row["low"] <= row["top1"] <= row["high"]
        assert row["difference"] == pytest.approx(row["top1"] - found["clean"]["top1"])
    assert any(row["difference"] < 0 for row in found["rows"])
    assert (run_folder / "figures" / "stress.png").stat().st_size > 5000
    again = document("eval", run_folder, "--stress", "--seed", "0")
    assert again == found
    code, printed = failure(monkeypatch, capsys, "eval", run_folder, "--stress", "--kinematics")
    assert code == 2 and "--stress is of one run" in printed


def test_the_probabilities_are_those_of_the_changed_clips(
    run_folder: Path, tiny_store: Path, tmp_path: Path, monkeypatch
) -> None:
    """As `skag eval` computes them for a store in which the clips are changed."""
    with SkeletonStore(tiny_store) as store, write_store(tmp_path / "worse.h5", store.layout) as writer:
        worse = Corrupted(store, CORRUPTIONS["leg"], 0)
        splits = {name: set(numbers.tolist()) for name, numbers in store.splits.items()}
        for number in range(len(store)):
            of = tuple(name for name, numbers in splits.items() if number in numbers)
            writer.add(Clip(store.names[number], int(store.labels[number]), worse.keypoints(number), splits=of))
        writer.finish(store.classes)
    monkeypatch.setattr(stress, "CORRUPTIONS", {"leg": CORRUPTIONS["leg"]})
    (row,) = stress.stress_run(run_folder, device=torch.device("cpu")).rows
    assert row.top1 == pytest.approx(document("eval", run_folder, "--data", tmp_path / "worse.h5")["top1"])
