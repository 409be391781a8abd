"""Probabilities of clips, and the files that keep them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from .. import runs
from ..config import DataConfig
from ..errors import RunError
from ..methods.base import Candidate, Classifier
from ..skeleton.clips import Clips, prepare, test_batches
from ..skeleton.store import SkeletonStore
from .loaded import ClipSet, Run, split_clips


@dataclass(frozen=True)
class Predictions:
    """Probabilities of the clips of one split."""

    split: str
    names: list[str]
    labels: np.ndarray  # [n]
    probabilities: np.ndarray  # [n, K]
    classes: list[str]
    num_views: int
    fingerprint: str


def predict_prepared(
    classifier: Classifier,
    clips: Clips,
    config: DataConfig,
    batch_size: int,
    num_views: int = 1,
    candidates: Sequence[Candidate] | None = None,
) -> np.ndarray:
    """`probabilities` as an array."""
    with torch.no_grad():
        return probabilities(classifier, clips, config, batch_size, num_views, candidates).cpu().numpy()


def probabilities(
    classifier: Classifier,
    clips: Clips,
    config: DataConfig,
    batch_size: int,
    num_views: int = 1,
    candidates: Sequence[Candidate] | None = None,
) -> torch.Tensor:
    """Probabilities `[n, K]` of all clips among the trained classes, or `candidates`: softmax per view, averaged over
    `num_views` parts of each clip (and, where the recipe says so, their mirror images). The network sees `batch_size`
    views at a time. To be differentiated, unless gradients are off: so nothing that a classifier keeps for the next
    call may come from `torch.inference_mode`."""
    classifier.model.eval()
    found = []
    for x in test_batches(clips, config, batch_size, num_views):
        scores = torch.cat([classifier.log_scores(views, candidates) for views in x.flatten(0, 1).split(batch_size)])
        found.append(scores.softmax(1).unflatten(0, x.shape[:2]).mean(1))
    return torch.cat(found)


def candidate_scores(
    classifier: Classifier,
    clips: Clips,
    config: DataConfig,
    batch_size: int,
    num_views: int,
    candidates: Sequence[Candidate],
) -> np.ndarray:
    """Scores float64 `[n, K]` of all clips among `candidates`, the mean over the views of each; their mean over the
    candidates is 0."""
    classifier.model.eval()
    found = []
    with torch.no_grad():
        for x in test_batches(clips, config, batch_size, num_views):
            parts = x.flatten(0, 1).split(batch_size)
            scores = torch.cat([classifier.log_scores(views, candidates) for views in parts])
            found.append(scores.double().unflatten(0, x.shape[:2]).mean(1))
    scores = torch.cat(found)
    return (scores - scores.mean(1, keepdim=True)).cpu().numpy()


def embed_clips(network: Any, clips: Clips, config: DataConfig, batch_size: int) -> np.ndarray:
    """Where a network puts all clips (the `embedding` of its output), float16 `[n, D]`."""
    network.eval()
    with torch.inference_mode():
        found = [network(x[:, 0]).embedding.half() for x in test_batches(clips, config, batch_size)]
    return torch.cat(found).cpu().numpy()


def predict_clips(
    run: Run,
    store: SkeletonStore,
    clips: ClipSet,
    device: torch.device,
    batch_size: int = 64,
    num_views: int = 1,
    candidates: Sequence[Candidate] | None = None,
) -> Predictions:
    """Predict some clips of the store with a run; `candidates` are the clips' classes, where texts are to tell them."""
    prepared = prepare(store, clips.numbers, run.config.data, device)
    probabilities = predict_prepared(run.classifier, prepared, run.config.data, batch_size, num_views, candidates)
    return Predictions(
        clips.split, clips.names, clips.labels, probabilities, clips.classes, num_views, store.fingerprint
    )


def predict_split(
    run: Run, store: SkeletonStore, split: str, device: torch.device, batch_size: int = 64, num_views: int | None = None
) -> Predictions:
    """Predict one split of the store with a run, with `num_views` or its recipe's. Raises `RunError` where store and
    run do not fit."""
    num_views = num_views or run.config.data.test_views
    return predict_clips(run, store, split_clips(run, store, split), device, batch_size, num_views)


def save_predictions(folder: Path, predictions: Predictions) -> Path:
    """Write `predictions-<split>.npz` into a run folder; returns its path."""
    path = folder / f"predictions-{predictions.split}.npz"

    def write(file: IO[bytes]) -> None:
        np.savez_compressed(
            file,
            split=predictions.split,
            names=np.array(predictions.names),
            labels=predictions.labels,
            probabilities=predictions.probabilities,
            classes=np.array(predictions.classes),
            num_clips_per_sample=predictions.num_views,
            fingerprint=predictions.fingerprint,
        )

    runs.write_whole(path, write)
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
                num_views=int(saved["num_clips_per_sample"]),
                fingerprint=str(saved["fingerprint"]),
            )
    except Exception as error:  # zip, numpy and key errors alike: the file is not what we wrote
        raise RunError(f"{path} is damaged ({error}): run `skag eval {folder}` again.") from None
