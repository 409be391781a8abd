"""Formats beside the usual ones: Kinetics-Skeleton, ST-GCN's arrays, YOLO, tables without a header, more joints."""

from __future__ import annotations

import io
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from skag.skeleton.layouts import layout_names, load_layout
from tests.helpers.recordings import as_folder, as_zip, case, converted, refusal


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def noted(report: object, words: str) -> str:
    (note,) = [note for note in report.notes if words in note]
    return note


# layouts


@pytest.mark.parametrize("name", layout_names())
def test_every_joint_has_its_mirror(name: str) -> None:
    """A joint of one side has a partner on the other, and the partners' bones are partners too."""
    layout = load_layout(name)
    for joint, other in enumerate(layout.mirror_index):
        sided = layout.joints[joint].split()[0] in ("left", "right")
        assert (other != joint) == sided, layout.joints[joint]
        assert layout.mirror_index[other] == joint
    parents = {layout.index[child]: layout.index[parent] for child, parent in layout.bones.items()}
    for child, parent in parents.items():
        assert parents.get(layout.mirror_index[child], layout.mirror_index[parent]) == layout.mirror_index[parent]


def test_published_orders_of_joints() -> None:
    """Facts of the tools' documentation, not of skag's files."""
    at = {name: load_layout(name).joints for name in layout_names()}
    assert at["halpe-26"][17:20] == ("head", "neck", "mid hip") and at["halpe-26"][24:] == ("left heel", "right heel")
    assert at["body-25"][8] == "mid hip" and at["body-25"][19] == "left big toe" and at["body-25"][24] == "right heel"
    whole = at["coco-wholebody-133"]
    assert whole[:17] == at["coco"] and whole[17:23:3] == ("left big toe", "right big toe")
    assert whole[23 + 8] == "chin" and whole[23 + 30] == "nose bridge 4" and whole[91] == "left hand root"
    assert whole[112] == "right hand root" and whole[132] == "right pinky finger 4"
    mirror = load_layout("coco-wholebody-133").mirror_index
    pairs = [
        (0, 16),
        (17, 26),
        (21, 22),
        (31, 35),
        (36, 45),
        (39, 42),
        (41, 46),
        (48, 54),
        (55, 59),
        (60, 64),
        (65, 67),
    ]
    assert all(mirror[23 + a] == 23 + b for a, b in pairs), "300-W's 68 points, as MMPose swaps them"
    assert at["halpe-136"][26:94] == whole[23:91] and at["halpe-136"][94] == "left hand root"
    hand = at["mediapipe-hand-21"]
    assert (hand[0], hand[4], hand[8], hand[20]) == ("wrist", "thumb tip", "index finger tip", "pinky tip")
    assert at["human3.6m-17"][:8] == (
        "root", "right hip", "right knee", "right foot", "left hip", "left knee", "left foot", "spine"
    )  # fmt: skip
    assert at["human3.6m-17"][10:12] == ("head", "left shoulder") and at["human3.6m-17"][16] == "right wrist"


KINECT_V2 = re.findall(
    r"\w+",
    "SpineBase SpineMid Neck Head ShoulderLeft ElbowLeft WristLeft HandLeft ShoulderRight ElbowRight WristRight "
    "HandRight HipLeft KneeLeft AnkleLeft FootLeft HipRight KneeRight AnkleRight FootRight SpineShoulder HandTipLeft "
    "ThumbLeft HandTipRight ThumbRight",
)  # JointType of the SDK 2.0, in its order


def csv_of(names: list[str], values: np.ndarray, axes: str = "xyz", separator: str = ",", before: str = "") -> bytes:
    header = separator.join(f"{name}_{axis}" for name in names for axis in axes)
    rows = [separator.join(f"{x:.4f}" for x in row.ravel()) for row in values]
    return "\n".join([*filter(None, [before]), header, *rows]).encode()


def walk_and_sit(data: bytes, ending: str = "csv") -> dict[str, bytes]:
    return {f"{label}/{n}.{ending}": data for label in ("walk", "sit") for n in range(2)}


def test_kinect_v2_by_the_names_of_its_sdk(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 25, 3)).round(4)
    shuffled = np.random.default_rng(1).permutation(25)
    data = csv_of([KINECT_V2[n] for n in shuffled], values[:, shuffled])
    _, store = converted(as_folder(walk_and_sit(data), tmp_path / "x"), tmp_path)
    assert store.layout.name == "nturgb+d" and np.allclose(store.keypoints(0)[0], values, atol=1e-4)
    assert load_layout("kinect-v2").joints == store.layout.joints


