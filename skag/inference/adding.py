"""A run that knows one more class, from one or a few recordings of it: nothing is trained.

The recordings' mean in the embedding of the network is the class's prototype. A description pulls it: what clips of
that description should look like is worked out from the trained classes' texts and prototypes. How far it pulls, and
when a clip is the new class's rather than a trained one's, is fitted by leaving trained classes out in turn, as if each
were new: their held-out clips stand for its recordings.

Letters of this file: n recordings, H held-out clips, D width of the embedding, K trained classes, W width of a text's
vector.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import runs
from ..errors import DataError, RunError
from ..methods import method
from ..methods.base import Candidate
from ..readers.archives import printable
from ..readers.source import Unusable
from ..skeleton.class_choice import as_trained
from ..skeleton.clips import Clips, prepare, test_batches
from ..skeleton.store import SkeletonStore
from .added import Added
from .baselines import ridge, unit
from .calibration import network_hash
from .loaded import Run, held_out_clips
from .predict import Batch
from .recordings import Failure, InputRecording, cleaned, each_recording

PULLS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)  # of the description: 0 none, 1 it alone
TEXT_PENALTY = 0.1  # of the ridge from texts to prototypes
_DRAWS = 10  # of recordings, for every class that is left out
_MOST_CLASSES = 40  # that are left out
_MOST_CLIPS = 30  # of a class that make its prototype
_SCALES = (1.0, 100.0)
_LEFT_BEHIND = {  # of a run folder: what is of the old classes alone, or large
    "last.pt", "calibration.json", "analysis.json", "report.html", "figures", "tensorboard", "profile.json",
    "kinematics.npz", runs.LOCK, "environment.json",
}  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """How a new class is told from trained ones, and what that comes to on classes left out in turn, percent."""

    prototype: np.ndarray  # float32 [D]
    pull: float
    scale: float
    classes: int  # that were left out
    new_found: float  # clips of the class left out that were taken for it
    old_kept: float  # clips of the others that were not


@dataclass(frozen=True)
class AddReport:
    """What adding a class came to."""

    run: str
    out: str
    added: str
    classes: int
    recordings: int
    description: str | None
    pull: float
    left_out: int
    new_found: float
    old_kept: float
    fitted_on: str  # "held-out" clips, or "training" clips where nothing was held out

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def add_class(
    run: Run,
    store: SkeletonStore,
    out: Path,
    name: str,
    files: Sequence[Path],
    *,
    description: str | None = None,
    format: str | None = None,
    split: str | None = None,
    device: torch.device,
    seed: int = 0,
    batch_size: int = 64,
    note: Callable[[str], None] = lambda text: None,
) -> AddReport:
    """Make the run folder `out`: `run` with the class `name`, which `files` are recordings of; `store` is that of the
    training. Raises `RunError` for a run or class that this cannot be done with, `DataError` for recordings."""
    name, description = name.strip(), (description or "").strip() or None
    check(run, name)
    recordings = read_recordings(files, run, format, split, note)
    numbers, labels, fitted_on = _clips_to_fit(run, store, note)

    def embedded(prepared: Clips) -> np.ndarray:
        return embed(run, prepared, batch_size)

    held = embedded(prepare(store, numbers, run.config.data, device))
    trained = run.added.trained if run.added else _trained_prototypes(run, store, device, embedded)
    batch = Batch([item.clip for item in recordings], run.layout)
    new = embedded(prepare(batch, np.arange(len(recordings)), run.config.data, device))
    if not np.isfinite(new).all():
        raise DataError(f"{files[0]} has coordinates that are too large: check their unit.")
    texts = _texts(run, name, description, note)
    found = fit(held, labels, trained, new, texts, seed)
    record = {
        "name": name,
        "description": description,
        "recordings": [_fingerprint(item) for item in recordings],
        "pull": found.pull,
        "left_out": {"classes": found.classes, "new_found": found.new_found, "old_kept": found.old_kept},
        "fitted_on": fitted_on,
        "seed": seed,
    }
    together = _with_one_more(run.added, trained, name, description or "", found)
    write(run, out, together, record)
    return AddReport(
        run=str(run.folder),
        out=str(out),
        added=name,
        classes=len(run.classes) + 1,
        recordings=len(recordings),
        description=description,
        pull=found.pull,
        left_out=found.classes,
        new_found=round(found.new_found, 1),
        old_kept=round(found.old_kept, 1),
        fitted_on=fitted_on,
    )


def check(run: Run, name: str) -> None:
    """Raise `RunError` where the class cannot be added to the run."""
    if not name or name != printable(name, 255):
        raise RunError(f"{name!r} is no name for a class: give one that can be printed, of at most 255 characters.")
    if same := [each for each in run.classes if each.casefold() == name.casefold()]:
        raise RunError(
            f"{run.folder} knows {same[0]!r} already: name another class; more recordings of it are for "
            f"`skag train DATA.h5 --from {run.folder}`."
        )
    if not callable(getattr(run.classifier, "embed", None)):
        raise RunError(f"{run.folder} is of method {run.config.method}, which has no embedding to add a class to.")


def embed(run: Run, clips: Clips, batch_size: int = 64) -> np.ndarray:
    """Where the run's network puts clips, float32 `[n, D]` of length 1; seen once, whole."""
    classifier: Any = run.classifier
    classifier.model.eval()
    with torch.inference_mode():
        found = [classifier.embed(x[:, 0]).float() for x in test_batches(clips, run.config.data, batch_size)]
    return unit(torch.cat(found).cpu().numpy()).astype(np.float32)


