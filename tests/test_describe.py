"""Describing: each class is one conversation, asked once, and whatever fails stays with its class."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skag import selector
from skag.backends import BackendDown, BackendError, Message, Topic, open_backend
from skag.describe import MAX_ANSWER, DescribeReport, clean, describe, described_with, in_parallel, load
from skag.dialogues import DialogueStore
from skag.errors import DialogueError
from skag.layouts import Layout, load_layout
from skag.prompts import Prompts, load_prompts
from skag.store import SkeletonStore
from skag.verify import verify

from .servers import ScriptedBackend, good_answer, serve

CLASSES = ["pick up", "throw <b>[red]{joints}", "carry"]
LAYOUT = load_layout("kinect-v1")
PROMPTS = load_prompts()


@pytest.fixture
def store(tmp_path: Path) -> DialogueStore:
    return DialogueStore(tmp_path / "d.h5")


def good(topic: Topic, messages: list[Message]) -> str:
    return good_answer(topic, LAYOUT)


def scripted(**answers: str | BackendError | Callable) -> ScriptedBackend:
    """Good answers but for `round3=...`, given to every class."""

    def answer(topic: Topic, messages: list[Message]) -> str | BackendError:
        found = answers.get(f"round{topic.round}", good_answer(topic, LAYOUT))
        return found(topic, messages) if callable(found) else found

    return ScriptedBackend(answer)


def run(backend: ScriptedBackend, store: DialogueStore, prompts: Prompts = PROMPTS, **options: int) -> DescribeReport:
    return describe(backend, store, CLASSES, LAYOUT, prompts, **options)


def test_each_class_is_one_conversation_with_all_that_was_said_before(store: DialogueStore) -> None:
    backend = scripted()
    report = run(backend, store)
    assert (report.classes, report.rounds, report.asked, report.cached, report.failed) == (3, 5, 15, 0, ())
    assert [(topic.class_index, topic.round) for topic, _ in backend.asked] == [
        (i, r) for i in range(3) for r in range(1, 6)
    ]
    told = report.conversations[1]
    assert told.class_name == CLASSES[1] and sorted(told.exchanges) == [1, 2, 3, 4, 5]
    sent = told.exchanges[5].messages
    assert [message["role"] for message in sent] == ["system", *["user", "assistant"] * 4, "user"]
    assert sent[1]["content"] == PROMPTS.question(1, class_name=CLASSES[1], joints="")
    assert [message["content"] for message in sent[2::2]] == [told.text(number) for number in range(1, 5)]
    assert told.exchanges[3].prompt_hash == PROMPTS.hash(3) and told.exchanges[3].identity == backend.identity()
    assert told.exchanges[3].created.endswith("+00:00") and told.exchanges[3].tokens_out


def test_what_was_answered_is_not_asked_again(store: DialogueStore) -> None:
    first = run(scripted(), store)
    again = run(ScriptedBackend(lambda topic, messages: BackendError("not to be asked")), store)
    assert (again.asked, again.cached, again.failed) == (0, 15, ())
    assert again.conversations == first.conversations


def test_another_option_or_wording_is_another_question(store: DialogueStore) -> None:
    run(scripted(), store)
    assert run(ScriptedBackend(good, options={"seed": 1}), store).asked == 15
    wording = replace(PROMPTS, texts={**PROMPTS.texts, "round4": "Other words."})
    assert (report := run(scripted(), store, wording)).asked == 6 and report.cached == 9


def test_a_class_that_fails_does_not_stop_the_others(store: DialogueStore) -> None:
    fails = scripted(round3=lambda topic, _: BackendError("refused.") if topic.class_index == 1 else "1, 2")
    report = run(fails, store)
    assert report.failed == ((CLASSES[1], "refused."),)
    assert [told.class_index for told in report.conversations] == [0, 2]
    assert run(scripted(round3="1, 2"), store).asked == 3  # rounds 3 to 5 of that class


def test_a_backend_that_is_down_is_not_asked_for_every_class(store: DialogueStore) -> None:
    run(scripted(round5=lambda topic, _: BackendError("x") if topic.class_index == 2 else good(topic, [])), store)
    down = ScriptedBackend(lambda topic, messages: BackendDown("no server."), options={"seed": 5})
    report = run(down, store)
    assert len(down.asked) == 1 and [reason for _, reason in report.failed] == ["no server."] * 3
    down.options, down.asked = {}, []
    report = run(down, store)  # what is stored is still used
    assert len(down.asked) == 1 and [name for name, _ in report.failed] == ["carry"] and report.cached == 14


def test_an_answer_that_does_not_fit_is_asked_again_with_the_reason(store: DialogueStore) -> None:
    answers = iter(["Joints 1 and 2", "1, 99", "2, 1"])
    backend = scripted(round3=lambda topic, _: next(answers) if topic.class_index == 0 else "1")
    report = run(backend, store)
    told = report.conversations[0].exchanges[3]
    assert (told.answer, told.attempt, told.notes) == ("2, 1", 2, ())
    assert [m["content"] for m in told.messages[-4::2]] == ["Joints 1 and 2", "1, 99"]
    assert "joint number 99 is not in the list, which ends at 20" in told.messages[-1]["content"]
    assert report.asked == 17
    after = report.conversations[0].exchanges[4].messages
    assert len(after) == 8 and after[-2]["content"] == "2, 1"  # the failed turns are not history
    notes = [item.notes for item in store.find(class_names=["pick up"], rounds=[3])]
    assert [note[0].split(":")[0] for note in notes if note] == ["rejected", "rejected"]
    again = run(ScriptedBackend(lambda topic, messages: BackendError("not to be asked")), store)
    assert (again.asked, again.cached, again.failed) == (0, 17, ())


def test_after_two_more_tries_what_is_safe_is_repaired(store: DialogueStore) -> None:
    report = run(scripted(round4="Here:\n1-hip centre: sinks\n2-tail: wags"), store)
    told = report.conversations[0].exchanges[4]
    assert told.attempt == 2 and told.answer.startswith("Here") and told.text == "1-hip centre: sinks"
    assert told.notes[0].startswith("repaired: kept 1 of 3 lines, since")
    assert report.conversations[0].exchanges[5].messages[-2]["content"] == told.text
    assert selector.critical_mask(report.conversations, LAYOUT)[:, 0].all()


def test_what_cannot_be_repaired_fails_the_class_and_is_not_paid_for_twice(store: DialogueStore) -> None:
    backend = scripted(round4=lambda topic, _: "I cannot." if topic.class_index == 0 else good(topic, []))
    report = run(backend, store)
    assert [name for name, _ in report.failed] == ["pick up"]
    assert report.failed[0][1].startswith("round 4: the answer does not fit, asked 3 times: the line 'I cannot.'")
    again = run(backend, store)
    assert again.asked == 0 and again.failed == report.failed


@pytest.mark.parametrize(
    "answer", ["\x1b[2J\x00\ud800 up\r\nand down", "{0.__class__}" * 50, "<script>", "9" * 5000, ""]
)
def test_no_answer_crashes_or_reaches_the_terminal_raw(store: DialogueStore, answer: str) -> None:
    report = run(ScriptedBackend(lambda topic, messages: answer), store)
    assert len(report.failed) == 3
    for item in store.find():
        assert item.answer.isprintable() or set(item.answer) & {"\n"}
        assert "\x1b" not in item.answer and "\r" not in item.answer
    store.close()
    assert len(DialogueStore(store.path)) == len(store)
    assert all("\n" not in reason and reason.isprintable() for _, reason in report.failed)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=80), min_size=1, max_size=8))
def test_whatever_is_answered_describing_ends(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    """Any texts at all as answers to some rounds: a class is told or has failed, and nothing else happens."""
    texts_in_turn = itertools.cycle(texts)
    backend = ScriptedBackend(
        lambda topic, messages: next(texts_in_turn) if topic.round in (3, 4, 5) else good(topic, messages)
    )
    store = DialogueStore(tmp_path_factory.mktemp("any") / "d.h5")
    report = run(backend, store)
    assert len(report.conversations) + len(report.failed) == 3
    assert selector.critical_mask(report.conversations, LAYOUT).sum(1).min(initial=1) >= 1
    assert all(selector.read_distinction(text) for text in selector.sentences(report.conversations))
    assert not [finding for finding in verify(store)[1] if finding.kind == "malformed"]
    store.close()


def test_an_endless_answer_is_not_kept(store: DialogueStore) -> None:
    report = run(scripted(round1="up " * MAX_ANSWER), store)
    assert len(report.failed) == 3 and len(store) == 0


def test_clean_keeps_text_as_it_is() -> None:
    assert clean("a\r\nb\rc\td é 手 [red] \u2028") == "a\nb\nc\td é 手 [red] \u2028"


def test_classes_are_asked_at_the_same_time_and_reported_in_order(store: DialogueStore) -> None:
    meeting = threading.Barrier(3, timeout=20)  # passed only by three at once

    def answer(topic: Topic, messages: list[Message]) -> str:
        meeting.wait()
        return good_answer(topic, LAYOUT)

    seen: list[tuple[int, int]] = []
    report = run(ScriptedBackend(answer), store, jobs=3, progress=lambda done, total: seen.append((done, total)))
    assert [told.class_index for told in report.conversations] == [0, 1, 2] and report.asked == 15
    assert sorted(seen) == [(done, 15) for done in range(1, 16)]
    assert report.conversations == run(scripted(), store).conversations


@pytest.mark.parametrize("jobs", [1, 4])
def test_work_in_parallel_keeps_order_and_raises_errors(jobs: int) -> None:
    assert in_parallel(lambda x: 2 * x, range(50), jobs) == list(range(0, 100, 2))
    assert in_parallel(lambda x: x, [], jobs) == []

    def work(x: int) -> int:
        if x == 5:
            raise DialogueError("the disk is full")
        return x

    with pytest.raises(DialogueError, match="the disk is full"):
        in_parallel(work, range(50), jobs)


# ---- from the store


def test_load_gives_what_describe_gave(store: DialogueStore) -> None:
    report = run(scripted(), store)
    store.close()
    assert load(DialogueStore(store.path), CLASSES, LAYOUT) == report.conversations


def test_load_names_all_that_is_missing(store: DialogueStore) -> None:
    run(scripted(round5=lambda topic, _: good(topic, []) if topic.class_index == 1 else BackendError("x")), store)
    with pytest.raises(DialogueError) as caught:
        load(store, CLASSES, LAYOUT)
    assert "2 of 3 classes ('pick up' from round 5 on, 'carry' from round 5 on)" in str(caught.value)
    assert "`skag describe DATA.h5 --llm" in str(caught.value)


def test_load_takes_one_backend_and_one_wording_the_latest_complete(store: DialogueStore) -> None:
    first = run(scripted(), store)
    wording = replace(PROMPTS, texts={**PROMPTS.texts, "round1": "Tell of {class_name}."})
    latest = run(scripted(), store, wording)
    other = ScriptedBackend(good, options={"seed": 1})
    other.answer = lambda topic, messages: BackendError("x") if topic.class_index == 2 else good(topic, messages)
    run(other, store)  # later, but not complete
    assert load(store, CLASSES, LAYOUT) == latest.conversations != first.conversations
    assert load(store, CLASSES, LAYOUT, identity={"model": "test", "options": {}}) == latest.conversations
    with pytest.raises(DialogueError, match="1 of 3 classes"):
        load(store, CLASSES, LAYOUT, identity=other.identity())
    with pytest.raises(DialogueError, match="3 of 3 classes"):
        load(store, CLASSES, LAYOUT, identity={"backend": "ollama"})
    assert described_with(store, CLASSES, LAYOUT) == ["scripted/test"]


def test_a_class_of_two_label_sets_is_asked_once_and_found_in_both(store: DialogueStore) -> None:
    run(scripted(), store)
    more = [*CLASSES, "sit down"]
    report = describe(scripted(), store, more, LAYOUT, PROMPTS)
    assert (report.asked, report.cached) == (5, 15)
    assert load(store, more, LAYOUT) == report.conversations
    assert len(load(store, CLASSES[::-1], LAYOUT)) == 3


def test_answers_for_another_layout_are_not_taken(store: DialogueStore) -> None:
    run(scripted(), store)
    joints = (*LAYOUT.joints, "tail")  # the joint list of the one begins with that of the other
    longer = Layout(
        "longer", 3, joints, {**LAYOUT.bones, "tail": "spine"}, "spine", {**LAYOUT.parts, "tail": ("tail",)}
    )
    assert described_with(store, CLASSES, longer) == []
    report = describe(scripted(), store, CLASSES, longer, PROMPTS)
    assert report.cached == 6  # rounds 1 and 2 know no joints
    assert load(store, CLASSES, LAYOUT)[0].exchanges[3] != load(store, CLASSES, longer)[0].exchanges[3]


# ---- with what skag ships


def test_measured_answers_fit_their_formats(tiny_store: Path, store: DialogueStore) -> None:
    with SkeletonStore(tiny_store) as data:
        backend = open_backend("measured", store=data)
        report = describe(backend, store, data.classes, data.layout, PROMPTS, jobs=2)
        assert report.failed == () and report.asked == 20
        assert all(item.notes == () for item in store.find())
        assert described_with(store, data.classes, data.layout) == ["measured"]
        told = load(store, data.classes, data.layout, identity=backend.identity())
        assert selector.critical_mask(told, data.layout).any(axis=1).all()


def test_describing_with_a_server(store: DialogueStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the socket to the file: a model that first answers in prose, over HTTP, four at a time."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    def reply(messages: list[Message]) -> str:
        number = sum(message["role"] == "user" for message in messages)
        return ["It goes up.", "head: still", "1, 4", "4-head: nods", "The head nods slowly."][min(number, 5) - 1]

    with serve("openai") as server:
        server.reply = reply
        backend = open_backend("openai/tiny", base_url=f"{server.address}/v1")
        report = describe(backend, store, CLASSES, LAYOUT, PROMPTS, jobs=4)
    assert report.failed == () and report.asked == 15
    assert selector.sentences(load(store, CLASSES, LAYOUT)) == ["The head nods slowly."] * 3
    store.close()
    assert b"sk-secret" not in store.path.read_bytes()
