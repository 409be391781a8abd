"""Text folders of the published code: read exactly, matched strictly, used offline. The texts here are skag's own."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skag.dialogue import transfer
from skag.dialogue.formats import FormatProblem
from skag.dialogue.store import DialogueStore
from skag.dialogue.text_folders import load_imported, parse, read_folder
from skag.dialogue.verify import verify
from skag.errors import DialogueError
from skag.methods.skeleton_agent import selector
from skag.methods.skeleton_agent.config import SkeletonAgentConfig
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import SkeletonStore
from skag.training.loop import train
from tests.helpers.recordings import case

from .helpers.tiny import CLASSES as TINY_CLASSES
from .helpers.training import CPU, Silent, agents_of, refresh, repeated, small

NTU, COCO = load_layout("nturgb+d"), load_layout("coco")
CLASSES = ["nod head/bow", "shake head", "touch back (backache)"]
RULE = "=" * 80
# The published list of joints, whose names differ from the layout's at 21, 22 and 24.
PUBLISHED = [*NTU.joints]
PUBLISHED[20], PUBLISHED[21], PUBLISHED[23] = "spine", "tip of the left hand", "tip of the right hand"


def listed(joints: list[str] | tuple[str, ...]) -> str:
    *first, last = [f"{number}-{name}" for number, name in enumerate(joints, 1)]
    return f"The labels of the joints are: {', '.join(first)}, and {last}. \nWhich are critical?"


def blocks(name: str, joints: list[str] | tuple[str, ...] = PUBLISHED, **answers: str) -> list[tuple[str, str]]:
    given = {
        "round1": f"In '{name}' the head goes down,\n\nand up again.  ",
        "round2": "Head: nods.  \nHand: still.  ",
        "round3": "3, 4, 21, 22",
        "round4": "3-neck: bends.  \n21-spine: stays.  \n22-tip of the left hand: hangs.",
        "round5": f"The head goes down and up again in {name.replace('/', ' or ')}.",
        **answers,
    }
    questions = {"round1": f"What is '{name}'?", "round3": listed(joints)}
    return [(questions.get(round_, f"Tell more of {round_}."), text) for round_, text in given.items()]


def written(rounds: list[tuple[str, str]]) -> str:
    return "".join(
        f"\nRound {number} Question:\n{question}\n\nRound {number} Answer:\n{answer}\n\n{RULE}\n"
        for number, (question, answer) in enumerate(rounds, 1)
    )


def folder(path: Path, classes: list[str] = CLASSES, **answers: str) -> Path:
    path.mkdir()
    for number, name in enumerate(classes, 1):
        file = f"{number:03d}_{name.replace('/', '_').replace(' ', '_')}.txt"
        (path / file).write_text(written(blocks(name, **answers)))
    return path


# ---- the blocks


def test_a_file_is_read_as_it_was_written() -> None:
    found = parse(written(blocks("shake head")), SCRIPT)
    assert len(found) == 5
    assert found[0].answer == "In 'shake head' the head goes down,\n\nand up again."
    assert found[1].answer == "Head: nods.  \nHand: still."
    assert found[2].question.startswith("The labels of the joints are: 1-base of the spine, 2-middle")
    assert len(parse(written([*blocks("shake head"), ("And now?", "The head turns from side to side.")]), SCRIPT)) == 6


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ab =\n:Round13Answe?", min_size=1, max_size=60).map(str.strip), min_size=10, max_size=10))
def test_any_text_between_the_marks_is_kept(texts: list[str]) -> None:
    texts = [text or "x" for text in texts]
    rounds = list(zip(texts[::2], texts[1::2], strict=True))
    if any(f"Round {number} " in text for number in range(1, 6) for text in texts):
        return
    assert [(block.question, block.answer) for block in parse(written(rounds), SCRIPT)] == rounds


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:-82], "round 5 does not end with a line of 80"),
        (lambda text: text[: text.index("Round 5")], "4 rounds, and must have 5 or 6"),
        (lambda text: "", "0 rounds"),
        (lambda text: text.replace("Round 3 Answer:", "Round 3 answer:"), "round 3 has no"),
        (lambda text: text.replace("Round 2 Question:", "Round 4 Question:"), "round 2 has no"),
        (lambda text: text.replace("3, 4, 21, 22", ""), "round 3 is no question followed by an answer"),
        (lambda text: "Hello\n" + text, "round 1 is no question followed by an answer"),
        (lambda text: text.replace("3, 4, 21, 22", "3, " * 20_000), "round 3 is longer"),
    ],
)
def test_a_file_of_another_form_is_refused_by_round(change, said) -> None:
    with pytest.raises(FormatProblem, match=said):
        parse(change(written(blocks("shake head"))), SCRIPT)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["Round 1 Question:\n", "Round 1 Answer:\n", f"{RULE}\n", "x", "\n"]), max_size=30))
def test_no_file_can_do_more_than_not_fit(pieces: list[str]) -> None:
    with suppress(FormatProblem):
        parse("".join(pieces), SCRIPT)


# ---- a folder


def test_a_folder_becomes_a_dialogue_of_its_own(tmp_path: Path) -> None:
    exchanges = read_folder(folder(tmp_path / "gpt4o"), "gpt4o", CLASSES, NTU, SCRIPT)
    assert [(each.class_name, each.round) for each in exchanges] == [(n, r) for n in CLASSES for r in range(1, 6)]
    assert {each.identity["backend"] for each in exchanges} == {"imported"}
    fourth = exchanges[3]
    assert fourth.answer.splitlines()[2] == "22-tip of the left hand: hangs."
    assert fourth.text.splitlines()[1:] == ["21-upper spine: stays.", "22-left hand tip: hangs."]
    assert fourth.notes == ("repaired: joints called as in layout nturgb+d",)
    assert exchanges[4].messages[:-1] == fourth.after  # what is used is the history
    with DialogueStore(tmp_path / "d.h5") as store:
        assert transfer.add_all(store, lambda: exchanges).added == 15
        told = load_imported(store, CLASSES, NTU, SCRIPT, {"backend": "imported", "model": "gpt4o"})
    mask = selector.critical_mask(told, NTU)
    assert [np.flatnonzero(row).tolist() for row in mask] == [[2, 20, 21]] * 3
    assert selector.sentences(told)[0] == "The head goes down and up again in nod head or bow."


def test_an_edited_folder_is_another_dialogue_and_the_later_one_is_used(tmp_path: Path) -> None:
    store = DialogueStore(tmp_path / "d.h5")
    for name in ("first", "second"):
        there = folder(tmp_path / name, round5=f"The head goes down the {name} time.")
        transfer.add_all(store, lambda there=there: read_folder(there, "mine", CLASSES, NTU, SCRIPT))
    assert len(store) == 30
    told = load_imported(store, CLASSES, NTU, SCRIPT, {"backend": "imported", "model": "mine"})
    assert selector.sentences(told) == ["The head goes down the second time."] * 3


def test_round_6_comes_along_with_the_classes_it_names(tmp_path: Path) -> None:
    there = folder(tmp_path / "six")
    path = there / "002_shake_head.txt"
    question = "The 'shake head' action needs to be distinguished from similar actions like 'nod head/bow', 'x'.\nHow?"
    path.write_text(written([*blocks("shake head"), (question, "The head turns from side to side.")]))
    exchanges = read_folder(there, "six", CLASSES, NTU, SCRIPT)
    assert [each.similar for each in exchanges if each.round == 6] == [("nod head/bow",)]
    store = DialogueStore(tmp_path / "d.h5")
    transfer.add_all(store, lambda: exchanges)
    told = load_imported(store, CLASSES, NTU, SCRIPT, {"backend": "imported", "model": "six"})
    assert [6 in each.exchanges for each in told] == [False, True, False]
    assert selector.sentences(told)[1] == "The head turns from side to side."


def test_what_does_not_fit_is_mended_where_that_is_safe(tmp_path: Path) -> None:
    lines = "\n".join(f"{number}-{name}: moves" for number, name in enumerate(PUBLISHED[:12], 1))
    there = folder(tmp_path / "x", round3="3, 4, 99", round4=lines, round5="It nods a lot: 3-neck goes down. Then up.")
    first = {each.round: each for each in read_folder(there, "x", CLASSES, NTU, SCRIPT)[:5]}
    assert first[3].text == "3, 4" and first[3].notes[0].startswith("repaired: kept 2 joint numbers")
    assert len(first[4].text.splitlines()) == 12, "imported masks keep all joints, as the published ones"
    assert first[5].text == "It nods a lot: neck goes down."


def test_lists_with_more_joints_than_the_layout_lose_the_others(tmp_path: Path) -> None:
    joints = [*COCO.joints, "mid hip", "thorax", "mid shoulder"]
    there = tmp_path / "coco"
    there.mkdir()
    answers = {"round3": "1, 10, 19", "round4": "1-nose: nods.\n19-thorax: leans."}
    (there / "001_nod.txt").write_text(written(blocks("nod", joints, **answers)))
    exchanges = read_folder(there, "coco", ["nod"], COCO, SCRIPT)
    assert exchanges[2].text == "1, 10" and exchanges[3].text == "1-nose: nods."
    exchanges = read_folder(there, "coco", ["nod"], load_layout("coco-17+3"), SCRIPT)  # which has them
    assert exchanges[2].text == "1, 10, 19" and exchanges[3].text == "1-nose: nods.\n19-mid trunk: leans."


@pytest.mark.parametrize(
    ("joints", "said"),
    [
        (PUBLISHED[:20], "round 3 lists 20 joints, and layout 'nturgb\\+d' has 25"),
        ([*PUBLISHED[:4], *PUBLISHED[8:12], *PUBLISHED[4:8], *PUBLISHED[12:]], "joint 5 'right shoulder'"),
        ([*PUBLISHED[:3], "skull", *PUBLISHED[4:]], "joint 4 'skull', and layout 'nturgb\\+d' 'head'"),
        ([""], "round 3 lists 0 joints"),
    ],
)
def test_joints_of_another_layout_are_refused(tmp_path: Path, joints: list[str], said: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "001_nod.txt").write_text(written(blocks("nod", joints)))
    with pytest.raises(DialogueError, match=said) as caught:
        read_folder(tmp_path / "x", "x", ["nod"], NTU, SCRIPT)
    assert "'nod', round 3" in str(caught.value)


def test_every_class_and_round_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    there = folder(tmp_path / "x", round5="No.")
    (there / "002_shake_head.txt").write_text(written(blocks("shake head", round4="I cannot.")))
    with pytest.raises(DialogueError) as caught:
        read_folder(there, "x", CLASSES, NTU, SCRIPT)
    said = str(caught.value)
    assert "'nod head/bow', round 5: it is no sentence; 'shake head', round 4" in said and "\n" not in said


def test_classes_must_fit_by_number_and_name(tmp_path: Path) -> None:
    there = folder(tmp_path / "x")
    assert len(read_folder(there, "x", CLASSES[:2], NTU, SCRIPT)) == 10  # the folder may have more
    with pytest.raises(DialogueError, match="no file 004 for 'sit'"):
        read_folder(there, "x", [*CLASSES, "sit"], NTU, SCRIPT)
    swapped = [CLASSES[1], CLASSES[0], CLASSES[2]]
    with pytest.raises(DialogueError) as caught:
        read_folder(there, "x", swapped, NTU, SCRIPT)
    assert "file '001_nod_head_bow.txt' for class 1, 'shake head', file '002_shake_head.txt'" in str(caught.value)
    assert "--by-number" in str(caught.value)
    worded = ["nodding", "head shaking", "back ache"]
    assert [each.class_name for each in read_folder(there, "x", worded, NTU, SCRIPT, by_number=True)][::5] == worded
    (there / "003_again.txt").write_text("x")
    with pytest.raises(DialogueError, match="two files of number 3"):
        read_folder(there, "x", CLASSES, NTU, SCRIPT)
    with pytest.raises(DialogueError, match="no folder"):
        read_folder(tmp_path / "none", "x", CLASSES, NTU, SCRIPT)


def test_questions_that_two_classes_share_are_told_apart_by_number(tmp_path: Path) -> None:
    there = tmp_path / "x"
    there.mkdir()
    for number, name in enumerate(CLASSES[:2], 1):
        answers = {"round4": f"{number}-{PUBLISHED[number - 1]}: moves."}
        file = f"{number:03d}_{'_'.join(name.replace('/', ' ').split())}.txt"
        (there / file).write_text(written(blocks("same", **answers)))
    exchanges = read_folder(there, "x", CLASSES[:2], NTU, SCRIPT)
    assert len({each.key for each in exchanges}) == 10
    assert exchanges[5].notes[0].startswith("has the question of 'nod head/bow'")
    store = DialogueStore(tmp_path / "d.h5")
    transfer.add_all(store, lambda: exchanges)
    told = load_imported(store, CLASSES[:2], NTU, SCRIPT, {"backend": "imported", "model": "x"})
    assert [np.flatnonzero(row).tolist() for row in selector.critical_mask(told, NTU)] == [[0], [1]]


def test_two_published_files_about_one_name(tmp_path: Path) -> None:
    """FineGYM's 059 and 071, taken by number: both come in, each with its own joints."""
    files = sorted(case("finegym_071").glob("*.txt"))
    there = tmp_path / "x"
    there.mkdir()
    for number, file in enumerate(files, 1):
        (there / f"{number:03d}{file.name[3:]}").write_bytes(file.read_bytes())
    layout, classes = load_layout("coco-17+3"), ["salto backward tucked", "another salto backward tucked"]
    exchanges = read_folder(there, "x", classes, layout, SCRIPT, by_number=True)
    store = DialogueStore(tmp_path / "d.h5")
    transfer.add_all(store, lambda: exchanges)
    told = load_imported(store, classes, layout, SCRIPT, {"backend": "imported", "model": "x"})
    masks = [np.flatnonzero(row).tolist() for row in selector.critical_mask(told, layout)]
    assert masks == [[5, 6, 11, 12, 17, 18, 19], [5, 6, 11, 12, 13, 14, 17, 19]], (
        "the numbers at the line starts, less 1"
    )


