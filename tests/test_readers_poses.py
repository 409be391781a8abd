"""JSON files of pose estimators: OpenPose, MMPose, AlphaPose, MediaPipe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from skag.readers import alphapose, archives, openpose, poses
from skag.readers.archives import Member
from skag.readers.poses import Person
from skag.readers.source import Unusable
from skag.skeleton.layouts import load_layout
from tests.helpers.recordings import as_folder, as_tar, as_zip, converted, refusal


def people(frames: int = 4, count: int = 2, joints: int = 17, seed: int = 0) -> np.ndarray:
    """`[M, T, V, 3]` people far apart who move a little, with confidences."""
    rng = np.random.default_rng(seed)
    bodies = rng.uniform(0, 200, (count, 1, joints, 2)) + np.arange(count)[:, None, None, None] * 500 + 50
    points = bodies + np.arange(frames)[None, :, None, None] * 4 + rng.normal(size=(count, frames, joints, 2))
    scores = rng.uniform(0.1, 1, (count, frames, joints, 1)) / (1 + np.arange(count)[:, None, None, None])
    return np.concatenate([points, scores], axis=-1).round(3)


def text(value: object) -> bytes:
    return json.dumps(value).encode()


# following people


def persons(*places: float, who: list[str | None] | None = None) -> list[Person]:
    square = np.array([[0, 0], [0, 10], [10, 0], [10, 10]], np.float32)
    who = who or [None] * len(places)
    return [Person(square + [place, 0], np.ones(4), name) for place, name in zip(places, who, strict=True)]


def followed(*frames: list[Person]) -> list[list[tuple[int, float]]]:
    seen = poses.follow(frames)
    places = seen.joints[:, 0, 0].tolist() if len(seen.joints) else []
    return [[(int(seen.frames[n]), places[n]) for n in track] for track in seen.tracks]


def test_people_are_followed_by_where_they_were() -> None:
    assert followed(persons(0, 100), persons(102, 2), persons(4, 99)) == [
        [(0, 0), (1, 2), (2, 4)],
        [(0, 100), (1, 102), (2, 99)],
    ]


def test_the_nearest_pair_first() -> None:
    """Both were near the person at 3; whoever was nearest of all pairs it is, and 8 is too far from 0."""
    assert followed(persons(0, 4), persons(3, 4.5)) == [[(0, 0), (1, 3)], [(0, 4), (1, 4.5)]]
    assert followed(persons(0, 4), persons(3, 8)) == [[(0, 0)], [(0, 4), (1, 3)], [(1, 8)]]


def test_somebody_far_away_is_new_and_somebody_long_gone_too() -> None:
    assert followed(persons(0, 100), persons(200, 1)) == [[(0, 0), (1, 1)], [(0, 100)], [(1, 200)]]
    gone = [persons(0, 100), *[persons(100)] * (poses.FORGOTTEN + 1), persons(100, 0)]
    assert [len(track) for track in followed(*gone)] == [1, poses.FORGOTTEN + 3, 1]


def test_one_person_stays_the_same_however_far() -> None:
    assert followed(persons(0), [], persons(500), persons(2)) == [[(0, 0), (2, 500), (3, 2)]]


def test_identities_are_kept() -> None:
    who = [["a", "b"], ["b", "a"]]
    assert followed(persons(0, 100, who=who[0]), persons(0, 100, who=who[1])) == [
        [(0, 0), (1, 100)],
        [(0, 100), (1, 0)],
    ]


def test_joints_that_were_not_seen_do_not_count() -> None:
    first, second = persons(0, 100), persons(1, 101)
    for person in (first[0], second[1]):
        person.joints[1] = 0
    assert followed(first, second) == [[(0, 0), (1, 1)], [(0, 100), (1, 101)]]
    blind = [Person(np.zeros((4, 2), np.float32)), Person(np.full((4, 2), np.nan, np.float32))]
    assert len(poses.follow([blind, blind]).tracks) == 4, "nobody can be told from anybody, and no warning"


def test_the_five_seen_best_are_kept() -> None:
    layout = load_layout("coco")
    bodies = people(3, 8)
    frames = [[Person(body[t, :, :2].astype("f4"), body[t, :, 2]) for body in bodies] for t in range(3)]
    keypoints, confidence = poses.arrays(frames, layout, {})
    order = np.argsort(-bodies[..., 2].sum(axis=(1, 2)))[:5]
    assert np.array_equal(keypoints, bodies[order, ..., :2].astype("f4")) and confidence.shape == (5, 3, 17)


def test_people_one_after_another_do_not_fill_a_large_recording_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three people by turns would take three times what was seen of them; the one seen best alone does not."""
    layout = load_layout("coco")
    body = people(30, 1)[0]
    frames = [
        [Person(joints[:, :2], np.ones(17), who) for who in ("always", str(t % 3))] for t, joints in enumerate(body)
    ]
    assert poses.arrays(frames, layout, {})[0].shape == (4, 30, 17, 2)
    monkeypatch.setattr(poses, "ALWAYS_ALLOWED", 0)
    keypoints, confidence = poses.arrays(frames, layout, {})
    assert keypoints.shape == (1, 30, 17, 2) and (confidence == 1).all()