def test_joints_that_a_table_has_and_the_layout_lacks_are_named(tmp_path: Path) -> None:
    names = [joint.replace(" ", "_") for joint in load_layout("halpe-26").joints]
    values = np.random.default_rng(0).uniform(1, 99, size=(4, 26, 2))
    source = as_folder(walk_and_sit(csv_of(names, values, "xy")), tmp_path / "x")
    report, store = converted(source, tmp_path / "a")
    assert store.layout.name == "halpe-26" and not any("left out" in note for note in report.notes)
    report, _ = converted(source, tmp_path / "b", layout="coco")
    note = noted(report, "left out")
    assert "9 of 26 joints" in note and "mid_hip" in note.replace(" ", "_") and "--layout halpe-26 keeps them" in note


# numpy files


def test_a_third_number_is_a_confidence_only_within_0_to_1(tmp_path: Path) -> None:
    source = case("07_h36m_npy")
    assert "and a confidence is within 0 to 1" in refusal(source, tmp_path / "a", layout="coco")
    report, _ = converted(source, tmp_path / "b")
    assert report.layout == "human3.6m-17" and report.clips == 12
    pixels = np.random.default_rng(0).uniform(0, 1, (5, 17, 3)) * [640, 480, 1]
    _, store = converted(as_folder(walk_and_sit(npy(pixels), "npy"), tmp_path / "c"), tmp_path / "c1")
    assert store.layout.name == "coco" and np.allclose(store.confidence(0)[0], pixels[..., 2])
    either = as_folder(walk_and_sit(npy(pixels / [640, 480, 1]), "npy"), tmp_path / "d")
    assert "a depth or a confidence: say which layout" in refusal(either, tmp_path / "d1")


def st_gcn(layout_joints: int, channels: int, seed: int = 0) -> tuple[np.ndarray, bytes]:
    values = np.random.default_rng(seed).uniform(0.1, 0.9, (3, channels, 6, layout_joints, 2)).astype("f4")
    values[1, :, 4:] = 0  # padding
    values[:, ..., 1] = 0  # nobody else
    return values, npy(values)


def test_arrays_of_st_gcn(tmp_path: Path) -> None:
    values, data = st_gcn(25, 3)
    labels = pickle.dumps((["a.skeleton", "b.skeleton", "c.skeleton"], [0, 59, 2]))
    more = pickle.dumps((["d", "e", "f"], (1, 1, 0)))
    members = {
        "ntu/xsub/train_data_joint.npy": data, "ntu/xsub/train_label.pkl": labels,
        "ntu/xsub/val_data_joint.npy": data, "ntu/xsub/val_label.pkl": more,
    }  # fmt: skip
    for number, pack in enumerate((as_folder, as_zip)):
        report, store = converted(pack(members, tmp_path / f"x{number}"), tmp_path / str(number))
        assert store.names == ["a", "b", "c", "d", "e", "f"] and report.skipped == []
        assert store.layout.name == "nturgb+d" and store.classes[59] == "walking apart from each other"
        assert store.labels.tolist() == [0, 59, 2, 1, 1, 0] and store.frames.tolist() == [6, 4, 6] * 2
        assert np.array_equal(store.keypoints(1), values[1, :, :4, :, :1].transpose(3, 1, 2, 0))
        assert store.protocols() == {"xsub": ("xsub_train", "xsub_test")}


def test_arrays_of_st_gcn_in_the_image(tmp_path: Path) -> None:
    values, data = st_gcn(18, 3)
    members = {"train_data.npy": data, "train_label.pkl": pickle.dumps((["a", "b", "c"], [0, 1, 0]))}
    _, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.layout.name == "openpose-18" and np.allclose(store.confidence(0)[0], values[0, 2, ..., 0])
    members["train_label.pkl"] = pickle.dumps((["a"], [0]))
    assert "3 recordings in train_data.npy and 1 labels" in refusal(as_folder(members, tmp_path / "y"), tmp_path / "y1")
    members["train_label.pkl"] = pickle.dumps("x")
    assert "no names and labels" in refusal(as_folder(members, tmp_path / "z"), tmp_path / "z1")


