"""The discriminant of measured motion: what it learns, how sure it is, and how it joins a network's opinion."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from skag import runs
from skag.errors import RunError
from skag.inference import discriminant
from skag.inference.discriminant import KinematicDiscriminant, fit, multiply
from skag.inference.predict import Batch
from skag.skeleton.kinematics import Anatomy, Recordings, Viewpoint, clip_attributes
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import UNKNOWN, Clip, SkeletonStore, write_store

from .helpers.tiny import CLASSES, tiny_clip


def make(path: Path, labels: list[int], classes: list[str], subjects: list[int] | None = None) -> SkeletonStore:
    rng, layout = np.random.default_rng(1), load_layout("kinect-v1")
    with write_store(path, layout) as writer:
        for number, label in enumerate(labels):
            subject = subjects[number] if subjects else UNKNOWN
            writer.add(Clip(str(number), label, tiny_clip(label, rng), subject=subject, splits=("train",)))
        writer.finish(classes)
    return SkeletonStore(path)


def right(found: np.ndarray, labels: np.ndarray) -> float:
    return float((found.argmax(1) == labels).mean())


def test_it_tells_classes_apart_that_a_person_it_has_not_seen_acts(tiny_store: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        train, test = store.splits["xsub_train"], store.splits["xsub_test"]
        found = fit(store, train).probabilities(store, test, store.layout)
        assert found.shape == (16, 4) and right(found, store.labels[test]) == 1
        np.testing.assert_allclose(found.sum(1), 1)


def test_it_is_as_sure_as_it_is_right(tiny_store: Path) -> None:
    """Clips whose labels say nothing leave it unsure, however well it can learn them by heart."""
    with SkeletonStore(tiny_store) as store:
        train, test = store.splits["xsub_train"], store.splits["xsub_test"]
        sure = fit(store, train).probabilities(store, test, store.layout).max(1)
        store.labels[train] = np.random.default_rng(0).integers(0, 4, len(train))
        unsure = fit(store, train).probabilities(store, test, store.layout).max(1)
    assert sure.mean() > 0.8 and unsure.mean() < 0.5


def test_the_temperature_is_the_likeliest() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 4000)
    logits = rng.normal(0, 1, (4000, 3)) + 2 * np.eye(3)[labels]
    found = discriminant._temperature(logits, labels)
    assert discriminant._temperature(5 * logits, labels) == pytest.approx(5 * found, rel=1e-3)

    def loss(temperature: float) -> float:
        return -np.log(discriminant._softmax(logits / temperature)[np.arange(4000), labels]).mean()

    assert loss(found) < min(loss(0.9 * found), loss(1.1 * found))


def test_where_nothing_was_left_out_it_says_nothing() -> None:
    assert discriminant._temperature(np.zeros((0, 2)), np.zeros(0, int)) == np.inf


def test_few_clips_that_are_all_right_are_no_certainty() -> None:
    """Of n clips at least one in n + 2 counts as wrong."""
    for count in (8, 80, 800):
        labels = np.arange(count) % 2
        found = discriminant._temperature(300.0 * np.eye(2)[labels], labels)
        assert discriminant._softmax(np.array([[300.0, 0]]) / found)[0, 1] == pytest.approx(1 / (count + 2), rel=0.01)


@pytest.mark.parametrize("subjects", [None, [n % 4 for n in range(24)], [n % 3 for n in range(24)]])
def test_two_classes_and_recordings_without_people(tmp_path: Path, subjects: list[int] | None) -> None:
    labels = [0, 1] * 12
    with make(tmp_path / "two.h5", labels, CLASSES[:2], subjects) as store:
        model = fit(store, np.arange(16))
        found = model.probabilities(store, np.arange(16, 24), store.layout)
        assert right(found, np.array(labels[16:])) == 1 and found[0, 0] == pytest.approx(1 - found[0, 1])


def test_a_class_without_clips_is_told(tmp_path: Path) -> None:
    with (
        make(tmp_path / "few.h5", [0, 0, 0, 1, 1, 2], CLASSES[:3]) as store,
        pytest.raises(RunError, match="'raise left hand' has 1 training clips, too few"),
    ):
        fit(store, np.arange(6))


def test_a_class_that_one_person_alone_acts(tmp_path: Path) -> None:
    """Where that person is left out it cannot be told, and does not count."""
    labels, subjects = [0, 1, 0, 1, 0, 1, 2, 2], [0, 0, 1, 1, 2, 2, 2, 2]
    with make(tmp_path / "one.h5", labels * 2, CLASSES[:3], subjects * 2) as store:
        model = fit(store, np.arange(16))
        found = model.probabilities(store, np.arange(16), store.layout)
        assert np.isfinite(model.temperature) and right(found, np.array(labels * 2)) == 1


def test_it_does_not_look_at_how_long_a_clip_is(tiny_store: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        everything = clip_attributes(Viewpoint(store, Anatomy(store.layout), np.arange(9)), np.arange(9))
        measured = discriminant._motion(Viewpoint(store, Anatomy(store.layout), np.arange(9)), np.arange(9))
        durations = np.log([store.keypoints(number).shape[1] for number in range(9)])
    (left_out,) = np.flatnonzero(np.isclose(everything, durations[:, None]).all(0))
    np.testing.assert_array_equal(np.delete(everything, left_out, 1), measured)


def test_classes_of_different_people(tmp_path: Path) -> None:
    """The first person, who alone acts one class, takes it along when left out; the others say how sure it may be."""
    with make(tmp_path / "own.h5", [0, 1, 1, 1, 0, 1] * 3, CLASSES[:2], [0, 0, 1, 2, 0, 1] * 3) as store:
        found = fit(store, np.arange(18)).probabilities(store, np.arange(6), store.layout)
    assert found.max(1).min() > 0.8


class Blind(Recordings):
    """One recording in which no joint was seen."""

    cameras = np.array([UNKNOWN])

    def keypoints(self, number: int) -> np.ndarray:
        return np.zeros((1, 5, 20, 3), np.float32)

    def confidence(self, number: int) -> None:
        return None


def test_it_says_nothing_of_a_clip_without_joints(tiny_store: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        found = fit(store, store.splits["xsub_train"]).probabilities(Blind(), np.array([0]), store.layout)
    np.testing.assert_allclose(found, 0.25)


def test_opinions_are_multiplied() -> None:
    found = multiply(np.array([[0.5, 0.3, 0.2]], np.float32), np.array([[0.2, 0.6, 0.2]]))
    np.testing.assert_allclose(found, [[0.1 / 0.32, 0.18 / 0.32, 0.04 / 0.32]], rtol=1e-6)
    certain = np.array([[1.0, 0.0]])
    np.testing.assert_allclose(multiply(certain, certain[:, ::-1]), 0.5)  # none is believed beyond doubt


def test_it_is_fitted_once_and_kept_with_the_run(tiny_store: Path, tmp_path: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        train = store.splits["xsub_train"]
        source = {"store": str(tiny_store), "fingerprint": store.fingerprint, "training": train.tolist()}
        runs.write_json(tmp_path / runs.DATA, source)
        runs.write_json(tmp_path / runs.CONFIG, {"classes": store.classes})
        made = discriminant.of_run(tmp_path)  # finds its store
        kept = discriminant.of_run(tmp_path, None)
        for field in dataclasses.fields(KinematicDiscriminant):
            np.testing.assert_array_equal(getattr(made, field.name), getattr(kept, field.name))
        assert isinstance(kept.temperature, float) and isinstance(kept.fingerprint, str)
        wanted = fit(store, train).probabilities(store, np.arange(5), store.layout)
        np.testing.assert_allclose(kept.probabilities(store, np.arange(5), store.layout), wanted)
        path = tmp_path / discriminant.FILE
        whole = path.read_bytes()
        np.savez(tmp_path / "other.npz", **vars(kept) | {"offsets": np.zeros(3)})
        for damaged in (whole[:500], (tmp_path / "other.npz").read_bytes()):
            path.write_bytes(damaged)
            with pytest.raises(RunError, match="is damaged"):
                discriminant.of_run(tmp_path)
        path.unlink()
        for other in ({"store": str(tmp_path / "gone.h5")}, {"training": [1, 10**6]}, {"training": None}):
            runs.write_json(tmp_path / runs.DATA, source | other)
            with pytest.raises(RunError, match="give the store of the training with --data"):
                discriminant.of_run(tmp_path)
        runs.write_json(tmp_path / runs.DATA, source | {"store": str(tmp_path / "gone.h5")})
        again = discriminant.of_run(tmp_path, store)
        assert again.identity() == made.identity() != dataclasses.replace(made, temperature=1.0).identity()


def test_speeds_are_those_of_a_second_where_rates_are_known(tiny_store: Path) -> None:
    """With one rate throughout nothing changes; a clip of unknown rate counts as of the usual one, and another rate
    is another speed."""
    with SkeletonStore(tiny_store) as store:
        train, number = store.splits["xsub_train"], int(store.splits["xsub_test"][3])
        per_frame = fit(store, train)
        store.frame_rates = np.full(len(store), 30.0)
        found = fit(store, train)
        assert found.rate == 30 and np.isnan(per_frame.rate)
        clips = [Clip("a", 0, store.keypoints(number), frame_rate=rate) for rate in (30.0, None, 15.0)]
        known, unknown, slow = found.probabilities(Batch(clips, store.layout), np.arange(3), store.layout)
        np.testing.assert_allclose(
            known, per_frame.probabilities(store, np.array([number]), store.layout)[0], rtol=1e-6
        )
    np.testing.assert_array_equal(known, unknown)
    assert not np.allclose(known, slow)
