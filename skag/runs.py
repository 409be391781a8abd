"""Run folders: everything a result can be traced to and repeated from.

    config.json        method, complete configuration, classes, layout, the network's shape, who was asked
    data.json          path and fingerprint of the skeleton store, numbers in it of training and validation clips
    environment.json   versions, device, command
    metrics.jsonl      one line per epoch, every loss term apart
    dialogues.jsonl    the exchanges that shaped the run, for `skag dialogues import`
    last.pt, best.pt   checkpoints; `torch.load(..., weights_only=True)["model"]` are the weights
    predictions-*.npz  what `skag eval` saved: clip names, labels, probabilities
    calibration.json   the temperature of `skag predict`
    added.npz          classes that `skag add` added
    analysis.json, report.html, figures/   what `skag analyze-confusion` found
    tensorboard/       the metrics again, where TensorBoard is installed
    .lock              empty; locked while the run is being trained

A method adds files of its own; `docs/run-folder.md` has them all.

Files are written under a temporary name and renamed, so that what is there is whole.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from itertools import accumulate
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .config import Config, config_from_dict
from .errors import RunError, cause
from .methods import DEFAULT, method
from .suggestions import did_you_mean, no_run
from .version import __version__

if TYPE_CHECKING:  # torch takes a second or two to import, and listing runs needs none of it
    import torch

    from .skeleton.store import SkeletonStore

CONFIG, DATA = "config.json", "data.json"
METRICS, DIALOGUES = "metrics.jsonl", "dialogues.jsonl"
LOCK = ".lock"


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file, then give it the name `path`, durably."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except RuntimeError as error:  # of `torch.save`, whose file could not be finished either
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
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
        if other := no_run(run):
            raise RunError(other)
        otherwise = f"make one with `skag train DATA.h5 --out {run}`."
        step = did_you_mean(run, otherwise, lambda path: (path / CONFIG).is_file())
        raise RunError(f"no run folder {run}: {step}")
    path = run / name
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not any((run / part).exists() for part in _TELLTALE) and (other := no_run(run)):
            raise RunError(other) from None
        raise RunError(f"{run} is no complete run folder, {name} is missing: train it again.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        value = None
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged: train the run again.")
    return value


def read_lines(path: Path) -> list[Any]:
    """The JSON lines of a file that were written to their end; none where there is no file. Raises `RunError`."""
    try:
        return [json.loads(line) for line in _whole_lines(path)] if path.exists() else []
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise RunError(f"{path} is damaged: take it from a copy, or train the run again.") from None


def write_run_facts(
    run: Path,
    config: Config,
    shape: Mapping[str, Any],
    store: SkeletonStore,
    training: np.ndarray,
    validation: np.ndarray,
    device: torch.device,
    asking: dict[str, Any],
) -> None:
    """Write the files that say what a run is, before its first step. `shape` is what rebuilds its network, `asking`
    where its knowledge comes from."""
    facts = {
        "method": config.method,
        "config": config.to_dict(),
        **shape,
        "classes": store.classes,
        "layout": store.layout.to_dict(),
        "asking": asking,
    }
    source = {
        "store": str(store.path.resolve()),
        "fingerprint": store.fingerprint,
        "training": store.in_file(training).tolist(),
        "validation": store.in_file(validation).tolist(),
    }
    write_json(run / DATA, source)
    write_environment(run, device)
    write_json(run / CONFIG, facts)  # last: with it a folder is a run, which can be gone on with


def note_fact(run: Path, name: str, value: Any) -> None:
    """Note something more in a run's config.json."""
    write_json(run / CONFIG, read_json(run, CONFIG) | {name: value})


def write_environment(run: Path, device: torch.device) -> None:
    """Write by which versions, device and command a run is made."""
    import torch

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
    path, facts = read_json(run, DATA).get("store"), read_json(run, CONFIG)
    if facts.get("added"):
        raise RunError(
            f"{run} cannot be gone on with, classes were added to it: go on with {facts['added_to']['run']}."
        )
    asking = facts.get("asking")
    if not isinstance(path, str) or not isinstance(asking, dict):
        raise RunError(f"{run} cannot be gone on with: it holds imported weights, or is of an earlier skag.")
    return Path(path), asking


def classes_of(run: Path) -> list[str]:
    """The classes that a run was trained on. Raises `RunError`."""
    classes = read_json(run, CONFIG).get("classes")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise RunError(f"{run / CONFIG} is damaged: train the run again.")
    return classes


def check_same_clips(run: Path, other: Path) -> None:
    """Raise `RunError` where a run takes over a part of another one, which learned from other clips."""
    ours, theirs = (read_json(each, DATA) for each in (run, other))
    if any(ours.get(name) != theirs.get(name) for name in ("fingerprint", "training")):
        raise RunError(f"{other} was trained on other clips than {run}: take its data, protocol and seed.")


