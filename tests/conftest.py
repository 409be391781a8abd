"""Shared fixtures: a tiny store with two look-alike pairs, a run trained on it, and no network for anybody."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from skag.config import replace
from skag.dialogue.store import DialogueStore
from skag.skeleton.store import SkeletonStore

from .helpers import tiny
from .helpers.once import once


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest runs where SKAG_LONG is set, as the project's CI does."""
    if not os.environ.get("SKAG_LONG"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes long: SKAG_LONG=1 runs it"))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A skeleton store of four classes, four subjects, 64 training and 16 test clips."""
    return once(tmp_path_factory, "store", lambda folder: tiny.write_tiny_store(folder / "tiny.h5")) / "tiny.h5"


@pytest.fixture(scope="session")
def tiny_dialogues(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dialogue store `d.h5` about the tiny store's classes; copy it before asking more."""

    def make(folder: Path) -> None:
        with SkeletonStore(tiny_store) as store:
            tiny.described(store, folder / "d.h5")

    return once(tmp_path_factory, "dialogues", make)


@pytest.fixture
def described(tiny_dialogues: Path, tmp_path: Path) -> Path:
    """A folder with a dialogue store `d.h5`, in which the classes of the tiny store are described."""
    shutil.copytree(tiny_dialogues, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def dialogues(described: Path) -> Path:
    """A dialogue store, in which the classes of the tiny store are described."""
    return described / "d.h5"


@pytest.fixture
def store(tmp_path: Path) -> DialogueStore:
    """An empty dialogue store."""
    return DialogueStore(tmp_path / "d.h5")


@pytest.fixture(scope="session")
def trained(tiny_store: Path, tiny_dialogues: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tells the classes of the tiny store apart, trained with dialogues; copy it before writing into it."""

    def make(folder: Path) -> None:
        from .helpers import training  # torch, which many test files do without

        shutil.copytree(tiny_dialogues, folder, dirs_exist_ok=True)
        config = replace(training.small(epochs=22, query_period=11), "train", repeats=3, ema=0.0, lr=4e-3)
        training.run_training(config, tiny_store, folder / "d.h5", folder / "run")

    return once(tmp_path_factory, "trained", make) / "run"


@pytest.fixture
def run_folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, to be written into."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure at the moment it is saved."""
    saved: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (saved.append(self), save(self, *a, **k))[1])
    return saved
