"""The tiny store: four classes of clips with two look-alike pairs, and dialogues about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skag.backends import open_backend
from skag.dialogue.describe import describe
from skag.dialogue.prompts import load_prompts
from skag.dialogue.store import DialogueStore
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store

CLASSES = ["raise right hand", "lower right hand", "raise left hand", "step"]


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


def clip(label: int, seed: int = 9, frames: int = 14) -> np.ndarray:
    """A clip of the tiny store's kind by its own random numbers."""
    return tiny_clip(label, np.random.default_rng(seed), frames)


def write_tiny_store(path: Path, names: list[str] = CLASSES) -> None:
    """A skeleton store of four classes, four subjects, 64 training and 16 test clips; `names` are the classes'."""
    rng = np.random.default_rng(0)
    with write_store(path, load_layout("kinect-v1")) as writer:
        for subject in range(1, 6):
            split = "xsub_test" if subject == 5 else "xsub_train"
            for label in range(len(CLASSES)):
                for take in range(4):
                    clip = tiny_clip(label, rng, frames=int(rng.integers(8, 20)))
                    name = f"s{subject}-{label}-{take}"
                    writer.add(Clip(name, label, clip, subject=subject, splits=(split,)))
        writer.finish(names)


def described(store: SkeletonStore, path: Path) -> None:
    """Write a dialogue store in which `measured` has described the classes of a skeleton store."""
    with DialogueStore(path) as kept:
        report = describe(
            open_backend("measured", store=store), kept, store.classes, store.layout, load_prompts(SCRIPT)
        )
    assert not report.failed
