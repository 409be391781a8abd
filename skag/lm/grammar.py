"""A JSON schema as a grammar of llguidance, with two things that llguidance itself does not read in schemas.

`uniqueItems` of a list whose members are told apart by a word or a number from a finite set: the members are such words
or numbers, or closed objects with one property of that kind. No two members then have the same.

`x-pieces` of a string, for limits that count weighted pieces: `{"first": regex, "parts": {regex: cost, ...}, "last":
regex, "most": n}` is `first`, any number of parts that cost no more than n together, and `last`. Costs are powers of
two, and the regular expressions match no quotation mark, backslash or control character.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

STYLE: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_MOST_MEMBERS = 64  # bits of a rule's parameter, which remembers the members that were named
_LONGEST_ESCAPE = 6  # bytes of `\u00e9`


def grammar(schema: dict[str, Any]) -> str:
    """The grammar of JSON by a schema, written as Python writes it."""
    from llguidance import LLMatcher

    if not any(keyword in schema for schema in _nodes(schema) for keyword in ("uniqueItems", "x-pieces")):
        return LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=STYLE)
    rules = _Rules()
    return LLMatcher.grammar_from_lark("\n".join([f"start: {rules.of(schema)}", *rules.lines]))


def longest(schema: dict[str, Any]) -> int | None:
    """The most bytes, and so tokens, of JSON by a schema; None where it sets no end."""
    kind = schema.get("type")
    if "enum" in schema:
        return max(len(_json(value).encode()) for value in schema["enum"])
    if kind == "string":
        bytes_each = 4 if "pattern" in schema or "x-pieces" in schema else _LONGEST_ESCAPE
        return bytes_each * schema["maxLength"] + 2 if "maxLength" in schema else None
    if kind == "boolean":
        return len("false")
    if kind == "integer" and {"minimum", "maximum"} <= schema.keys():
        return max(len(_json(schema[end])) for end in ("minimum", "maximum"))
    if kind == "array":
        items, most = schema.get("items", {}), _most_items(schema)
        member = longest(items)
        return None if member is None or most is None else (member + 2) * most + 2
    if kind == "object" and schema.get("additionalProperties") is False:
        sizes = [(name, longest(value)) for name, value in schema["properties"].items()]
        found = [len(_json(name).encode()) + 4 + size for name, size in sizes if size is not None]
        return sum(found) + 2 if len(found) == len(sizes) else None
    return None


def _most_items(schema: dict[str, Any]) -> int | None:
    """The most members of a list, by its limit or since they differ."""
    found = [schema["maxItems"]] if "maxItems" in schema else []
    if schema.get("uniqueItems") and (choices := _choices(schema.get("items", {}))):
        found.append(len(choices[1]))
    return min(found, default=None)


def _choices(items: dict[str, Any]) -> tuple[str | None, list[str]] | None:
    """By what members are told apart: (property, or None for the member itself; its values as JSON)."""
    if values := _values(items):
        return None, values
    if _is_closed(items):
        return next(((name, values) for name, each in items["properties"].items() if (values := _values(each))), None)
    return None


def _values(schema: dict[str, Any]) -> list[str] | None:
    """All values of a schema as JSON; None where they are no finite set."""
    if "enum" in schema:
        return [_json(value) for value in schema["enum"]]
    if schema.get("type") == "integer" and {"minimum", "maximum"} <= schema.keys():
        return [_json(value) for value in range(schema["minimum"], schema["maximum"] + 1)]
    return None


def _is_closed(schema: dict[str, Any]) -> bool:
    """Whether an object has these properties and no others."""
    properties = schema.get("properties", {})
    return schema.get("additionalProperties") is False and set(schema.get("required", ())) == set(properties) != set()


class _Rules:
    """Rules of llguidance's Lark, collected while a schema is gone through."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._count = 0

    def of(self, schema: dict[str, Any]) -> str:
        """What stands for a value by this schema in other rules."""
        if schema.get("uniqueItems") and (choices := _choices(schema.get("items", {}))):
            if len(choices[1]) <= _MOST_MEMBERS:
                return self._list(schema, *choices)
            schema = {**schema, "maxItems": _most_items(schema)}
        if "x-pieces" in schema:
            return self._string(schema["x-pieces"])
        if _is_closed(schema):
            return self._object({name: self.of(value) for name, value in schema["properties"].items()})
        plain = {name: value for name, value in schema.items() if name != "uniqueItems"}
        return self._rule("value", f"%json {json.dumps({**plain, 'x-guidance': STYLE})}")

    def _object(self, values: dict[str, str]) -> str:
        pairs = ' ", " '.join(f"{_literal(f'{_json(name)}: ')} {value}" for name, value in values.items())
        return f'"{{" {pairs} "}}"'

    def _list(self, schema: dict[str, Any], key: str | None, values: list[str]) -> str:
        """Members whose `key` differs: bit i of the parameter is set once value i was named."""
        least, most = schema.get("minItems", 0), _most_items(schema)
        items = schema["items"]
        others = {} if key is None else {n: self.of(each) for n, each in items["properties"].items() if n != key}
        every, more = f"[0:{len(values)}]", self._name("more")
        members = []
        for value in map(_literal, values):
            named = {name: value if name == key else others[name] for name in items.get("properties", ())}
            members.append(value if key is None else self._object(named))
        first = self._rule("first::_", "\n | ".join(f"{m} {more}::set_bit({i})" for i, m in enumerate(members)))
        further = [
            f'", " {member} {more}::set_bit({i}) %if and(bit_clear({i}), bit_count_lt({every}, {most}))'
            for i, member in enumerate(members)
        ]
        self.lines.append(f"{more}::_: " + "\n | ".join([f'"" %if bit_count_ge({every}, {least})', *further]))
        whole = f'"[" {first}::0 "]"'
        return self._rule("list", f'{whole} | "[]"') if least == 0 else whole

    def _string(self, pieces: dict[str, Any]) -> str:
        """The parameter counts what the parts cost so far."""
        tail = self._name("tail")
        ways = [self._terminal(pieces["last"])]
        for regex, cost in pieces["parts"].items():
            step = f"incr([{cost.bit_length() - 1}:32])"  # adds a power of two
            ways.append(f"{self._terminal(regex)} {tail}::{step} %if le(_, {pieces['most'] - cost})")
        self.lines.append(f"{tail}::_: " + "\n | ".join(ways))
        return f'"\\"" {self._terminal(pieces["first"])} {tail}::0 "\\""'

    def _terminal(self, regex: str) -> str:
        return self._rule("PART", f"/{regex}/")

    def _rule(self, name: str, text: str) -> str:
        plain, _, parameter = name.partition("::")
        found = self._name(plain)
        self.lines.append(f"{found}{'::' if parameter else ''}{parameter}: {text}")
        return found

    def _name(self, start: str) -> str:
        self._count += 1
        return f"{start}{'_' if start.islower() else ''}{self._count}"


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and all within it."""
    if isinstance(schema, dict):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _nodes(part)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _literal(text: str) -> str:
    """A text as a literal of Lark."""
    return json.dumps(text, ensure_ascii=False)
