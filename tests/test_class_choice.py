"""Which classes of a store a command works with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from skag import runs
from skag.backends.measured import MeasuredBackend
from skag.cli import app
from skag.errors import DataError
from skag.inference.loaded import held_out_clips, load_run, split_clips
from skag.inference.scores import predict_split
from skag.skeleton.class_choice import as_trained, matching, occurring, read_class_list
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store
from tests.helpers.commands import document
from tests.helpers.tiny import CLASSES, tiny_clip

CPU = torch.device("cpu")
NAMES = ["unused", *CLASSES[:3], "tested only", "Sit down"]
LABELS = {"train": (1, 2, 3), "test": (1, 2, 4)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SkeletonStore]:
    path = tmp_path_factory.mktemp("classes") / "part.h5"
    rng = np.random.default_rng(0)
    with write_store(path, load_layout("kinect-v1")) as writer:
        for split, labels in LABELS.items():
            for label in labels:
                for take in range(3):
                    clip = tiny_clip(label % 3, rng)
                    writer.add(Clip(f"{split}-{label}-{take}", label, clip, splits=(split,)))
        writer.finish(NAMES)
    with SkeletonStore(path) as opened:
        yield opened


def test_lists_of_classes_are_read_from_words_and_files(tmp_path: Path) -> None:
    assert read_class_list(" walk, sit down ,,walk") == ["walk", "sit down"]
    file = tmp_path / "classes.txt"
    file.write_text("\ufeffwalk\n# a remark\n\n  sit, then stand \nwalk\n", encoding="utf-8")
    assert read_class_list(file) == read_class_list(str(file)) == ["walk", "sit, then stand"]
    for nothing in ("", " , "):
        with pytest.raises(DataError, match="no class names"):
            read_class_list(nothing)
    assert read_class_list("x" * 5000) == ["x" * 5000], "too long for a path is a name"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="no list of classes that can be read"):
        read_class_list(file)


def test_names_match_whatever_their_case_in_the_order_of_the_store() -> None:
    assert matching(["SIT_down", "b"], ["b", "a", "Sit down"], "x.h5") == ["b", "Sit down"]
    assert matching(["a"], ["A", "a"], "x.h5") == ["a"], "a name as it stands comes first"
    with pytest.raises(DataError, match=r"x\.h5 has no class 'sit dwn': did you mean 'Sit down'\?"):
        matching(["sit dwn"], ["Sit down", "b"], "x.h5")


def test_classes_without_clips_are_left_out_with_a_note(store: SkeletonStore) -> None:
    notes: list[str] = []
    part = occurring(store, "train", notes.append)
    assert part.classes == CLASSES[:3] and part.labels[part.splits["train"]].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert notes == ["Note: 3 classes without a clip in train left out: unused, tested only, Sit down."]
    assert occurring(store, None, notes.append).classes == [*CLASSES[:3], "tested only"]
    assert occurring(part, "train", notes.append) is part and len(notes) == 2


def test_chosen_classes_are_those_named_that_occur(store: SkeletonStore) -> None:
    notes: list[str] = []
    part = occurring(store, "train", notes.append, ["unused", CLASSES[2], CLASSES[0]])
    assert part.classes == [CLASSES[0], CLASSES[2]] and notes == [
        "Note: 1 class without a clip in train left out: unused."
    ]
    with pytest.raises(DataError, match=r"only 'raise right hand' has a clip in train of the 2 chosen, and two"):
        occurring(store, "train", names=[CLASSES[0], "sit down"])
    with pytest.raises(DataError, match="no split 'xview'"):
        occurring(store, "xview")


def test_a_run_sees_a_store_by_the_names_of_its_classes(store: SkeletonStore) -> None:
    assert as_trained(store, NAMES) is store
    seen = as_trained(store, [CLASSES[1], "elsewhere", CLASSES[0]])
    assert seen.classes == [CLASSES[1], "elsewhere", CLASSES[0]]
    assert seen.names[:6] == [f"train-{label}-{take}" for label in (1, 2) for take in range(3)]
    assert seen.labels[:6].tolist() == [2] * 3 + [0] * 3 and len(seen.splits["test"]) == 6
    with pytest.raises(DataError, match="has none of the 2 classes of the run"):
        as_trained(store, ["one", "two"])


def test_measured_answers_for_a_choice_are_not_those_for_all(store: SkeletonStore) -> None:
    """A class is told apart from others: without some of them other things are worth saying."""
    whole = MeasuredBackend(store, "train").identity()
    assert MeasuredBackend(occurring(store, "train"), "train").identity() == whole, "nothing was left out"
    chosen = CLASSES[:2]
    left = occurring(store, "train", names=chosen)
    part = MeasuredBackend(left, "train").identity()
    assert part == {**whole, "data": left.content, "classes": chosen} and left.content != whole["data"]


@pytest.fixture(scope="module")
def trained(store: SkeletonStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch on the store, whose classes 0, 4 and 5 have no training clip."""
    run = tmp_path_factory.mktemp("runs") / "part"
    options = ("--recipe", "demo", "--alpha", 0, "--beta", 0, "--epochs", 1, "--set", "data.num_frames=8")
    result = CliRunner().invoke(app, ["train", str(store.path), *map(str, options), "--out", str(run)])
    assert result.exit_code == 0, result.output
    assert "Note: 3 classes without a clip in train left out: unused, tested only, Sit down.\n" in result.stderr
    return run


def test_training_has_outputs_for_the_classes_that_occur(store: SkeletonStore, trained: Path) -> None:
    assert runs.classes_of(trained) == CLASSES[:3]
    facts = runs.read_json(trained, runs.DATA)
    assert sorted(facts["training"] + facts["validation"]) == store.splits["train"].tolist()
    found = predict_split(load_run(trained, CPU), store, "test", CPU)
    assert found.probabilities.shape == (6, 3)


def test_evaluation_leaves_out_clips_of_classes_that_were_not_trained(store: SkeletonStore, trained: Path) -> None:
    result = CliRunner().invoke(app, ["eval", str(trained), "--json"])
    assert result.exit_code == 0, result.output
    assert "Note: 3 clips of classes that the run was not trained on left out of test: tested only.\n" in result.stderr
    assert json.loads(result.stdout)["clips"] == 6
    run = load_run(trained, CPU)
    tested, held = split_clips(run, store, "test"), held_out_clips(run, store)
    assert tested.labels.tolist() == [0] * 3 + [1] * 3 and tested.classes == CLASSES[:3]
    assert tested.numbers.tolist() == store.splits["test"][:6].tolist()
    assert [store.names[number] for number in held.numbers] == held.names
    assert [f"train-{label + 1}" for label in held.labels] == [name[:7] for name in held.names]


def test_describing_and_training_of_chosen_classes_agree(store: SkeletonStore, tmp_path: Path) -> None:
    chosen, kept = f"{CLASSES[2]},{CLASSES[0]}", tmp_path / "d.h5"
    found = document("describe", store.path, "--store", kept, "--classes", chosen)
    assert (found["classes"], found["failed"]) == (2, [])
    again = document("describe", store.path, "--store", kept)
    assert (again["classes"], again["cached"]) == (3, 0), "beside other classes other things are worth saying"
    options = ("--recipe", "demo", "--epochs", 1, "--set", "data.num_frames=8", "--offline", "--out", tmp_path / "r")
    document("train", store.path, "--store", kept, "--llm", "measured", "--classes", chosen, *options)
    assert runs.classes_of(tmp_path / "r") == [CLASSES[0], CLASSES[2]]
