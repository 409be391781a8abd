"""The ablation: which cells there are, what goes on where, and the arithmetic of the table."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skag import ablation
from skag.ablation import CellResult, choose_protocols, choose_rows, markdown, plan, summarise, write_section
from skag.config import flat
from skag.errors import DataError, RunError
from skag.methods.skeleton_agent.config import SkeletonAgentConfig
from skag.methods.skeleton_agent.rows import ROWS
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store

from .helpers.commands import document, failure, invoke
from .helpers.tiny import CLASSES, described, tiny_clip
from .helpers.training import agents_of, refresh

SMALL = ("network.channels=16,16", "network.strides=1,2", "data.num_frames=8", "data.val_fraction=0.25")
SETTINGS = [part for change in (*SMALL, "train.epochs=3", "agents.query_period=1") for part in ("--set", change)]


def result(row: str, seed: int, top1: float, protocol: str | None = None, log_loss: float = 0.5) -> CellResult:
    return CellResult(row, protocol, seed, top1, 100.0, top1, log_loss, 50, 90.0, 3, 0, 0, 1.0)


def test_rows_change_what_their_names_say(tiny_store: Path, tmp_path: Path) -> None:
    rows = choose_rows(ROWS, [], ["cool:agents.temperature=0.5,train.lr=0.1"])
    with SkeletonStore(tiny_store) as store:
        cells = plan(store, rows, [None], [4, 5], tmp_path, recipe="nw-ucla-small", changes=["train.epochs=7"])
    assert [cell.folder.name for cell in cells[:7]] == [
        *(f"{name}-seed4" for name in ("baseline", "stage-1", "constraint", "alignment", "all", "shuffled", "cool"))
    ]
    assert all(cell.config.train.seed == cell.seed for cell in cells) and len(cells) == 14
    base = flat(next(cell for cell in cells if cell.row.name == "all").config)
    changed = {
        cell.row.name: {name: value for name, value in flat(cell.config).items() if value != base[name]}
        for cell in cells[:7]
    }
    assert changed == {
        "baseline": {"agents.alpha": 0.0, "agents.beta": 0.0},
        "stage-1": {"agents.query_period": 7},
        "constraint": {"agents.beta": 0.0},
        "alignment": {"agents.alpha": 0.0},
        "all": {},
        "shuffled": {},
        "cool": {"agents.temperature": 0.5, "train.lr": 0.1},
    }
    assert [row.name for row in rows if row.shuffled] == ["shuffled"]
    assert [row.name for row in rows if not row.asks_again] == ["stage-1"]


@pytest.mark.parametrize(
    ("names", "own", "says"),
    [
        (["basline"], [], "no row 'basline': known are baseline"),
        ([], ["warm"], "write NAME:FIELD=VALUE"),
        ([], ["../x:train.lr=1"], "write NAME:FIELD=VALUE"),
        ([], ["all:train.lr=1"], "all is a row already"),
        (["all"], ["a:train.lr=1", "a:train.lr=2"], "two rows are called 'a'"),
    ],
)
def test_rows_that_cannot_be(names: list[str], own: list[str], says: str) -> None:
    with pytest.raises(RunError, match=says):
        choose_rows(ROWS, names, own)


@pytest.fixture
def two_folds(tmp_path: Path) -> Path:
    """Two protocols over four subjects."""
    path, rng = tmp_path / "folds.h5", np.random.default_rng(0)
    with write_store(path, load_layout("kinect-v1")) as writer:
        for subject in range(4):
            splits = ("a_test", "b_train") if subject == 0 else ("a_train", "b_test" if subject == 1 else "b_train")
            for label in range(len(CLASSES)):
                writer.add(Clip(f"{subject}-{label}", label, tiny_clip(label, rng), subject=subject, splits=splits))
        writer.finish(CLASSES)
    return path


def test_every_protocol_has_cells_of_its_own(two_folds: Path, tmp_path: Path) -> None:
    with SkeletonStore(two_folds) as store:
        assert choose_protocols(store, ["all"]) == ["a", "b"] and choose_protocols(store, ["b", "b"]) == ["b"]
        for names in ([], ["c"]):
            with pytest.raises(DataError, match="protocol"):
                choose_protocols(store, names)
        cells = plan(store, choose_rows(ROWS, ["baseline"], []), ["a", "b"], [1], tmp_path)
    assert [(cell.folder.name, cell.config.data.protocol) for cell in cells] == [
        ("baseline-a-seed1", "a"),
        ("baseline-b-seed1", "b"),
    ]


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_parts_make_every_cell_exactly_once(count: int, tiny_store: Path, tmp_path: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        cells = plan(store, choose_rows(ROWS, ["baseline"], []), [None], range(7), tmp_path, recipe="nw-ucla-small")
    parts = [ablation.part_of(cells, f"{number}/{count}") for number in range(1, count + 1)]
    assert sorted(cell.seed for part in parts for cell in part) == list(range(7))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for wrong in ("0/2", "3/2", "1", "a/b", "1/8"):
        with pytest.raises(RunError, match=f"--part {wrong}: "):
            ablation.part_of(cells, wrong)


def test_differences_are_paired_by_seed() -> None:
    """Seeds differ by far more than rows: the pairing is what shows the difference."""
    results = [result("baseline", seed, 50 + 10 * seed) for seed in (1, 2, 3)]
    results += [result("all", seed, 50 + 10 * seed + gain) for seed, gain in ((1, 1), (2, 2), (3, 3))]
    base, whole = summarise(results, ["baseline", "all"])
    assert (base.mean, base.spread, base.difference, base.pairs) == (70, 10, None, 0)
    assert (whole.mean, whole.difference, whole.pairs) == (72, 2, 3)
    assert whole.spread == pytest.approx(11) and whole.standard_error == pytest.approx(1 / math.sqrt(3))


def test_a_seed_counts_once_all_its_protocols_are_there() -> None:
    results = [result("baseline", 1, 80, "a", 0.2), result("baseline", 1, 90, "b", 0.4), result("baseline", 2, 10, "a")]
    results += [result("all", 1, 84, "a")]
    base, whole = summarise(results, ["baseline", "all"])
    assert (base.mean, base.spread, base.seeds) == (85, None, 1) and base.log_loss == pytest.approx(0.3)
    assert (whole.mean, whole.seeds, whole.difference, whole.standard_error) == (None, 0, 4, None)


def test_a_section_is_replaced_and_its_text_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "doc.md"
    path.write_text("# Ablation\n\nWhat this is.\n")
    table, meanings = summarise([result("baseline", 1, 80)], ["baseline"]), {"baseline": "no | agents"}
    write_section(path, "One", markdown("One", ["a fact"], table, meanings, "baseline"))
    write_section(path, "Two", markdown("Two", [], table, meanings, "baseline"))
    path.write_text(path.read_text().replace("## Two", "What One shows.\n\n## Two"))
    table = summarise([result("baseline", 1, 90)], ["baseline"])
    write_section(path, "One", markdown("One", ["another fact"], table, meanings, "baseline"))
    text = path.read_text()
    first, second = text.split("## Two")
    assert first.startswith("# Ablation\n\nWhat this is.\n\n## One\n\nanother fact\n\n| row | top-1 % |")
    assert (
        "| baseline | 90.00 |" in first and "80.00" not in first and "a fact" not in first.replace("another fact", "")
    )
    assert "no \\| agents" in first and first.rstrip().endswith("What One shows.") and "| baseline | 80.00 |" in second


@pytest.mark.long
def test_the_command_trains_keeps_and_goes_on(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [
        "ablate", tiny_store, "--recipe", "nw-ucla-small", "--seeds", "2", "--rows", "baseline,all", *SETTINGS,
        "--store", "d.h5", "--out", "cells",
    ]  # fmt: skip
    nothing = document(*arguments, "--only-finished")
    assert nothing["cells"] == [] and not Path("cells").exists()
    first = document(*arguments, "--part", "1/2")
    assert sorted(folder.name for folder in Path("cells").iterdir()) == ["baseline-seed1", "baseline-seed2"]
    assert [cell["row"] for cell in first["cells"]] == ["baseline", "baseline"]
    found = document(*arguments, "--part", "2/2", "--jobs", "2", "--markdown", "doc.md")
    folders = sorted(folder.name for folder in Path("cells").iterdir())
    assert folders == [f"{row}-seed{seed}" for row in ("all", "baseline") for seed in (1, 2)]
    assert [row["row"] for row in found["rows"]] == ["baseline", "all"]
    assert all(row["seeds"] == 2 and row["spread"] is not None for row in found["rows"])
    assert found["rows"][1]["pairs"] == 2 and "| all |" in Path("doc.md").read_text()
    for cell in found["cells"]:
        run = Path("cells") / f"{cell['row']}-seed{cell['seed']}"
        assert cell["refreshes"] == (0 if cell["row"] == "baseline" else 2) and cell["clips"] == 16
        with np.load(run / "predictions-xsub_test.npz") as saved:
            assert cell["top1"] == pytest.approx(100 * (saved["probabilities"].argmax(1) == saved["labels"]).mean())

    interrupted = Path("cells/all-seed2")
    (interrupted / ablation.RESULT).unlink()
    kept = {path: path.stat().st_mtime_ns for path in Path("cells").glob("*/best.pt") if path.parent != interrupted}
    again = document(*arguments)
    assert [row["mean"] for row in again["rows"]] == [row["mean"] for row in found["rows"]]
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert "4 of 4 runs finished" in invoke(*arguments, "--quiet")

    both = document(*arguments, "--only-finished", "--kinematics")
    assert [row["row"] for row in both["rows"]] == ["baseline", "all", "baseline+k", "all+k"]
    assert both["rows"][:2] == again["rows"] and both["rows"][3]["pairs"] == 2 and len(both["cells"]) == 8
    evaluated = document("eval", "cells/all-seed1", "--kinematics")["kinematics"]
    (cell,) = [cell for cell in both["cells"] if (cell["row"], cell["seed"]) == ("all+k", 1)]
    assert cell["top1"] == evaluated["together"]["top1"] and cell["log_loss"] != both["cells"][1]["log_loss"]

    code, printed = failure(monkeypatch, capsys, *arguments, "--set", "train.lr=0.5")
    assert code == 1 and "baseline-seed1 was made with train.lr 0.002, not 0.5" in printed
    code, printed = failure(monkeypatch, capsys, *arguments, "--llm", "file:demo")
    assert code == 1 and "all-seed1 was answered by measured, not file:demo" in printed
    Path("cells/all-seed1/predictions-xsub_test.npz").unlink()
    code, printed = failure(monkeypatch, capsys, *arguments, "--only-finished", "--kinematics")
    assert code == 1 and "all-seed1 lacks its predictions of xsub_test: remove" in printed
    (interrupted / ablation.RESULT).write_text(json.dumps({"row": "all"}))
    code, printed = failure(monkeypatch, capsys, *arguments)
    assert code == 1 and "is damaged" in printed


def test_shuffled_answers_are_those_of_other_classes(tiny_store: Path, tmp_path: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        described(store, tmp_path / "d.h5")
        config = SkeletonAgentConfig("x")
        with agents_of(config, store, tmp_path / "d.h5") as agents:
            joints, text, sentences = agents.joints, agents.text_vectors, agents.sentences
        with agents_of(config, store, tmp_path / "d.h5", shuffled=True) as agents:
            np.testing.assert_array_equal(agents.joints, joints[[2, 3, 0, 1]])
            np.testing.assert_array_equal(agents.text_vectors, text[[2, 3, 0, 1]])
            assert agents.sentences == [sentences[k] for k in (2, 3, 0, 1)]
            counts = np.zeros((4, 4), int)
            counts[0, 1] = 2
            record = refresh(agents, counts, epoch=1)
            assert record["changed"] == [store.classes[2]]


def test_a_cell_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = tmp_path / "table.py"
    program.write_text(
        "import multiprocessing, os, sys, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from skag.ablation import _begin_process\n"
        "def cell():\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    spawn = multiprocessing.get_context('spawn')\n"
        "    ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin_process).submit(cell).result()\n"
    )
    table = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    number = int(table.stdout.readline())
    table.kill()
    try:
        table.communicate(timeout=60)  # until nobody holds the pipe any more
    except subprocess.TimeoutExpired:
        os.kill(number, signal.SIGKILL)
        pytest.fail("the cell goes on")
