"""The Questioner: eq. 3 to the letter, and round 6 that never loses what was known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skag.backends import BackendDown, BackendError, Message, Topic, open_backend
from skag.backends.class_statistics import measure
from skag.dialogue import formats
from skag.dialogue.describe import describe
from skag.dialogue.exchanges import Conversation
from skag.dialogue.prompts import load_prompts
from skag.dialogue.store import DialogueStore
from skag.errors import DialogueError
from skag.methods.base import KnowledgeSource
from skag.methods.skeleton_agent import selector
from skag.methods.skeleton_agent.opening import open_agents
from skag.methods.skeleton_agent.questioner import (
    RefreshAnswers,
    ask_distinctions,
    by_errors,
    by_gain,
    not_yet_asked,
    similar_classes,
)
from skag.methods.skeleton_agent.script import SCRIPT, WITH_MEASURED
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import SkeletonStore

from .helpers.servers import ScriptedBackend, about, good_answer
from .helpers.training import quiet, small

CLASSES = ["pick up", "throw", "carry", "drop"]
LAYOUT = load_layout("kinect-v1")
PROMPTS = load_prompts(SCRIPT)
SIMILAR = {0: (3, 1), 2: (0,)}


@pytest.fixture
def told(store: DialogueStore) -> tuple[Conversation, ...]:
    return describe(good(), store, CLASSES, LAYOUT, PROMPTS).conversations


def good() -> ScriptedBackend:
    return ScriptedBackend(lambda topic, messages: good_answer(topic, LAYOUT))


def ask(
    backend: ScriptedBackend, store: DialogueStore, told: tuple[Conversation, ...], **options: object
) -> RefreshAnswers:
    return ask_distinctions(backend, store, told, options.pop("similar", SIMILAR), LAYOUT, PROMPTS, **options)


def test_similar_classes_by_hand() -> None:
    counts = np.array([[50, 3, 7, 3], [0, 60, 0, 0], [2, 0, 40, 9], [1, 1, 1, 0]], np.uint32)
    assert similar_classes(counts) == {0: (2, 1, 3), 2: (3, 0), 3: (0, 1, 2)}
    assert similar_classes(counts, k=1) == {0: (2,), 2: (3,), 3: (0,)}
    assert similar_classes(counts, min_confusions=3) == {0: (2, 1, 3), 2: (3,)}
    assert similar_classes(counts, min_confusions=0) == similar_classes(counts)  # a zero is no confusion
    assert counts[0, 0] == 50 and similar_classes(np.eye(4)) == {}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_similar_classes_are_those_of_eq_3(data: st.DataObject) -> None:
    size, k, least = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 10)), data.draw(st.integers(1, 3))
    counts = np.array(
        data.draw(st.lists(st.lists(st.integers(0, 4), min_size=size, max_size=size), min_size=size, max_size=size))
    )
    expected = {}
    for m in range(size):
        wrong = [(-counts[m, n], n) for n in range(size) if n != m and counts[m, n] >= least]
        if wrong:
            expected[m] = tuple(n for _, n in sorted(wrong)[:k])
    assert similar_classes(counts, k, least) == expected


def test_round_6_follows_rounds_1_to_5_and_names_the_similar_classes(
    store: DialogueStore, told: tuple[Conversation, ...]
) -> None:
    backend, seen = good(), []
    refresh = ask(backend, store, told, jobs=2, progress=lambda done, total: seen.append((done, total)))
    assert (refresh.asked, refresh.cached, refresh.failed) == (2, 0, ()) and sorted(seen) == [(1, 2), (2, 2)]
    topics = {topic.class_index: topic for topic, _ in backend.asked}
    assert topics == {0: about(0, "pick up", 6, (3, 1)), 2: about(2, "carry", 6, (0,))}
    kept = refresh.exchanges[0]
    assert kept.similar == ("drop", "throw") and kept.round == 6 and len(kept.messages) == 12
    assert kept.messages[:11] == told[0].exchanges[5].after and "- drop\n- throw" in kept.messages[-1]["content"]
    assert [sorted(each.exchanges) for each in refresh.conversations] == [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5]] * 2
    assert selector.sentences(refresh.conversations)[0] == kept.text != selector.sentences(told)[0]
    assert 6 not in told[0].exchanges  # what was given stays as it was


def test_the_same_similar_classes_are_asked_about_once(store: DialogueStore, told: tuple[Conversation, ...]) -> None:
    first = ask(good(), store, told)
    never = ScriptedBackend(lambda topic, messages: BackendError("not to be asked"))
    again = ask(never, store, first.conversations)  # a distinction is no history of the next one
    assert (again.asked, again.cached) == (0, 2) and again.conversations == first.conversations
    assert ask(good(), store, told, similar={0: (1, 3)}).asked == 1  # another order is another question


def test_a_class_whose_answer_fails_keeps_its_distinction(store: DialogueStore, told: tuple[Conversation, ...]) -> None:
    before = ask(good(), store, told).conversations

    def answer(topic: Topic, messages: list[Message]) -> str | BackendError:
        return BackendError("refused.") if topic.class_index == 0 else "No."

    refresh = ask(ScriptedBackend(answer), store, before, similar={0: (1,), 1: (0,), 2: (1,)})
    assert refresh.conversations == before and refresh.exchanges == ()
    assert [name for name, _ in refresh.failed] == ["pick up", "throw", "carry"]
    assert refresh.failed[1][1] == "round 6: the answer does not fit, asked 3 times: it is no sentence"
    assert refresh.asked == 6


def test_a_distinction_that_is_too_long_is_asked_again_and_then_cut(
    store: DialogueStore, told: tuple[Conversation, ...]
) -> None:
    long = "The right hand rises above the head at once, " + "and it goes on and on, " * 20
    refresh = ask(ScriptedBackend(lambda topic, messages: long), store, told, similar={0: (1,)})
    (kept,) = refresh.exchanges
    assert kept.attempt == 2 and kept.notes[0].startswith("repaired: cut the sentence")
    assert formats.read_distinction(kept.text) in selector.sentences(refresh.conversations)


def test_a_backend_that_is_down_stops_no_training(store: DialogueStore, told: tuple[Conversation, ...]) -> None:
    class Gone(ScriptedBackend):
        def identity(self) -> dict:
            raise BackendDown("no server.")

    refresh = ask(Gone(lambda topic, messages: ""), store, told)
    assert refresh.conversations == told and refresh.failed == (("pick up", "no server."), ("carry", "no server."))
    down = ScriptedBackend(lambda topic, messages: BackendDown("no server."))
    refresh = ask(down, store, told)
    assert refresh.conversations == told and len(refresh.failed) == 2 and len(down.asked) == 1


def test_measured_distinctions_fit_their_format(tiny_store: Path, store: DialogueStore) -> None:
    with SkeletonStore(tiny_store) as data:
        backend = open_backend("measured", store=data)
        told = describe(backend, store, data.classes, data.layout, PROMPTS).conversations
        refresh = ask_distinctions(backend, store, told, {0: (1, 2), 1: (0,)}, data.layout, PROMPTS)
        assert refresh.failed == () and [item.notes for item in refresh.exchanges] == [(), ()]
        mask = selector.critical_mask(refresh.conversations, data.layout, with_distinctions=True)
        assert (mask.sum(axis=1) <= 10).all()


def test_questions_by_errors_and_by_what_an_answer_could_mend() -> None:
    """Class 0 has most errors, all with a class that nothing measured separates it from."""
    counts = np.array([[50, 9, 0], [1, 60, 3], [0, 4, 40]])
    similar = similar_classes(counts)
    assert list(by_errors(counts, similar)) == [0, 1, 2]
    apart = {(0, 1): 0.1, (1, 0): 0.1, (1, 2): 0.9, (2, 1): 0.9}
    found = by_gain(counts, similar, lambda one, other: apart[one, other])
    assert list(found) == [2, 1, 0] and found == similar  # 4 x 0.9, then 1 x 0.1 + 3 x 0.9, then 9 x 0.1


def test_what_is_measured_of_two_classes_tells_them_apart(tiny_store: Path) -> None:
    with SkeletonStore(tiny_store) as data:
        found = measure(data, "xsub_train")
    spread = 0.5 * (found.variance[0] + found.variance[1])
    assert 0.99 < found.told_apart(0, 1) <= 1 and found.told_apart(0, 0) == 0
    near = replace(found, mean=np.stack([found.mean[0], found.mean[0] + 0.1 * np.sqrt(spread)]))
    assert near.told_apart(0, 1) == pytest.approx(0.04, abs=0.01)  # 2 Phi(0.05) - 1


def test_a_question_brings_along_what_was_measured(store: DialogueStore, told: tuple[Conversation, ...]) -> None:
    backend, prompts = good(), load_prompts(WITH_MEASURED)
    measured = {0: "Unlike drop, the right hand goes up.", 2: "Unlike pick up, nothing."}
    options = {"measured": lambda one, others: f"{measured[one]} {others}"}
    refresh = ask_distinctions(backend, store, told, SIMILAR, LAYOUT, prompts, **options)
    asked = {topic.class_index: messages[-1]["content"] for topic, messages in backend.asked}
    assert f"{measured[0]} (3, 1)" in asked[0] and "It must agree with what was measured" in asked[0]
    assert measured[2] in asked[2] and len(refresh.exchanges) == 2 and not refresh.failed
    with pytest.raises(DialogueError, match=r"round6_measured\.txt: no value for the variable \{measured\}"):
        ask_distinctions(backend, store, told, {1: (0,)}, LAYOUT, prompts)


def test_training_asks_with_what_was_measured(tiny_store: Path, tmp_path: Path) -> None:
    """Options of a run: the questions of its refreshes hold measured sentences, those with most to gain first."""
    config = small(epochs=2, query_period=1, wait_for_answers=True, measured_differences=True, questions_by="gain")
    source = KnowledgeSource(tmp_path / "d.h5", llm="measured")
    with SkeletonStore(tiny_store) as data, open_agents(config, data, source, "cpu", quiet) as agents:
        counts = np.full((4, 4), 2)
        agents.begin_refresh(counts, 1)
        record = agents.finish_refresh(2)
        assert record is not None and record["asked"] == 4 and agents.told_apart is not None
        questions = [agents.exchanges[key].messages[-1]["content"] for key in record["exchanges"]]
    assert all("This was measured in recordings of these actions:\n\nUnlike " in question for question in questions)


def test_a_class_is_not_asked_again_about_the_same_set(store: DialogueStore, told: tuple[Conversation, ...]) -> None:
    assert not_yet_asked(SIMILAR, told) == SIMILAR
    after = ask(good(), store, told).conversations
    assert not_yet_asked({0: (1, 3), 1: (0,), 2: (0, 1)}, after) == {1: (0,), 2: (0, 1)}


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_budget_of_questions_is_kept(jobs: int, store: DialogueStore, told: tuple[Conversation, ...]) -> None:
    similar = {3: (0,), 1: (0,), 0: (1,)}
    refresh = ask(good(), store, told, similar=similar, budget=2, jobs=jobs)
    assert (refresh.asked, refresh.over_budget, refresh.failed) == (2, ("pick up",), ())
    again = ask(good(), store, told, similar=similar, budget=2, jobs=jobs)  # what is stored counts like what is asked
    assert (again.asked, again.cached, again.over_budget) == (0, 2, ("pick up",))
    assert again.conversations == refresh.conversations


def test_a_question_that_failed_is_not_counted(store: DialogueStore, told: tuple[Conversation, ...]) -> None:
    def answer(topic: Topic, messages: list[Message]) -> str | BackendError:
        return BackendError("refused.") if topic.class_index == 0 else good_answer(topic, LAYOUT)

    refresh = ask(ScriptedBackend(answer), store, told, similar={0: (1,), 1: (0,)}, budget=1)
    assert (refresh.asked, refresh.over_budget) == (1, ()) and [name for name, _ in refresh.failed] == ["pick up"]