def check_fingerprint(run: Path, store: SkeletonStore) -> None:
    """Raise `RunError` unless `store` is what the run was trained on."""
    if store.fingerprint != read_json(run, DATA).get("fingerprint"):
        raise RunError(f"{store.path} has changed since {run} was trained on it: train it again.")


def check_different(folders: Sequence[Path]) -> None:
    """Raise `RunError` where runs to be fused are one run."""
    resolved = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, resolved, strict=True):
        if resolved.count(place) > 1:
            raise RunError(f"{folder} is given twice: fuse different runs, or give it once.")


def keep_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Leave the `wanted` JSON lines of a file: a run that is resumed writes the others again. Raises `RunError`."""
    if path.exists():
        try:
            kept = [line for line in _whole_lines(path) if wanted(json.loads(line))]
        except (ValueError, LookupError, TypeError):
            raise RunError(f"{path} is damaged: take it from a copy, or train the run again.") from None
        write_lines(path, kept)


def _whole_lines(path: Path) -> list[str]:
    """The lines that were written to their end, each with it; other signs that split lines may stand within them."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return [line for line in file if line[-1] == "\n"]


@contextmanager
def training(run: Path) -> Iterator[None]:
    """Make the folder of a run, if need be, and hold it: nobody else trains it meanwhile. Raises `RunError`."""
    from filelock import FileLock, Timeout

    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(timeout=1)  # a look at the lock is shorter
    except Timeout:
        raise RunError(f"{run} is being trained already: wait for its end, or choose another folder.") from None
    except NotImplementedError:  # a disk without locks
        pass
    try:
        yield
    finally:
        lock.release()
        if [path.name for path in run.iterdir()] == [LOCK]:  # it did not come to a run
            (run / LOCK).unlink()
            run.rmdir()


def is_training(run: Path) -> bool:
    """Whether somebody trains the run at this moment."""
    from filelock import FileLock, Timeout

    if not (run / LOCK).exists():
        return False
    try:
        with FileLock(run / LOCK).acquire(blocking=False):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):  # a folder or a disk that takes no locks
        return False


@contextmanager
def scalar_writer(run: Path, epochs_done: int, stage: str = "") -> Iterator[Callable[[dict[str, Any]], None]]:
    """What writes an epoch's metrics for TensorBoard, to `run`/tensorboard, where TensorBoard is installed; else what
    does nothing. A run that goes on hides what was written of epochs after `epochs_done`. Of several stages each has a
    folder of its own there."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield lambda metrics: None
        return
    writer = SummaryWriter(run / "tensorboard" / stage, purge_step=epochs_done + 1 if epochs_done else None)

    def write(metrics: dict[str, Any]) -> None:
        for name, value in metrics.items():
            if name not in ("epoch", "stage"):
                writer.add_scalar(name, value, metrics["epoch"])
        writer.flush()

    try:
        yield write
    finally:
        writer.close()


def read_config(run: Path) -> Config:
    """The configuration a run was trained with, of its method's class. Raises `RunError`."""
    facts = read_json(run, CONFIG)
    kind = method(facts.get("method", DEFAULT)).CONFIG
    return config_from_dict(kind, facts.get("config"), where=str(run / CONFIG))


# ---------------------------------------------------------------- many runs

_TELLTALE = (CONFIG, DATA, METRICS, "last.pt", "best.pt")  # two of these make a folder a run's


@dataclass(frozen=True)
class RunSummary:
    """One run of a listing; accuracies in percent, None where unknown."""

    run: str
    state: str  # "finished", "interrupted", "running", "imported" or "damaged"
    recipe: str | None = None
    stream: str | None = None
    data: str | None = None  # the skeleton store that it was trained on
    seed: int | None = None
    epochs: int | None = None  # done
    planned: int | None = None
    best_epoch: int | None = None  # the one that `best.pt` keeps
    val_top1: float | None = None  # of that epoch, on the clips that chose it
    selected_on: str | None = None  # "validation", or "test" where these were the test split's
    test_top1: float | None = None  # of the test split, where `skag eval` saved it
    date: str | None = None  # ISO 8601, when an epoch was last finished
    reason: str | None = None  # why a folder counts as damaged


def list_runs(folder: Path) -> list[RunSummary]:
    """All runs in and below `folder`, the one that was written to last at the end.

    Folders that look like runs and cannot be read are listed as damaged, with the reason. Raises `RunError` where
    there is no such folder.
    """
    if not folder.is_dir():
        otherwise = "`skag train DATA.h5` makes runs in runs/, or name another folder."
        if folder.exists():
            raise RunError(f"{folder} is a file: name a folder that holds runs, or leave it out for runs/.")
        raise RunError(f"no folder {folder}: {did_you_mean(folder, otherwise, Path.is_dir)}")
    found = []
    for here, folders, files in os.walk(folder):
        if len(set(_TELLTALE) & set(files)) > 1:
            found.append(summarise(Path(here)))
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith(".")]
    return sorted(found, key=lambda summary: (summary.date or "", summary.run))


