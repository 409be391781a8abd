"""What a dialogue store holds: who has told what of which classes."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DialogueError
from .exchanges import Exchange, spec_of
from .script import Script
from .store import DialogueStore

_LINE = re.compile(r"(?m)^ *[0-9]{1,4} ?- ?([^:\n]{1,100}?) ?:")


@dataclass
class ToldClass:
    """What one backend has told of one class."""

    wanted: frozenset[int]  # numbers of the rounds before training
    rounds: set[int] = field(default_factory=set)  # of those, the ones with a usable answer
    distinctions: int = 0  # usable answers to rounds asked while training
    asked_again: int = 0  # answers that did not fit
    repaired: int = 0
    joints: tuple[str, ...] = ()  # critical joints, of the latest answer that says how they move

    @property
    def complete(self) -> bool:
        return self.rounds == self.wanted


@dataclass
class ToldBy:
    """What one backend, with one set of options, has told."""

    identity: dict[str, Any]
    exchanges: int = 0
    first: str = ""  # when, UTC, ISO 8601
    last: str = ""
    classes: dict[str, ToldClass] = field(default_factory=dict)

    @property
    def llm(self) -> str:
        return spec_of(self.identity)

    @property
    def options(self) -> str:
        """The rest of the identity in a few words."""
        flat = {name: value for name, value in self.identity.items() if name not in ("backend", "model", "options")}
        options = self.identity.get("options")
        flat |= options if isinstance(options, dict) else {}
        return ", ".join(f"{name} {_short(value)}" for name, value in flat.items())

    def __str__(self) -> str:
        return f"{self.llm} ({self.options})" if self.options else self.llm

    @property
    def complete(self) -> int:
        return sum(told.complete for told in self.classes.values())


def open_existing(path: Path) -> DialogueStore:
    """The store at a path. Raises `DialogueError` where there is none, rather than begin one."""
    store = DialogueStore(path)
    if not len(store):
        raise DialogueError(
            f"{path} holds no dialogue: run `skag describe DATA.h5 --store {path}`, or choose another --store."
        )
    return store


def inventory(store: DialogueStore, script: Script, llm: str | None = None) -> list[ToldBy]:
    """Everyone who has told anything, the latest first; of one backend where `llm` is given. Raises `DialogueError`.

    What is complete is told by the `script`; exchanges of another one are counted and no more.
    """
    wanted, movements = frozenset(script.numbers), script.of("joint_movements")
    found: dict[str, ToldBy] = {}
    for exchange in store:
        by = found.setdefault(json.dumps(exchange.identity, sort_keys=True), ToldBy(exchange.identity))
        by.exchanges += 1
        by.first = min(by.first or exchange.created, exchange.created)
        by.last = max(by.last, exchange.created)
        told = by.classes.setdefault(exchange.class_name, ToldClass(wanted))
        if exchange.rejected is not None:
            told.asked_again += 1
            continue
        told.repaired += any(note.startswith("repaired: ") for note in exchange.notes)
        asked = script.find(exchange.round)
        if asked in script.rounds:
            told.rounds.add(exchange.round)
        elif asked is not None:
            told.distinctions += 1
        if asked is not None and asked == movements:
            told.joints = critical_joint_names(exchange.text)
    chosen = [by for by in found.values() if llm in (None, by.llm)]
    if not chosen:
        raise nothing_by(store.path, llm, {by.llm for by in found.values()})
    return sorted(chosen, key=lambda by: by.last, reverse=True)


def critical_joint_names(text: str) -> tuple[str, ...]:
    """The joints of such an answer as they are called in it, whatever the layout."""
    return tuple(_LINE.findall(text))


def exchanges_of(store: DialogueStore, class_name: str, llm: str | None = None) -> list[tuple[ToldBy, list[Exchange]]]:
    """Everyone who has told of a class, the latest first, with the exchanges by round. Raises `DialogueError`."""
    found: dict[str, tuple[ToldBy, list[Exchange]]] = {}
    for exchange in store.find(class_names=[class_name]):
        by, exchanges = found.setdefault(json.dumps(exchange.identity, sort_keys=True), (ToldBy(exchange.identity), []))
        by.last = max(by.last, exchange.created)
        exchanges.append(exchange)
    if not found:
        raise DialogueError(f"{store.path} has no class {class_name!r}{_nearest(class_name, _names(store))}.")
    chosen = [(by, exchanges) for by, exchanges in found.values() if llm in (None, by.llm)]
    if not chosen:
        raise nothing_by(store.path, llm, {by.llm for by, _ in found.values()})
    for _, exchanges in chosen:
        exchanges.sort(key=lambda exchange: (exchange.round, exchange.created))
    return sorted(chosen, key=lambda each: each[0].last, reverse=True)


def nothing_by(path: Path, llm: str | None, known: Iterable[str]) -> DialogueError:
    return DialogueError(f"{path} has nothing of {llm}: it has answers of {', '.join(sorted(known))}.")


def _names(store: DialogueStore) -> Sequence[str]:
    return sorted({exchange.class_name for exchange in store})


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.casefold(), known, n=1)
    return f" (nearest: {near[0]!r})" if near else f": it has {', '.join(map(repr, known[:10]))}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:8] if re.fullmatch(r"(sha256:)?[0-9a-f]{16,}", text) else text
