"""Real time given back to the network: two actions that differ in nothing but their speed."""

from __future__ import annotations

from dataclasses import replace as with_fields
from pathlib import Path

import numpy as np
import pytest
import torch

import skag
from skag.config import AugmentConfig, DataConfig, replace
from skag.errors import DataError, RunError
from skag.methods.skeleton_agent.config import NetworkConfig, SkeletonAgentConfig
from skag.skeleton import clips as data
from skag.skeleton import tempo
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store

from .helpers.commands import document, failure, invoke
from .helpers.once import once
from .helpers.training import CPU, run_training, small

LAYOUT = load_layout("kinect-v1")
CLASSES = ["swing a hand", "swing a hand fast"]
RATE = 20.0


def swing(frames: int, shift: float) -> np.ndarray:
    """A body `[1, T, 20, 3]` whose right hand goes once around, whatever time that takes."""
    body = np.random.default_rng(5).normal(0, 0.3, (20, 3)) + [0, 1, 3]
    recording = np.repeat(body[None], frames, 0)
    angle = 2 * np.pi * np.linspace(0, 1, frames) + shift
    recording[:, LAYOUT.index["right hand"], :2] += 0.5 * np.stack([np.cos(angle), np.sin(angle)], 1)
    return recording[None].astype(np.float32)


@pytest.fixture(scope="session")
def two_speeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the two classes, 48 training and 16 test clips, at 20 frames per second."""

    def make(folder: Path) -> None:
        rng = np.random.default_rng(0)
        with write_store(folder / "data.h5", LAYOUT) as writer:
            for number in range(64):
                split, label = "test" if number >= 48 else "train", number % 2
                frames = int(rng.integers(18, 23) if label else rng.integers(36, 45))
                recording = swing(frames, rng.uniform(0, 2 * np.pi))
                clip = Clip(f"clip-{number}", label, recording, subject=number // 8, splits=(split,), frame_rate=RATE)
                writer.add(clip)
            writer.finish(CLASSES)

    return once(tmp_path_factory, "two-speeds", make) / "data.h5"


def config_of(timing: str) -> SkeletonAgentConfig:
    config = small(2, alpha=0.0, beta=0.0)
    config = with_fields(config, augment=AugmentConfig(), network=NetworkConfig(channels=(16,), strides=(2,)))
    config = replace(config, "train", lr=0.01, repeats=6, batch_size=8, warmup=0, ema=0.0, label_smoothing=0.0)
    return replace(config, "data", timing=timing, mirror_views=False, unit_height=False)


@pytest.fixture(scope="session")
def runs(two_speeds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with each kind of timing."""

    def make(folder: Path) -> None:
        for timing in ("none", "duration", "speed"):
            run_training(config_of(timing), two_speeds, folder / "d.h5", folder / timing)

    return once(tmp_path_factory, "timing-runs", make)


@pytest.mark.parametrize("timing", ["none", "duration", "speed"])
def test_speed_alone_is_told_by_timing_alone(timing: str, runs: Path) -> None:
    found = document("eval", runs / timing)["runs"][0]["top1"]
    assert found < 80 if timing == "none" else found == 100


def test_a_network_is_told_seconds_or_metres_per_second() -> None:
    recording = swing(21, 0.0)  # one turn of a circle of half a metre in a second
    frames = torch.tensor([21])
    for name, config in (
        ("duration", DataConfig(num_frames=11, num_bodies=2, timing="duration")),
        ("speed", DataConfig(num_frames=11, num_bodies=2, timing="speed")),
        ("motion", DataConfig(num_frames=11, num_bodies=2, timing="speed", stream="jm")),
    ):
        rows = torch.from_numpy(data.prepare_clip(recording, None, LAYOUT, config))
        rates = torch.tensor([RATE])
        clips = data.Clips(rows, torch.tensor([0]), frames, torch.tensor([0]), None, LAYOUT, rates=rates)
        x = next(data.test_batches(clips, config, 1))[0, 0]  # M T V C
        assert x.shape == (2, 11, 20, tempo.num_channels(config, LAYOUT)) and not x[1].any()
        hand = x[0, :, LAYOUT.index["right hand"], 3:]
        if name == "duration":
            torch.testing.assert_close(hand, torch.zeros(11, 1))  # log of a second
            half = next(data.test_batches(with_fields(clips, rates=rates * 2), config, 1))[0, 0]
            assert half[0, 0, 0, 3] == pytest.approx(np.log(0.5))
        else:
            speed = hand.norm(dim=-1)
            assert speed[:-1].numpy() == pytest.approx(np.pi, rel=0.03)


