"""The report of a run: one page that shows what it confuses and why, for any browser, without a network.

`report_data` gathers everything as plain values, `write_report` puts them into `report_page.html` with its style and
script. What comes from files and models (names, dialogues) is data to the script, which only ever shows it as text;
the page's content policy allows its own script and style by their hashes and nothing else.

Moving skeletons are stored with two characters a coordinate and a bounded number of clips, so that the page of 60
classes stays under 5 MB.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from . import __version__, analysis, runs, selector
from .drawing import FRAME_RATE, view
from .errors import DataError, DialogueError, RunError
from .evaluate import Predictions
from .exchanges import Conversation, Exchange, spec_of
from .layouts import Layout
from .store import SkeletonStore
from .transfer import read_lines

REPORT = "report.html"
_PAGE, _STYLE, _SCRIPT = (Path(__file__).with_name(f"report_page.{kind}") for kind in ("html", "css", "js"))
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


def write_report(folder: Path, predictions: Predictions, result: dict[str, Any], store: Path) -> Path:
    """Write RUN/report.html; returns its path.

    `result` is `analysis.analyse` of the predictions, `store` the skeleton store that holds their clips. What an older
    run, or one without agents, does not have is left out, and the page says so. Raises `RunError`, `DataError` or
    `DialogueError` for damaged files.
    """
    data = report_data(folder, predictions, result, store)
    style, script = (path.read_text(encoding="utf-8") for path in (_STYLE, _SCRIPT))
    page = Template(_PAGE.read_text(encoding="utf-8")).substitute(
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


def report_data(folder: Path, predictions: Predictions, result: dict[str, Any], store: Path) -> dict[str, Any]:
    """Everything that the page shows, as plain values; texts stand in `texts` once, and elsewhere by number."""
    texts = _Texts()
    facts = runs.read_json(folder, runs.CONFIG)
    predicted = predictions.probabilities.argmax(axis=1)
    right = int((predicted == predictions.labels).sum())
    matrix = analysis.confusion_matrix(predictions.labels, predicted, len(predictions.classes))
    layout = Layout.from_dict(facts["layout"], str(folder / runs.CONFIG))
    exchanges = _exchanges(folder)
    refreshes = _records(folder / runs.REFRESHES)
    conversations = _conversations(predictions.classes, exchanges, refreshes)
    with SkeletonStore(store) as opened:
        clips = _clips(opened, predictions)
        data_name = opened.path.name
    values = {
        "title": _plain("/".join(folder.resolve().parts[-2:])),
        "facts": _facts(folder, facts, data_name, predictions, exchanges),
        "split": _plain(predictions.split),
        "classes": [_plain(name) for name in predictions.classes],
        "joints": [_plain(joint) for joint in layout.joints],
        "bones": [[layout.index[child], layout.index[parent]] for child, parent in layout.bones.items()],
        "analysis": {**result, "interval": list(analysis.wilson_interval(right, len(predicted)))},
        "counts": [[int(m), int(n), int(matrix[m, n])] for m, n in zip(*np.nonzero(matrix), strict=True)],
        "training": _training(folder),
        "dialogues": [_dialogue(conversation, texts) for conversation in conversations],
        "critical": _critical_joints(folder, facts, layout, conversations, texts),
        "refreshes": [
            _refresh(record, later, predictions.classes, layout, exchanges, texts)
            for record, later in zip_longest(refreshes, refreshes[1:])
        ],
        **clips,
    }
    return {**values, "texts": list(texts.numbers), "version": __version__}


def _facts(
    folder: Path,
    facts: dict[str, Any],
    data_name: str,
    predictions: Predictions,
    exchanges: dict[str, Exchange],
) -> list[list[str]]:
    """What the run is, as names and values."""
    config = facts["config"]
    told_by = sorted({spec_of(exchange.identity) for exchange in exchanges.values()})
    views = predictions.num_clips_per_sample
    found = [
        ["Recipe", config["recipe"]],
        ["Stream", config["data"]["stream"]],
        ["Data", data_name],
        ["Clips", f"split {predictions.split}, {views} view{'s' if views > 1 else ''} each"],
        ["Layout", f"{facts['layout']['name']}, {len(facts['layout']['joints'])} joints"],
        ["Agents", ", ".join(told_by) or "none"],
    ]
    return [[name, _plain(str(value))] for name, value in found]


def _records(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file that may still be written to. Raises `RunError`."""
    try:
        records = runs.read_lines(path)
    except ValueError:
        records = [None]
    if not all(isinstance(record, dict) for record in records):
        raise RunError(f"{path} is damaged: take it from a copy, or train the run again.")
    return records