def test_too_many_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poses, "MAX_IDENTITIES", 2)
    frames = [[Person(np.ones((4, 2), "f4"), None, str(t))] for t in range(3)]
    with pytest.raises(Unusable, match="more than 2 people"):
        poses.follow(frames)


# OpenPose


def openpose_frame(bodies: np.ndarray, key: str = "pose_keypoints_2d", **more: object) -> bytes:
    """A frame's people `[M, V, 3]`."""
    return text({"version": 1.3, "people": [{key: body.ravel().tolist(), **more} for body in bodies]})


BODY_25 = [  # from the documentation of OpenPose's output
    "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist",
    "mid hip", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle", "right eye",
    "left eye", "right ear", "left ear", "left big toe", "left small toe", "left heel", "right big toe",
    "right small toe", "right heel",
]  # fmt: skip


def openpose_video(folder: str, video: str, bodies: np.ndarray, **options: str) -> dict[str, bytes]:
    return {
        f"{folder}/{video}_{t:012}_keypoints.json": openpose_frame(bodies[:, t], **options)
        for t in range(bodies.shape[1])
    }


@pytest.mark.parametrize("layout", [None, "coco", "uav"])
def test_openpose_with_a_folder_per_recording(tmp_path: Path, layout: str | None) -> None:
    two, one = people(12, 2, 25), people(3, 1, 25, seed=5)
    members = {**openpose_video("walk/a", "a", two), **openpose_video("sit/a", "a", one)}
    members["sit/a/a_000000000009_keypoints.json"] = openpose_frame(np.zeros((0, 25, 3)))
    for number, pack in enumerate((as_folder, as_zip, as_tar)):
        report, store = converted(pack(members, tmp_path / f"x{number}"), tmp_path / str(number), layout=layout)
        assert store.names == ["sit/a", "walk/a"] and store.classes == ["sit", "walk"] and report.skipped == []
        assert store.layout.name == (layout or "openpose-18") and store.frames.tolist() == [3, 12]
        for joint in store.layout.joints:
            place = store.layout.index[joint]
            assert np.allclose(store.keypoints(1)[:, :, place], two[:, :, BODY_25.index(joint), :2]), joint
            assert np.allclose(store.confidence(1)[:, :, place], two[:, :, BODY_25.index(joint), 2]), joint


def test_openpose_with_a_folder_per_class(tmp_path: Path) -> None:
    one = people(3, 1, 18)
    members = {
        **openpose_video("walk", "a", one, key="pose_keypoints"),
        **openpose_video("walk", "b", one),
        **openpose_video("sit", "a", one),
    }
    _, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.names == ["sit/a", "walk/a", "walk/b"] and store.classes == ["sit", "walk"]
    assert store.frames.tolist() == [3, 3, 3]


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    one = people(12, 1, 25)
    members = {f"walk/a/{t}_keypoints.json": openpose_frame(one[:, t]) for t in range(12)}
    members |= {f"sit/a/{t}_keypoints.json": openpose_frame(one[:, t]) for t in range(12)}
    _, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert np.allclose(store.keypoints(0)[0, :, 0], one[0, :, 0, :2]) and store.names == ["sit/a", "walk/a"]