def test_a_joint_that_comes_into_sight_has_no_speed() -> None:
    config = DataConfig(num_frames=4, num_bodies=1, timing="speed")
    joints = torch.ones(1, 4, 1, 20, 3).cumsum(1)
    joints[0, 1, 0, 7] = 0
    x = tempo.with_timing(joints, joints, torch.tensor([2.0]), torch.tensor([RATE]), LAYOUT, config)
    assert x[0, :, 0, 6, 3].tolist() == [10, 10, 10, 10]
    assert x[0, :, 0, 7, 3].tolist() == [0, 0, 10, 10]


def test_predict_and_live_need_the_rate(
    runs: Path, two_speeds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    recogniser, fast = skag.load(runs / "speed", device="cpu"), swing(20, 1.0)
    assert recogniser.predict(fast, fps=RATE, evidence=False).label == CLASSES[1]
    assert recogniser.predict(fast, fps=RATE / 2, evidence=False).label == CLASSES[0]
    assert recogniser.predict(fast, fps=RATE).evidence.ranking[0] == "right hand"
    with pytest.raises(DataError, match="frames per second"):
        recogniser.predict(fast)
    np.save(tmp_path / "one.npy", fast)
    assert failure(monkeypatch, capsys, "predict", runs / "speed", tmp_path / "one.npy")[0] == 1
    assert CLASSES[1] in invoke("predict", runs / "speed", tmp_path / "one.npy", "--fps", RATE, "--no-reasons")
    assert recogniser.segments(fast, window=20, fps=RATE)[0].label == CLASSES[1]
    live = recogniser.stream(RATE, window=1)
    assert [live.push(frame) for frame in fast[0]][-1].label == CLASSES[1]
    invoke("predict", runs / "speed", two_speeds, "--split", "test", "--no-reasons")


def test_half_the_frames_are_taken_at_half_the_rate(runs: Path) -> None:
    rows = document("eval", runs / "speed", "--stress")["rows"]
    assert {row["name"]: row["top1"] for row in rows}["half-rate"] == 100


def test_what_timing_cannot_do_is_refused_in_a_line(
    runs: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    settings = ("--alpha", 0, "--beta", 0, "--set", "data.timing=speed", "--out", tmp_path / "run")
    code, line = failure(monkeypatch, capsys, "train", tiny_store, "--recipe", "nw-ucla-small", *settings)
    assert code == 1 and "--fps" in line and not (tmp_path / "run").exists()
    pytest.importorskip("onnx")
    code, line = failure(monkeypatch, capsys, "export", runs / "speed", tmp_path / "model.onnx")
    assert code == 1 and "data.timing" in line
    with pytest.raises(RunError, match="sampling=stretch"):
        DataConfig(timing="speed", sampling="uniform-decode")


def test_a_clip_of_unknown_rate_counts_as_of_the_usual_one() -> None:
    assert tempo.rates_of(np.array([30, np.nan, 30, 15])).tolist() == [30, 30, 30, 15]
    with pytest.raises(DataError, match="--fps"):
        tempo.rates_of(np.full(3, np.nan))


def test_joints_are_dropped_as_often_as_asked() -> None:
    from skag.skeleton import transforms

    x = torch.ones(400, 8, 1, 20, 3)
    draw = torch.rand(400, transforms.num_dropout_draws(8, LAYOUT), generator=torch.Generator().manual_seed(0))
    assert torch.equal(transforms.drop_joints(x, LAYOUT, 0.0, draw, 8), x)
    lost = ~transforms.drop_joints(x, LAYOUT, 0.5, draw, 8).any(-1)[:, :, 0]  # N T V
    changed = lost.flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(0.5, abs=0.08)
    limb = lost[changed].all(1).any(1)
    assert limb.float().mean() == pytest.approx(0.5, abs=0.1)
    assert 0.1 < lost[changed][~limb].float().mean() < 0.2
    twice = torch.cat([x, x], 1)
    assert torch.equal(*(~transforms.drop_joints(twice, LAYOUT, 1.0, draw, 8).any(-1)).chunk(2, 1))


def test_a_run_learns_with_dropped_joints(two_speeds: Path, tmp_path: Path) -> None:
    with SkeletonStore(two_speeds) as store:
        config, augment = DataConfig(num_frames=8, num_bodies=1, stream="jm"), AugmentConfig(joint_dropout=1.0)
        clips = data.prepare(store, np.arange(8), config, CPU)
        draw = torch.rand(8, data.num_draws(config, augment, LAYOUT), generator=torch.Generator().manual_seed(1))
        x = data.augmented(clips, torch.arange(8), config, augment, draw)
    whole = data.augmented(clips, torch.arange(8), config, AugmentConfig(), draw)
    assert x.shape == whole.shape and not torch.equal(x, whole)
    kept = x.any(-1)
    torch.testing.assert_close(x[kept], whole[kept])
