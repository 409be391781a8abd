"""Time stamps become a rate, and uneven frames an even time apart stand where the motion was at that moment."""

from __future__ import annotations

import numpy as np
import pytest

from skag.skeleton.store import Clip
from skag.skeleton.timing import even, is_even, rate_of


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


def test_a_rate_without_stamps_stays() -> None:
    clip, done = even(Clip("a", 0, np.ones((1, 3, 2, 2), np.float32), frame_rate=25.0))
    assert (clip.frame_rate, done) == (25.0, "")


def test_evenness() -> None:
    assert is_even(np.arange(10.0)) and not is_even(np.array([0, 1, 2, 3, 5, 6, 7, 8.0]))
    assert rate_of(np.array([0, 1, 2, 3, 5, 6, 7, 8.0])) == 1.0
