"""Which classes of a store a command works with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from skag.backends.measured import MeasuredBackend
from skag.errors import DataError
from skag.skeleton.class_choice import as_trained, matching, occurring, read_class_list
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store
from tests.helpers.tiny import CLASSES, tiny_clip

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
