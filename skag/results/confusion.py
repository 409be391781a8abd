"""`skag analyze-confusion` as one function: what a run confuses, why, and what its dialogue changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import runs
from ..dialogue.exchanges import Exchange
from ..encoders.protogcn import Recogniser
from ..errors import RunError
from ..inference import evaluate as evaluation
from ..inference.evaluate import Predictions, Run
from ..methods.skeleton_agent import network_figures, refreshes
from ..skeleton.store import SkeletonStore
from . import analysis, figures, report

FIGURES, ANALYSIS = "figures", "analysis.json"  # in the run folder
_SHOWN_EPOCHS = 4
_SHOWN_CLASSES = 10  # in colour among the embeddings
_STRONGEST_LINKS = 10
_POSES = 24  # frames of a class to choose one from


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
        page = report.report_data(
            found.run, found.store, found.predictions, document, found.dialogue, found.history, found.told
        )
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
    dialogue: list[Exchange]
    told: list[refreshes.Told] | None
    history: list[refreshes.Refresh]
    snapshots: list[refreshes.Snapshot]
    topology: np.ndarray  # [B, V, V]
    remarks: list[str]

    @property
    def classes(self) -> list[str]:
        return self.predictions.classes

    @property
    def predicted(self) -> np.ndarray:
        return self.predictions.probabilities.argmax(axis=1)

    @cached_property
    def matrix(self) -> np.ndarray:
        return analysis.confusion_matrix(self.predictions.labels, self.predicted, len(self.classes))


def _collect(
    stack: ExitStack,
    folder: Path,
    reference: Path | None,
    split: str | None,
    data: Path | None,
    device: torch.device,
    note: Callable[[str], None],
) -> _Found:
    run, store = evaluation.open_run(folder, data, device, stack, note)
    opened = [(run, store)]
    if reference is not None:
        opened.append(evaluation.open_run(reference, data, device, stack, note))
        if opened[1][0].classes != run.classes:
            raise RunError(f"{reference} tells other classes apart than {folder}: compare runs of one label set.")
    predictions = saved_or_predicted(run, store, split, device, note)
    before = None
    if reference is not None:
        other = saved_or_predicted(*opened[1], predictions.split, device, note)
        before = _paired(folder, predictions, reference, other)
    dialogue = refreshes.read_dialogue(folder)
    history = refreshes.read_refreshes(folder, run.classes, dialogue)
    epoch = run.config.train.epochs if run.epoch is None else run.epoch
    return _Found(
        run=run,
        store=store,
        predictions=predictions,
        reference=reference,
        before=before,
        dialogue=dialogue,
        told=refreshes.told_at(epoch, dialogue, history, run.classes, run.layout, run.config.agents),
        history=history,
        snapshots=refreshes.read_snapshots(folder, _SHOWN_EPOCHS) if run.config.agents.beta else [],
        topology=learned_topology(run.model),
        remarks=[remark for each in opened for remark in _not_held_out(*each, predictions.split)],
    )


def _document(found: _Found) -> dict[str, Any]:
    predictions, classes = found.predictions, found.classes
    pairs = analysis.confused_pairs(found.matrix, classes)
    explained = refreshes.explain_pairs(pairs, classes, found.told, found.history)
    matches = [
        (each.epoch, analysis.nearest_is_own(each.clip_embeddings, each.clip_labels, each.text_before))
        for each in found.snapshots
    ]
    more = {
        "run": str(found.run.folder),
        "split": predictions.split,
        "epoch": found.run.epoch,
        "compared_with": None if found.reference is None else str(found.reference),
        "pairs": [_pair_row(pair) for pair in explained],
        "refreshes": [asdict(row) for row in refreshes.summarise(found.history, found.reference)],
        "sentence_match": [{"epoch": epoch, "nearest_is_own": share} for epoch, share in matches],
    }
    return {
        **analysis.analyse(predictions.labels, predictions.probabilities, classes, found.before),
        **analysis.rounded(more),
        "strongest_links": _strongest_links(found.topology.mean(axis=0), found.run.layout.joints),
        "remarks": found.remarks,
        "missing": _missing(found),
    }


def _draw(found: _Found, document: dict[str, Any], seed: int) -> dict[str, Path]:
    """Draws all figures that there is something for; returns them by name."""
    folder, run, classes, labels = found.run.folder / FIGURES, found.run, found.classes, found.predictions.labels
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
    curve = analysis.reliability_curve(labels, found.predictions.probabilities)
    figures.reliability_figure(curve, document["ece"], document["ece_by_chance"], place("reliability"))
    network_figures.topology_figure(found.topology, run.layout.joints, place("topology"))
    if found.snapshots:
        shown = np.sort(confused[:_SHOWN_CLASSES])
        network_figures.embedding_figure(found.snapshots, classes, shown, place("embeddings"), seed)
    if found.told is not None:
        shown = np.sort(confused[: network_figures.MOST_BODIES])
        store, split = found.store, found.predictions.split
        trained = next((train for train, test in store.protocols().values() if test == split), split)
        network_figures.critical_joints_figure(
            run.layout,
            [classes[k] for k in shown],
            np.array([[joint in found.told[k].joints for joint in run.layout.joints] for k in shown]),
            typical_poses(store, store.splits[trained], shown),
            place("critical-joints"),
            total=len(classes),
        )
    return drawn


def saved_or_predicted(
    run: Run, store: SkeletonStore, split: str | None, device: torch.device, note: Callable[[str], None]
) -> Predictions:
    """A run's predictions of a split: those saved by an earlier evaluation of the same data, else fresh ones, saved."""
    split = evaluation.choose_split(run, store, split)
    earlier = evaluation.load_predictions(run.folder, split)
    if earlier is not None and earlier.fingerprint == store.fingerprint:
        return earlier
    note(f"Predicting {split} with {run.folder} on {device}.")
    predictions = evaluation.predict_split(run, store, split, device)
    evaluation.save_predictions(run.folder, predictions)
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
        known = int(np.isin(store.splits[split], np.array(trained, np.int64)).sum())
        if known:
            count = len(store.splits[split])
            found.append(
                f"{run.folder} learned from {known} of these {count} clips, so its accuracy says little of new ones"
            )
    return found


