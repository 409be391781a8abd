"""Dialogues out of a store and into one: nothing is changed on the way, and nothing from elsewhere is believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skag.dialogue import transfer
from skag.dialogue.exchanges import exchange_key
from skag.dialogue.store import DialogueStore, Exchange
from skag.errors import DialogueError

from .helpers.exchanges import numbered_exchange


def everything(exchange: Exchange) -> bool:
    return True


def filled(path: Path, count: int = 130) -> DialogueStore:
    store = DialogueStore(path)
    for number in range(count):  # some are in the HDF5 file by now, some in the journal
        store.add(numbered_exchange(number, notes=("rejected: too long",) if number % 9 == 0 else ()))
    return store


def add(store: DialogueStore, path: Path) -> transfer.ImportReport:
    return transfer.add_all(store, lambda: transfer.read_lines(path))


def test_an_import_makes_the_same_store_and_the_same_export(tmp_path: Path) -> None:
    store, copy = filled(tmp_path / "d.h5"), DialogueStore(tmp_path / "copy.h5")
    assert transfer.export(store, tmp_path / "one.jsonl", wanted=everything) == 130
    assert add(copy, tmp_path / "one.jsonl") == transfer.ImportReport(130, 130, 0, 0)
    assert list(copy) == copy.find() == list(store)
    copy.close()
    transfer.export(copy, tmp_path / "two.jsonl", wanted=everything)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert add(copy, tmp_path / "one.jsonl") == transfer.ImportReport(130, 0, 130, 0)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_exchange_survives_a_line_of_json(data: st.DataObject) -> None:
    text = st.text(st.characters(), max_size=30)  # surrogates, NUL, line ends and all
    values = {name: data.draw(text) for name in ("answer", "repaired", "thoughts", "class_name", "created")}
    values |= {"notes": tuple(data.draw(st.lists(text, max_size=2))), "details": {data.draw(text): [1.5, None]}}
    values |= {"similar": (data.draw(text),), "seconds": data.draw(st.floats(0, 1e9))}
    made = replace(numbered_exchange(data.draw(st.integers(0, 9))), **values)
    line = transfer.to_line(made)
    assert line.count("\n") == 1 and line.isascii()
    assert transfer._exchange(line.encode(), "x") == made


def test_an_answer_that_is_there_stays(tmp_path: Path) -> None:
    store = DialogueStore(tmp_path / "d.h5")
    store.add(numbered_exchange(1, "first"))
    lines = [
        transfer.to_line(numbered_exchange(1, "second")),
        transfer.to_line(numbered_exchange(2)),
        transfer.to_line(numbered_exchange(2)),
    ]
    (tmp_path / "x.jsonl").write_text("".join(lines))
    assert add(store, tmp_path / "x.jsonl") == transfer.ImportReport(3, 1, 1, 1)
    assert [item.answer for item in store][0] == "first" and len(store) == 2


def changed(**values: object) -> Callable[[dict], object]:
    return lambda record: {**record, **values}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed(answer=5), "its answer is of the wrong kind"),
        (changed(round=0), "round or attempt is out of range"),
        (changed(round=100), "round or attempt is out of range"),
        (changed(round=True), "its round is of the wrong kind"),
        (changed(attempt=3), "round or attempt is out of range"),
        (changed(messages=[]), "its messages is of the wrong kind"),
        (changed(messages=[{"role": "user", "content": "x", "tool": "y"}]), "its messages is of the wrong kind"),
        (changed(messages=[{"role": "tool", "content": "x"}]), "unknown role"),
        (changed(identity={"backend": "other"}), "its key does not follow from its question"),
        (changed(key="../../etc/passwd"), "its key does not follow from its question"),
        (changed(tokens_in=10**30), "its tokens_in is of the wrong kind"),
        (changed(code="import os"), "unknown field 'code'"),
        (lambda record: {k: v for k, v in record.items() if k != "answer"}, "it has no answer"),
        (lambda record: [record], "no JSON object"),
        (
            lambda record: changed(details={"a": [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]})(record),
            "nested too deep",
        ),
    ],
)
def test_a_line_from_elsewhere_is_refused_by_number_and_nothing_is_stored(
    tmp_path: Path, change: Callable[[dict], object], said: str
) -> None:
    path, store = tmp_path / "x.jsonl", DialogueStore(tmp_path / "d.h5")
    bad = change(json.loads(transfer.to_line(numbered_exchange(4))))
    path.write_text(transfer.to_line(numbered_exchange(3)) + "\n" + json.dumps(bad) + "\n")
    with pytest.raises(DialogueError, match=said) as caught:
        add(store, path)
    assert "x.jsonl, line 3" in str(caught.value) and "\n" not in str(caught.value)
    assert len(store) == 0


@pytest.mark.parametrize("data", [b"\x80\x81\n", b"{\n", b"[" * 100_000, b"NaN\n", b"x"])
def test_what_is_no_json_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(data)
    with pytest.raises(DialogueError, match="line 1 is no"):
        list(transfer.read_lines(tmp_path / "x.jsonl"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DialogueError, match=r"none\.jsonl cannot be read"):
        list(transfer.read_lines(tmp_path / "none.jsonl"))


def test_a_field_of_its_own_default_may_be_left_out(tmp_path: Path) -> None:
    record = json.loads(transfer.to_line(numbered_exchange(4)))
    for name in ("thoughts", "details", "schema", "notes"):
        del record[name]
    (tmp_path / "x.jsonl").write_text(json.dumps(record))
    assert next(transfer.read_lines(tmp_path / "x.jsonl")).key == numbered_exchange(4).key


def test_an_export_overwrites_nothing_and_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "d.h5", 3)
    with pytest.raises(DialogueError, match=r"d\.h5-copy is there already"):
        (tmp_path / "d.h5-copy").write_text("mine")
        transfer.export(store, tmp_path / "d.h5-copy", wanted=everything)
    with pytest.raises(DialogueError, match="cannot be written"):
        transfer.export(store, tmp_path / "d.h5-copy" / "x.jsonl", wanted=everything)
    monkeypatch.setattr(transfer.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(DialogueError, match="No space left"):
        transfer.export(store, tmp_path / "x.jsonl", wanted=everything)
    assert not list(tmp_path.glob("*.jsonl")) and not list(tmp_path.glob(".x*"))


def test_text_is_for_people(tmp_path: Path) -> None:
    store = DialogueStore(tmp_path / "d.h5")
    question = ({"role": "user", "content": "What is it?"},)
    identity = {"backend": "b", "model": "m"}
    for number, answer in ((4, "lone \ud800 half"), (1, "It goes up.")):
        asked = (*question, {"role": "user", "content": str(number)})
        key = exchange_key(identity, asked)
        notes = ("repaired: mended",) if number == 4 else ()
        repaired = "Mended." if number == 4 else ""
        store.add(Exchange(key, "set", "step", number, identity, asked, "", answer, repaired=repaired, notes=notes))
    transfer.export(store, tmp_path / "x.txt", as_text=True, wanted=everything)
    text = (tmp_path / "x.txt").read_text()
    assert text.startswith("step, told by b/m\n\nRound 1 Question:\n1\n\nRound 1 Answer:\nIt goes up.\n\n" + "=" * 80)
    assert "Round 4 Answer:\nlone ? half\n\n(repaired: mended)\nRound 4 as used:\nMended.\n" in text


def test_the_whole_store_is_walked_while_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "d.h5")
    walked = []
    for item in store:
        walked.append(item)
        if len(walked) == 10:
            DialogueStore(store.path).close()  # folds
    assert walked == list(store)
    assert len(walked) == 130
