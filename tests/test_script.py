"""Scripts: which questions there are is data, and what asks, finds, checks and lists them knows no numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import skag
from skag.backends import Message, Topic
from skag.backends.knowledge import FileBackend
from skag.dialogue import formats
from skag.dialogue.describe import describe, described_with, load
from skag.dialogue.inventory import inventory
from skag.dialogue.prompts import Prompts, load_prompts
from skag.dialogue.script import Round, Script
from skag.dialogue.store import DialogueStore
from skag.dialogue.verify import verify
from skag.errors import DialogueError
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import load_layout
from skag.skeleton.simulate import ACTIONS

from .helpers.servers import ScriptedBackend, good_answer

CLASSES = ["pick up", "throw", "carry"]
LAYOUT = load_layout("kinect-v1")
# Another method's: one question by parts of the body, then one sentence, with numbers of its own.
PARTS = Round(21, "body_parts", "motion", "by parts", formats.FREE_TEXT, required=frozenset({"class_name"}))
SENTENCE = Round(23, "key_features", "summary", "in short", formats.SENTENCE)
OTHER = Script("other", (PARTS, SENTENCE))
# Of rounds 1, 5 and 6 as shipped: a change of wording changes them, a change of code must not.
HASHES = [
    "c02a77cea8ac363c",
    "12aeb81f5d372be0",
    "ae85989a5750134a",
]


@pytest.fixture
def store(tmp_path: Path) -> DialogueStore:
    return DialogueStore(tmp_path / "d.h5")


@pytest.fixture
def prompts(tmp_path: Path) -> Prompts:
    texts = {"system": "Be short.", "again": "No: {reason}.", "motion": "What does {class_name} look like?"}
    for name, text in {**texts, "summary": "Sum it up."}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    return load_prompts(OTHER, tmp_path)


def by_kind(topic: Topic, messages: list[Message]) -> str:
    return {"body_parts": f"head: nods {topic.class_index} times", "key_features": "The head nods slowly."}[topic.kind]


def test_the_script_of_skeleton_agent_is_what_the_paper_asks() -> None:
    assert SCRIPT.numbers == (1, 2, 3, 4, 5) and [each.number for each in SCRIPT.later] == [6]
    assert len({each.kind for each in SCRIPT.all}) == 6 and SCRIPT.of("distinction") == SCRIPT[6]
    assert (SCRIPT.before(1), SCRIPT.before(4)) == (None, 3)
    assert SCRIPT.left(3) == [3, 4, 5] and SCRIPT.left(6) == [6]
    assert SCRIPT.lists_joints == SCRIPT[3] and SCRIPT.span == "rounds 1 to 5"
    assert SCRIPT.find(7) is None and SCRIPT.of("appearance") is None


def test_prompts_are_hashed_as_when_they_were_first_stored() -> None:
    prompts = load_prompts(SCRIPT)
    assert [prompts.hash(number) for number in (1, 5, 6)] == HASHES


def test_another_script_is_asked_found_listed_and_verified_beside_the_first(
    store: DialogueStore, prompts: Prompts
) -> None:
    first = describe(
        ScriptedBackend(lambda topic, _: good_answer(topic, LAYOUT)), store, CLASSES, LAYOUT, load_prompts(SCRIPT)
    )
    with pytest.raises(DialogueError, match=r"lacks rounds 21 to 23 of 3 of 3 classes"):
        load(store, CLASSES, LAYOUT, OTHER)
    report = describe(ScriptedBackend(by_kind), store, CLASSES, LAYOUT, prompts)
    assert (report.asked, report.rounds, report.failed) == (6, 2, ())
    assert load(store, CLASSES, LAYOUT, OTHER) == report.conversations
    assert load(store, CLASSES, LAYOUT, SCRIPT) == first.conversations
    assert load(store, CLASSES, load_layout("coco"), OTHER)[0].text(21) == "head: nods 0 times"  # it lists no joints
    assert described_with(store, CLASSES, LAYOUT, OTHER) == ["scripted/test"]
    for script in (SCRIPT, OTHER):
        (by,) = inventory(store, script)
        assert by.complete == 3 and all(told.rounds == set(script.numbers) for told in by.classes.values())
        assert verify(store, script, classes=CLASSES, layout=LAYOUT) == (21, [])


def test_what_another_script_lacks_is_named_by_its_numbers(store: DialogueStore, prompts: Prompts) -> None:
    unfit = ScriptedBackend(lambda topic, _: "No." if topic.round == 23 else by_kind(topic, []))
    report = describe(unfit, store, CLASSES[:1], LAYOUT, prompts)
    assert report.failed[0][1].startswith("round 23: the answer does not fit")
    with pytest.raises(DialogueError, match="'pick up' from round 23 on"):
        load(store, CLASSES[:1], LAYOUT, OTHER)
    kinds = {(each.kind, each.class_name, each.round) for each in verify(store, OTHER)[1] if each.is_problem}
    assert kinds == {("missing", "pick up", 23)}
    nobody = describe(None, store, CLASSES[1:2], LAYOUT, prompts, identity=unfit.identity())
    assert nobody.missing[0].rounds_left == [21, 23]


def test_a_knowledge_file_answers_by_what_is_asked(store: DialogueStore, prompts: Prompts) -> None:
    layout = load_layout("nturgb+d")
    report = describe(FileBackend("demo", list(ACTIONS), layout), store, list(ACTIONS), layout, prompts)
    told = report.conversations[0]
    assert report.failed == () and told.text(21).startswith("head: ") and len(told.text(21).split("\n")) == 6


def test_what_a_knowledge_file_has_no_field_for_is_named(store: DialogueStore, tmp_path: Path) -> None:
    (tmp_path / "sight.txt").write_text("What does {class_name} look like?")
    for name in ("system", "again"):
        (tmp_path / f"{name}.txt").write_text("{reason}" if name == "again" else "Be short.")
    script = Script("sight", (Round(31, "appearance", "sight", "what is seen", formats.FREE_TEXT),))
    layout = load_layout("nturgb+d")
    backend = FileBackend("demo", list(ACTIONS), layout)
    report = describe(backend, store, list(ACTIONS), layout, load_prompts(script, tmp_path))
    assert len(report.failed) == len(ACTIONS)
    assert "file:demo cannot answer round 31, appearance" in report.failed[0][1]


def test_shared_code_imports_no_method_and_writes_no_round() -> None:
    folder = Path(skag.__file__).parent
    files = [path for part in ("dialogue", "backends") for path in (folder / part).glob("*.py")]
    found = [
        path.name
        for path in files
        if re.search(r"methods\.|\bROUNDS\b|DISTINCTION_ROUND|\bround (?:==|in \(|<=|>) ?[1-6]", path.read_text())
    ]
    assert len(files) > 20 and found == []
