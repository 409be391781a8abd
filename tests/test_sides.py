"""Left and right: what tells them apart, and that every reader's order of joints has them as its data set does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skag.skeleton.layouts import Layout, load_layout
from skag.skeleton.sides import Sides, toes_forward
from tests.helpers.recordings import as_folder, case, converted, real, ucla_json

STANDING = {  # metres; the person looks along +z, up is +y: the right hand is at -x in right-handed coordinates
    "left shoulder": (0.2, 1.4, 0), "right shoulder": (-0.2, 1.4, 0), "left ankle": (0.1, 0.1, 0),
    "right ankle": (-0.1, 0.1, 0), "left foot": (0.1, 0, 0.2), "right foot": (-0.1, 0, 0.2),
    "left heel": (0.1, 0, -0.05), "right heel": (-0.1, 0, -0.05), "left foot index": (0.1, 0, 0.2),
    "right foot index": (-0.1, 0, 0.2), "left ear": (0.08, 1.6, 0), "right ear": (-0.08, 1.6, 0),
    "nose": (0, 1.58, 0.1),
}  # fmt: skip


def standing(layout: Layout, frames: int = 40) -> np.ndarray:
    """`[1, T, V, 3]` of somebody who turns around once, along the layout's up axis."""
    body = np.array([STANDING.get(joint, (0.01, 1.0, 0.01)) for joint in layout.joints])
    turn = np.linspace(0, 2 * np.pi, frames)
    x, z = (
        body[:, 0] * np.cos(turn)[:, None] + body[:, 2] * np.sin(turn)[:, None],
        body[:, 2] * np.cos(turn)[:, None] - body[:, 0] * np.sin(turn)[:, None],
    )
    turned = np.stack([x, np.broadcast_to(body[:, 1], x.shape), z], -1)
    if layout.up == "-y":  # turned about x by half a circle: still right-handed
        turned = turned * [1, -1, -1]
    return turned[None] + [5, 0.5, 3]


@pytest.mark.parametrize("name", ["kinect-v1", "nturgb+d", "mediapipe-33"])
def test_toes_point_to_the_front_whichever_way_somebody_stands(name: str) -> None:
    layout = load_layout(name)
    right, exchanged = Sides(layout), Sides(layout)
    clip = standing(layout)
    right.add(clip)
    exchanged.add(clip[:, :, layout.mirror_index])
    assert (right.frames, right.share, right.note()) == (40, 1.0, "")
    assert exchanged.share == 0 and "Left and right look exchanged" in exchanged.note()
    mirror = Sides(layout)
    mirror.add(clip * [-1, 1, 1])
    assert mirror.exchanged, "a mirror's picture has them exchanged too"


def test_frames_that_tell_nothing_do_not_count() -> None:
    layout = load_layout("kinect-v1")
    clip = standing(layout)
    clip[0, :10, layout.index["left foot"]] = 0  # missing
    for side in ("left", "right"):  # a foot seen from above
        clip[0, 10:20, layout.index[f"{side} foot"]] = clip[0, 10:20, layout.index[f"{side} ankle"]] - [0, 0.1, 0]
    assert len(toes_forward(clip, layout)) == 20
    few = Sides(layout)
    few.add(clip[:, :, layout.mirror_index])
    assert few.share is None and few.note() == "", "twenty frames are too few"
    assert len(toes_forward(np.ones((1, 3, 17, 2)), load_layout("coco"))) == 0
    assert len(toes_forward(np.ones((1, 3, 15, 3)), load_layout("sbu-15"))) == 0, "it has no toes"


def test_depth_that_is_noise_says_nothing_of_sides(tmp_path: Path) -> None:
    """MediaPipe, x to the right, y down, z away from the camera, as it comes from a picture without feet."""
    rng = np.random.default_rng(0)
    layout = load_layout("mediapipe-33")
    towards_camera = standing(layout, 2)[0, 0] - [5, 0.5, 3]  # +z is away from the camera
    nose, ear = layout.index["nose"], layout.index["left ear"]
    assert towards_camera[nose, 2] < towards_camera[ear, 2] and towards_camera[layout.index["left shoulder"], 0] > 0
    told = []
    for _ in range(200):
        clip = np.repeat(towards_camera[None, None] + [5, 0.5, 3], 60, 1)
        clip[..., 2] = 3 + rng.normal(0, 0.05, 33) + rng.normal(0, 0.02, (1, 60, 33))
        sides = Sides(layout)
        sides.add(clip)
        told.append(sides.exchanged)
    assert np.mean(told) < 0.1
    for name in ("01_frames_with_class_column.csv", "05_exercise_person_folders"):
        _, store = converted(case(name), tmp_path)
        sides = Sides(store.layout)
        for number in range(len(store)):
            sides.add(store.keypoints(number))
        assert sides.share is None and sides.note() == ""


