"""Exchanges and conversations: the records of what was asked and answered, and how they are named.

They know no files: `dialogues` keeps them, `describe` and `questioner` make them, `selector` reads them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..backends.names import LanguageModel
from ..skeleton.layouts import Layout

KEY_VERSION = 1


@dataclass(frozen=True)
class Exchange:
    """One question with its answer, and everything that shaped it."""

    key: str  # SHA-256 of identity, messages and schema: `exchange_key`
    label_set: str  # `label_set_id` of the classes it was first asked for
    class_name: str
    round: int  # its number in the script of the method that asked
    identity: dict  # the backend's: backend, model, digest, options given; no secrets
    messages: tuple[dict[str, str], ...]  # all that was sent, the question last
    prompt_hash: str  # of the prompt files of this round and those before it
    answer: str  # as it came
    similar: tuple[str, ...] = ()  # names of the similar classes, most confused first (of a distinction)
    schema: dict | None = None
    repaired: str = ""  # what is used instead of an answer that did not quite fit
    thoughts: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    seconds: float = 0.0
    created: str = ""  # UTC, ISO 8601
    attempt: int = 0  # 1 and 2: asked again after an answer that did not fit
    notes: tuple[str, ...] = ()  # "rejected: reason", "refused: reason", "repaired: what was done"
    details: dict = field(default_factory=dict)  # what the server said of the answer, and its cost

    @property
    def text(self) -> str:
        """The answer as it is used."""
        return self.repaired or self.answer

    @property
    def rejected(self) -> str | None:
        """Why the answer could not be used, if so: it does not fit its format, or the model refused."""
        return self._noted("rejected") or self.refused

    @property
    def again(self) -> int:
        """How often the question had been put before, in earlier runs of the command, without a usable answer."""
        again = self.details.get("again", 0)
        return again if isinstance(again, int) else 0

    @property
    def refused(self) -> str | None:
        """How the model refused, if it did."""
        return self._noted("refused")

    def _noted(self, kind: str) -> str | None:
        return next((note.removeprefix(f"{kind}: ") for note in self.notes if note.startswith(f"{kind}: ")), None)

    @property
    def base(self) -> tuple[dict[str, str], ...]:
        """The messages up to the question itself, without the turns of answers that did not fit."""
        return self.messages[: len(self.messages) - 2 * self.attempt]

    @property
    def after(self) -> tuple[dict[str, str], ...]:
        """The conversation as it stands after this exchange: history of the next round."""
        return (*self.base, {"role": "assistant", "content": self.text})

    def to_record(self) -> dict[str, Any]:
        """Plain values, as in the journal and in JSONL."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Exchange:
        """The reverse of `to_record`; a field with a default may be missing. Raises `TypeError` for anything else."""
        plain = dict(record)
        for name in plain.keys() & {"messages", "similar", "notes"}:
            plain[name] = tuple(plain[name])
        return cls(**plain)


@dataclass
class Usage:
    """What answers took, summed. A server that does not count its tokens adds none."""

    questions: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    cost: float | None = None  # in the currency of the prices given; None where there were none
    unpriced: int = 0  # questions whose cost is not known

    def add(self, exchange: Exchange) -> None:
        self.questions += 1
        self.tokens_in += exchange.tokens_in or 0
        self.tokens_out += exchange.tokens_out or 0
        self.seconds += exchange.seconds
        cost = exchange.details.get("cost")
        if isinstance(cost, int | float):  # it can have been imported from anywhere
            self.cost = (self.cost or 0.0) + cost
        else:
            self.unpriced += 1


@dataclass(frozen=True)
class Conversation:
    """What was asked and answered about one class; frozen, a refresh makes a new one."""

    class_index: int
    class_name: str
    exchanges: dict[int, Exchange]  # by round, the ones that are used

    def text(self, number: int) -> str | None:
        """The answer of a round as it is used, None where there is none."""
        exchange = self.exchanges.get(number)
        return None if exchange is None else exchange.text


def exchange_key(identity: dict, messages: Sequence[dict[str, str]], schema: dict | None = None, again: int = 0) -> str:
    """Hash of everything that shapes an answer: what it is found by. `again` tells a question that is put anew, after
    all answers to it were unusable, from the same one before."""
    request = {"version": KEY_VERSION, "identity": identity, "messages": list(messages), "schema": schema}
    if again:
        request["again"] = again
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def label_set_id(classes: Sequence[str], layout: Layout) -> str:
    """Short hash of class and joint names."""
    return hashlib.sha256(json.dumps([list(classes), list(layout.joints)]).encode()).hexdigest()[:16]


def spec_of(identity: dict) -> str:
    """Who an identity is, as `--llm` takes it: `measured`, `ollama/MODEL`, `file:NAME`."""
    return LanguageModel.of(identity).spec


def named(spec: str) -> dict[str, str]:
    """What every identity has that `spec_of` calls so."""
    return LanguageModel.parse(spec).identity
