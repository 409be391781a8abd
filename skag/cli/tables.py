"""Tables that fit the terminal: columns of words wrap, spare columns go, and at last every row is a block of lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

_LONG_WORD = 16  # terminal columns; longer words, such as paths, may be broken
_LONG_TEXT = 30  # terminal columns that any text can do with
_MOST_LINES = 5  # of a text in a column that is narrower


@dataclass
class Table:
    """A table of texts; `numeric` columns are aligned right."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    numeric: list[bool]

    def show_within(self, width: int, spare: Sequence[str]) -> list[str]:
        """Print it in `width` terminal columns; the columns of `spare` that were left out, the first ones first."""
        for count in range(len(spare) + 1):
            table = self._without(spare[:count])
            if (widths := table._widths(width)) is not None:
                table.show(width, widths)
                return list(spare[:count])
        self._show_blocks(width)
        return []

    def show(self, width: int, widths: Sequence[int | None] | None = None) -> None:
        """Print it as a table, with `widths` for its columns where these are given."""
        table = RichTable(
            title=Text(self.title, "bold"),
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        for number, (column, numeric) in enumerate(zip(self.columns, self.numeric, strict=True)):
            table.add_column(
                column,
                justify="right" if numeric else "left",
                overflow="fold",
                no_wrap=number == 0,
                width=widths[number] if widths else None,
            )
        for row in self.rows:  # Text, not str: names from data and models are never read as markup
            table.add_row(*map(Text, row))
        Console(width=width).print(table)

    def _without(self, names: Sequence[str]) -> Table:
        kept = [n for n, column in enumerate(self.columns) if column not in names]
        rows = [[row[n] for n in kept] for row in self.rows]
        return Table(self.title, [self.columns[n] for n in kept], rows, [self.numeric[n] for n in kept])

    def _widths(self, width: int) -> list[int] | None:
        """Widths of the columns with which no word is broken and no cell is very tall; None where there is no room."""
        cells = [[column, *(row[n] for row in self.rows)] for n, column in enumerate(self.columns)]
        full = [max(map(cell_len, texts)) for texts in cells]
        widths = [full[0], *(max(map(_least, texts)) for texts in cells[1:])]
        left = width - 1 - 2 * len(widths) - sum(widths)  # the frame and a column after each cell
        if left < 0:
            return None
        while left > 0 and widths != full:
            tallest = max(range(len(full)), key=lambda n: full[n] / max(widths[n], 1))
            widths[tallest] += 1
            left -= 1
        return widths

    def _show_blocks(self, width: int) -> None:
        """Print a block per row: the first cell, then a line for each other that is not empty."""
        console = Console(width=width)
        console.print(Text(self.title, "bold"))
        for first, *others in self.rows:
            console.print(Text(f"\n{first}"), overflow="fold")
            grid = RichTable.grid(padding=(0, 2, 0, 0))
            grid.add_column(no_wrap=True)
            grid.add_column(overflow="fold")
            for column, cell in zip(self.columns[1:], others, strict=True):
                if cell:
                    grid.add_row(f"  {column}", Text(cell))
            console.print(grid)
        console.print()


def _least(text: str) -> int:
    """The width a cell needs: numbers stay in one line, words stay whole, and texts take no more than some lines."""
    if not text[:1].isalpha():
        return min(cell_len(text), _LONG_TEXT)
    longest = min(max(map(cell_len, text.split())), _LONG_WORD)
    return max(longest, min(cell_len(text) // _MOST_LINES, _LONG_TEXT))
