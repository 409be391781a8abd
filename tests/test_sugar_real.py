"""SUGAR's encoder on recorded people: texts that `measured` has made of their own clips name their classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from skag.backends import open_backend
from skag.config import override
from skag.dialogue.describe import describe
from skag.dialogue.prompts import load_prompts
from skag.dialogue.store import DialogueStore
from skag.inference.evaluate import evaluate_runs
from skag.methods.sugar.recipes import align_small
from skag.methods.sugar.script import SCRIPT

from .helpers.recordings import converted, real
from .helpers.sugar import trained
from .helpers.training import CPU

SHORT = ("train.epochs=12", "train.repeats=2", "train.ema=0.98")


@pytest.mark.long
def test_utkinect_is_learned_from_texts(tmp_path: Path) -> None:
    """Of ten classes, twelve epochs: far from what it comes to, and farther from chance."""
    _, store = converted(real("utkinect-raw.tar.gz"), tmp_path)
    (tmp_path / "out" / "data.h5").rename(tmp_path / "t.h5")
    with DialogueStore(tmp_path / "d.h5") as kept:
        measured = open_backend("measured", store=store)
        assert not describe(measured, kept, store.classes, store.layout, load_prompts(SCRIPT)).failed
    store.close()
    trained(override(align_small("j"), SHORT), tmp_path, tmp_path / "run")
    found = evaluate_runs([tmp_path / "run"], store=tmp_path / "t.h5", device=CPU).accuracies[0]
    assert found.top1 >= 60
