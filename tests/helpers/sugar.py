"""Small SUGAR runs on the tiny store, with a tiny language model."""

from __future__ import annotations

from pathlib import Path

from skag.backends import open_backend
from skag.config import override
from skag.dialogue.describe import describe
from skag.dialogue.prompts import load_prompts
from skag.dialogue.store import DialogueStore
from skag.methods.base import KnowledgeSource
from skag.methods.sugar.config import SugarConfig
from skag.methods.sugar.recipes import small
from skag.methods.sugar.script import SCRIPT
from skag.skeleton.store import SkeletonStore
from skag.training.loop import TrainReport
from skag.training.start import train_run

from .language_models import tiny_folder
from .tiny import CLASSES, write_tiny_store
from .training import CPU, Silent, quiet

WORDS = " ".join(CLASSES)
SMALL = (
    "data.num_frames=8", "data.val_fraction=0.25", "network.channels=16,16", "network.strides=1,2", "train.epochs=2",
    "train.ema=0.8", "train.batch_size=24", "tune.epochs=2", "tune.batch_size=24", "tune.lr=0.02", "bridge.lr=0.02",
    "bridge.taught=0", "bridge.num_queries=4", "bridge.width=16", "bridge.heads=2", "bridge.layers=2", "lm.rank=4",
)  # fmt: skip


def config_of(folder: Path, *changes: str) -> SugarConfig:
    """`sugar-small` made tiny, with the language model of `materials`."""
    return override(small("j"), [*SMALL, f"lm.base_model={folder / 'lm'}", *changes])


def materials(folder: Path) -> Path:
    """A skeleton store `t.h5`, dialogues `d.h5` by `measured`, and a language model `lm`."""
    write_tiny_store(folder / "t.h5")
    tiny_folder(folder / "lm", words=WORDS)
    with SkeletonStore(folder / "t.h5") as store, DialogueStore(folder / "d.h5") as kept:
        measured = open_backend("measured", store=store)
        assert not describe(measured, kept, store.classes, store.layout, load_prompts(SCRIPT)).failed
    return folder


def trained(
    config: SugarConfig, folder: Path, run: Path, watcher: Silent | None = None, resume: bool = False, **source: object
) -> tuple[TrainReport, Silent]:
    """A run of `materials` in `folder`, trained or resumed."""
    watcher = watcher or Silent()
    with SkeletonStore(folder / "t.h5") as store:
        given = KnowledgeSource(folder / "d.h5", **source)
        report, _ = train_run(store, config, run, given, CPU, watcher, quiet, resume=resume)
    return report, watcher
