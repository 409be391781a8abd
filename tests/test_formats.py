"""Formats of answers: strict, safe with anything, and mended only where nothing is guessed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skag.dialogue import formats
from skag.dialogue.formats import CriticalJoint, FormatProblem
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import load_layout

NTU = load_layout("nturgb+d")
LONG = "The right hand rises past the shoulder " + "and then it goes on to the left " * 12 + "and stops."


@pytest.mark.parametrize(
    ("text", "joints"), [("8, 12, 24", (7, 11, 23)), (" 25,1.\n", (24, 0)), ("3", (2,)), ("1 , 2", (0, 1))]
)
def test_round_3_reads_numbers(text: str, joints: tuple[int, ...]) -> None:
    assert formats.read_joint_numbers(text, NTU) == joints


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("26", "not in the list, which ends at 25"),
        ("0, 1", "not in the list"),
        ("8, 8, 12, 3, 12", "twice: 8-left hand, 12-right hand$"),
        ("8\n12", "not one line"),
        ("Joints 8, 12", "not one line"),
        ("8, twelve", "not one line"),
        ("9" * 5000, "not one line"),
        ("²", "not one line"),
        ("", "not one line"),
    ],
)
def test_round_3_refuses(text: str, reason: str) -> None:
    with pytest.raises(FormatProblem, match=reason):
        formats.read_joint_numbers(text, NTU)


def test_round_4_reads_lines() -> None:
    text = "12-right hand: moves forward: and up\n\n 22 - Left  Hand Tip : still \n"
    expected = (CriticalJoint(11, "moves forward: and up"), CriticalJoint(21, "still"))
    assert formats.read_critical_joints(text, NTU) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("12-left hand: up", "joint 12 is right hand, not 'left hand'"),
        ("22-left hand: up", "joint 22 is left hand tip"),
        ("26-right hand: up", "not in the list"),
        ("Here they are:\n12-right hand: up", "not of the form"),
        ("- 12-right hand: up", "not of the form"),
        ("12-right hand:", "not of the form"),
        ("12-right hand: up\n12-right hand: down", "twice"),
        ("\n".join(f"{i}-{name}: up" for i, name in enumerate(NTU.joints[:11], 1)), "names 11 joints"),
        ("12-\x1b[31mred: up", r"not '\\x1b\[31mred'"),
        ("", "names 0 joints"),
    ],
)
def test_round_4_refuses(text: str, reason: str) -> None:
    with pytest.raises(FormatProblem, match=reason):
        formats.read_critical_joints(text, NTU)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The hand rises. It falls again.", "more than one sentence"),
        ("The hand rises\nand falls", "more than one sentence"),
        ("**The hand** rises high", "plain text"),
        ("Yes.", "no sentence"),
        (LONG, "too long"),
        ("x" * 2000 + " a b", "too long"),
        ("手" * 40 + " a b", "too long"),
    ],
)
def test_a_distinction_is_one_plain_short_sentence(text: str, reason: str) -> None:
    with pytest.raises(FormatProblem, match=reason):
        formats.read_distinction(text)


def test_numbers_with_a_decimal_point_end_no_sentence() -> None:
    assert formats.read_distinction(" The hand rises 0.5 m, i.e. a lot. ") == "The hand rises 0.5 m, i.e. a lot."


def test_round_5_has_no_joint_numbers() -> None:
    with pytest.raises(FormatProblem, match="joint number '12-right hand'"):
        SCRIPT[5].format.check("The 12-right hand goes up fast.", NTU)
    SCRIPT[5].format.check("The right hand turns 180-degree circles.", NTU)
    assert SCRIPT[5].format.repair("The 12-right hand goes up fast.", NTU)[0] == "The right hand goes up fast."


def test_a_distinction_calls_joints_by_name_alone() -> None:
    with pytest.raises(FormatProblem, match="joint number '24-right hand tip'"):
        SCRIPT[6].format.check("The 24-right hand tip goes up fast.", NTU)
    assert SCRIPT[6].format.repair("The 24-Right hand tip goes up fast.", NTU)[0] == "The Right hand tip goes up fast."


@pytest.mark.parametrize("label", ["24-left hand tip", "99-right hand", "0-head"])
def test_a_name_that_does_not_agree_with_its_number_is_not_repaired(label: str) -> None:
    """Nobody knows which of the two was meant; the previous sentence stays."""
    text = f"The {label} goes up much faster than the others."
    with pytest.raises(FormatProblem, match="has the joint number"):
        SCRIPT[6].format.check(text, NTU)
    assert SCRIPT[6].format.repair(text, NTU) is None


@pytest.mark.parametrize(
    ("text", "true"),  # counts by CLIP's own tokeniser
    [
        ("The right hand rises past the left shoulder, stops at head height for 0.5 s, and sinks again.", 23),
        ("Unlike in sit down the hips rise, the knees straighten and the trunk ends upright.", 18),
        ("the left hand, then 180 degrees", 9),
    ],
)
def test_the_token_bound_is_conservative(text: str, true: int) -> None:
    assert true <= formats.token_bound(text) <= 1.3 * true


def test_a_sentence_may_have_as_many_tokens_as_the_text_encoder_reads() -> None:
    assert formats.read_distinction("up " * 75)
    with pytest.raises(FormatProblem, match="up to 76 tokens"):
        formats.read_distinction("up " * 76)


@pytest.mark.parametrize(
    ("number", "text", "mended"),
    [
        (3, "8, 12, 99", "8, 12"),
        (3, "The joints are: **8**, 12 and 24.", "8, 12, 24"),
        (3, "8-left hand\n12-right hand\n13-head", "8, 12"),
        (3, "99, 100", None),
        (3, "I cannot tell.", None),
        (3, "There are 25 joints in the list", None),
        (4, "Sure:\n- **12-right hand**: up\n26-tail: wags\n8-right hand: up", "12-right hand: up"),
        (4, "no joints", None),
        (5, "Sure! Here it is:\nThe right hand goes up fast. It stops.", "The right hand goes up fast."),
        (6, "I do not know.", None),
        (6, "The right hand goes up, " + "and up and up " * 30, "The right hand goes up."),
        (6, "and up " * 100, None),
        (1, "", None),
    ],
)
def test_repair_keeps_what_is_sure_and_nothing_else(number: int, text: str, mended: str | None) -> None:
    found = SCRIPT[number].format.repair(text, NTU)
    assert (found and found[0]) == mended
    if found:
        SCRIPT[number].format.check(found[0], NTU)


@settings(max_examples=150, deadline=None)
@given(number=st.integers(1, 6), text=st.text(st.characters(), max_size=300))
def test_no_answer_can_do_more_than_not_fit(number: int, text: str) -> None:
    """Any text at all is either accepted or a `FormatProblem`, and a repaired one is accepted."""
    try:
        SCRIPT[number].format.check(text, NTU)
    except FormatProblem:
        found = SCRIPT[number].format.repair(text, NTU)
        if found:
            SCRIPT[number].format.check(found[0], NTU)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(range(25)), min_size=1, max_size=10, unique=True))
def test_what_the_format_asks_for_is_read_back(joints: list[int]) -> None:
    numbers = ", ".join(str(joint + 1) for joint in joints)
    lines = "\n".join(f"{joint + 1}-{NTU.joints[joint]}: moves: up" for joint in joints)
    assert formats.read_joint_numbers(numbers, NTU) == tuple(joints)
    assert [found.joint for found in formats.read_critical_joints(lines, NTU)] == joints


@pytest.mark.parametrize("piece", ["1-", " ", "1, ", "- ", ". ", "a, ", "**", "12-right hand", "\n", ": ", "(", "é"])
def test_long_answers_are_read_in_no_time(piece: str) -> None:
    """20 thousand characters of anything; a pattern that is tried in too many ways would hang here."""
    text = (piece * 20_000)[:20_000] + "x"
    for number in range(1, 7):
        try:
            SCRIPT[number].format.check(f"1-{text}", NTU)
        except FormatProblem:
            SCRIPT[number].format.repair(f"1-{text}", NTU)


def test_free_text_is_mended_by_nobody_and_held_to_no_schema() -> None:
    assert formats.FREE_TEXT.repair("", NTU) is None
    assert formats.FREE_TEXT.schema(NTU) is None and formats.FREE_TEXT.as_text('{"sentence": "It rises."}') is None
