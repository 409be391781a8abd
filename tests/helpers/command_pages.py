"""The pages of `docs/commands`, from the commands' own help: `python -m tests.helpers.command_pages docs/commands`."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import typer
from typer.main import get_command

from skag.cli import app

WIDTH = 100  # of the help, whatever the terminal
WRITTEN = "Written by `python -m tests.helpers.command_pages docs/commands` from the command's help."


def help_of(names: list[str]) -> str:
    """What `skag NAMES --help` prints, without colours."""
    command, context = get_command(app), None
    for name in ["skag", *names]:
        command = command if context is None else command.commands[name]
        context = typer.Context(
            command, info_name=name, parent=context, terminal_width=WIDTH, help_option_names=["-h", "--help"]
        )
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


@cache
def pages() -> dict[str, str]:
    """File name -> text: a page for every command, those of a group on one, and a list of all."""
    found, index = {}, ["# Commands", "", WRITTEN.replace("command's", "commands'"), "", "| command | |", "|---|---|"]
    for name, command in get_command(app).commands.items():
        lines = [f"# skag {name}", "", WRITTEN, "", *_block([name])]
        for inner in getattr(command, "commands", {}):
            lines += ["", f"## skag {name} {inner}", "", *_block([name, inner])]
        found[f"{name}.md"] = "\n".join(lines) + "\n"
        says = command.get_short_help_str(limit=200)
        index.append(f"| [`skag {name}`]({name}.md) | {says} |")
    found["README.md"] = "\n".join(index) + "\n"
    return found


def _block(names: list[str]) -> list[str]:
    return ["```", f"$ skag {' '.join(names)} --help", help_of(names), "```"]


def write(folder: Path) -> None:
    """Write all pages, and remove those of commands that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    current = pages()
    for path in folder.glob("*.md"):
        if path.name not in current:
            path.unlink()
    for name, text in current.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
