"""Asking: again with the reason, of a second model, at the same time, held to a schema; and what it takes."""

from __future__ import annotations

import itertools
import json
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skag.backends import (
    Answer,
    BackendDown,
    BackendError,
    Message,
    OllamaBackend,
    OpenAIBackend,
    Patience,
    Topic,
    open_backend,
)
from skag.dialogue import formats
from skag.dialogue.describe import describe, described_with, load, unusable_before
from skag.dialogue.exchanges import Usage
from skag.dialogue.interview import MAX_ANEW, MAX_ANSWER, Respondent, clean, in_parallel
from skag.dialogue.replay import identities_of, replay
from skag.dialogue.store import DialogueStore
from skag.dialogue.transfer import _problem
from skag.dialogue.verify import verify
from skag.errors import DialogueError
from skag.methods.skeleton_agent import selector
from skag.methods.skeleton_agent.script import SCRIPT

from .helpers.describing import CLASSES, LAYOUT, PROMPTS, good, run, scripted
from .helpers.servers import Fault, ScriptedBackend, good_answer, reply_by_round, serve


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


def test_what_cannot_be_repaired_fails_the_class_and_is_put_anew_by_the_same_command(store: DialogueStore) -> None:
    backend = scripted(round4=lambda topic, _: "I cannot." if topic.class_index == 0 else good(topic, []))
    report = run(backend, store)
    assert [name for name, _ in report.failed] == ["pick up"]
    assert report.failed[0][1].startswith("round 4: the answer does not fit, asked 3 times: the line 'I cannot.'")
    before = {item.key: item for item in store.find()}
    well = run(ScriptedBackend(good), store)
    assert (well.asked, well.failed) == (2, ())  # rounds 4 and 5 of the one class
    assert all(store.get(key) == item for key, item in before.items())
    assert run(ScriptedBackend(good), store).asked == 0
    told = load(store, CLASSES, LAYOUT, SCRIPT)[0].exchanges[4]
    assert (told.again, told.attempt, told.rejected) == (1, 0, None)
    assert not [finding for finding in verify(store, SCRIPT)[1] if finding.kind in ("broken", "malformed")]


@pytest.mark.parametrize(
    "answer", ["", "I'm sorry, but I can't help with that.", "1-hip"], ids=["empty", "refused", "cut"]
)
def test_putting_anew_has_an_end(store: DialogueStore, answer: str) -> None:
    backend = scripted(round4=lambda topic, _: answer if topic.class_index == 0 else good(topic, []))
    asked = [run(backend, store).asked for _ in range(MAX_ANEW + 3)]
    assert asked == [3 * 5 - 1 + 2] + [3] * MAX_ANEW + [0, 0]
    ((name, reason),) = run(backend, store).failed
    assert name == "pick up" and reason.endswith(f", in {MAX_ANEW + 1} runs: choose another model, or --fallback")


def test_offline_nobody_is_asked_anew_and_what_was_is_found(store: DialogueStore) -> None:
    backend = scripted(round4=lambda topic, _: "" if topic.class_index == 0 else good(topic, []))
    run(backend, store)
    offline = describe(None, store, CLASSES, LAYOUT, PROMPTS, identity=backend.identity())
    assert offline.asked == 0 and "the answer does not fit, asked 3 times" in offline.failed[0][1]
    run(ScriptedBackend(good), store)
    offline = describe(None, store, CLASSES, LAYOUT, PROMPTS, identity=backend.identity())
    assert (offline.asked, offline.failed) == (0, ())


def test_what_was_put_anew_survives_export_and_import(store: DialogueStore, tmp_path: Path) -> None:
    run(scripted(round4=lambda topic, _: "" if topic.class_index == 0 else good(topic, [])), store)
    run(ScriptedBackend(good), store)
    other = DialogueStore(tmp_path / "other.h5")
    for item in store:
        record = item.to_record()
        assert _problem(json.loads(json.dumps(record))) is None
        other.add(type(item).from_record(record))
    assert run(ScriptedBackend(good), other).asked == 0


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
    assert all(formats.read_distinction(text) for text in selector.sentences(report.conversations))
    assert not [finding for finding in verify(store, SCRIPT)[1] if finding.kind == "malformed"]
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


