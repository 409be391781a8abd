"""What is said against what the training clips show."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from skag.backends.class_statistics import measure
from skag.backends.contradictions import Witness, without_contradicted
from skag.dialogue.exchanges import Conversation, Exchange
from skag.dialogue.store import DialogueStore
from skag.dialogue.verify import contradicted
from skag.methods.skeleton_agent import selector
from skag.methods.skeleton_agent.script import KEY_FEATURES, MOVEMENTS, SCRIPT
from skag.skeleton.kinematics import JOINT_FEATURES
from skag.skeleton.store import SkeletonStore

from .helpers.commands import document, invoke
from .helpers.training import agents_of, small

RAISE = "raise right hand"


@pytest.fixture(scope="module")
def witness(tiny_store: Path) -> Witness:
    with SkeletonStore(tiny_store) as store:
        return Witness(measure(store, "xsub_train"), store.classes)


@pytest.mark.parametrize(
    ("class_name", "line", "shown"),
    [
        (RAISE, "12-right hand: moves up above the head", ""),
        (RAISE, "12-right hand: moves down slowly", "goes down by"),
        ("lower right hand", "12-right hand: moves down", ""),
        ("lower right hand", "12-right hand: is lifted to the chest", "goes up by"),
        (RAISE, "20-right foot: is raised high", "goes up by"),
        (RAISE, "20-right foot: is never raised", ""),
        (RAISE, "20-right foot: is held up", ""),
        (RAISE, "20-right foot: is lifted in turn with the left one", ""),
        (RAISE, "20-right foot: turns", ""),
        (RAISE, "no line of joints", ""),
        ("another class", "12-right hand: moves down", ""),
    ],
)
def test_a_claim_is_contradicted_by_what_clips_show(witness: Witness, class_name: str, line: str, shown: str) -> None:
    found = witness.of_lines(class_name, line)
    assert bool(found) == bool(shown)
    if found:
        assert found[0].shown.startswith(shown) and found[0].joint in line


def test_what_is_called_still_must_not_move_far(witness: Witness) -> None:
    statistics, hand = witness.statistics, slice(11 * len(JOINT_FEATURES), 12 * len(JOINT_FEATURES))
    farther = statistics.mean.copy()
    farther[:, hand] *= 3  # a tenth of this body's height becomes three tenths
    far = Witness(dataclasses.replace(statistics, mean=farther), witness.classes)
    both = slice(7 * len(JOINT_FEATURES), 8 * len(JOINT_FEATURES))
    farther[:, both] = farther[:, hand]
    line = "12-right hand: stays still"
    assert not witness.of_lines(RAISE, line) and "moves through" in far.of_lines(RAISE, line)[0].shown
    assert not far.of_lines(RAISE, "12-right hand: is held still"), "after it moved there"


def test_either_side_may_act(witness: Witness) -> None:
    assert not witness.of_lines("raise left hand", "12-right hand: moves up")
    assert not witness.of_lines(RAISE, "8-left hand: is still")


def test_of_a_sentence_the_joints_that_it_names_are_asked(witness: Witness) -> None:
    assert [each.joint for each in witness.of_sentence(RAISE, "The right hand rises while the head drops.")] == ["head"]
    assert not witness.of_sentence(RAISE, "The body rises, beside the head something drops.")
    text = "Unlike in step, the head drops; unlike in wave, the right hand rises"
    kept = without_contradicted(f"{text}.", lambda part: witness.of_sentence(RAISE, part))
    assert kept == "Unlike in wave, the right hand rises."
    assert without_contradicted("The head drops.", lambda part: witness.of_sentence(RAISE, part)) == "The head drops."


def test_measured_is_not_contradicted_by_what_it_measured(
    witness: Witness, tiny_dialogues: Path, tiny_store: Path, tmp_path: Path
) -> None:
    with DialogueStore(tiny_dialogues / "d.h5") as kept:
        assert len(kept) and not contradicted(kept, SCRIPT, witness)
    assert "0 claims contradicted" in invoke(
        "dialogues", "verify", "--store", tiny_dialogues / "d.h5", "--against", tiny_store
    )


def test_verify_prints_what_is_contradicted(tiny_store: Path, tmp_path: Path) -> None:
    knowledge = tmp_path / "k.toml"
    entry = (
        '[[class]]\nname = "{}"\noverview = "It moves."\nhead = "a"\nhand = "a"\narm = "a"\nhip = "a"\nleg = "a"\n'
        'foot = "a"\ncritical_joints = ["right hand: {}", "head: drops"]\nkey_features = "The hand moves a lot {}."\n'
    )
    ways = {RAISE: "moves down", "lower right hand": "moves down", "raise left hand": "moves", "step": "moves"}
    knowledge.write_text("\n".join(entry.format(name, way, name) for name, way in ways.items()), encoding="utf-8")
    store = tmp_path / "d.h5"
    invoke("describe", tiny_store, "--llm", f"file:{knowledge}", "--store", store, "--quiet")
    found = document("dialogues", "verify", "--store", store, "--against", tiny_store)["contradicted"]
    claims = {(each["class"], each["joint"], each["claim"]) for each in found}
    assert (RAISE, "right hand", "moves down") in claims and (RAISE, "head", "drops") in claims
    assert ("lower right hand", "right hand", "moves down") not in claims
    with SkeletonStore(tiny_store) as data:
        config = small(1, drop_contradicted=True)
        with agents_of(config, data, store, llm=f"file:{knowledge}") as agents:
            joints = {name: np.flatnonzero(row).tolist() for name, row in zip(data.classes, agents.joints, strict=True)}
    assert joints["lower right hand"] == [11], "the head's line is left out"
    assert joints[RAISE] == [3, 11], "a class keeps its joints where none would be left"


def test_the_selector_leaves_clauses_out(witness: Witness) -> None:
    said = {MOVEMENTS.number: "12-right hand: rises", KEY_FEATURES.number: "The head drops; the right hand rises."}
    exchanges = {number: Exchange("", "", RAISE, number, {}, (), "", text) for number, text in said.items()}
    conversation = Conversation(0, RAISE, exchanges)
    assert selector.sentences([conversation]) == ["The head drops; the right hand rises."]
    assert selector.sentences([conversation], witness) == ["The right hand rises."]
