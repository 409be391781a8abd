"""Run folders: everything a result can be traced to and repeated from.

    config.json        the complete configuration, the classes, the layout, the network's shape, who was asked
    data.json          path and fingerprint of the skeleton store, clip numbers of training and validation
    environment.json   versions, device, command
    metrics.jsonl      one line per epoch, every loss term apart
    refreshes.jsonl    one line per refresh: epoch, confusions, similar classes, joints and sentences before and after
    refreshes/         one file per refresh: masks, sentence embeddings, embeddings of the clips that choose the epoch
    dialogues.jsonl    the exchanges that shaped the run, for `skag dialogues import`
    last.pt, best.pt   checkpoints; `torch.load(..., weights_only=True)["model"]` are the weights
    predictions-*.npz  what `skag eval` saved: clip names, labels, probabilities

Files are written under a temporary name and renamed, so that what is there is whole.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from . import __version__
from .config import Config, config_from_dict
from .errors import RunError
from .model import ModelConfig
from .store import SkeletonStore

CONFIG, DATA = "config.json", "data.json"
METRICS, REFRESHES, DIALOGUES = "metrics.jsonl", "refreshes.jsonl", "dialogues.jsonl"


def write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Let `write` fill a temporary file, then give it the name `path`, durably."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text, each with its end, replacing the file."""
    text = "".join(lines)
    write_whole(path, lambda file: file.write(text.encode()))


def append_line(path: Path, value: Any) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value, ensure_ascii=False) + "\n")


def read_json(run: Path, name: str) -> dict[str, Any]:
    """A JSON object of a run folder. Raises `RunError` where the folder is no run or the file is damaged."""
    if not run.is_dir():
        raise RunError(f"no run folder {run}: make one with `skag train DATA.h5 --out {run}`.")
    path = run / name
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{run} is no complete run folder, {name} is missing: train it again.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        value = None
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged: train the run again.")
    return value


def read_lines(path: Path) -> list[Any]:
    """The JSON lines of a file that were written to their end; none where there is no file."""
    return [json.loads(line) for line in _whole_lines(path)] if path.exists() else []


def write_run_facts(
    run: Path,
    config: Config,
    model_config: ModelConfig,
    store: SkeletonStore,
    training: np.ndarray,
    validation: np.ndarray,
    device: torch.device,
    asking: dict[str, Any],
) -> None:
    """Write the files that say what a run is, before its first step. `asking` is how its agents were opened."""
    facts = {
        "config": config.to_dict(),
        "model": asdict(model_config),
        "classes": store.classes,
        "layout": store.layout.to_dict(),
        "asking": asking,
    }
    write_json(run / CONFIG, facts)
    source = {
        "store": str(store.path.resolve()),
        "fingerprint": store.fingerprint,
        "training": training.tolist(),
        "validation": validation.tolist(),
    }
    write_json(run / DATA, source)
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "h5py")}
    write_json(
        run / "environment.json",
        {
            "skag": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": str(device),
            "threads": torch.get_num_threads(),
            "packages": versions,
            "command": sys.argv,
        },
    )


def read_source(run: Path) -> tuple[Path, dict[str, Any]]:
    """(skeleton store, how the agents were opened) of a run that skag trained. Raises `RunError`."""
    path, asking = read_json(run, DATA).get("store"), read_json(run, CONFIG).get("asking")
    if not isinstance(path, str) or not isinstance(asking, dict):
        raise RunError(f"{run} cannot be gone on with: it holds imported weights, or is of an earlier skag.")
    return Path(path), asking


def check_fingerprint(run: Path, store: SkeletonStore) -> None:
    """Raise `RunError` unless `store` is what the run was trained on."""
    if store.fingerprint != read_json(run, DATA).get("fingerprint"):
        raise RunError(f"{store.path} has changed since {run} was trained on it: train it again.")


def keep_epochs(run: Path, epochs: int) -> None:
    """Forget what was written of epochs after `epochs`: a run that goes on from there writes it again."""
    for path, latest in ((run / METRICS, "epoch"), (run / REFRESHES, "effective")):
        if path.exists():
            until = epochs + (latest == "effective")  # what takes effect in the next epoch was written in the last one
            write_lines(path, [line for line in _whole_lines(path) if json.loads(line)[latest] <= until])


def _whole_lines(path: Path) -> list[str]:
    """The lines that were written to their end, each with it."""
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]


def scalar_writer(run: Path, epochs_done: int) -> Callable[[dict[str, Any]], None]:
    """What writes an epoch's metrics for TensorBoard, to `run`/tensorboard, where TensorBoard is installed; else what
    does nothing. A run that goes on hides what was written of epochs after `epochs_done`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return lambda metrics: None
    writer = SummaryWriter(run / "tensorboard", purge_step=epochs_done + 1 if epochs_done else None)

    def write(metrics: dict[str, Any]) -> None:
        for name, value in metrics.items():
            if name != "epoch":
                writer.add_scalar(name, value, metrics["epoch"])
        writer.flush()

    return write


def read_config(run: Path) -> Config:
    """The configuration a run was trained with. Raises `RunError`."""
    return config_from_dict(read_json(run, CONFIG).get("config"), where=str(run / CONFIG))
