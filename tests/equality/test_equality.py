"""Fixed seeds come to what they came to in version 0.1.0, before the house was rebuilt, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.recordings import real

from . import record

HERE = Path(__file__).parent
OLD_RUN = HERE / "run-0.1.0"  # of the tiny store, interrupted after the first of two epochs
RESUMED, PREDICTIONS = "ad7e7aa79c9f8c721ee74980", "911ce2096df3a468502758f0"  # of its weights, by version 0.1.0
DEMO = json.loads((HERE / "demo.json").read_text(encoding="utf-8"))
NW_UCLA = json.loads((HERE / "nw-ucla.json").read_text(encoding="utf-8"))


def same_machine() -> bool:
    return record.environment() == DEMO["environment"]


def check(found: dict[str, Any], recorded: dict[str, Any]) -> None:
    """All that was recorded, where sums are rounded alike; elsewhere what does not depend on rounding. Documents may
    have got further fields."""
    assert found["exchange_keys"] == recorded["exchange_keys"]
    documents = {
        name: {key: found["documents"][name].get(key, "absent") for key in document}
        for name, document in recorded["documents"].items()
    }
    for name in ("convert", "describe"):
        assert documents[name] == recorded["documents"][name]
    assert len(set(found["weights"].values())) == 1  # resumed and repeated are what the run itself is
    assert np.allclose(found["mean_probabilities"], recorded["mean_probabilities"], atol=0.02)
    if same_machine():
        for name in recorded.keys() - {"environment"}:
            assert (found | {"documents": documents})[name] == recorded[name], name


@pytest.mark.long
def test_the_demo_comes_to_the_same(tmp_path: Path) -> None:
    check(record.observe("demo", tmp_path), DEMO)


@pytest.mark.long
def test_nw_ucla_comes_to_the_same(tmp_path: Path) -> None:
    check(record.observe("nw-ucla", tmp_path, real("nw-ucla-raw.tar.gz")), NW_UCLA)


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    return shutil.copytree(OLD_RUN, tmp_path / "run")


def test_a_run_of_an_earlier_version_is_resumed_to_the_sameweights(
    old_run: Path, tiny_store: Path, described: Path
) -> None:
    record.document("train", tiny_store, "--resume", old_run, "--store", described / "d.h5")
    if same_machine():
        assert record.weights(old_run) == RESUMED


def test_a_run_of_an_earlier_version_is_evaluated_and_analysed(old_run: Path, tiny_store: Path) -> None:
    assert record.document("eval", old_run, "--data", tiny_store)["top1"] == 25.0
    with np.load(old_run / "predictions-xsub_test.npz") as saved:
        if same_machine():
            assert record.digest(saved["probabilities"]) == PREDICTIONS
    analysed = record.document("analyze-confusion", old_run, "--data", tiny_store)
    assert any(pair["true_sentence"] for pair in analysed["pairs"])
