"""Splits that the data do not bring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skag.convert import convert
from skag.errors import DataError
from skag.skeleton.layouts import load_layout
from skag.skeleton.splitting import SplitRecording, make_splits, occurring_classes
from skag.skeleton.store import UNKNOWN, Clip, SkeletonStore, write_store
from tests.helpers.recordings import as_folder, refusal, ucla_json, ucla_members


def recordings(*groups: tuple[int, int, int]) -> list[SplitRecording]:
    return [SplitRecording(f"r{n}", *group) for n, group in enumerate(groups)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=60))
def test_random_splits_hold_every_recording_once_and_every_class_of_two(groups: list[tuple[int, int, int]]) -> None:
    made = recordings(*groups)
    splits, note = make_splits(made, "random")
    if "No class has two" in note:
        assert splits == {} and all(sum(r.label == label for r in made) < 2 for label in {r.label for r in made})
        return
    assert splits.keys() == {recording.name for recording in made}
    assert make_splits(reversed(made), "random")[0] == splits, "the order does not matter"
    for label in {recording.label for recording in made}:
        names = [recording.name for recording in made if recording.label == label]
        tests = sum(splits[name] == "random_test" for name in names)
        assert tests == (max(1, round(len(names) / 5)) if len(names) > 1 else 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=60))
def test_no_subject_trains_and_tests(groups: list[tuple[int, int, int]]) -> None:
    made = recordings(*groups)
    subjects = {recording.subject for recording in made}
    if len(subjects) < 2:
        with pytest.raises(DataError, match="only subject"):
            make_splits(made, "subject")
        return
    splits, note = make_splits(made, "subject")
    tests = {recording.subject for recording in made if splits[recording.name] == "subject_test"}
    trains = {recording.subject for recording in made if splits[recording.name] == "subject_train"}
    assert tests and trains and not tests & trains and tests | trains == subjects
    assert len(tests) == max(1, round(len(subjects) / 5)) and f"{len(tests)} of {len(subjects)} subjects" in note


def test_recordings_without_a_camera_are_in_no_split_by_camera() -> None:
    splits, _ = make_splits(recordings((0, 1, 1), (0, 1, 2), (0, 1, UNKNOWN)), "camera")
    assert sorted(splits.values()) == ["camera_test", "camera_train"] and "r2" not in splits
    with pytest.raises(DataError, match="no camera is known; take --split-by random"):
        make_splits(recordings((0, 1, UNKNOWN)), "camera")


def test_converting_with_splits_of_ones_own(tmp_path: Path) -> None:
    source = as_folder(ucla_members(), tmp_path / "x")
    report = convert(source, tmp_path / "data.h5", split_by="camera")
    store = SkeletonStore(tmp_path / "data.h5")
    assert {"xview_train", "xview_test", "camera_train", "camera_test"} == set(report.splits)
    tests = set(store.cameras[store.splits["camera_test"]].tolist())
    assert len(tests) == 1 and not tests & set(store.cameras[store.splits["camera_train"]].tolist())
    assert any("1 of 3 cameras test" in note for note in report.notes)


def test_the_way_to_split_is_checked(tmp_path: Path) -> None:
    source = as_folder({"a01_s01_e00_v01.json": ucla_json()}, tmp_path / "x")
    assert "use one of subject, camera, setup, random" in refusal(source, tmp_path, split_by="colour")
    message = refusal(source, tmp_path, split_by="subject")
    assert "only subject 1 is known" in message and "labels.csv beside the recordings with the columns file" in message


def test_classes_that_occur(tmp_path: Path) -> None:
    with write_store(tmp_path / "x.h5", load_layout("coco")) as writer:
        for number, (label, split) in enumerate(((1, "train"), (3, "test"), (1, "test"))):
            writer.add(Clip(f"c{number}", label, np.ones((1, 2, 17, 2), "f4"), splits=(split,)))
        writer.finish(["a", "b", "c", "d"])
    with SkeletonStore(tmp_path / "x.h5") as store:
        assert occurring_classes(store) == [1, 3] and occurring_classes(store, "train") == [1]
        with pytest.raises(DataError, match="no split 'val'"):
            occurring_classes(store, "val")
