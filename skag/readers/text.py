"""Numbers out of text, line by line and in JSON, in little memory and with every surprise as `Unusable`."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from .source import Unusable

MAX_LINE = 1 << 16
_BLOCK = 1 << 18  # bytes of numbers that come at a time
_WINDOW = 1 << 18  # bytes of JSON that are decoded at a time
_MAX_ELEMENT = 1 << 21  # of one frame: JSON can take thirty times its length in memory, so for short files
_MIN_ELEMENT, _ELEMENT_SHARE = 1 << 17, 16  # it is this, and a share of the file more


def number_blocks(data: bytes, columns: int, delimiter: bytes | None = None) -> Iterator[np.ndarray]:
    """A table of numbers, some lines at a time, as float64 `[R, columns]`; empty lines are left out.

    In blocks, because a table of short numbers takes four times its text as float64. Raises `Unusable` for a line of
    other than `columns` numbers.
    """
    block = bytearray()
    for number, line in enumerate(io.BytesIO(data), 1):
        cells = _split(line, number, delimiter)
        if not cells:
            continue
        if len(cells) != columns:
            raise Unusable(f"has {len(cells)} values on line {number}, not {columns}")
        block += _numbers(cells, number).tobytes()
        if len(block) >= _BLOCK:
            yield np.frombuffer(block, np.float64).reshape(-1, columns)
            block = bytearray()
    if block:
        yield np.frombuffer(block, np.float64).reshape(-1, columns)


def _split(line: bytes, number: int, delimiter: bytes | None) -> list[bytes]:
    if len(line) > MAX_LINE:
        raise Unusable(f"has a line {number} of more than {MAX_LINE >> 10} KiB")
    line = line.strip()
    return line.split(delimiter) if line else []


def _numbers(cells: list[bytes], number: int) -> np.ndarray:
    """The cells of line `number` as float64."""
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        raise Unusable(f"has something other than numbers on line {number}") from None


def joint_table(values: Any, what: str, dims: int) -> np.ndarray:
    """Nested lists of numbers as float32 with `dims` dimensions."""
    try:
        table = np.array(values, dtype=np.float32)
    except (ValueError, TypeError, OverflowError, MemoryError):
        raise Unusable(f"has {what} that are no table of numbers") from None
    if table.ndim != dims:
        raise Unusable(f"has {what} of shape {table.shape}, not {dims} dimensions")
    return table


class _Json:
    """Decodes JSON from bytes, a window at a time."""

    def __init__(self, data: bytes) -> None:
        self._data, self._next = memoryview(data), 0
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._value = json.JSONDecoder().raw_decode
        self._text, self._at = "", 0
        self._longest = min(_MAX_ELEMENT, _MIN_ELEMENT + len(data) // _ELEMENT_SHARE)

    def _more(self) -> bool:
        """Take in the next window; False at the end."""
        if self._next >= len(self._data):
            return False
        chunk = self._data[self._next : self._next + _WINDOW]
        self._next += len(chunk)
        self._text = self._text[self._at :] + self._decode(bytes(chunk), self._next >= len(self._data))
        self._at = 0
        return True

    def peek(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            while self._at < len(self._text):
                if (character := self._text[self._at]) not in " \t\n\r":
                    return character
                self._at += 1
            if not self._more():
                return ""

    def take(self, characters: str) -> str:
        if (character := self.peek()) not in characters or not character:
            raise ValueError(f"expected one of {characters}")
        self._at += 1
        return character

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = self._value(self._text, self._at)
            except ValueError:
                end = None
            if end is not None and (end < len(self._text) or self._next >= len(self._data)):
                self._at = end
                return value
            if len(self._text) - self._at > self._longest or not self._more():  # a number may go on in the next window
                if end is None:
                    raise ValueError("no JSON value")
                self._at = end
                return value

    def elements(self) -> Iterator[Any]:
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return

    def pairs(self, long: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                raise ValueError("a key is no text")
            self.take(":")
            if key in long and self.peek() == "[":
                yield from ((key, element) for element in self.elements())
            else:
                yield key, self.value()
            if self.take(",}") == "}":
                return


def json_items(data: bytes, long: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """What a JSON file holds, in pieces: (key, value) of an object, ("", element) of a list.

    A list under one of the keys `long` comes element by element, so that only one of its elements is in memory.
    Raises `Unusable`.
    """
    source = _Json(data)
    try:
        opening = source.peek()
        if opening == "[":
            yield from (("", element) for element in source.elements())
        elif opening == "{":
            yield from source.pairs(long)
        else:
            raise ValueError("neither object nor list")
        if source.peek():
            raise ValueError("something follows")
    except (ValueError, RecursionError, MemoryError):
        raise Unusable("is no JSON file, or a damaged one") from None
