"""SUGAR's texts: what they are made of, where they come from, and what is said where one is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from skag.backends import open_backend
from skag.config import override
from skag.dialogue import formats
from skag.dialogue.class_texts import read_texts
from skag.dialogue.describe import describe
from skag.dialogue.prompts import load_prompts
from skag.dialogue.store import DialogueStore
from skag.errors import DialogueError
from skag.methods import METHODS, method
from skag.methods.base import KnowledgeSource
from skag.methods.skeleton_agent.script import SCRIPT as AGENT_SCRIPT
from skag.methods.sugar import descriptions
from skag.methods.sugar.config import SugarConfig
from skag.methods.sugar.descriptions import Descriptions, Text, description, motion_text, open_descriptions
from skag.methods.sugar.recipes import align_small
from skag.methods.sugar.script import IMAGINED, MOTION, SCRIPT, SEEN
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import SkeletonStore

from .helpers.recordings import real
from .helpers.servers import Fault, serve
from .helpers.tiny import CLASSES, write_tiny_store

LAYOUT = load_layout("kinect-v1")
EXAMPLE = {
    "head": "tilts back slightly", "hand": "grasps cup", "arm": "lifts cup to mouth", "hip": "remains stationary",
    "leg": "remains stationary", "foot": "remains stationary",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny store, described by `measured`."""
    folder = tmp_path_factory.mktemp("texts")
    write_tiny_store(folder / "t.h5")
    with SkeletonStore(folder / "t.h5") as store, DialogueStore(folder / "d.h5") as kept:
        measured = open_backend("measured", store=store)
        assert not describe(measured, kept, store.classes, store.layout, load_prompts(SCRIPT)).failed
    return folder


def config(*changes: str) -> SugarConfig:
    return override(align_small("j"), changes)


@contextmanager
def texts_of(folder: Path, *changes: str, **source: object) -> Iterator[tuple[Descriptions, list[str]]]:
    notes: list[str] = []
    given = KnowledgeSource(**({"dialogues": folder / "d.h5"} | source))
    with (
        SkeletonStore(folder / "t.h5") as store,
        open_descriptions(config(*changes), store, given, "cpu", notes.append) as texts,
    ):
        yield texts, notes


# ---------------------------------------------------------------- from the store


def test_what_nobody_has_described_is_measured_by_training_itself(folder: Path, tmp_path: Path) -> None:
    with texts_of(folder, dialogues=tmp_path / "new.h5") as (texts, notes):
        told = texts.texts
    assert notes == ["4 classes described by `measured`, from their training clips: 4 questions answered."]
    with texts_of(folder) as (before, notes):
        assert told == before.texts and not notes


def test_offline_nobody_is_asked(folder: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(
            DialogueError, match=r"no texts of the classes of .*: run `skag describe .* --method sugar --llm measured"
        ),
        texts_of(folder, dialogues=tmp_path / "new.h5", offline=True),
    ):
        pass


# ---------------------------------------------------------------- the script


def test_no_two_scripts_share_a_number() -> None:
    scripts = [script for name in METHODS if (script := method(name).SCRIPT) is not None]
    numbers = [each.number for script in scripts for each in script.all]
    assert len(set(numbers)) == len(numbers) >= 9
    assert {each.number for each in AGENT_SCRIPT.all} == {1, 2, 3, 4, 5, 6}


def test_six_parts_are_read_and_mended() -> None:
    lines = "\n".join(f"{part}: {told}" for part, told in EXAMPLE.items())
    assert formats.read_body_parts(lines) == EXAMPLE
    assert list(formats.read_body_parts("\n".join(reversed(lines.split("\n"))))) == list(EXAMPLE)
    one_line = "; ".join(f"{part} {told}" for part, told in EXAMPLE.items()) + "."
    for wrong, reason in (
        (one_line, "not of the form"),
        (lines.replace("foot: remains stationary", ""), "nothing of the foot"),
        (lines + "\nhead: nods", "head twice"),
        (lines.replace("cup to mouth", "").replace("lifts ", ""), "not of the form"),
    ):
        with pytest.raises(formats.FormatProblem, match=reason):
            formats.PARTS.check(wrong, LAYOUT)
    assert formats.PARTS.repair(one_line, LAYOUT) == (lines, "kept what is told of the six parts")
    assert formats.PARTS.repair("head: nods", LAYOUT) is None
    assert formats.PARTS.as_text(json.dumps(EXAMPLE)) == lines
    assert set(formats.PARTS.schema(LAYOUT)["required"]) == set(EXAMPLE)