def test_arrays_of_st_gcn_of_one_body_with_classes_alone(tmp_path: Path) -> None:
    values = st_gcn(25, 3)[0][..., :1]
    members = {"train_data.npy": npy(values), "train_label.npy": npy(np.array([1, 0, 1]))}
    _, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.names == ["train/0", "train/1", "train/2"] and store.labels.tolist() == [1, 0, 1]
    assert np.array_equal(store.keypoints(1), values[1, :, :4].transpose(3, 1, 2, 0))
    members["train_label.npy"] = npy(np.array([0.5, 1, 2]))
    assert "every recording a class from 0" in refusal(as_folder(members, tmp_path / "y"), tmp_path / "y1")
    lone = as_folder({"x.npy": npy(values)}, tmp_path / "z")
    assert "as ST-GCN's arrays [N, C, T, V, M]: call it train_data.npy" in refusal(lone, tmp_path / "z1")


# Kinetics-Skeleton


def kinetics_clip(points: np.ndarray, label: str = "archery") -> bytes:
    """`[T, 18, 3]`; a frame of zeros has nobody."""
    frames = [
        {
            "frame_index": t,
            "skeleton": [{"pose": f[:, :2].ravel().tolist(), "score": f[:, 2].tolist()}] if f.any() else [],
        }
        for t, f in enumerate(points, 1)
    ]
    return text({"data": frames, "label": label, "label_index": 5})


def test_kinetics_skeleton(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(0.1, 0.9, (4, 18, 3)).round(3)
    points[1] = 0
    points[2, 3, 2] = 0  # a score of 0: not seen, whatever x and y are
    labels = {
        name: {"has_skeleton": True, "label": label, "label_index": index}
        for name, label, index in (("-a", "bowling", 31), ("b", "archery", 5), ("c", "bowling", 31))
    }
    members = {
        "kinetics_train/-a.json": kinetics_clip(points, "bowling"), "kinetics_train/b.json": kinetics_clip(points),
        "kinetics_val/c.json": kinetics_clip(points, "bowling"), "kinetics_val/empty.json": kinetics_clip(points * 0),
        "kinetics_train_label.json": text({name: labels[name] for name in ("-a", "b")}),
        "kinetics_val_label.json": text({"c": labels["c"]}),
    }  # fmt: skip
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path, strict=True)
    assert store.classes == ["archery", "bowling"] and store.names == ["-a", "b", "c"]
    assert store.labels.tolist() == [1, 0, 1] and report.skipped == [("empty", "has nobody in any frame")]
    assert {name: numbers.tolist() for name, numbers in store.splits.items()} == {"train": [0, 1], "test": [2]}
    wanted = points.copy()
    wanted[2, 3] = 0
    assert np.allclose(store.keypoints(0)[0], wanted[..., :2]) and np.allclose(store.confidence(0)[0], wanted[..., 2])


def test_kinetics_skeleton_case(tmp_path: Path) -> None:
    report, store = converted(case("09_kinetics_skeleton_json"), tmp_path)
    assert store.classes == ["archery", "bowling"] and np.bincount(store.labels).tolist() == [4, 4]
    assert "vid00 5 of 30" in noted(report, "without anybody")


# estimators


