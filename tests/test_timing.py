"""Time stamps become a rate, and uneven frames an even time apart stand where the motion was at that moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skag.convert import convert
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore
from skag.skeleton.timing import even, in_seconds, is_even, rate_of
from tests.helpers.recordings import case, real

JOINTS = load_layout("sbu-15").joints


def walk(times: np.ndarray, **facts: object) -> Clip:
    """A body of two joints that goes along x with a metre a second, so that x is the time."""
    places = np.stack([np.stack([times + joint, np.ones_like(times)], -1) for joint in (1, 2)], axis=1)
    return Clip("walk", 0, places[None].astype(np.float32), times=times, **facts)


@pytest.mark.parametrize("rate", [12.5, 15, 29.97, 30, 120])
def test_even_stamps_give_their_rate_and_leave_the_frames(rate: float) -> None:
    times = 5 + np.arange(40) / rate + np.random.default_rng(0).normal(scale=0.05 / rate, size=40)
    clip, done = even(walk(times))
    assert done == "" and clip.times is None
    assert clip.frame_rate == pytest.approx(rate, rel=0.01)
    assert np.array_equal(clip.keypoints, walk(times).keypoints)


def test_frames_that_were_left_out_are_filled_in_at_their_time() -> None:
    times = np.delete(np.arange(40) / 20, [5, 6, 17, 30])
    clip, done = even(walk(times))
    assert (done, clip.frame_rate) == ("moved", 20)
    assert clip.keypoints.shape[1] == 40
    assert np.allclose(clip.keypoints[0, :, 0, 0], 1 + np.arange(40) / 20, atol=1e-5)


def test_a_joint_that_is_missing_before_and_after_stays_missing() -> None:
    times = np.delete(np.arange(40) / 20, [5, 6, 17, 30])
    clip = walk(times, confidence=np.ones((1, 36, 2), np.float32))
    clip.keypoints[0, 4:6, 1] = 0  # around the first gap
    clip.keypoints[0, 15, 0] = 0  # frame 18, after the second
    moved, _ = even(clip)
    assert np.array_equal(moved.keypoints[0, :, 1].any(-1), ~np.isin(np.arange(40), [4, 5, 6, 7]))
    assert not moved.keypoints[0, 18, 0].any()  # frame 17 was left out, and stands where frame 16 is or is missing
    assert moved.confidence.shape == (1, 40, 2)


def test_a_long_gap_is_missing_and_not_a_slow_glide() -> None:
    times = np.concatenate([np.arange(20), np.arange(60, 80)]) / 20
    moved, _ = even(walk(times))
    assert moved.keypoints.shape[1] == 80
    seen = moved.keypoints.any(axis=(0, 2, 3))
    assert seen[:20].all() and not seen[20:60].any() and seen[60:].all()


@pytest.mark.parametrize(
    "times",
    [
        [0, 1, 1, 2],
        [3, 2, 1, 0],
        [0, 1, np.nan, 2],
        [0, 1e-9, 2e-9, 3e-9],
        [0, 100, 200, 300],
        [0, 0.1, 0.2, 9e9],
        [0, 1],
    ],
    ids=["twice", "backwards", "nan", "too fast", "too slow", "a jump", "too few"],
)
def test_stamps_that_cannot_be_right_are_left_out(times: list[float]) -> None:
    clip, done = even(walk(np.arange(4.0)) if len(times) == 4 else walk(np.arange(4.0)))
    assert clip.frame_rate == 1 and done == ""
    wrong = walk(np.arange(4.0))
    wrong = Clip("wrong", 0, wrong.keypoints, times=np.array(times, float))
    clip, done = even(wrong)
    assert (clip.frame_rate, clip.times, done) == (None, None, "unusable")
    assert np.array_equal(clip.keypoints, wrong.keypoints)


def test_frames_are_brought_to_a_rate_that_the_clip_has_already() -> None:
    times = np.arange(41) / 20
    clip, done = even(walk(times, frame_rate=10.0))
    assert (done, clip.frame_rate) == ("moved", 10)
    assert np.allclose(clip.keypoints[0, :, 0, 0], 1 + np.arange(21) / 10, atol=1e-5)


def test_a_rate_without_stamps_stays() -> None:
    clip, done = even(Clip("a", 0, np.ones((1, 3, 2, 2), np.float32), frame_rate=25.0))
    assert (clip.frame_rate, done) == (25.0, "")


@pytest.mark.parametrize("unit", [1, 1e3, 1e6, 1e9])
def test_the_unit_of_stamps_is_found(unit: float) -> None:
    stamps = 38597212.0 * unit + np.arange(20) * unit / 30
    assert rate_of(in_seconds(stamps)) == pytest.approx(30, rel=1e-3)
    assert rate_of(in_seconds(stamps, 1e3)) == (pytest.approx(30 * 1e3 / unit, rel=1e-3) if unit in (1e3,) else None)


def table(path: Path, stamps: np.ndarray, column: str) -> Path:
    header = ",".join([column, *(f"{joint}_{axis}".replace(" ", "_") for joint in JOINTS for axis in "xyz")])
    rows = [[stamp, *(n + stamp / 1000 for n in range(45))] for stamp in stamps]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join(f"{number:.4f}" for number in row) for row in rows)]))
    return path


def test_time_stamps_of_a_table_become_the_clips_rate(tmp_path: Path) -> None:
    even_stamps = 5e6 + np.arange(30) * 40.0
    table(tmp_path / "in" / "walk" / "a.csv", even_stamps, "Timestamp")
    table(tmp_path / "in" / "walk" / "b.csv", np.delete(even_stamps, [7, 8, 20]), "timestamp_ms")
    table(tmp_path / "in" / "run" / "c.csv", even_stamps, "unrelated")
    report = convert(tmp_path / "in", tmp_path / "data.h5", layout="sbu-15", fps=50)
    assert "The frames of 1 recording lie at uneven times; they are now an even time apart." in report.notes
    assert "Frame rates differ: 25 Hz (2) and 50 Hz (1)." in report.notes
    assert "--fps 50 is for recordings that say no rate: 2 recordings have their own, 25 Hz (2)." in report.notes
    with SkeletonStore(tmp_path / "data.h5") as store:
        rates = dict(zip(store.names, map(store.frame_rate, range(3)), strict=True))
        assert sorted(rates.values()) == [25, 25, 50]
        one, other = (next(n for n, name in enumerate(store.names) if name.endswith(f"walk/{a}")) for a in "ab")
        assert store.frames.tolist() == [30, 30, 30]
        assert np.allclose(store.keypoints(one), store.keypoints(other), atol=1e-3)


def test_kinder_gator_and_utkinect_know_their_rates(tmp_path: Path) -> None:
    convert(case("kinder_gator_two_labels"), tmp_path / "gator.h5")
    with SkeletonStore(tmp_path / "gator.h5") as store:
        assert store.frame_rates == pytest.approx(30, rel=0.03)
    report = convert(real("utkinect-raw.tar.gz"), tmp_path / "ut.h5")
    assert any("uneven times" in note for note in report.notes)
    with SkeletonStore(tmp_path / "ut.h5") as store:
        assert len(store) == 199 and not np.isnan(store.frame_rates).any()
        assert set(store.frame_rates.tolist()) == {15.0} and 5500 < store.frames.sum() < 6500


def test_evenness() -> None:
    assert is_even(np.arange(10.0)) and not is_even(np.array([0, 1, 2, 3, 5, 6, 7, 8.0]))
    assert rate_of(np.array([0, 1, 2, 3, 5, 6, 7, 8.0])) == 1.0
