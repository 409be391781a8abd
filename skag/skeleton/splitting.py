"""Splits that the data do not bring: by subject, by camera, or at random (`skag convert --split-by`).

A fifth tests, and at least one subject or camera. Which one is decided by a hash of the name, so that it is the
same for the same recordings, wherever and in whatever order they are.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import DataError
from .store import UNKNOWN

SPLIT_BY = ("subject", "camera", "random")
TEST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Recording:
    """What a split is made from."""

    name: str
    label: int
    subject: int
    camera: int


def make_splits(recordings: Iterable[Recording], by: str) -> tuple[dict[str, str], str]:
    """Recording name -> its split `<by>_train` or `<by>_test`, and a sentence on what was done.

    `by` is one of `SPLIT_BY`; recordings whose subject or camera is unknown are in neither. Raises `DataError` where
    no two of them are known.
    """
    return _random(recordings) if by == "random" else _grouped(recordings, by)


def _rank(name: str) -> tuple[bytes, str]:
    return hashlib.sha256(name.encode(errors="replace")).digest(), name


def _random(recordings: Iterable[Recording]) -> tuple[dict[str, str], str]:
    """Of every class the fifth whose names hash lowest tests; a class of one recording trains."""
    by_class: dict[int, set[str]] = defaultdict(set)
    for recording in recordings:
        by_class[recording.label].add(recording.name)
    found = {}
    for names in by_class.values():
        tests = max(1, round(TEST_SHARE * len(names))) if len(names) > 1 else 0
        for rank, name in enumerate(sorted(names, key=_rank)):
            found[name] = "random_test" if rank < tests else "random_train"
    tests = sum(split == "random_test" for split in found.values())
    if not tests:
        return {}, "No class has two recordings to make a test split of: add some, or name splits with --labels FILE."
    return found, (
        f"{len(found) - tests} recordings are in random_train and {tests} in random_test, "
        "chosen per class by a hash of their names."
    )


def _grouped(recordings: Iterable[Recording], by: str) -> tuple[dict[str, str], str]:
    number_of = {recording.name: getattr(recording, by) for recording in recordings}
    groups = set(number_of.values()) - {UNKNOWN}
    if len(groups) < 2:
        known = f"only {by} {next(iter(groups))}" if groups else f"no {by}"
        raise DataError(
            f"no split by {by}: {known} is known; take --split-by random, or say which is whose in a labels.csv beside "
            f"the recordings with the columns file, label and {by} (or --labels FILE)."
        )
    count = max(1, round(TEST_SHARE * len(groups)))
    tests = sorted(groups, key=lambda number: _rank(f"{by} {number}"))[:count]
    found = {
        name: f"{by}_test" if number in tests else f"{by}_train"
        for name, number in number_of.items()
        if number != UNKNOWN
    }
    which = ", ".join(map(str, sorted(tests)[:10])) + ("" if count <= 10 else " and more")
    return found, f"{count} of {len(groups)} {by}s test ({which}), chosen by a hash: {by}_train and {by}_test."
