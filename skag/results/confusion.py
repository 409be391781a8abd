"""`skag analyze-confusion` as one function: what a run confuses, why, and what its dialogue changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import metrics, runs
from ..errors import RunError
from ..inference.loaded import Run, choose_split, open_run
from ..inference.scores import Predictions, load_predictions, predict_split, save_predictions
from ..methods import method
from ..methods.base import Findings
from ..skeleton.class_choice import as_trained
from ..skeleton.store import SkeletonStore
from . import analysis, figures, report

FIGURES, ANALYSIS = "figures", "analysis.json"  # in the run folder


def analyze_confusion(
    folder: Path,
    *,
    reference: Path | None = None,
    split: str | None = None,
    data: Path | None = None,
    device: torch.device,
    seed: int = 0,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Analyse the predictions of a run, write RUN/analysis.json, RUN/figures/*.png and RUN/report.html, and return the
    document.

    `reference` is a run on the same clips to compare with, `split` and `data` as in `evaluate.evaluate_runs`; `note`
    is told of progress. Predictions that `skag eval` saved are taken, else made. The document is `analysis.analyse`'s;
    `remarks` says where clips were not new to a run, and `missing` what could not be shown and why. Raises `RunError`,
    `DataError`.
    """
    with ExitStack() as stack:
        found = _collect(stack, folder, reference, split, data, device, note)
        document = _document(found)
        note("Drawing.")
        document["figures"] = {name: str(path) for name, path in _draw(found, document, seed).items()}
        page = report.report_data(found.run, found.store, found.predictions, document, found.of_method)
        document["report"] = str(report.write_report(folder, page))
    runs.write_json(folder / ANALYSIS, document)
    return document


@dataclass(frozen=True)
class _Found:
    """Everything that is analysed and drawn."""

    run: Run
    store: SkeletonStore
    predictions: Predictions
    reference: Path | None
    before: np.ndarray | None  # [n] what the reference predicts
    remarks: list[str]

    @property
    def classes(self) -> list[str]:
        return self.predictions.classes

    @property
    def predicted(self) -> np.ndarray:
        return self.predictions.probabilities.argmax(axis=1)

    @cached_property
    def matrix(self) -> np.ndarray:
        return metrics.confusion_matrix(self.predictions.labels, self.predicted, len(self.classes))

    @cached_property
    def pairs(self) -> list[analysis.Pair]:
        return analysis.confused_pairs(self.matrix, self.classes)

    @cached_property
    def of_method(self) -> Findings:
        return method(self.run.config.method).make_findings(
            self.run, self.store, self.predictions, self.pairs, self.reference
        )


def _collect(
    stack: ExitStack,
    folder: Path,
    reference: Path | None,
    split: str | None,
    data: Path | None,
    device: torch.device,
    note: Callable[[str], None],
) -> _Found:
    run, store = _open(folder, data, device, stack, note)
    opened = [(run, store)]
    if reference is not None:
        opened.append(_open(reference, data, device, stack, note))
        if opened[1][0].classes != run.classes:
            raise RunError(f"{reference} tells other classes apart than {folder}: compare runs of one label set.")
    predictions = saved_or_predicted(run, store, split, device, note)
    before = None
    if reference is not None:
        other = saved_or_predicted(*opened[1], predictions.split, device, note)
        before = _paired(folder, predictions, reference, other)
    return _Found(
        run=run,
        store=store,
        predictions=predictions,
        reference=reference,
        before=before,
        remarks=[remark for each in opened for remark in _not_held_out(*each, predictions.split)],
    )


def _open(
    folder: Path, data: Path | None, device: torch.device, stack: ExitStack, note: Callable[[str], None]
) -> tuple[Run, SkeletonStore]:
    """A run, and its store with the classes it was trained on alone."""
    run, store = open_run(folder, data, device, stack, note)
    return run, as_trained(store, run.classes)


