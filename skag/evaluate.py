"""Evaluate runs: probabilities of every clip of a split, one run or several fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from . import analysis, data, runs
from .config import Config, DataConfig, from_dict
from .errors import RunError
from .model import ModelConfig, Recogniser
from .store import SkeletonStore

# The published ensembles (the paper's tables): two streams, with their motions, and with k-bones.
PUBLISHED_FUSIONS = (("j", "b"), ("j", "b", "jm", "bm"), ("j", "b", "jm", "bm", "k", "km"))


@dataclass(frozen=True)
class Run:
    """A trained recogniser with everything needed to use it."""

    folder: Path
    config: Config
    model: Recogniser
    classes: list[str]
    store_path: Path
    fingerprint: str


@dataclass(frozen=True)
class ClipSet:
    """Which clips of a store a run is asked about; two runs are compared on names, labels and classes."""

    split: str
    numbers: np.ndarray  # [n]
    names: list[str]
    labels: np.ndarray  # int64 [n]
    classes: list[str]


@dataclass(frozen=True)
class Fusion:
    """Several runs as one recogniser: which of them, with which weights, and how well they do together."""

    name: str  # "2-stream", "4-stream" and "6-stream" as published, else "all"
    members: tuple[int, ...]
    weights: tuple[float, ...]
    accuracy: analysis.Accuracy


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
    if not {"model", "classes"} <= facts.keys() or not {"store", "fingerprint"} <= source.keys():
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
        store_path=Path(source["store"]),
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


def split_clips(run: Run, store: SkeletonStore, split: str) -> ClipSet:
    """The clips of one split of the store. Raises `RunError` where store and run do not fit."""
    if store.classes != run.classes:
        raise RunError(
            f"{store.path} has other classes than {run.folder} was trained on: give its own store by --data."
        )
    return _clips(store, split, store.splits[split])


def held_out_clips(run: Run, store: SkeletonStore) -> ClipSet:
    """The part of the training split that the run did not learn from. Raises `RunError` where it is not known."""
    found = runs.read_json(run.folder, runs.DATA).get("validation")
    if not isinstance(found, list) or not found or not all(type(n) is int and 0 <= n < len(store) for n in found):
        raise RunError(f"{run.folder / runs.DATA} names no held-out clips: fit weights on runs that skag trained.")
    if store.fingerprint != run.fingerprint:
        raise RunError(
            f"{store.path} is not the store {run.folder} was trained on, so its held-out clips are not known: "
            "leave out --fit-weights, or give the store by --data."
        )
    return _clips(store, "held-out", np.array(found))


def _clips(store: SkeletonStore, split: str, numbers: np.ndarray) -> ClipSet:
    names = [store.names[number] for number in numbers]
    return ClipSet(split, numbers, names, store.labels[numbers].astype(np.int64), store.classes)


def predict_clips(
    run: Run, store: SkeletonStore, clips: ClipSet, device: torch.device, batch_size: int = 64, num_views: int = 1
) -> Predictions:
    """Predict some clips of the store with a run."""
    prepared = data.prepare(store, clips.numbers, run.config.data, device)
    probabilities = predict(run.model, prepared, run.config.data, max(1, batch_size // num_views), num_views)
    return Predictions(
        clips.split, clips.names, clips.labels, probabilities, clips.classes, num_views, store.fingerprint
    )


def predict_split(
    run: Run, store: SkeletonStore, split: str, device: torch.device, batch_size: int = 64, num_views: int = 1
) -> Predictions:
    """Predict one split of the store with a run. Raises `RunError` where store and run do not fit."""
    return predict_clips(run, store, split_clips(run, store, split), device, batch_size, num_views)


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


def check_same_clips(folders: Sequence[Path], clips: Sequence[ClipSet]) -> None:
    """Raise `RunError` unless all runs are asked about the same clips of the same classes, in the same order."""
    for folder, other in zip(folders[1:], clips[1:], strict=True):
        first, held_out = clips[0], clips[0].split == "held-out"
        if other.classes != first.classes:
            raise RunError(f"{folder} tells other classes apart than {folders[0]}: fuse runs of one label set.")
        if other.names == first.names and np.array_equal(other.labels, first.labels):
            continue
        if held_out:
            raise RunError(
                f"{folder} held out other clips than {folders[0]}: "
                "for --fit-weights train the streams with one --seed and protocol."
            )
        raise RunError(
            f"{folder} is tested on other clips than {folders[0]} ({other.split}: {len(other.names)}, "
            f"{first.split}: {len(first.names)}): fuse runs of one store and protocol."
        )


def stream_weight(stream: str) -> float:
    """Published ensemble weights: joint, bone and k-bone 2, motions 1 (SkeletonAgent's code)."""
    return 1.0 if stream.endswith("m") else 2.0


def fuse_streams(
    streams: Sequence[str], predictions: Sequence[Predictions], held_out: Sequence[Predictions] | None = None
) -> list[Fusion]:
    """The published fusions that runs of these streams allow, then that of all of them; none of a single run.

    `predictions` are of the same clips (see `check_same_clips`). Weights are the published ones or, with the runs'
    predictions of clips that none of them learned from, fitted to those, for each fusion anew. A published fusion
    takes one run of each stream: where a stream has two, it is left out, since nothing says which to take.
    """
    chosen = {
        f"{len(wanted)}-stream": tuple(streams.index(stream) for stream in wanted)
        for wanted in PUBLISHED_FUSIONS
        if all(streams.count(stream) == 1 for stream in wanted)
    }
    everything = tuple(range(len(streams)))
    if len(streams) > 1 and set(everything) not in map(set, chosen.values()):
        chosen["all"] = everything
    labels, found = predictions[0].labels, []
    for name, members in chosen.items():
        weights = tuple(stream_weight(streams[i]) for i in members)
        if held_out is not None:
            weights = analysis.fit_weights(held_out[0].labels, [held_out[i].probabilities for i in members])
        probabilities = analysis.fuse([predictions[i].probabilities for i in members], weights)
        found.append(Fusion(name, members, weights, analysis.accuracy(labels, probabilities)))
    return found
