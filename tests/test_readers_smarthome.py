"""Toyota Smarthome JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.recordings import as_folder, converted


def person(joints: np.ndarray) -> dict[str, list[float]]:
    """One detection: `pose3d` is all x, then all y, then all z."""
    return {"pose2d": [0.0] * 26, "pose3d": joints.T.ravel().tolist()}


def smarthome(*frames: list[np.ndarray], **changes: object) -> bytes:
    value = {"njts": 13, "K": 100, "frames": [[person(joints) for joints in frame] for frame in frames], **changes}
    return json.dumps(value).encode()


def body(seed: int = 0, spread: float = 1) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(13, 3)) * spread).astype("f4")


def test_smarthome(tmp_path: Path) -> None:
    still, moving = body(1), body(2, 3)
    members = {
        "Walk_p03_r00_v01_c01_pose3d.json": smarthome([still], [], [still * 2]),
        "Cook.Cut_p10_r01_v02_c02.json": smarthome([still, moving], [still, -moving, body(3, 100)]),
        "WatchTV_p25_r01_v02_c05_pose3d.json": smarthome([still]),
        "Drink.Fromcup_p02_r01_v02_c02_pose3d.json": smarthome([still]),
        "Eat.Snack_p07_r01_v02_c03_pose3d.json": smarthome([still]),
        "Usetablet_p07_r01_v02_c05_pose3d.json": smarthome([still]),
    }
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    at = {name.split("_")[0]: number for number, name in enumerate(store.names)}
    assert (report.layout, report.joints, len(report.classes), report.skipped) == ("smarthome-13", 13, 31, [])
    assert (store.keypoints(at["Walk"])[0] == np.stack([still, still * 0, still * 2])).all(), (
        "nobody in the second frame"
    )
    assert (store.keypoints(at["Cook.Cut"]) == np.stack([moving, -moving])[None]).all(), "who moves more, of two"
    assert store.classes[store.labels[at["Cook.Cut"]]] == "cut (cooking)"
    assert store.subjects[at["Walk"]] == 3 and store.cameras[at["Walk"]] == 1
    splits = {name: {key for key, i in at.items() if i in numbers} for name, numbers in store.splits.items()}
    assert splits == {
        "xsub_train": {"Walk", "WatchTV", "Eat.Snack", "Usetablet"},
        "xsub_test": {"Cook.Cut", "Drink.Fromcup"},
        "xview1_train": {"Walk"},
        "xview2_train": {"Walk", "Eat.Snack"},
        "xview1_test": {"Drink.Fromcup"},
        "xview2_test": {"Drink.Fromcup"},
        "xview1_val": {"Usetablet"},
        "xview2_val": {"Usetablet"},
    }


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("Dance_p03_r00_v01_c01.json", smarthome([body()]), "one of the 31 activities"),
        ("walk.json", smarthome([body()]), "is not named"),
        ("Walk_p03_r00_v01_c02.json", smarthome([], []), "nobody in any frame"),
        ("Walk_p03_r00_v01_c02.json", b'{"njts": 13}', 'has no "frames"'),
        ("Walk_p03_r00_v01_c02.json", smarthome(frames=[3]), "no lists of people"),
        ("Walk_p03_r00_v01_c02.json", smarthome(frames=[[{}]]), "shape ()"),
        ("Walk_p03_r00_v01_c02.json", smarthome(frames=[[{"pose3d": [1, 2]}]]), "2 numbers, not 39"),
        ("Walk_p03_r00_v01_c02.json", smarthome([body()])[:-20], "damaged"),
    ],
)
def test_a_bad_smarthome_file_is_left_out(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    members = {"Walk_p03_r00_v01_c01_pose3d.json": smarthome([body()]), name: data}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    ((shown, said),) = report.skipped
    assert shown == name and reason in said and store.labels.tolist() == [29]
