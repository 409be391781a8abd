"""A live source: frames in one after another, an answer whenever a window of them is full.

The windows are those of `segmentation`, whose smoothing is done here without a look ahead: Viterbi's forward scores,
with the same price of a change. Memory holds one window of frames and one score a class, however long it goes on.

Letters of this file: M bodies, V joints, C coordinates, K classes.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DataError
from ..readers.source import Unusable
from ..skeleton.store import Clip
from .predict import Prediction, Predictor
from .recordings import check_shape, cleaned, of_array
from .segmentation import CHANGE, LEAST


@dataclass(frozen=True)
class LiveAnswer:
    """What goes on at the end of a window."""

    start: int  # first frame of the window, from 0
    stop: int  # the frame after its last
    seconds: float  # of the source, at its end
    label: str | None  # what goes on, windows before this one counted; None: none of the classes, or nobody there
    probability: float | None  # of `label` in this window alone, calibrated
    nobody: bool  # nobody was seen in the window
    window: Prediction | None  # what this window alone is taken for; None where nobody was seen


class Live:
    """What `TrainedRecogniser.stream` gives: `push` every frame."""

    def __init__(self, predictor: Predictor, fps: float, length: int, stride: int, abstain: float | None) -> None:
        if not 1 <= stride <= length:
            raise DataError(f"windows of {length} frames every {stride}: the stride must be 1 to {length}.")
        self._predictor, self._abstain = predictor, abstain
        self._threshold = predictor.threshold(abstain)
        self.fps, self.length, self.stride = fps, length, stride
        self._frames: deque[Clip] = deque(maxlen=length)
        self._count = 0
        self._scores: np.ndarray | None = None  # [K] of the likeliest sequence of windows that ends in each class
        self._class = -1  # that goes on
        self._surest = 0.0  # highest probability that a window gave it since it began

    def push(self, keypoints: np.ndarray, confidence: np.ndarray | None = None) -> LiveAnswer | None:
        """Take in one frame, `[V, C]` or `[M, V, C]` as `TrainedRecogniser.predict` takes recordings (a person keeps
        their place among the M), `confidence` without C. An answer where a window ends with it, else None; the first
        ends after `length` frames, the next ones `stride` frames apart.

        Raises `DataError` for a frame that does not fit; it is not counted.
        """
        keypoints = np.asarray(keypoints)
        if keypoints.ndim not in (2, 3):
            raise DataError(f"the frame has the shape {keypoints.shape}: give numbers [V, C] or [M, V, C].")
        frame = of_array(
            np.expand_dims(keypoints, -3), None if confidence is None else np.expand_dims(confidence, -2),
            self._predictor.layout,
        )  # fmt: skip
        try:
            check_shape(frame, self._predictor.layout)
        except Unusable as unusable:
            raise DataError(f"the frame {unusable}.") from None
        if self._frames and (frame.confidence is None) != (self._frames[-1].confidence is None):
            raise DataError("some frames have a confidence and others have none: give it always, or never.")
        self._frames.append(frame)
        self._count += 1
        if self._count < self.length or (self._count - self.length) % self.stride:
            return None
        return self._answer()

    def _answer(self) -> LiveAnswer:
        found = None
        with suppress(Unusable):  # nobody is in it
            clip = cleaned(self._window(), self._predictor.layout)
            found = next(self._predictor.predict([clip], abstain=self._abstain, evidence=False))
        start, seconds = self._count - self.length, self._count / self.fps
        if found is None:
            self._forget()
            return LiveAnswer(start, self._count, seconds, None, None, True, None)
        k = self._going_on(found.probabilities)
        sure = self._threshold is None or self._surest >= self._threshold
        probability = float(found.probabilities[k]) if sure else None
        label = found.classes[k] if sure else None
        return LiveAnswer(start, self._count, seconds, label, probability, False, found)

    def _window(self) -> Clip:
        """The frames at hand as a recording; bodies that a frame lacks are missing in it."""
        bodies = max(len(frame.keypoints) for frame in self._frames)
        keypoints = np.concatenate([_filled(frame.keypoints, bodies) for frame in self._frames], axis=1)
        given = [frame.confidence for frame in self._frames if frame.confidence is not None]
        confidence = np.concatenate([_filled(one, bodies) for one in given], axis=1) if given else None
        return replace(self._frames[-1], keypoints=keypoints, confidence=confidence, frame_rate=self.fps)

    def _going_on(self, probabilities: np.ndarray) -> int:
        """The class in which the likeliest sequence of windows up to now ends."""
        scores = np.log(np.maximum(probabilities, LEAST))
        if self._scores is not None:
            price = CHANGE * self.length / self.stride
            scores = scores + np.maximum(self._scores, self._scores.max() - price)
        self._scores = scores - scores.max()
        k = int(self._scores.argmax())
        self._surest = max(float(probabilities[k]), self._surest if k == self._class else 0.0)
        self._class = k
        return k

    def _forget(self) -> None:
        """Begin anew: what was seen before an empty window says nothing of what comes after it."""
        self._scores, self._class, self._surest = None, -1, 0.0


def _filled(frame: np.ndarray, bodies: int) -> np.ndarray:
    """An array `[M, 1, ...]` with as many bodies as are wanted, those that it lacks at 0."""
    more = np.zeros((bodies - len(frame), *frame.shape[1:]), frame.dtype)
    return np.concatenate([frame, more]) if len(more) else frame
