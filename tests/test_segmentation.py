"""Long recordings: windows that cover them, classes smoothed over time, segments where one action follows another."""

from __future__ import annotations

import dataclasses
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skag
from skag.errors import DataError
from skag.inference import segmentation
from skag.inference.segmentation import Duration, most_likely_sequence
from skag.readers.source import Unusable

from .helpers.commands import failure, invoke
from .helpers.runs import opened
from .helpers.tiny import clip


def joined() -> np.ndarray:
    """A hand raised, then a walk, then nobody for a while: `[1, 90, 20, 3]`."""
    return np.concatenate([clip(2, 3, 30), clip(3, 5, 30), np.zeros((1, 30, 20, 3), np.float32)], 1)


@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 60))
def test_windows_cover_every_frame_and_stay_inside(frames: int, length: int, stride: int) -> None:
    stride = min(stride, length)
    starts = segmentation.window_starts(frames, length, stride)
    assert starts == sorted(set(starts))
    covered = np.zeros(frames, bool)
    for start in starts:
        assert start + length <= frames or start == 0
        covered[start : start + length] = True
    assert covered.all()


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6))
def test_slots_hold_probabilities_between_those_of_their_windows(
    frames: int, length: int, stride: int, seed: int
) -> None:
    stride = min(stride, length)
    rng = np.random.default_rng(seed)
    slots = segmentation.Slots(frames, length, stride, 3)
    given = [(start, rng.dirichlet(np.ones(3))) for start in segmentation.window_starts(frames, length, stride)]
    for start, probabilities in given:
        slots.add(start, probabilities)
    found = slots.mean()
    assert found.shape == (-(-frames // stride), 3)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-4)
    low, high = np.min([p for _, p in given], 0), np.max([p for _, p in given], 0)
    assert (found >= low - 1e-4).all() and (found <= high + 1e-4).all()


def score(slots: np.ndarray, sequence: np.ndarray, windows: float) -> float:
    evidence = np.log(np.maximum(slots, 1e-6))[np.arange(len(slots)), sequence].sum()
    return float(evidence - segmentation.CHANGE * windows * (np.diff(sequence) != 0).sum())


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(1, 6))
def test_the_sequence_is_the_best_of_all(seed: int, count: int, windows: float) -> None:
    slots = np.random.default_rng(seed).dirichlet(np.full(3, 0.5), count)
    every = (score(slots, np.array(sequence), windows) for sequence in product(range(3), repeat=count))
    assert score(slots, most_likely_sequence(slots, windows), windows) == pytest.approx(max(every))


def test_a_blink_is_smoothed_away_and_a_change_that_lasts_is_not() -> None:
    sure = np.array([[0.9, 0.1], [0.1, 0.9]])
    assert most_likely_sequence(sure[[0] * 10 + [1] + [0] * 10], 6).tolist() == [0] * 21
    assert most_likely_sequence(sure[[0] * 10 + [1] * 10], 6).tolist() == [0] * 10 + [1] * 10


def test_empty_slots_are_nobody() -> None:
    slots = np.array([[0.9, 0.1]] * 8 + [[np.nan, np.nan]] * 3 + [[0.1, 0.9]] * 8)
    assert most_likely_sequence(slots, 1).tolist() == [0] * 8 + [3] * 3 + [1] * 8


def test_a_stretch_is_none_of_these_if_no_window_over_it_is_sure_enough() -> None:
    path = np.array([0, 0, 1, 1, 3, 0, 0])
    surest = np.array([[0.6, 0.9], [0.9, 0.1], [0.9, 0.7], [0.9, 0.6], [0, 0], [0.7, 0.9], [0.7, 0.9]])
    assert segmentation.without_unsure(path, surest, 0.8).tolist() == [0, 0, 2, 2, 3, 2, 2]
    assert segmentation.without_unsure(path, surest, 0.5).tolist() == path.tolist()


def test_the_surest_window_over_a_slot_is_known() -> None:
    slots = segmentation.Slots(30, 20, 10, 2)
    slots.add(0, np.array([0.8, 0.2]))
    slots.add(10, np.array([0.3, 0.7]))
    np.testing.assert_allclose(slots.surest, [[0.8, 0.2], [0.8, 0.7], [0.3, 0.7]])


def test_with_a_rate_segments_can_be_none_of_these(run_folder: Path) -> None:
    predictor = opened(run_folder)
    never_sure = dataclasses.replace(predictor.calibration, confidences=(1.0,))
    strict = dataclasses.replace(predictor, calibration=never_sure)
    noise = np.random.default_rng(0).normal(0, 0.3, (40, 20, 3))
    known = segmentation.segments_of_array(strict, noise, None, 20, 4)
    refused = segmentation.segments_of_array(strict, noise, None, 20, 4, abstain=0)
    assert None not in [one.label for one in known]
    assert [(one.start, one.stop, one.label, one.probability, one.nobody) for one in refused] == [
        (0, 40, None, None, False)
    ]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_actions_that_follow_one_another_are_found(batch_size: int, run_folder: Path) -> None:
    predictor = dataclasses.replace(opened(run_folder), batch_size=batch_size)
    found = segmentation.segments_of_array(predictor, joined(), None, 20, 4)
    assert found[0].start == 0 and found[-1].stop == 90
    assert all(one.stop == other.start for one, other in zip(found, found[1:], strict=False))
    longest = sorted(sorted(found, key=lambda one: one.start - one.stop)[:3], key=lambda one: one.start)
    assert [one.label for one in longest[:2]] == ["raise left hand", "step"]
    assert 20 <= longest[1].start <= 40
    assert (found[-1].nobody, found[-1].label, found[-1].probability) == (True, None, None)
    assert all(0 < one.probability <= 1 for one in found[:-1])


def test_python_and_the_command_find_the_same(run_folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "long.npy", joined())
    mapped = np.load(tmp_path / "long.npy", mmap_mode="r")
    found = skag.load(run_folder).segments(mapped, window=20, stride=4)
    command = ["predict", run_folder, tmp_path / "long.npy", "--json", "-q"]
    lines = [
        json.loads(invoke(*command, "--window", window, "--stride", stride, *more))
        for window, stride, more in (("20f", "4f", ()), ("2s", "0.4s", ("--fps", 10)))
    ]
    frames, seconds = (line["segments"] for line in lines)
    assert [(one["first_frame"], one["last_frame"], one["label"]) for one in frames] == [
        (one.start, one.stop - 1, one.label) for one in found
    ]
    assert lines[1]["fps"] == 10 and [one["start"] for one in seconds] == [one.start / 10 for one in found]
    assert "start" not in frames[0] and lines[0]["windows"] == 19
    table = invoke("predict", run_folder, tmp_path / "long.npy", "--window", "20f", "--stride", "4f")
    assert "from frame" in table and "raise left hand" in table and "nobody" in table


def test_a_short_recording_is_one_window(run_folder: Path) -> None:
    (found,) = skag.load(run_folder).segments(clip(0), window=100)
    whole = skag.load(run_folder).predict(clip(0), evidence=False)
    assert (found.start, found.stop, found.label) == (0, 14, whole.label)
    assert found.probability == pytest.approx(whole.probability, abs=1e-4)


def test_what_cannot_be_cut_is_told_in_a_line(
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    np.save(tmp_path / "long.npy", joined())
    for options, words in (
        (["--window", "2s"], "give --fps"),
        (["--window", "10f", "--stride", "20f"], "a stride of 20 frames"),
    ):
        code, line = failure(monkeypatch, capsys, "predict", run_folder, tmp_path / "long.npy", *options)
        assert code == 1 and words in line
    run = skag.load(run_folder)
    with pytest.raises(DataError, match="stride"):
        run.segments(joined(), window=10, stride=11)
    with pytest.raises(DataError, match="shape"):
        run.segments(joined()[..., :7, :], window=10)


@pytest.mark.parametrize(
    ("text", "wanted"), [("3s", Duration(3, "s")), ("0.5 s", Duration(0.5, "s")), ("90f", Duration(90, "f"))]
)
def test_time_spans(text: str, wanted: Duration) -> None:
    assert Duration.parse(text) == wanted
    assert Duration.parse("0.01s").frames(30) == 1 and Duration.parse("1.5s").frames(30) == 45
    with pytest.raises(Unusable, match="--fps"):
        Duration.parse("1s").frames(None)


@pytest.mark.parametrize("text", ["", "3", "s", "-1s", "0f", "1.5f", "3m", "1e3s", "3s3s", "٣s"])
def test_what_is_no_time_span(text: str) -> None:
    with pytest.raises(ValueError, match="no time span"):
        Duration.parse(text)
