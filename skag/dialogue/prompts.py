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
from .script import Script

_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NONE: frozenset[str] = frozenset()
_REASON = frozenset({"reason"})


@dataclass(frozen=True)
class Prompts:
    """The texts of one prompt folder, checked."""

    texts: dict[str, str]  # file name without .txt -> text
    script: Script  # the questions that they word

    def system(self) -> str:
        return self.texts["system"]

    def question(self, number: int, **values: str) -> str:
        """The question of round `number`, its variables filled in."""
        name = self.script[number].prompt
        return fill(self.texts[name], values, f"{name}.txt")

    def again(self, reason: str) -> str:
        """What is said after an answer that does not fit."""
        return fill(self.texts["again"], {"reason": reason}, "again.txt")

    def hash(self, number: int) -> str:
        """Content hash of every text that shapes an answer in round `number`: all rounds up to it."""
        names = ("system", "again", *(each.prompt for each in self.script.up_to(number)))
        texts = json.dumps({name: self.texts[name] for name in names}, sort_keys=True)
        return hashlib.sha256(texts.encode()).hexdigest()[:16]


def fill(template: str, values: dict[str, str], where: str) -> str:
    """Replace every `{name}` by its value, once. Raises `DialogueError` naming a variable without a value."""

    def value(match: re.Match) -> str:
        if match[1] not in values:
            raise DialogueError(f"{where}: no value for the variable {match[0]}.")
        return values[match[1]]

    return _VARIABLE.sub(value, template)


def prompt_folder(script: Script) -> Path:
    """Where skag's own prompts for a script are: inside an installed package, at the top of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "prompt_files"
    return (installed if installed.is_dir() else package.parent / "prompts") / script.name


def load_prompts(script: Script, folder: str | Path | None = None) -> Prompts:
    """Read the prompts of a script, skag's own by default. Raises `DialogueError` naming the file and the variable."""
    own = prompt_folder(script)
    folder = own if folder is None else Path(folder)
    # file -> (variables it may use, variables it must use)
    files = {"system": (_NONE, _NONE), "again": (_REASON, _REASON)}
    files |= {each.prompt: (each.variables, each.required) for each in script.all}
    texts = {name: _read(folder / f"{name}.txt", own, *variables) for name, variables in files.items()}
    return Prompts(texts, script)


def _read(path: Path, own: Path, allowed: frozenset[str], required: frozenset[str]) -> str:
    """The text of one file, checked."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise DialogueError(f"{path} cannot be read ({error.strerror}): copy the missing file from {own}.") from None
    except UnicodeDecodeError:
        raise DialogueError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    if not text:
        raise DialogueError(f"{path} is empty: write a prompt, or copy it from {own}.")
    used = set(_VARIABLE.findall(text))
    if unknown := sorted(used - allowed):
        known = ", ".join(f"{{{n}}}" for n in sorted(allowed)) or "none"
        raise DialogueError(f"{path}: unknown variable {{{unknown[0]}}}; this file may use: {known}.")
    if missing := sorted(required - used):
        raise DialogueError(f"{path}: the variable {{{missing[0]}}} is missing; the question needs it.")
    return text
