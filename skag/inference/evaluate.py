"""Evaluate runs on a split, each and fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .. import metrics, runs
from ..plural import counted
from . import discriminant
from .fusion import Fusion, fuse_streams, stream_weight
from .loaded import check_same_clips, choose_split, held_out_clips, open_run, split_clips, unknown_classes
from .scores import predict_clips, save_predictions


@dataclass(frozen=True)
class Kinematics:
    """How well a discriminant of measured motion does, and all runs together with it."""

    alone: metrics.Accuracy
    together: metrics.Accuracy


@dataclass(frozen=True)
class Evaluation:
    """Several runs on one split, each and fused."""

    folders: tuple[Path, ...]
    streams: tuple[str, ...]
    selected_on: tuple[str, ...]  # the clips that chose each run's epoch: "validation", or "test" (the published way)
    accuracies: tuple[metrics.Accuracy, ...]
    fusions: tuple[Fusion, ...]  # the last is of all runs; none of a single run
    fitted_on: int | None  # held-out clips that weights were fitted on, None for published weights
    split: str
    num_clips: int
    num_views: int
    kinematics: Kinematics | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, in percent; accuracies at the top are of all runs together."""
        weights, total = {0: stream_weight(self.streams[0])}, self.accuracies[0]
        if self.fusions:
            weights = dict(zip(self.fusions[-1].members, self.fusions[-1].weights, strict=True))
            total = self.fusions[-1].accuracy
        return {
            "runs": [
                {
                    "run": str(folder),
                    "stream": self.streams[i],
                    "selected_on": self.selected_on[i],
                    "weight": weights[i],
                    **vars(self.accuracies[i]),
                }
                for i, folder in enumerate(self.folders)
            ],
            "fusions": [
                {
                    "name": fusion.name,
                    "streams": [self.streams[i] for i in fusion.members],
                    "runs": [str(self.folders[i]) for i in fusion.members],
                    "weights": list(fusion.weights),
                    **vars(fusion.accuracy),
                }
                for fusion in self.fusions
            ],
            "weights": "published" if self.fitted_on is None else "fitted",
            "fitted_on": self.fitted_on,
            "split": self.split,
            "clips": self.num_clips,
            **vars(total),
            "num_clips_per_sample": self.num_views,
            "kinematics": None if self.kinematics is None else asdict(self.kinematics),
        }


def evaluate_runs(
    folders: Sequence[Path],
    *,
    split: str | None = None,
    store: Path | None = None,
    fit_weights: bool = False,
    kinematics: bool = False,
    num_views: int | None = None,
    batch_size: int = 64,
    device: torch.device,
    note: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Predict a split with every run, save the predictions in the run folders, and fuse them (see `fuse_streams`).

    With `fit_weights` the runs also predict the clips that all of them held out from training; with `kinematics` the
    first run's `discriminant` is asked too. `store` takes the place of the runs' own, `num_views` that of their recipes
    (the most of them); `note` is told of progress. Before anything is predicted, raises `RunError` or `DataError` for
    runs and stores that cannot be used or do not fit each other.
    """
    fitted_on = held_out = None
    predictions = []
    with ExitStack() as stack:
        opened = [open_run(folder, store, device, stack, note) for folder in folders]
        for found in map(runs.summarise, folders):
            if found.state in ("running", "interrupted"):
                note(f"Note: {found.run} has trained {found.epochs} of {found.planned} epochs ({found.state}).")
        num_views = num_views or max(run.config.data.test_views for run, _ in opened)
        tested = [split_clips(run, of, choose_split(run, of, split)) for run, of in opened]
        check_same_clips(folders, tested)
        if left_out := unknown_classes(opened[0][1], tested[0]):
            note(left_out)
        if fit_weights:
            kept = [held_out_clips(run, of) for run, of in opened]
            check_same_clips(folders, kept)
            fitted_on = len(kept[0].names)
            note(f"Fitting weights on {counted(fitted_on, 'clip')} held out from training.")
            held_out = [
                predict_clips(run, of, clips, device, batch_size, num_views)
                for (run, of), clips in zip(opened, kept, strict=True)
            ]
        for (run, of), clips in zip(opened, tested, strict=True):
            note(f"Predicting {clips.split} with {run.folder} on {device}.")
            predictions.append(predict_clips(run, of, clips, device, batch_size, num_views))
            try:
                save_predictions(run.folder, predictions[-1])
            except OSError as error:
                note(f"Note: the predictions are not kept in {run.folder} ({error.strerror}).")
        opinion = None
        if kinematics:
            note("Measuring how joints move.")
            (_, of), clips = opened[0], tested[0]
            opinion = discriminant.of_run(folders[0], of).probabilities(of, clips.numbers, of.layout)
    streams = tuple(run.config.data.stream for run, _ in opened)
    labels, fusions = tested[0].labels, fuse_streams(streams, predictions, held_out)
    measured = None
    if opinion is not None:
        together = predictions[0].probabilities
        if fusions:
            last = fusions[-1]
            together = metrics.fuse([predictions[i].probabilities for i in last.members], last.weights)
        together = discriminant.multiply(together, opinion)
        measured = Kinematics(metrics.accuracy(labels, opinion), metrics.accuracy(labels, together))
    return Evaluation(
        folders=tuple(folders),
        streams=streams,
        selected_on=tuple(run.config.train.select_on for run, _ in opened),
        accuracies=tuple(metrics.accuracy(found.labels, found.probabilities) for found in predictions),
        fusions=tuple(fusions),
        fitted_on=fitted_on,
        split=tested[0].split,
        num_clips=len(tested[0].names),
        num_views=num_views,
        kinematics=measured,
    )
