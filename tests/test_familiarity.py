"""What `predict` says of a recording that is unlike everything its run was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import skag
from skag.inference import familiarity

from .helpers.commands import invoke
from .helpers.tiny import tiny_clip


@pytest.fixture
def honest() -> np.ndarray:
    """A recording like those of the tiny store, `[T, V, C]`."""
    return tiny_clip(0, np.random.default_rng(77))[0]


def test_an_honest_recording_is_not_odd(run_folder: Path, honest: np.ndarray) -> None:
    found = skag.load(run_folder).predict(honest, evidence=False)
    assert found.odd == () and not found.no_action and found.to_dict()["odd"] == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda x: x / 1000, "unit"),
        (lambda x: x * 1000, "unit"),
        (lambda x: np.where(np.arange(20)[:, None] % 2 == 0, x, 0), "lacks 50 % of its joints"),
    ],
)
def test_what_is_odd_is_named(run_folder: Path, honest: np.ndarray, change: object, word: str) -> None:
    found = skag.load(run_folder).predict(change(honest).astype(np.float32), evidence=False)
    assert any(word in remark for remark in found.odd), found.odd


@pytest.mark.parametrize("frames", [1, 12])
def test_one_frame_and_a_statue_are_none_of_these_where_that_is_an_answer(
    run_folder: Path, honest: np.ndarray, frames: int
) -> None:
    recogniser, still = skag.load(run_folder), np.repeat(honest[:1], frames, 0)
    assert recogniser.predict(still, evidence=False).label is not None
    found = recogniser.predict(still, evidence=False, abstain=0.0)
    assert found.label is None and found.no_action and found.odd


def test_the_command_says_it_in_a_line_and_in_json(run_folder: Path, honest: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "millimetres.npy", honest * 1000)
    line = json.loads(invoke("predict", run_folder, tmp_path / "millimetres.npy", "--no-reasons", "--json", "--quiet"))
    assert any("another unit" in remark for remark in line["odd"])


def test_the_profile_is_kept_and_made_anew_for_other_data(run_folder: Path, tiny_store: Path) -> None:
    found = familiarity.profile_of_run(run_folder)
    assert found is not None and found["clips"] > 0
    path = run_folder / familiarity.FILE
    assert familiarity.profile_of_run(run_folder) == json.loads(path.read_text()) == found
    path.write_text(json.dumps(found | {"fingerprint": "another", "clips": 1}))
    assert familiarity.profile_of_run(run_folder) == found
    path.unlink()
    facts = json.loads((run_folder / "data.json").read_text())
    (run_folder / "data.json").write_text(json.dumps(facts | {"store": "/gone.h5"}))
    assert familiarity.profile_of_run(run_folder) is None
