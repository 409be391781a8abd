"""How many there are of something, in words."""

from __future__ import annotations


def counted(number: int | str, noun: str, verb: str = "") -> str:
    """`1 class`, `2 classes`, `no clips`; with a verb `is/are` also `1 clip is`, `2 clips are`."""
    alone, several = verb.split("/") if verb else ("", "")
    if number == 1:
        return f"1 {noun} {alone}".rstrip()
    return f"{number} {noun}{'es' if noun.endswith(('s', 'sh')) else 's'} {several}".rstrip()
