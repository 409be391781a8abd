"""Long recordings in which one action follows another: windows, and segments made of them.

Windows of one length are predicted one after another. A slot, as long as the stride between two windows, has the mean
probabilities of the windows over it, weighted by how near the middle of the window it lies. Viterbi's algorithm then
finds the sequence of classes with the highest sum of log probabilities, less a price for every change: a change has to
be worth as much as one window that is `CHANGE` e-foldings surer of the new class. Runs of one class are the segments.

A window is read from the recording when its turn comes, so memory holds the recording and one batch of windows.

Letters of this file: T frames, S slots, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..readers.archives import printable
from ..readers.source import Unusable
from ..skeleton.store import Clip
from .predict import Predictor
from .recordings import Failure, InputRecording, check_shape, cleaned, of_array

# Of 0, 0.25, 0.5, 1 and 2, on the recordings of the subject that a UTKinect run held out: windows of 15, 20, 30 and 40
# frames had 49 to 92 % of the labelled frames right, and 0.5 was at most 4 points below the best of each.
CHANGE = 0.5
LEAST = 1e-6  # of a slot's probability: no single window forbids a class


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording in which one action goes on."""

    start: int  # first frame
    stop: int  # the frame after the last
    label: str | None  # None: none of the classes, or nobody there
    probability: float | None  # mean over the segment, None where there is no class
    nobody: bool  # nobody was seen

    def to_dict(self, frame_rate: float | None) -> dict[str, Any]:
        """Plain values; start and end in seconds where the frames per second are known."""
        seconds = {"start": self.start / frame_rate, "end": self.stop / frame_rate} if frame_rate else {}
        return {
            **seconds,
            "first_frame": self.start,
            "last_frame": self.stop - 1,
            "label": self.label,
            "probability": self.probability,
            "nobody": self.nobody,
        }


@dataclass(frozen=True)
class Segmented:
    """A recording of a file with its segments."""

    path: Path
    name: str
    frames: int
    frame_rate: float | None
    num_windows: int
    segments: list[Segment]


@dataclass(frozen=True)
class Duration:
    """A time span in seconds, or in frames."""

    value: float
    unit: str  # "s" or "f"

    @classmethod
    def parse(cls, text: str) -> Duration:
        """`3s`, `0.5s` or `90f`. Raises `ValueError`."""
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([sf])", text.strip())
        if not match or not float(match[1]) or (match[2] == "f" and "." in match[1]):
            raise ValueError(f"{text!r} is no time span: write seconds such as 3s, or frames such as 90f")
        return cls(float(match[1]), match[2])

    def frames(self, frame_rate: float | None) -> int:
        """Whole frames, at least one. Raises `Unusable` for seconds where the frames per second are not known."""
        if self.unit == "f":
            return int(self.value)
        if frame_rate is None:
            raise Unusable("does not say its frames per second: give --fps, or time spans in frames such as 90f")
        return max(1, round(self.value * frame_rate))


