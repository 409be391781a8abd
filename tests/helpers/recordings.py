"""Small made recordings and what the tests of the readers share."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from skag.convert import ConvertReport, convert
from skag.errors import DataError
from skag.skeleton.store import SkeletonStore

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
CASES = ROOT.parent / "shared" / "cases"


def real(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not here")
    return DATA / name


def case(name: str) -> Path:
    """A small input that skag once read wrongly."""
    if not (CASES / name).exists():
        pytest.skip(f"the case {name} is not here")
    return CASES / name


def converted(source: Path, tmp_path: Path, **options: object) -> tuple[ConvertReport, SkeletonStore]:
    report = convert(source, tmp_path / "out" / "data.h5", **options)
    store = SkeletonStore(tmp_path / "out" / "data.h5")
    assert (len(store), store.layout.name, store.classes) == (report.clips, report.layout, report.classes)
    assert {name: len(numbers) for name, numbers in store.splits.items()} == report.splits
    return report, store


def refusal(source: Path, tmp_path: Path, **options: object) -> str:
    """The message of a refused conversion, which leaves nothing behind."""
    out = tmp_path / "out" / "data.h5"
    with pytest.raises(DataError) as caught:
        convert(source, out, **options)
    assert not out.parent.exists() or not list(out.parent.iterdir())
    message = str(caught.value)
    assert "\n" not in message and len(message) < 900
    return message


def as_folder(members: dict[str, bytes], path: Path) -> Path:
    for name, data in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def as_tar(members: dict[str, bytes], path: Path, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def as_zip(members: dict[str, bytes], path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def ucla_json(frames: int = 3, label: object = 1, seed: int = 0, **changes: object) -> bytes:
    skeletons = np.random.default_rng(seed).normal(size=(frames, 20, 3)).tolist()
    return json.dumps({"file_name": "x", "skeletons": skeletons, "label": label, **changes}).encode()


def ucla_members() -> dict[str, bytes]:
    """Actions 1, 7th (number 8) and 10th (number 12), cameras 1 to 3."""
    return {
        f"all_sqe/a{action:02}_s0{camera}_e00_v0{camera}.json": ucla_json(2 + camera, label, seed=10 * action + camera)
        for action, label in ((1, 1), (8, 7), (12, 10))
        for camera in (1, 2, 3)
    }


def reversed_members() -> dict[str, bytes]:
    return dict(reversed(ucla_members().items()))


def points(frames: int = 3, joints: int = 17, values: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 9, (frames, joints, values)).round(3)


def csv(header: list[str], rows: list[list[object]] | np.ndarray, delimiter: str = ",") -> bytes:
    return "".join(delimiter.join(map(str, row)) + "\n" for row in [header, *rows]).encode()


def numbered_csv(values: np.ndarray, pattern: str = "joint_{joint}_{axis}", first: int = 0, axes: str = "xyz") -> bytes:
    """A recording `[T, V, C]` with numbered columns."""
    header = [pattern.format(joint=v + first, axis=axis) for v in range(values.shape[1]) for axis in axes]
    return csv(header[: values[0].size] if values.shape[2] == len(axes) else header, values.reshape(len(values), -1))


def ntu_csv(seed: int = 0, frames: int = 3) -> bytes:
    return numbered_csv(points(frames, 25, 3, seed))