def test_an_imported_mask_keeps_more_than_ten_joints(tmp_path: Path) -> None:
    lines = "\n".join(f"{number}-{name}: moves" for number, name in enumerate(PUBLISHED[:12], 1))
    there = folder(tmp_path / "x", round3="3, 4", round4=lines)
    store = DialogueStore(tmp_path / "d.h5")
    exchanges = read_folder(there, "x", CLASSES, NTU, SCRIPT)
    transfer.add_all(store, lambda: exchanges)
    told = load_imported(store, CLASSES, NTU, SCRIPT, {"backend": "imported", "model": "x"})
    assert selector.critical_mask(told, NTU)[0].sum() == 12
    assert not any(finding.is_problem for finding in verify(store, SCRIPT)[1])


@pytest.mark.parametrize(
    ("data", "said"), [(b"\xff\xfe", "not UTF-8"), (b"x" * (2 << 20), "larger than a dialogue"), (b"", "0 rounds")]
)
def test_a_file_that_is_no_text_is_named(tmp_path: Path, data: bytes, said: str) -> None:
    there = folder(tmp_path / "x")
    (there / "002_shake_head.txt").write_bytes(data)
    with pytest.raises(DialogueError, match=said):
        read_folder(there, "x", CLASSES, NTU, SCRIPT)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "x" * 100, "[red]"])
