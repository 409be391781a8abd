"""What refreshes did: read from run folders of any age, with the counts checked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from skag.dialogue.transfer import to_line
from skag.errors import RunError
from skag.methods.skeleton_agent import class_knowledge
from skag.methods.skeleton_agent.class_knowledge import History
from skag.methods.skeleton_agent.refreshes import (
    RefreshRecord,
    explain_pairs,
    pair_changes,
    read_refreshes,
    read_snapshots,
    summarise,
)
from skag.results.analysis import Pair
from skag.skeleton.layouts import load_layout

from .helpers.exchanges import exchange

CLASSES = ["wave", "throw", "sit"]
LAYOUT = load_layout("kinect-v1")
LATER = {name: exchange(name, 6, f"Unlike the others, {name} is done later.", at=5) for name in CLASSES}


def line(epoch: int, confusions: list[list[int]], similar: dict, exchanges: list[str], **more) -> dict:
    record = {"epoch": epoch, "num_classes": 3, "confusions": confusions, "similar": similar, "failed": []}
    changed = [
        {
            "class": name,
            "sentence_before": f"The key features of {name}.",
            "sentence": LATER[name].answer,
            "joints_before": ["head"],
            "joints": ["head", "left hand"],
        }
        for name in exchanges
    ]
    return record | {"changed": changed, "exchanges": [LATER[name].key for name in exchanges], **more}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Confusions after epochs 5 and 10; "wave" is asked about once, "throw" was over the budget, "sit" failed."""
    told = []
    for name in CLASSES:
        told.append(exchange(name, 4, "no joints at all", notes=("rejected: it names 0 joints",), at=1))
        told += [exchange(name, 4, "4-head: nods"), exchange(name, 5, f"The key features of {name}.")]
    (tmp_path / "dialogues.jsonl").write_text("".join(map(to_line, [*told, LATER["wave"]])))
    similar = {"wave": ["throw", "sit"], "throw": ["wave"], "sit": ["throw"]}
    first = [[0, 0, 5], [0, 1, 4], [0, 2, 1], [1, 0, 2], [1, 1, 8], [2, 2, 9], [2, 1, 1]]
    second = [[0, 0, 9], [0, 1, 1], [1, 1, 10], [2, 2, 10]]
    records = [
        line(5, first, similar, ["wave"], effective=7, over_budget=["throw"], failed=[["sit", "refused"]]),
        line(10, second, {"wave": ["throw"]}, [], effective=11, over_budget=[]),
    ]
    (tmp_path / "refreshes.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    metrics = [{"epoch": epoch, "train_top1": top1} for epoch, top1 in ((5, 70.0), (10, 95.0))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return tmp_path


def history_of(run: Path) -> History:
    return class_knowledge.read(run, CLASSES, LAYOUT, joints_from_distinctions=True)


def refreshes_of(run: Path) -> list[RefreshRecord]:
    return read_refreshes(run, CLASSES, class_knowledge.read_dialogue(run), history_of(run))


def test_only_what_was_answered_was_asked_about(run):
    first, second = refreshes_of(run)
    assert (first.epoch, first.effective) == (5, 7)
    np.testing.assert_array_equal(first.asked, [[0, 1, 1], [0, 0, 0], [0, 0, 0]])
    assert not second.asked.any()  # told before: nobody was asked again
    np.testing.assert_array_equal(first.confusions, [[5, 4, 1], [2, 8, 0], [0, 1, 9]])


def test_a_pair_is_followed_to_the_first_count_of_an_epoch_trained_with_the_answers(run):
    refreshes = refreshes_of(run)
    (change,) = pair_changes(refreshes, 0, 1)
    assert (change.epoch, change.before, change.before_clips) == (5, 4, 10)
    assert (change.after_epoch, change.after, change.after_clips) == (10, 1, 10)
    assert change.change == pytest.approx(-30)
    assert pair_changes(refreshes, 1, 0) == ()  # over the budget


def test_answers_that_came_too_late_are_not_judged(run):
    text = (run / "refreshes.jsonl").read_text().replace('"effective": 7', '"effective": 11')
    (run / "refreshes.jsonl").write_text(text)
    (change,) = pair_changes(refreshes_of(run), 0, 1)
    assert (change.after, change.change) == (None, None)


def test_refreshes_are_summed_up_beside_another_run_of_the_same_epochs(run):
    first, second = summarise(refreshes_of(run), reference=run)
    assert (first.classes, first.pairs, first.changed) == (1, 2, 1)
    assert (first.asked_before, first.asked_after) == pytest.approx((100 * 5 / 30, 100 * 1 / 30))
    assert (first.other_before, first.other_after) == pytest.approx((100 * 3 / 30, 0))
    assert (first.reference_before, first.reference_after) == (30, 5)
    assert (second.asked_after, second.reference_after) == (None, None)
    assert summarise(refreshes_of(run))[0].reference_before is None


def test_a_class_is_told_what_was_effective_in_the_epoch(run):
    before = history_of(run).at(6)
    assert before[0].sentence == "The key features of wave." and before[0].joints == ("head",)
    after = history_of(run).at(7)
    assert after[0].sentence == LATER["wave"].answer and after[0].joints == ("head", "left hand")
    assert after[1:] == before[1:]


def test_a_pair_is_explained_by_both_sentences_and_the_joints_of_one(run):
    refreshes = refreshes_of(run)
    (found,) = explain_pairs([Pair("wave", "throw", 3, 30.0)], CLASSES, history_of(run).at(40), refreshes)
    assert found.true.sentence == LATER["wave"].answer
    assert found.predicted.sentence == "The key features of throw."
    assert found.joints_apart == ("left hand",)
    assert len(found.refreshes) == 1


def test_a_run_without_agents_has_nothing_to_tell(tmp_path):
    (tmp_path / "dialogues.jsonl").touch()
    dialogue, refreshes = class_knowledge.read_dialogue(tmp_path), refreshes_of(tmp_path)
    assert (dialogue, refreshes, read_snapshots(tmp_path), summarise(refreshes)) == ({}, [], [], [])
    known = history_of(tmp_path).at(40)
    assert known is None
    (found,) = explain_pairs([Pair("wave", "throw", 3, 30.0)], CLASSES, known, refreshes)
    assert (found.true, found.joints_apart, found.refreshes) == (None, (), ())


def test_records_of_an_earlier_skag_took_effect_at_once(run):
    records = [json.loads(each) for each in (run / "refreshes.jsonl").read_text().splitlines()]
    for record in records:
        del record["effective"], record["over_budget"]
    (run / "refreshes.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert [each.effective for each in refreshes_of(run)] == [6, 11]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("refreshes.jsonl", "{}\n"),
        ("refreshes.jsonl", "[1]\n"),
        ("refreshes.jsonl", "{\n"),
        ("refreshes.jsonl", json.dumps(line(5, [[9, 0, 1]], {}, [], effective=6, over_budget=[])) + "\n"),
        ("refreshes.jsonl", json.dumps(line(5, [], {"wave": ["nobody"]}, ["wave"])) + "\n"),
        ("dialogues.jsonl", "{}\n"),
        ("metrics.jsonl", '{"epoch": 1}\n'),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(run, name, text):
    (run / name).write_text(text)
    with pytest.raises(RunError, match=name) as caught:
        summarise(refreshes_of(run), reference=run)
    assert "\n" not in str(caught.value)


def arrays(num_clips: int = 4) -> dict[str, np.ndarray]:
    return {
        "text_before": np.zeros((3, 8), np.float32),
        "text": np.ones((3, 8), np.float32),
        "joints_before": np.zeros((3, 20), np.uint8),
        "joints": np.ones((3, 20), np.uint8),
        "clip_embeddings": np.ones((num_clips, 8), np.float16),
        "clip_labels": np.arange(num_clips) % 3,
        "clip_numbers": np.arange(num_clips),
    }


def test_snapshots_come_by_epoch_and_the_first_and_last_of_many(tmp_path):
    (tmp_path / "refreshes").mkdir()
    for epoch in (0, 5, 10, 15, 20, 100):
        np.savez(tmp_path / "refreshes" / f"epoch-{epoch:03}.npz", **arrays())
    assert [each.epoch for each in read_snapshots(tmp_path)] == [0, 5, 10, 15, 20, 100]
    assert [each.epoch for each in read_snapshots(tmp_path, most=3)] == [0, 10, 100]
    assert read_snapshots(tmp_path)[0].text.sum() == 24


@pytest.mark.parametrize(
    "change",
    [
        {"clip_labels": np.array([0, 1, 2, 3])},
        {"clip_labels": np.array([0, 1, 2, -1])},
        {"clip_embeddings": np.ones((4, 9))},
        {"text_before": np.ones((2, 8))},
        {"clip_embeddings": np.array([object()] * 4)},
        arrays(0),
    ],
)
def test_a_damaged_snapshot_is_one_line(change, tmp_path):
    (tmp_path / "refreshes").mkdir()
    np.savez(tmp_path / "refreshes" / "epoch-005.npz", **{**arrays(), **change})
    with pytest.raises(RunError, match="epoch-005.npz is damaged") as caught:
        read_snapshots(tmp_path)
    assert "\n" not in str(caught.value)
