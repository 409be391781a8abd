"""Joints written as a number are found, and nothing that a body does is taken for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skag.convert import convert
from skag.inference.recordings import cleaned
from skag.skeleton.layouts import Layout, load_layout
from skag.skeleton.missing import mark_missing, missing_as_number
from skag.skeleton.store import Clip, SkeletonStore
from tests.helpers.recordings import real

SBU, COCO = load_layout("sbu-15"), load_layout("coco")


def moving(layout: Layout = SBU, frames: int = 30, bodies: int = 1, seed: int = 0) -> np.ndarray:
    """A body whose joints all move a little in every frame, float32 `[M, T, V, C]`."""
    rng = np.random.default_rng(seed)
    start = rng.normal(size=(bodies, 1, layout.num_joints, layout.dims))
    return (start + 0.01 * rng.normal(size=(bodies, frames, layout.num_joints, layout.dims)).cumsum(1)).astype("f4")


def marked(keypoints: np.ndarray, layout: Layout = SBU, confidence: np.ndarray | None = None) -> tuple[Clip, dict]:
    clip, counts = mark_missing(Clip("a", 0, keypoints, confidence), layout)
    return clip, dict(counts)


@pytest.mark.parametrize("number", [-1.0, -999.0, 9999.0, 0.5])
def test_a_number_in_all_coordinates_is_missing(number: float) -> None:
    keypoints = moving()
    keypoints[0, [3, 8, 20], [2, 5, 9]] = number
    clip, counts = marked(keypoints)
    assert counts == {"number": 3}
    assert np.argwhere(~clip.keypoints.any(-1)).tolist() == [[0, 3, 2], [0, 8, 5], [0, 20, 9]]


def test_minus_one_in_one_coordinate_is_a_place() -> None:
    keypoints = moving()
    keypoints[0, 3:9, 2, 1] = -1
    assert marked(keypoints)[1] == {}


def test_equal_pixels_are_places() -> None:
    keypoints = np.round(300 + 100 * moving(COCO))
    keypoints[0, :, 4] = 250  # a place on the diagonal, again and again
    assert marked(keypoints, COCO)[1] == {}
    keypoints[0, 3:5, 4] = -1
    assert marked(keypoints, COCO)[1] == {"number": 2}


def test_all_joints_on_one_point_are_a_body_that_was_not_seen() -> None:
    keypoints = moving(bodies=2)
    keypoints[1, 7] = keypoints[1, 7, 0]
    clip, counts = marked(keypoints)
    assert counts == {"point": 15}
    assert not clip.keypoints[1, 7].any() and clip.keypoints[0].any(-1).all()


def test_confidence_zero_is_missing_and_confidence_zero_everywhere_says_nothing() -> None:
    keypoints, confidence = moving(COCO), np.full((1, 30, 17), 0.9, "f4")
    confidence[0, 4, 6] = 0
    clip, counts = marked(keypoints, COCO, confidence)
    assert counts == {"confidence": 1} and not clip.keypoints[0, 4, 6].any()
    assert marked(keypoints, COCO, np.zeros_like(confidence))[1] == {}


def test_a_joint_that_is_held_while_others_move_is_missing() -> None:
    keypoints = moving()
    hand = SBU.index["left hand"]
    keypoints[0, 5:20, hand] = keypoints[0, 5, hand]
    clip, counts = marked(keypoints)
    assert counts == {"constant": 15}
    assert np.flatnonzero(~clip.keypoints[0, :, hand].any(-1)).tolist() == list(range(5, 20))


def test_a_pause_of_the_whole_body_and_a_short_one_of_a_joint_are_none() -> None:
    keypoints = moving()
    keypoints[0, 5:20] = keypoints[0, 5]
    assert marked(keypoints)[1] == {}
    keypoints = moving()
    keypoints[0, 5:10, 3] = keypoints[0, 5, 3]
    assert marked(keypoints)[1] == {}


@pytest.mark.parametrize("place", [0.0, 0.5], ids=["at the origin", "elsewhere"])
def test_what_recordings_are_centred_on_is_not_missing(place: float) -> None:
    keypoints = moving()
    centre = SBU.index[SBU.centre]
    keypoints = keypoints - keypoints[:, :, centre : centre + 1] + np.array([place, 2 * place, 0], "f4")
    clip, counts = marked(keypoints)
    assert counts == {} and np.array_equal(clip.keypoints, keypoints)


def test_a_recording_of_nothing_else_goes_only_where_its_numbers_are_negative() -> None:
    ones = np.ones((1, 4, 15, 3), "f4")
    assert marked(ones)[1] == {} and marked(ones * [1, 2, 3])[1] == {}
    clip, counts = marked(-ones)
    assert counts == {"number": 60} and not clip.keypoints.any()
    assert missing_as_number(ones, None, SBU)  # of which `check` tells


def test_pixels_that_repeat_count_where_several_joints_share_them() -> None:
    keypoints = np.round(300 + 2000 * moving(COCO))
    keypoints[0, :, 0] = (310, 205)  # a head held still
    assert marked(keypoints, COCO)[1] == {}
    keypoints[0, :, 3] = (310, 205)
    assert marked(keypoints, COCO)[1] == {"constant": 60}


def test_what_is_marked_is_not_found_again_and_the_callers_array_stays() -> None:
    keypoints, before = moving(), moving()
    keypoints[0, 3:9, 2], before[0, 3:9, 2] = -1, -1
    clip, _ = marked(keypoints)
    assert np.array_equal(keypoints, before)
    assert missing_as_number(clip.keypoints, None, SBU) == {}


def test_convert_and_predict_find_the_same(tmp_path: Path) -> None:
    keypoints = moving(frames=12)
    keypoints[0, 2:5, 7] = -1
    for name, array in (("one", keypoints), ("two", moving(frames=12, seed=1)), ("three", moving(frames=9, seed=2))):
        (tmp_path / "in" / name).mkdir(parents=True)
        np.save(tmp_path / "in" / name / "a.npy", array[0])
    report = convert(tmp_path / "in", tmp_path / "data.h5", layout="sbu-15")
    assert [note for note in report.notes if "written as a number" in note] == [
        "1 recording has joints that were not seen written as a number; they are now 0 (missing): a number such as -1 "
        "in all coordinates (3), counted in joints of a frame."
    ]
    with SkeletonStore(tmp_path / "data.h5") as store:
        number = [name for name in range(3) if store.classes[store.labels[name]] == "one"][0]
        stored = store.keypoints(number)
    assert np.array_equal(stored, cleaned(Clip("one", -1, keypoints), SBU).keypoints)
    assert (~stored.any(-1)).sum() == 3


@pytest.mark.parametrize(
    "name", [pytest.param("nw-ucla-raw.tar.gz", marks=pytest.mark.long), "sbu-raw.tar.gz", "utkinect-raw.tar.gz"]
)
def test_nothing_is_found_in_what_sensors_recorded(name: str, tmp_path: Path) -> None:
    report = convert(real(name), tmp_path / "data.h5")
    assert not [note for note in report.notes if "missing" in note]
