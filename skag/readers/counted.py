"""Counts in words: classes with their clips, and reasons for which recordings cannot be used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .archives import printable

_PLURAL = (("has ", "have "), ("is ", "are "), ("does ", "do "), ("holds ", "hold "), ("needs ", "need "))
_PARTS_THAT_DIFFER = re.compile(r"'[^']*'|\"[^\"]*\"|\d+(?:\.\d+)?")


def listed(counts: Mapping[str, int], most: int) -> str:
    """`sit 4, walk 12`, with "..." where there are more than `most`."""
    shown = [f"{name} {count}" for name, count in list(counts.items())[:most]]
    return ", ".join(shown) + (", ..." if len(counts) > most else "")


def by_reason(reasons: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """(a reason, the names with it), the commonest first; reasons are one where they differ in numbers or names alone,
    which "..." stands for then."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, reason in reasons:
        found.setdefault(_PARTS_THAT_DIFFER.sub("#", reason), []).append((name, reason))
    groups = sorted(found.values(), key=len, reverse=True)
    return [(_in_common([reason for _, reason in group]), [name for name, _ in group]) for group in groups]


def _in_common(reasons: list[str]) -> str:
    parts = zip(*(_PARTS_THAT_DIFFER.findall(reason) for reason in reasons), strict=True)
    shown = iter([each[0] if len(set(each)) == 1 else "..." for each in parts])
    return _PARTS_THAT_DIFFER.sub(lambda _: next(shown), reasons[0])


def counted_reasons(reasons: Iterable[tuple[str, str]], most: int = 3) -> str:
    """`45 (a.csv first) have a label beyond the 3 classes; 3 (b.csv first) are damaged`, the commonest first."""
    groups = by_reason(reasons)
    parts = []
    for reason, names in groups[:most]:
        first = printable(names[0], 100)
        parts.append(f"1 ({first}) {reason}" if len(names) == 1 else f"{len(names)} ({first} first) {_of_many(reason)}")
    rest = sum(len(names) for _, names in groups[most:])
    return "; ".join(parts) + (f"; {rest} for other reasons" if rest else "")


def _of_many(reason: str) -> str:
    for one, many in _PLURAL:
        if reason.startswith(one):
            return many + reason.removeprefix(one)
    return reason
