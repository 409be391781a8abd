"""An odd recording is named beside the training clips, and an honest one of the same set is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skag.convert import convert
from skag.inference.recordings import Failure, cleaned, each_recording
from skag.skeleton.layouts import load_layout
from skag.skeleton.profile import compare, profile_of
from skag.skeleton.store import Clip, SkeletonStore, write_store
from tests.helpers.recordings import DATA, case, real

MEDIAPIPE = load_layout("mediapipe-33")


def clip_of(store: SkeletonStore, number: int) -> Clip:
    rate = store.frame_rate(number)
    return Clip(store.names[number], 0, store.keypoints(number), store.confidence(number), frame_rate=rate)


def read(path: Path) -> Clip:
    (recording,) = each_recording([path], MEDIAPIPE)
    assert not isinstance(recording, Failure)
    return cleaned(recording.clip, MEDIAPIPE)


def people(clip: Clip, count: int = 40) -> list[Clip]:
    """The same movement by others: of another size, at another place and pace, with noise."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        frames = np.linspace(0, clip.keypoints.shape[1] - 1, int(rng.integers(30, 60))).astype(int)
        keypoints = clip.keypoints[:, frames] * rng.uniform(0.8, 1.25) + rng.uniform(-0.1, 0.1, 3)
        keypoints = (keypoints + rng.normal(0, 0.003, keypoints.shape)).astype(np.float32)
        made.append(replace(clip, name=f"p{number}", label=0, keypoints=keypoints, confidence=None, splits=("train",)))
    return made


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("profile") / "data.h5"
    with write_store(path, MEDIAPIPE) as writer:
        for clip in people(read(case("norm.csv"))):
            writer.add(clip)
        writer.finish(["squat"])
    with SkeletonStore(path) as store:
        return json.loads(json.dumps(profile_of(store, store.splits["train"])))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("norm.csv", []),
        ("pixel.csv", ["in pixels or another unit"]),
        ("y_up.csv", ["is upside down: its body stands along y, those of the training clips along -y"]),
        ("minus1.csv", [" % of its joints; the training clips lack 0 % at most"]),
    ],
)
def test_one_squat_four_ways(profile: dict, name: str, words: list[str]) -> None:
    remarks = compare(profile, read(case(name)), MEDIAPIPE)
    assert len(remarks) >= len(words) and bool(remarks) == bool(words)
    assert all(any(word in remark for remark in remarks) for word in words)
    assert all("\n" not in remark for remark in remarks)


def test_one_frame_and_no_motion_and_a_long_one(profile: dict) -> None:
    clip = read(case("norm.csv"))
    one = replace(clip, keypoints=clip.keypoints[:, :1], confidence=None)
    assert compare(profile, one, MEDIAPIPE) == ["has one frame, so that no motion can be seen"]
    still = replace(clip, keypoints=np.repeat(clip.keypoints[:, :1], 40, axis=1), confidence=None)
    assert compare(profile, still, MEDIAPIPE) == ["hardly moves: no training clip is as still"]
    long = replace(clip, keypoints=np.tile(clip.keypoints, (1, 10, 1, 1)), confidence=None)
    (remark,) = compare(profile, long, MEDIAPIPE)
    assert remark.startswith("lasts 400 frames; the training clips last 3")
    assert compare(profile, replace(clip, keypoints=0 * clip.keypoints), MEDIAPIPE) == ["has no joint in any frame"]


def test_another_body_and_another_axis(profile: dict) -> None:
    clip = read(case("norm.csv"))
    mixed = replace(clip, keypoints=clip.keypoints[:, :, np.random.default_rng(1).permutation(33)])
    assert any("other proportions" in remark for remark in compare(profile, mixed, MEDIAPIPE))
    lying = replace(clip, keypoints=clip.keypoints[..., [1, 0, 2]])
    assert any("stands along another axis" in remark for remark in compare(profile, lying, MEDIAPIPE))


def test_an_empty_split_says_nothing(tmp_path: Path) -> None:
    with write_store(tmp_path / "d.h5", MEDIAPIPE) as writer:
        writer.add(replace(read(case("norm.csv")), label=0, splits=("test",)))
        writer.finish(["squat"], {})
    with SkeletonStore(tmp_path / "d.h5") as store:
        store.splits["train"] = np.array([], int)
        assert compare(profile_of(store, store.splits["train"]), clip_of(store, 0), MEDIAPIPE) == []


@pytest.mark.parametrize(
    "name", [pytest.param("nw-ucla-raw.tar.gz", marks=pytest.mark.long), "utkinect-raw.tar.gz", "sbu-raw.tar.gz"]
)
def test_honest_recordings_of_the_same_set_have_no_remark(name: str, tmp_path: Path) -> None:
    """Other cameras, people and pairs of them; 98 % and more."""
    convert(real(name), tmp_path / "data.h5")
    with SkeletonStore(tmp_path / "data.h5") as store:
        train, test = next(iter(store.protocols().values()))
        profile = profile_of(store, store.splits[train])
        assert len(json.dumps(profile)) < 4000
        numbers = store.splits[test].tolist()
        free = sum(not compare(profile, clip_of(store, number), store.layout) for number in numbers)
        assert free >= 0.98 * len(numbers)
        scaled = replace(clip_of(store, numbers[0]), keypoints=1000 * store.keypoints(numbers[0]))
        assert compare(profile, scaled, store.layout)


@pytest.mark.skipif(not DATA.exists(), reason="the recordings are not here")
def test_signers_in_pixels_beside_each_other(tmp_path: Path) -> None:
    convert(real("wlasl-pyskl-annotations.pkl"), tmp_path / "data.h5")
    with SkeletonStore(tmp_path / "data.h5") as store:
        store.splits["odd"], store.splits["even"] = np.arange(1, len(store), 2), np.arange(0, len(store), 2)
        profile = profile_of(store, store.splits["odd"])
        remarks = [compare(profile, clip_of(store, number), store.layout) for number in store.splits["even"].tolist()]
        assert sum(not each for each in remarks) >= 0.98 * len(remarks)
        clip = clip_of(store, 0)
        normalised = replace(clip, keypoints=clip.keypoints / 1000)
        assert any("normalised" in remark for remark in compare(profile, normalised, store.layout))
