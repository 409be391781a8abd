"""The Selector: exact about joints, one sentence per class."""

from __future__ import annotations

import numpy as np
import pytest

from skag.dialogue.exchanges import Conversation, Exchange
from skag.errors import DialogueError
from skag.methods.skeleton_agent import selector
from skag.skeleton.layouts import load_layout

NTU, KINECT = load_layout("nturgb+d"), load_layout("kinect-v1")


def conversation(index: int, texts: dict[int, str], notes: tuple[str, ...] = ()) -> Conversation:
    exchanges = {
        number: Exchange("0" * 64, "set", f"class {index}", number, {}, (), "", text, notes=notes)
        for number, text in texts.items()
    }
    return Conversation(index, f"class {index}", exchanges)


def test_the_mask_has_the_joints_of_round_4() -> None:
    told = [conversation(0, {4: "12-right hand: up\n4-head: down"}), conversation(1, {4: "1-base of the spine: sinks"})]
    mask = selector.critical_mask(told, NTU)
    assert mask.shape == (2, 25) and mask.dtype == np.uint8
    assert [np.flatnonzero(row).tolist() for row in mask] == [[3, 11], [0]]


def test_the_mask_takes_in_joints_that_the_distinction_names() -> None:
    sentence = "The left hand tip, not the lefthand, the Right Hand or the right handle, rises."
    told = [conversation(0, {4: "4-head: down", 6: sentence})]
    assert np.flatnonzero(selector.critical_mask(told, NTU, with_distinctions=True)[0]).tolist() == [3, 11, 21]
    assert np.flatnonzero(selector.critical_mask(told, NTU)[0]).tolist() == [3]


def test_letters_that_only_look_alike_name_no_joint() -> None:
    assert selector.named_joints("The rİght hand and the ſpine and the left hİp", NTU) in ([], [0])


def test_the_mask_never_has_more_than_ten_joints() -> None:
    lines = "\n".join(f"{i}-{name}: up" for i, name in enumerate(NTU.joints[:9], 1))
    told = [conversation(0, {4: lines, 6: f"Not {NTU.joints[20]}, {NTU.joints[19]} or {NTU.joints[18]}."})]
    mask = selector.critical_mask(told, NTU, with_distinctions=True)
    assert np.flatnonzero(mask[0]).tolist() == [*range(9), 20]


def test_an_answer_for_another_layout_is_refused_by_class_and_round() -> None:
    with pytest.raises(DialogueError, match=r"class 'class 0', round 4.*kinect-v1.*joint number 24 is not"):
        selector.critical_mask([conversation(0, {4: "24-right hand tip: up"})], KINECT)


def test_a_class_is_told_by_its_distinction_or_else_by_its_key_features() -> None:
    told = [conversation(0, {5: " Key features. "}), conversation(1, {5: "Key features.", 6: "What differs."})]
    assert selector.sentences(told) == ["Key features.", "What differs."]
