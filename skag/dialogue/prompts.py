"""Prompts are files that people read and edit; this module loads, checks and fills them.

A variable is `{name}` and nothing more: filling is one pass of plain substitution, so that braces, markup or
format strings in a class name or an answer stay the text they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import DialogueError

ROUNDS = (1, 2, 3, 4, 5)  # before training; round 6 follows in training
_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_COMMON = frozenset({"class_name", "joints"})
# file -> (variables it may use, variables it must use). A required variable is one without which the
# questions for two classes, layouts or refreshes would read the same, and so share one stored answer.
_FILES: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "system": (frozenset(), frozenset()),
    "round1": (_COMMON, frozenset({"class_name"})),
    "round2": (_COMMON, frozenset()),
    "round3": (_COMMON, frozenset({"joints"})),
    "round4": (_COMMON, frozenset()),
    "round5": (_COMMON, frozenset()),
    "round6": (_COMMON | {"similar"}, frozenset({"similar"})),
    "again": (frozenset({"reason"}), frozenset({"reason"})),
}


@dataclass(frozen=True)
class Prompts:
    """The texts of one prompt folder, checked."""

    texts: dict[str, str]  # file name without .txt -> text

    def system(self) -> str:
        return self.texts["system"]

    def question(self, number: int, **values: str) -> str:
        """The question of round `number` (1 to 6), its variables filled in."""
        return fill(self.texts[f"round{number}"], values, f"round{number}.txt")

    def again(self, reason: str) -> str:
        """What is said after an answer that does not fit."""
        return fill(self.texts["again"], {"reason": reason}, "again.txt")

    def hash(self, number: int) -> str:
        """Content hash of every text that shapes an answer in round `number`: all rounds up to it."""
        names = ("system", "again", *(f"round{n}" for n in range(1, number + 1)))
        texts = json.dumps({name: self.texts[name] for name in names}, sort_keys=True)
        return hashlib.sha256(texts.encode()).hexdigest()[:16]


def fill(template: str, values: dict[str, str], where: str) -> str:
    """Replace every `{name}` by its value, once. Raises `DialogueError` naming a variable without a value."""

    def value(match: re.Match) -> str:
        if match[1] not in values:
            raise DialogueError(f"{where}: no value for the variable {match[0]}.")
        return values[match[1]]

    return _VARIABLE.sub(value, template)


def prompt_folder() -> Path:
    """Where skag's own prompts are: inside an installed package, at the top of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "prompt_files"
    return installed if installed.is_dir() else package.parent / "prompts"


def load_prompts(folder: str | Path | None = None) -> Prompts:
    """Read the prompts, skag's own by default. Raises `DialogueError` naming the file and the variable."""
    folder = prompt_folder() if folder is None else Path(folder)
    texts = {}
    for name, (allowed, required) in _FILES.items():
        path = folder / f"{name}.txt"
        try:
            text = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise DialogueError(
                f"{path} cannot be read ({error.strerror}): copy the missing file from {prompt_folder()}."
            ) from None
        except UnicodeDecodeError:
            raise DialogueError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
        if not text:
            raise DialogueError(f"{path} is empty: write a prompt, or copy it from {prompt_folder()}.")
        used = set(_VARIABLE.findall(text))
        if unknown := sorted(used - allowed):
            known = ", ".join(f"{{{n}}}" for n in sorted(allowed)) or "none"
            raise DialogueError(f"{path}: unknown variable {{{unknown[0]}}}; this file may use: {known}.")
        if missing := sorted(required - used):
            raise DialogueError(f"{path}: the variable {{{missing[0]}}} is missing; the question needs it.")
        texts[name] = text
    return Prompts(texts)
