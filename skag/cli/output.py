"""One place that decides what goes where: results to stdout, progress and notes to stderr."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_PIPED_WIDTH = 160  # columns of a table that goes to a file or another program


def printable(text: str) -> str:
    """Text with a mark in the place of what a terminal would obey: escapes, control characters, half characters."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def command(*words: object) -> str:
    """A command of skag as one types it: what the shell would split or expand is quoted."""
    return shlex.join(["skag", *map(str, words)])


def _carries(text: str) -> bool:
    """Whether stdout's encoding has all characters of a text."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeError:
        return False
    return True


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is, None where it is a file or another program."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


class Output:
    """Prints a command's results as tables or as one JSON document, and its notes unless quiet."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet

    def note(self, text: str) -> None:
        """A remark for people, on stderr."""
        if not self.quiet:
            print(printable(text), file=sys.stderr)

    def next(self, *words: object) -> None:
        """The command that comes next, as one types it."""
        self.note(f"Next: {command(*words)}")

    def document(self, value: dict[str, Any]) -> None:
        """The result as JSON, when asked for."""
        if self.as_json:
            text = json.dumps(value, ensure_ascii=False, indent=1)
            print(text if _carries(text) else json.dumps(value, indent=1))

    def line(self, text: str) -> None:
        """A line of the result, for people."""
        if not self.as_json:
            print(printable(text))

    def panel(self, title: str, text: str) -> None:
        """A text of the result in a frame, for people; never read as markup."""
        if self.as_json:
            return
        from rich.console import Console
        from rich.panel import Panel
        from rich.text import Text

        panel = Panel(Text(printable(text)), title=Text(printable(title)), title_align="left")
        Console(width=terminal_width() or _PIPED_WIDTH).print(panel)

    def table(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], spare: Sequence[str] = ()
    ) -> None:
        """A table of the result, for people; columns with numbers are aligned right.

        Where the terminal is too narrow for its words, the `spare` columns are left out, the first of them first, and
        where that does not help every row becomes a block of lines.
        """
        if self.as_json:
            return
        from . import tables

        rows = [list(row) for row in rows]
        numeric = [bool(rows) and all(isinstance(row[n], int | float) for row in rows) for n in range(len(columns))]
        texts = [[f"{cell:.2f}" if isinstance(cell, float) else printable(str(cell)) for cell in row] for row in rows]
        table = tables.Table(title, list(columns), texts, numeric)
        if (width := terminal_width()) is None:
            table.show(_PIPED_WIDTH)
        elif left_out := table.show_within(width, spare):
            self.note(f"Left out for want of room: {', '.join(left_out)}; a wider window or --json has all.")

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[[int, int | None], None]]:
        """A progress bar on stderr; yields `update(done, total)`."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        hidden = self.quiet or not console.is_terminal
        with Progress(*columns, console=console, disable=hidden, transient=True) as bar:
            task = bar.add_task(label, total=None)

            def update(done: int, total: int | None) -> None:
                bar.update(task, completed=done, total=total)

            yield update
