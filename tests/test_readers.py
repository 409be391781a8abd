"""Every reader on a small made sample of its format, on damaged ones, and on real recordings where they are at hand."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from skag import archives
from skag.convert import ConvertReport, convert, open_source
from skag.errors import DataError
from skag.label_names import known_names
from skag.readers import FORMATS
from skag.readers.source import Skipped
from skag.store import Clip, SkeletonStore

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
NTU = "S{:03}C{:03}P{:03}R{:03}A{:03}"


def real(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not here")
    return DATA / name


def converted(source: Path, tmp_path: Path, **options: object) -> tuple[ConvertReport, SkeletonStore]:
    report = convert(source, tmp_path / "out" / "data.h5", **options)
    store = SkeletonStore(tmp_path / "out" / "data.h5")
    assert (len(store), store.layout.name, store.classes) == (report.clips, report.layout, report.classes)
    assert {name: len(numbers) for name, numbers in store.splits.items()} == report.splits
    return report, store


def refusal(source: Path, tmp_path: Path, **options: object) -> str:
    """The message of a refused conversion, which leaves nothing behind."""
    out = tmp_path / "out" / "data.h5"
    with pytest.raises(DataError) as caught:
        convert(source, out, **options)
    assert not out.parent.exists() or not list(out.parent.iterdir())
    message = str(caught.value)
    assert "\n" not in message and len(message) < 900
    return message


# NW-UCLA


def ucla_json(frames: int = 3, label: object = 1, seed: int = 0, **changes: object) -> bytes:
    skeletons = np.random.default_rng(seed).normal(size=(frames, 20, 3)).tolist()
    return json.dumps({"file_name": "x", "skeletons": skeletons, "label": label, **changes}).encode()


def ucla_members() -> dict[str, bytes]:
    """Actions 1, 7th (number 8) and 10th (number 12), cameras 1 to 3."""
    return {
        f"all_sqe/a{action:02}_s0{camera}_e00_v0{camera}.json": ucla_json(2 + camera, label, seed=10 * action + camera)
        for action, label in ((1, 1), (8, 7), (12, 10))
        for camera in (1, 2, 3)
    }


def as_folder(members: dict[str, bytes], path: Path) -> Path:
    for name, data in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def as_tar(members: dict[str, bytes], path: Path, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def as_zip(members: dict[str, bytes], path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def reversed_members() -> dict[str, bytes]:
    return dict(reversed(ucla_members().items()))


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
    "ragged": (json.dumps({"skeletons": [[[1, 2, 3]], [[1, 2]]], "label": 1}).encode(), "no table"),
    "text": (json.dumps({"skeletons": [[["a"]]], "label": 1}).encode(), "no table"),
    "no frames": (json.dumps({"skeletons": [], "label": 1}).encode(), "shape"),
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
    assert any("1 recordings hold NaN" in note for note in report.notes)


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


# PYSKL


def annotation(name: str, label: object = 0, shape: tuple[int, ...] = (1, 4, 25, 3), **changes: object) -> dict:
    points = np.random.default_rng(len(name)).normal(size=shape).astype("f2")
    values = {"frame_dir": name, "label": label, "total_frames": shape[1], "keypoint": points, **changes}
    return {key: value for key, value in values.items() if value is not ...}


def dumped(data: object, tmp_path: Path, protocol: int = 4) -> Path:
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(data, protocol))
    return path


def ntu_file(actions: int = 60, setups: int = 17) -> dict:
    annotations = [annotation(NTU.format(setups, 2, 7, 1, a), a - 1) for a in range(1, actions + 1)]
    names = [a["frame_dir"] for a in annotations]
    return {"split": {"xsub_train": names[::2], "xsub_val": names[1::2]}, "annotations": annotations}


@pytest.mark.parametrize("protocol", range(6))
def test_ntu_3d(tmp_path: Path, protocol: int) -> None:
    data = ntu_file()
    two = data["annotations"][1]["keypoint"] = np.ones((2, 4, 25, 3), "f2")
    absent = data["annotations"][2]["keypoint"] = np.ones((2, 4, 25, 3), "f2")
    absent[1] = 0
    late = data["annotations"][3]["keypoint"] = np.ones((2, 4, 25, 3), "f2")
    late[1, :3] = 0
    report, store = converted(dumped(data, tmp_path, protocol), tmp_path)
    assert (report.clips, report.layout, report.bodies, report.frames) == (60, "nturgb+d", 2, 240)
    assert report.splits == {"xsub_train": 30, "xsub_val": 30}
    assert report.classes == known_names("ntu120")[:60] and store.labels.tolist() == list(range(60))
    assert (store.setups[0], store.cameras[0], store.subjects[0]) == (17, 2, 7)
    assert store.bodies[:4].tolist() == [1, 2, 1, 2], "a body that is zero throughout is no body"
    assert (store.keypoints(1) == two).all() and (store.keypoints(3) == late).all()
    assert (store.keypoints(2) == absent[:1]).all()
    assert (store.keypoints(0) == data["annotations"][0]["keypoint"].astype("f4")).all()
    assert len(report.notes) == 1 and "loaded whole" in report.notes[0]


def test_ntu_names_are_the_known_facts() -> None:
    names = known_names("ntu120")
    assert len(names) == len(set(names)) == 120
    assert [names[a - 1] for a in (1, 11, 12, 60, 61, 120)] == [
        "drink water", "reading", "writing", "walking apart from each other", "put on headphone",
        "finger-guessing game (playing rock-paper-scissors)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("actions", "setups", "split", "classes"),
    [(120, 32, "xsub", 120), (60, 18, "xsub", 120), (30, 17, "xset", 120), (30, 17, "xview", 60)],
)
def test_ntu_60_or_120(tmp_path: Path, actions: int, setups: int, split: str, classes: int) -> None:
    data = ntu_file(actions, setups)
    data["split"] = {name.replace("xsub", split): names for name, names in data["split"].items()}
    report, _ = converted(dumped(data, tmp_path), tmp_path)
    assert len(report.classes) == classes


def test_renumbered_ntu_labels_are_not_given_ntu_names(tmp_path: Path) -> None:
    data = [annotation(NTU.format(1, 1, 1, 1, a), a - 50) for a in range(50, 61)]
    report, _ = converted(dumped(data, tmp_path), tmp_path)
    assert report.classes == [f"class {i}" for i in range(1, 12)]
    assert any("--classes" in note for note in report.notes)


def test_2d_with_confidence(tmp_path: Path) -> None:
    scores = np.linspace(0, 1, 2 * 3 * 17).reshape(2, 3, 17).astype("f2")
    scores[1] = 0.5
    clips = [annotation(name, 0, (2, 3, 17, 2), keypoint_score=scores.copy()) for name in "ab"]
    clips[0]["keypoint"][1] = 0
    clips[1]["keypoint_score"][0, 0, 0] = np.nan
    report, store = converted(dumped({"split": {}, "annotations": clips}, tmp_path), tmp_path)
    assert report.layout == "coco" and store.bodies.tolist() == [1, 2]
    assert (store.confidence(0) == scores[:1]).all(), "confidence goes with its body"
    assert store.confidence(1)[0, 0, 0] == 0 and not store.keypoints(1)[0, 0, 0].any()
    assert np.isfinite(store.confidence(1)).all()


BAD_ANNOTATIONS = {
    "no dict": (5, "is no dict"),
    "no name": (annotation("bad", frame_dir=...), "no frame_dir"),
    "no keypoint": (annotation("bad", keypoint=...), "no keypoint"),
    "nested lists": (annotation("bad", keypoint=[[[[0.0]]]]), "no numpy array"),
    "text": (annotation("bad", keypoint=np.array([["a"]])), "no numpy array"),
    "three dimensions": (annotation("bad", keypoint=np.ones((4, 25, 3))), "[bodies, frames, joints, coordinates]"),
    "other joints": (annotation("bad", shape=(1, 4, 17, 3)), "25, 3"),
    "no frames": (annotation("bad", shape=(1, 0, 25, 3)), "at least one body and frame"),
    "scores of other frames": (
        annotation("bad", keypoint_score=np.ones((1, 3, 25))),
        "keypoint_score of shape (1, 3, 25)",
    ),
    "scores where others have none": (annotation("bad", keypoint_score=np.ones((1, 4, 25))), "confidence"),
    "no label": (annotation("bad", label=...), "no label"),
    "label -1": (annotation("bad", label=-1), "no label"),
    "label text": (annotation("bad", label="1"), "whole number"),
    "label too large": (annotation("bad", label=10**6), "beyond"),
    "frames text": (annotation("bad", total_frames="4"), "whole number"),
    "same name": (annotation("good 0"), "recording before it"),
    "all zero": (annotation("bad", keypoint=np.zeros((2, 4, 25, 3))), "other than 0"),
}


@pytest.mark.parametrize("case", BAD_ANNOTATIONS)
def test_a_bad_annotation_is_left_out_and_moves_no_label(tmp_path: Path, case: str) -> None:
    bad, reason = BAD_ANNOTATIONS[case]
    good = [annotation(f"good {i}", i) for i in range(4)]
    names = [a["frame_dir"] for a in good]
    data = {"split": {"train": names[:2], "val": names[2:]}, "annotations": [*good[:2], bad, *good[2:]]}
    report, store = converted(dumped(data, tmp_path), tmp_path)
    ((_, said),) = report.skipped
    assert reason in said
    assert store.names == names and store.labels.tolist() == [0, 1, 2, 3]
    assert store.splits["val"].tolist() == [2, 3]
    for number, clip in enumerate(good):
        assert (store.keypoints(number) == clip["keypoint"]).all()
    assert reason in refusal(tmp_path / "data.pkl", tmp_path / "strict", strict=True)


def test_total_frames(tmp_path: Path) -> None:
    clips = [annotation("a", total_frames=3), annotation("b", total_frames=9), annotation("c", total_frames=...)]
    report, store = converted(dumped(clips, tmp_path), tmp_path)
    assert store.frames.tolist() == [3, 4, 4]
    assert [note.split(" ")[0] for note in report.notes if "total_frames" in note] == ["1", "1"]


def test_splits_that_name_absent_recordings(tmp_path: Path) -> None:
    split = {"train": ["a", "x", "x", "y"], "val": np.array(["b"]), "a/b": ("a",), "..": ("c",)}
    data = {"split": split, "annotations": [annotation("a"), annotation("b"), annotation("c"), annotation("d")]}
    report, store = converted(dumped(data, tmp_path), tmp_path)
    assert report.splits == {"train": 1, "val": 1, "a_b": 1, "__": 1}
    assert any("Split train names 2 recordings" in note for note in report.notes)
    assert any("1 recordings are in no split" in note for note in report.notes)
    assert store.protocols() == {"default": ("train", "val")}


def test_random_splits_do_not_depend_on_order(tmp_path: Path) -> None:
    clips = [annotation(f"clip {i}", i % 3) for i in range(30)] + [annotation("single", 3)]
    report, store = converted(dumped(clips, tmp_path), tmp_path)
    assert report.splits == {"random_test": 6, "random_train": 25}
    assert any("no splits in the file" in note for note in report.notes)
    tests = {store.names[i] for i in store.splits["random_test"]}
    assert np.bincount(store.labels[store.splits["random_test"]], minlength=4).tolist() == [2, 2, 2, 0]
    _, again = converted(dumped(clips[::-1], tmp_path), tmp_path / "again")
    assert {again.names[i] for i in again.splits["random_test"]} == tests


def test_no_split_can_be_made_of_single_recordings(tmp_path: Path) -> None:
    report, _ = converted(dumped([annotation("a", 0), annotation("b", 1)], tmp_path), tmp_path)
    assert report.splits == {} and any("no class has two" in note for note in report.notes)


def test_layout_by_name_and_when_it_cannot_be_guessed(tmp_path: Path) -> None:
    clips = [annotation(name, 0, (1, 2, 3, 2)) for name in "ab"]
    message = refusal(dumped(clips, tmp_path), tmp_path)
    assert "3 joints with 2 coordinates" in message and "--layout" in message
    (tmp_path / "own.toml").write_text(
        'name = "own"\ndims = 2\njoints = ["a", "b", "c"]\ncentre = "a"\n'
        '[bones]\nb = "a"\nc = "a"\n[parts]\nx = ["a", "b", "c"]\n'
    )
    report, _ = converted(tmp_path / "data.pkl", tmp_path, layout=str(tmp_path / "own.toml"))
    assert (report.layout, report.joints, report.clips) == ("own", 3, 2)


def test_a_few_odd_recordings_do_not_choose_the_layout(tmp_path: Path) -> None:
    clips = [annotation("odd", shape=(1, 2, 17, 2)), annotation("a"), annotation("b")]
    report, _ = converted(dumped(clips, tmp_path), tmp_path)
    assert report.layout == "nturgb+d" and [name for name, _ in report.skipped] == ["odd"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (5, "no PYSKL-style pickle"),
        ({"annotations": 5}, "no PYSKL-style pickle"),
        ({"split": {}}, "no PYSKL-style pickle"),
        ({"split": [], "annotations": [annotation("a")], "x": 1}, ""),
        ({"split": 3, "annotations": []}, "no dict of up to 100 lists"),
        ({"split": {"train": 3}, "annotations": []}, "split 'train' is no list of recording names"),
        ({"split": {"train": [3]}, "annotations": []}, "split 'train' is no list of recording names"),
        ({"split": {str(i): [] for i in range(101)}, "annotations": []}, "no dict of up to 100 lists"),
        ([], "none of the 0 recordings"),
        ([{}], "the first, number 1: has no frame_dir"),
    ],
)
def test_pickles_of_something_else(tmp_path: Path, data: object, said: str) -> None:
    path = dumped(data, tmp_path)
    assert not said or said in refusal(path, tmp_path)
    assert said or convert(path, tmp_path / "data.h5").clips == 1


def test_one_array_for_many_recordings_is_refused(tmp_path: Path) -> None:
    """A small pickle could fill a disk."""
    big = np.ones((1, 1000, 25, 3), "f4")
    clips = [{"frame_dir": f"clip {i}", "label": 0, "keypoint": big} for i in range(500)]
    assert "same arrays" in refusal(dumped(clips, tmp_path), tmp_path)


def test_wlasl_real(tmp_path: Path) -> None:
    source = real("wlasl-pyskl-annotations.pkl")
    report, store = converted(source, tmp_path)
    assert (report.clips, report.layout, report.bodies, report.skipped) == (234, "coco", 4, [])
    assert sum(report.splits.values()) == 234 and set(report.splits) == {"random_train", "random_test"}
    with source.open("rb") as file:
        published = pickle.load(file)
    for number, clip in enumerate(published):
        assert store.names[number] == clip["frame_dir"] and store.labels[number] == clip["label"]
        assert (store.keypoints(number) == clip["keypoint"]).all()
        assert (store.confidence(number) == clip["keypoint_score"]).all()


# Archives and guessing


def test_what_is_no_recording_is_refused_with_the_known_formats(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unknown").mkdir()
    (tmp_path / "unknown" / "notes.txt").write_text("hello")
    (tmp_path / "random.bin").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "random.pkl").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "nothing").write_bytes(b"")
    (tmp_path / "nothing.pkl").write_bytes(b"")
    (tmp_path / "x.json").write_bytes(b'{"label": 1}')
    for name, said in {
        "absent.tar.gz": "does not exist",
        "empty": "holds no files",
        "unknown": "nw-ucla: a folder",
        "random.bin": "pyskl: a PYSKL",
        "random.pkl": "is no pickle",
        "nothing": "no reader recognises",
        "nothing.pkl": "is no pickle",
        "x.json": 'x.json: has no "skeletons"',
        "a" * 300: "cannot be read",
    }.items():
        message = refusal(tmp_path / name, tmp_path / "made")
        assert said in message and name[:20] in message
    assert "known are pyskl" in refusal(tmp_path / "x.json", tmp_path / "made", format="csv")
    assert "give the pickle itself" in refusal(tmp_path / "unknown", tmp_path / "made", format="pyskl")
    assert "holds no recordings" in refusal(tmp_path / "unknown", tmp_path / "made", format="nw-ucla")


def test_a_named_pipe_does_not_make_it_wait(tmp_path: Path) -> None:
    folder = as_folder(ucla_members(), tmp_path / "folder")
    os.mkfifo(folder / "a01_s09_e00_v01.json")
    assert converted(folder, tmp_path)[0].clips == 9
    assert "neither file nor folder" in refusal(folder / "a01_s09_e00_v01.json", tmp_path / "pipe")


def test_hidden_files_of_desktops_are_ignored(tmp_path: Path) -> None:
    extra = {"__MACOSX/all_sqe/._a01_s01_e00_v01.json": b"x", "all_sqe/._a01_s01_e00_v01.json": b"x", ".DS_Store": b"x"}
    report, _ = converted(as_tar({**ucla_members(), **extra}, tmp_path / "x.tar.gz"), tmp_path)
    assert (report.clips, report.skipped) == (9, [])


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_truncated_tar_says_after_how_many(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    members = {
        f"a01_s01_e{i:02}_v01.json": ucla_json(skeletons=rng.normal(size=(40, 20, 3)).tolist()) for i in range(20)
    }
    data = as_tar(members, tmp_path / "whole", mode).read_bytes()
    for share in (0.2, 0.6, 0.9):
        (tmp_path / "cut").write_bytes(data[: int(len(data) * share)])
        message = refusal(tmp_path / "cut", tmp_path / "made")
        after = int(message.split("truncated after ")[1].split(" ")[0])
        assert message.endswith("recordings; copy it again.") and abs(after - 20 * share) <= (12 if "b" in mode else 2)


def test_a_plain_tar_cut_between_two_members_is_truncated(tmp_path: Path) -> None:
    data = as_tar({"a01_s01_e00_v01.json": ucla_json()}, tmp_path / "x.tar", "w").read_bytes()
    end = 512 + -(-len(ucla_json()) // 512) * 512
    (tmp_path / "x.tar").write_bytes(data[:end])
    assert "truncated after 1 recordings" in refusal(tmp_path / "x.tar", tmp_path / "made")


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    members = {f"a01_s01_e0{i}_v01.json": ucla_json() for i in range(3)}
    data = bytearray(as_tar(members, tmp_path / "x.tar", "w").read_bytes())
    at = data.index(b"a01_s01_e02")
    data[at : at + 100] = b"\xff" * 100
    (tmp_path / "x.tar").write_bytes(data)
    assert "damaged after 2 recordings" in refusal(tmp_path / "x.tar", tmp_path / "made")


def test_truncated_and_odd_archives(tmp_path: Path) -> None:
    data = as_zip(ucla_members(), tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(data[:-50])
    assert "damaged or truncated zip" in refusal(tmp_path / "x.zip", tmp_path / "made")
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(ucla_json()))
    assert "holds no tar archive" in refusal(tmp_path / "x.json.gz", tmp_path / "made")
    (tmp_path / "none.tar").write_bytes(as_tar({}, tmp_path / "none.tar", "w").read_bytes())
    assert refusal(tmp_path / "none.tar", tmp_path / "made")


def test_a_damaged_member_of_a_zip_is_left_out(tmp_path: Path) -> None:
    path = as_zip(ucla_members(), tmp_path / "x.zip", zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"skeletons") + 50] ^= 1
    path.write_bytes(data)
    report, _ = converted(path, tmp_path)
    assert report.clips == 8 and "damaged in the archive" in report.skipped[0][1]


def test_zip_members_that_unpack_without_bounds_are_left_out(tmp_path: Path) -> None:
    path = as_zip({"a01_s01_e00_v01.json": ucla_json()}, tmp_path / "x.zip", zipfile.ZIP_BZIP2)
    assert "other than deflate" in refusal(path, tmp_path)


BOMB_TEST = """
import resource, sys
from pathlib import Path
from skag.convert import convert
from skag.errors import DataError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
except DataError as error:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, error)
"""


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_bombs_do_not_explode(tmp_path: Path, form: str) -> None:
    """300 MiB of blanks in 0.3 MiB: refused, in little memory."""
    name, size = "a01_s01_e00_v01.json", 60 << 20
    members = {f"{i}/{name}": b" " * size for i in range(5)}
    path = as_tar(members, tmp_path / "x.tar.gz") if form == "tar.gz" else as_zip(members, tmp_path / "x.zip")
    done = subprocess.run(
        [sys.executable, "-c", BOMB_TEST, path, tmp_path / "data.h5"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    grown, _, message = done.stdout.partition(" ")
    assert "expands to more than 256 MiB" in message and int(grown) < 60


def test_members_longer_than_the_limit_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER", 5000)
    members = {"a01_s01_e00_v01.json": ucla_json(), "a01_s01_e01_v01.json": ucla_json(9)}
    forms = [
        as_folder(members, tmp_path / "x"),
        as_tar(members, tmp_path / "x.tar.gz"),
        as_zip(members, tmp_path / "x.zip"),
    ]
    for number, source in enumerate(forms):
        report, _ = converted(source, tmp_path / str(number))
        assert report.clips == 1 and "longer than" in report.skipped[0][1]


def test_a_tar_far_out_of_order_keeps_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_HELD", 1000)
    _, store = converted(as_tar(reversed_members(), tmp_path / "x.tar.gz"), tmp_path)
    assert store.names == sorted(store.names, reverse=True)


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert "more than 3 files" in refusal(as_folder(ucla_members(), tmp_path / "x"), tmp_path)


def test_names_from_archives_are_only_names(tmp_path: Path) -> None:
    members = {
        "../../a01_s01_e00_v01.json": ucla_json(),
        "/abs/a01_s01_e01_v01.json": ucla_json(),
        "\x1b[31m\n.json": b"x",
    }
    report, store = converted(as_tar(members, tmp_path / "x.tar"), tmp_path)
    assert store.names == ["a01_s01_e00_v01", "a01_s01_e01_v01"]
    assert report.skipped[0][0].isprintable()
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"x.tar", "data.h5"}


@pytest.mark.parametrize("name", FORMATS)
def test_a_reader_says_what_comes(tmp_path: Path, name: str) -> None:
    """The promise to `convert`, for every format: a total that holds, and clips in the same order every time."""
    sources = {
        "nw-ucla": lambda: as_folder(ucla_members(), tmp_path / "x"),
        "pyskl": lambda: dumped(ntu_file(), tmp_path),
    }
    path = sources[name]()
    seen = [[item.name for item in open_source(path, format=name).clips] for _ in range(2)]
    assert seen[0] == seen[1] and len(seen[0]) == open_source(path).total
    assert all(isinstance(item, Clip | Skipped) for item in open_source(path).clips)


@pytest.fixture(scope="module")
def fuzzer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_readers", ROOT / "benchmarks" / "fuzz_readers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("reader", ["nw-ucla-json", "nw-ucla-tar", "nw-ucla-tar-gz", "nw-ucla-zip", "pyskl"])
def test_a_little_fuzzing(fuzzer: ModuleType, tmp_path: Path, reader: str) -> None:
    assert set(fuzzer.READERS) == {"nw-ucla-json", "nw-ucla-tar", "nw-ucla-tar-gz", "nw-ucla-zip", "pyskl"}
    outcomes = fuzzer.fuzz(reader, 50, 7, tmp_path)
    assert set(outcomes) <= {"ok", "refused"} and sum(outcomes.values()) == 50


@pytest.mark.parametrize(
    ("shape", "size"),
    [((480, 640), (640, 480)), ([480, 640], (640, 480)), (..., (-1, -1)), ((0, 640), (-1, -1)), ("480", (-1, -1))],
)
def test_the_image_size_is_kept(tmp_path: Path, shape: object, size: tuple[int, int]) -> None:
    flat = annotation("a", 0, (1, 4, 17, 2), img_shape=shape)
    _, store = converted(dumped([flat, annotation("b", 0, (1, 4, 17, 2))], tmp_path), tmp_path)
    assert (store.widths[0], store.heights[0]) == size