def read_recordings(
    files: Sequence[Path], run: Run, format: str | None, split: str | None, note: Callable[[str], None]
) -> list[InputRecording]:
    """The recordings, cleaned, each once. Raises `DataError` where one cannot be used, or there are none."""
    found: list[InputRecording] = []
    failures: list[Failure] = []
    known: set[str] = set()
    for item in each_recording(files, run.layout, format=format, split=split):
        if isinstance(item, Failure):
            if not item.expected:
                failures.append(item)
            continue
        try:
            clip = cleaned(item.clip, run.layout)
        except Unusable as unusable:
            failures.append(Failure(item.path, printable(item.clip.name, 255), str(unusable)))
            continue
        if not clip.keypoints.any():
            failures.append(Failure(item.path, clip.name, "has no usable frames: no joint was seen"))
            continue
        item = InputRecording(item.path, clip, item.frame_rate)
        if (digest := _digest(item)) in known:
            note(f"Note: {item.path}: {clip.name} is given twice and counts once.")
            continue
        known.add(digest)
        found.append(item)
    if failures:
        others = f", as are {len(failures) - 1} more" if len(failures) > 1 else ""
        raise DataError(f"{str(failures[0]).rstrip('.')}; it is of no use{others}: leave it out, or mend it.")
    if not found:
        raise DataError("there were no recordings in the files given: see docs/formats.md for what is read.")
    return found


def _digest(item: InputRecording) -> str:
    """SHA-256 of a recording's joints."""
    return hashlib.sha256(np.ascontiguousarray(item.clip.keypoints).tobytes()).hexdigest()


def _fingerprint(item: InputRecording) -> dict[str, Any]:
    return {
        "file": item.path.name,
        "recording": item.clip.name,
        "frames": item.clip.keypoints.shape[1],
        "sha256": _digest(item),
    }


def _clips_to_fit(run: Run, store: SkeletonStore, note: Callable[[str], None]) -> tuple[np.ndarray, np.ndarray, str]:
    """(numbers, labels, which) of the clips that stand for recordings of a new class."""
    source = runs.read_json(run.folder, runs.DATA)
    if not source.get("training"):
        raise RunError(
            f"{run.folder} holds imported weights and knows no clips to compare with: `skag train DATA.h5 --from "
            f"{run.folder}` learns the new class with the others."
        )
    if run.config.train.select_on != "test":
        held = held_out_clips(run, store)
        if (np.bincount(held.labels, minlength=2) >= 2).sum() >= 2:
            return held.numbers, held.labels, "held-out"
    if store.fingerprint != run.fingerprint:
        raise RunError(f"{store.path} is not the store {run.folder} was trained on: give that one with --data.")
    note(
        f"Note: {run.folder} held out too few clips to fit on, so its training clips are taken: "
        "a new class will be found less often than they say."
    )
    return (*_trained_on(run, store), "training")


