"""Dialogues out of a store and into one: JSON lines, which lose nothing, and text for people to read.

A line of JSON is one exchange (`Exchange.to_record`); the same lines lie in a run folder's `dialogues.jsonl`. Files
from elsewhere are untrusted: every field is checked, and a key that does not follow from its request is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import DialogueError
from .exchanges import Exchange, exchange_key, spec_of
from .file import ROLES
from .store import DialogueStore

RULE = "=" * 80  # ends a block of text, as in the published code
MOST_ROUNDS = 99  # the largest number of a round that a script may give
_BATCH = 500  # exchanges that are put on the disk together
_LONGEST_LINE = 32 << 20  # bytes; an exchange has some ten thousand
_EXACT = 1 << 53  # whole numbers that a float holds
_DEEPEST = 20  # lists in lists; those of skag are two deep


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _message(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"role", "content"} and all(map(_text, value.values()))


_FITS: dict[str, Callable[[Any], bool]] = {  # by the annotation of a field of `Exchange`
    "str": _text,
    "int": lambda value: type(value) is int,
    "int | None": lambda value: value is None or (type(value) is int and abs(value) < _EXACT),
    "float": lambda value: type(value) in (int, float),
    "dict": lambda value: isinstance(value, dict),
    "dict | None": lambda value: value is None or isinstance(value, dict),
    "tuple[str, ...]": _texts,
    "tuple[dict[str, str], ...]": lambda value: isinstance(value, list) and value != [] and all(map(_message, value)),
}


@dataclass(frozen=True)
class ImportReport:
    """What became of the exchanges of a file."""

    exchanges: int
    added: int
    present: int  # were in the store already, with the same content
    kept: int  # were in the store with another answer, which stays


# ---- out


def to_line(exchange: Exchange) -> str:
    """One exchange as a line of JSON, always the same for the same exchange."""
    record = {**exchange.to_record(), "seconds": float(exchange.seconds)}
    return json.dumps(record, sort_keys=True) + "\n"


def to_text(exchange: Exchange) -> str:
    """One exchange as a block for people: its last question, its answer, and what was noted of it."""
    notes = "".join(f"({note})\n" for note in exchange.notes)
    used = f"Round {exchange.round} as used:\n{exchange.repaired}\n\n" if exchange.repaired else ""
    return (
        f"\nRound {exchange.round} Question:\n{exchange.messages[-1]['content']}\n\n"
        f"Round {exchange.round} Answer:\n{exchange.answer}\n\n{notes}{used}{RULE}\n"
    )


def export(store: DialogueStore, out: Path, *, as_text: bool = False, wanted: Callable[[Exchange], bool]) -> int:
    """Write the wanted exchanges into a new file, complete or not at all; returns how many.

    JSON lines come in the order in which the exchanges were stored, text by class and round. Raises `DialogueError`
    for a file that is there already or cannot be written.
    """
    if out.exists():
        raise DialogueError(f"{out} is there already: choose another name, or remove it.")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    count = 0

    def chosen() -> Iterator[Exchange]:
        nonlocal count
        for exchange in filter(wanted, store):
            count += 1
            yield exchange

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines(_readable(chosen()) if as_text else map(to_line, chosen()))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(out)
    except OSError as error:
        raise DialogueError(f"{out} cannot be written ({error.strerror}): choose another place.") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return count


def _readable(exchanges: Iterable[Exchange]) -> Iterator[str]:
    """Text of exchanges, one conversation after the other, each under a heading."""
    grouped: dict[tuple[str, str], list[Exchange]] = {}
    for exchange in exchanges:
        told_by = json.dumps(exchange.identity, sort_keys=True)
        grouped.setdefault((exchange.class_name, told_by), []).append(exchange)
    for (class_name, _), group in grouped.items():
        yield f"{class_name}, told by {spec_of(group[0].identity)}\n"
        yield from map(to_text, sorted(group, key=lambda exchange: (exchange.round, exchange.created)))
        yield "\n"


# ---- in


def read_lines(path: Path) -> Iterator[Exchange]:
    """The exchanges of a file of JSON lines. Raises `DialogueError` with the number of a line that is none."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if line.strip():
                    yield _exchange(line, f"{path}, line {number}")
    except OSError as error:
        raise DialogueError(
            f"{path} cannot be read ({error.strerror}): give a file of `skag dialogues export`."
        ) from None


def _exchange(line: bytes, where: str) -> Exchange:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise DialogueError(f"{where} is no JSON: give a file of `skag dialogues export`.") from None
    if problem := _problem(record):
        raise DialogueError(f"{where} is no exchange, {problem}: take the file from where it was exported.")
    return Exchange.from_record(record)


def _problem(record: Any) -> str | None:
    """What is wrong with a record from elsewhere."""
    if not isinstance(record, dict):
        return "it is no JSON object"
    known = {each.name: each for each in fields(Exchange)}
    if unknown := sorted(set(record) - set(known)):
        return f"it has the unknown field {ascii(unknown[0][:40])}"
    for name, each in known.items():
        if name not in record:
            if each.default is MISSING and each.default_factory is MISSING:
                return f"it has no {name}"
        elif not _FITS[str(each.type)](record[name]):
            return f"its {name} is of the wrong kind"
    if not 1 <= record["round"] <= MOST_ROUNDS or not 0 <= 2 * record.get("attempt", 0) < len(record["messages"]):
        return "its round or attempt is out of range"
    if any(message["role"] not in ROLES for message in record["messages"]):
        return "a message has an unknown role"
    if _depth(record) > _DEEPEST:
        return "it is nested too deep"
    again = record.get("details", {}).get("again", 0)
    if record["key"] != exchange_key(record["identity"], record["messages"], record.get("schema"), again):
        return "its key does not follow from its question"
    return None


def _depth(value: Any) -> int:
    """How deep lists and dicts are nested, without recursion."""
    depth, layer = 0, [value]
    while layer := [each for each in layer if isinstance(each, dict | list)]:
        depth += 1
        layer = [part for each in layer for part in (each.values() if isinstance(each, dict) else each)]
    return depth


def add_all(store: DialogueStore, exchanges: Callable[[], Iterable[Exchange]]) -> ImportReport:
    """Put exchanges into a store: all of them, or none where one cannot be read.

    `exchanges` gives them anew at every call: once to be checked, once to be stored.
    """
    count = sum(1 for _ in exchanges())
    added = present = 0
    batch: list[Exchange] = []

    def flush() -> None:
        nonlocal added, present
        before = {exchange.key: store.get(exchange.key) for exchange in batch}
        for exchange, kept in zip(batch, store.add_all(batch), strict=True):
            if before[exchange.key] is None:
                before[exchange.key] = kept
                added += kept == exchange
            else:
                present += kept == exchange
        batch.clear()

    for exchange in exchanges():
        batch.append(exchange)
        if len(batch) == _BATCH:
            flush()
    flush()
    return ImportReport(count, added, present, count - added - present)
