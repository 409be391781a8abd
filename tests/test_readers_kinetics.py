"""Kinetics-Skeleton: the compressed form, equal to the published decompression, and kpfiles."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skag.readers.kinetics import decompress
from skag.readers.source import Unusable
from tests.helpers.recordings import as_folder, as_tar, as_zip, converted, refusal


def slow_decompress(frame_inds: list[int], keypoint: np.ndarray, max_person: int) -> np.ndarray:
    """Frame by frame: its skeletons, ordered by confidence where any frame has too many."""
    frames = sorted(set(frame_inds))
    rows = {frame: [k for f, k in zip(frame_inds, keypoint, strict=True) if f == frame] for frame in frames}
    most = max(map(len, rows.values()))
    result = np.zeros((min(most, max_person), len(frames), *keypoint.shape[1:]), np.float16)
    for t, frame in enumerate(frames):
        people = rows[frame]
        if most > max_person:
            people = sorted(people, key=lambda person: -np.float16(person[:, 2].astype(np.float16).sum()))
        for m, person in enumerate(people[:max_person]):
            result[m, t] = person
    return result


@given(st.lists(st.integers(0, 6), min_size=1, max_size=25), st.integers(1, 4), st.integers(0, 99))
def test_decompress_frame_by_frame(frame_inds: list[int], max_person: int, seed: int) -> None:
    frame_inds = sorted(frame_inds)
    keypoint = np.random.default_rng(seed).normal(size=(len(frame_inds), 2, 3)).astype("f2")
    points, scores, frames = decompress(np.array(frame_inds), keypoint, 0, max_person=max_person)
    wanted = slow_decompress(frame_inds, keypoint, max_person)
    assert frames == wanted.shape[1]
    assert (points == wanted[..., :2]).all() and (scores == wanted[..., 2]).all()


@pytest.mark.parametrize(
    ("frame_inds", "total", "squeeze", "said"),
    [
        ([0, 2, 1], 3, True, "do not ascend"),
        ([-1, 0, 1], 3, True, "do not ascend"),
        ([0, 1], 3, True, "3 skeletons and frame_inds of shape"),
        ([0, 1, 3], 3, False, "frame 3 of 3"),
    ],
)
def test_frames_that_do_not_fit_are_refused(frame_inds: list[int], total: int, squeeze: bool, said: str) -> None:
    with pytest.raises(Unusable, match=said):
        decompress(np.array(frame_inds), np.zeros((3, 17, 3)), total, squeeze)


def test_memory_is_bounded_by_people_kept() -> None:
    """Everybody in one frame and every frame for one: the full array would have ten thousand million numbers."""
    frame_inds = np.concatenate([np.zeros(20_000, int), np.arange(1, 20_000)])
    keypoint, _, frames = decompress(frame_inds, np.ones((len(frame_inds), 1, 3), "f2"), 0)
    assert keypoint.shape == (10, 20_000, 1, 2) and frames == 20_000


def annotation(name: str, label: object = 0, rows: int = 5, **changes: object) -> dict:
    rng = np.random.default_rng(len(name) + rows)
    values = {
        "frame_dir": name, "label": label, "img_shape": (240, 320), "total_frames": 9,
        "frame_inds": np.array([0, 0, 4, 6, 8])[:rows], "keypoint": rng.random((rows, 17, 3)).astype("f2"),
        "raw_file": "/etc/passwd", **changes,
    }  # fmt: skip
    return {key: value for key, value in values.items() if value is not ...}


def test_the_old_form_in_one_pickle(tmp_path: Path) -> None:
    clips = [annotation(f"video {i}", i) for i in range(3)]
    clips[2]["anno_inds"] = np.array([0, 2, 4])
    data = {"split": {"train": ["video 0", "video 1"], "val": ["video 2"]}, "annotations": clips}
    (tmp_path / "k400.pkl").write_bytes(pickle.dumps(data))
    report, store = converted(tmp_path / "k400.pkl", tmp_path)
    assert (report.layout, report.bodies, report.skipped) == ("coco", 2, [])
    assert store.bodies.tolist() == [2, 2, 1] and store.frames.tolist() == [4, 4, 3]
    assert (store.widths[0], store.heights[0]) == (320, 240)
    keypoint = clips[0]["keypoint"]
    assert (store.keypoints(0)[:, 0] == keypoint[:2, :, :2]).all()
    assert (store.keypoints(0)[0, 1:] == keypoint[2:, :, :2]).all() and not store.keypoints(0)[1, 1:].any()
    assert (store.confidence(2)[0] == clips[2]["keypoint"][[0, 2, 4], :, 2]).all()
    assert report.splits == {"train": 2, "val": 1}


def test_class_names_of_kinetics_400(tmp_path: Path) -> None:
    clips = [annotation(f"video {i}", i, 1) for i in range(400)]
    (tmp_path / "k400.pkl").write_bytes(pickle.dumps(clips))
    report, _ = converted(tmp_path / "k400.pkl", tmp_path)
    assert len(report.classes) == 400 and report.classes[0] == "abseiling" and report.classes[-1] == "zumba"


BAD = {
    "frames and skeletons differ": (annotation("bad", frame_inds=np.array([0])), "5 skeletons and frame_inds"),
    "no frames": (annotation("bad", rows=0), "0 skeletons"),
    "frames are text": (annotation("bad", frame_inds=["a"] * 5), "frame_inds that are no whole numbers"),
    "frames are fractions": (annotation("bad", frame_inds=np.arange(5.0)), "no list of whole numbers"),
    "frames in a table": (annotation("bad", frame_inds=np.zeros((5, 1), int)), "no list of whole numbers"),
    "two coordinates": (annotation("bad", keypoint=np.zeros((5, 17, 2))), "[skeletons, joints, 3]"),
    "anno_inds beyond": (annotation("bad", anno_inds=[7]), "anno_inds beyond"),
    "no frame_inds": (annotation("bad", frame_inds=...), "not [bodies, frames, joints, coordinates]"),
    "confidence where others have none": (annotation("bad", label=None), "no label"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_annotation_is_left_out(tmp_path: Path, case: str) -> None:
    bad, reason = BAD[case]
    (tmp_path / "k400.pkl").write_bytes(pickle.dumps([annotation("a", 0), bad, annotation("b", 1)]))
    report, store = converted(tmp_path / "k400.pkl", tmp_path)
    ((name, said),) = report.skipped
    assert name == "bad" and reason in said and store.labels.tolist() == [0, 1]


def kpfiles(clips: list[dict]) -> dict[str, bytes]:
    """The annotations without joints, and the joints in two files."""
    facts = [{key: value for key, value in clip.items() if key != "keypoint"} for clip in clips]
    names = [clip["frame_dir"] for clip in clips]
    data = {"split": {"train": names[:2], "val": names[2:]}, "annotations": facts}
    packs = [{c["frame_dir"]: {"keypoint": c["keypoint"]} for c in clips[n::2]} for n in range(2)]
    return {
        "k400/k400_hrnet.pkl": pickle.dumps(data),
        **{f"k400/kpfiles/{n}.pkl": pickle.dumps(pack) for n, pack in enumerate(packs)},
    }


@pytest.mark.parametrize("form", ["folder", "zip", "tar"])
def test_kpfiles(tmp_path: Path, form: str) -> None:
    clips = [annotation(f"video {i}", i) for i in range(4)]
    make = {"folder": as_folder, "zip": as_zip, "tar": as_tar}[form]
    report, store = converted(make(kpfiles(clips), tmp_path / f"x.{form}"), tmp_path)
    assert store.names == ["video 0", "video 2", "video 1", "video 3"], "in the order of the kpfiles"
    assert report.splits == {"train": 2, "val": 2} and (report.layout, report.skipped) == ("coco", [])
    for number, clip in enumerate(store.names):
        wanted, scores, _ = decompress(clips[int(clip[-1])]["frame_inds"], clips[int(clip[-1])]["keypoint"], 0)
        assert (store.keypoints(number) == wanted).all() and (store.confidence(number) == scores).all()
        assert store.labels[number] == int(clip[-1])


def test_kpfiles_of_single_videos(tmp_path: Path) -> None:
    clips = [annotation(f"video{i}", i) for i in range(2)]
    members = kpfiles(clips)
    for n, clip in enumerate(clips):
        members[f"k400/kpfiles/{n}.pkl"] = pickle.dumps({})
        members[f"k400/kpfiles/{clip['frame_dir']}.pkl"] = pickle.dumps(
            clip["keypoint"] if n else {"keypoint": clip["keypoint"]}
        )
    assert converted(as_folder(members, tmp_path / "x"), tmp_path)[0].clips == 2


def test_missing_and_damaged_kpfiles_cost_their_own_recordings_only(tmp_path: Path) -> None:
    members = kpfiles([annotation(f"video {i}", i) for i in range(4)])
    members["k400/kpfiles/1.pkl"] = members["k400/kpfiles/1.pkl"][:-20]
    report, store = converted(as_folder(members, tmp_path / "x"), tmp_path)
    assert store.names == ["video 0", "video 2"]
    assert [name for name, _ in report.skipped] == ["video 1", "video 3"]
    assert all("none of the 2 kpfiles" in reason and "1.pkl" in reason for _, reason in report.skipped)


def test_kpfiles_without_annotations_are_refused(tmp_path: Path) -> None:
    members = kpfiles([annotation("a", 0)])
    members["k400/another.pkl"] = members["k400/k400_hrnet.pkl"]
    source = as_folder(members, tmp_path / "x")
    assert "pickles side by side are no data set" in refusal(source, tmp_path), "a folder of pickles is not Kinetics"
    assert "here are 2 at the top" in refusal(source, tmp_path, format="kinetics")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "a.pkl").write_bytes(members["k400/k400_hrnet.pkl"])
    message = refusal(tmp_path / "y", tmp_path, format="kinetics")
    assert "a folder with the kpfiles beside it" in message
    assert "no keypoint" in refusal(tmp_path / "y", tmp_path / "2"), (
        "as a PYSKL pickle: the reason says what is missing"
    )
