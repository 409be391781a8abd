"""The simulated recordings: `pytest tests/test_simulate.py`."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from skag.errors import DataError
from skag.skeleton.layouts import load_layout
from skag.skeleton.simulate import ACTIONS, Pose, forward_kinematics, simulate, two_bones, write_recordings

LAYOUT = load_layout("nturgb+d")


@pytest.fixture(scope="module")
def recordings() -> dict:
    return simulate(seed=3, subjects=6, repetitions=2)


def clips_of(recordings: dict, action: str) -> list[np.ndarray]:
    label = ACTIONS.index(action)
    return [a["keypoint"][0].astype(float) for a in recordings["annotations"] if a["label"] == label]


def height(clip: np.ndarray, joint: str) -> np.ndarray:
    """Height of a joint over time, by its median over five frames: jitter and dropped joints do not count."""
    y = clip[:, LAYOUT.index[joint], 1]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(y, 2, mode="edge"), 5)
    return np.median(windows, axis=1)


def test_annotations_have_the_form_of_pyskl(recordings):
    names = [a["frame_dir"] for a in recordings["annotations"]]
    assert len(names) == len(set(names)) == 6 * 10 * 2
    for annotation in recordings["annotations"]:
        keypoint, name = annotation["keypoint"], annotation["frame_dir"]
        assert keypoint.shape == (1, annotation["total_frames"], 25, 3) and keypoint.dtype == np.float16
        assert 30 <= annotation["total_frames"] <= 90
        assert np.isfinite(keypoint).all()
        assert int(name[17:20]) == annotation["label"] + 1


def test_split_parts_subjects_and_keeps_every_class_on_both_sides(recordings):
    train, val = (recordings["split"][name] for name in ("xsub_train", "xsub_val"))
    assert sorted(train + val) == sorted(a["frame_dir"] for a in recordings["annotations"])
    assert {n[8:12] for n in train}.isdisjoint({n[8:12] for n in val})
    assert {n[-4:] for n in train} == {n[-4:] for n in val}
    assert len(train) == 80


def test_repeats_from_its_seed_and_differs_between_seeds(recordings):
    again, other = simulate(3, 6, 2), simulate(4, 6, 2)
    assert pickle.dumps(again) == pickle.dumps(recordings)
    assert pickle.dumps(other) != pickle.dumps(recordings)


def test_more_repetitions_leave_the_others_as_they_are(recordings):
    more = {a["frame_dir"]: a["keypoint"] for a in simulate(3, 7, 3)["annotations"]}
    for annotation in recordings["annotations"]:
        np.testing.assert_array_equal(more[annotation["frame_dir"]], annotation["keypoint"])


@pytest.mark.parametrize(("subjects", "repetitions"), [(1, 4), (1000, 1), (12, 0)])
def test_refuses_numbers_that_names_or_splits_cannot_hold(subjects, repetitions):
    with pytest.raises(ValueError, match="subjects"):
        simulate(0, subjects, repetitions)


def test_bones_keep_their_length_and_feet_stay_on_the_ground():
    rng = np.random.default_rng(0)
    poses = np.stack([Pose().vector(), Pose((-0.3, 0.5, 0.2), hips=(0, -0.45, -0.4), lean=60).vector()])
    poses = poses[0] + rng.uniform(0, 1, (50, 1)) * (poses[1] - poses[0])
    joints = forward_kinematics(poses, 1.7, np.ones(3), LAYOUT)
    for child, parent in LAYOUT.bones.items():
        bone = np.linalg.norm(joints[:, LAYOUT.index[child]] - joints[:, LAYOUT.index[parent]], axis=1)
        if not {"shoulder", "hip"} & {child.split()[-1]}:  # shoulders slide over the leaning spine
            assert np.ptp(bone) < 1e-9, child
    ankles = joints[:, [LAYOUT.index["left ankle"], LAYOUT.index["right ankle"]]]
    assert np.ptp(ankles, axis=0).max() < 1e-3
    assert 1.5 < joints[:, LAYOUT.index["head"], 1].max() < 1.7


def test_inverse_kinematics_reaches_its_goal_or_stretches_towards_it():
    start = np.zeros((2, 3))
    goal = np.array([[0.2, 0.1, 0.3], [0.0, 0.0, 9.0]])
    joint, end = two_bones(start, goal, 0.3, 0.25, np.array([0.0, -1.0, 0.0]))
    np.testing.assert_allclose(end[0], goal[0])
    np.testing.assert_allclose(end[1], [0, 0, 0.998 * 0.55])
    np.testing.assert_allclose(np.linalg.norm(joint, axis=1), 0.3)
    np.testing.assert_allclose(np.linalg.norm(end - joint, axis=1), 0.25, atol=1e-12)
    assert joint[0, 1] < 0.05  # bent downwards


def test_people_stand_upright_before_the_camera_and_face_it(recordings):
    for clip in clips_of(recordings, "drink"):
        first = {joint: np.median(clip[:5, i], axis=0) for joint, i in LAYOUT.index.items()}
        assert 1.8 < first["base of the spine"][2] < 4.2
        assert first["head"][1] > first["base of the spine"][1] > first["left knee"][1] > first["left foot"][1]
        assert first["right shoulder"][0] > first["left shoulder"][0]  # x grows to the camera's left


def test_look_alikes_differ_as_they_should(recordings):
    def change(action, joint):
        return np.array(
            [height(c, joint)[-5:].mean() - height(c, joint)[:5].mean() for c in clips_of(recordings, action)]
        )

    assert (change("sit down", "base of the spine") < -0.1).mean() > 0.9
    assert (change("stand up", "base of the spine") > 0.1).mean() > 0.9

    def reached(action, best, joint="hand"):
        """How high (or low) the hands get against the neck, and how unlike each other; medians over the clips."""
        hands = [[best(height(c, f"{side} {joint}") - height(c, "neck")) for side in ("left", "right")]
                 for c in clips_of(recordings, action)]  # fmt: skip
        return np.median(np.max(hands, 1)), np.median(np.abs(np.diff(hands, axis=1)))

    assert reached("put on a hat", np.max)[0] > 0.15
    assert reached("take off a hat", np.max)[0] > 0.15
    drink, chest = reached("drink", np.max)[0], reached("touch the chest", np.max)[0]
    assert 0.0 < drink < 0.15 and drink - chest > 0.1
    lifted = [np.median([np.max([np.ptp(height(c, f"{s} foot")) for s in ("left", "right")])
                         for c in clips_of(recordings, action)]) for action in ("kick", "step forward")]  # fmt: skip
    assert lifted[0] > 1.4 * lifted[1]
    one, both = (
        np.median(
            [abs(height(c, "left hand") - height(c, "right hand"))[-5:].mean() for c in clips_of(recordings, action)]
        )
        for action in ("pick up with one hand", "pick up with both hands")
    )
    assert one > 2 * both


def test_the_camera_drops_and_shakes_joints(recordings):
    clips = [a["keypoint"][0].astype(float) for a in recordings["annotations"]]
    dropped = [c for c in clips if (c == 0).all(2).any()]
    assert 0.02 * len(clips) < len(dropped) < 0.3 * len(clips)
    still = np.concatenate([np.diff(c[:, LAYOUT.index["base of the spine"]], n=2, axis=0).ravel() for c in clips])
    assert 0.002 < np.median(np.abs(still)) < 0.03


def test_written_recordings_hold_plain_containers_and_one_name_a_line(tmp_path):
    path = write_recordings(tmp_path / "new", seed=1, subjects=2, repetitions=1)
    assert path == tmp_path / "new" / "recordings.pkl"
    loaded = pickle.loads(path.read_bytes())
    assert sorted(loaded) == ["annotations", "split"] and len(loaded["annotations"]) == 20
    assert (tmp_path / "new" / "classes.txt").read_text().splitlines() == list(ACTIONS)


@pytest.mark.parametrize("name", ["classes.txt", "recordings.pkl"])
def test_files_of_others_are_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine\n")
    with pytest.raises(DataError, match=f"{name} is there already and is no file of an earlier simulation"):
        write_recordings(tmp_path, subjects=2, repetitions=1)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine\n"
    for seed in (1, 2):
        write_recordings(tmp_path / "new", seed, subjects=2, repetitions=1)
