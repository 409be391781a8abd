"""Guessing formats, archives, and damaged input to every reader."""

from __future__ import annotations

import gzip
import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from skag.convert import open_source
from skag.readers import FORMATS, archives
from skag.skeleton.store import Clip
from tests.helpers.recordings import (
    ROOT,
    as_folder,
    as_tar,
    as_zip,
    converted,
    refusal,
    reversed_members,
    ucla_json,
    ucla_members,
)


def test_what_is_no_recording_is_refused_with_the_known_formats(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unknown").mkdir()
    (tmp_path / "unknown" / "notes.txt").write_text("hello")
    (tmp_path / "random.bin").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "random.pkl").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "nothing").write_bytes(b"")
    (tmp_path / "nothing.pkl").write_bytes(b"")
    (tmp_path / "x.json").write_bytes(b'{"label": 1}')
    for name, said in {
        "absent.tar.gz": "does not exist",
        "empty": "holds no files",
        "unknown": "(.txt 1: notes.txt)",
        "random.bin": "docs/formats.md",
        "random.pkl": "is no pickle",
        "nothing": "no reader recognises",
        "nothing.pkl": "is no pickle",
        "x.json": "no reader recognises",
        "a" * 300: "cannot be read",
    }.items():
        message = refusal(tmp_path / name, tmp_path / "made")
        assert said in message and name[:20] in message
    message = refusal(tmp_path / "x.json", tmp_path / "made", format="nw-ulca")
    assert "did you mean nw-ucla?" in message and "Known are st-gcn, pyskl, " in message
    assert 'x.json: has no "skeletons"' in refusal(tmp_path / "x.json", tmp_path / "made", format="nw-ucla")
    assert "holds no pickle" in refusal(tmp_path / "unknown", tmp_path / "made", format="pyskl")
    assert "holds no recordings" in refusal(tmp_path / "unknown", tmp_path / "made", format="nw-ucla")


def test_a_named_pipe_does_not_make_it_wait(tmp_path: Path) -> None:
    folder = as_folder(ucla_members(), tmp_path / "folder")
    os.mkfifo(folder / "a01_s09_e00_v01.json")
    assert converted(folder, tmp_path)[0].clips == 9
    assert "neither file nor folder" in refusal(folder / "a01_s09_e00_v01.json", tmp_path / "pipe")


