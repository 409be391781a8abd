"""Label, subject, camera and split out of the names of files: `skag convert --label-from PATTERN`.

A pattern is a name with fields in braces, and * for what does not matter: `{label}_{subject}_*`, `p{subject}-{label}`.
It is compared with the end of a recording's path, without its ending, by as many folders as it has itself. A label
may hold what stands between fields, other fields are as short as they can be: in `squat_left_anna` the pattern
`{label}_{subject}` finds squat_left and anna. Fields of other names are for `--split-by`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..errors import DataError
from .archives import printable

_FIELD = re.compile(r"\{(\w+)\}|(\*)")
_LONGEST = 12  # fields


@dataclass(frozen=True)
class NamePattern:
    """What a name says, by field."""

    text: str
    fields: tuple[str, ...]
    _regex: re.Pattern[str]
    _depth: int

    def of(self, path: str) -> dict[str, str] | None:
        """The fields in the path of a recording; None where it does not fit."""
        parts = PurePosixPath(path).parts
        if len(parts) < self._depth:
            return None
        last = PurePosixPath(parts[-1])
        stem = last.stem if re.fullmatch(r"\.[A-Za-z]\w{1,7}", last.suffix) else last.name
        end = "/".join([*parts[:-1], stem][-self._depth :])
        match = self._regex.fullmatch(end)
        return None if match is None else {name: " ".join(text.split()) for name, text in match.groupdict().items()}


def name_pattern(text: str) -> NamePattern:
    """Understand a pattern. Raises `DataError`."""
    text = text.strip().replace("\\", "/").strip("/")
    fields: list[str] = []
    regex, before = "", 0
    for found in _FIELD.finditer(text):
        regex += re.escape(text[before : found.start()])
        before = found.end()
        name = found[1]
        if name is None:
            regex += "[^/]*?"
        elif name in fields:
            raise DataError(f"--label-from {text!r} has {{{name}}} twice: name every field once.")
        else:
            fields.append(name)
            regex += f"(?P<{name}>[^/]+{'' if name == 'label' else '?'})"
    rest = text[before:]
    if "{" in rest or "}" in rest or not fields or len(fields) > _LONGEST or any(name[0].isdigit() for name in fields):
        raise DataError(
            f"--label-from {printable(text, 100)!r} names no field: write file names with {{label}}, {{subject}}, "
            "{camera} or {split} in braces and * for the rest, such as '{label}_{subject}_*'."
        )
    return NamePattern(text, tuple(fields), re.compile(regex + re.escape(rest)), text.count("/") + 1)


GUESSES = ("{label}_*", "{label}-*", "{label} *", "*_{label}", "*-{label}", "*_{label}_*")


def guess(paths: list[str]) -> tuple[NamePattern, dict[str, int]] | None:
    """The pattern by which files without class folders could have classes, with their counts; None where none does."""
    for text in GUESSES:
        pattern = name_pattern(text)
        found = [fields["label"] for path in paths if (fields := pattern.of(path))]
        counts = {label: found.count(label) for label in sorted(set(found))} if len(set(found)) <= 50 else {}
        if len(found) == len(paths) and 1 < len(counts) <= len(paths) / 2:
            return pattern, counts
    return None
