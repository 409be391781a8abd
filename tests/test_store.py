"""The skeleton store gives back what was written, and its fingerprint tells any two contents apart."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skag.errors import DataError
from skag.skeleton import store as store_module
from skag.skeleton.layouts import Layout, load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store

ROOT = Path(__file__).parents[1]
TINY = Layout("tiny", 2, ("a", "b", "c"), {"b": "a", "c": "b"}, "a", {"all": ("a", "b", "c")})
NUMBERS = st.floats(width=32, allow_nan=False)
NAMES = st.text(st.characters(exclude_categories=["Cs"]))


def write(path: Path, clips: list[Clip], classes: tuple[str, ...] = ("x", "y"), layout: Layout = TINY) -> str:
    with write_store(path, layout) as writer:
        for clip in clips:
            writer.add(clip)
        writer.finish(classes)
    with SkeletonStore(path) as store:
        return store.fingerprint


@st.composite
def clip_lists(draw: st.DrawFn) -> list[Clip]:
    with_confidence = draw(st.booleans())
    clips = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=5, unique=True)):
        bodies, frames = draw(st.integers(1, 3)), draw(st.integers(1, 4))
        clips.append(
            Clip(
                name,
                draw(st.integers(0, 1)),
                draw(hnp.arrays("f4", (bodies, frames, 3, 2), elements=NUMBERS)),
                draw(hnp.arrays("f4", (bodies, frames, 3), elements=NUMBERS)) if with_confidence else None,
                *(draw(st.integers(-1, 99)) for _ in range(3)),
                splits=tuple(draw(st.sets(st.sampled_from(["train", "val", "xsub_train", "xsub_test"])))),
                width=draw(st.integers(-1, 2000)),
                height=draw(st.integers(-1, 2000)),
            )
        )
    return clips


@pytest.mark.parametrize("copied", [1, 1 << 16])
def test_everything_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: int) -> None:
    monkeypatch.setattr(store_module, "_COPIED", copied)
    path = tmp_path / "data.h5"

    @settings(deadline=None, max_examples=25)
    @given(clip_lists(), st.lists(NAMES))
    def check(clips: list[Clip], classes: list[str]) -> None:
        fingerprint = write(path, clips, tuple(classes))
        assert fingerprint == write(path, clips, tuple(classes))
        with SkeletonStore(path) as store:
            assert (store.layout, store.classes, len(store)) == (TINY, classes, len(clips))
            assert store.names == [clip.name for clip in clips]
            for number, clip in enumerate(clips):
                assert store.keypoints(number).tobytes() == clip.keypoints.tobytes()
                assert store.keypoints(number).shape == clip.keypoints.shape
                back = store.confidence(number)
                assert (back is None) == (clip.confidence is None)
                assert back is None or back.tobytes() == clip.confidence.tobytes()
                facts = (store.labels, store.subjects, store.cameras, store.setups, store.bodies, store.frames)
                assert [fact[number] for fact in facts] == [
                    clip.label, clip.subject, clip.camera, clip.setup, *clip.keypoints.shape[:2],
                ]  # fmt: skip
                assert (store.widths[number], store.heights[number]) == (clip.width, clip.height)
            for split in {split for clip in clips for split in clip.splits}:
                assert store.splits[split].tolist() == [i for i, clip in enumerate(clips) if split in clip.splits]

    check()


def one_clip(**changes: object) -> Clip:
    points = np.arange(12, dtype="f4").reshape(1, 2, 3, 2)
    return replace(Clip("one", 0, points, points[..., 0], 1, 2, 3, ("train",)), **changes)


def moved(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[-1] += 1
    return array


CHANGES: dict[str, Callable[[], tuple]] = {
    "a key point": lambda: ([one_clip(keypoints=moved(one_clip().keypoints))],),
    "a confidence": lambda: ([one_clip(confidence=moved(one_clip().confidence))],),
    "no confidence": lambda: ([one_clip(confidence=None)],),
    "the label": lambda: ([one_clip(label=1)],),
    "the name": lambda: ([one_clip(name="two")],),
    "the subject": lambda: ([one_clip(subject=5)],),
    "the camera": lambda: ([one_clip(camera=5)],),
    "the setup": lambda: ([one_clip(setup=5)],),
    "the split": lambda: ([one_clip(splits=("val",))],),
    "frames become bodies": lambda: (
        [
            one_clip(
                keypoints=one_clip().keypoints.reshape(2, 1, 3, 2), confidence=one_clip().confidence.reshape(2, 1, 3)
            )
        ],
    ),
    "one clip more": lambda: ([one_clip(), one_clip(name="two")],),
    "a class name": lambda: ([one_clip()], ("x", "z")),
    "the layout": lambda: ([one_clip()], ("x", "y"), replace(TINY, centre="b")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_changes_with(tmp_path: Path, change: str) -> None:
    before = write(tmp_path / "a.h5", [one_clip()])
    assert write(tmp_path / "b.h5", *CHANGES[change]()) != before


def test_the_fingerprint_is_of_values_not_of_their_types(tmp_path: Path) -> None:
    before = write(tmp_path / "a.h5", [one_clip()])
    same = one_clip(label=np.int64(0), subject=np.int32(1), keypoints=one_clip().keypoints.astype("f8"))
    assert write(tmp_path / "b.h5", [same]) == before


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (1, 2, 4, 2), (0, 2, 3, 2), (1, 0, 3, 2), (2, 3, 2)], ids=str)
def test_arrays_that_do_not_fit_are_refused_and_leave_no_trace(tmp_path: Path, shape: tuple[int, ...]) -> None:
    plain = write(tmp_path / "a.h5", [one_clip()])
    with write_store(tmp_path / "b.h5", TINY) as writer:
        with pytest.raises(DataError, match="'bad'"):
            writer.add(one_clip(name="bad", keypoints=np.zeros(shape, "f4")))
        writer.add(one_clip())
        with pytest.raises(DataError, match="'bad'"):
            writer.add(one_clip(name="bad", confidence=np.zeros((1, 1, 3), "f4")))
        with pytest.raises(DataError, match="confidence"):
            writer.add(one_clip(name="bad", confidence=None))
        writer.finish(("x", "y"))
    with SkeletonStore(tmp_path / "b.h5") as store:
        assert store.fingerprint == plain and store.names == ["one"]


def test_a_failed_conversion_leaves_the_old_store(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    before = write(path, [one_clip()])
    with pytest.raises(RuntimeError), write_store(path, TINY) as writer:
        writer.add(one_clip(name="new"))
        raise RuntimeError
    assert [file.name for file in tmp_path.iterdir()] == ["data.h5"]
    with SkeletonStore(path) as store:
        assert store.fingerprint == before


def test_no_handle_per_clip(tmp_path: Path) -> None:
    """Many clips, few HDF5 objects."""
    write(tmp_path / "data.h5", [one_clip(name=f"clip {i}") for i in range(500)])
    found: list[str] = []
    with h5py.File(tmp_path / "data.h5") as file:
        file.visit(found.append)
    assert len(found) < 20


@pytest.mark.parametrize(
    ("splits", "protocols"),
    [
        (("train", "val"), {"default": ("train", "val")}),
        (("xsub_train", "xsub_val"), {"xsub": ("xsub_train", "xsub_val")}),
        (("xview_train", "xview_test"), {"xview": ("xview_train", "xview_test")}),
        (("train", "test", "val"), {"default": ("train", "test")}),
        (("train",), {}),
        (("constrain", "constrain_val"), {}),
        (("a_train", "a_val", "b_train", "b_val"), {"a": ("a_train", "a_val"), "b": ("b_train", "b_val")}),
    ],
)
def test_protocols_are_found_by_split_names(tmp_path: Path, splits: tuple[str, ...], protocols: dict) -> None:
    write(tmp_path / "data.h5", [one_clip(splits=splits)])
    with SkeletonStore(tmp_path / "data.h5") as store:
        assert store.protocols() == protocols
        for name, pair in protocols.items():
            assert store.protocol(name) == pair
        if len(protocols) == 1:
            assert store.protocol() in protocols.values()
        else:
            with pytest.raises(DataError, match="--protocol"):
                store.protocol()
        with pytest.raises(DataError, match="'nonsense'"):
            store.protocol("nonsense")


def test_what_is_no_store_is_refused_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="skag convert"):
        SkeletonStore(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(DataError, match="no readable HDF5 file"):
        SkeletonStore(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    with pytest.raises(DataError, match="no skeleton store"):
        SkeletonStore(tmp_path / "other.h5")
    write(tmp_path / "newer.h5", [one_clip()])
    with h5py.File(tmp_path / "newer.h5", "a") as file:
        file.attrs["version"] = 99
    with pytest.raises(DataError, match="update skag"):
        SkeletonStore(tmp_path / "newer.h5")


def test_a_store_with_parts_missing_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "data.h5", [one_clip()])
    with h5py.File(tmp_path / "data.h5", "a") as file:
        del file["splits"]
    with pytest.raises(DataError):
        SkeletonStore(tmp_path / "data.h5")


def test_a_name_that_is_no_text_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    with write_store(tmp_path / "data.h5", TINY) as writer:
        with pytest.raises(DataError):
            writer.add(one_clip(name="\ud800"))
        writer.add(one_clip())
        writer.finish(("x", "y"))
    with SkeletonStore(tmp_path / "data.h5") as store:
        assert store.names == ["one"] and len(store) == 1


def test_real_layouts_survive_the_store(tmp_path: Path) -> None:
    layout = load_layout("nturgb+d")
    write(tmp_path / "data.h5", [Clip("a", 0, np.zeros((1, 1, 25, 3), "f4"))], layout=layout)
    with SkeletonStore(tmp_path / "data.h5") as store:
        assert store.layout == layout


def test_a_store_of_version_1_knows_no_image_size(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    write(path, [one_clip(width=640, height=480)])
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 1
        del file["clips/width"], file["clips/height"]
    with SkeletonStore(path) as store:
        assert (store.widths.tolist(), store.heights.tolist()) == ([-1], [-1])
        assert store.subjects.tolist() == [1]


def test_forked_and_started_processes_open_the_file_anew(tmp_path: Path) -> None:
    """Two forked processes and their parent read at the same time, each another clip again and again."""
    rng = np.random.default_rng(0)
    clips = [Clip(f"{n}", 0, rng.normal(size=(1, 50, 3, 2)).astype("f4")) for n in range(40)]
    write(tmp_path / "data.h5", clips)
    code = (
        "import os, sys; from skag.skeleton.store import SkeletonStore\n"
        "store = SkeletonStore(sys.argv[1]); right = [store.keypoints(n).tobytes() for n in range(40)]\n"
        "handle, children = store._file, []\n"
        "for _ in range(2):\n"
        "    if (child := os.fork()) == 0: break\n"
        "    children.append(child)\n"
        "for _ in range(20): assert [store.keypoints(n).tobytes() for n in range(40)] == right\n"
        "assert (store._file is handle) == bool(child)\n"
        "assert not child or all(os.waitpid(each, 0)[1] == 0 for each in children)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "data.h5"], check=True, cwd=ROOT)
    with SkeletonStore(tmp_path / "data.h5") as store, pickle.loads(pickle.dumps(store)) as sent:
        assert sent.keypoints(3).tobytes() == clips[3].keypoints.tobytes() and sent._file is not store._file


def test_stores_in_chunks_as_they_once_were_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    clips = [Clip(f"{n}", 0, np.full((1, 2 + n, 3, 2), n, "f4"), np.full((1, 2 + n, 3), n, "f4")) for n in range(5)]
    write(path, clips)
    with h5py.File(path, "r+") as file:
        for name in ("keypoints", "confidence"):
            assert file[name].chunks is None
            rows = file[name][:]
            del file[name]
            file.create_dataset(name, data=rows, chunks=(4, *rows.shape[1:]), maxshape=(None, *rows.shape[1:]))
    with SkeletonStore(path) as store:
        for number, clip in enumerate(clips):
            assert (store.keypoints(number) == clip.keypoints).all()
            assert (store.confidence(number) == clip.confidence).all()


def of_two_clips(*rates: float | None) -> list[Clip]:
    one = Clip("one", 1, np.arange(24, dtype="f4").reshape(1, 4, 3, 2), subject=3, splits=("train",))
    two = Clip("two", 0, np.ones((2, 1, 3, 2), "f4"), width=640, height=480)
    return [replace(clip, frame_rate=rate) for clip, rate in zip((one, two), rates, strict=True)]


def test_frame_rates_come_back_and_leave_the_fingerprint_of_stores_without_as_it_was(tmp_path: Path) -> None:
    """The one given is what version 0.1.0 gave these clips."""
    without = write(tmp_path / "a.h5", of_two_clips(None, None))
    assert without == "0c5c95680dd0402fd7581f8ae6cb198f80677afaeba859a2630b85dc340e9843"
    with SkeletonStore(tmp_path / "a.h5") as store:
        assert [store.frame_rate(n) for n in range(2)] == [None, None]
    one, both = (write(tmp_path / f"{n}.h5", of_two_clips(30.0, rate)) for n, rate in enumerate((None, 12.5)))
    assert len({without, one, both}) == 3
    with SkeletonStore(tmp_path / "0.h5") as store, SkeletonStore(tmp_path / "1.h5") as other:
        assert [store.frame_rate(n) for n in range(2)] == [30.0, None]
        assert [other.frame_rate(n) for n in range(2)] == [30.0, 12.5]


@pytest.mark.parametrize("rate", [0.0, -30.0, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused(tmp_path: Path, rate: float) -> None:
    with pytest.raises(DataError, match="is no rate"):
        write(tmp_path / "data.h5", of_two_clips(30.0, rate))


def test_a_store_of_an_earlier_version_has_no_checksum_and_opens(tmp_path: Path) -> None:
    write(tmp_path / "new.h5", of_two_clips(None, None))
    assert store_module.is_as_written(tmp_path / "new.h5") is True
    (tmp_path / "old.h5").write_bytes((tmp_path / "new.h5").read_bytes()[512:])  # without HDF5's user block
    assert store_module.is_as_written(tmp_path / "old.h5") is None
    with SkeletonStore(tmp_path / "new.h5") as new, SkeletonStore(tmp_path / "old.h5") as old:
        assert old.fingerprint == new.fingerprint and old.names == ["one", "two"]
        assert np.array_equal(old.keypoints(0), new.keypoints(0))


def test_a_part_of_the_classes_is_a_store_of_its_own(tmp_path: Path) -> None:
    layout = load_layout("kinect-v1")
    rng = np.random.default_rng(0)
    clips = [
        Clip(
            f"clip{n}",
            label,
            rng.normal(size=(1, 3 + n, layout.num_joints, 3)).astype("f4"),
            subject=n,
            splits=("train" if n % 2 else "test",),
            frame_rate=30.0 if n == 4 else None,
        )
        for n, label in enumerate([0, 1, 2, 1, 2, -1])
    ]
    write(tmp_path / "d.h5", clips, ("x", "y", "z"), layout)
    with SkeletonStore(tmp_path / "d.h5") as store:
        part = store.of_classes(["z", "x"])
        assert len(part) == 3 and part.classes == ["z", "x"] and part.fingerprint == store.fingerprint
        assert part.names == ["clip0", "clip2", "clip4"] and part.labels.tolist() == [1, 0, 0]
        assert part.subjects.tolist() == [0, 2, 4] and part.frame_rate(2) == 30 and part.frame_rate(0) is None
        assert part.splits["train"].tolist() == [] and part.splits["test"].tolist() == [0, 1, 2]
        np.testing.assert_array_equal(part.keypoints(2), store.keypoints(4))
        assert pickle.loads(pickle.dumps(part)).names == part.names
        assert part.in_file(np.array([2, 0])).tolist() == [4, 0] and part.of_file(np.array([4, 3, 2])).tolist() == [
            2,
            1,
        ]
        assert store.in_file(np.array([2])).tolist() == store.of_file(np.array([2])).tolist() == [2]
        again = part.of_classes(["z"])
        assert again.names == ["clip2", "clip4"] and again.labels.tolist() == [0, 0]
        np.testing.assert_array_equal(again.keypoints(0), store.keypoints(2))
        assert store.classes == ["x", "y", "z"] and len(store) == 6 and len(store.names) == 6
        with pytest.raises(DataError, match=r"d.h5 has no class 'Z': did you mean 'z'\?"):
            store.of_classes(["Z"])
        with pytest.raises(DataError, match="a class is named twice"):
            store.of_classes(["z", "z"])
        wider = store.of_classes(["new", "z"], absent=True)
        assert wider.classes == ["new", "z"] and wider.labels.tolist() == [1, 1]
        assert pickle.loads(pickle.dumps(wider)).labels.tolist() == [1, 1]
        assert wider.cut_splits == {"train", "test"} and not store.of_classes(["x", "y", "z"]).cut_splits
