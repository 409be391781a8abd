"""Readers of raw Kinect v2 text: NTU RGB+D and UAV-Human."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skag.readers import ntu, uav_human
from skag.readers.label_names import known_names
from skag.readers.ntu import Body, actors
from skag.readers.source import Unusable
from tests.helpers.recordings import as_folder, as_tar, converted, refusal

HEADER = "72057594037931101 0 1 1 1 1 0 0.0271 -0.1353 2"
JOINT_REST = "283.0309 224.2974 1027.245 581.2726 -0.2574076 0.123495 0.9539005 -0.09254229 2"


def skeleton(frames: list[list[tuple[int, np.ndarray]]]) -> bytes:
    """A file as Kinect v2 recordings are written."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for identity, joints in bodies:
            lines += [HEADER.replace("72057594037931101", str(identity)), str(len(joints))]
            lines += [" ".join(f"{x:.8g}" for x in joint) + " " + JOINT_REST for joint in joints]
    return ("\r\n".join(lines) + "\r\n").encode()


def person(frames: int, seed: int, step: float = 0.1, joints: int = 25) -> np.ndarray:
    """Somebody higher than wide who walks along x `[T, V, 3]`."""
    rng = np.random.default_rng(seed)
    body = rng.uniform([-0.2, -0.8, 2.9], [0.2, 0.8, 3.1], (joints, 3))
    return (body + np.arange(frames)[:, None, None] * [step, 0, 0]).astype("f4")


def chair(frames: int, seed: int) -> np.ndarray:
    """Something wider than high that moves a lot."""
    return person(frames, seed, step=2.0)[..., [1, 0, 2]]


def name(setup: int = 1, camera: int = 1, performer: int = 1, action: int = 1) -> str:
    return f"S{setup:03}C{camera:03}P{performer:03}R001A{action:03}.skeleton"


def test_ntu_60(tmp_path: Path) -> None:
    one, two = person(5, 1), person(20, 2)
    members = {
        name(2, 1, 3, 7): skeleton([[(9, frame)] for frame in one] + [[]]),
        name(17, 2, 40, 60): skeleton([[]] + [[(8, frame), (9, frame / 2)] for frame in two]),
    }
    report, store = converted(as_tar(members, tmp_path / "x.tar"), tmp_path)
    assert store.names == ["S002C001P003R001A007", "S017C002P040R001A060"]
    assert (store.keypoints(0) == one[None]).all(), "the empty frame is dropped"
    assert store.bodies.tolist() == [1, 2] and store.frames.tolist() == [5, 20]
    assert np.allclose(store.keypoints(1), [two, two / 2])
    assert report.classes == known_names("ntu120")[:60] and store.labels.tolist() == [6, 59]
    assert store.setups.tolist() == [2, 17] and store.cameras.tolist() == [1, 2] and store.subjects.tolist() == [3, 40]
    assert report.splits == {"xsub_test": 2, "xview_test": 1, "xview_train": 1}
    assert any("60 has 56578 recordings" in note for note in report.notes)


def test_ntu_120_splits(tmp_path: Path) -> None:
    people = {(1, 1, 1): "xsub_train", (17, 3, 40): "xsub_test", (18, 1, 103): "xsub_train", (32, 2, 106): "xsub_test"}
    members = {name(*key, 61): skeleton([[(1, person(1, 1)[0])]]) for key in people}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert len(report.classes) == 120 and store.setups.tolist() == [1, 17, 18, 32]
    found = {split: numbers.tolist() for split, numbers in store.splits.items()}
    assert found == {
        "xsub_train": [0, 2], "xsub_test": [1, 3],
        "xview_train": [1], "xview_test": [0],
        "xset_train": [2, 3], "xset_test": [0, 1],
    }  # fmt: skip


def test_the_published_lists() -> None:
    listed = ntu.missing_skeletons()
    assert len(listed) == 535 and sum(int(sample[1:4]) <= 17 for sample in listed) == 302
    assert {"S001C002P005R002A008", "S017C003P020R001A059", "S032C003P067R002A077"} <= listed
    assert len(ntu.TRAINING_PERFORMERS) == 53 and sum(p <= 40 for p in ntu.TRAINING_PERFORMERS) == 20


def test_listed_samples_are_left_out_also_when_strict(tmp_path: Path) -> None:
    members = {f"{sample}.skeleton": b"0\r\n" for sample in ("S001C002P005R002A008", "S017C003P020R001A059")}
    members[name(1, 1, 1, 1)] = skeleton([[(1, person(1, 1)[0])]])
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path, strict=True)
    assert store.names == ["S001C001P001R001A001"]
    assert [sample for sample, _ in report.skipped] == ["S001C002P005R002A008", "S017C003P020R001A059"]


