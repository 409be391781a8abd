"""How joints move, measured in body heights, wherever the body stands and looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skag.skeleton.kinematics import JOINT_FEATURES, joint_motion
from skag.skeleton.layouts import load_layout
from skag.skeleton.simulate import Pose, forward_kinematics
from skag.skeleton.store import Clip, SkeletonStore, write_store

LAYOUT = load_layout("nturgb+d")
FRAMES = 40


def raising(height: float = 1.7, heading: float = 0.0) -> np.ndarray:
    """A standing body `[1, T, V, 3]` that lifts its right hand from its side to above its head, by `heading` turned."""
    rises = np.linspace(0, 1, FRAMES)[:, None]
    low, high = (Pose(right_hand=hand).vector() for hand in ((0.14, -0.95, 0.06), (0.14, 0.9, 0.06)))
    joints = forward_kinematics(low + rises * (high - low), height, np.ones(3), LAYOUT)
    c, s = np.cos(heading), np.sin(heading)
    return (joints @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) + [0.5, 0, 3])[None].astype(np.float32)


@pytest.fixture
def measured(tmp_path: Path):
    def measure(*clips: np.ndarray) -> np.ndarray:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.h5"
        with write_store(path, LAYOUT) as writer:
            for number, clip in enumerate(clips):
                writer.add(Clip(f"clip {number}", 0, clip, splits=("train",)))
            writer.finish(["raise a hand"])
        with SkeletonStore(path) as store:
            return joint_motion(store, store.splits["train"])

    return measure


def feature(motion: np.ndarray, joint: str, name: str) -> float:
    return float(motion[LAYOUT.index[joint], JOINT_FEATURES.index(name)])


def test_the_hand_that_rises_is_told_from_the_other(measured) -> None:
    (motion,) = measured(raising())
    assert 0.4 < feature(motion, "right hand", "up") < 0.9  # of a body height
    assert abs(feature(motion, "left hand", "up")) < 0.02
    assert feature(motion, "right hand", "top") > feature(motion, "head", "top")


def test_motion_does_not_depend_on_size_and_heading(measured) -> None:
    first, taller, turned = measured(raising(), raising(height=1.9), raising(heading=0.6))
    np.testing.assert_allclose(first, taller, atol=0.02)
    np.testing.assert_allclose(first, turned, atol=0.02)


def test_what_is_not_there_is_unknown_and_moves_no_other_clip(measured) -> None:
    handless = raising()
    handless[:, :, LAYOUT.index["right hand"]] = 0
    whole, nothing, without_hand = measured(raising(), np.zeros_like(handless), handless)
    assert np.isnan(nothing).all() and not np.isnan(whole).any()
    assert np.isnan(without_hand).all(1).nonzero()[0].tolist() == [LAYOUT.index["right hand"]]
    (alone,) = measured(raising())
    np.testing.assert_allclose(whole, alone, atol=1e-6)
