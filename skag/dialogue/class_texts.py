"""Texts of classes that somebody has published in one file, as a dialogue `imported/NAME`.

    JSON    {"sit down": {"head": "tilts forward", "hand": "supports body", ...}, ...}, at any depth of the file; and
            lists of lines "sit down;The man is sitting down on a chair. ...", which tell what would be seen
    text    a line per class: sit down; head tilts forward; hand supports body; ...

What the file says is untrusted text: classes must be those of the data set, and every answer must have its format.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import DialogueError
from ..skeleton.layouts import Layout
from .exchanges import Exchange, exchange_key, label_set_id
from .formats import BODY_PARTS, PARTS, FormatProblem, body_part_lines
from .interview import MAX_ANSWER, clean
from .script import Round, Script
from .text_folders import NAME

_LARGEST_FILE = 1 << 24  # bytes


@dataclass(frozen=True)
class ImportedTexts:
    """The exchanges of a file, and the classes that it tells nothing of."""

    exchanges: list[Exchange]
    missing: list[str]  # names, of the question before training


def read_texts(path: Path, name: str, classes: Sequence[str], layout: Layout, script: Script) -> ImportedTexts:
    """The texts of a file about the classes of a data set, as the dialogue `imported/NAME`.

    Raises `DialogueError` for a file that cannot be read or tells of none of the classes, and for a method that asks
    no question which such texts answer.
    """
    if not NAME.fullmatch(name):
        raise DialogueError(f"{ascii(name[:80])} is no name for an import: use letters, digits, '.', '_' and '-'.")
    motion, imagined = script.of("body_parts"), script.of("imagined")
    if script.rounds != (motion,):
        raise DialogueError(f"{script.name} asks more than such a file tells: import a folder, or use another method.")
    text = _read(path)
    parts, sentences = _found(text, classes)
    if not parts:
        raise DialogueError(
            f"{path} tells of none of the {len(classes)} classes what {', '.join(BODY_PARTS)} do: is it the right file?"
        )
    content = hashlib.sha256(text.encode()).hexdigest()[:16]
    identity = {"backend": "imported", "model": name, "content": content}
    common: dict[str, Any] = {
        "label_set": label_set_id(classes, layout),
        "identity": identity,
        "prompt_hash": "",
        "created": datetime.now(UTC).isoformat(),
        "details": {"file": clean(path.name), "joints": list(layout.joints)},
    }
    exchanges = []
    for class_name in classes:
        history: tuple[dict[str, str], ...] = ()
        told: list[tuple[Round | None, str | None]] = [(motion, parts.get(class_name))]
        told.append((imagined, sentences.get(class_name)))
        for asked, answer in told:
            if asked is None or answer is None or (asked is imagined and not history):
                continue
            messages = (*history, {"role": "user", "content": f"{asked.title}: {class_name}"})
            exchange = Exchange(
                key=exchange_key(identity, messages),
                class_name=class_name,
                round=asked.number,
                messages=messages,
                answer=answer,
                **common,
            )
            exchanges.append(exchange)
            history = exchange.after
    return ImportedTexts(exchanges, [each for each in classes if each not in parts])


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise DialogueError(f"{path} cannot be read ({error.strerror}): check the name.") from None
    if len(data) > _LARGEST_FILE:
        raise DialogueError(f"{path} is larger than texts of classes can be: is it the right file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DialogueError(f"{path} is not UTF-8 text: save it as UTF-8.") from None


def _found(text: str, classes: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What a file tells of the classes: lines by parts of the body, and what would be seen. Of several groups of texts
    in it those are taken that tell of most classes."""
    known = {_plain(name): name for name in classes}
    try:
        groups = list(_groups(json.loads(text)))
    except (ValueError, RecursionError):
        groups = [text.splitlines()]
    parts = [found for group in groups if (found := _parts(group, known))]
    sentences = [found for group in groups if isinstance(group, list) and (found := _sentences(group, known))]
    return max(parts, key=len, default={}), max(sentences, key=len, default={})


def _groups(value: Any) -> Iterator[Any]:
    """All objects and lists of a JSON value."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _groups(inner)
    elif isinstance(value, list):
        yield value
        for inner in value:
            yield from _groups(inner)


def _parts(group: Any, known: Mapping[str, str]) -> dict[str, str]:
    """Class -> six lines, of those classes of which all six parts are told."""
    found: dict[str, str] = {}
    if isinstance(group, dict):
        for name, told in group.items():
            if isinstance(told, dict) and all(isinstance(told.get(part), str) for part in BODY_PARTS):
                told = [f"{part}: {clean(' '.join(told[part].split()))}" for part in BODY_PARTS]
                _add(found, known, name, "\n".join(told))
        return found
    for line in group:
        if isinstance(line, str) and ";" in line:
            name, _, told = line.partition(";")
            if (lines := body_part_lines(clean(told))) is not None:
                _add(found, known, name, lines)
    return found


def _add(found: dict[str, str], known: Mapping[str, str], name: str, lines: str) -> None:
    if (class_name := known.get(_plain(name))) is not None and len(lines) <= MAX_ANSWER:
        try:
            PARTS.check(lines, _NO_LAYOUT)
        except FormatProblem:
            return
        found[class_name] = lines


def _sentences(group: list[Any], known: Mapping[str, str]) -> dict[str, str]:
    """Class -> text, of lines that begin with a class's name and a mark, and tell no parts."""
    found: dict[str, str] = {}
    for line in group:
        if isinstance(line, str) and (match := re.match(r"([^;,]+)[;,](.+)", line, re.DOTALL)):
            class_name, told = known.get(_plain(match[1])), clean(" ".join(match[2].split()))
            if class_name is not None and 0 < len(told) <= MAX_ANSWER and body_part_lines(told) is None:
                found[class_name] = told
    return found


def _plain(name: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", name.casefold()))


_NO_LAYOUT = Layout("none", 3, ("joint",), {}, "joint", {"all": ("joint",)})  # parts of the body name no joints
