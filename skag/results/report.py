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
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from .. import __version__, runs
from ..dialogue.exchanges import Exchange, spec_of
from ..errors import DataError, RunError
from ..inference.evaluate import Predictions, Run
from ..methods.skeleton_agent.refreshes import Refresh, Told, pair_changes
from ..methods.skeleton_agent.selector import FormatProblem, read_critical_joints
from ..skeleton.store import SkeletonStore
from . import analysis
from .drawing import FRAME_RATE, view

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


class _Texts:
    """Texts by number, each once: the prompts of most classes are the same."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str | None) -> int | None:
        return None if not text else self.numbers.setdefault(_plain(text), len(self.numbers))


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


def _plain(text: str) -> str:
    """Text with a mark in the place of control characters, direction marks and half characters."""
    if text.replace("\n", "").isprintable():  # nearly always, and much faster
        return text
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in text)


def report_data(
    run: Run,
    store: SkeletonStore,
    predictions: Predictions,
    document: dict[str, Any],
    dialogue: Sequence[Exchange],
    history: Sequence[Refresh],
    told: Sequence[Told] | None,
) -> dict[str, Any]:
    """Everything that the page shows, as plain values; texts stand in `texts` once, and elsewhere by number.

    `predictions` are of clips of `store`, `document` is what `confusion.analyze_confusion` found in them; `dialogue`,
    `history` and `told` are what `refreshes` reads in the run folder. Raises `RunError` or `DataError`.
    """
    texts = _Texts()
    classes, layout = predictions.classes, run.layout
    matrix = analysis.confusion_matrix(predictions.labels, predictions.probabilities.argmax(axis=1), len(classes))
    exchanges = {exchange.key: exchange for exchange in dialogue}
    rounds = _rounds(classes, exchanges, history, run.epoch)
    records = _records(run.folder / runs.REFRESHES)

    @cache
    def fared(m: int, n: int) -> dict[int, int | None]:
        """By the epoch of the refreshes that asked about a pair: its count once the answers were trained with."""
        return {change.epoch: change.after for change in pair_changes(history, m, n)}

    values = {
        "title": _plain("/".join(run.folder.resolve().parts[-2:])),
        "facts": _facts(run, store, predictions, dialogue),
        "split": _plain(predictions.split),
        "classes": [_plain(name) for name in classes],
        "joints": [_plain(joint) for joint in layout.joints],
        "bones": [[layout.index[child], layout.index[parent]] for child, parent in layout.bones.items()],
        "analysis": _analysis(document),
        "counts": [[int(m), int(n), int(matrix[m, n])] for m, n in zip(*np.nonzero(matrix), strict=True)],
        "together": analysis.confusion_order(matrix).tolist(),
        "course": _course(run),
        "dialogues": [[_said(exchange, texts) for exchange in each.values()] for each in rounds],
        "critical": None if told is None else [_told(*each, run, texts) for each in zip(told, rounds, strict=True)],
        "refreshes": [
            _refresh(record, refresh, fared, run, exchanges, texts)
            for record, refresh in zip(records, history, strict=True)
        ],
        **_clips(store, predictions),
    }
    return {**values, "texts": list(texts.numbers), "version": __version__}


def _analysis(document: dict[str, Any]) -> dict[str, Any]:
    """The part of the document that the page shows; pairs by the numbers of their classes, and only what became of
    them in training."""
    number = {row["class"]: k for k, row in enumerate(document["per_class"])}
    shown = ("clips", "top1", "top1_low", "top1_high", "top5", "mean_class", "ece", "ece_by_chance", "mean_confidence")
    shown += ("sets", "per_class", "calibration", "comparison", "refreshes")
    return {name: document[name] for name in shown if name in document} | {
        "remarks": [_plain(text) for text in document["remarks"]],
        "missing": [_plain(text) for text in document["missing"]],
        "trained": [
            [number[pair["true"]], number[pair["predicted"]], pair["refreshes"]]
            for pair in document["pairs"]
            if pair["refreshes"]
        ],
    }


def _facts(
    run: Run, store: SkeletonStore, predictions: Predictions, dialogue: Sequence[Exchange]
) -> list[tuple[str, str]]:
    """What the run is, as names and values."""
    views = predictions.num_clips_per_sample
    found = {
        "Recipe": run.config.recipe,
        "Stream": run.config.data.stream,
        "Data": store.path.name,
        "Clips": f"split {predictions.split}, {views} view{'s' if views > 1 else ''} each",
        "Layout": f"{run.layout.name}, {run.layout.num_joints} joints",
        "Agents": ", ".join(sorted({spec_of(exchange.identity) for exchange in dialogue})) or "none",
    }
    return [(name, _plain(value)) for name, value in found.items()]


def _records(path: Path) -> list[dict[str, Any]]:
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
    metrics = _records(run.folder / runs.METRICS)
    try:
        return {
            "epochs": [int(record["epoch"]) for record in metrics],
            "train": [round(record["train_top1"], 2) for record in metrics],
            "held_out": [round(record["val_top1"], 2) for record in metrics],
            "kept": run.epoch,
        }
    except (KeyError, TypeError) as error:
        raise RunError(f"{run.folder / runs.METRICS} is damaged ({error}): train the run again.") from None


# ---- dialogues


def _rounds(
    classes: Sequence[str], exchanges: dict[str, Exchange], history: Sequence[Refresh], epoch: int | None
) -> list[dict[int, Exchange]]:
    """The dialogue of every class by round, as the network of `epoch` was trained with it."""
    rounds: dict[str, dict[int, Exchange]] = {name: {} for name in classes}
    later = frozenset().union(*(refresh.exchanges for refresh in history))
    used = [key for key in exchanges if key not in later]
    for refresh in history:
        if epoch is None or refresh.effective <= epoch:
            used += sorted(refresh.exchanges)
    for exchange in (exchanges[key] for key in used if key in exchanges):
        if exchange.rejected is None and exchange.class_name in rounds:
            rounds[exchange.class_name][exchange.round] = exchange
    return [dict(sorted(rounds[name].items())) for name in classes]


def _said(exchange: Exchange, texts: _Texts) -> dict[str, Any]:
    """One exchange as the page shows it; `came` only where something else is used than what came."""
    return {
        "round": exchange.round,
        "by": _plain(spec_of(exchange.identity)),
        "question": texts(exchange.base[-1]["content"]),
        "answer": texts(exchange.text),
        "came": texts(exchange.answer) if exchange.repaired else None,
        "notes": [_plain(note) for note in exchange.notes],
    }


def _told(told: Told, rounds: dict[int, Exchange], run: Run, texts: _Texts) -> dict[str, Any]:
    """A class's sentence and critical joints, these with how they move where round 4 says so."""
    moves = {}
    if 4 in rounds:
        with suppress(FormatProblem):
            moves = {each.joint: each.movement for each in read_critical_joints(rounds[4].text, run.layout)}
    joints = [run.layout.index[joint] for joint in told.joints]
    return {"sentence": texts(told.sentence), "joints": [[joint, texts(moves.get(joint))] for joint in joints]}


