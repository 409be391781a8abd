"""`convert`: complete stores only, the same ones every time, and every failure in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from skag import convert as convert_module
from skag import parallel
from skag.convert import convert, present_bodies, without_gaps
from skag.errors import DataError
from skag.readers.label_names import read_names
from skag.readers.source import Skipped, Source
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore
from tests.helpers.recordings import as_folder, ntu_csv

ROOT = Path(__file__).parents[1]
UCLA = ROOT.parent / "shared" / "data" / "nw-ucla-raw.tar.gz"


def recordings(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for number in range(count):
        skeletons = np.random.default_rng(number).normal(size=(2, 20, 3)).tolist()
        text = json.dumps({"skeletons": skeletons, "label": 1})
        (folder / f"a01_s01_e{number:02}_v01.json").write_text(text)
    return folder


def test_the_same_recordings_give_the_same_store(tmp_path: Path) -> None:
    source, seen = recordings(tmp_path / "x"), []
    report = convert(
        source, tmp_path / "new" / "folder" / "a.h5", progress=lambda done, total: seen.append((done, total))
    )
    assert report == convert(source, tmp_path / "b.h5")
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with SkeletonStore(tmp_path / "new" / "folder" / "a.h5") as a, SkeletonStore(tmp_path / "b.h5") as b:
        assert a.fingerprint == b.fingerprint


def test_a_refused_source_leaves_the_old_store(tmp_path: Path) -> None:
    out = tmp_path / "data.h5"
    convert(recordings(tmp_path / "x"), out)
    before = out.read_bytes()
    (tmp_path / "x" / "a01_s01_e01_v01.json").write_text("{}")
    with pytest.raises(DataError):
        convert(tmp_path / "x", out, strict=True)
    with pytest.raises(DataError):
        convert(tmp_path / "absent", out)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.h5", "x"]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(recordings(tmp_path / "x"), tmp_path / "out.h5", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_several_processes_make_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(parallel, "ALONE", 4000)
    monkeypatch.setattr(parallel, "BATCH", 6000)
    source = recordings(tmp_path / "x", 30)
    (source / "a01_s01_e07_v01.json").write_text("{}")
    if kind != "folder":
        source = Path(shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path, "x"))
    seen: list[int] = []
    reports = [
        convert(source, tmp_path / f"{jobs}.h5", jobs=jobs, progress=lambda done, total: seen.append(done))
        for jobs in (1, 2)
    ]
    assert reports[0] == reports[1] and [name for name, _ in reports[0].skipped] == ["a01_s01_e07_v01.json"]
    assert seen == [*range(1, 31)] * 2
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_a_kill_leaves_no_store_under_the_final_name(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from skag.convert import convert\n"
        "def stop(done, total):\n"
        "    print(done, flush=True); time.sleep(60 if done == 2 else 0)\n"
        "convert(Path(sys.argv[1]), Path(sys.argv[2]), progress=stop)"
    )
    arguments = [sys.executable, "-c", code, recordings(tmp_path / "x"), tmp_path / "out.h5"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert [process.stdout.readline() for _ in range(2)] == [b"1\n", b"2\n"]
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    left = [path.name for path in tmp_path.iterdir() if path.name != "x"]
    assert left == [f".out.h5.{process.pid}.partial"]
    assert convert(tmp_path / "x", tmp_path / "out.h5").clips == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "x"]


def test_leftovers_of_others_are_not_touched(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    theirs = [
        f".data.h5.{os.getppid()}.partial",  # a process that is there
        f".other.h5.{gone.pid}.partial",  # of another store
        f".data.h5.{gone.pid}.partial.txt",
        ".data.h5.x.partial",
    ]
    for name in [*theirs, f".data.h5.{gone.pid}.partial", f".data.h5.{'9' * 18}.partial"]:
        (tmp_path / name).write_bytes(b"")
    with h5py.File(tmp_path / ".data.h5.99999999999.partial", "w"):  # locked, as by a process of another machine
        convert(recordings(tmp_path / "x"), tmp_path / "data.h5")
        there = {path.name for path in tmp_path.iterdir()}
    assert there == {*theirs, ".data.h5.99999999999.partial", "data.h5", "x"}


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    source = recordings(tmp_path / "x")
    file = source / "a01_s01_e00_v01.json"
    before = file.read_bytes()
    for out, said in [
        (file, "is the source itself"),
        (tmp_path / "x", "is a folder"),
        (file / "a.h5", "cannot be written"),
    ]:
        with pytest.raises(DataError, match=said):
            convert(file, out)
    assert file.read_bytes() == before
    (tmp_path / "link.json").symlink_to(file)
    with pytest.raises(DataError, match="is the source itself"):
        convert(file, tmp_path / "link.json")


def test_only_a_skeleton_store_is_replaced(tmp_path: Path) -> None:
    source, labels = as_folder({"a/1.csv": ntu_csv(), "b/1.csv": ntu_csv()}, tmp_path / "x"), tmp_path / "labels.csv"
    labels.write_text("file,label\na/1,walk\nb/1,sit\n")
    others = h5py.File(tmp_path / "others.h5", "w")
    others.close()
    for out in (labels, source / "a" / "1.csv", tmp_path / "others.h5"):
        before = out.read_bytes()
        for given in (out, linked(out)):
            with pytest.raises(DataError, match="is there already and is no skeleton store: choose another name"):
                convert(source, given, labels=labels)
        assert out.read_bytes() == before
    for _ in range(2):
        assert convert(source, source / "own.h5", labels=labels).clips == 2


def linked(path: Path) -> Path:
    link = path.with_name(f"link-to-{path.stem}.h5")
    link.symlink_to(path)
    return link


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_leave_to_write(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(DataError, match="Permission denied"):
        convert(recordings(tmp_path / "x"), tmp_path / "locked" / "a.h5")


def test_names_are_made_printable_and_stay_distinct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.ones((1, 1, 20, 3), "f4")
    names = ["ok", "tab\there", "[red]markup[/red]", "\ud800", "x" * 300, "ok"]
    items = [Clip(name, 0, points) for name in names] + [Skipped("bad\x1b[0m", "for\nno reason")]
    source = Source(load_layout("kinect-v1"), ["one"], iter(items))
    monkeypatch.setattr(convert_module, "open_source", lambda *_, **__: source)
    report = convert(tmp_path / "any", tmp_path / "out.h5")
    with SkeletonStore(tmp_path / "out.h5") as store:
        assert store.names[:4] == ["ok", "tab\ufffdhere", "[red]markup[/red]", "\ufffd"] and len(store.names[4]) == 255
    assert report.skipped == [("ok", "has the name of a recording before it"), ("bad\ufffd[0m", "for\ufffdno reason")]


def test_gaps_become_missing_joints() -> None:
    points, scores = np.ones((1, 2, 3, 2)), np.ones((1, 2, 3))
    assert without_gaps(Clip("a", 0, points, scores))[1] is False
    points[0, 0, 0, 0], points[0, 0, 1, 1], scores[0, 1, 2] = np.nan, 1e39, np.inf
    clip, mended = without_gaps(Clip("a", 0, points, scores))
    assert mended and clip.keypoints.dtype == clip.confidence.dtype == np.float32
    assert clip.keypoints[..., 0].tolist() == clip.keypoints[..., 1].tolist() == [[[0, 0, 1], [1, 1, 0]]]
    assert clip.confidence.tolist() == [[[0, 0, 1], [1, 1, 0]]]


def test_present_bodies_keeps_the_order_of_those_there() -> None:
    points = np.arange(4, dtype="f4").reshape(4, 1, 1, 1)
    clip = present_bodies(Clip("a", 0, points, points[..., 0] + 5))
    assert clip.keypoints.ravel().tolist() == [1, 2, 3] and clip.confidence.ravel().tolist() == [6, 7, 8]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"a\n\nb\n", "line 2: no class name"),
        (b"a\nb\na\n", "line 3: 'a' is on line 1 already"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a\x1b[0m\n", "line 1: no class name"),
        (None, "No such file"),
    ],
)
def test_class_name_files_that_would_shift_labels_are_refused(tmp_path: Path, text: bytes | None, said: str) -> None:
    path = tmp_path / "names.txt"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(DataError, match=said):
        read_names(path)


def test_class_names_are_lines(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("\ufeff# source\r\n walk \r\n#1 fan\r\nSprünge\r\n\r\n".encode())
    assert read_names(tmp_path / "names.txt") == ["walk", "#1 fan", "Sprünge"]


@pytest.mark.skipif(not UCLA.exists(), reason="the NW-UCLA recordings are not here")
@pytest.mark.long
def test_nw_ucla_real(tmp_path: Path) -> None:
    report = convert(UCLA, tmp_path / "data.h5")
    assert (report.clips, report.skipped, report.notes) == (1484, [], [])
    assert report.splits == {"xview_train": 1020, "xview_test": 464}
    assert (report.layout, report.joints, report.bodies, len(report.classes)) == ("kinect-v1", 20, 1, 10)
    with SkeletonStore(tmp_path / "data.h5") as store:
        assert store.names == sorted(store.names)
        assert np.bincount(store.cameras).tolist() == [0, 516, 504, 464]
        assert set(store.cameras[store.splits["xview_test"]]) == {3}
        assert set(store.cameras[store.splits["xview_train"]]) == {1, 2}
        assert (np.median(store.frames), store.frames.max()) == (31, 201)
        short = {name: frames for name, frames in zip(store.names, store.frames, strict=True) if frames < 7}
        assert short["a02_s09_e04_v02"] == short["a02_s09_e04_v03"] == 1 and sorted(short.values()) == [1, 1, 6, 6]
        assert sorted(set(store.subjects)) == list(range(1, 11))
        actions = [int(name[1:3]) for name in store.names]
        assert sorted(set(zip(actions, store.labels.tolist(), strict=True))) == list(
            zip((1, 2, 3, 4, 5, 6, 8, 9, 11, 12), range(10), strict=True)
        )