def test_short_bodies_and_wide_bodies_are_noise() -> None:
    main = person(20, 1)
    short = Body(3, person(11, 2, step=5))
    assert (actors([Body(0, main), short]) == main).all()
    assert (actors([short, Body(0, main), Body(0, chair(20, 3))]) == main).all()
    kept = actors([Body(0, main), Body(3, person(12, 2, step=0.01))])
    assert kept.shape == (2, 20, 25, 3) and (kept[0] == main).all()
    assert not kept[1, :3].any() and kept[1, 3:15].all() and not kept[1, 15:].any()


def test_a_body_that_is_wide_at_times_is_judged_by_its_good_frames() -> None:
    """Its jumps while it is wide would make it the main actor."""
    calm, main = person(20, 1, step=0), person(20, 2, step=0.1)
    calm[:6] = chair(6, 3) + 50
    assert (actors([Body(0, calm), Body(0, main)])[0] == main).all()
    calm[:14] = chair(14, 3) + 50  # 14 of 20 is more than 69.754 %
    assert (actors([Body(0, calm), Body(0, main)]) == main).all()


def test_bodies_that_do_not_overlap_are_one_actor() -> None:
    a, b, c, d = person(20, 1, 0.5), person(15, 2, 0.4), person(14, 3, 0.3), person(13, 4, 0.2)
    found = actors([Body(0, a), Body(20, b), Body(5, c), Body(6, d)])
    assert (found[0, :20] == a).all() and (found[0, 20:35] == b).all()
    assert (found[1, 5:19] == c).all() and not found[1, 19:].any(), "the fourth overlaps both"


def test_the_main_actor_is_there_from_the_start() -> None:
    busy, early = person(15, 1, 0.5), person(15, 2, 0.1)
    found = actors([Body(10, busy), Body(2, early)])
    assert found.shape[1] == 23, "nobody is there in the first two frames"
    assert (found[0, :15] == early).all() and (found[1, 8:] == busy).all()


def test_a_rule_that_leaves_nobody_is_left_out() -> None:
    assert actors([Body(0, person(3, 1)), Body(0, person(4, 2))]).shape == (2, 4, 25, 3)
    assert actors([Body(0, chair(20, 1)), Body(0, chair(20, 2))]).shape == (2, 20, 25, 3)
    with pytest.raises(Unusable, match="holds no bodies"):
        actors([])


BAD_FILES = {
    "empty": (b"", "ends on line 1"),
    "no frames": (b"0\r\n", "holds no bodies"),
    "frame count is text": (b"many\r\n", "no number of frames on line 1"),
    "more frames claimed": (skeleton([[(1, person(1, 1)[0])]]).replace(b"1", b"9", 1), "ends on line 30"),
    "bodies beyond reason": (b"1\r\n101\r\n", "no number of bodies on line 2"),
    "no id": (b"1\r\n1\r\n\r\n25\r\n", "no tracking id on line 3"),
    "other joints": (skeleton([[(1, person(1, 1, joints=20)[0])]]), "20 joints on line 4, not 25"),
    "text": (skeleton([[(1, person(1, 1)[0])]]).replace(b"283.0309", b"").replace(b" 0.", b" x.", 9), "x, y and z"),
    "two coordinates": (f"1\r\n1\r\n{HEADER}\r\n25\r\n".encode() + b"1 2\r\n" * 25, "x, y and z on one of the lines 5"),
    "long line": (b"1" * 100_000, "more than 64 KiB"),
    "zeros": (skeleton([[(1, np.zeros((25, 3)))]]), "other than 0"),
}


def test_joints_have_twelve_values(tmp_path: Path) -> None:
    """So that no file is much shorter than its joints; three values alone would be."""
    whole = skeleton([[(1, person(2, 1)[0])]])
    short = [b"1 2 3" if line.endswith(JOINT_REST.encode()) else line for line in whole.splitlines()]
    members = {name(action=1): whole, name(action=2): b"\n".join(short)}
    report, _ = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert report.clips == 1 and "without its twelve values" in report.skipped[-1][1]


