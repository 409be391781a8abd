"""The pages of `docs/commands` are what the commands say of themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from .helpers import command_pages
from .helpers.recordings import ROOT


def test_the_pages_are_current() -> None:
    """Else: python -m tests.helpers.command_pages docs/commands"""
    folder = ROOT / "docs" / "commands"
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    wanted = command_pages.pages()
    stale = sorted(name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name))
    assert not stale, (
        f"stale: {', '.join(stale)}; write them again: python -m tests.helpers.command_pages docs/commands"
    )


def test_a_page_is_what_help_prints() -> None:
    environment = os.environ | {"COLUMNS": str(command_pages.WIDTH + 2), "NO_COLOR": "1"}
    code = "import sys; sys.argv[0] = 'skag'; from skag.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "recipes", "show", "--help"], capture_output=True, text=True, env=environment
    )
    words = command_pages.pages()["recipes.md"]
    assert done.stdout.split() == words.partition("show --help\n")[2].removesuffix("```\n").split()
    assert "\x1b" not in words and max(map(len, words.splitlines())) <= command_pages.WIDTH


def test_every_page_has_an_example() -> None:
    for text in command_pages.pages().values():
        for names in re.findall(r"^\$ (skag .*) --help$", text, re.MULTILINE):
            assert f"Example: {names}" in text, names


def test_writing_removes_pages_of_commands_that_are_gone(tmp_path: Path) -> None:
    (tmp_path / "gone.md").touch()
    command_pages.write(tmp_path)
    assert not (tmp_path / "gone.md").exists() and "skag runs" in (tmp_path / "runs.md").read_text()
    assert "## skag dialogues verify" in (tmp_path / "dialogues.md").read_text()
