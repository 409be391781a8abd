"""`skag dialogues` as people and scripts meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skag.cli import app
from skag.cli.terminal import as_typed
from skag.dialogue.exchanges import exchange_key
from skag.dialogue.store import DialogueStore, Exchange

from .helpers.commands import document, failure, invoke
from .helpers.tiny import CLASSES

STORE = "cache/dialogues.h5"


@pytest.fixture
def data(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A skeleton store, described in a working folder that is temporary."""
    monkeypatch.chdir(tmp_path)
    invoke("describe", tiny_store, "--llm", "measured")
    return tiny_store


def hostile(class_name: str = "[red]boo[/red]\x1b[2J") -> Exchange:
    """What a file from elsewhere could hold."""
    identity, asked = (
        {"backend": "x", "model": "[bold]m\x07"},
        ({"role": "user", "content": "[link=http://e]q\x1b]0;t\x07"},),
    )
    answer = "[blink]up[/blink] {0.__class__} \x1b[31m and \u202e down"
    return Exchange(exchange_key(identity, asked), "set", class_name, 1, identity, asked, "", answer)


def test_list_tells_who_told_what(data: Path) -> None:
    found = document("dialogues", "list")["dialogues"]
    assert [(by["llm"], by["complete"], by["exchanges"]) for by in found] == [("measured", 4, 20)]
    assert sorted(each["class"] for each in found[0]["classes"]) == sorted(CLASSES)
    assert found[0]["classes"][0]["rounds"] == [1, 2, 3, 4, 5] and found[0]["classes"][0]["critical_joints"]
    shown = invoke("dialogues", "list")
    assert f"{STORE}: 20 exchanges" in shown and "measured" in shown and "lower right hand" in shown
    assert document("dialogues", "list", "--llm", "measured")["dialogues"] == found


def test_class_names_are_taken_as_typed_in_a_locale_of_another_encoding(data: Path, monkeypatch, capsys) -> None:
    typed = "h\udcc3\udcb6her"  # as Python has the bytes of UTF-8 where the locale is C
    assert (as_typed(typed), as_typed("h\udcf6her"), as_typed("höher")) == ("höher", "h\udcf6her", "höher")
    code, printed = failure(monkeypatch, capsys, "dialogues", "show", typed)
    assert code == 1 and "no class 'höher'" in printed
    with DialogueStore(STORE) as store:
        store.add(hostile("höher"))
    assert document("dialogues", "export", "up.jsonl", "--class", typed)["exchanges"] == 1


def test_show_prints_a_dialogue(data: Path) -> None:
    told = document("dialogues", "show", "step")
    assert [each["round"] for each in told["exchanges"]] == [1, 2, 3, 4, 5]
    shown = invoke("dialogues", "show", "step", "--round", 5)
    assert "Round 5: key features" in shown and "The key features of step are" in shown and "Round 4" not in shown
    assert "In one sentence" not in shown and "In one sentence" in invoke("dialogues", "show", "step", "--questions")


def test_nothing_from_elsewhere_is_read_as_markup_or_reaches_the_terminal(data: Path) -> None:
    with DialogueStore(STORE) as store:
        store.add(hostile())
    for command in (["list"], ["show", hostile().class_name, "--questions"], ["verify", "--llm", "measured"]):
        shown = invoke("dialogues", *command)
        assert not set(shown) & set("\x1b\x07\u202e")
    shown = invoke("dialogues", "show", hostile().class_name)
    assert "[blink]up[/blink] {0.__class__} \ufffd[31m and \ufffd down" in shown
    assert "[red]boo[/red]\ufffd[2J, told by x/[bold]m\ufffd" in shown


def test_export_and_import_make_the_same_store(data: Path) -> None:
    assert document("dialogues", "export", "one.jsonl") == {"out": "one.jsonl", "exchanges": 20}
    read = document("dialogues", "import", "one.jsonl", "--store", "copy.h5")
    assert read == {"exchanges": 20, "added": 20, "present": 0, "kept": 0, "llm": None}
    invoke("dialogues", "export", "two.jsonl", "--store", "copy.h5")
    assert Path("one.jsonl").read_bytes() == Path("two.jsonl").read_bytes()
    assert list(DialogueStore("copy.h5")) == list(DialogueStore(STORE))
    assert document("describe", data, "--store", "copy.h5", "--offline")["cached"] == 20


def test_export_chooses(data: Path) -> None:
    assert document("dialogues", "export", "a.jsonl", "--class", "step", "--llm", "measured")["exchanges"] == 5
    assert {json.loads(line)["class_name"] for line in Path("a.jsonl").read_text().splitlines()} == {"step"}
    assert document("dialogues", "export", "a.txt", "--text")["exchanges"] == 20
    assert "step, told by measured\n\nRound 1 Question:\n" in Path("a.txt").read_text()


