"""Run folders read as a list: whole, cut off, imported, damaged."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from skag import recipes, runs
from skag.cli import app, main
from skag.config import replace
from skag.errors import RunError

from .helpers.commands import document, failure, invoke


def made(
    folder: Path,
    *,
    epochs: int,
    planned: int = 4,
    store: str | None = "/data/tiny.h5",
    age: float = 0,
    held_out: int = 8,
) -> Path:
    """A run folder as training leaves it after some epochs, last written to `age` seconds ago."""
    folder.mkdir(parents=True)
    config = replace(recipes.recipe("demo", "b"), "train", epochs=planned, seed=7)
    (folder / runs.CONFIG).write_text(json.dumps({"config": config.to_dict()}))
    (folder / runs.DATA).write_text(
        json.dumps({"store": store, "fingerprint": "f", "training": [], "validation": [*range(held_out)]})
    )
    top1 = [50.0, 80.0, 70.0, 75.0]
    lines = [json.dumps({"epoch": n + 1, "val_top1": top1[n], "seconds": 1.5}) + "\n" for n in range(epochs)]
    if store is not None:
        (folder / runs.METRICS).write_text("".join(lines))
    for path in folder.iterdir():
        os.utime(path, (time.time() - age,) * 2)
    return folder


def predictions(run: Path, split: str, right: int, clips: int = 8) -> None:
    labels = np.zeros(clips, int)
    probabilities = np.eye(2)[(np.arange(clips) >= right).astype(int)]
    np.savez(run / f"predictions-{split}.npz", labels=labels, probabilities=probabilities)


def test_runs_are_listed_with_their_results(tmp_path: Path) -> None:
    predictions(made(tmp_path / "b" / "done", epochs=4, age=3000), "xsub_test", 6)
    predictions(tmp_path / "b" / "done", "xsub_train", 8)  # of no test split
    cut = made(tmp_path / "a", epochs=2, age=2000)
    with (cut / runs.METRICS).open("a") as file:
        file.write('{"epoch": 3, "val_to')  # killed while it wrote
    os.utime(cut / runs.METRICS, (time.time() - 2000,) * 2)
    made(tmp_path / "new", epochs=1)
    with runs.training(tmp_path / "new"):
        found = runs.list_runs(tmp_path)
    assert runs.summarise(tmp_path / "new").state == "interrupted"
    assert [Path(run.run).name for run in found] == ["done", "a", "new"]  # the one written to last at the end
    assert [run.state for run in found] == ["finished", "interrupted", "running"]
    assert [(run.epochs, run.planned) for run in found] == [(4, 4), (2, 4), (1, 4)]
    assert [run.val_top1 for run in found] == [75, 80, 50] and [run.best_epoch for run in found] == [4, 2, 1]
    assert [run.test_top1 for run in found] == [75, None, None]
    assert {(run.recipe, run.stream, run.seed, run.data) for run in found} == {("demo", "b", 7, "/data/tiny.h5")}
    assert runs.list_runs(tmp_path / "a")[0].run == str(tmp_path / "a")  # a run folder itself


def test_the_kept_epoch_is_the_one_that_training_keeps(tmp_path: Path) -> None:
    """Near-equals are fewer the more clips are held out: 75 is near 80 on 8 clips, and not on 1000."""
    for clips, epoch, top1 in ((8, 4, 75), (1000, 2, 80)):
        found = runs.summarise(made(tmp_path / str(clips), epochs=4, held_out=clips))
        assert (found.best_epoch, found.val_top1) == (epoch, top1)
    assert [runs.kept_index([50, 80, 80, 75], 1000, keep) for keep in ("near-highest", "highest", "last")] == [2, 1, 3]


def test_imported_weights_are_neither_finished_nor_interrupted(tmp_path: Path) -> None:
    found = runs.summarise(made(tmp_path / "imported", epochs=0, store=None, age=5000))
    assert (found.state, found.planned, found.val_top1) == ("imported", 0, None)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (runs.CONFIG, b"{", "config.json is damaged"),
        (runs.CONFIG, b"[1]", "config.json is damaged"),
        (runs.CONFIG, b'{"config": 3}', "expected fields of SkeletonAgentConfig"),
        (runs.CONFIG, None, "config.json is missing"),
        (runs.DATA, b"\xff\xfe", "data.json is damaged"),
        (runs.DATA, b"{}", "run: data.json or metrics.jsonl does not hold what skag writes: train"),
        (runs.METRICS, b"no JSON\n", "metrics.jsonl is damaged: take it from a copy"),
        (runs.METRICS, b"[1, 2]\n", "does not hold what skag writes"),
        (runs.METRICS, b'{"epoch": "many"}\n', "does not hold what skag writes"),
        ("predictions-test.npz", b"no archive", "predictions-test.npz is damaged"),
    ],
)
def test_damaged_folders_are_listed_as_such(name: str, content: bytes | None, says: str, tmp_path: Path) -> None:
    run = made(tmp_path / "run", epochs=2)
    (run / "best.pt").touch()
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(content)
    (found,) = runs.list_runs(tmp_path)
    assert found.state == "damaged" and says in found.reason and found.recipe is None
    assert "Error" not in found.reason


def test_other_folders_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")  # as a sentence encoder's folder has it
    assert runs.list_runs(tmp_path) == []
    with pytest.raises(RunError, match="no folder .*nowhere: `skag train"):
        runs.list_runs(tmp_path / "nowhere")


def test_a_checkpoint_on_a_full_disk_leaves_the_earlier_one(tmp_path: Path) -> None:
    """PyTorch says "unexpected pos" where the disk is full; what the system said comes through."""
    path = tmp_path / "last.pt"
    runs.write_whole(path, lambda file: torch.save({"epoch": 1}, file))

    class Full(io.BytesIO):
        def write(self, data) -> int:
            if self.tell() > 4000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    with pytest.raises(OSError) as caught:
        runs.write_whole(path, lambda file: torch.save({"weights": torch.zeros(9000)}, Full()))
    assert caught.value.errno == errno.ENOSPC
    assert torch.load(path, weights_only=True) == {"epoch": 1} and os.listdir(tmp_path) == ["last.pt"]


@pytest.mark.parametrize("damage", [b"\xff\n", b"[]\n", b"{}\n", b"{\n"])
def test_lines_that_cannot_be_read_are_left_as_they_are(damage: bytes, tmp_path: Path) -> None:
    path = made(tmp_path / "run", epochs=2) / runs.METRICS
    path.write_bytes(before := path.read_bytes() + damage)
    with pytest.raises(RunError, match="metrics.jsonl is damaged"):
        runs.keep_lines(path, lambda line: line["epoch"] <= 1)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "environment", "shows"),
    [
        ([], {"PYTHONIOENCODING": "ascii"}, "gr??er"),
        (["--json"], {"PYTHONIOENCODING": "ascii"}, r"gr\u00f6\u00dfer"),
        (["--json"], {"PYTHONIOENCODING": "utf-8"}, "größer"),
        ([], {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "gr????er"),
    ],
)
def test_names_that_the_terminal_cannot_show(arguments, environment, shows, tmp_path: Path) -> None:
    made(tmp_path / "größer", epochs=4)
    command = [sys.executable, "-m", "skag", "runs", tmp_path, *arguments]
    done = subprocess.run(command, capture_output=True, env=os.environ | environment)
    assert done.returncode == 0 and shows in done.stdout.decode() and not done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_closed_streams_take_nothing(closed: str, tmp_path: Path) -> None:
    made(tmp_path / "bad", epochs=1).joinpath(runs.CONFIG).write_text("{")
    command = f'"{sys.executable}" -m skag runs "{tmp_path}" {closed}'
    done = subprocess.run(command, shell=True, capture_output=True)
    assert done.returncode == 0
    if closed == ">&-":
        assert not done.stdout and done.stderr.startswith(b"Damaged: ") and done.stderr.count(b"\n") == 1
    else:
        assert b"damaged" in done.stdout and b"Damaged: " not in done.stdout and not done.stderr


def test_the_command_shows_the_list(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed = failure(monkeypatch, capsys, "runs")
    assert code == 1 and "no folder runs" in printed and printed.count("\n") == 1
    predictions(made(tmp_path / "runs" / "ucla" / "j", epochs=4), "test", 6)
    made(tmp_path / "runs" / "bad", epochs=1).joinpath(runs.CONFIG).write_text("{")
    shown = invoke("runs")
    assert "ucla/j" in shown and "tiny.h5" in shown and "4/4" in shown and shown.count("75.00") == 2
    assert [run["state"] for run in document("runs")["runs"]] == ["damaged", "finished"]
    monkeypatch.setattr("sys.argv", ["skag", "runs"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        main()
    printed = capsys.readouterr()
    assert done.value.code == 0 and "Damaged: runs/bad/config.json is damaged" in printed.err
    assert "--resume" not in printed.err
    made(tmp_path / "runs" / "cut off", epochs=2, age=5000)
    made(tmp_path / "runs" / "now", epochs=2)
    with runs.training(tmp_path / "runs" / "now"):
        noted = CliRunner().invoke(app, ["runs"]).stderr
    assert "interrupted: go on with `skag train --resume 'runs/cut off'`.\n" in noted and "runs/now" not in noted
