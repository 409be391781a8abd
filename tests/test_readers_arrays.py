"""Readers of numpy's .npz and .npy files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from skag.readers import arrays
from skag.readers.label_names import known_names
from tests.helpers.recordings import as_folder, as_zip, converted, refusal


def npz(packed: bool = False, **values: object) -> bytes:
    (np.savez_compressed if packed else np.savez)(buffer := io.BytesIO(), **values)
    return buffer.getvalue()


def file(path: Path, **values: object) -> Path:
    path.write_bytes(npz(**values))
    return path


# CTR-GCN


def ntu_x(count: int = 4, frames: int = 5, seed: int = 0) -> np.ndarray:
    """One person in all recordings, padded with two frames of zeros."""
    x = np.zeros((count, frames + 2, 150), np.float32)
    x[:, :frames, :75] = np.random.default_rng(seed).normal(size=(count, frames, 75))
    return x


@pytest.mark.parametrize("packed", [False, True])
def test_ctr_gcn(tmp_path: Path, packed: bool) -> None:
    x, test = ntu_x(), ntu_x(3, 4, seed=1)
    x[1, :, 75:] = x[0, :, :75]
    x[2, :, 75:] = x[2, :, :75]
    y, y_test = np.eye(60)[[3, 59, 0, 7]], np.eye(60)[[1, 2, 5]]
    source = file(tmp_path / "NTU60_CV.npz", packed=packed, x_train=x, y_train=y, x_test=test, y_test=y_test)
    report, store = converted(source, tmp_path)
    assert (report.clips, report.layout, report.skipped) == (7, "nturgb+d", [])
    assert store.names[3:] == ["train_000003", "test_000000", "test_000001", "test_000002"]
    assert store.labels.tolist() == [3, 59, 0, 7, 1, 2, 5] and store.classes == known_names("ntu120")[:60]
    assert store.bodies.tolist() == [1, 2, 1, 1, 1, 1, 1], "a second body that repeats the first is none"
    assert store.frames.tolist() == [5] * 4 + [4] * 3
    assert (store.keypoints(0)[0] == x[0, :5, :75].reshape(5, 25, 3)).all()
    assert (store.keypoints(1)[1] == x[0, :5, :75].reshape(5, 25, 3)).all()
    assert {name: len(numbers) for name, numbers in store.splits.items()} == {"xview_train": 4, "xview_test": 3}


def test_ctr_gcn_with_numbers_for_labels_and_another_layout(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 60))
    source = file(tmp_path / "mine.npz", x_train=x, y_train=[0, 2, 1])
    assert "name the layout with --layout" in refusal(source, tmp_path)
    _, store = converted(source, tmp_path, layout="kinect-v1", format="ctr-gcn")
    assert store.labels.tolist() == [0, 2, 1] and list(store.splits) == ["train"]
    assert (store.keypoints(2)[0] == x[2].reshape(4, 20, 3).astype("f4")).all()
    assert "no multiple of 75" in refusal(source, tmp_path / "2", layout="nturgb+d")


def test_bad_rows_of_ctr_gcn_are_left_out(tmp_path: Path) -> None:
    x, y = ntu_x(5), np.eye(60)[:5]
    x[1] = 0
    y[2] = 0
    y[3, 7] = 1
    report, store = converted(file(tmp_path / "x.npz", x_train=x, y_train=y), tmp_path)
    assert store.labels.tolist() == [0, 4]
    assert dict(report.skipped) == {
        "train_000001": "has no joint other than 0 in any frame",
        "train_000002": "has no label",
        "train_000003": "has no label",
    }


def test_a_damaged_npz_keeps_what_comes_before(tmp_path: Path) -> None:
    x = ntu_x(40)
    data = bytearray(npz(x_train=x, y_train=np.eye(60)[:40]))
    at = data.index(x[30].tobytes()[:200])
    data[at] ^= 1
    (tmp_path / "x.npz").write_bytes(data)
    report, _ = converted(tmp_path / "x.npz", tmp_path)
    ((name, reason),) = report.skipped
    assert 0 < report.clips < 40 and name == f"train_{report.clips:06}" and "damaged in x_train" in reason
    assert f"and {39 - report.clips} after it" in reason


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"x_train": ntu_x()}, "only one of x_train and y_train"),
        ({"x_train": ntu_x(), "y_train": np.eye(60)[:3]}, "shape (3, 60)"),
        ({"x_train": ntu_x()[0], "y_train": np.eye(60)[:7]}, "shape (7, 150)"),
        ({"x_train": np.full((2, 3, 150), "a"), "y_train": [1, 2]}, "type <U1"),
        ({"x_train": np.full((2, 3, 150), None), "y_train": [1, 2]}, "type object"),
        ({"x_train": ntu_x(), "y_train": np.eye(60)[:4], "x_test": ntu_x(), "y_test": np.eye(50)[:4]}, "widths"),
    ],
)
def test_what_is_no_ctr_gcn_file_is_refused(tmp_path: Path, values: dict[str, object], said: str) -> None:
    assert said in refusal(file(tmp_path / "x.npz", **values), tmp_path)


def test_objects_in_npz_files_are_not_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    source = file(tmp_path / "x.npz", x_train=np.array([Bomb()], object), y_train=np.array([Bomb()], object))
    assert "type object" in refusal(source, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_an_npz_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    header = np.lib.format.magic(1, 0)
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 300, 150), }"
    header += len(text + b"\n").to_bytes(2, "little") + text + b"\n"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x_train.npy", header)
        archive.writestr("y_train.npy", header)
    assert "bytes where its shape (1000000000, 300, 150) needs" in refusal(tmp_path / "x.npz", tmp_path)


def test_an_npz_that_expands_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MIN_TOTAL", 1000)
    monkeypatch.setattr(arrays, "MAX_RATIO", 3)
    source = file(tmp_path / "x.npz", packed=True, x_train=np.zeros((9, 300, 150)), y_train=np.eye(60)[:9])
    assert "expands to far more" in refusal(source, tmp_path, format="ctr-gcn")


# people's own


def npy(values: np.ndarray) -> bytes:
    np.save(buffer := io.BytesIO(), values)
    return buffer.getvalue()


def moves(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def test_a_recording_per_file(tmp_path: Path) -> None:
    two = moves(2, 4, 25, 3)
    members = {"walk/1.npy": npy(np.asfortranarray(two[0])), "sit/2.npz": npz(keypoints=two)}
    for number, pack in enumerate((as_folder, as_zip)):
        report, store = converted(pack(members, tmp_path / f"x{number}"), tmp_path / str(number))
        assert store.names == ["walk/1", "sit/2"] and report.layout == "nturgb+d"
        assert store.classes == ["sit", "walk"] and store.labels.tolist() == [1, 0]
        assert np.array_equal(store.keypoints(0), two[:1]) and np.array_equal(store.keypoints(1), two)


def test_confidences(tmp_path: Path) -> None:
    two, scored = moves(2, 4, 25, 3), moves(3, 25, 4, seed=1)
    scored[..., 3] = np.abs(scored[..., 3]) / np.abs(scored[..., 3]).max()
    members = {
        "a/1.npz": npz(packed=True, data=scored.astype("f8")),
        "b/2.npz": npz(keypoint=two, confidence=np.abs(two[..., 0])),
        "b/3.npz": npz(keypoints=two),
    }
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert np.array_equal(store.keypoints(0)[0], scored[..., :3])
    assert np.array_equal(store.confidence(0)[0], scored[..., 3])
    assert np.array_equal(store.confidence(1), np.abs(two[..., 0]))
    assert "some clips have a confidence per joint and some have none" in report.skipped[0][1]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npz(poses=moves(3, 25, 3)), "has no array keypoints"),
        (npz(keypoints=moves(25, 3)), "shape (25, 3)"),
        (npz(keypoints=moves(3, 20, 3)), "20 joints, and layout nturgb+d has 25"),
        (npz(keypoints=moves(3, 25, 2)), "2 values per joint, and layout nturgb+d has 3"),
        (npz(keypoints=np.full((3, 25, 3), "a")), "type <U1"),
        (npz(keypoints=moves(3, 25, 3), confidence=moves(3, 20)), "confidence of shape (1, 3, 20)"),
        (npz(keypoints=moves(0, 25, 3)), "frames"),
        (npz(keypoints=moves(3, 25, 3))[:-200], "damaged or truncated .npz"),
        (b"", "damaged or truncated .npz"),
    ],
)
def test_a_bad_array_is_left_out(tmp_path: Path, data: bytes, reason: str) -> None:
    members = {"a/1.npy": npy(moves(3, 25, 3)), "b/1.npy": npy(moves(3, 25, 3)), "b/9.npz": data}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    ((name, said),) = report.skipped
    assert reason in said and name == "b/9" and len(store) == 2


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("1.npz", npz(poses=moves(3, 25, 3)), "has no array keypoints (but poses)"),
        ("1.npz", npz(keypoints=moves(3, 25, 3))[:-200], "is a damaged or truncated .npz file"),
        ("1.npy", npy(moves(3, 75)), "keypoints of shape (3, 75), not [frames, joints, coordinates]: reshape it"),
        ("1.npy", b"1 2 3\n", "no readable array: it is no file of numpy, or damaged"),
    ],
)
def test_what_is_wrong_with_all_files_is_said_before_their_classes(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    source = as_folder({name: data, "2.npy": data}, tmp_path / "x")
    for given in (source, source / name):
        for layout in (None, "nturgb+d"):
            assert said in refusal(given, tmp_path, layout=layout)


def test_numpy_files_that_claim_much_or_hold_objects(tmp_path: Path) -> None:
    good = npy(moves(3, 25, 3))
    members = {
        "a/1.npy": good,
        "b/1.npy": good,
        "b/2.npy": good.replace(b"(3, 25, 3), }     ", b"(30000000, 25, 3)}"),
        "b/3.npy": npy(np.array([{}, {}], object)),
        "b/4.npy": b"\x93NUMPY\x03\x00" + good[8:],
    }
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert len(store) == 2
    reasons = dict(report.skipped)
    assert "where its shape (30000000, 25, 3) needs 9000000000" in reasons["b/2"]
    assert "type object" in reasons["b/3"] and "save a file per recording, or fill all up with zeros" in reasons["b/3"]
    assert "no readable array" in reasons["b/4"]


def test_all_recordings_in_one_file(tmp_path: Path) -> None:
    values = moves(4, 2, 6, 20, 3)
    values[1, 1] = values[2, :, 4:] = 0
    splits = np.array(["train", "train;extra_train", "test", "test"])
    common = {"names": np.array(["a", "b", "c", "d"]), "subjects": np.array([3.0, 3, 4, 5]), "splits": splits}
    source = file(
        tmp_path / "data.npz", keypoints=values, labels=np.array([2, 0, 0, 2]), cameras=[1, 2, 1, 2], **common
    )
    report, store = converted(source, tmp_path)
    assert store.names == ["a", "b", "c", "d"] and store.classes == ["class 1", "class 2", "class 3"]
    assert store.labels.tolist() == [2, 0, 0, 2] and store.subjects.tolist() == [3, 3, 4, 5]
    assert store.cameras.tolist() == [1, 2, 1, 2] and report.splits == {"extra_train": 1, "test": 2, "train": 2}
    assert store.bodies.tolist() == [2, 1, 2, 2] and store.frames.tolist() == [6, 6, 4, 6]
    assert np.array_equal(store.keypoints(3), values[3]) and report.layout == "kinect-v1"

    named = file(tmp_path / "named.npz", keypoints=values[:, 0], labels=np.array(["run", "bow", "bow", "run"]))
    report, store = converted(named, tmp_path / "2")
    assert store.classes == ["bow", "run"] and store.labels.tolist() == [1, 0, 0, 1]
    assert store.names == ["000000", "000001", "000002", "000003"] and set(report.splits) == {
        "random_train", "random_test"
    }  # fmt: skip

    frames = file(tmp_path / "frames.npz", keypoints=values, labels=[1, 0, 1, 0], frames=[6, 2, 6, 1],
                  class_names=["x", "y", "z"], confidence=np.ones(values.shape[:-1]))  # fmt: skip
    _, store = converted(frames, tmp_path / "3")
    assert store.classes == ["x", "y", "z"] and store.frames.tolist() == [6, 2, 6, 1]
    assert store.confidence(1).shape == (1, 2, 20)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"labels": [0, 1]}, "labels of shape (2,), not (3,)"),
        ({"labels": [0, -1, 1]}, "labels other than numbers from 0"),
        ({"labels": [0, 0.5, 1]}, "labels that are no whole numbers"),
        ({"labels": [0, 1, 2], "class_names": ["a", "b"]}, "2 different class_names, and labels up to 2"),
        ({"labels": [0, 1, 2], "names": ["a", "a", "b"]}, "with other values"),
        ({"labels": [0, 1, 2], "confidence": moves(3, 5)}, "confidence of shape (3, 5)"),
        ({"labels": [0, 1, 2], "keypoints": moves(3, 4, 2)}, "of shape (3, 4, 2)"),
        ({"labels": [0, 1, 2], "keypoints": moves(3, 4, 11, 3)}, "11 joints with 3 coordinates, as no known layout"),
    ],
)
def test_one_file_that_contradicts_itself_is_refused(tmp_path: Path, values: dict[str, object], said: str) -> None:
    source = file(tmp_path / "x.npz", **{"keypoints": moves(3, 4, 25, 3), **values})
    assert said in refusal(source, tmp_path)


def test_three_values_per_joint_of_coco_ask_for_the_layout(tmp_path: Path) -> None:
    values = np.abs(moves(4, 5, 17, 3)) / 9
    source = file(tmp_path / "x.npz", keypoints=values, labels=[0, 1, 0, 1])
    message = refusal(source, tmp_path)
    assert "the third a depth or a confidence: say which layout, --layout human3.6m-17, coco, uav" in message
    _, store = converted(source, tmp_path, layout="coco")
    assert np.array_equal(store.keypoints(0)[0], values[0, ..., :2])
    assert np.array_equal(store.confidence(0)[0], values[0, ..., 2])
