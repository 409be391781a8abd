"""The report of a run: one page that shows what it confuses and why, for any browser, without a network.

`report_data` gathers everything as plain values, `write_report` puts them into the page of `report_page/` with its
style and scripts. What comes from files and models (names, dialogues) is data to the script, which only ever shows it
as text; the page's content policy allows its own script and style by their hashes and nothing else.

Moving skeletons are stored with two characters a coordinate and a bounded number of clips, so that the page of 60
classes stays under 5 MB.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from .. import metrics, runs
from ..dialogue.exchanges import Exchange, spec_of
from ..errors import DataError, RunError
from ..inference.loaded import Run
from ..inference.scores import Predictions
from ..methods.base import Findings
from ..skeleton.store import SkeletonStore
from ..version import __version__
from . import analysis
from .drawing import View, view

REPORT = "report.html"
_FOLDER = Path(__file__).with_name("report_page")
_SCRIPTS = ("data", "clips", "overview", "matrix", "pairs", "classes", "refreshes", "main")  # as they are joined
_DIGITS = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", "S1")
_REACH = 1.5  # points lie within -1 to 1 but for joints that jump away
_LEVELS = 4094  # of a coordinate, in two digits; the number after the last stands for no joint
_LONGEST = 90  # frames kept of a clip
_SHORTEST = 24  # frames kept of a long clip, however many classes there are
_CLIP_CHARACTERS, _CLIP_CHARACTERS_PER_CLASS = 3_000_000, 15_000  # the greater of the two is spent on clips
_PER_PAIR, _PER_CLASS = 3, 8  # wrong clips kept


class Texts:
    """Texts by number, each once: the prompts of most classes are the same."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str | None) -> int | None:
        return None if not text else self.numbers.setdefault(plain(text), len(self.numbers))