def test_an_import_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(DialogueError, match="no name for an import"):
        read_folder(folder(tmp_path / "x"), name, CLASSES, NTU, SCRIPT)


def test_control_characters_do_not_come_in(tmp_path: Path) -> None:
    there = folder(tmp_path / "x", round1="It goes \x1b[2J up \x00 and down.\r\n")
    assert read_folder(there, "x", CLASSES, NTU, SCRIPT)[0].answer == "It goes [2J up  and down."


def import_tiny(tmp_path: Path, tiny_store: Path, distinctions: bool = False) -> Path:
    """A dialogue store with a dialogue about the tiny store's classes, imported as "mine"."""
    kinect = load_layout("kinect-v1")
    there = tmp_path / "tiny"
    there.mkdir()
    for number, name in enumerate(TINY_CLASSES, 1):
        joint = kinect.joints[number]
        answers = {"round3": str(number + 1), "round4": f"{number + 1}-{joint}: moves."}
        rounds = blocks(name, kinect.joints, **answers)
        if distinctions:
            rounds.append((f"What tells '{name}' apart?", f"Only here the {joint} moves."))
        (there / f"{number:03d}_{name.replace(' ', '_')}.txt").write_text(written(rounds))
    with SkeletonStore(tiny_store) as data, DialogueStore(tmp_path / "d.h5") as store:
        transfer.add_all(store, lambda: read_folder(there, "mine", data.classes, data.layout, SCRIPT))
    return tmp_path / "d.h5"