def test_no_more_questions_than_jobs_are_asked_at_the_same_time(store: DialogueStore) -> None:
    asking: list[int] = []
    most: list[int] = []

    def answer(topic: Topic, messages: list[Message]) -> str:
        asking.append(1)
        most.append(len(asking))
        time.sleep(0.002)
        asking.pop()
        return good_answer(topic, LAYOUT)

    report = run(ScriptedBackend(answer), store, jobs=2)
    assert report.asked == 15 and max(most) == 2


def test_the_last_items_are_begun_at_once() -> None:
    """With 5 items and 3 threads the last 2 do not wait for the first 3: all five meet."""
    meeting = threading.Barrier(5, timeout=20)
    assert sorted(in_parallel(lambda x: meeting.wait() >= 0 and x, range(5), 3)) == [0, 1, 2, 3, 4]


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


# ---- a second model

REFUSAL = Answer("I'm sorry, but I can't help with that.", tokens_in=9, tokens_out=1, refused="it declines to answer")
UNUSED = ScriptedBackend(lambda topic, messages: BackendError("not to be asked"), spec="scripted/second")


def second(**answers: str | Answer | BackendError) -> ScriptedBackend:
    return replace(scripted(**answers), spec="scripted/second")


def refusing(number: int, answer: str | Answer = REFUSAL) -> ScriptedBackend:
    """Refuses one round of the second class."""
    return scripted(**{f"round{number}": lambda topic, _: answer if topic.class_index == 1 else good(topic, [])})


@pytest.mark.parametrize("number", range(1, 6))
def test_what_is_refused_is_asked_of_the_second_model_once(store: DialogueStore, number: int) -> None:
    first, other = refusing(number), second()
    report = run(first, store, fallback=Respondent(other))
    assert report.failed == () and report.by_fallback == 1
    assert [(topic.class_index, topic.round) for topic, _ in other.asked] == [(1, number)]
    assert len(first.asked) == 15  # later rounds are the first one's again, and it was not asked twice
    told = report.conversations[1].exchanges[number]
    assert told.identity == other.identity() and told.attempt == 0
    (refused,) = (item for item in store.find() if item.rejected)
    assert refused.identity == first.identity() and refused.refused == "it declines to answer"
    assert refused.messages == told.messages and refused.answer == REFUSAL.text
    again = run(replace(UNUSED, spec="scripted/test"), store, fallback=Respondent(UNUSED))
    assert again.conversations == report.conversations and again.asked == 0


@pytest.mark.parametrize("number", range(1, 6))
def test_a_dialogue_with_a_second_model_is_found_as_the_first_ones(store: DialogueStore, number: int) -> None:
    report = run(refusing(number), store, fallback=Respondent(second()))
    assert load(store, CLASSES, LAYOUT, SCRIPT) == report.conversations
    assert load(store, CLASSES, LAYOUT, SCRIPT, identity={"model": "test"}) == report.conversations
    assert described_with(store, CLASSES, LAYOUT, SCRIPT) == ["scripted/test"]
    with pytest.raises(DialogueError, match="3 of 3 classes"):
        load(store, CLASSES, LAYOUT, SCRIPT, identity={"model": "second"})
    used = [exchange for told in report.conversations for exchange in told.exchanges.values()]
    kept = unusable_before(store, used)
    assert len(kept) == 1
    copy = DialogueStore(store.path.with_name("copy.h5"))  # as from a run folder
    copy.add_all([*kept, *used])
    assert load(copy, CLASSES, LAYOUT, SCRIPT) == report.conversations
    assert run(replace(UNUSED, spec="scripted/test"), copy, fallback=Respondent(UNUSED)).failed == ()
    for checked in (store, copy):
        assert [found for found in verify(checked, SCRIPT, classes=CLASSES, layout=LAYOUT)[1] if found.is_problem] == []
    run(second(), store)  # the second model's own dialogue beside it
    assert [found for found in verify(store, SCRIPT, classes=CLASSES, layout=LAYOUT)[1] if found.is_problem] == []


def test_offline_the_second_model_is_looked_up_too(store: DialogueStore) -> None:
    report = run(refusing(3), store, fallback=Respondent(second()))
    identities = [identities_of(f"scripted/{model}", store) for model in ("test", "second")]
    again = replay(identities[0], store, CLASSES, LAYOUT, PROMPTS, fallback=Respondent(None, identities[1]))
    assert again.conversations == report.conversations and again.missing == () and again.cached == 16
    lacking = replay(identities[0], store, CLASSES, LAYOUT, PROMPTS, fallback=Respondent(None, []))
    assert [(question.class_name, question.round) for question in lacking.missing] == [(CLASSES[1], 3)]


