"""A live source, fed frame by frame, beside the same recording as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import skag
from skag.errors import DataError
from skag.inference import segmentation
from skag.inference.live import Live, LiveAnswer
from skag.inference.recordings import of_array

from .helpers.runs import opened
from .helpers.tiny import clip

LENGTH, STRIDE = 20, 4


@pytest.fixture(scope="module")
def long() -> np.ndarray:
    """A hand raised, then a walk, then nobody for a while: `[90, 20, 3]`."""
    return np.concatenate([clip(2, 3, 30), clip(3, 5, 30), np.zeros((1, 30, 20, 3), np.float32)], 1)[0]


def fed(live: Live, frames: np.ndarray) -> list[LiveAnswer]:
    return [answer for frame in frames if (answer := live.push(frame)) is not None]


def test_windows_are_those_of_the_whole_recording(run_folder: Path, long: np.ndarray) -> None:
    answers = fed(skag.load(run_folder).stream(10, window=2, stride=0.4), long)
    predictor = opened(run_folder)
    starts = list(range(0, 71, STRIDE))
    whole = of_array(long, None, predictor.layout)
    batches = segmentation._batches(predictor, whole, starts, LENGTH)
    wanted = {start: probabilities for batch in batches for start, probabilities in batch}
    assert [(one.start, one.stop) for one in answers] == [(start, start + LENGTH) for start in starts]
    assert [one.seconds for one in answers] == pytest.approx([(start + LENGTH) / 10 for start in starts])
    for answer in answers:
        assert answer.nobody == (wanted[answer.start] is None) == (answer.window is None)
        if answer.window is not None:
            np.testing.assert_allclose(answer.window.probabilities, wanted[answer.start], atol=1e-4)


def test_answers_agree_with_the_segments_of_the_command(run_folder: Path, long: np.ndarray) -> None:
    """At the end of every window, but for those around a change, which a look ahead places better."""
    recogniser = skag.load(run_folder)
    answers = fed(recogniser.stream(10, window=2, stride=0.4), long)
    segments = recogniser.segments(long, window=LENGTH, stride=STRIDE)
    changes = [segment.start for segment in segments[1:]]
    compared = 0
    for answer in answers:
        middle = (answer.start + answer.stop) // 2
        if any(answer.start - LENGTH // 2 < change < answer.stop for change in changes):
            continue
        (segment,) = [one for one in segments if one.start <= middle < one.stop]
        compared += 1
        assert answer.label == segment.label
    assert compared >= 3 and answers[-1].nobody


def test_one_window_of_another_class_is_no_change(run_folder: Path) -> None:
    live = skag.load(run_folder).stream(10, window=2, stride=0.4)
    one, other = np.array([0.7, 0.1, 0.1, 0.1]), np.array([0.2, 0.6, 0.1, 0.1])
    assert [live._going_on(each) for each in (one, one, other, one)] == [0, 0, 0, 0]
    assert [live._going_on(each) for each in [other] * 6][-1] == 1, "what lasts is"


def test_memory_holds_one_window_however_long_it_goes_on(run_folder: Path, long: np.ndarray) -> None:
    live = skag.load(run_folder).stream(10, window=2, stride=2)
    fed(live, np.concatenate([long] * 10))
    assert len(live._frames) == LENGTH and live._scores is None


def test_bodies_may_come_and_go(run_folder: Path, long: np.ndarray) -> None:
    live = skag.load(run_folder).stream(10, window=1, stride=1)
    answers = [live.push(long[n] if n % 2 else np.stack([long[n], long[n] + 1])) for n in range(20)]
    assert [answer is not None for answer in answers].count(True) == 2


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (np.zeros(3), r"the frame has the shape \(3,\): give numbers \[V, C\]"),
        (np.zeros((19, 3)), "the frame has the shape"),
        (np.array([["a"]]), "give numbers"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_and_not_counted(frame: np.ndarray, says: str, run_folder: Path) -> None:
    live = skag.load(run_folder).stream(10)
    with pytest.raises(DataError, match=says):
        live.push(frame)
    assert live._count == 0
    with pytest.raises(DataError, match="give numbers above 0"):
        skag.load(run_folder).stream(0)
    with pytest.raises(DataError, match="the stride must be 1 to 20"):
        skag.load(run_folder).stream(10, window=2, stride=3)
