"""Replaying dialogues with nobody to ask: what `--offline` and `--dry-run` rest on.

A question is found in the store by everything that shaped its answer, the backend's identity among it. A server is
asked for a part of that, the digest of its model; with no server the identity is taken from what the store holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..backends import open_backend
from ..backends.knowledge import is_there
from ..backends.names import LanguageModel
from ..errors import DialogueError
from ..skeleton.layouts import Layout
from ..skeleton.store import SkeletonStore
from .describe import DescribeReport, describe
from .exchanges import spec_of
from .interview import Question, Respondent
from .prompts import Prompts
from .store import DialogueStore


def identities_of(
    llm: str,
    dialogues: DialogueStore,
    *,
    store: SkeletonStore | None = None,
    protocol: str | None = None,
    options: dict[str, Any] | None = None,
) -> list[dict]:
    """Identities under which `llm` may have answered, the likeliest first; no network.

    Of a server's model: all that the store holds answers of, the latest first, whatever other options they were asked
    with than those of `options`. `measured` and knowledge files are what they are now; a knowledge file that is gone
    is looked up like a server's model.
    """
    name = LanguageModel.parse(llm)
    if name.is_measured or (name.is_file and is_there(name.model)):
        return [open_backend(llm, store=store, protocol=protocol).identity()]
    if name.is_file:
        kept_as = LanguageModel.of({**name.identity, "model": Path(name.model).stem})
        stored = _stored(llm, dialogues, {}) or _stored(kept_as.spec, dialogues, {})
        return stored or [open_backend(llm, store=store, protocol=protocol).identity()]
    return _stored(llm, dialogues, options or {})


def _stored(llm: str, dialogues: DialogueStore, options: dict[str, Any]) -> list[dict]:
    def fits(identity: dict) -> bool:
        used = identity.get("options")
        used = used if isinstance(used, dict) else {}
        return spec_of(identity) == llm and all(used.get(name) == value for name, value in options.items())

    return [identity for identity in reversed(dialogues.identities()) if fits(identity)]


def replay(
    identities: Sequence[dict],
    dialogues: DialogueStore,
    classes: Sequence[str],
    layout: Layout,
    prompts: Prompts,
    *,
    fallback: Respondent | None = None,
    structured: bool | None = None,
) -> DescribeReport:
    """The rounds before training of all classes from the store alone, by the one identity that answered most of them.

    Of several the first; without any, everything is missing. `fallback` and `structured` as for `describe`.
    """
    reports = [
        describe(None, dialogues, classes, layout, prompts, identity=each, fallback=fallback, structured=structured)
        for each in identities or [{}]
    ]
    return min(reports, key=lambda report: sum(len(question.rounds_left) for question in report.missing))


def missing_distinctions(questions: Sequence[Question]) -> DialogueError:
    """One line that names every question asked while training that a store does not answer."""
    against = (f"{question.class_name!r} against {', '.join(map(repr, question.similar))}" for question in questions)
    each = list(dict.fromkeys(against))
    rounds = ", ".join(map(str, dict.fromkeys(question.round for question in questions)))
    return DialogueError(
        f"{len(each)} questions of round {rounds} are not in the dialogue store ({'; '.join(each)}), and their "
        "classes kept the sentences they had: train without --offline, or as the run to be repeated was trained."
    )
