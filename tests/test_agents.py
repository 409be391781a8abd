"""Questioner and Selector as the training loop sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skag import text
from skag.backends import open_backend
from skag.config import replace
from skag.dialogue.describe import describe
from skag.dialogue.prompts import load_prompts
from skag.dialogue.store import DialogueStore
from skag.errors import DialogueError
from skag.methods.base import KnowledgeSource
from skag.methods.skeleton_agent.agents import Agents
from skag.methods.skeleton_agent.config import AgentConfig, SkeletonAgentConfig
from skag.methods.skeleton_agent.opening import open_agents
from skag.methods.skeleton_agent.questioner import RefreshAnswers
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import SkeletonStore

from .helpers.servers import reply_by_round, serve
from .helpers.tiny import described
from .helpers.training import agents_of, refresh

REFUSAL = "I'm sorry, but I can't describe that."
LAYOUT = load_layout("kinect-v1")
CONFIG = SkeletonAgentConfig("x")


def test_inactive_agents_find_every_joint_critical() -> None:
    agents = Agents(AgentConfig(alpha=0, beta=0), LAYOUT, 3)
    assert not agents.active
    assert agents.mask("j").tolist() == np.ones((3, 20)).tolist()
    assert agents.text_vectors.shape == (3, agents.text_width)


def test_a_bone_is_critical_when_either_end_is() -> None:
    agents = Agents(AgentConfig(), LAYOUT, 1)
    agents.joints = np.zeros((1, 20), np.uint8)
    agents.joints[0, LAYOUT.index["right elbow"]] = 1
    found = {stream: [LAYOUT.joints[v] for v in np.flatnonzero(agents.mask(stream)[0])] for stream in ("jm", "b", "k")}
    assert found["jm"] == ["right elbow"]
    assert found["b"] == ["right elbow", "right wrist"]  # elbow to shoulder, wrist to elbow
    assert found["k"] == ["right elbow", "right hand"]  # to the joint before the last


def test_a_refresh_takes_over_what_was_answered_and_keeps_the_rest(tiny_store: Path, tmp_path: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        described(store, tmp_path / "d.h5")
        with agents_of(CONFIG, store, tmp_path / "d.h5") as agents:
            text = agents.text_vectors.copy()
            counts = np.diag([9, 9, 9, 9])
            counts[0, 1], counts[0, 3], counts[1, 0] = 2, 5, 1
            record = refresh(agents, counts, epoch=7)
            assert record["similar"] == {
                store.classes[0]: [store.classes[3], store.classes[1]],
                store.classes[1]: [store.classes[0]],
            }
            assert (record["epoch"], record["asked"], record["cached"]) == (7, 2, 0)
            changed = (agents.text_vectors != text).any(1)
            assert changed.tolist() == [True, True, False, False]
            assert record["changed"] == store.classes[:2]
            again = refresh(agents, counts, epoch=8)
            assert (again["asked"], again["cached"], again["changed"]) == (0, 0, [])  # the same sets
            assert agents.num_refreshes == 2 and agents.num_asked == 2
            assert len(agents.exchanges) == 4 * 5 + 2


@pytest.mark.parametrize("shuffled", [False, True])
def test_sentences_that_are_long_for_the_text_encoder_are_noted_once(
    shuffled: bool, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the class that they tell of, whichever class they are given to."""
    monkeypatch.setattr(text, "_open_tokeniser", lambda *arguments: (lambda sentence: len(sentence.split()), 1))
    notes: list[str] = []
    with SkeletonStore(tiny_store) as store:
        described(store, tmp_path / "d.h5")
        source = KnowledgeSource(tmp_path / "d.h5", shuffled=shuffled)
        with open_agents(CONFIG, store, source, "cpu", notes.append) as agents:
            assert len(notes) == 1 and notes[0].startswith("Note: lexical reads 1 tokens")
            assert all(name in notes[0] for name in store.classes)
            counts = np.zeros((4, 4), int)
            counts[0, 1] = 2
            refresh(agents, counts, epoch=1)
            assert len(notes) == 2 and store.classes[0] in notes[1] and store.classes[3] not in notes[1]
            refresh(agents, counts, epoch=2)
            assert len(notes) == 2


def test_who_is_similar_is_configured(tiny_store: Path, tmp_path: Path) -> None:
    counts = np.array([[9, 3, 2, 1], [2, 9, 0, 0], [0, 3, 9, 4], [0, 0, 0, 9]])
    with SkeletonStore(tiny_store) as store:
        described(store, tmp_path / "d.h5")
        a, b, c, d = store.classes
        for settings, similar in (
            ({}, {a: [b, c, d], b: [a], c: [d, b]}),
            ({"min_confusions": 3}, {a: [b], c: [d, b]}),
            ({"max_similar": 1}, {a: [b], b: [a], c: [d]}),
        ):
            with agents_of(replace(CONFIG, "agents", **settings), store, tmp_path / "d.h5") as agents:
                assert refresh(agents, counts, epoch=1)["similar"] == similar


def test_a_backend_that_fails_leaves_masks_and_sentences_as_they_are(tiny_store: Path, tmp_path: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        described(store, tmp_path / "d.h5")
        with agents_of(CONFIG, store, tmp_path / "d.h5") as agents:
            agents.ask = lambda conversations, similar, budget: RefreshAnswers(
                tuple(conversations), (), 0, 0, (("x", "down"),)
            )
            text, joints = agents.text_vectors.copy(), agents.joints.copy()
            record = refresh(agents, np.ones((4, 4), int), epoch=1)
            assert record["failed"] == [["x", "down"]] and not record["changed"]
            np.testing.assert_array_equal(agents.text_vectors, text)
            np.testing.assert_array_equal(agents.joints, joints)


def test_what_is_refused_in_training_is_asked_of_the_fallback(tiny_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.h5"
    with SkeletonStore(tiny_store) as store, serve("openai") as server:
        server.reply = lambda messages: REFUSAL if len(messages) > 10 else reply_by_round(messages)
        url = f"{server.address}/v1"
        with DialogueStore(path) as kept:
            backend = open_backend("openai/tiny", base_url=url)
            describe(backend, kept, store.classes, store.layout, load_prompts(SCRIPT))
        options = {"llm": "openai/tiny", "base_url": url}
        for asked in (1, 0):  # the second time from the store
            with agents_of(CONFIG, store, path, fallback="measured", **options) as agents:
                counts, before = np.diag([9, 9, 9, 9]), agents.sentences[0]
                counts[0, 1] = 2
                record = refresh(agents, counts, epoch=5)
                assert (record["asked"], record["failed"]) == (2 * asked, [])
                assert record["changed"] == store.classes[:1]
                assert agents.sentences[0] not in (REFUSAL, before)
                assert agents.conversations[0].exchanges[6].identity["backend"] == "measured"
                assert [item.refused for item in agents.exchanges.values() if item.refused] == ["it declines to answer"]
        with agents_of(CONFIG, store, path, **options) as agents:
            assert "declines to answer" in refresh(agents, counts, epoch=5)["failed"][0][1]


def test_answers_measured_on_other_clips_are_not_taken(tiny_store: Path, tmp_path: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        described(store, tmp_path / "d.h5")
        store.fingerprint = "another"
        opened = agents_of(CONFIG, store, tmp_path / "d.h5", llm="measured", offline=True)
        with pytest.raises(DialogueError, match="lacks rounds 1 to 5"), opened:
            pass
        with agents_of(CONFIG, store, tmp_path / "d.h5", llm="measured") as agents:  # they are measured anew
            told = agents.conversations[0].exchanges
            assert {exchange.identity["data"] for exchange in told.values()} == {"another"}