def test_too_many_tracking_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ntu, "MAX_TRACKED", 2)
    joints = person(3, 1)
    members = {name(action=a): skeleton([[(t % a, joints[t])] for t in range(3)]) for a in (2, 3)}
    report, _ = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert report.clips == 1 and "more than 2 tracking ids" in report.skipped[-1][1]


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_left_out(tmp_path: Path, case: str) -> None:
    data, reason = BAD_FILES[case]
    members = {name(action=a): skeleton([[(1, person(2, a)[0])]]) for a in (1, 3)}
    report, store = converted(as_folder({**members, name(action=2): data}, tmp_path / "x"), tmp_path)
    ((_, said),) = report.skipped
    assert reason in said and store.labels.tolist() == [0, 2]
    assert reason in refusal(tmp_path / "x", tmp_path / "strict", strict=True)


def test_other_names_are_left_out(tmp_path: Path) -> None:
    data = skeleton([[(1, person(1, 1)[0])]])
    report, _ = converted(as_folder({name(): data, "mine.skeleton": data}, tmp_path / "x"), tmp_path)
    assert "is not named Ssss" in report.skipped[0][1] and report.clips == 1


# UAV-Human

UAV = "P{:03}S{:02}G10B10H10UC022000LC021000A{:03}R0_08241716.txt"


def flat(frames: int, seed: int) -> np.ndarray:
    """A body in the image `[T, 17, 3]`, third coordinate 0."""
    points = np.random.default_rng(seed).uniform(50, 900, (frames, 17, 3)).round(2)
    points[..., 2] = 0
    return points


def test_uav_human(tmp_path: Path) -> None:
    one, two = flat(4, 1), flat(4, 2)
    members = {
        UAV.format(0, 1, 0): skeleton([[(0, frame)] for frame in one] + [[]]),
        UAV.format(2, 0, 154): skeleton(
            [[(0, a * 0.5 + 100), (0, b)] for a, b in zip(one, two, strict=True)] + [[(0, one[0])]]
        ),
        UAV.format(1, 0, 83): skeleton([[(0, two[0])]]),
    }
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert (report.layout, report.classes, report.skipped) == ("uav", known_names("uav-human"), [])
    assert store.labels.tolist() == [0, 83, 154] and store.frames.tolist() == [5, 1, 5]  # an empty frame stays
    coco = ["nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder", "left elbow",
            "right elbow", "left wrist", "right wrist", "left hip", "right hip", "left knee", "right knee",
            "left ankle", "right ankle"]  # fmt: skip
    for number, joint in enumerate(coco):
        assert np.allclose(store.keypoints(0)[0, :4, store.layout.index[joint]], one[:, number, :2]), joint
    left = store.layout.index["left wrist"]
    assert np.allclose(store.keypoints(2)[0, :4, left], two[:, 9, :2]), "the body that varies more comes first"
    assert store.bodies.tolist() == [1, 1, 2]
    assert {name: numbers.tolist() for name, numbers in store.splits.items()} == {
        "csv1_train": [0, 2], "csv1_test": [1], "csv2_train": [0], "csv2_test": [1, 2]
    }  # fmt: skip
    assert store.subjects.tolist() == [0, 1, 2] and store.setups.tolist() == [1, 0, 0]


def test_the_published_persons() -> None:
    assert {name: len(persons) for name, persons in uav_human.TRAINING_PERSONS.items()} == {"csv1": 89, "csv2": 89}
    assert all(persons <= set(range(119)) for persons in uav_human.TRAINING_PERSONS.values())


def test_uav_human_in_another_layout(tmp_path: Path) -> None:
    source = as_folder({UAV.format(0, 0, 1): skeleton([[(0, flat(1, 1)[0])]])}, tmp_path / "x")
    _, store = converted(source, tmp_path, layout="coco-17+3")
    assert np.allclose(store.keypoints(0)[0, 0, :17], flat(1, 1)[0, :, :2])
    assert "17 joints of COCO" in refusal(source, tmp_path / "2", layout="openpose-18")


@pytest.mark.parametrize(
    ("file", "data", "reason"),
    [
        ("P001_mine.txt", b"1", "is not named Pppp"),
        (UAV.format(3, 0, 1), b"2\n0\n0\n", "holds no bodies"),
        (UAV.format(3, 0, 1), b"3\n0\n0\n", "ends on line 4"),
        (UAV.format(3, 0, 200), skeleton([[(0, flat(1, 1)[0])]]), "label 200"),
        (UAV.format(3, 0, 1), skeleton([[(0, person(1, 1)[0])]]), "25 joints on line 4, not 17"),
    ],
)
def test_a_bad_uav_human_file_is_left_out(tmp_path: Path, file: str, data: bytes, reason: str) -> None:
    members = {UAV.format(0, 0, 5): skeleton([[(0, flat(1, 1)[0])]]), file: data}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert reason in report.skipped[0][1] and store.labels.tolist() == [5]