def test_a_tar_with_frames_far_apart_is_not_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = people(4, 1, 25)
    first, second = openpose_video("walk/a", "a", one), openpose_video("sit/a", "a", one)
    mixed = [item for pair in zip(first.items(), second.items(), strict=True) for item in pair]
    source = as_tar(dict(mixed), tmp_path / "x.tar.gz")
    assert converted(source, tmp_path)[0].clips == 2
    monkeypatch.setattr(archives, "MAX_HELD", 100)
    assert "frames far apart in the archive: unpack it" in refusal(source, tmp_path / "2")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "damaged one (frame 1)"),
        (text({"people": [3]}), "are no objects (frame 1)"),
        (openpose_frame(people(1, 1, 25)[:, 0, :, :2]), "of 50 numbers, no multiple of 3"),
        (openpose_frame(people(1, 1, 20)[:, 0]), "20 joints, and layout openpose-18 has 18"),
        (text({"people": [{"pose_keypoints_2d": "x" * 9}]}), "no table of numbers"),
    ],
)
def test_a_bad_frame_leaves_its_recording_out(tmp_path: Path, data: bytes, reason: str) -> None:
    members = {**openpose_video("a/1", "x", people(3, 1, 25)), **openpose_video("b/1", "x", people(3, 1, 25)),
               **openpose_video("b/2", "x", people(3, 1, 25))}  # fmt: skip
    members["b/2/x_000000000001_keypoints.json"] = data
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    ((name, said),) = report.skipped
    assert name == "b/2" and reason in said and store.names == ["a/1", "b/1"]


def test_nobody_in_any_frame(tmp_path: Path) -> None:
    empty = openpose_frame(np.zeros((0, 25, 3)))
    members = {**openpose_video("a/1", "x", people(3, 1, 25)), "b/1/x_000000000000_keypoints.json": empty}
    report, _ = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert report.skipped == [("b/1", "has nobody in any frame")]


def test_the_joints_of_body_25() -> None:
    assert list(openpose.NAMES[25]) == BODY_25


# MMPose


def mmpose_frames(bodies: np.ndarray, tracked: bool = False) -> list[dict[str, object]]:
    return [
        {
            "frame_id": t,
            "instances": [
                {
                    "keypoints": body[t, :, :2].tolist(),
                    "keypoint_scores": body[t, :, 2].tolist(),
                    "bbox": [[1, 2, 3, 4]],
                }
                | ({"track_id": n} if tracked else {})
                for n, body in enumerate(bodies)
            ],
        }
        for t in range(bodies.shape[1])
    ]


@pytest.mark.parametrize("tracked", [False, True])
def test_mmpose(tmp_path: Path, tracked: bool) -> None:
    two, whole = people(4, 2), people(3, 1, 133, seed=5)
    members = {
        "out/predictions/walk/1.json": text(mmpose_frames(two, tracked)),
        "out/predictions/sit/2.json": text({"meta_info": {"x": 1}, "instance_info": mmpose_frames(whole)}),
    }
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.names == ["walk/1", "sit/2"] and store.classes == ["sit", "walk"]
    assert store.layout.name == "coco" and report.skipped == []
    assert np.allclose(store.keypoints(0), two[..., :2]) and np.allclose(store.confidence(0), two[..., 2])
    assert np.allclose(store.keypoints(1), whole[..., :17, :2])