def learned_topology(model: Recogniser) -> np.ndarray:
    """The learned graph of every block `[B, V, V]`, from joint (row) to joint (column), mean over its subsets.

    That is A alone, what the blocks have in common for all clips and channels (the paper's Fig. 6); what a clip adds
    to it is scaled by alpha and beta, which stay small.
    """
    return np.stack([block.gcn.A.detach().float().mean(0).cpu().numpy() for block in model.blocks])


def typical_poses(store: SkeletonStore, numbers: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """`[len(labels), V, C]` a pose of each class, from its first clips among `numbers`: the frame in which the joints
    hide one another least, seen from the sensor. NaN where there is none."""
    layout = store.layout
    axis, _ = layout.up_axis
    plane = [1 if axis == 0 else 0, axis]
    poses = np.full((len(labels), layout.num_joints, layout.dims), np.nan)
    for row, label in enumerate(labels):
        candidates = []
        for number in [n for n in numbers if store.labels[n] == label][:3]:
            body = store.keypoints(int(number))[0].astype(float)
            body[~body.any(axis=-1)] = np.nan  # all zeros: not seen
            step = max(1, len(body) * 3 // _POSES)
            candidates += list(body[::step])
        if candidates:
            poses[row] = max(candidates, key=lambda pose: _clearness(pose[:, plane]))
    return poses


def _clearness(points_V2: np.ndarray) -> float:
    """Mean distance of the joints to their nearest, in heights of the drawing; fewer joints are less clear."""
    there = np.isfinite(points_V2).all(axis=1)
    points = points_V2[there]
    if len(points) < 2:
        return -1.0
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return float(apart.min(axis=1).mean() / max(float(np.ptp(points, axis=0).max()), 1e-9) * there.mean())


def _by_confusion(matrix: np.ndarray) -> np.ndarray:
    """`[K]` class numbers, those confused most (either way) first."""
    counts = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diag(matrix)
    return np.argsort(-counts, kind="stable")


def _missing(found: _Found) -> list[str]:
    if found.told is None:
        return ["sentences, critical joints, refreshes and embeddings: this run was trained without agents"]
    missing = []
    if not found.history:
        missing.append("refreshes: there were none in this run")
    if not found.run.config.agents.beta:
        missing.append("embeddings: this run was trained without alignment (beta 0)")
    elif not found.snapshots:
        missing.append("embeddings: the run has no refreshes/epoch-NNN.npz, an earlier skag trained it")
    return missing


def _pair_row(found: refreshes.ExplainedPair) -> dict[str, Any]:
    row = asdict(found.pair)
    for side, words in (("true", found.true), ("predicted", found.predicted)):
        row[f"{side}_sentence"] = None if words is None else words.sentence
        row[f"{side}_joints"] = None if words is None else words.joints
    row["joints_apart"] = found.joints_apart
    row["refreshes"] = [asdict(change) | {"change": change.change} for change in found.refreshes]
    return row


def _strongest_links(mean_VV: np.ndarray, joints: Sequence[str]) -> list[dict[str, Any]]:
    strongest = np.argsort(-np.abs(mean_VV), axis=None)[:_STRONGEST_LINKS]
    return [
        {"from": joints[v], "to": joints[w], "weight": round(float(mean_VV[v, w]), 4)}
        for v, w in zip(*np.unravel_index(strongest, mean_VV.shape), strict=True)
    ]
