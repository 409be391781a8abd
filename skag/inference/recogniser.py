"""A run for use from Python: arrays in, answers out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..config import Config
from ..errors import DataError
from ..skeleton.layouts import Layout
from .live import Live
from .loaded import Run, load_run
from .predict import Prediction, Predictor, of_runs, predict_array
from .segmentation import Segment, segments_of_array


def load(folder: Path, device: torch.device) -> TrainedRecogniser:
    """A run folder for use. Raises `RunError`."""
    return TrainedRecogniser(load_run(folder, device))


@dataclass(frozen=True)
class TrainedRecogniser:
    """What `skag.load` gives."""

    run: Run

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.run.model

    @property
    def classes(self) -> list[str]:
        return self.run.classes

    @property
    def layout(self) -> Layout:
        return self.run.layout

    @property
    def config(self) -> Config:
        return self.run.config

    def predict(
        self,
        keypoints: np.ndarray,
        confidence: np.ndarray | None = None,
        *,
        abstain: float | None = None,
        evidence: bool = True,
        every_joint: bool = False,
        fps: float | None = None,
    ) -> Prediction:
        """What a recording shows: `keypoints` `[T, V, C]` or `[M, T, V, C]` in the layout's order of joints and the
        unit of the training data, 0 or NaN where a joint was not seen; `confidence` the same without C.

        `abstain` is a share of recordings of known classes that may be answered with "none of these" (label None);
        without `evidence` the joints that carried the decision are not measured, about three times as fast; with
        `every_joint` each of them is measured alone. The first call calibrates the run, where that has not been done
        (see `skag.inference.calibration`). A run with `data.timing` needs the frames per second, `fps`. Raises
        `DataError` for an array that does not fit, `RunError` where there is nothing to fit a threshold on.
        """
        return predict_array(
            self._predictor,
            keypoints,
            confidence,
            abstain=abstain,
            evidence=evidence,
            every_joint=every_joint,
            frame_rate=fps,
        )

    def segments(
        self,
        keypoints: np.ndarray,
        confidence: np.ndarray | None = None,
        *,
        window: int,
        stride: int | None = None,
        abstain: float | None = None,
        fps: float | None = None,
    ) -> list[Segment]:
        """The actions that follow one another in a long recording, found in windows of `window` frames every `stride`
        (by default a sixth of the window); otherwise as `predict`. A memory-mapped array is read window by window."""
        return segments_of_array(
            self._predictor, keypoints, confidence, window, stride, abstain=abstain, frame_rate=fps
        )

    def stream(
        self, fps: float, *, window: float = 2.0, stride: float | None = None, abstain: float | None = None
    ) -> Live:
        """A live source of `fps` frames a second: `push` every frame, and an answer comes back every `stride` seconds
        (by default a sixth of the window), about the last `window` seconds; otherwise as `segments`. Memory stays that
        of one window. Raises `DataError` for times that make no frames."""
        if not fps > 0 or not window > 0 or (stride is not None and not stride > 0):
            raise DataError(f"fps {fps:g}, window {window:g} and stride {stride}: give numbers above 0.")
        length = max(1, round(window * fps))
        step = max(1, length // 6) if stride is None else max(1, round(stride * fps))
        return Live(self._predictor, fps, length, step, abstain)

    @cached_property
    def _predictor(self) -> Predictor:
        return of_runs([self.run], None, next(self.run.model.parameters()).device)
