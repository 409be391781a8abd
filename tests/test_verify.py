"""Verifying: what is wrong with a store is found and named, and nothing is found in a sound one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from skag.backends import BackendError, Message, Topic
from skag.dialogue.describe import describe
from skag.dialogue.prompts import Prompts, load_prompts
from skag.dialogue.store import DialogueStore
from skag.dialogue.verify import DialogueFinding, verify
from skag.methods.skeleton_agent.questioner import ask_distinctions
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import load_layout

from .helpers.servers import ScriptedBackend, good_answer

CLASSES = ["pick up", "throw", "carry"]
LAYOUT = load_layout("kinect-v1")
PROMPTS = load_prompts(SCRIPT)


def good(topic: Topic, messages: list[Message]) -> str:
    return good_answer(topic, LAYOUT)


def told(store: DialogueStore, prompts: Prompts = PROMPTS, seed: int | None = None, **answers: object):
    """Describe all classes with good answers but for `round3=...`, a text or a function of the topic."""

    def answer(topic: Topic, messages: list[Message]) -> str | BackendError:
        found = answers.get(f"round{topic.round}", good_answer(topic, LAYOUT))
        return found(topic) if callable(found) else found

    options = {} if seed is None else {"seed": seed}
    return describe(ScriptedBackend(answer, options=options), store, CLASSES, LAYOUT, prompts).conversations


def found(store: DialogueStore, **options: object) -> list[tuple[str, str, int | None]]:
    return [(each.kind, each.class_name, each.round) for each in verify(store, SCRIPT, **options)[1]]


def test_a_sound_store_has_no_findings(store: DialogueStore) -> None:
    conversations = told(store)
    ask_distinctions(ScriptedBackend(good), store, conversations, {0: (1,), 1: (2,)}, LAYOUT, PROMPTS)
    assert verify(store, SCRIPT) == (17, [])
    store.close()
    assert verify(store, SCRIPT, classes=CLASSES, layout=LAYOUT) == (17, [])
    assert verify(store, SCRIPT, llm="other/model") == (0, [])


def test_rounds_that_are_missing_are_named_by_class(store: DialogueStore) -> None:
    told(store, round3=lambda topic: BackendError("x") if topic.class_index == 1 else good_answer(topic, LAYOUT))
    _, (finding,) = verify(store, SCRIPT)
    assert finding == DialogueFinding("missing", "scripted/test", "throw", 3, "no answers of rounds 3, 4, 5")
    assert finding.is_problem


def test_classes_that_nobody_told_of_are_found_by_the_data_set(store: DialogueStore) -> None:
    told(store)
    assert found(store, classes=CLASSES, layout=LAYOUT) == []
    more = [*CLASSES, "drop"]
    assert found(store, classes=more, layout=LAYOUT) == [("missing", "drop", 1)]
    assert found(store, classes=["drop"], layout=LAYOUT, llm="a/b") == [("missing", "drop", 1)]


def test_a_gap_in_the_middle_is_found(store: DialogueStore, tmp_path: Path) -> None:
    told(store)
    lacking = DialogueStore(tmp_path / "lacking.h5")
    lacking.add_all([each for each in store if (each.class_name, each.round) not in (("throw", 2), ("carry", 1))])
    assert found(lacking) == [("missing", "throw", 2), ("missing", "carry", 1)]


def test_answers_that_did_not_fit_are_remarks_when_the_next_one_did(store: DialogueStore) -> None:
    answers = iter(["Joints 1", "1, 99", "1", "1", "1"])
    told(store, round3=lambda topic: next(answers))
    findings = verify(store, SCRIPT)[1]
    assert [(each.kind, each.round) for each in findings] == [("asked again", 3), ("asked again", 3)]
    assert "joint number 99" in findings[1].text and not any(each.is_problem for each in findings)


def test_an_answer_that_was_mended_is_a_remark(store: DialogueStore) -> None:
    told(store, round4=lambda topic: "Here:\n" + good_answer(topic, LAYOUT))
    kinds = [(kind, number) for kind, _, number in found(store)]
    assert sorted(kinds) == [("asked again", 4)] * 6 + [("repaired", 4)] * 3


def test_a_question_that_never_got_a_usable_answer_is_a_problem(store: DialogueStore) -> None:
    told(store, round4=lambda topic: "I cannot." if topic.class_index == 0 else good_answer(topic, LAYOUT))
    (problem,) = [each for each in verify(store, SCRIPT)[1] if each.is_problem]
    assert (problem.kind, problem.class_name, problem.round) == ("missing", "pick up", 4)
    assert "no answers of rounds 4, 5: no answer fits, the last one since the line 'I cannot.'" in problem.text


def test_a_distinction_that_never_fitted_is_a_problem(store: DialogueStore) -> None:
    conversations = told(store)
    ask_distinctions(ScriptedBackend(lambda *args: "No."), store, conversations, {0: (1,)}, LAYOUT, PROMPTS)
    problems = [each for each in verify(store, SCRIPT)[1] if each.is_problem]
    assert [(each.kind, each.class_name, each.round) for each in problems] == [("malformed", "pick up", 6)]
    assert problems[0].text == "no answer fits, the last one since it is no sentence"


@pytest.mark.parametrize(
    ("number", "answer", "said"),
    [
        (3, "1, 99", "joint number 99 is not in the list"),
        (4, "4-left hand: up", "joint 4 is head, not 'left hand'"),
        (5, "It nods. It nods.", "more than one sentence"),
        (1, "", "it is empty"),
    ],
)
def test_an_answer_in_use_that_breaks_its_format_is_a_problem(
    store: DialogueStore, tmp_path: Path, number: int, answer: str, said: str
) -> None:
    """Such an answer does not come from asking; it can come from elsewhere."""
    told(store)
    other = DialogueStore(tmp_path / "other.h5")
    bad = [replace(each, answer=answer) if each.round == number else each for each in store if each.round <= number]
    other.add_all(bad)
    malformed = [each for each in verify(other, SCRIPT)[1] if each.kind == "malformed"]
    assert len(malformed) == 3 and all(said in each.text and each.is_problem for each in malformed)


def test_joints_are_checked_by_the_list_that_was_asked_with(store: DialogueStore, tmp_path: Path) -> None:
    told(store)
    other = DialogueStore(tmp_path / "other.h5")
    for each in store:
        details = {"joints": ["head", "tail"]} if each.round == 4 else {}
        other.add(replace(each, details=details))
    assert {each.kind for each in verify(other, SCRIPT)[1]} == {
        "malformed"
    }  # joints 1 to 3 of the layout are not these


def test_classes_with_the_same_critical_joints_are_a_warning(store: DialogueStore) -> None:
    told(store, round4=lambda topic: "4-head: nods" if topic.class_index else "8-left hand: up\n4-head: nods")
    _, (finding,) = verify(store, SCRIPT)
    assert finding == DialogueFinding("equal", "scripted/test", "throw", 4, "the same as carry: head")
    assert not finding.is_problem


def test_the_same_joints_by_two_backends_are_no_warning(store: DialogueStore) -> None:
    told(store)
    told(store, seed=1)
    assert found(store) == []


def test_a_class_begun_with_other_options_or_words_is_unfinished(store: DialogueStore) -> None:
    told(store)
    told(store, seed=1, round2=lambda topic: BackendError("x"))
    wording = replace(PROMPTS, texts={**PROMPTS.texts, "round4": "Other words."})
    told(store, wording, round5=lambda topic: BackendError("x"))
    assert sorted(found(store)) == sorted(("unfinished", name, number) for number in (2, 5) for name in CLASSES)


def test_a_key_that_does_not_follow_is_broken(store: DialogueStore) -> None:
    told(store)
    (first, *_) = store
    store.add(replace(first, key="0" * 64, round=6, answer="The head nods all the time."))
    broken = [each for each in verify(store, SCRIPT)[1] if each.kind == "broken"]
    assert [each.text for each in broken] == ["its key does not follow from its question"]


def test_a_text_that_was_changed_in_the_file_is_broken(store: DialogueStore) -> None:
    """Changed by a program that knows HDF5, so that no checksum of HDF5 tells."""
    told(store)
    store.close()
    with h5py.File(store.path, "a") as file:
        data = file["text/bytes"][:].tobytes()
        file["text/bytes"][:] = list(data.replace(b"does 2 things", b"does 5 things"))
    damaged = DialogueStore(store.path)
    broken = [each for each in verify(damaged, SCRIPT)[1] if each.kind == "broken"]
    assert {each.class_name for each in broken} == {"throw"}
    assert {each.round for each in broken} == {1, 2, 3, 4, 5}  # the answer is the history of the later rounds
    assert any(each.text == "its text is not the one that was stored" for each in broken)


def test_progress_counts_exchanges(store: DialogueStore) -> None:
    told(store)
    seen: list[tuple[int, int]] = []
    verify(store, SCRIPT, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (15, 15)
