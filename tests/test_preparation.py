"""What happens once to every recording: the properties that it promises, alone and in a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from skag.config import DataConfig
from skag.errors import DataError
from skag.skeleton import clips as data
from skag.skeleton import preparation, transforms
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store

from .helpers.bodies import person

NTU = load_layout("nturgb+d")
ALL_STEPS = {"stand_upright": True, "face_forward": True, "unit_height": True}


def alone(step: Callable[..., Tensor], clip: np.ndarray) -> np.ndarray:
    """A step on one recording `[M, T, V, 3]`."""
    valid = torch.ones(1, clip.shape[1], dtype=torch.bool)
    return step(torch.from_numpy(np.ascontiguousarray(clip))[None], valid, NTU)[0].numpy()


def turned(clip: np.ndarray) -> np.ndarray:
    return alone(preparation.face_forward, clip)


def upright(clip: np.ndarray) -> np.ndarray:
    return alone(preparation.stand_upright, clip)


def scaled(clip: np.ndarray) -> np.ndarray:
    return alone(preparation.unit_height, clip)


def in_box(keypoints: np.ndarray) -> np.ndarray:
    """Image coordinates `[M, T, V, 2]` without confidence."""
    return preparation.in_box(preparation.with_confidence(torch.from_numpy(keypoints)[None]))[0].numpy()


def test_an_empty_clip_keeps_one_frame() -> None:
    _, frames = preparation.seen_frames_first(torch.zeros(2, 1, 7, 25, 3))
    assert frames.tolist() == [1, 1]


def test_the_body_seen_more_comes_first_with_its_frames_in_their_order() -> None:
    x = torch.zeros(2, 2, 5, 25, 3)
    x[0, 0, [1, 4], 3] = torch.tensor([1.0, 4.0])[:, None]
    x[0, 1, [0, 2, 4], 3] = torch.tensor([10.0, 12.0, 14.0])[:, None]
    x[1, 0, 2, 7] = 5
    x, frames = preparation.seen_frames_first(x)
    assert frames.tolist() == [3, 1]
    assert x[0, :, :3, 3, 0].tolist() == [[10, 12, 14], [0, 0, 4]] and x[1, 0, 0, 7, 0] == 5


def test_facing_forward_undoes_any_heading_and_keeps_bones() -> None:
    clip = person(NTU, np.random.default_rng(0))
    expected = turned(clip)
    for angle in np.linspace(-3, 3, 7):
        cos, sin = math.cos(angle), math.sin(angle)
        rotated = clip @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]], np.float32)
        np.testing.assert_allclose(turned(rotated), expected, atol=1e-5)
    left = [number for joint, number in NTU.index.items() if joint.startswith("left")]
    across = (expected[0][:, left] - expected[0][:, NTU.mirror_index[left]]).mean((0, 1))
    assert across[0] > 0.5 and abs(across[2]) < 1e-5  # left has the larger x, as people who face a camera
    bones = np.linalg.norm(clip - clip[:, :, NTU.bone_parents], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(expected - expected[:, :, NTU.bone_parents], axis=-1), bones, atol=1e-5)


def standing(rng: np.random.Generator) -> np.ndarray:
    """A body `[1, T, 25, 3]` that stands, with a little noise: legs below the trunk."""
    clip = person(NTU, rng)
    for joint, number in NTU.index.items():
        low = any(word in joint for word in ("hip", "knee", "ankle", "foot"))
        clip[:, :, number, 1] += -0.5 if low else 0.5 if number in NTU.part_index["trunk"] else 0.2
    return clip


def test_standing_upright_undoes_the_tilt_of_a_camera() -> None:
    expected = upright(standing(np.random.default_rng(6)))
    trunk = NTU.part_index["trunk"]
    legs = np.concatenate([NTU.part_index["left leg"], NTU.part_index["right leg"]])
    lines = expected[0][:, trunk].mean(1) - expected[0][:, legs].mean(1)
    line = lines[np.linalg.norm(lines, axis=1).argmax()]
    assert abs(line[0]) < 1e-4 and abs(line[2]) < 1e-4 and line[1] > 0.5
    for angles in ([0.3, 0, 0], [0, 0, -0.4], [-0.2, 0, 0.2]):
        turn = transforms.rotation_matrices(torch.tensor([angles])).numpy()[0]
        tilted = standing(np.random.default_rng(6)) @ turn.T
        again = turned(upright(tilted))
        np.testing.assert_allclose(again, turned(expected), atol=1e-4)


def test_people_who_lie_down_are_left_lying() -> None:
    clip = standing(np.random.default_rng(7))[..., [1, 0, 2]]
    np.testing.assert_array_equal(upright(clip), clip)
    empty = np.zeros_like(clip)
    np.testing.assert_array_equal(upright(empty), empty)


def test_unit_height_makes_sizes_equal() -> None:
    clip = person(NTU, np.random.default_rng(1))
    tall = scaled(clip * 1.4)
    np.testing.assert_allclose(tall, scaled(clip), rtol=1e-5)
    nothing = np.zeros_like(clip)
    assert not scaled(nothing).any()


def test_image_coordinates_fill_a_box_and_missing_joints_stay_zero() -> None:
    keypoints = np.random.default_rng(3).uniform(100, 400, (2, 5, 17, 2)).astype(np.float32)
    keypoints[0, 2, 4] = 0
    result = in_box(keypoints)
    assert result.shape == (2, 5, 17, 3)
    assert not result[0, 2, 4].any()
    assert np.ptp(result[..., :2], axis=(0, 1, 2)).max() == pytest.approx(2, abs=1e-5)
    assert set(np.unique(result[..., 2])) == {0, 1}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nturgb+d", ALL_STEPS),
        ("kinect-v1", {"align_spine": True, "face_forward": True, "unit_height": True}),
        ("coco", {}),
        ("coco", {"pixels": True}),
    ],
)
def test_a_batch_gives_each_recording_what_it_is_given_alone(name: str, options: dict, tmp_path: Path) -> None:
    """Bit for bit, whatever lengths and numbers of bodies come together."""
    layout, rng = load_layout(name), np.random.default_rng(8)
    config = DataConfig(num_bodies=2, **options)
    with write_store(tmp_path / "s.h5", layout) as writer:
        for number, (bodies, frames) in enumerate([(1, 1), (2, 40), (1, 300), (3, 7), (2, 1900), (1, 200), (2, 12)]):
            pose = rng.normal(1, 0.3, (bodies, 1, layout.num_joints, layout.dims))
            joints = pose + rng.normal(0, 0.1, (bodies, frames, layout.num_joints, layout.dims))
            joints[rng.random(joints.shape[:3]) < 0.01] = 0
            joints[rng.random(joints.shape[:2]) < 0.1] = 0
            writer.add(Clip(f"{number}", 0, joints.astype(np.float32), splits=("all",)))
        writer.finish(["one"])
    with SkeletonStore(tmp_path / "s.h5") as store:
        together = data.prepare(store, np.arange(len(store)), config, torch.device("cpu"))
        each = [data.prepare_clip(store.keypoints(n), None, layout, config) for n in range(len(store))]
    assert together.frames.tolist() == [len(clip) for clip in each]
    assert together.rows.shape[1] == 2 and together.rows.std() > 0.05
    np.testing.assert_array_equal(together.rows, np.concatenate(each))


def test_a_spine_that_the_layout_does_not_name_is_said() -> None:
    layout = load_layout("sbu-15")
    with pytest.raises(DataError, match="leave out align_spine"):
        preparation.align_spine(torch.zeros(1, 1, 1, layout.num_joints, 3), layout)


def test_the_confidence_of_joints_in_space_is_left_out(tmp_path: Path) -> None:
    """MediaPipe's landmarks have three coordinates and a visibility."""
    layout = load_layout("mediapipe-33")
    points = np.random.default_rng(0).normal(1, 0.3, (1, 9, 33, 3)).astype("f4")
    found = []
    for name, confidence in (("with", np.full((1, 9, 33), 0.7, "f4")), ("without", None)):
        with write_store(tmp_path / f"{name}.h5", layout) as writer:
            writer.add(Clip("a", 0, points, confidence))
            writer.finish(["one"])
        config = DataConfig(num_frames=8, stand_upright=True, face_forward=True)
        with SkeletonStore(tmp_path / f"{name}.h5") as store:
            found.append(data.prepare(store, np.array([0]), config, torch.device("cpu")).rows.numpy())
    assert found[0].shape[-1] == 3
    np.testing.assert_array_equal(*found)