def _trained_on(run: Run, store: SkeletonStore) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the training clips in the store, and their labels as the run numbers its classes."""
    part = as_trained(store, run.classes)
    numbers = part.of_file(np.array(runs.read_json(run.folder, runs.DATA)["training"], np.int64))
    return store.of_file(part.in_file(numbers)), part.labels[numbers].astype(np.int64)


def _trained_prototypes(
    run: Run, store: SkeletonStore, device: torch.device, embedded: Callable[[Clips], np.ndarray]
) -> np.ndarray:
    """Prototypes of the trained classes, `[K, D]`, of at most so many training clips of each."""
    numbers, labels = _trained_on(run, store)
    chosen = []
    for k in range(len(run.trained)):
        own = numbers[labels == k]
        if not len(own):
            raise RunError(f"{run.folder} has no training clips of {run.classes[k]!r} to compare with.")
        chosen.append(own[np.linspace(0, len(own) - 1, min(len(own), _MOST_CLIPS)).astype(int)])
    vectors = embedded(prepare(store, np.concatenate(chosen), run.config.data, device))
    ends = np.cumsum([len(own) for own in chosen])[:-1]
    return prototypes(np.split(vectors, ends))


def prototypes(groups: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of each group of embeddings `[*, D]` of length 1, of length 1 again: float32 `[len(groups), D]`."""
    return unit(np.stack([group.mean(0) for group in groups])).astype(np.float32)


