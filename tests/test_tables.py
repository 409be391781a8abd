"""Tables in terminals of any width: no word is broken, what has no room is left out and named."""

from __future__ import annotations

import re

import pytest

from skag.cli.evaluate import _print_refreshes
from skag.cli.output import Output
from skag.plural import counted

COLUMNS = ["run", "state", "data", "val %", "remark"]
ROWS = [
    ["größer", "finished", "data.h5", 80.0, "right elbow, right wrist, right hand tip"],
    ["a", "interrupted", "data.h5", 7.5, ""],
]


def shown(width: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> tuple[list[str], str]:
    """The lines of the table in a terminal of some width, and what was noted."""
    monkeypatch.setattr("skag.cli.output.terminal_width", lambda: width)
    Output(as_json=False, quiet=False).table("Runs", COLUMNS, ROWS, spare=("data",))
    out, err = capsys.readouterr()
    lines = [line.rstrip() for line in re.sub("\x1b\\[[0-9;]*m", "", out).splitlines()]
    assert width is None or max(map(len, lines)) <= width
    return lines, err


def test_one_is_counted_as_one() -> None:
    assert [counted(n, "class") for n in (0, 1, 2)] == ["0 classes", "1 class", "2 classes"]
    assert counted(1, "clip") == "1 clip" and counted("no", "clip") == "no clips"


@pytest.mark.parametrize("width", [None, 200, 90])
def test_a_table_with_room_has_a_line_per_row(width, monkeypatch, capsys) -> None:
    lines, noted = shown(width, monkeypatch, capsys)
    assert any(re.fullmatch(r" größer +finished +data.h5 +80\.00 +right elbow, .* hand tip", line) for line in lines)
    assert not noted


def test_words_are_never_broken_and_spare_columns_go_first(monkeypatch, capsys) -> None:
    lines, noted = shown(60, monkeypatch, capsys)
    assert "data" in lines[2].split() and "interrupted" in "\n".join(lines) and not noted
    lines, noted = shown(44, monkeypatch, capsys)
    text = "\n".join(lines)
    assert "data" not in text and "Left out for want of room: data;" in noted
    assert {"größer", "finished", "interrupted", "80.00", "7.50", "elbow,", "wrist,"} <= set(text.split())


def test_a_narrow_terminal_gets_a_block_per_row(monkeypatch, capsys) -> None:
    lines, noted = shown(30, monkeypatch, capsys)
    assert lines[:6] == ["Runs", "", "größer", "  state   finished", "  data    data.h5", "  val %   80.00"]
    assert lines[-6:] == ["", "a", "  state  interrupted", "  data   data.h5", "  val %  7.50", ""] and not noted
    assert "  remark  right elbow, right" in lines


def test_a_question_mark_in_the_table_of_refreshes_is_explained(capsys: pytest.CaptureFixture) -> None:
    row = {"epoch": 4, "classes": 2, "pairs": 3, "asked_before": 20.0, "asked_after": 10.0}
    row |= {"other_before": 1.0, "other_after": 0.5}
    for after, explained in ((10.0, False), (None, True)):
        _print_refreshes(Output(as_json=False, quiet=False), [row | {"asked_after": after}], compared=False)
        shown = capsys.readouterr().out
        assert ("20.0 to ?" in shown) == explained == ("?: training ended before" in shown)