def test_a_run_is_trained_with_it_offline(tmp_path: Path, tiny_store: Path) -> None:
    import_tiny(tmp_path, tiny_store)
    config = SkeletonAgentConfig("x")
    with SkeletonStore(tiny_store) as data:
        for offline in (True, False):  # there is nobody to ask either way
            opened = agents_of(config, data, tmp_path / "d.h5", llm="imported/mine", offline=offline)
            with opened as agents:
                assert agents.joints[:, 1:5].tolist() == np.eye(4, dtype=int).tolist()
                text = agents.text_vectors.copy()
                record = refresh(agents, np.ones((4, 4), int), epoch=5)
                assert (record["asked"], record["failed"], record["changed"]) == (0, [], []) and not agents.missing
                assert (agents.text_vectors == text).all() and len(agents.exchanges) == 20
        missing = agents_of(config, data, tmp_path / "d.h5", llm="imported/other", offline=True)
        with pytest.raises(DialogueError, match="by imported/other of 4 of 4 classes"), missing:
            pass


def test_an_imported_round_6_is_told_from_the_beginning_and_when_a_run_is_repeated(
    tmp_path: Path, tiny_store: Path
) -> None:
    dialogues, config, run = import_tiny(tmp_path, tiny_store, distinctions=True), small(epochs=3), tmp_path / "run"
    with SkeletonStore(tiny_store) as data:
        with agents_of(config, data, dialogues, llm="imported/mine", asks_again=False) as agents:
            assert all(max(each.exchanges) == 5 for each in agents.conversations)  # what the row stage-1 means
        with agents_of(config, data, dialogues, llm="imported/mine") as agents:
            assert all(sentence.startswith("Only here the ") for sentence in agents.sentences)
            train(data, config, run, agents, CPU, Silent())
        again = repeated(config, data, run, dialogues=dialogues)
        assert again.sentences == agents.sentences and (again.joints == agents.joints).all()
        train(data, config, tmp_path / "again", again, CPU, Silent())
    weights = [torch.load(path / "last.pt", weights_only=True)["model"] for path in (run, tmp_path / "again")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