def _texts(
    run: Run, name: str, description: str | None, note: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Vectors of what is said of the trained classes `[K, W]`, and of the new one `[W]`; None without a description."""
    if description is None:
        return None
    read = getattr(run.classifier, "text_vectors", None)
    if read is None:
        note(f"Note: method {run.config.method} reads no texts here: the description is kept and changes nothing.")
        return None
    said = method(run.config.method).sentences(run)
    candidates = [Candidate(each, (said[each],) if each in said else ()) for each in run.trained]
    vectors = np.asarray(read([*candidates, Candidate(name, (description,))]), np.float64)
    return vectors[:-1], vectors[-1]


def expected(texts: np.ndarray, prototypes: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Where clips of a class said to be `text` `[W]` should lie, `[D]` of length 1: by ridge regression from the
    `texts` `[K, W]` of known classes to their `prototypes` `[K, D]`."""
    mean, centre = texts.mean(0), prototypes.mean(0)
    weights = ridge(texts - mean, prototypes - centre, TEXT_PENALTY)
    return unit((text - mean) @ weights + centre)


def pulled(prototype: np.ndarray, towards: np.ndarray | None, pull: float) -> np.ndarray:
    return prototype if towards is None else unit((1 - pull) * prototype + pull * towards)


def fit(
    held: np.ndarray,
    labels: np.ndarray,
    trained: np.ndarray,
    new: np.ndarray,
    texts: tuple[np.ndarray, np.ndarray] | None,
    seed: int = 0,
) -> Fitted:
    """Fit a new class of the embedded recordings `new` `[n, D]` beside `trained` prototypes `[K, D]`, on embedded clips
    `held` `[H, D]` of the trained classes `labels` `[H]`; all are of length 1.

    Every class is left out in turn: some of its clips, as many as there are recordings, make its prototype, the rest
    are to be taken for it, and all others for one of the others. Scale and pull are the likeliest, every class
    counting alike. A shift of the boundary is not fitted: the network has learned from the classes that are left out,
    so their clips lie nearer their prototypes than a new class's do, and a fitted one would give few clips to it.
    """
    rng, counts = np.random.default_rng(seed), np.bincount(labels[labels >= 0], minlength=len(trained))
    left_out = np.flatnonzero(counts >= 2)
    if len(left_out) > _MOST_CLASSES:
        left_out = np.sort(rng.choice(left_out, _MOST_CLASSES, replace=False))
    similar = held @ trained.T  # [H, K]
    found: dict[float, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {
        pull: [] for pull in (PULLS if texts is not None else PULLS[:1])
    }
    for c in left_out:
        own, others = np.flatnonzero(labels == c), np.flatnonzero((labels != c) & (labels >= 0))
        nearest = np.delete(similar, c, 1).max(1)
        towards = None
        if texts is not None:
            known = np.arange(len(trained)) != c
            towards = expected(texts[0][known], trained[known], texts[0][c])
        for _ in range(_DRAWS):
            some = rng.permutation(own)
            count = min(len(new), len(own) - 1)
            prototype = prototypes([held[some[:count]]])[0]
            asked = np.concatenate([some[count:], others])
            is_new = np.arange(len(asked)) < len(own) - count
            weight = np.where(is_new, 1 / is_new.sum(), 1 / np.maximum(counts[labels[asked]], 1))
            for pull, parts in found.items():
                margin = held[asked] @ pulled(prototype, towards, pull) - nearest[asked]
                parts.append((margin, is_new, weight))
    best: tuple[float, float, float] | None = None
    for pull, parts in found.items():
        margin, is_new, weight = (np.concatenate([part[n] for part in parts]) for n in range(3))
        loss, scale = _logistic(margin, is_new, weight)
        if best is None or loss < best[0]:
            best = (loss, pull, scale)
    assert best is not None
    _, pull, scale = best
    margin, is_new, weight = (np.concatenate([part[n] for part in found[pull]]) for n in range(3))
    says_new = margin > 0
    towards = None if texts is None else expected(texts[0], trained, texts[1])
    return Fitted(
        prototype=pulled(prototypes([new])[0], towards, pull).astype(np.float32),
        pull=pull,
        scale=scale,
        classes=len(left_out),
        new_found=100 * float(np.average(says_new[is_new], weights=weight[is_new])),
        old_kept=100 * float(np.average(~says_new[~is_new], weights=weight[~is_new])),
    )


def _logistic(margin: np.ndarray, is_new: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """(loss, scale) under which scale * margin are the likeliest log-odds of `is_new`."""
    from scipy.optimize import minimize_scalar

    signed, share = np.where(is_new, margin, -margin), weight / weight.sum()
    found = minimize_scalar(
        lambda scale: float((share * np.logaddexp(0, -scale * signed)).sum()), bounds=_SCALES, method="bounded"
    )
    return float(found.fun), float(found.x)


def _with_one_more(earlier: Added | None, trained: np.ndarray, name: str, description: str, found: Fitted) -> Added:
    one = Added(
        (name,),
        (description,),
        trained,
        found.prototype[None],
        np.array([found.scale], np.float32),
    )
    if earlier is None:
        return one
    return Added(
        (*earlier.names, *one.names),
        (*earlier.descriptions, *one.descriptions),
        trained,
        np.concatenate([earlier.prototypes, one.prototypes]),
        np.concatenate([earlier.scale, one.scale]),
    )


def write(run: Run, out: Path, added: Added, record: dict[str, Any]) -> None:
    """The run folder `out`: `run` with one more added class; it is a run once its config.json is there."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(run.folder.iterdir()):
        if path.name in (*_LEFT_BEHIND, runs.CONFIG) or path.name.startswith(("predictions-", "calibration-", ".")):
            continue
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, out / path.name)
    added.save(out)
    runs.write_environment(out, next(run.model.parameters()).device)
    facts = runs.read_json(run.folder, runs.CONFIG)
    origin = {"run": str(run.folder.resolve()), "sha256": network_hash(run.folder)}
    runs.write_json(
        out / runs.CONFIG,
        facts | {"added": [*facts.get("added", ()), record], "added_to": facts.get("added_to", origin)},
    )
