"""Prepared clips in a file: the same batches bit for bit, one file for all processes, made anew where it is damaged."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skag import parallel
from skag.config import AugmentConfig, DataConfig
from skag.errors import DataError
from skag.skeleton import clips as data
from skag.skeleton import mapped
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store
from skag.training.batches import training_batches

CPU = torch.device("cpu")
CONFIG = DataConfig(num_frames=8, num_bodies=2, prepared="file")
AUGMENT = AugmentConfig(heading=0.3, scale=0.1, mirror=0.5, part_drop=0.2, shortest_part=0.5)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store(tiny_store: Path) -> Iterator[SkeletonStore]:
    with SkeletonStore(tiny_store) as opened:
        yield opened


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of key points in images, some of a known width."""
    path, rng = tmp_path_factory.mktemp("images") / "images.h5", np.random.default_rng(0)
    with write_store(path, load_layout("coco")) as writer:
        for number in range(9):
            points = rng.uniform(1, 300, (1 + number % 2, 5 + number, 17, 2)).astype(np.float32)
            scores = rng.uniform(0, 1, points.shape[:3]).astype(np.float32)
            writer.add(
                Clip(f"c{number}", number % 3, points, scores, splits=("train",), width=320 if number % 2 else -1)
            )
        writer.finish(["sit", "stand", "walk"])
    return path


def made() -> list[Path]:
    return sorted(mapped.PREPARED.glob("*.clips"))


def batches(store: SkeletonStore, numbers: np.ndarray, config: DataConfig) -> list[torch.Tensor]:
    """Of two epochs of training, and of evaluation in two views."""
    clips = data.prepare(store, numbers, config, CPU)
    assert (clips.file is not None) == (config.prepared == "file")
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(2):
        for x, labels in training_batches(clips, config, AUGMENT, 7, 1, generator):
            found += [x, labels]
    return found + list(data.test_batches(clips, config, 5, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stream": "bm", "stand_upright": True, "face_forward": True, "unit_height": True, "mirror_views": True},
        {"sampling": "uniform-decode", "stream": "jm"},
    ],
)
def test_batches_are_the_same_bit_for_bit(
    store: SkeletonStore, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    monkeypatch.setattr(mapped, "_RESIDENT", 1000)  # pages are given up all the time
    config, numbers = dataclasses.replace(CONFIG, **changes), store.splits["xsub_train"][::-1]
    first = batches(store, numbers, config)
    again = batches(store, numbers, config)  # of the file that is there
    in_memory = batches(store, numbers, dataclasses.replace(config, prepared="memory"))
    assert len(made()) == 1 and len(first) > 30
    for one, two, three in zip(first, again, in_memory, strict=True):
        assert torch.equal(one, three) and torch.equal(two, three)


def test_clips_in_images_keep_their_widths(images: Path) -> None:
    with SkeletonStore(images) as store:
        for pixels in (True, False):
            config = DataConfig(num_frames=8, num_bodies=2, pixels=pixels, sampling="uniform-frames", prepared="file")
            for one, other in zip(
                batches(store, store.splits["train"], config),
                batches(store, store.splits["train"], dataclasses.replace(config, prepared="memory")),
                strict=True,
            ):
                assert torch.equal(one, other)
    assert len(made()) == 2


def test_the_file_is_found_again_and_not_written_twice(store: SkeletonStore) -> None:
    numbers = store.splits["xsub_test"]
    data.prepare(store, numbers, CONFIG, CPU)
    (path,) = made()
    before = path.stat()
    data.prepare(store, numbers, dataclasses.replace(CONFIG, num_frames=4, stream="b", test_views=3), CPU)
    assert made() == [path] and path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino


def test_the_key_changes_with_what_the_frames_come_from(store: SkeletonStore, images: Path) -> None:
    """With every field of the configuration but those that are said to change no frame."""
    own = data.key(store, CONFIG)
    fields = {each.name for each in dataclasses.fields(DataConfig)}
    assert fields > data._NOT_OF_THE_FRAMES
    keys = []
    for name in sorted(fields - data._NOT_OF_THE_FRAMES):
        value = getattr(CONFIG, name)
        other = not value if isinstance(value, bool) else value + 1
        keys.append(data.key(store, dataclasses.replace(CONFIG, **{name: other})))
    assert len({own, *keys}) == len(keys) + 1 >= 7
    others = {"protocol": "xsub", "stream": "km", "num_frames": 5, "sampling": "uniform-decode", "test_views": 2}
    assert data.key(store, dataclasses.replace(CONFIG, **others)) == own
    with SkeletonStore(images) as other:
        assert data.key(other, CONFIG) != own


def test_all_splits_and_classes_share_one_file(store: SkeletonStore) -> None:
    part = store.of_classes(store.classes[:0:-2])
    for opened, split in ((store, "xsub_train"), (store, "xsub_test"), (part, "xsub_train"), (part, "xsub_test")):
        numbers = opened.splits[split][::-1]
        for one, other in zip(
            batches(opened, numbers, CONFIG),
            batches(opened, numbers, dataclasses.replace(CONFIG, prepared="memory")),
            strict=True,
        ):
            assert torch.equal(one, other)
    assert len(made()) == 1


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


def change(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda path: change(path, 5000),  # a coordinate
        lambda path: change(path, -4),  # a length
        lambda path: change(path, 15),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"[" * 9000),
        lambda path: path.write_bytes(json.dumps({"format": "skag-prepared-1", "rows": "many"}).encode()),
    ],
)
def test_a_damaged_file_is_made_anew(store: SkeletonStore, caplog: pytest.LogCaptureFixture, damage) -> None:
    numbers = store.splits["xsub_test"]
    rows = data.prepare(store, numbers, CONFIG, CPU).rows.clone()
    (path,) = made()
    damage(path)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(data.prepare(store, numbers, CONFIG, CPU).rows, rows)
    assert "damaged" in caplog.text and made() == [path]
    caplog.clear()
    data.prepare(store, numbers, CONFIG, CPU)
    assert not caplog.text