def _refresh(
    record: dict[str, Any],
    refresh: Refresh,
    fared: Callable[[int, int], dict[int, int | None]],
    run: Run,
    exchanges: dict[str, Exchange],
    texts: _Texts,
) -> dict[str, Any]:
    """One refresh: who was taken for whom how often, then and once the answers were trained with, what was asked and
    answered, and what changed."""
    number = {name: k for k, name in enumerate(run.classes)}
    index = run.layout.index
    answers = {exchanges[key].class_name: exchanges[key] for key in record.get("exchanges", ()) if key in exchanges}
    similar = record.get("similar", {})

    asked = []
    for name in (name for name in dict.fromkeys([*similar, *answers, *refresh.changed]) if name in number):
        m, change = number[name], refresh.changed.get(name)
        others = [number[other] for other in similar.get(name, ()) if other in number]
        asked.append(
            {
                "class": m,
                "similar": [[n, int(refresh.confusions[m, n]), fared(m, n).get(refresh.epoch)] for n in others],
                "said": _said(answers[name], texts) if name in answers else None,
                "change": change
                and {
                    "sentence": [texts(each.sentence) for each in change],
                    "joints": [[index[joint] for joint in each.joints if joint in index] for each in change],
                },
            }
        )
    return {
        "epoch": refresh.epoch,
        "effective": refresh.effective,
        "asked": record.get("asked", 0),
        "recalled": record.get("cached", 0),
        "failed": [[number.get(name), _plain(reason)] for name, reason in record.get("failed", ())],
        "over_budget": [number[name] for name in record.get("over_budget", ()) if name in number],
        "classes": asked,
    }


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
            clip = _moving(store, number, longest)
        except DataError:  # nobody is seen in it
            continue
        budget -= len(clip["points"])
        if budget < 0:
            break
        known = {} if at is None else {"predicted": int(predicted[at]), "sure": round(100 * float(sure[at]), 1)}
        kept.append(len(clips))
        clips.append({"name": _plain(store.names[number]), "label": int(store.labels[number]), **known, **clip})
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


def _moving(store: SkeletonStore, number: int, longest: int) -> dict[str, Any]:
    """A clip in at most `longest` frames: `points` holds two digits of base 64 for every coordinate, frames first."""
    drawn = view(store, number)
    points = drawn.points[..., :2] if store.layout.dims == 2 else drawn.points
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
        "step": round(step / FRAME_RATE, 4),
        "points": digits.tobytes().decode(),
    }