def test_mmpose_in_three_dimensions(tmp_path: Path) -> None:
    layout = tmp_path / "mine.toml"
    layout.write_text(
        'name = "mine"\ndims = 3\ncentre = "root"\njoints = ["root", "left x", "right x"]\n'
        '[bones]\n"left x" = "root"\n"right x" = "root"\n[parts]\ntrunk = ["root", "left x", "right x"]\n'
    )
    points = np.arange(18).reshape(2, 3, 3) + 1.0
    frames = [{"frame_id": t, "instances": [{"keypoints": [points[t].tolist()]}]} for t in range(2)]
    members = {"a/1.json": text(frames), "b/1.json": text(frames)}
    source = as_folder(members, tmp_path / "x")
    assert "have 3 joints, and layout coco has 17: name one with --layout" in refusal(source, tmp_path)
    _, store = converted(source, tmp_path, layout=str(layout))
    assert np.array_equal(store.keypoints(0)[0], points) and store.confidence(0) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (text([{"frame_id": 0}]), 'a frame without "instances"'),
        (text([{"instances": [1]}]), "that are no objects"),
        (text([{"instances": [{"keypoints": [[1]] * 17, "keypoint_scores": [1] * 17}]}]), "1 coordinates per joint"),
        (text([{"instances": [{"keypoints": [[1, 2]] * 17, "keypoint_scores": [1] * 5}]}]), "5 keypoint_scores for 17"),
        (text([{"instances": [{"keypoints": "instances"}]}]), "no table of numbers"),
        (text([]), "has no frames"),
        (b'[{"instances": [', "no JSON file, or a damaged one"),
    ],
)
def test_a_bad_mmpose_file_is_left_out(tmp_path: Path, data: bytes, reason: str) -> None:
    good = text(mmpose_frames(people()))
    members = {"a/1.json": good, "b/1.json": good, "b/9.json": data}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    ((name, said),) = report.skipped
    assert name == "b/9" and reason in said and store.names == ["a/1", "b/1"]


# AlphaPose


def alphapose_entries(bodies: np.ndarray, who: object = None) -> list[dict[str, object]]:
    return [
        {"image_id": f"{t}.jpg", "category_id": 1, "keypoints": body[t].ravel().tolist(), "score": 1.0}
        | ({"idx": who(n)} if who else {})
        for t in range(bodies.shape[1])
        for n, body in enumerate(bodies)
    ]


@pytest.mark.parametrize("who", [None, lambda n: n + 1, lambda n: [float(n)]])
def test_alphapose(tmp_path: Path, who: object) -> None:
    two, halpe = people(12, 2), people(3, 1, 136, seed=5)
    members = {
        "walk/1/alphapose-results.json": text(list(reversed(alphapose_entries(two, who)))),
        "sit/2/alphapose-results.json": text(alphapose_entries(halpe)),
        "sit/other.json": text(alphapose_entries(halpe)),
    }
    for number, pack in enumerate((as_folder, as_tar)):
        report, store = converted(pack(members, tmp_path / f"x{number}"), tmp_path / str(number))
        assert set(store.names) == {"walk/1", "sit/2", "sit/other"} and store.classes == ["sit", "walk"]
        walk = store.names.index("walk/1")
        assert np.allclose(store.keypoints(walk), two[..., :2]) and np.allclose(store.confidence(walk), two[..., 2])
        assert report.layout == "coco" and report.skipped == []


def test_a_long_alphapose_file_has_to_be_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in order is never held as a whole, and comes out as another whose images are shuffled."""
    two = people(12, 2)
    entries = alphapose_entries(two, lambda n: n)
    shuffled = [entries[n] for n in np.random.default_rng(0).permutation(len(entries))]
    assert list(alphapose._frames([Member("", text(entries))]))[11][1].identity == "1"
    members = {"walk/1.json": text(entries), "walk/2.json": text(shuffled), "sit/3.json": text(entries)}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.names == ["sit/3", "walk/1", "walk/2"]
    assert len({np.sort(store.keypoints(number), axis=0).tobytes() for number in range(3)}) == 1
    monkeypatch.setattr(alphapose, "MAX_OUT_OF_ORDER", 100)
    report, store = converted(tmp_path / "x", tmp_path / "again")
    assert store.names == ["sit/3", "walk/1"] and "out of order: sort them" in report.skipped[0][1]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (text({"image_id": 1, "keypoints": []}), "no list of people"),
        (text([{"keypoints": [1, 2, 3]}]), 'without "image_id"'),
        (text([{"image_id": "0.jpg", "keypoints": [1, 2]}]), "2 numbers, no multiple of 3"),
        (text([{"image_id": "0.jpg", "keypoints": []}]), "0 numbers, no multiple of 3"),
        (text([{"image_id": "0.jpg", "keypoints": [1, 2, 3]}]), "1 joints, and layout coco has 17"),
        (text([]), "nobody in any frame"),
    ],
)
def test_a_bad_alphapose_file_is_left_out(tmp_path: Path, data: bytes, reason: str) -> None:
    good = text(alphapose_entries(people()))
    members = {"a/1.json": good, "b/1.json": good, "b/9.json": data}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    ((name, said),) = report.skipped
    assert name == "b/9" and reason in said and store.names == ["a/1", "b/1"]


# MediaPipe


def landmarks(values: np.ndarray) -> list[dict[str, float]]:
    """`[33, 4]` as MediaPipe's objects."""
    return [dict(zip(("x", "y", "z", "visibility"), point, strict=True)) for point in values.tolist()]


