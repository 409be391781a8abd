"""Readers of small Kinect v1 data sets: SBU, UTKinect, MSR Action3D, UTD-MHAD."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.recordings import as_folder, as_zip, converted, real, refusal


def table(frames: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((frames, columns)).round(4)


def lines(values: np.ndarray, delimiter: str) -> bytes:
    return "".join(delimiter.join(f"{x:.6g}" for x in row) + "\r\n" for row in values).encode()


# SBU


def sbu_members(frames: int = 3) -> dict[str, bytes]:
    return {
        f"{pair}/{action:02}/001/skeleton_pos.txt": lines(
            np.hstack([np.arange(frames)[:, None], table(frames, 90, action)]), ","
        )
        for pair, action in (("s01s02", 1), ("s06s03", 8), ("s02s03", 5))
    }


def test_sbu_is_denormalised_and_split_into_folds(tmp_path: Path) -> None:
    report, store = converted(as_folder(sbu_members(), tmp_path / "x"), tmp_path)
    assert store.names == ["s01s02_01_001", "s02s03_05_001", "s06s03_08_001"]
    assert store.labels.tolist() == [0, 4, 7] and store.subjects.tolist() == [102, 203, 603]
    assert [store.classes[i] for i in store.labels] == ["approaching", "shaking hands", "punching"]
    points = table(3, 90, 1).reshape(3, 2, 15, 3)
    wanted = np.stack([1280 - 2560 * points[..., 0], 960 - 1920 * points[..., 1], points[..., 2] * 10000 / 7.8125], -1)
    assert (store.keypoints(0) == wanted.swapaxes(0, 1).astype("f4")).all()
    assert set(store.protocols()) == {"fold1", "fold2", "fold5"}, "nobody tests folds 3 and 4 here"
    assert {fold: store.splits[f"{fold}_test"].tolist() for fold in ("fold1", "fold2", "fold5")} == {
        "fold1": [0], "fold2": [1], "fold5": [2]
    }  # fmt: skip
    assert all(len(numbers) == 3 for name, numbers in store.splits.items() if name in ("fold3_train", "fold4_train"))
    assert report.skipped == []


def test_a_joint_that_was_not_seen_stays_missing(tmp_path: Path) -> None:
    values = np.hstack([[[1.0]], table(1, 90)])
    values[0, 1:4] = 0
    _, store = converted(as_folder({"s01s02/01/001/skeleton_pos.txt": lines(values, ",")}, tmp_path / "x"), tmp_path)
    assert not store.keypoints(0)[0, 0, 0].any() and store.keypoints(0)[0, 0, 1:].all()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("s01s02/01/009/skeleton_pos.txt", b"1,2,3\n", "3 values on line 1, not 91"),
        ("s01s02/01/009/skeleton_pos.txt", b"1," * 90 + b"x", "other than numbers on line 1"),
        ("s01s02/01/009/skeleton_pos.txt", b"1," * 100_000, "more than 64 KiB"),
        ("s01s02/01/009/skeleton_pos.txt", b"\r\n", "no frames"),
        ("s01s02/09/001/skeleton_pos.txt", b"1," * 90 + b"1", "label 8"),
        ("other/skeleton_pos.txt", b"1", "folder sXXsYY"),
    ],
)
def test_a_bad_sbu_file_is_left_out(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    report, store = converted(as_folder({**sbu_members(), name: data}, tmp_path / "x"), tmp_path)
    ((shown, said),) = report.skipped
    assert reason in said and shown.startswith(name.split("/")[0]) and store.labels.tolist() == [0, 4, 7]


def test_sbu_real(tmp_path: Path) -> None:
    report, store = converted(real("sbu-raw.tar.gz"), tmp_path)
    assert (report.clips, report.layout, report.bodies, report.skipped) == (282, "sbu-15", 2, [])
    assert [report.splits[f"fold{n}_test"] for n in range(1, 6)] == [55, 52, 56, 54, 65]
    assert all(report.splits[f"fold{n}_train"] + report.splits[f"fold{n}_test"] == 282 for n in range(1, 6))
    head, foot = store.layout.index["head"], store.layout.index["left foot"]
    first = store.keypoints(0)[0, 0]  # the line says 0.32665 for the head and 1.148 for the foot
    assert first[head, 1] - first[foot, 1] == pytest.approx(1920 * (1.148 - 0.32665), rel=1e-5)


# UTKinect


def utkinect_members(labels: str = "actionLabel_modified.txt") -> dict[str, bytes]:
    numbers = np.array([5, 10, 12, 12, 15, 20, 30])[:, None]
    text = "".join(f"{name}\nwalk: 10 15\nsitDown: 16 30 \nclapHands:  NaN NaN\n" for name in ("s01_e01", "s02_e01"))
    return {
        f"joints/{labels}": text.encode(),
        "joints/joints_s01_e01.txt": lines(np.hstack([numbers, table(7, 60, 1)]), "  "),
        "joints/joints_s02_e01.txt": lines(np.hstack([numbers, table(7, 60, 2)]), "  "),
    }


def test_utkinect_segments_go_by_frame_number(tmp_path: Path) -> None:
    report, store = converted(as_zip(utkinect_members(), tmp_path / "x.zip"), tmp_path)
    assert store.names == ["s01_e01_walk", "s01_e01_sitDown", "s02_e01_walk", "s02_e01_sitDown"]
    points = table(7, 60, 2).reshape(7, 20, 3).astype("f4")
    assert store.frames.tolist() == [2, 3, 2, 3]
    second = points[2] + (points[4] - points[2]) * 2 / 3  # at number 14, between 12 (the first of two counts) and 15
    assert np.allclose(store.keypoints(2)[0], [points[1], second], atol=1e-5)
    assert np.allclose(store.keypoints(3)[0, 0], points[5])
    assert store.frame_rates.tolist() == [15.0] * 4  # four numbers apart
    assert store.subjects.tolist() == [1, 1, 2, 2] and report.splits == {"xsub_test": 2, "xsub_train": 2}
    assert [store.classes[i] for i in store.labels[:2]] == ["walk", "sit down"]
    assert [name for name, _ in report.skipped] == ["s01_e01_clapHands", "s02_e01_clapHands"]
    assert any("199" in note for note in report.notes)


def test_utkinect_label_files(tmp_path: Path) -> None:
    report, _ = converted(as_folder(utkinect_members("actionLabel.txt"), tmp_path / "old"), tmp_path)
    assert any("seven slips" in note for note in report.notes)
    members = utkinect_members()
    del members["joints/actionLabel_modified.txt"]
    assert "has no actionLabel_modified.txt" in refusal(as_folder(members, tmp_path / "none"), tmp_path / "out1")
    for number, text in enumerate(["s01_e01\nwalk: 1\n", "walk: 1 2\n", "s01_e01\nwalk: a b\n"]):
        members["joints/actionLabel.txt"] = text.encode()
        source = as_folder(members, tmp_path / f"bad{number}")
        assert f"line {2 - (number == 1)} is neither" in refusal(source, tmp_path / "out2")


def test_damaged_utkinect_recordings_cost_their_own_segments_only(tmp_path: Path) -> None:
    members = utkinect_members()
    members["joints/joints_s01_e01.txt"] = b"1 2 3\n"
    members["joints/joints_s03_e01.txt"] = members["joints/joints_s02_e01.txt"]
    members["joints/actionLabel_modified.txt"] += b"s04_e01\nwalk: 1 2\ns02_e01\njump: 1 2\nwalk: 900 901\n"
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.names == ["s02_e01_walk", "s02_e01_sitDown"]
    reasons = dict(report.skipped)
    assert "3 values on line 1" in reasons["s01_e01_walk"] and "no action of this" in reasons["s02_e01_jump"]
    assert "not in the label file" in reasons["joints_s03_e01.txt"] and "no joints_s04" in reasons["s04_e01"]
    assert "no frames from 900 to 901" in dict(report.skipped)["s02_e01_walk"]


def test_utkinect_real(tmp_path: Path) -> None:
    report, store = converted(real("utkinect-raw.tar.gz"), tmp_path)
    assert (report.clips, report.layout, report.bodies) == (199, "kinect-v1", 1)
    assert report.splits == {"xsub_train": 100, "xsub_test": 99}
    assert [name for name, _ in report.skipped] == ["s10_e02_carry"]
    (note,) = report.notes
    assert note.startswith("The frames of 195 recordings lie at uneven times")
    assert store.frames.min() >= 5 and set(store.frame_rates.tolist()) == {15.0}
    assert sorted(set(store.subjects)) == list(range(1, 11))
    assert np.bincount(store.labels).tolist() == [20, 20, 20, 20, 19, 20, 20, 20, 20, 20]


# MSR Action3D


def msr_lines(joints: np.ndarray) -> bytes:
    """The text of `[T, 20, 3]` with a confidence per joint."""
    return lines(np.concatenate([joints, np.ones((*joints.shape[:2], 1))], -1).reshape(-1, 4), "  ")


MSR_ORDER = [  # as recorded, by the bones of the data set's body_model.mat: left wrist 10, left hip 5, from 1
    "left shoulder", "right shoulder", "shoulder centre", "spine", "left hip", "right hip", "hip centre", "left elbow",
    "right elbow", "left wrist", "right wrist", "left hand", "right hand", "left knee", "right knee", "left ankle",
    "right ankle", "left foot", "right foot", "head",
]  # fmt: skip


def test_msr_action3d(tmp_path: Path) -> None:
    joints = table(3, 60, 5).reshape(3, 20, 3) + 1
    joints[1] = 0
    members = {
        "a08_s01_e01_skeleton3D.txt": msr_lines(joints),
        "a20_s02_e02_skeleton3D.txt": msr_lines(joints[:1]),
        "a13_s09_e02_skeleton3D.txt": msr_lines(joints[1:2]),
        "README.txt": b"hello",
    }
    report, store = converted(as_zip(members, tmp_path / "x.zip"), tmp_path, strict=True)
    assert (report.clips, report.layout) == (2, "kinect-v1")
    assert report.notes == [
        "1 recording has frames without anybody (a08_s01_e01 1 of 3); they stay where they are, as missing."
    ]
    assert report.skipped == [("a13_s09_e02", "is empty as published")]
    assert [store.classes[i] for i in store.labels] == ["draw tick", "pick up and throw"]
    assert store.subjects.tolist() == [1, 2] and store.frames.tolist() == [3, 1], "the empty frame stays"
    for number, joint in enumerate(MSR_ORDER):
        assert np.allclose(store.keypoints(0)[0, :, store.layout.index[joint]], joints[:, number]), joint
    assert {name: numbers.tolist() for name, numbers in store.splits.items()} == {
        "xsub_train": [0], "xsub_test": [1], "as2_train": [0], "as1_test": [1], "as3_test": [1]
    }  # fmt: skip


def test_msr_action3d_in_the_depth_image(tmp_path: Path) -> None:
    joints = table(1, 60, 5).reshape(1, 20, 3) + 1
    report, store = converted(as_folder({"a01_s01_e01_skeleton.txt": msr_lines(joints)}, tmp_path / "x"), tmp_path)
    assert "MSRAction3DSkeletonReal3D has the same in metres" in report.notes[0]
    assert np.allclose(store.keypoints(0)[0, 0, store.layout.index["head"]], joints[0, 19] * [1, -1, 1])


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a01_s01_e09_skeleton3D.txt", b"1 2 3 4\n" * 19, "19 lines, not 20 per frame"),
        ("a01_s01_e09_skeleton3D.txt", b"", "0 lines"),
        ("a01_s01_e09_skeleton3D.txt", b"1 2 3\n", "3 values on line 1, not 4"),
        ("a01_s01_e09_skeleton3D.txt", b"0 0 0 1\n" * 20, "no joint other than 0"),
        ("a21_s01_e09_skeleton3D.txt", b"1 2 3 4\n" * 20, "label 20"),
    ],
)
def test_a_bad_msr_action3d_file_is_left_out(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    members = {"a08_s01_e01_skeleton3D.txt": b"1 2 3 1\n" * 20, name: data}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert reason in report.skipped[0][1] and store.labels.tolist() == [7]


# UTD-MHAD

UTD_ORDER = [  # as recorded, from Skeleton_joint_order.txt
    "head", "shoulder centre", "spine", "hip centre", "left shoulder", "left elbow", "left wrist", "left hand",
    "right shoulder",
    "right elbow", "right wrist", "right hand", "left hip", "left knee", "left ankle", "left foot", "right hip",
    "right knee", "right ankle", "right foot",
]  # fmt: skip


def mat(**values: object) -> bytes:
    from scipy.io import savemat

    savemat(buffer := io.BytesIO(), values, do_compression=True)
    return buffer.getvalue()


def test_utd_mhad(tmp_path: Path) -> None:
    joints = table(4, 60, 5).reshape(4, 20, 3) + 1
    members = {
        "Skeleton/a12_s1_t1_skeleton.mat": mat(d_skel=joints.transpose(1, 2, 0)),
        "Skeleton/a27_s8_t4_skeleton.mat": mat(d_skel=joints[:2].transpose(1, 2, 0)),
        "Skeleton/a1_s8_t4_skeleton.mat": mat(other=1),
        "Skeleton/a1_s8_t3_skeleton.mat": mat(d_skel=joints),
        "Skeleton/a1_s8_t2_skeleton.mat": mat(d_skel="text"),
        "Skeleton/a1_s8_t1_skeleton.mat": b"MATLAB 5.0 MAT-file" + bytes(200),
        "Skeleton/a1_s7_t4_skeleton.mat": mat(d_skel=np.zeros((20, 3, 20_000))),
    }
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert [store.classes[i] for i in store.labels] == ["bowling (right hand)", "squat (two arms stretch out)"]
    for number, joint in enumerate(UTD_ORDER):
        assert np.allclose(store.keypoints(0)[0, :, store.layout.index[joint]], joints[:, number]), joint
    assert store.subjects.tolist() == [1, 8]
    assert {name: numbers.tolist() for name, numbers in store.splits.items()} == {"xsub_train": [0], "xsub_test": [1]}
    reasons = dict(report.skipped)
    assert "is no MATLAB file" in reasons["a1_s8_t1_skeleton.mat"]
    assert "expands to more than 8 MiB" in reasons["a1_s7_t4_skeleton.mat"]
    assert "type <U" in reasons["a1_s8_t2_skeleton.mat"] and "no variable" in reasons["a1_s8_t4_skeleton.mat"]
    assert "shape (4, 20, 3)" in reasons["a1_s8_t3_skeleton.mat"]