def _document(found: _Found) -> dict[str, Any]:
    predictions, of_method = found.predictions, found.of_method
    more = {
        "run": str(found.run.folder),
        "split": predictions.split,
        "epoch": found.run.epoch,
        "compared_with": None if found.reference is None else str(found.reference),
        "pairs": [asdict(pair) | dict(of_pair) for pair, of_pair in _with_findings(found)],
    }
    return {
        **analysis.analyse(predictions.labels, predictions.probabilities, found.classes, found.before),
        **analysis.rounded(more),
        **of_method.document,
        "remarks": found.remarks,
        "missing": list(of_method.missing),
    }


def _with_findings(found: _Found) -> Iterator[tuple[analysis.Pair, Mapping[str, Any]]]:
    """Each confused pair with what the method says of it."""
    of_pairs = found.of_method.pairs or [{}] * len(found.pairs)
    yield from zip(found.pairs, of_pairs, strict=True)


def _draw(found: _Found, document: dict[str, Any], seed: int) -> dict[str, Path]:
    """Draws all figures that there is something for; returns them by name."""
    folder, classes, labels = found.run.folder / FIGURES, found.classes, found.predictions.labels
    drawn: dict[str, Path] = {}

    def place(name: str) -> Path:
        drawn[name] = folder / f"{name}.png"
        return drawn[name]

    confused = _by_confusion(found.matrix)
    figures.confusion_figure(found.matrix, classes, place("confusion"))
    figures.class_accuracy_figure(analysis.per_class(labels, found.predicted, classes), place("class-accuracy"))
    if found.before is not None:
        differences = analysis.difference_per_class(labels, found.predicted, found.before, classes)
        figures.difference_figure(differences, place("difference"), str(found.reference))
    curve = metrics.reliability_curve(labels, found.predictions.probabilities)
    figures.reliability_figure(curve, document["ece"], document["ece_by_chance"], place("reliability"))
    if found.of_method.draw is not None:
        drawn |= found.of_method.draw(folder, confused.tolist(), seed)
    return drawn


def saved_or_predicted(
    run: Run, store: SkeletonStore, split: str | None, device: torch.device, note: Callable[[str], None]
) -> Predictions:
    """A run's predictions of a split: those saved by an earlier evaluation of the same data, else fresh ones, saved."""
    split = choose_split(run, store, split)
    earlier = load_predictions(run.folder, split)
    if earlier is not None and earlier.fingerprint == store.fingerprint:
        return earlier
    note(f"Predicting {split} with {run.folder} on {device}.")
    predictions = predict_split(run, store, split, device)
    save_predictions(run.folder, predictions)
    return predictions


def _paired(folder: Path, predictions: Predictions, reference: Path, other: Predictions) -> np.ndarray:
    """What the reference predicts of the run's clips, in their order."""
    order = analysis.pair_clips(predictions.names, other.names)
    if not np.array_equal(other.labels[order], predictions.labels):
        raise RunError(f"{reference} was tested with other labels than {folder}: evaluate both on one store.")
    return other.probabilities.argmax(axis=1)[order]


def _not_held_out(run: Run, store: SkeletonStore, split: str) -> list[str]:
    """Why a run's accuracy on a split is no estimate for new clips."""
    found = []
    if run.config.train.select_on == "test" and split in {test for _, test in store.protocols().values()}:
        found.append(f"{run.folder}: the test split chose the epoch, so its accuracy is no estimate for new clips")
    trained = runs.read_json(run.folder, runs.DATA).get("training")
    if isinstance(trained, list) and store.fingerprint == run.fingerprint:
        known = int(np.isin(store.splits[split], store.of_file(np.array(trained, np.int64))).sum())
        if known:
            count = len(store.splits[split])
            found.append(
                f"{run.folder} learned from {known} of these {count} clips, so its accuracy says little of new ones"
            )
    return found


def _by_confusion(matrix: np.ndarray) -> np.ndarray:
    """`[K]` class numbers, those confused most (either way) first."""
    counts = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diag(matrix)
    return np.argsort(-counts, kind="stable")
