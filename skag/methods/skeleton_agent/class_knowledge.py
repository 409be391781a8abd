"""What the network was trained with of every class: the one record of it, `class_knowledge.jsonl` of a run folder.

    {"epoch": 0, "classes": {"sit down": {"sentence": "...", "joints": ["left knee"], "dialogue": {"1": KEY, ...}}}}
    {"epoch": 7, "classes": {...}}

The first line holds all classes as they were before training, every further one those that a refresh changed; `epoch`
is the first that was trained so. `dialogue` names the exchanges about the class by round; they stand in
`dialogues.jsonl`. Runs of version 0.1.0 have no such file: what they were trained with is worked out from
`dialogues.jsonl` and `refreshes.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import runs
from ...dialogue.exchanges import Conversation, Exchange
from ...dialogue.transfer import read_lines
from ...errors import DialogueError, RunError
from ...skeleton.layouts import Layout
from . import selector

FILE = "class_knowledge.jsonl"
_REFRESHES = "refreshes.jsonl"


@dataclass(frozen=True)
class ClassKnowledge:
    """Of one class: the sentence and the critical joints that the network is trained with, and the dialogue."""

    sentence: str
    joints: tuple[str, ...]  # names, in the layout's order
    dialogue: dict[int, str]  # round -> key of the exchange about this class


@dataclass(frozen=True)
class History:
    """The knowledge of every class from an epoch on, in the order of the epochs; empty for a run without agents."""

    classes: tuple[str, ...]
    entries: tuple[tuple[int, dict[str, ClassKnowledge]], ...]  # (first epoch trained with it, the classes it changed)

    def at(self, epoch: int) -> list[ClassKnowledge] | None:
        """What training epoch `epoch` knew of every class, 0: before training; None for a run without agents."""
        known: dict[str, ClassKnowledge] = {}
        for first, changed in self.entries:
            if first <= epoch:
                known |= changed
        return [known[name] for name in self.classes] if self.entries else None


def append(run: Path, epoch: int, known: dict[str, ClassKnowledge]) -> None:
    """Add what is trained with from `epoch` on, of the classes that change."""
    runs.append_line(run / FILE, _line(epoch, known))


def write_worked_out(run: Path, classes: Sequence[str], layout: Layout, joints_from_distinctions: bool) -> None:
    """Give a run of version 0.1.0 the record that it lacks, so that it can go on. Raises `RunError` for a damaged
    file."""
    entries = _worked_out(run, classes, layout, joints_from_distinctions).entries
    lines = [json.dumps(_line(epoch, known), ensure_ascii=False) + "\n" for epoch, known in entries]
    runs.write_lines(run / FILE, lines)


def _line(epoch: int, known: dict[str, ClassKnowledge]) -> dict[str, Any]:
    classes = {
        name: {"sentence": each.sentence, "joints": list(each.joints), "dialogue": each.dialogue}
        for name, each in known.items()
    }
    return {"epoch": epoch, "classes": classes}


def read_dialogue(run: Path) -> dict[str, Exchange]:
    """The exchanges that shaped a run by key, in the order in which they were used; none without agents.

    Raises `RunError` for a damaged file.
    """
    path = run / runs.DIALOGUES
    try:
        return {exchange.key: exchange for exchange in read_lines(path)} if path.exists() else {}
    except DialogueError as error:
        raise RunError(f"{path} is damaged ({str(error).split(': ')[0]}): train the run again.") from None


def read(run: Path, classes: Sequence[str], layout: Layout, joints_from_distinctions: bool) -> History:
    """What a run's network was trained with. `joints_from_distinctions` is the run's setting, which says how an
    earlier version's dialogue was read. Raises `RunError` for a damaged file."""
    if (run / FILE).exists():
        return _recorded(run, classes)
    return _worked_out(run, classes, layout, joints_from_distinctions)


def _recorded(run: Path, classes: Sequence[str]) -> History:
    try:
        entries = tuple(
            (int(line["epoch"]), {name: _class_knowledge(each) for name, each in line["classes"].items()})
            for line in runs.read_lines(run / FILE)
        )
        if not entries or entries[0][0] != 0 or set(entries[0][1]) != set(classes):
            raise ValueError("its first line does not hold all classes")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{run / FILE} is damaged ({error}): take it from a copy, or train the run again.") from None
    return History(tuple(classes), entries)


def _class_knowledge(value: dict[str, Any]) -> ClassKnowledge:
    dialogue = {int(number): str(key) for number, key in value["dialogue"].items()}
    return ClassKnowledge(str(value["sentence"]), tuple(map(str, value["joints"])), dialogue)


def _worked_out(run: Path, classes: Sequence[str], layout: Layout, joints_from_distinctions: bool) -> History:
    """Of a run without the record: rounds 4 and 5 (and an imported round 6) as the Selector reads them, and the changes
    that the refreshes noted."""
    dialogue = read_dialogue(run)
    refreshes = runs.read_lines(run / _REFRESHES)
    try:
        asked_later = {key for refresh in refreshes for key in refresh["exchanges"]}
        rounds: dict[str, dict[int, Exchange]] = {name: {} for name in classes}
        for exchange in dialogue.values():
            usable = exchange.rejected is None and exchange.class_name in rounds
            if usable and exchange.key not in asked_later:
                rounds[exchange.class_name].setdefault(exchange.round, exchange)
        if not any(rounds.values()):
            return History(tuple(classes), ())
        conversations = [Conversation(k, name, rounds[name]) for k, name in enumerate(classes)]
        mask_KV = selector.critical_mask(conversations, layout, with_distinctions=joints_from_distinctions)
        known = {
            name: ClassKnowledge(
                sentence,
                tuple(layout.joints[v] for v in np.flatnonzero(mask_V)),
                {number: exchange.key for number, exchange in rounds[name].items()},
            )
            for name, sentence, mask_V in zip(classes, selector.sentences(conversations), mask_KV, strict=True)
        }
        entries = [(0, known)]
        for refresh in refreshes:
            answers = [dialogue[key] for key in refresh["exchanges"] if key in dialogue]
            latest = {exchange.class_name: {exchange.round: exchange.key} for exchange in answers}
            known = known | {
                name: ClassKnowledge(known[name].sentence, known[name].joints, known[name].dialogue | keys)
                for name, keys in latest.items()
                if name in known
            }
            known |= {
                row["class"]: ClassKnowledge(row["sentence"], tuple(row["joints"]), known[row["class"]].dialogue)
                for row in refresh["changed"]
            }
            entries.append((int(refresh.get("effective", refresh["epoch"] + 1)), known))
    except DialogueError as error:
        raise RunError(f"{runs.DIALOGUES} of the run does not fit its classes: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(
            f"{run / runs.DIALOGUES} or {_REFRESHES} beside it is damaged ({error!r}): train the run again."
        ) from None
    return History(tuple(classes), tuple(entries))