POINTS = np.random.default_rng(0).normal(size=(3, 33, 4)).round(3)
POINTS[..., 3] = np.abs(POINTS[..., 3]).clip(0, 1)


@pytest.mark.parametrize(
    "frames",
    [
        [{"pose_world_landmarks": landmarks(p), "pose_landmarks": landmarks(-p)} for p in POINTS],
        [{"poseWorldLandmarks": [landmarks(p)]} for p in POINTS],
        [{"worldLandmarks": [{"landmark": landmarks(p)}], "landmarks": []} for p in POINTS],
        {"fps": 30, "frames": [{"t": 1, "landmarks": p.tolist()} for p in POINTS]},
        [landmarks(POINTS[0]), None, [], {"pose_landmarks": None}, [landmarks(POINTS[1])], POINTS[2].tolist()],
    ],
)
def test_mediapipe(tmp_path: Path, frames: object) -> None:
    members = {"walk/1.json": text(frames), "sit/1.json": text([{"pose_world_landmarks": landmarks(POINTS[0])}])}
    if not isinstance(frames, dict) and None in frames:
        members["awalk/0.json"] = members["sit/1.json"]  # a bare list says nothing: the first file does
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.layout.name == "mediapipe-33" and report.skipped == []
    number = store.names.index("walk/1")
    assert np.allclose(store.keypoints(number)[0], POINTS[..., :3])
    assert np.allclose(store.confidence(number)[0], POINTS[..., 3])


def test_mediapipe_in_the_image_with_the_joints_of_coco(tmp_path: Path) -> None:
    frames = [{"pose_world_landmarks": landmarks(p), "pose_landmarks": landmarks(p / 2)} for p in POINTS]
    members = {"walk/1.json": text(frames), "sit/1.json": text(frames)}
    _, store = converted(as_folder(members, tmp_path / "x"), tmp_path, layout="coco")
    names = load_layout("mediapipe-33").index
    for joint, place in store.layout.index.items():
        assert np.allclose(store.keypoints(0)[0, :, place], POINTS[:, names[joint], :2] / 2), joint


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (text({"pose_landmarks": 3}), "has no frames"),
        (text([{"landmarks": 3}]), "no list of landmarks"),
        (text([{"landmarks": [[[1]], 3]}]), "landmarks"),
        (text([{"landmarks": [{"x": 1}] * 33}]), "without x and y"),
        (text([{"landmarks": [{"x": 1, "y": 2, "z": 0}] * 32 + [3]}]), "of different kinds"),
        (text([{"landmarks": [[1, 2]] * 33}]), "2 coordinates per joint, and layout mediapipe-33 has 3"),
        (text([{"landmarks": [[1, 2, 3]] * 20}]), "20 joints, and layout mediapipe-33 has 33"),
        (text([{"landmarks": [["x", "y", "z"]] * 33}]), "no table of numbers"),
    ],
)
def test_a_bad_mediapipe_file_is_left_out(tmp_path: Path, data: bytes, reason: str) -> None:
    good = text([{"landmarks": landmarks(p)} for p in POINTS])
    members = {"a/1.json": good, "b/1.json": good, "b/9.json": data}
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    ((name, said),) = report.skipped
    assert name == "b/9" and reason in said and store.names == ["a/1", "b/1"]


def test_the_landmarks_of_mediapipe() -> None:
    """As its enumeration numbers them."""
    names = load_layout("mediapipe-33").joints
    assert len(names) == 33
    known = {0: "nose", 7: "left ear", 9: "left mouth", 11: "left shoulder", 16: "right wrist", 17: "left pinky"}
    known |= {23: "left hip", 28: "right ankle", 31: "left foot index"}
    for number, name in known.items():
        assert names[number] == name
    assert all(name.partition(" ")[0] in ("left", "right") for name in names[1:])