def test_what_a_killed_process_left_is_removed(store: SkeletonStore) -> None:
    numbers = store.splits["xsub_test"]
    left = mapped.PREPARED / f".{data.key(store, CONFIG)}.clips.123.partial"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    data.prepare(store, numbers, CONFIG, CPU)
    assert not left.exists() and len(made()) == 1


def test_a_full_disk_is_one_line_and_leaves_nothing(store: SkeletonStore, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = store.splits["xsub_train"]
    with monkeypatch.context() as patched:
        patched.setattr(mapped.shutil, "disk_usage", lambda path: SimpleNamespace(free=9))
        with pytest.raises(DataError, match=r"cannot write .* \(0.0 GB are needed.* data.prepared=memory\.$"):
            data.prepare(store, numbers, CONFIG, CPU)

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(mapped.os, "fsync", full)
    with pytest.raises(DataError, match="No space left") as caught:
        data.prepare(store, numbers, CONFIG, CPU)
    assert "\n" not in str(caught.value)
    assert not [path for path in mapped.PREPARED.iterdir() if path.suffix != ".lock"]


def test_where_clips_go_is_decided_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "usable_memory", lambda: 4000)
    auto = DataConfig()
    assert not data.belongs_in_a_file(1000, auto) and data.belongs_in_a_file(1001, auto)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert not data.belongs_in_a_file(125, auto) and data.belongs_in_a_file(126, auto)
    monkeypatch.setattr(data, "usable_memory", lambda: None)
    assert not data.belongs_in_a_file(10**15, auto)
    assert not data.belongs_in_a_file(10**15, DataConfig(prepared="memory"))
    assert data.belongs_in_a_file(1, DataConfig(prepared="file"))


def test_what_does_not_fit_into_memory_is_one_line(store: SkeletonStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(shape: tuple[int, ...], kind: type) -> None:
        raise MemoryError

    monkeypatch.setattr(data.np, "empty", none)
    with pytest.raises(DataError, match="data.prepared=file"):
        data.prepare(store, store.splits["xsub_test"], dataclasses.replace(CONFIG, prepared="memory"), CPU)


@pytest.mark.parametrize(
    ("groups", "files", "limits"),
    [
        (
            "0::/job/step\n",
            {"job/step/memory.max": "max\n", "job/memory.max": "700\n", "memory.max": "900\n"},
            [700, 900],
        ),
        (
            "5:cpu:/other\n4:memory:/job\n0::/\n",
            {"memory/job/memory.limit_in_bytes": "500\n", "memory/memory.limit_in_bytes": "800\n"},
            [500, 800],
        ),
        ("strange", {}, []),
    ],
)
def test_limits_of_control_groups_are_found(
    tmp_path: Path, groups: str, files: dict[str, str], limits: list[int]
) -> None:
    (tmp_path / "groups").write_text(groups)
    for name, text in files.items():
        (tmp_path / "mounted" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mounted" / name).write_text(text)
    assert parallel._limits_of_groups(tmp_path / "groups", tmp_path / "mounted") == limits


def prepare_at_once(store: str, barrier, found) -> None:
    """What each of two processes does; how often it prepared recordings itself."""
    counted, original = [], data._prepared

    def counting(*arguments):
        counted.append(1)
        return original(*arguments)

    data._prepared = counting
    with SkeletonStore(store) as opened:
        barrier.wait()
        clips = data.prepare(opened, np.arange(len(opened)), CONFIG, CPU)
        found.put((len(counted), clips.rows.double().sum().item(), os.stat(made()[0]).st_ino))


def test_of_two_processes_one_makes_the_file(tiny_store: Path, store: SkeletonStore) -> None:
    """Forked, since each would import torch first."""
    torch.set_num_threads(1)
    context = multiprocessing.get_context("fork")
    barrier, found = context.Barrier(2), context.Queue()
    both = [context.Process(target=prepare_at_once, args=(str(tiny_store), barrier, found)) for _ in range(2)]
    for process in both:
        process.start()
    results = sorted(found.get(timeout=60) for _ in both)
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    (none, total, one), (once, same, other) = results
    assert none == 0 < once and one == other
    expected = data.prepare(store, np.arange(len(store)), dataclasses.replace(CONFIG, prepared="memory"), CPU)
    assert total == same == expected.rows.double().sum().item()