def segment_recordings(
    predictor: Predictor,
    items: Iterable[InputRecording | Failure],
    window: Duration,
    stride: Duration | None = None,
    *,
    frame_rate: float | None = None,
    abstain: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Segmented | Failure]:
    """Segment recordings as they come (`recordings.each_recording`), see `segments`.

    `frame_rate` takes the place of what formats say; the stride is a sixth of the window where it is not given.
    Raises `RunError` as `Predictor.threshold` does.
    """
    predictor.threshold(abstain)  # before anything is read
    for item in items:
        if isinstance(item, Failure):
            yield item
            continue
        try:
            rate = frame_rate or item.frame_rate
            length = window.frames(rate)
            step = max(1, length // 6) if stride is None else stride.frames(rate)
            if step > length:
                raise Unusable(f"has a stride of {step} frames, longer than its window of {length}: take a shorter one")
            clip = predictor.in_time(item.clip, rate)
            found = segments(predictor, clip, length, step, abstain=abstain, progress=progress)
        except Unusable as unusable:
            yield Failure(item.path, printable(item.clip.name, 255), str(unusable))
            continue
        frames = item.clip.keypoints.shape[1]
        windows = len(window_starts(frames, length, step))
        yield Segmented(item.path, printable(item.clip.name, 255), frames, rate, windows, found)


def segments(
    predictor: Predictor,
    clip: Clip,
    length: int,
    stride: int,
    *,
    abstain: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Segment]:
    """The actions in a recording (not cleaned yet), from windows of `length` frames every `stride` frames.

    With `abstain` a segment is "none of these" if even the surest of the windows over it gives its class less than the
    threshold (`Calibration.threshold`), which is that of clips cut to one action, as the best placed window is. A
    recording shorter than a window is one window. `progress` is told of windows done and in all. Raises `RunError` as
    `Predictor.threshold` does, and `Unusable` for a recording that does not fit the run.
    """
    if not 1 <= stride <= length:
        raise ValueError(f"windows of {length} frames every {stride}: the stride must be 1 to {length}")
    threshold = predictor.threshold(abstain)
    check_shape(clip, predictor.layout)
    frames = clip.keypoints.shape[1]
    starts = window_starts(frames, length, stride)
    spread = Slots(frames, length, stride, len(predictor.classes))
    done = 0
    for batch in _batches(predictor, clip, starts, length):
        for start, probabilities in batch:
            spread.add(start, probabilities)
        done += len(batch)
        progress(done, len(starts))
    slots = spread.mean()
    path = most_likely_sequence(slots, length / stride)
    if threshold is not None:
        path = without_unsure(path, spread.surest, threshold)
    return _merged(predictor.classes, slots, path, stride, frames)


def segments_of_array(
    predictor: Predictor,
    keypoints: np.ndarray,
    confidence: np.ndarray | None,
    window: int,
    stride: int | None,
    *,
    abstain: float | None = None,
    frame_rate: float | None = None,
) -> list[Segment]:
    """The actions in a recording in memory, see `recogniser.TrainedRecogniser.segments`. Raises `DataError`,
    `RunError`."""
    clip = of_array(keypoints, confidence, predictor.layout)
    stride = max(1, window // 6) if stride is None else stride
    if not 1 <= stride <= window:
        raise DataError(f"windows of {window} frames every {stride}: the stride must be 1 to {window}.")
    try:
        return segments(predictor, predictor.in_time(clip, frame_rate), window, stride, abstain=abstain)
    except Unusable as unusable:
        raise DataError(f"{clip.name} {unusable}.") from None


def window_starts(frames: int, length: int, stride: int) -> list[int]:
    """First frames of the windows; the last window ends with the recording."""
    last = max(frames - length, 0)
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


def _batches(
    predictor: Predictor, clip: Clip, starts: list[int], length: int
) -> Iterator[list[tuple[int, np.ndarray | None]]]:
    """(start, calibrated probabilities `[K]`, None where nobody was seen) of windows, in batches."""
    for first in range(0, len(starts), predictor.batch_size):
        some = starts[first : first + predictor.batch_size]
        found: dict[int, np.ndarray | None] = dict.fromkeys(some)
        windows = {}
        for start in some:
            part = slice(start, start + length)
            confidence = None if clip.confidence is None else clip.confidence[:, part]
            window = replace(clip, keypoints=np.asarray(clip.keypoints[:, part]), confidence=confidence)
            with suppress(Unusable):  # nobody is in it
                windows[start] = cleaned(window, predictor.layout)
        if windows:
            clips = list(windows.values())
            uncalibrated = predictor.uncalibrated(predictor.prepare(clips), predictor.opinion(clips))
            found |= dict(zip(windows, predictor.calibrated(uncalibrated), strict=True))
        yield list(found.items())


class Slots:
    """Sums up what windows say of the slots they cover."""

    def __init__(self, frames: int, length: int, stride: int, num_classes: int) -> None:
        self._length, self._stride = length, stride
        count = -(-frames // stride)
        self._sum = np.zeros((count, num_classes), np.float32)
        self._weight = np.zeros(count, np.float32)
        self.surest = np.zeros((count, num_classes), np.float32)  # highest probability of any window over a slot

    def add(self, start: int, probabilities: np.ndarray | None) -> None:
        """Take in the probabilities `[K]` of the window that begins at frame `start`; None: nobody is there."""
        if probabilities is None:
            return
        first, last = start // self._stride, min((start + self._length - 1) // self._stride, len(self._weight) - 1)
        slots = np.arange(first, last + 1)
        away = np.abs((slots + 0.5) * self._stride - (start + self._length / 2))
        weight = np.maximum(1 - away / (self._length / 2 + self._stride), 1e-3).astype(np.float32)
        self._weight[slots] += weight
        self._sum[slots] += weight[:, None] * probabilities.astype(np.float32)
        self.surest[slots] = np.maximum(self.surest[slots], probabilities)

    def mean(self) -> np.ndarray:
        """Probabilities `[S, K]` of the slots; NaN where nobody was seen in any window over it."""
        with np.errstate(invalid="ignore"):
            return self._sum / self._weight[:, None]


def most_likely_sequence(slots: np.ndarray, windows_per_slot: float) -> np.ndarray:
    """What goes on in every slot `[S]`, given probabilities `[S, K]`: a class, or K + 1 for nobody (K is for `none of
    these`, see `without_unsure`). Evidence is counted once for every window over a slot, and so is the price of a
    change."""
    S, K = slots.shape
    nobody = np.isnan(slots[:, 0])
    scores = np.full((S, K + 2), -np.inf)
    scores[:, :K] = np.log(np.maximum(slots, LEAST))
    scores[nobody] = -np.inf
    scores[nobody, K + 1] = 0
    price = CHANGE * windows_per_slot
    back = np.empty((S, K + 2), np.int32)
    best, stay = scores[0], np.arange(K + 2)
    for s in range(1, S):
        from_other = int(best.argmax())
        changes = best[from_other] - price > best
        back[s] = np.where(changes, from_other, stay)
        best = np.where(changes, best[from_other] - price, best) + scores[s]
    path = np.empty(S, np.int64)
    path[-1] = best.argmax()
    for s in range(S - 1, 0, -1):
        path[s - 1] = back[s, path[s]]
    return path


def _stretches(path: np.ndarray) -> Iterator[tuple[int, int]]:
    """First slot, and the slot after the last, of every stretch of equal slots."""
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    yield from zip(edges, edges[1:], strict=False)


def without_unsure(path: np.ndarray, surest: np.ndarray, threshold: float) -> np.ndarray:
    """The sequence `[S]` with K in the place of every stretch of a class that no window over it gives the threshold;
    `surest` `[S, K]` are the highest probabilities of the windows over each slot."""
    K, kept = surest.shape[1], path.copy()
    for first, after in _stretches(path):
        if path[first] < K and surest[first:after, path[first]].max() < threshold:
            kept[first:after] = K
    return kept


def _merged(classes: tuple[str, ...], slots: np.ndarray, path: np.ndarray, stride: int, frames: int) -> list[Segment]:
    """Runs of equal slots as segments."""
    found = []
    for first, after in _stretches(path):
        k = int(path[first])
        known = k < len(classes)
        found.append(
            Segment(
                start=first * stride,
                stop=min(after * stride, frames),
                label=classes[k] if known else None,
                probability=float(slots[first:after, k].mean()) if known else None,
                nobody=k == len(classes) + 1,
            )
        )
    return found