def test_convert_says_that_sides_look_exchanged(tmp_path: Path) -> None:
    layout = load_layout("kinect-v1")
    skeletons = standing(layout)[0]
    names = {f"a0{label}_s01_e00_v0{camera}.json": label for label in (1, 2) for camera in (1, 3)}
    members = {name: ucla_json(1, label, skeletons=skeletons.tolist()) for name, label in names.items()}
    report, _ = converted(as_folder(members, tmp_path / "right"), tmp_path)
    assert not any("exchanged" in note for note in report.notes)
    skeletons = skeletons[:, layout.mirror_index]
    members = {name: ucla_json(1, label, skeletons=skeletons.tolist()) for name, label in names.items()}
    report, _ = converted(as_folder(members, tmp_path / "wrong"), tmp_path)
    assert any("back is in 100% of 160 frames" in note for note in report.notes)


# Facts of the data sets themselves


@pytest.mark.parametrize("name", [pytest.param("nw-ucla-raw.tar.gz", marks=pytest.mark.long), "utkinect-raw.tar.gz"])
def test_toes_of_published_recordings(name: str, tmp_path: Path) -> None:
    _, store = converted(real(name), tmp_path)
    sides = Sides(store.layout)
    for number in range(0, len(store), 5):
        sides.add(store.keypoints(number))
    assert sides.frames > 500 and sides.share > 0.9


def test_msr_action3d_has_its_own_sides(tmp_path: Path) -> None:
    """Toes, and the one-handed actions (high arm wave, hammer, forward punch), which are done with the right hand."""
    report, store = converted(case("msr_sides"), tmp_path)
    assert not any("exchanged" in note for note in report.notes)
    sides = Sides(store.layout)
    travelled = {}
    for number, name in enumerate(store.names):
        clip = store.keypoints(number)
        sides.add(clip)
        steps = np.linalg.norm(np.diff(clip[0], axis=0), axis=-1).sum(axis=0)
        travelled[name[:3]] = [float(steps[store.layout.index[f"{side} hand"]]) for side in ("left", "right")]
    assert sides.share > 0.98
    assert all(right > 1.5 * left for left, right in (travelled[action] for action in ("a01", "a03", "a05")))


def test_msr_action3d_keeps_frames_without_anybody(tmp_path: Path) -> None:
    report, store = converted(case("msr_zero_frames"), tmp_path)
    assert dict(zip(store.names, store.frames.tolist(), strict=True)) == {"a07_s04_e01": 45, "a13_s09_e03": 936}
    (note,) = [note for note in report.notes if "without anybody" in note]
    assert "a07_s04_e01 36 of 45, a13_s09_e03 740 of 936" in note


def test_people_of_sbu_face_each_other(tmp_path: Path) -> None:
    """sbu-15 has no toes; but where two people shake hands or hug, the front of each is where the other is."""
    _, store = converted(real("sbu-raw.tar.gz"), tmp_path)
    left, right, neck = (store.layout.index[joint] for joint in ("left shoulder", "right shoulder", "neck"))
    facing = []
    for number in np.flatnonzero(np.isin(store.labels, [4, 5])):
        clip = store.keypoints(number).astype(float)
        front = np.cross([0, 1, 0], clip[:, :, right] - clip[:, :, left])
        towards = (clip[::-1] - clip)[:, :, neck]
        facing += ((front * towards)[..., [0, 2]].sum(-1) > 0).ravel().tolist()
    assert len(facing) > 1000 and np.mean(facing) > 0.9


def test_signers_of_wlasl_face_the_camera(tmp_path: Path) -> None:
    """COCO's order: seen from the front, the left shoulder is on the right of the picture, and the nose above both."""
    import pickle

    annotations = pickle.loads(real("wlasl-pyskl-annotations.pkl").read_bytes())
    layout = load_layout("coco")
    points = np.concatenate([annotation["keypoint"][0].astype(float) for annotation in annotations])
    nose, left, right = (points[:, layout.index[joint]] for joint in ("nose", "left shoulder", "right shoulder"))
    assert (left[:, 0] > right[:, 0]).mean() > 0.98 and (nose[:, 1] < (left[:, 1] + right[:, 1]) / 2).mean() > 0.98
