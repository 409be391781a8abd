"""The NW-UCLA reader on made recordings, on damaged ones, and on the real ones where they are at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skag.convert import open_source
from skag.skeleton.store import Clip
from tests.helpers.recordings import (
    as_folder,
    as_tar,
    as_zip,
    converted,
    real,
    refusal,
    reversed_members,
    ucla_json,
    ucla_members,
)

UCLA_FORMS: dict[str, Callable[[Path], Path]] = {
    "folder": lambda tmp: as_folder(ucla_members(), tmp / "folder"),
    "tar.gz": lambda tmp: as_tar(ucla_members(), tmp / "x.tar.gz"),
    "tar.gz backwards": lambda tmp: as_tar(reversed_members(), tmp / "x.tar.gz"),
    "tar": lambda tmp: as_tar(ucla_members(), tmp / "x.tar", "w"),
    "tar.bz2": lambda tmp: as_tar(ucla_members(), tmp / "x.tar.bz2", "w:bz2"),
    "tar.xz": lambda tmp: as_tar(ucla_members(), tmp / "x.tar.xz", "w:xz"),
    "zip": lambda tmp: as_zip(reversed_members(), tmp / "x.zip"),
    "zip of another name": lambda tmp: as_zip(ucla_members(), tmp / "recordings"),
}


@pytest.mark.parametrize("form", UCLA_FORMS)
def test_nw_ucla_is_the_same_in_every_form(tmp_path: Path, form: str) -> None:
    report, store = converted(UCLA_FORMS[form](tmp_path), tmp_path)
    names = sorted(Path(name).stem for name in ucla_members())
    assert store.names == names
    assert (report.layout, report.joints, report.bodies, report.frames) == ("kinect-v1", 20, 1, 3 * (3 + 4 + 5))
    assert report.splits == {"xview_test": 3, "xview_train": 6} and report.skipped == []
    assert store.labels.tolist() == [0, 0, 0, 6, 6, 6, 9, 9, 9]
    assert store.cameras.tolist() == store.subjects.tolist() == [1, 2, 3] * 3
    assert store.splits["xview_test"].tolist() == [2, 5, 8]
    assert [store.classes[i] for i in (0, 6, 9)] == ["pick up with one hand", "donning", "carry"]
    for number, data in enumerate(ucla_members()[f"all_sqe/{name}.json"] for name in names):
        assert (store.keypoints(number)[0] == np.array(json.loads(data)["skeletons"], "f4")).all()


BAD_JSON = {
    "no skeletons": (json.dumps({"label": 1}).encode(), 'no "skeletons"'),
    "a list": (b"[]", 'no "skeletons"'),
    "cut": (ucla_json()[:-5], "no JSON file"),
    "binary": (bytes(range(256)), "no JSON file"),
    "deep": (b"[" * 100_000, "no JSON file"),
    "ragged frame": (json.dumps({"skeletons": [[[1, 2, 3], [1, 2]]], "label": 1}).encode(), "no table"),
    "ragged": (json.dumps({"skeletons": [[[1, 2, 3]], [[1, 2]]], "label": 1}).encode(), "different shapes"),
    "something follows": (ucla_json() + b"]", "no JSON file"),
    "two lists": (ucla_json()[:-1] + b', "skeletons": []]', "no JSON file"),
    "NaN as a key": (b'{NaN: 1, "skeletons": []}', "no JSON file"),
    "huge numbers": (b'{"label": 1, "skeletons": [[[' + b"9" * 5000 + b", 1, 1]]]}", "no JSON file"),
    "text": (json.dumps({"skeletons": [[["a"]]], "label": 1}).encode(), "no table"),
    "no frames": (json.dumps({"skeletons": [], "label": 1}).encode(), 'no "skeletons"'),
    "not a list": (json.dumps({"skeletons": {"a": 1}, "label": 1}).encode(), "no table"),
    "flat": (json.dumps({"skeletons": [1.0, 2.0], "label": 1}).encode(), "shape"),
    "other joints": (json.dumps({"skeletons": np.ones((2, 25, 3)).tolist(), "label": 1}).encode(), "20, 3"),
    "label of another action": (ucla_json(label=3), "label 3 inside and action 1"),
    "label 0": (ucla_json(label=0), "label 0 inside"),
    "label text": (ucla_json(label="1"), "whole number"),
    "label true": (ucla_json(label=True), "whole number"),
    "all zero": (json.dumps({"skeletons": np.zeros((2, 20, 3)).tolist(), "label": 1}).encode(), "other than 0"),
    "longer than allowed": (b" " * (17 << 20), "longer than 16 MiB"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_a_bad_file_is_left_out_and_moves_no_label(tmp_path: Path, case: str) -> None:
    bad, reason = BAD_JSON[case]
    bad_name = "a01_s02_e00_v02.json"
    members = {**ucla_members(), f"all_sqe/{bad_name}": bad}
    report, store = converted(as_folder(members, tmp_path / "folder"), tmp_path)
    ((name, said),) = report.skipped
    assert name in (bad_name, Path(bad_name).stem) and reason in said
    assert [f"a{[1, 8, 12][[0, 6, 9].index(label)]:02}" for label in store.labels] == [n[:3] for n in store.names]
    message = refusal(tmp_path / "folder", tmp_path / "strict", strict=True)
    assert "a01_s02_e00_v02" in message and reason in message
    assert reason in refusal(as_folder({bad_name: bad}, tmp_path / "alone"), tmp_path / "alone_out")


def test_missing_label_comes_from_the_name_and_other_names_are_left_out(tmp_path: Path) -> None:
    members = {"a12_s01_e00_v02.json": ucla_json(label=None), "walk.json": ucla_json(), "read.me": b"hello"}
    report, store = converted(as_folder(members, tmp_path / "folder"), tmp_path)
    assert store.labels.tolist() == [9]
    assert [name for name, _ in report.skipped] == ["walk.json"]
    assert any("1484" in note for note in report.notes)


def test_values_that_are_no_numbers_become_missing_joints(tmp_path: Path) -> None:
    skeletons = np.ones((2, 20, 3)).tolist()
    skeletons[0][4][1], skeletons[1][7][2], skeletons[1][8][0] = float("nan"), float("inf"), 1e300
    report, store = converted(
        as_folder({"a01_s01_e00_v01.json": ucla_json(skeletons=skeletons)}, tmp_path / "x"), tmp_path
    )
    wanted = np.ones((1, 2, 20, 3), "f4")
    wanted[0, [0, 1, 1], [4, 7, 8]] = 0
    assert (store.keypoints(0) == wanted).all()
    assert any("1 recording holds NaN" in note for note in report.notes)


def test_own_class_names_and_labels(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("# mine\nrun\njump\n", encoding="utf-8")
    members = {
        "a01_s01_e00_v01.json": ucla_json(label=2),
        "a01_s01_e01_v01.json": ucla_json(label=3),
        "a01_s01_e02_v01.json": ucla_json(label=None),
    }
    folder = as_folder(members, tmp_path / "folder")
    report, store = converted(folder, tmp_path, classes=tmp_path / "names.txt")
    assert (report.classes, store.labels.tolist()) == (["run", "jump"], [1])
    assert [reason for _, reason in report.skipped] == [
        "has the label 2, and there are 2 classes (from 0)",
        "has no label",
    ]


def test_nw_ucla_real() -> None:
    """1484 recordings; a run through all of them is in test_convert."""
    source = open_source(real("nw-ucla-raw.tar.gz"))
    assert source.total == 1484
    first = next(source.clips)
    assert isinstance(first, Clip) and first.name == "a01_s01_e00_v01" and first.keypoints.dtype == np.float32