def summarise(run: Path) -> RunSummary:
    """What a run folder holds, as one line of a listing. Never raises for what is in the folder."""
    try:
        return _summary(run)
    except RunError as error:
        return RunSummary(str(run), "damaged", reason=str(error))
    except OSError as error:
        return RunSummary(str(run), "damaged", reason=f"{error.filename or run} cannot be read ({cause(error)}).")
    except (ValueError, KeyError, TypeError, AttributeError):
        reason = f"{run}: {DATA} or {METRICS} does not hold what skag writes: train the run again, or remove it."
        return RunSummary(str(run), "damaged", reason=reason)


def _summary(run: Path) -> RunSummary:
    config, source = read_config(run), read_json(run, DATA)
    metrics = read_lines(run / METRICS)
    stages = method(config.method).stages(config)
    planned = sum(config.settings_of(stage).epochs for stage in stages)
    reached = metrics[-1].get("stage", stages[0]) if metrics else stages[0]
    earlier = [line for line in metrics if line.get("stage", stages[0]) != reached]
    metrics = metrics[len(earlier) :]  # of the stage that was trained last
    done = max((int(line["epoch"]) for line in metrics), default=0)
    done += sum(config.settings_of(stage).epochs for stage in stages[: stages.index(reached)])
    written = max(path.stat().st_mtime for path in (run / CONFIG, run / METRICS) if path.exists())
    if source["store"] is None:
        state, planned = "imported", 0
    else:
        state = "finished" if done >= planned else "running" if is_training(run) else "interrupted"
    recognises = bool(metrics) and "val_top1" in metrics[-1]  # not every stage does
    best = kept_index(
        [float(line["val_top1"]) for line in metrics] if recognises else [],
        len(source.get("validation", ())),
        config.settings_of(reached).keep,
    )
    return RunSummary(
        run=str(run),
        state=state,
        recipe=config.recipe,
        stream=config.data.stream,
        data=source["store"],
        seed=config.train.seed,
        epochs=done,
        planned=planned,
        best_epoch=metrics[best]["epoch"] if recognises else None,
        val_top1=round(float(metrics[best]["val_top1"]), 2) if recognises else None,
        selected_on=config.train.select_on,
        test_top1=_test_top1(run),
        date=datetime.fromtimestamp(written).isoformat(timespec="seconds"),
    )


def is_kept(top1: float, earlier: float | None, clips: int, keep: str) -> bool:
    """Whether `train.keep` keeps an epoch, by its top-1 in percent on `clips` clips and the highest of those before it,
    None for the first.

    "near-highest", the default, keeps the last one within one standard error of the highest so far (the rule of Breiman
    et al., "Classification and Regression Trees", 1984, section 3.4.3, for choices among near-equals): on a hundred
    clips two epochs that differ by four points are equal, and the later one has had more of the schedule.
    """
    if keep == "last" or earlier is None:
        return True
    if keep == "highest":
        return top1 > earlier
    highest = max(top1, earlier)
    return top1 >= highest - standard_error(highest, clips)


def kept_index(top1: Sequence[float], clips: int, keep: str) -> int:
    """Index of the epoch whose weights training keeps, by the top-1 percentages of all on `clips` clips."""
    highest = [None, *accumulate(top1, max)]
    return max((n for n, percent in enumerate(top1) if is_kept(percent, highest[n], clips, keep)), default=0)


def standard_error(percent: float, count: int) -> float:
    """Standard error of a percentage of `count` clips, in percent, with two right and two wrong answers added: the
    plain binomial one is 0 where all are right (Agresti and Coull, The American Statistician 52, 1998)."""
    share, count = (percent / 100 * count + 2) / (count + 4), count + 4
    return 100 * math.sqrt(share * (1 - share) / count)


def _test_top1(run: Path) -> float | None:
    """Top-1 of the newest saved predictions of a test split, which published files also call "val"."""
    paths = [path for end in ("test", "val") for path in run.glob(f"predictions-*{end}.npz")]
    if not paths:
        return None
    path = max(paths, key=lambda path: path.stat().st_mtime)
    try:
        with np.load(path, allow_pickle=False) as saved:
            right = saved["probabilities"].argmax(1) == saved["labels"]
    except Exception as error:  # zip, zlib, numpy and key errors alike: the file is not what skag wrote
        raise RunError(f"{path} is damaged ({error}): run `skag eval {run}` again.") from None
    return round(100 * float(right.mean()), 2)