def test_the_text_of_a_motion_is_the_papers() -> None:
    assert motion_text("drink water", EXAMPLE) == (
        "An action of drink water; head tilts back slightly; hand grasps cup; arm lifts cup to mouth; "
        "hip remains stationary; leg remains stationary; foot remains stationary"
    )


def test_a_description_tells_what_moves_in_few_words() -> None:
    motion = Text("motion", motion_text("drink water", EXAMPLE))
    assert description([motion], 24) == "Head tilts back slightly; hand grasps cup; arm lifts cup to mouth."
    assert description([motion], 7) == "Head tilts back slightly; hand grasps cup."
    assert description([motion], 2) == "Head tilts."
    seen = Text("seen", "A man holds a cup. He drinks from it. A table stands there.")
    assert description([seen], 10) == "A man holds a cup. He drinks from it."
    assert description([Text("name", "drink water")], 24) == ""


# ---------------------------------------------------------------- what a run is trained with


def test_measured_answers_the_motion_from_the_clips(folder: Path) -> None:
    with texts_of(folder) as (texts, notes):
        assert texts.active and texts.llm == "measured" and not notes
        assert texts.vectors.shape == (4, 1, 512) and texts.available.all()
        np.testing.assert_allclose(np.linalg.norm(texts.vectors[:, 0], axis=1), 1, atol=1e-5)
        raised = texts.texts[0][0].text
    assert "the right hand moves up" in raised and raised.startswith("An action of raise right hand; ")


def test_names_and_parts_are_texts_where_one_asks_for_them(folder: Path) -> None:
    with texts_of(folder, "texts.name=true", "texts.parts=true") as (texts, _):
        kinds = [each.kind for each in texts.texts[3]]
    assert kinds == ["motion", *["part"] * 6, "name"]
    with texts_of(folder, "texts.knowledge=none", "texts.name=true", dialogues=folder / "nowhere.h5") as (texts, _):
        assert [own[0].text for own in texts.texts] == CLASSES  # and nobody was asked


def test_shuffled_classes_have_the_texts_of_others(folder: Path) -> None:
    with texts_of(folder) as (own, _), texts_of(folder, shuffled=True) as (given, _):
        assert given.texts == (own.texts[2], own.texts[3], own.texts[0], own.texts[1])


def test_a_class_without_a_text_is_named(folder: Path, tmp_path: Path) -> None:
    with SkeletonStore(folder / "t.h5") as store, DialogueStore(tmp_path / "d.h5") as kept:
        prompts = load_prompts(SCRIPT)
        describe(open_backend("measured", store=store), kept, store.classes[:3], store.layout, prompts)
    with (
        pytest.raises(DialogueError, match="no text by measured of 1 of 4 classes") as caught,
        texts_of(folder, dialogues=tmp_path / "d.h5", llm="measured", offline=True),
    ):
        pass
    assert "'step'" in str(caught.value)