def test_a_folder_is_imported_and_trained_with(data: Path, tmp_path: Path) -> None:
    there = tmp_path / "gpt"
    there.mkdir()
    joints = "\n".join(f"{n}-{name}" for n, name in enumerate(json.loads(_layout(data))["joints"], 1))
    for number, name in enumerate(CLASSES, 1):
        rounds = [
            (f"What is {name}?", "It goes up."),
            ("Parts?", "Head: still."),
            (f"Of these:\n{joints}", "4, 12"),
            ("How?", "4-head: nods.\n12-right hand: rises."),
            ("In short?", f"The right hand rises in {name}."),
        ]
        text = "".join(
            f"\nRound {n} Question:\n{q}\n\nRound {n} Answer:\n{a}\n\n{'=' * 80}\n"
            for n, (q, a) in enumerate(rounds, 1)
        )
        (there / f"{number:03d}_{name.replace(' ', '_')}.txt").write_text(text)
    read = document("dialogues", "import", there, "--data", data)
    assert (read["added"], read["llm"]) == (20, "imported/gpt")
    trained = document(
        *("train", data, "--recipe", "demo", "--epochs", 5, "--set", "data.num_frames=8"),
        *("--llm", "imported/gpt", "--offline", "--out", "run"),
    )
    assert (trained["refreshes"], trained["asked"]) == (1, 0)
    assert len(Path("run/dialogues.jsonl").read_text().splitlines()) == 20
    checked = document("dialogues", "verify", "--data", data, "--llm", "imported/gpt")
    assert checked["problems"] == 0 and [each["kind"] for each in checked["findings"]] == ["equal"]


def _layout(data: Path) -> str:
    from skag.skeleton.store import SkeletonStore

    with SkeletonStore(data) as store:
        return store.layout.to_json()


def test_verify_exits_with_1_for_problems_alone(data: Path, monkeypatch, capsys) -> None:
    assert document("dialogues", "verify", "--data", data) == {"exchanges": 20, "problems": 0, "findings": []}
    with DialogueStore(STORE) as store:
        store.add(hostile("step"))
    assert document("dialogues", "verify", "--llm", "measured")["problems"] == 0
    code, printed = failure(monkeypatch, capsys, "dialogues", "verify", "--quiet")
    assert code == 1 and printed.count("\n") == 1
    assert (
        f"{STORE} has 1 problem, the first one: missing, class 'step', round 2, no answers of rounds 2, 3, 4, 5"
        in printed
    )


def test_the_empty_form_is_written_once(data: Path, monkeypatch, capsys) -> None:
    assert document("dialogues", "template", data, "form.toml") == {"out": "form.toml", "classes": 4}
    noted = CliRunner().invoke(app, ["dialogues", "template", str(data), "our form.toml"]).stderr
    assert noted == f"Next: skag describe {data} --llm 'file:our form.toml'\n"
    assert 'name = "raise right hand"' in Path("form.toml").read_text()
    code, printed = failure(monkeypatch, capsys, "dialogues", "template", data, "form.toml")
    assert code == 1 and "form.toml is there already" in printed
    code, printed = failure(monkeypatch, capsys, "describe", data, "--llm", "file:form.toml", "--quiet")
    assert code == 1 and "form.toml: class 'raise right hand', overview: is empty" in printed


def test_a_form_is_filled_with_what_was_answered(data: Path) -> None:
    made = document("dialogues", "template", data, "form.toml", "--llm", "measured")
    assert made == {"out": "form.toml", "classes": 4, "empty": 0}
    assert "It holds what was answered before: correct it" in Path("form.toml").read_text()
    again = document("describe", data, "--llm", "file:form.toml")
    assert again["asked"] == 20 and again["failed"] == []
    joints = [
        {
            each["class"]: each["critical_joints"]
            for each in document("dialogues", "list", "--llm", llm)["dialogues"][0]["classes"]
        }
        for llm in ("measured", "file:form")
    ]
    assert joints[0] == joints[1]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["list", "--store", "none.h5"], 1, "none.h5 holds no dialogue"),
        (["list", "--llm", "a/b"], 1, "has nothing of a/b: it has answers of measured"),
        (["show", "stepp"], 1, "has no class 'stepp' (nearest: 'step')"),
        (["show", "step", "--llm", "a/b"], 1, "has nothing of a/b"),
        (["show", "step", "--round", "7"], 2, "--round"),
        (["export", "x.jsonl", "--class", "nobody"], 1, "has no exchange of that kind"),
        (["export", STORE], 1, "is there already"),
        (["import", "none.jsonl"], 1, "none.jsonl cannot be read"),
        (["import", "."], 2, "--data"),
        (["import", STORE, "--name", "x"], 2, "belong to a folder"),
        (["import", STORE], 1, "line 1 is no JSON"),
        (["verify", "--store", "none.h5"], 1, "none.h5 holds no dialogue"),
        (["template", "none.h5", "x.toml"], 1, "no skeleton store none.h5"),
        (["template", "DATA", "x.toml", "--llm", "a/b"], 1, "lacks rounds 1 to 5 by a/b of 4 of 4 classes"),
        (["template", "DATA", "x.toml", "--llm", "a", "--store", "none.h5"], 1, "none.h5 holds no dialogue"),
    ],
)
def test_what_is_wrong_is_one_line(data: Path, monkeypatch, capsys, arguments, code, says) -> None:
    arguments = [data if argument == "DATA" else argument for argument in arguments]
    found, printed = failure(monkeypatch, capsys, "dialogues", *arguments)
    assert found == code and says in printed
    assert code == 2 or printed.count("\n") == 1
    assert not Path("none.h5").exists() and not Path("none.h5.lock").exists()


def test_an_imported_dialogue_is_not_described_with(data: Path, monkeypatch, capsys) -> None:
    code, printed = failure(monkeypatch, capsys, "describe", data, "--llm", "imported/gpt")
    assert code == 1 and "imported/gpt answers no questions: `skag train DATA.h5 --llm imported/gpt`" in printed