def test_hidden_files_of_desktops_are_ignored(tmp_path: Path) -> None:
    extra = {"__MACOSX/all_sqe/._a01_s01_e00_v01.json": b"x", "all_sqe/._a01_s01_e00_v01.json": b"x", ".DS_Store": b"x"}
    report, _ = converted(as_tar({**ucla_members(), **extra}, tmp_path / "x.tar.gz"), tmp_path)
    assert (report.clips, report.skipped) == (9, [])


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_truncated_tar_says_after_how_many(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    members = {
        f"a01_s01_e{i:02}_v01.json": ucla_json(skeletons=rng.normal(size=(40, 20, 3)).tolist()) for i in range(20)
    }
    data = as_tar(members, tmp_path / "whole", mode).read_bytes()
    for share in (0.2, 0.6, 0.9):
        (tmp_path / "cut").write_bytes(data[: int(len(data) * share)])
        message = refusal(tmp_path / "cut", tmp_path / "made")
        after = int(message.split("truncated after ")[1].split(" ")[0])
        assert message.endswith("recordings; copy it again.") and abs(after - 20 * share) <= (12 if "b" in mode else 2)


def test_a_plain_tar_cut_between_two_members_is_truncated(tmp_path: Path) -> None:
    data = as_tar({"a01_s01_e00_v01.json": ucla_json()}, tmp_path / "x.tar", "w").read_bytes()
    end = 512 + -(-len(ucla_json()) // 512) * 512
    (tmp_path / "x.tar").write_bytes(data[:end])
    assert "truncated after 1 recording;" in refusal(tmp_path / "x.tar", tmp_path / "made")


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    members = {f"a01_s01_e0{i}_v01.json": ucla_json() for i in range(3)}
    data = bytearray(as_tar(members, tmp_path / "x.tar", "w").read_bytes())
    at = data.index(b"a01_s01_e02")
    data[at : at + 100] = b"\xff" * 100
    (tmp_path / "x.tar").write_bytes(data)
    assert "damaged after 2 recordings" in refusal(tmp_path / "x.tar", tmp_path / "made")


def test_truncated_and_odd_archives(tmp_path: Path) -> None:
    data = as_zip(ucla_members(), tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(data[:-50])
    assert "damaged or truncated zip" in refusal(tmp_path / "x.zip", tmp_path / "made")
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(ucla_json()))
    assert "x.json: is not named aAA_sSS" in refusal(tmp_path / "x.json.gz", tmp_path / "made"), "a packed text file"
    (tmp_path / "x.gz").write_bytes(gzip.compress(ucla_json()))
    assert "holds no tar archive" in refusal(tmp_path / "x.gz", tmp_path / "made")
    (tmp_path / "none.tar").write_bytes(as_tar({}, tmp_path / "none.tar", "w").read_bytes())
    assert refusal(tmp_path / "none.tar", tmp_path / "made")


def test_a_damaged_member_of_a_zip_is_left_out(tmp_path: Path) -> None:
    path = as_zip(ucla_members(), tmp_path / "x.zip", zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"skeletons") + 50] ^= 1
    path.write_bytes(data)
    report, _ = converted(path, tmp_path)
    assert report.clips == 8 and "damaged in the archive" in report.skipped[0][1]


def test_zip_members_that_unpack_without_bounds_are_left_out(tmp_path: Path) -> None:
    path = as_zip({"a01_s01_e00_v01.json": ucla_json()}, tmp_path / "x.zip", zipfile.ZIP_BZIP2)
    assert "other than deflate" in refusal(path, tmp_path)


BOMB_TEST = """
import resource, sys
from pathlib import Path
from skag.convert import convert
from skag.errors import DataError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
except DataError as error:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, error)
"""


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_bombs_do_not_explode(tmp_path: Path, form: str) -> None:
    """300 MiB of blanks in 0.3 MiB: refused, in little memory."""
    name, size = "a01_s01_e00_v01.json", 60 << 20
    members = {f"{i}/{name}": b" " * size for i in range(5)}
    path = as_tar(members, tmp_path / "x.tar.gz") if form == "tar.gz" else as_zip(members, tmp_path / "x.zip")
    done = subprocess.run(
        [sys.executable, "-c", BOMB_TEST, path, tmp_path / "data.h5"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    grown, _, message = done.stdout.partition(" ")
    assert "expands to more than 256 MiB" in message and int(grown) < 60


def test_members_longer_than_the_limit_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER", 5000)
    members = {"a01_s01_e00_v01.json": ucla_json(), "a01_s01_e01_v01.json": ucla_json(9)}
    forms = [
        as_folder(members, tmp_path / "x"),
        as_tar(members, tmp_path / "x.tar.gz"),
        as_zip(members, tmp_path / "x.zip"),
    ]
    for number, source in enumerate(forms):
        report, _ = converted(source, tmp_path / str(number))
        assert report.clips == 1 and "longer than" in report.skipped[0][1]


def test_a_tar_far_out_of_order_keeps_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_HELD", 1000)
    _, store = converted(as_tar(reversed_members(), tmp_path / "x.tar.gz"), tmp_path)
    assert store.names == sorted(store.names, reverse=True)


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert "more than 3 files" in refusal(as_folder(ucla_members(), tmp_path / "x"), tmp_path)


def test_names_from_archives_are_only_names(tmp_path: Path) -> None:
    members = {
        "../../a01_s01_e00_v01.json": ucla_json(),
        "/abs/a01_s01_e01_v01.json": ucla_json(),
        "\x1b[31m\n.json": b"x",
    }
    report, store = converted(as_tar(members, tmp_path / "x.tar"), tmp_path)
    assert store.names == ["a01_s01_e00_v01", "a01_s01_e01_v01"]
    assert report.skipped[0][0].isprintable()
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"x.tar", "data.h5"}


@pytest.fixture(scope="module")
def fuzzer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_readers", ROOT / "benchmarks" / "fuzz_readers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _needed(fuzzer: ModuleType, name: str) -> None:
    if name in fuzzer.NEEDS:
        pytest.importorskip(fuzzer.NEEDS[name])


SAMPLED = [name for name in FORMATS if name != "c3d"]  # which needs a layout of its own, see test_readers_mocap


@pytest.mark.parametrize("name", SAMPLED)
def test_a_reader_says_what_comes(fuzzer: ModuleType, tmp_path: Path, name: str) -> None:
    """For every format: guessed, a total that holds, the same clips from a file, a folder and an archive."""
    _needed(fuzzer, name)
    members = fuzzer.SAMPLES[name]()
    folder = as_folder(members, tmp_path / "folder")
    forms = [folder, as_zip(members, tmp_path / "x.zip"), as_tar(members, tmp_path / "x.tar.gz")]
    if len(members) == 1:
        forms.append(folder / next(iter(members)))
    seen = []
    for path in forms:
        source = open_source(path)
        items = list(source.clips)
        assert all(isinstance(item, Clip) for item in items) and len(items) == source.total
        assert open_source(path, format=name).layout == source.layout
        seen.append([(item.name, item.label, item.subject, item.splits, item.keypoints.tobytes()) for item in items])
    assert all(clips == seen[0] for clips in seen) and len(seen[0]) > 1
    report, _ = converted(folder, tmp_path)
    assert report.skipped == [] and report.clips == len(seen[0])


def test_every_format_is_fuzzed(fuzzer: ModuleType) -> None:
    assert set(SAMPLED) == set(fuzzer.SAMPLES) <= set(fuzzer.READERS)


@pytest.mark.parametrize("reader", [*SAMPLED, "nw-ucla-json", "npz-files", "csv-files", "tar", "tar-gz", "zip"])
def test_a_little_fuzzing(fuzzer: ModuleType, tmp_path: Path, reader: str) -> None:
    _needed(fuzzer, reader)
    outcomes, _ = fuzzer.fuzz(reader, 25, 7, tmp_path)
    assert set(outcomes) <= {"ok", "refused"} and sum(outcomes.values()) == 25