def test_what_would_be_seen_is_asked_once_of_a_model_that_reads(folder: Path, tmp_path: Path) -> None:
    def reply(messages: list[dict[str, str]]) -> str:
        if '"' in messages[-1]["content"] and "Think of a picture" in messages[-1]["content"]:
            return "A person stands in a room."
        return "\n".join(f"{part}: {told}" for part, told in EXAMPLE.items())

    with serve("openai") as server, DialogueStore(tmp_path / "d.h5") as kept:
        server.reply = reply
        with SkeletonStore(folder / "t.h5") as store:
            backend = open_backend("vllm/tiny", base_url=f"{server.address}/v1")
            assert not describe(backend, kept, store.classes, store.layout, load_prompts(SCRIPT)).failed
        given = {"dialogues": tmp_path / "d.h5", "llm": "vllm/tiny", "base_url": f"{server.address}/v1"}
        server.faults = [Fault(), Fault(), Fault(), Fault(400, b"{}")]
        with (
            pytest.raises(DialogueError, match=r"1 of 4 classes have no text of what would be seen \('step'"),
            texts_of(folder, "texts.knowledge=both", **given, jobs=1),
        ):
            pass
        with texts_of(folder, "texts.knowledge=both", **given) as (texts, notes):
            assert [each.kind for each in texts.texts[0]] == ["motion", "imagined"]
            assert any("a model that sees none" in note for note in notes)
        asked = len(server.chats())
        with texts_of(folder, "texts.knowledge=visual", **given, offline=True) as (texts, _):
            assert [own[0].text for own in texts.texts] == ["A person stands in a room."] * 4
        assert asked == 9 and len(server.chats()) == asked  # what was answered before one failed was kept
    assert (MOTION.number, IMAGINED.number, SEEN.number) == (11, 12, 13)


# ---------------------------------------------------------------- published texts


def published(folder: Path, classes: list[str], name: str = "texts.json") -> Path:
    value = {"about": "x", "gap": {"data": {"parts": dict.fromkeys(classes, EXAMPLE), "sentence": []}}}
    value["gap"]["data"]["sentence"] = [f"{each};A man is seen." for each in classes]
    (folder / name).write_text(json.dumps(value))
    return folder / name


def test_published_texts_are_imported(folder: Path, tmp_path: Path) -> None:
    path = published(tmp_path, ["Raise right hand", "lower right hand", "raise left hand"])
    with SkeletonStore(folder / "t.h5") as store, DialogueStore(tmp_path / "d.h5") as kept:
        found = read_texts(path, "gap", store.classes, store.layout, SCRIPT)
        assert found.missing == ["step"]
        kept.add_all(found.exchanges)
        describe(open_backend("measured", store=store), kept, ["step"], store.layout, load_prompts(SCRIPT))
    given = {"dialogues": tmp_path / "d.h5", "llm": "imported/gap"}
    with (
        pytest.raises(DialogueError, match=r"no text by imported/gap of 1 of 4 classes \('step'\)"),
        texts_of(folder, **given),
    ):
        pass
    with texts_of(folder, **given, fallback="measured") as (texts, _):
        assert texts.texts[0][0].text == motion_text("raise right hand", EXAMPLE)
        assert texts.texts[3][0].text.startswith("An action of step; the head")
    lines = [f"{each};" + ";".join(f"{part} {told}" for part, told in EXAMPLE.items()) for each in CLASSES]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    found = read_texts(tmp_path / "lines.txt", "gap", CLASSES, LAYOUT, SCRIPT)
    assert not found.missing and len(found.exchanges) == 4
    assert formats.read_body_parts(found.exchanges[0].text) == EXAMPLE


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[]", "none of the 4 classes"), ("\xff\xfe", "not UTF-8"), ('{"step": {"head": "nods"}}', "none of the 4")],
)
def test_files_that_tell_nothing(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DialogueError, match=reason) as caught:
        read_texts(tmp_path / "x.json", "x", CLASSES, LAYOUT, SCRIPT)
    assert "\n" not in str(caught.value)
    with pytest.raises(DialogueError, match="asks more than such a file tells"):
        read_texts(tmp_path / "x.json", "x", CLASSES, LAYOUT, AGENT_SCRIPT)


def test_gaps_texts_are_read() -> None:
    """Of five of the ten classes of NW-UCLA all six parts are told."""
    path = real("class-texts.json")
    names = ["pick up with one hand", "walk around", "sit down", "throw"]
    found = read_texts(path, "gap", names, LAYOUT, SCRIPT)
    assert found.missing == ["throw"]
    assert formats.read_body_parts(found.exchanges[0].text)["hand"] == "reaches down and grasps object"
    assert {each.round for each in found.exchanges} == {MOTION.number, IMAGINED.number}
    assert descriptions.FILE == "descriptions.json"
