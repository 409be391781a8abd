"""Splits that the data do not bring: by subject, camera, setup or any column, or at random (`skag convert --split-by`).

A fifth tests, and at least one subject or camera. Which one is decided by a hash of the name, so that it is the
same for the same recordings, wherever and in whatever order they are; `COLUMN=VALUE` names those that test.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import DataError
from ..plural import counted
from .store import UNKNOWN, SkeletonStore

SPLIT_BY = ("subject", "camera", "setup", "random")
TEST_SHARE = 0.2
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class SplitRecording:
    """What a split is made from."""

    name: str
    label: int
    subject: int
    camera: int
    setup: int = UNKNOWN
    group: str = ""  # what a column says, where it is split by that


@dataclass(frozen=True)
class SplitBy:
    """What recordings are split by: one of `SPLIT_BY`, or the name of a column."""

    by: str
    tests: tuple[str, ...] = ()  # the values that test; those that a hash chooses where there are none

    @property
    def column(self) -> str | None:
        """The column, where it is none of the facts that every clip has."""
        return None if self.by in SPLIT_BY else self.by


def split_by(text: str) -> SplitBy:
    """What `--split-by` means: `subject`, `random`, `age`, or `age=child` with the values that test. Raises
    `DataError`."""
    by, _, values = text.strip().partition("=")
    tests = tuple(value.strip() for value in values.split(",") if value.strip())
    by = by.strip().casefold() if by.strip().casefold() in SPLIT_BY else by.strip()
    if not by or (by == "random" and tests):
        raise DataError(f"no split by {text!r}: use one of {', '.join(SPLIT_BY)}, a column, or COLUMN=VALUE.")
    return SplitBy(by, tests)


def make_splits(recordings: Iterable[SplitRecording], by: str | SplitBy) -> tuple[dict[str, str], str]:
    """SplitRecording name -> its split `<by>_train` or `<by>_test`, and a sentence on what was done.

    Recordings whose subject, camera or group is unknown are in neither. Raises `DataError` where no two of them are
    known.
    """
    chosen = SplitBy(by) if isinstance(by, str) else by
    recordings = list(recordings)
    return _random(recordings) if chosen.by == "random" else _grouped(recordings, chosen)


def _rank(name: str) -> tuple[bytes, str]:
    return hashlib.sha256(name.encode(errors="replace")).digest(), name


def _random(recordings: list[SplitRecording]) -> tuple[dict[str, str], str]:
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
        f"{counted(len(found) - tests, 'recording', 'is/are')} in random_train and {tests} in random_test, "
        f"chosen per class by a hash of their names.{_people_on_both_sides(recordings, found)}"
    )


def _people_on_both_sides(recordings: list[SplitRecording], splits: dict[str, str]) -> str:
    sides: dict[int, set[str]] = defaultdict(set)
    for recording in recordings:
        if recording.subject != UNKNOWN:
            sides[recording.subject].add(splits[recording.name])
    both = sorted(subject for subject, found in sides.items() if len(found) == 2)
    if not both:
        return ""
    which = f"subject {both[0]} is" if len(both) == 1 else f"{len(both)} of {len(sides)} subjects are"
    return f" But {which} on both sides, so the test is on people seen before: --split-by subject keeps them apart."


def _grouped(recordings: list[SplitRecording], chosen: SplitBy) -> tuple[dict[str, str], str]:
    by, is_fact = chosen.by, chosen.column is None
    group_of = {each.name: getattr(each, by if is_fact else "group") for each in recordings}
    unknown = UNKNOWN if is_fact else ""
    groups = set(group_of.values()) - {unknown}
    if len(groups) < 2:
        known = f"only {by} {next(iter(groups))}" if groups else f"no {by}"
        raise DataError(
            f"no split by {by}: {known} is known; take --split-by random, or say which is whose in a labels.csv beside "
            f"the recordings with the columns file, label and {by} (or --labels FILE)."
        )
    named = {str(group).casefold(): group for group in groups}
    if absent := [value for value in chosen.tests if value.casefold() not in named]:
        there = ", ".join(map(str, sorted(groups)[:_SHOWN])) + (", ..." if len(groups) > _SHOWN else "")
        raise DataError(f"no {by} {absent[0]!r} to test: there are {there}.")
    count = max(1, round(TEST_SHARE * len(groups)))
    tests = sorted(groups, key=lambda group: _rank(f"{by} {group}"))[:count]
    if chosen.tests:
        tests = [named[value.casefold()] for value in dict.fromkeys(chosen.tests)]
        if len(set(tests)) == len(groups):
            raise DataError(f"--split-by {by}: all {len(groups)} values would test, and none train; name fewer.")
    name = re.sub(r"\W+", "_", by).strip("_")[:40] or "column"
    found = {
        recording: f"{name}_test" if group in tests else f"{name}_train"
        for recording, group in group_of.items()
        if group != unknown
    }
    which = ", ".join(map(str, sorted(set(tests))[:_SHOWN])) + ("" if len(tests) <= _SHOWN else " and more")
    what = f"{by}s" if is_fact else f"values of {by}"
    how = "as asked for" if chosen.tests else "chosen by a hash"
    return found, f"{len(set(tests))} of {len(groups)} {what} test ({which}), {how}: {name}_train and {name}_test."


def occurring_classes(store: SkeletonStore, split: str | None = None) -> list[int]:
    """The numbers of the classes that have a clip, in a split where one is named, in their order.

    A store may name classes that none of its recordings shows: four of NTU's 60, say. Raises `DataError` for a split
    that is not there.
    """
    if split is not None and split not in store.splits:
        raise DataError(f"{store.path} has no split {split!r}: it has {', '.join(store.splits) or 'none'}.")
    labels = store.labels if split is None else store.labels[store.splits[split]]
    return [number for number in sorted(set(labels.tolist())) if 0 <= number < len(store.classes)]