def _training(folder: Path) -> dict[str, Any]:
    """Accuracy on the clips trained on and on those that chose the epoch, after every epoch."""
    metrics = _records(folder / runs.METRICS)
    return {
        "epochs": [record["epoch"] for record in metrics],
        "train": [round(record["train_top1"], 2) for record in metrics],
        "held_out": [round(record["val_top1"], 2) for record in metrics],
        "kept": _kept_epoch(folder),
    }


def _kept_epoch(folder: Path) -> int | None:
    """The epoch whose network the run kept, where that is known."""
    import torch

    return torch.load(folder / "best.pt", map_location="cpu", weights_only=True, mmap=True).get("epoch")


# ---- dialogues


def _exchanges(folder: Path) -> dict[str, Exchange]:
    """The exchanges that shaped the run, by key."""
    path = folder / runs.DIALOGUES
    return {exchange.key: exchange for exchange in read_lines(path)} if path.exists() else {}


def _conversations(
    classes: Sequence[str], exchanges: dict[str, Exchange], refreshes: Sequence[dict[str, Any]]
) -> list[Conversation]:
    """The dialogue of every class as the run ended with it."""
    rounds: dict[str, dict[int, Exchange]] = {name: {} for name in classes}
    for exchange in exchanges.values():
        if exchange.round < 6 and exchange.rejected is None and exchange.class_name in rounds:
            rounds[exchange.class_name][exchange.round] = exchange
    for record in refreshes:
        for exchange in _answers(record, exchanges).values():
            rounds.get(exchange.class_name, {})[6] = exchange
    return [Conversation(k, name, dict(sorted(rounds[name].items()))) for k, name in enumerate(classes)]


def _answers(record: dict[str, Any], exchanges: dict[str, Exchange]) -> dict[str, Exchange]:
    """The round 6 exchanges of a refresh, by class name."""
    found = [exchanges[key] for key in record.get("exchanges", []) if key in exchanges]
    return {exchange.class_name: exchange for exchange in found}


def _dialogue(conversation: Conversation, texts: _Texts) -> list[dict[str, Any]]:
    return [_said(exchange, texts) for exchange in conversation.exchanges.values()]


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


def _critical_joints(
    folder: Path, facts: dict[str, Any], layout: Layout, conversations: Sequence[Conversation], texts: _Texts
) -> list[dict[str, Any]] | None:
    """Of every class its critical joints, how each of them moves (round 4) and its sentence; None without agents."""
    if not any(conversation.exchanges for conversation in conversations):
        return None
    with_distinctions = facts["config"]["agents"]["joints_from_distinctions"]
    found = []
    for conversation, sentence in zip(conversations, selector.sentences(conversations), strict=True):
        try:
            mask = selector.critical_mask([conversation], layout, with_distinctions)[0]
            moves = {
                joint.joint: joint.movement
                for joint in selector.read_critical_joints(conversation.text(4) or "", layout)
            }
        except DialogueError:  # a class that was never described
            mask, moves = np.zeros(layout.num_joints), {}
        joints = [[int(joint), texts(moves.get(int(joint)))] for joint in np.flatnonzero(mask)]
        found.append({"joints": joints, "sentence": texts(sentence)})
    return found


def _refresh(
    record: dict[str, Any],
    later: dict[str, Any] | None,
    classes: Sequence[str],
    layout: Layout,
    exchanges: dict[str, Exchange],
    texts: _Texts,
) -> dict[str, Any]:
    """One refresh: who was confused with whom how often (and at the next refresh), what was asked, what changed."""
    number = {name: k for k, name in enumerate(classes)}
    counts, next_counts = (
        {(m, n): count for m, n, count in each.get("confusions", [])} if each else None for each in (record, later)
    )
    answers = _answers(record, exchanges)
    changes = {change["class"]: change for change in record.get("changed", [])}
    asked = []
    for name in dict.fromkeys([*record.get("similar", {}), *answers, *changes]):
        if name not in number:
            continue
        similar = [number[other] for other in record.get("similar", {}).get(name, []) if other in number]
        entry: dict[str, Any] = {
            "class": number[name],
            "similar": [
                [
                    other,
                    *(None if each is None else each.get((number[name], other), 0) for each in (counts, next_counts)),
                ]
                for other in similar
            ],
            "said": _said(answers[name], texts) if name in answers else None,
        }
        if change := changes.get(name):
            entry["change"] = {
                "sentence": [texts(change["sentence_before"]), texts(change["sentence"])],
                "joints": [
                    [layout.index[joint] for joint in change[when] if joint in layout.index]
                    for when in ("joints_before", "joints")
                ],
            }
        asked.append(entry)
    return {
        "epoch": record["epoch"],
        "effective": record.get("effective"),
        "asked": record.get("asked", 0),
        "recalled": record.get("cached", 0),
        "failed": [[number.get(name), _plain(reason)] for name, reason in record.get("failed", [])],
        "over_budget": [number[name] for name in record.get("over_budget", []) if name in number],
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
