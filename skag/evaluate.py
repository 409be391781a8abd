"""Evaluate runs: probabilities of every clip of a split, one run or several fused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from . import analysis, data, runs
from .config import Config, DataConfig, from_dict
from .errors import RunError
from .layouts import Layout
from .model import ModelConfig, Recogniser
from .store import SkeletonStore


@dataclass(frozen=True)
class Run:
    """A trained recogniser with everything needed to use it."""

    folder: Path
    config: Config
    model: Recogniser
    classes: list[str]
    layout: Layout
    store_path: Path | None  # None: imported weights, whose recordings skag has not seen
    fingerprint: str | None


@dataclass(frozen=True)
class Predictions:
    """Probabilities of the clips of one split."""

    split: str
    names: list[str]
    labels: np.ndarray  # [n]
    probabilities: np.ndarray  # [n, K]
    classes: list[str]
    num_clips_per_sample: int
    fingerprint: str


def load_run(folder: Path, device: torch.device) -> Run:
    """The best network of a run folder, ready for evaluation. Raises `RunError`."""
    facts = runs.read_json(folder, runs.CONFIG)
    source = runs.read_json(folder, runs.DATA)
    path = folder / "best.pt"
    if not path.exists():
        raise RunError(f"{folder} has no best.pt, its training has not finished an epoch: train it again.")
    config = runs.read_config(folder)
    where = str(folder / runs.CONFIG)
    if not {"model", "classes", "layout"} <= facts.keys() or not {"store", "fingerprint"} <= source.keys():
        raise RunError(f"{where} or {runs.DATA} beside it lacks fields: train the run again.")
    model = Recogniser(from_dict(ModelConfig, facts["model"], where))
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["model"]
        model.load_state_dict(weights)
    except Exception as error:  # a damaged or foreign file fails in many ways, none of them runs code
        raise RunError(f"{path} cannot be loaded ({str(error).splitlines()[0]}): train the run again.") from None
    return Run(
        folder=folder,
        config=config,
        model=model.to(device).eval(),
        classes=facts["classes"],
        layout=Layout.from_dict(facts["layout"], where),
        store_path=None if source["store"] is None else Path(source["store"]),
        fingerprint=source["fingerprint"],
    )


def predict(
    model: Recogniser, clips: data.Clips, config: DataConfig, batch_size: int, num_views: int = 1
) -> np.ndarray:
    """Probabilities `[n, K]` of all clips: softmax per view, averaged over `num_views` parts of each clip
    (and, where the recipe says so, their mirror images)."""
    model.eval()
    found = []
    with torch.inference_mode():
        for x in data.test_batches(clips, config, batch_size, num_views):
            probabilities = model(x.flatten(0, 1)).class_logits.float().softmax(1)
            found.append(probabilities.unflatten(0, x.shape[:2]).mean(1))
    return torch.cat(found).cpu().numpy()


def predict_split(
    run: Run, store: SkeletonStore, split: str, device: torch.device, batch_size: int = 64, num_views: int = 1
) -> Predictions:
    """Predict one split of the store with a run. Raises `RunError` where store and run do not fit."""
    if store.classes != run.classes:
        raise RunError(
            f"{store.path} has other classes than {run.folder} was trained on: give its own store by --data."
        )
    if store.layout.joints != run.layout.joints:
        raise RunError(
            f"{store.path} has layout {store.layout.name} and {run.folder} was trained on {run.layout.name}."
        )
    numbers = store.splits[split]
    clips = data.prepare(store, numbers, run.config.data, device)
    probabilities = predict(run.model, clips, run.config.data, max(1, batch_size // num_views), num_views)
    names = [store.names[number] for number in numbers]
    labels = store.labels[numbers].astype(np.int64)
    return Predictions(split, names, labels, probabilities, run.classes, num_views, store.fingerprint)


def save_predictions(folder: Path, predictions: Predictions) -> Path:
    """Write `predictions-<split>.npz` into a run folder; returns its path."""
    path = folder / f"predictions-{predictions.split}.npz"
    arrays = {
        "split": predictions.split,
        "names": np.array(predictions.names),
        "labels": predictions.labels,
        "probabilities": predictions.probabilities,
        "classes": np.array(predictions.classes),
        "num_clips_per_sample": predictions.num_clips_per_sample,
        "fingerprint": predictions.fingerprint,
    }
    runs.write_whole(path, lambda file: np.savez_compressed(file, **arrays))
    return path


def load_predictions(folder: Path, split: str) -> Predictions | None:
    """What `save_predictions` wrote, or None. Raises `RunError` where the file is damaged."""
    path = folder / f"predictions-{split}.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as saved:
            return Predictions(
                split=str(saved["split"]),
                names=saved["names"].tolist(),
                labels=saved["labels"],
                probabilities=saved["probabilities"],
                classes=saved["classes"].tolist(),
                num_clips_per_sample=int(saved["num_clips_per_sample"]),
                fingerprint=str(saved["fingerprint"]),
            )
    except Exception as error:  # zip, numpy and key errors alike: the file is not what we wrote
        raise RunError(f"{path} is damaged ({error}): run `skag eval {folder}` again.") from None


def fuse(predictions: list[Predictions], weights: list[float]) -> Predictions:
    """Weighted sum of the probabilities of several runs, normalised. Raises `RunError` where clips differ."""
    first = predictions[0]
    for other in predictions[1:]:
        if other.names != first.names or not np.array_equal(other.labels, first.labels):
            raise RunError("the runs were evaluated on different clips: fuse runs of one store and protocol.")
    probabilities = analysis.fuse([p.probabilities for p in predictions], weights)
    return Predictions(
        first.split,
        first.names,
        first.labels,
        probabilities,
        first.classes,
        first.num_clips_per_sample,
        first.fingerprint,
    )


def stream_weight(stream: str) -> float:
    """Published ensemble weights: joint, bone and k-bone 2, motions 1 (SkeletonAgent's code)."""
    return 1.0 if stream.endswith("m") else 2.0