def test_a_question_answered_before_by_the_second_model_is_still_the_first_ones_to_answer(store: DialogueStore) -> None:
    run(second(), store)
    report = run(scripted(), store, fallback=Respondent(UNUSED))
    assert report.asked == 15 and report.by_fallback == 0


def test_a_format_missed_three_times_is_the_second_models_too(store: DialogueStore) -> None:
    first, other = refusing(4, "It is hard to say."), second()
    report = run(first, store, fallback=Respondent(other))
    assert report.failed == () and report.by_fallback == 1 and len(first.asked) == 17
    assert len(other.asked[0][1]) == 8  # without the turns that did not fit
    assert load(store, CLASSES, LAYOUT, SCRIPT) == report.conversations


def test_without_a_second_model_a_refusal_is_asked_again(store: DialogueStore) -> None:
    answers = iter([REFUSAL, Answer("", refused="it is empty"), "1, 2"])
    first = scripted(round3=lambda topic, _: next(answers) if topic.class_index == 1 else good(topic, []))
    report = run(first, store)
    told = report.conversations[1].exchanges[3]
    assert (told.attempt, told.answer) == (2, "1, 2")
    assert [message["content"] for message in told.messages[-4::2]] == [REFUSAL.text, "..."]  # none is empty
    assert "it is empty" in told.messages[-1]["content"]
    assert load(store, CLASSES, LAYOUT, SCRIPT) == report.conversations


def test_when_the_second_model_fails_too_both_are_named(store: DialogueStore) -> None:
    report = run(refusing(2), store, fallback=Respondent(second(round2=BackendDown("no server."))))
    ((name, reason),) = report.failed
    assert name == CLASSES[1]
    assert reason == "round 2: scripted/test refused (it declines to answer); scripted/second instead: no server."
    report = run(refusing(2), store, fallback=Respondent(second(round2=REFUSAL)))
    assert "the answer does not fit, asked 3 times: it declines to answer" in report.failed[0][1]


def test_a_second_model_that_is_down_does_not_stop_the_first(store: DialogueStore) -> None:
    first = scripted(round1=lambda topic, _: REFUSAL if topic.class_index < 2 else good(topic, []))
    other = second(round1=BackendDown("no server."))
    report = run(first, store, fallback=Respondent(other))
    assert len(other.asked) == 1 and len(report.failed) == 2 and len(report.conversations) == 1


# ---- what it took


def test_tokens_seconds_and_cost_are_summed_for_now_and_before(store: DialogueStore) -> None:
    priced = scripted(round1=Answer("It goes up.", tokens_in=100, tokens_out=10, seconds=2.0, details={"cost": 0.25}))
    priced.answer, rest = (lambda topic, messages: answers(topic, messages)), priced.answer
    plain = Answer("head: still", tokens_in=None, tokens_out=None, seconds=1.0)
    answers = lambda topic, messages: plain if topic.round == 2 else rest(topic, messages)  # noqa: E731
    report = run(priced, store)
    assert report.usage.questions == 15 and report.usage.cost == 0.75 and report.usage.unpriced == 12
    assert report.usage.seconds == 9 and report.usage_before == Usage()
    again = run(priced, store)
    assert again.usage == Usage() and again.usage_before == report.usage
    assert Usage().cost is None


# ---- held to a schema

JSON_ANSWERS = {
    3: '{"joints": [1, 4]}',
    4: '{"joints": [{"joint": "4-head", "movement": "nods\\ntwice"}, {"joint": "1-hip centre", "movement": "rests"}]}',
    5: '{"sentence": "The head nods slowly."}',
}


@dataclass
class Structured(ScriptedBackend):
    spec: str = "ollama/scripted"
    schemas: list[dict | None] = field(default_factory=list)

    def ask(self, messages: list[Message], topic: Topic, schema: dict | None = None) -> Answer:
        self.schemas.append(schema)
        return super().ask(messages, topic, schema)


def test_json_by_the_schema_is_read_as_the_text_that_was_asked_for(store: DialogueStore) -> None:
    backend = Structured(lambda topic, _: JSON_ANSWERS.get(topic.round, good(topic, [])))
    report = run(backend, store, structured=True)
    told = report.conversations[0]
    assert report.failed == () and report.asked == 15
    texts = [told.text(number) for number in (3, 4, 5)]
    assert texts == ["1, 4", "4-head: nods twice\n1-hip centre: rests", "The head nods slowly."]
    assert told.exchanges[3].answer == JSON_ANSWERS[3] and told.exchanges[3].notes == ("read: from JSON",)
    assert told.exchanges[4].messages[-2]["content"] == "1, 4"  # history is as it always is
    assert backend.schemas[:5] == [None, None, *(told.exchanges[number].schema for number in (3, 4, 5))]
    assert load(store, CLASSES, LAYOUT, SCRIPT) == report.conversations
    assert run(Structured(good), store).asked == 9  # without the schema these are other questions


