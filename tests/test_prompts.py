"""Prompts: what is shipped is complete, and what people write is checked and filled literally."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from skag.dialogue.prompts import fill, load_prompts, prompt_folder
from skag.errors import DialogueError
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import load_layout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(prompt_folder(SCRIPT), tmp_path / "mine"))


def test_shipped_prompts_name_the_action_the_joints_and_the_similar_classes() -> None:
    prompts, joints = load_prompts(SCRIPT), load_layout("kinect-v1").numbered()
    values = {"class_name": "throw", "joints": joints}
    assert "throw" in prompts.question(1, **values)
    assert joints in prompts.question(3, **values)
    assert "- carry\n- drop" in prompts.question(6, **values, similar="- carry\n- drop")
    for number in range(1, 6):
        assert "{" not in prompts.question(number, **values)


@pytest.mark.parametrize(
    "name", ["{joints}", "{0}", "{class_name.__class__}", "{!r}", "%s", "<b>[red]", "\\1", "{unknown}"]
)
def test_a_class_name_is_filled_in_as_it_is(name: str) -> None:
    assert fill("a {class_name} b", {"class_name": name, "joints": "JOINTS"}, "x") == f"a {name} b"


def test_only_plain_names_are_variables() -> None:
    template = "{class_name.real} {class_name!r} {} {0} {{class_name}}"
    assert fill(template, {"class_name": "x"}, "x") == "{class_name.real} {class_name!r} {} {0} {x}"


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("round1", "What is {action}? {class_name}", "unknown variable {action}"),
        ("round1", "What is {class_name}? {similar}", "unknown variable {similar}"),
        ("round1", "What is it?", "{class_name} is missing"),
        ("round3", "Which joints?", "{joints} is missing"),
        ("round6", "What differs?", "{similar} is missing"),
        ("again", "Once more.", "{reason} is missing"),
        ("round2", "  \n", "is empty"),
    ],
)
def test_a_variable_that_is_unknown_or_missing_is_refused_by_name(
    folder: Path, file: str, text: str, said: str
) -> None:
    (folder / f"{file}.txt").write_text(text)
    with pytest.raises(DialogueError) as caught:
        load_prompts(SCRIPT, folder)
    assert said in str(caught.value) and f"{file}.txt" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_a_file_that_is_no_text_are_named(folder: Path) -> None:
    (folder / "round4.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DialogueError, match=r"round4\.txt is not UTF-8"):
        load_prompts(SCRIPT, folder)
    (folder / "round4.txt").unlink()
    with pytest.raises(DialogueError, match=r"round4\.txt cannot be read"):
        load_prompts(SCRIPT, folder)


def test_a_value_that_is_not_given_is_named() -> None:
    with pytest.raises(DialogueError, match=r"round6\.txt: no value for the variable \{similar\}"):
        load_prompts(SCRIPT).question(6, class_name="throw", joints="1-a")


def test_the_hash_of_a_round_covers_what_is_sent_up_to_it(folder: Path) -> None:
    before = load_prompts(SCRIPT, folder)
    (folder / "round4.txt").write_text("Only the most important ones: number-name: movement.\r\n")
    after = load_prompts(SCRIPT, folder)
    changed = [number for number in range(1, 7) if before.hash(number) != after.hash(number)]
    assert changed == [4, 5, 6]
