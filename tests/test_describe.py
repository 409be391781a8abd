"""Describing: each class is one conversation, asked once, and whatever fails stays with its class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skag.backends import BackendDown, BackendError, open_backend
from skag.dialogue.describe import describe, described_with, load
from skag.dialogue.store import DialogueStore
from skag.errors import DialogueError
from skag.methods.skeleton_agent import selector
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import Layout
from skag.skeleton.store import SkeletonStore

from .helpers.describing import CLASSES, LAYOUT, PROMPTS, good, run, scripted
from .helpers.servers import ScriptedBackend, reply_by_round, serve


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


# ---- from the store


def test_load_gives_what_describe_gave(store: DialogueStore) -> None:
    report = run(scripted(), store)
    store.close()
    assert load(DialogueStore(store.path), CLASSES, LAYOUT, SCRIPT) == report.conversations


def test_load_names_all_that_is_missing(store: DialogueStore) -> None:
    run(scripted(round5=lambda topic, _: good(topic, []) if topic.class_index == 1 else BackendError("x")), store)
    with pytest.raises(DialogueError) as caught:
        load(store, CLASSES, LAYOUT, SCRIPT)
    assert "2 of 3 classes ('pick up' from round 5 on, 'carry' from round 5 on)" in str(caught.value)
    assert "`skag describe DATA.h5 --llm" in str(caught.value)


def test_load_takes_one_backend_and_one_wording_the_latest_complete(store: DialogueStore) -> None:
    first = run(scripted(), store)
    wording = replace(PROMPTS, texts={**PROMPTS.texts, "round1": "Tell of {class_name}."})
    latest = run(scripted(), store, wording)
    other = ScriptedBackend(good, options={"seed": 1})
    other.answer = lambda topic, messages: BackendError("x") if topic.class_index == 2 else good(topic, messages)
    run(other, store)  # later, but not complete
    assert load(store, CLASSES, LAYOUT, SCRIPT) == latest.conversations != first.conversations
    assert load(store, CLASSES, LAYOUT, SCRIPT, identity={"model": "test", "options": {}}) == latest.conversations
    with pytest.raises(DialogueError, match="1 of 3 classes"):
        load(store, CLASSES, LAYOUT, SCRIPT, identity=other.identity())
    with pytest.raises(DialogueError, match="3 of 3 classes"):
        load(store, CLASSES, LAYOUT, SCRIPT, identity={"backend": "ollama"})
    assert described_with(store, CLASSES, LAYOUT, SCRIPT) == ["scripted/test"]


def test_a_class_of_two_label_sets_is_asked_once_and_found_in_both(store: DialogueStore) -> None:
    run(scripted(), store)
    more = [*CLASSES, "sit down"]
    report = describe(scripted(), store, more, LAYOUT, PROMPTS)
    assert (report.asked, report.cached) == (5, 15)
    assert load(store, more, LAYOUT, SCRIPT) == report.conversations
    assert len(load(store, CLASSES[::-1], LAYOUT, SCRIPT)) == 3


def test_answers_for_another_layout_are_not_taken(store: DialogueStore) -> None:
    run(scripted(), store)
    joints = (*LAYOUT.joints, "tail")  # the joint list of the one begins with that of the other
    longer = Layout(
        "longer", 3, joints, {**LAYOUT.bones, "tail": "spine"}, "spine", {**LAYOUT.parts, "tail": ("tail",)}
    )
    assert described_with(store, CLASSES, longer, SCRIPT) == []
    report = describe(scripted(), store, CLASSES, longer, PROMPTS)
    assert report.cached == 6  # rounds 1 and 2 know no joints
    assert load(store, CLASSES, LAYOUT, SCRIPT)[0].exchanges[3] != load(store, CLASSES, longer, SCRIPT)[0].exchanges[3]


# ---- with what skag ships


def test_measured_answers_fit_their_formats(tiny_store: Path, store: DialogueStore) -> None:
    with SkeletonStore(tiny_store) as data:
        backend = open_backend("measured", store=data)
        report = describe(backend, store, data.classes, data.layout, PROMPTS, jobs=2)
        assert report.failed == () and report.asked == 20
        assert all(item.notes == () for item in store.find())
        assert described_with(store, data.classes, data.layout, SCRIPT) == ["measured"]
        told = load(store, data.classes, data.layout, SCRIPT, identity=backend.identity())
        assert selector.critical_mask(told, data.layout).any(axis=1).all()


def test_describing_with_a_server(store: DialogueStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the socket to the file: a model that first answers in prose, over HTTP, four at a time."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    with serve("openai") as server:
        server.reply = reply_by_round
        backend = open_backend("openai/tiny", base_url=f"{server.address}/v1")
        report = describe(backend, store, CLASSES, LAYOUT, PROMPTS, jobs=4)
    assert report.failed == () and report.asked == 15
    assert selector.sentences(load(store, CLASSES, LAYOUT, SCRIPT)) == ["The head nods slowly."] * 3
    store.close()
    assert b"sk-secret" not in store.path.read_bytes()