def alphapose(joints: int, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    rows = [(rng.uniform(0.1, 1, (joints, 3)) * [640, 480, 1]).ravel().tolist() for _ in range(3)]
    return [{"image_id": f"{t}.jpg", "keypoints": row, "score": 2.5, "category_id": 1} for t, row in enumerate(rows)]


def test_alphapose_within_annotations(tmp_path: Path) -> None:
    rows = alphapose(17)
    wrapped = text({"images": [{"id": 1}], "annotations": rows, "categories": [{"id": 1, "keypoints": ["nose"]}]})
    members = {"walk/1.json": wrapped, "sit/1.json": text(rows)}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert report.skipped == [] and store.layout.name == "coco"
    points = np.array([row["keypoints"] for row in rows]).reshape(3, 17, 3)
    for number in range(2):
        assert np.allclose(store.keypoints(number)[0], points[..., :2], atol=1e-3)


@pytest.mark.parametrize(("joints", "layout"), [(26, "halpe-26"), (133, "coco-wholebody-133"), (136, "halpe-136")])
def test_joints_of_whole_bodies_are_kept_or_named(tmp_path: Path, joints: int, layout: str) -> None:
    source = as_folder({"walk/1.json": text(alphapose(joints)), "sit/1.json": text(alphapose(joints))}, tmp_path / "x")
    report, store = converted(source, tmp_path / "a")
    assert store.layout.name == "coco"
    assert f"{joints - 17} of {joints} joints are left out" in noted(report, "left out")
    assert f"--layout {layout} keeps them" in noted(report, "left out")
    report, store = converted(source, tmp_path / "b", layout=layout)
    points = np.array([row["keypoints"] for row in alphapose(joints)]).reshape(3, joints, 3)
    assert np.allclose(store.keypoints(0)[0], points[..., :2], atol=1e-3)
    assert not any("left out" in note for note in report.notes)


def test_lifted_poses_of_mmpose_need_their_layout(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(3, 17, 3)).round(3)
    frames = text([{"frame_id": t, "instances": [{"keypoints": p.tolist()}]} for t, p in enumerate(points)])
    source = as_folder({"walk/1.json": frames, "sit/1.json": frames}, tmp_path / "x")
    assert "3 coordinates a joint: name a layout" in refusal(source, tmp_path / "a")
    _, store = converted(source, tmp_path / "b", layout="human3.6m-17")
    assert np.allclose(store.keypoints(0)[0], points)


def yolo_line(points: np.ndarray, *after: float) -> str:
    return " ".join(f"{x:.6g}" for x in [0, 0.5, 0.5, 0.2, 0.9, *points.ravel(), *after])


@pytest.mark.parametrize(("per", "after"), [(3, ()), (3, (0.9, 7)), (2, (0.9,)), (2, ())])
def test_text_of_yolo(tmp_path: Path, per: int, after: tuple[float, ...]) -> None:
    points = np.random.default_rng(0).uniform(0.1, 0.9, (3, 17, per)).round(4)
    members = {
        f"{label}/labels/v_{t}.txt": yolo_line(points[n], *after).encode() + b"\n"
        for label in ("walk", "sit")
        for n, t in enumerate((1, 2, 4))
    }
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.names == ["sit/v", "walk/v"] and store.frames.tolist() == [4, 4], "frame 3 had nobody"
    assert np.allclose(store.keypoints(0)[0, [0, 1, 3]], points[..., :2], atol=1e-5)
    if per == 3:
        assert np.allclose(store.confidence(0)[0, [0, 1, 3]], points[..., 2], atol=1e-5)
    assert "without anybody" in noted(report, "1 of 4")


@pytest.mark.parametrize("as_text", [False, True])
def test_json_of_yolo(tmp_path: Path, as_text: bool) -> None:
    points = np.random.default_rng(0).uniform(0.1, 0.9, (3, 17, 3)).round(4)

    def person(p: np.ndarray) -> dict:
        keys = {"x": p[:, 0].tolist(), "y": p[:, 1].tolist(), "visible": p[:, 2].tolist()}
        return {"name": "person", "class": 0, "confidence": 0.9, "box": {}, "track_id": 1, "keypoints": keys}

    frames = [[person(points[0])], [], [person(points[1])], [person(points[2])]]
    frames = [json.dumps(frame) for frame in frames] if as_text else frames
    members = {"walk/1.json": text(frames), "sit/1.json": text({"frames": frames})}
    _, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    for number in range(2):
        assert store.frames[number] == 4
        assert np.allclose(store.keypoints(number)[0, [0, 2, 3]], points[..., :2])


# tables


MEDIAPIPE = [f"PoseLandmark.{joint.upper().replace(' ', '_')}" for joint in load_layout("mediapipe-33").joints]


def test_names_of_mediapipes_enumeration(tmp_path: Path) -> None:
    names = [name.replace("LEFT_MOUTH", "MOUTH_LEFT").replace("RIGHT_MOUTH", "MOUTH_RIGHT") for name in MEDIAPIPE]
    values = np.random.default_rng(0).normal(size=(3, 33, 3)).round(4)
    _, store = converted(as_folder(walk_and_sit(csv_of(names, values)), tmp_path / "x"), tmp_path / "a")
    assert store.layout.name == "mediapipe-33" and np.allclose(store.keypoints(0)[0], values, atol=1e-4)
    report, store = converted(
        as_folder(walk_and_sit(csv_of(names, values[..., :2], "xy")), tmp_path / "y"), tmp_path / "b"
    )
    assert store.layout.name == "mediapipe-33-2d" and not any("left out" in note for note in report.notes)


def test_hands_of_mediapipe_holistic_need_no_visibility(tmp_path: Path) -> None:
    report, store = converted(case("06_holistic"), tmp_path)
    assert (report.layout, report.clips, report.skipped) == ("mediapipe-holistic-75", 4, [])
    with (case("06_holistic") / "a" / "0.csv").open() as file:
        header, first = (line.strip().split(",") for line in (next(file), next(file)))
    cells = dict(zip(header, map(float, first), strict=True))
    tip = store.layout.index["right hand index finger tip"]
    assert np.allclose(store.keypoints(0)[0, 0, tip], [cells[f"right_hand_8_{axis}"] for axis in "xyz"])
    assert store.confidence(0)[0, 0, tip] == 1
    nose = store.layout.index["nose"]
    assert np.isclose(store.confidence(0)[0, 0, nose], cells["pose_nose_visibility"])


def test_a_separator_that_the_first_line_names_and_cells_that_say_nothing(tmp_path: Path) -> None:
    names = [joint.replace(" ", "_") for joint in load_layout("coco").joints]
    values = np.random.default_rng(0).uniform(1, 9, (3, 17, 2)).round(4)
    data = csv_of(names, values, "xy", ";", "sep=;").decode()
    data = data.replace(f"{values[0, 0, 0]:.4f};{values[0, 0, 1]:.4f}", "NA;None")
    _, store = converted(as_folder(walk_and_sit(data.encode()), tmp_path / "x"), tmp_path)
    assert not store.keypoints(0)[0, 0, 0].any() and np.allclose(store.keypoints(0)[0, 1:], values[1:], atol=1e-4)


def rows_of(values: np.ndarray, separator: str = ",") -> bytes:
    return "\n".join(separator.join(f"{x:.4f}" for x in row.ravel()) for row in values).encode()


def test_a_table_without_a_header(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 20, 3)).round(4)
    source = as_folder(walk_and_sit(rows_of(values)), tmp_path / "x")
    _, store = converted(source, tmp_path / "a")
    assert store.layout.name == "kinect-v1" and np.allclose(store.keypoints(0)[0], values, atol=1e-4)
    numbered = np.concatenate([np.arange(4)[:, None], values.reshape(4, -1)], 1)
    _, store = converted(as_folder(walk_and_sit(rows_of(numbered)), tmp_path / "n"), tmp_path / "b")
    assert np.allclose(store.keypoints(0)[0], values, atol=1e-4), "a number of the frame comes before"