def write_report(folder: Path, data: dict[str, Any]) -> Path:
    """Write `report.html` of what `report_data` has gathered into a run folder; returns its path."""
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    script = "\n".join((_FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    page = Template((_FOLDER / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(data["title"]),
        style=style,
        script=script,
        style_hash=_content_hash(style),
        script_hash=_content_hash(script),
        # escaped beyond JSON's needs, so that no text can end the element or begin another
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e"),
    )
    path = folder / REPORT
    runs.write_whole(path, lambda file: file.write(page.encode()))
    return path


def _content_hash(text: str) -> str:
    """A text as content policies name it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def plain(text: str) -> str:
    """Text with a mark in the place of control characters, direction marks and half characters."""
    if text.replace("\n", "").isprintable():  # nearly always, and much faster
        return text
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in text)


def said(exchange: Exchange, texts: Texts) -> dict[str, Any]:
    """One exchange as the page shows it; `came` only where something else is used than what came."""
    return {
        "round": exchange.round,
        "by": plain(spec_of(exchange.identity)),
        "question": texts(exchange.base[-1]["content"]),
        "answer": texts(exchange.text),
        "came": texts(exchange.answer) if exchange.repaired else None,
        "notes": [plain(note) for note in exchange.notes],
    }


def report_data(
    run: Run, store: SkeletonStore, predictions: Predictions, document: dict[str, Any], findings: Findings
) -> dict[str, Any]:
    """Everything that the page shows, as plain values; texts stand in `texts` once, and elsewhere by number.

    `predictions` are of clips of `store`, `document` is what `confusion.analyze_confusion` found in them, `findings`
    are the method's own. Raises `RunError` or `DataError`.
    """
    texts = Texts()
    classes, layout = predictions.classes, run.layout
    matrix = metrics.confusion_matrix(predictions.labels, predictions.probabilities.argmax(axis=1), len(classes))
    own = {"dialogues": [[] for _ in classes], "critical": None, "refreshes": [], **findings.page(texts)}
    values = {
        "title": plain("/".join(run.folder.resolve().parts[-2:])),
        "facts": _facts(run, store, predictions, findings),
        "split": plain(predictions.split),
        "classes": [plain(name) for name in classes],
        "joints": [plain(joint) for joint in layout.joints],
        "bones": [[layout.index[child], layout.index[parent]] for child, parent in layout.bones.items()],
        "analysis": _analysis(document),
        "counts": [[int(m), int(n), int(matrix[m, n])] for m, n in zip(*np.nonzero(matrix), strict=True)],
        "together": analysis.confusion_order(matrix).tolist(),
        "course": _course(run),
        **own,
        **_clips(store, predictions),
    }
    values["clips"] += [
        {"name": "", "title": plain(drawn.title), "note": plain(drawn.facts), **_moving(drawn, _LONGEST)}
        for drawn in findings.moving
    ]
    return {**values, "texts": list(texts.numbers), "version": __version__}


def _analysis(document: dict[str, Any]) -> dict[str, Any]:
    """The part of the document that the page shows; pairs by the numbers of their classes, and only what became of
    them in training."""
    number = {row["class"]: k for k, row in enumerate(document["per_class"])}
    shown = (
        "clips", "top1", "top1_low", "top1_high", "top5", "mean_class", "ece", "ece_by_chance", "mean_confidence",
        "sets", "per_class", "calibration", "comparison", "refreshes",
    )  # fmt: skip
    return {name: document[name] for name in shown if name in document} | {
        "remarks": [plain(text) for text in document["remarks"]],
        "missing": [plain(text) for text in document["missing"]],
        "trained": [
            [number[pair["true"]], number[pair["predicted"]], pair["refreshes"]]
            for pair in document["pairs"]
            if pair.get("refreshes")
        ],
    }


def _facts(run: Run, store: SkeletonStore, predictions: Predictions, findings: Findings) -> list[tuple[str, str]]:
    """What the run is, as names and values."""
    views = predictions.num_views
    found = {
        "Recipe": run.config.recipe,
        "Stream": run.config.data.stream,
        "Data": store.path.name,
        "Clips": f"split {predictions.split}, {views} view{'s' if views > 1 else ''} each",
        "Layout": f"{run.layout.name}, {run.layout.num_joints} joints",
        **findings.facts,
    }
    return [(name, plain(value)) for name, value in found.items()]


def read_records(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file that may still be written to. Raises `RunError`."""
    try:
        records = runs.read_lines(path)
    except ValueError:
        records = [None]
    if not all(isinstance(record, dict) for record in records):
        raise RunError(f"{path} is damaged: take it from a copy, or train the run again.")
    return records


def _course(run: Run) -> dict[str, Any]:
    """Accuracy on the clips trained on and on those that chose the epoch, after every epoch, and which was kept."""
    metrics = read_records(run.folder / runs.METRICS)
    if metrics:  # of several stages the last
        metrics = [record for record in metrics if record.get("stage") == metrics[-1].get("stage")]
    try:
        return {
            "epochs": [int(record["epoch"]) for record in metrics],
            "train": [round(record["train_top1"], 2) for record in metrics],
            "held_out": [round(record["val_top1"], 2) for record in metrics],
            "kept": run.epoch,
        }
    except (KeyError, TypeError) as error:
        raise RunError(f"{run.folder / runs.METRICS} is damaged ({error}): train the run again.") from None


# ---- clips


def _clips(store: SkeletonStore, predictions: Predictions) -> dict[str, Any]:
    """The clips that the page plays: of every class those recognised most surely, and those it gets wrong.

    `typical` and `wrong` hold, of every class, numbers of `clips`, the surest first and by the class it was taken for.
    """
    numbers = store.splits.get(predictions.split, np.empty(0, int))
    if [store.names[number] for number in numbers] != predictions.names:
        raise DataError(f"{store.path} does not hold the clips that were predicted: run `skag eval` again.")
    num_classes = len(predictions.classes)
    predicted = predictions.probabilities.argmax(axis=1)
    sure = predictions.probabilities.max(axis=1)
    budget = max(_CLIP_CHARACTERS, _CLIP_CHARACTERS_PER_CLASS * num_classes)
    per_frame = 2 * store.layout.num_joints * store.layout.dims
    longest = int(np.clip(0.4 * budget / (num_classes * per_frame), _SHORTEST, _LONGEST))
    clips: list[dict[str, Any]] = []
    typical: list[list[int]] = [[] for _ in range(num_classes)]
    wrong: list[list[int]] = [[] for _ in range(num_classes)]
    for at, number, kept in _wanted(store, predictions, numbers, predicted, sure, typical, wrong):
        try:
            clip = _moving(view(store, number), longest)
        except DataError:  # nobody is seen in it
            continue
        budget -= len(clip["points"])
        if budget < 0:
            break
        known = {} if at is None else {"predicted": int(predicted[at]), "sure": round(100 * float(sure[at]), 1)}
        kept.append(len(clips))
        clips.append({"name": plain(store.names[number]), "label": int(store.labels[number]), **known, **clip})
    return {"clips": clips, "typical": typical, "wrong": wrong, "flat": store.layout.dims == 2}


def _wanted(
    store: SkeletonStore,
    predictions: Predictions,
    numbers: np.ndarray,
    predicted: np.ndarray,
    sure: np.ndarray,
    typical: list[list[int]],
    wrong: list[list[int]],
) -> Iterator[tuple[int | None, int, list[int]]]:
    """(place among the predictions, number in the store, list that keeps it) of clips, the most telling first.

    One clip of every class comes first, then one of every confusion, then more of both.
    """
    labels = predictions.labels
    order = np.argsort(-sure, kind="stable")
    right = {k: order[(labels[order] == k) & (predicted[order] == k)] for k in range(len(typical))}
    pairs: dict[tuple[int, int], list[int]] = {}
    for at in order:
        if labels[at] != predicted[at]:
            pairs.setdefault((int(labels[at]), int(predicted[at])), []).append(int(at))
    most_first = sorted(pairs, key=lambda pair: (-len(pairs[pair]), pair))
    for k, found in right.items():
        if len(found):
            yield int(found[0]), int(numbers[found[0]]), typical[k]
        elif not (labels == k).any():
            for number in np.flatnonzero(store.labels == k)[:1]:  # the split has no clip of the class
                yield None, int(number), typical[k]
    for turn in range(_PER_PAIR):
        for k, n in most_first:
            if turn < len(pairs[k, n]) and len(wrong[k]) < _PER_CLASS:
                at = pairs[k, n][turn]
                yield at, int(numbers[at]), wrong[k]
        for k, found in right.items():
            if turn == 0 and len(found) > 1:
                middle = found[len(found) // 2]
                yield int(middle), int(numbers[middle]), typical[k]


def _moving(drawn: View, longest: int) -> dict[str, Any]:
    """A clip in at most `longest` frames: `points` holds two digits of base 64 for every coordinate, frames first."""
    points = drawn.points[..., :2] if drawn.layout.dims == 2 else drawn.points
    points = points[:, np.isfinite(points).any(axis=(0, 2, 3))]  # bodies that are seen at all
    total = len(points)
    step = -(-total // longest)
    points = points[::step]
    levels = np.round((np.clip(points, -_REACH, _REACH) / _REACH + 1) / 2 * _LEVELS)
    levels = np.where(np.isfinite(points), levels, _LEVELS + 1).astype(int).ravel()
    digits = _DIGITS[np.stack([levels // 64, levels % 64], axis=1)]
    return {
        "frames": total,
        "bodies": points.shape[1],
        "step": round(step / drawn.frame_rate, 4),
        "points": digits.tobytes().decode(),
    }
