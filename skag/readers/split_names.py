"""Names of splits: what a protocol can be made of, and the ways in which people write them.

A protocol is a pair of splits, `train` and `test` or `val`, or `NAME_train` and `NAME_test` or `NAME_val`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

RULE = "name splits train and test (or val), or NAME_train and NAME_test"
_SPELLINGS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "val": "val", "valid": "val",
    "validation": "val",
}  # fmt: skip
SPLIT_FOLDERS = _SPELLINGS  # folders that name a split: lower case -> its name
MAX_SPLITS = 20  # of one recording
_PART = "|".join(sorted(_SPELLINGS, key=len, reverse=True))
_LAST = re.compile(rf"(?:(.*?)[\W_]+)?({_PART})", re.IGNORECASE)
_FIRST = re.compile(rf"({_PART})[\W_]*(.+)", re.IGNORECASE)


def split_name(text: str) -> str:
    """A split's name as it can be one of a data set in the store.

    "Training" is train, "train1" and "train_fold1" are 1_train and fold1_train: parts of a protocol end in train, test
    or val.
    """
    text = text.strip()
    if match := _LAST.fullmatch(text):
        name, part = match[1], match[2]
    elif (match := _FIRST.fullmatch(text)) and not text[len(match[1])].isalpha():
        part, name = match[1], match[2]
    else:
        return re.sub(r"[^\w+-]", "_", text)[:60] or "_"
    name = re.sub(r"[^\w+-]", "_", name or "")[:50]
    return f"{name}_{_SPELLINGS[part.lower()]}" if name else _SPELLINGS[part.lower()]


def splits_in(text: str) -> tuple[str, ...]:
    """The splits in a cell, which stand with a semicolon between."""
    found = [split_name(part) for part in text.split(";") if part.strip()]
    return tuple(dict.fromkeys(found[:MAX_SPLITS]))


def is_part(split: str) -> bool:
    """Whether a split can be a part of a protocol."""
    return split in ("train", "test", "val") or split.endswith(("_train", "_test", "_val"))


def unknown_parts(splits: Iterable[str]) -> list[str]:
    """The splits that can be no part of a protocol."""
    return [split for split in dict.fromkeys(splits) if not is_part(split)]
