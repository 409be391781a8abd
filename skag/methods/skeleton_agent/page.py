"""SkeletonAgent's parts of the report page: dialogues, critical joints, and what every refresh changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from ...dialogue.exchanges import Exchange
from ...dialogue.formats import FormatProblem, read_critical_joints
from ...inference.loaded import Run
from ...results.report import Texts, plain, said
from .class_knowledge import ClassKnowledge
from .refreshes import RefreshRecord, pair_changes
from .script import MOVEMENTS


def page_parts(
    run: Run,
    dialogue: Mapping[str, Exchange],
    known: Sequence[ClassKnowledge] | None,
    records: Sequence[RefreshRecord],
    texts: Texts,
) -> dict[str, Any]:
    """Plain values for the page: `dialogues` and `critical` of every class as the kept network was trained with them
    (`known`, `critical` None without agents), and the `refreshes`; texts stand in `texts`."""

    @cache
    def fared(m: int, n: int) -> dict[int, int | None]:
        """By the epoch of the refreshes that asked about a pair: its count once the answers were trained with."""
        return {change.epoch: change.after for change in pair_changes(records, m, n)}

    rounds = [
        {number: dialogue[key] for number, key in sorted(each.dialogue.items()) if key in dialogue}
        for each in known or [ClassKnowledge("", (), {})] * len(run.classes)
    ]
    critical = None
    if known is not None:
        critical = [_critical(*each, run, texts) for each in zip(known, rounds, strict=True)]
    return {
        "dialogues": [[said(exchange, texts) for exchange in each.values()] for each in rounds],
        "critical": critical,
        "refreshes": [_refresh(each, fared, run, dialogue, texts) for each in records],
    }


def _critical(known: ClassKnowledge, rounds: dict[int, Exchange], run: Run, texts: Texts) -> dict[str, Any]:
    """A class's sentence and critical joints, these with how they move where round 4 says so."""
    moves = {}
    if MOVEMENTS.number in rounds:
        with suppress(FormatProblem):
            lines = read_critical_joints(rounds[MOVEMENTS.number].text, run.layout, run.layout.num_joints)
            moves = {each.joint: each.movement for each in lines}
    joints = [run.layout.index[joint] for joint in known.joints]
    return {"sentence": texts(known.sentence), "joints": [[joint, texts(moves.get(joint))] for joint in joints]}


def _refresh(
    refresh: RefreshRecord,
    fared: Callable[[int, int], dict[int, int | None]],
    run: Run,
    dialogue: Mapping[str, Exchange],
    texts: Texts,
) -> dict[str, Any]:
    """One refresh: who was taken for whom how often, then and once the answers were trained with, what was asked and
    answered, and what changed."""
    number = {name: k for k, name in enumerate(run.classes)}
    index, record = run.layout.index, refresh.record
    answers = {dialogue[key].class_name: dialogue[key] for key in record.get("exchanges", ()) if key in dialogue}
    similar = record.get("similar", {})
    asked = []
    for name in (name for name in dict.fromkeys([*similar, *answers, *refresh.changed]) if name in number):
        m, change = number[name], refresh.changed.get(name)
        others = [number[other] for other in similar.get(name, ()) if other in number]
        asked.append(
            {
                "class": m,
                "similar": [[n, int(refresh.confusions[m, n]), fared(m, n).get(refresh.epoch)] for n in others],
                "said": said(answers[name], texts) if name in answers else None,
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
        "failed": [[number.get(name), plain(reason)] for name, reason in record.get("failed", ())],
        "over_budget": [number[name] for name in record.get("over_budget", ()) if name in number],
        "classes": asked,
    }
