"""The PYSKL reader on made pickles, on damaged ones, and on real ones where they are at hand."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from skag.convert import convert
from skag.readers.label_names import known_names
from tests.helpers.recordings import as_folder, as_tar, as_zip, converted, real, refusal

NTU = "S{:03}C{:03}P{:03}R{:03}A{:03}"


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
    assert any("1 recording is in no split" in note for note in report.notes)
    assert store.protocols() == {"default": ("train", "val")}


def test_a_file_without_splits_gets_the_official_ones_of_ntu(tmp_path: Path) -> None:
    """Performers 1 and 2 train in xsub, camera 1 tests in xview; setup 18 makes it NTU RGB+D 120, with xset."""
    names = ["S001C001P001R001A001", "S001C002P003R001A002", "S017C003P002R002A060"]
    clips = [annotation(name, int(name[-3:]) - 1) for name in names]
    report, store = converted(dumped(clips, tmp_path), tmp_path)
    assert {name: store.splits[name].tolist() for name in store.splits} == {
        "xsub_train": [0, 2], "xsub_test": [1], "xview_train": [1, 2], "xview_test": [0],
    }  # fmt: skip
    assert any("so are the splits" in note for note in report.notes)
    report, _ = converted(dumped([*clips, annotation("S018C001P008R001A001", 0)], tmp_path), tmp_path / "120")
    assert (report.splits["xset_train"], report.splits["xset_test"], report.splits["xview_test"]) == (1, 3, 1)


def test_splits_that_are_asked_for_are_the_only_ones_of_a_file_without(tmp_path: Path) -> None:
    clips = [{**annotation(f"P00{n % 3}S00G10B10H10UC022000LC021000A000R0_0824171{n}", 0)} for n in range(9)]
    report, _ = converted(dumped(clips, tmp_path), tmp_path, split_by="subject")
    assert report.splits == {"subject_test": 3, "subject_train": 6}


def test_random_splits_do_not_depend_on_order(tmp_path: Path) -> None:
    clips = [annotation(f"clip {i}", i % 3) for i in range(30)] + [annotation("single", 3)]
    report, store = converted(dumped(clips, tmp_path), tmp_path)
    assert report.splits == {"random_test": 6, "random_train": 25}
    assert any("bring no splits" in note for note in report.notes)
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


@pytest.mark.parametrize(
    ("shape", "size"),
    [((480, 640), (640, 480)), ([480, 640], (640, 480)), (..., (-1, -1)), ((0, 640), (-1, -1)), ("480", (-1, -1))],
)
def test_the_image_size_is_kept(tmp_path: Path, shape: object, size: tuple[int, int]) -> None:
    flat = annotation("a", 0, (1, 4, 17, 2), img_shape=shape)
    _, store = converted(dumped([flat, annotation("b", 0, (1, 4, 17, 2))], tmp_path), tmp_path)
    assert (store.widths[0], store.heights[0]) == size


def test_published_class_names_by_the_names_of_recordings(tmp_path: Path) -> None:
    uav = "P{:03}S01G10B10H10UC022000LC021000A{:03}R0_08241716"
    clips = [annotation(uav.format(i + 7, i), i, (1, 2, 17, 2)) for i in range(3)]
    report, store = converted(dumped(clips, tmp_path), tmp_path)
    assert report.classes == known_names("uav-human") and store.subjects.tolist() == [7, 8, 9]
    assert store.setups.tolist() == [1, 1, 1]
    gym = "0LtLS9wROrk_E_002407_002435_A_{:04}_0005"
    clips = [annotation(gym.format(i), i, (1, 2, 17, 2)) for i in range(99)]
    assert converted(dumped(clips, tmp_path), tmp_path / "gym")[0].classes == known_names("gym99")
    clips[0]["frame_dir"] = "mine"
    assert converted(dumped(clips, tmp_path), tmp_path / "own")[0].classes[0] == "class 1"


def test_a_pickle_may_lie_in_a_folder_or_an_archive(tmp_path: Path) -> None:
    data = pickle.dumps([annotation("a"), annotation("b")])
    for number, make in enumerate((as_folder, as_zip, as_tar)):
        source = make({"in/data.pkl": data, "in/README.txt": b"x"}, tmp_path / f"x{number}")
        assert converted(source, tmp_path / f"out{number}")[0].clips == 2
    message = refusal(as_zip({"data.pkl": data[:50]}, tmp_path / "cut.zip"), tmp_path / "cut")
    assert "data.pkl in " in message and "truncated or damaged" in message
    two = as_folder({"a.pkl": data, "b.pkl": data}, tmp_path / "two")
    assert "holds 2 pickles" in refusal(two, tmp_path / "2", format="pyskl")