def test_a_server_that_ignores_the_schema_is_read_as_plain_text(store: DialogueStore) -> None:
    report = run(Structured(good), store, structured=True)
    assert report.failed == () and report.asked == 15
    assert all(item.notes == () for item in store.find())


@pytest.mark.parametrize("answer", ['{"joints": [99]}', '{"joints": "1"}', '{"joints": [[1]]}', "{}", "[" * 10_000])
def test_json_that_does_not_fit_is_rejected(store: DialogueStore, answer: str) -> None:
    backend = Structured(lambda topic, _: answer if topic.round == 3 else good(topic, []))
    run(backend, store, structured=True)
    tries = store.find(class_names=["carry"], rounds=[3])
    assert len(tries) == 3 and all(item.rejected for item in tries[:2])


def test_the_schemas_allow_what_the_selector_accepts_and_no_other_joint() -> None:
    assert SCRIPT[1].format.schema(LAYOUT) is None and SCRIPT[2].format.schema(LAYOUT) is None
    joint = SCRIPT[3].format.schema(LAYOUT)["properties"]["joints"]["items"]
    assert (joint["minimum"], joint["maximum"]) == (1, LAYOUT.num_joints)
    line = SCRIPT[4].format.schema(LAYOUT)["properties"]["joints"]["items"]["properties"]["joint"]
    for label in line["enum"]:
        SCRIPT[4].format.check(f"{label}: moves", LAYOUT)
    assert len(line["enum"]) == LAYOUT.num_joints


def test_describing_with_a_server_that_does_everything_wrong(store: DialogueStore) -> None:
    """Each fault once, four questions at a time, and a second server for what the first one refuses."""

    filtered = b'{"error": {"message": "Content Exists Risk"}}'
    empty = b'{"model": "tiny", "choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}'
    with serve("openai") as first, serve("ollama") as other:
        first.reply = other.reply = reply_by_round
        first.faults = [
            Fault(500, b"<html>"), Fault(429, b"{}", {"Retry-After": "0.01"}), Fault(body=b'{"choices": [{'),
            Fault(cut=40), Fault(503, b"{}"), Fault(400, filtered), Fault(body=empty),
            Fault(body=b'{"model": "tiny", "choices": [{"message": {"refusal": "No."}, "finish_reason": "stop"}]}'),
        ]  # fmt: skip
        patience = Patience(timeout=5, first_wait=0.01)
        backend = OpenAIBackend("tiny", f"{first.address}/v1", patience=patience)
        second = Respondent(OllamaBackend("tiny", other.address, patience=patience))
        report = describe(backend, store, CLASSES, LAYOUT, PROMPTS, jobs=4, fallback=second)
        assert (report.failed, report.by_fallback, len(other.chats())) == ((), 3, 3) and not first.faults
    assert load(store, CLASSES, LAYOUT, SCRIPT) == report.conversations
    again = describe(backend, store, CLASSES, LAYOUT, PROMPTS, fallback=second)  # both servers are gone
    assert again.asked == 0 and again.conversations == report.conversations
    assert sum(item.refused is not None for item in store.find()) == 3


@pytest.mark.parametrize("kind", ["ollama", "openai"])
def test_a_server_is_sent_the_schema_and_may_ignore_it(store: DialogueStore, kind: str) -> None:
    def reply(messages: list[Message]) -> str:
        held_to_it = JSON_ANSWERS if kind == "ollama" else {}
        return held_to_it.get(len(messages) // 2, reply_by_round(messages))

    with serve(kind) as server:
        server.reply = reply
        url = server.address if kind == "ollama" else f"{server.address}/v1"
        report = describe(
            open_backend(f"{kind}/tiny", base_url=url), store, CLASSES[:1], LAYOUT, PROMPTS, structured=True
        )
    assert report.failed == () and report.conversations[0].text(3) == "1, 4"
    sent = [body.get("format") if kind == "ollama" else body.get("response_format") for body in server.chats()]
    assert sent[:2] == [None, None] and all(sent[2:])
