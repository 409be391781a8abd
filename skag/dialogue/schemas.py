"""JSON schemas of the answers, for servers that hold a model to one, and the answers read back as text.

The prompts ask for plain text, and rounds are read as such. A model that often misses the format can be held to a
schema of the same content (`--structured`); its JSON is turned into the text that was asked for.
"""

from __future__ import annotations

import json
from typing import Any

from ..methods.skeleton_agent.selector import MAX_JOINTS
from ..skeleton.layouts import Layout


def of_round(number: int, layout: Layout) -> dict[str, Any] | None:
    """The schema of round `number`'s answer; None for rounds 1 and 2, which are free text."""
    if number == 3:
        joint: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": layout.num_joints}
        return _object(joints={"type": "array", "items": joint, "minItems": 1})
    if number == 4:
        line = _object(
            joint={"type": "string", "enum": layout.numbered().split("\n")},
            movement={"type": "string"},
        )
        return _object(joints={"type": "array", "items": line, "minItems": 1, "maxItems": MAX_JOINTS})
    return _object(sentence={"type": "string"}) if number in (5, 6) else None


def as_text(number: int, answer: str) -> str | None:
    """An answer by the schema, as the plain text of its round; None for anything else."""
    try:
        found = json.loads(answer)
        if number == 3:
            return ", ".join(str(_a(int, joint)) for joint in _a(list, found["joints"]))
        if number == 4:
            return "\n".join(f"{_words(line['joint'])}: {_words(line['movement'])}" for line in found["joints"])
        return _words(found["sentence"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _words(value: Any) -> str:
    """A string on one line."""
    return " ".join(_a(str, value).split())


def _a(kind: type, value: Any) -> Any:
    """The value, if it is of that type. Raises `TypeError`."""
    if type(value) is not kind:
        raise TypeError
    return value