def test_a_table_without_a_header_that_fits_no_layout_or_several(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = as_folder(walk_and_sit(rows_of(rng.normal(size=(4, 22, 3)))), tmp_path / "x")
    message = refusal(source, tmp_path / "a")
    assert "66 numbers a row (22 joints of 3 or 33 joints of 2?), as no known layout has" in message
    source = as_folder(walk_and_sit(rows_of(rng.normal(size=(4, 25, 3)))), tmp_path / "y")
    _, store = converted(source, tmp_path / "y1")
    assert store.layout.name == "nturgb+d", "a confidence is never negative"
    source = as_folder(walk_and_sit(rows_of(rng.uniform(2, 9, size=(4, 17, 2)))), tmp_path / "z")
    message = refusal(source, tmp_path / "b")
    assert "34 numbers a row fit several layouts (coco, uav)" in message
    _, store = converted(source, tmp_path / "c", layout="uav")
    assert store.layout.name == "uav"
    assert "needs 60 (20 joints of 3)" in refusal(source, tmp_path / "d", layout="kinect-v1")


# what is missing


@pytest.mark.parametrize("name", ["walk.mp4", "walk/1.MOV"])
def test_videos_need_a_pose_estimator(tmp_path: Path, name: str) -> None:
    source = as_folder({name: b"\0\0\0 ftypisom"}, tmp_path / "x")
    message = refusal(source / name if "/" not in name else source, tmp_path)
    assert (
        "is a video, and skag reads joints" in message and "yolo pose predict" in message and "--format yolo" in message
    )


def test_a_packed_table(tmp_path: Path) -> None:
    import gzip

    values = np.random.default_rng(0).normal(size=(4, 20, 3)).round(4)
    names = [joint.replace(" ", "_") for joint in load_layout("kinect-v1").joints]
    packed = {f"{name}.gz": gzip.compress(data) for name, data in walk_and_sit(csv_of(names, values)).items()}
    source = as_folder(packed, tmp_path / "x")
    _, store = converted(source, tmp_path)
    assert sorted(store.names) == ["sit/0", "sit/1", "walk/0", "walk/1"]
    assert np.allclose(store.keypoints(0)[0], values, atol=1e-4)
    (source / "walk" / "0.csv.gz").write_bytes(next(iter(packed.values()))[:-30])
    report, _ = converted(source, tmp_path)
    assert "damaged" in report.skipped[0][1]


def test_a_packed_file_expands_no_further_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    from skag.readers import archives

    monkeypatch.setattr(archives, "MAX_MEMBER", 5000)
    source = as_folder({"walk/1.csv.gz": gzip.compress(b"1,2\n" * 100_000)}, tmp_path / "x")
    assert "longer than" in refusal(source, tmp_path)
