"""Shared fixtures: a tiny store with two look-alike pairs, and no network for anybody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from skag.backends import open_backend
from skag.dialogue.describe import describe
from skag.dialogue.prompts import load_prompts
from skag.dialogue.store import DialogueStore
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store

CLASSES = ["raise right hand", "lower right hand", "raise left hand", "step"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def tiny_clip(label: int, rng: np.random.Generator, frames: int = 12) -> np.ndarray:
    """A standing Kinect v1 body `[1, T, 20, 3]` whose one hand rises or sinks, or that walks."""
    layout = load_layout("kinect-v1")
    body = np.random.default_rng(5).normal(0, 0.3, (20, 3)) + [0, 1, 3]
    clip = np.repeat(body[None], frames, 0) + rng.normal(0, 0.01, (frames, 20, 3))
    path = np.linspace(0, 0.6, frames)
    if label < 3:
        hand = layout.index["left hand" if label == 2 else "right hand"]
        clip[:, hand, 1] += path[::-1] if label == 1 else path
    else:
        clip[:, :, 0] += path[:, None]
    return clip[None].astype(np.float32)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A skeleton store of four classes, four subjects, 64 training and 16 test clips."""
    path = tmp_path_factory.mktemp("store") / "tiny.h5"
    rng = np.random.default_rng(0)
    with write_store(path, load_layout("kinect-v1")) as writer:
        for subject in range(1, 6):
            split = "xsub_test" if subject == 5 else "xsub_train"
            for label in range(len(CLASSES)):
                for take in range(4):
                    clip = tiny_clip(label, rng, frames=int(rng.integers(8, 20)))
                    name = f"s{subject}-{label}-{take}"
                    writer.add(Clip(name, label, clip, subject=subject, splits=(split,)))
        writer.finish(CLASSES)
    return path


@pytest.fixture
def described(tiny_store: Path, tmp_path: Path) -> Path:
    """A folder with a dialogue store `d.h5`, in which the classes of the tiny store are described."""
    with SkeletonStore(tiny_store) as store, DialogueStore(tmp_path / "d.h5") as kept:
        describe(open_backend("measured", store=store), kept, store.classes, store.layout, load_prompts(SCRIPT))
    return tmp_path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure at the moment it is saved."""
    saved: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (saved.append(self), save(self, *a, **k))[1])
    return saved
