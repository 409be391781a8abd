"""First impressions: where to begin, what was meant, what Tab offers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from skag.cli import app, completion
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, write_store
from skag.suggestions import did_you_mean, nearest_path, no_recordings, no_run, no_store, what_is

from .helpers.commands import HEAVY, failure, invoke


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two stores, a note and three runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("nw-ucla.h5", "sbu.h5", "nw-ucla.txt", ".nw-ucal.h5"):
        (tmp_path / name).touch()
    for run in ("runs/ucla-j", "runs/six/bm", "other"):
        (tmp_path / run).mkdir(parents=True)
        for file in ("config.json", "data.json"):
            (tmp_path / run / file).write_text("{}")
    (tmp_path / "runs" / "notes").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("nw-ucal.h5", "nw-ucla.h5"),
        ("nw-ucla", "nw-ucla.h5"),
        ("NW-UCLA.H5", "nw-ucla.h5"),
        ("nw-ucla.hdf5", "nw-ucla.h5"),
        ("absent.h5", None),  # ".h5" makes nothing alike
        ("nowhere/nw-ucla.h5", None),
    ],
)
def test_the_nearest_file_is_found(typed: str, meant: str | None, folder: Path) -> None:
    stores = nearest_path(Path(typed), lambda path: path.suffix == ".h5")
    assert stores == (None if meant is None else Path(meant))
    step = did_you_mean(Path(typed), "make one.", lambda path: path.suffix == ".h5")
    assert step == ("make one." if meant is None else f"did you mean {meant}?")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "nw-ucal.h5"], "no skeleton store nw-ucal.h5: did you mean nw-ucla.h5?"),
        (["check", "nw-ucla.txtt"], "did you mean nw-ucla.h5?"),  # the text is no store
        (["check", "elsewhere.h5"], "make one with `skag convert"),
        (["eval", "runs/ucla-b"], "no run folder runs/ucla-b: did you mean runs/ucla-j?"),
        (["eval", "runs/note"], "make one with `skag train"),
        (["runs", "run"], "did you mean runs?"),
        (["convert", "nw-ucla.tx", "out.h5"], "nw-ucla.tx does not exist: did you mean nw-ucla."),
        (["train", "sbu.h5", "--recipe", "nw-ucla-smal"], "sbu.h5"),
    ],
)
def test_what_was_typed_gets_a_suggestion(arguments, says, folder, monkeypatch, capsys) -> None:
    code, printed = failure(monkeypatch, capsys, *arguments)
    assert code == 1 and says in printed and printed.count("\n") == 1


def test_commands_and_options_get_suggestions(monkeypatch, capsys) -> None:
    assert "Did you mean 'train'?" in failure(monkeypatch, capsys, "trian")[1]
    assert "--recipe" in failure(monkeypatch, capsys, "train", "--recpe", "x")[1]


def test_names_of_other_tools_are_understood(monkeypatch, capsys) -> None:
    for name in ("test", "evaluate", "analyze", "report"):
        assert "no run folder nowhere" in failure(monkeypatch, capsys, name, "nowhere")[1]
    for option, field in (("--lr", "train.lr"), ("--batch-size", "train.batch_size"), ("--learning-rate", "train.lr")):
        assert f"--set {field}=VALUE" in failure(monkeypatch, capsys, "train", "x.h5", option, "1")[1]
    assert "exports are ONNX, name it p.onnx" in failure(monkeypatch, capsys, "export", "runs/x", "p.pt")[1]


def test_what_was_given_in_another_things_place_is_named(folder: Path, monkeypatch, capsys) -> None:
    (folder / "squat.csv").write_text("nose_x,nose_y\n1,2\n")
    (folder / "runs" / "ucla-j" / "best.pt").write_bytes(b"")
    with write_store(folder / "real.h5", load_layout("coco")) as writer:
        writer.add(Clip("a", 0, np.ones((1, 1, 17, 2), "f4")))
        writer.finish(["one"])
    kinds = {"real.h5": "store", "runs": "runs", "runs/ucla-j": "run", "runs/ucla-j/best.pt": "part of a run",
             "squat.csv": "recordings", "nw-ucla.txt": "file", "absent": "nothing", "runs/notes": "folder"}  # fmt: skip
    assert {name: what_is(Path(name)) for name in kinds} == kinds
    for arguments, says in (
        (["train", "squat.csv"], "`skag convert squat.csv squat.h5` makes one"),
        (["check", "runs/ucla-j"], "is a run folder, no skeleton store: `skag eval runs/ucla-j` evaluates it"),
        (["check", "runs"], "`skag runs runs` lists them"),
        (["eval", "squat.csv"], "`skag predict RUN squat.csv` recognises them"),
        (["predict", "real.h5", "runs/ucla-j"], "the run comes first: `skag predict runs/ucla-j real.h5`"),
        (["eval", "runs"], "is a folder of runs: give one of them"),
        (["convert", "real.h5", "again.h5"], "is a skeleton store already"),
        (["convert", "runs", "again.h5"], "is a folder of runs and holds no recordings"),
        (["runs", "squat.csv"], "squat.csv is a file: name a folder that holds runs"),
        (["dialogues", "list", "--store", "squat.csv"], "is a recording, no dialogue store: choose another --store"),
    ):
        code, printed = failure(monkeypatch, capsys, *arguments)
        assert code == 1 and says in printed and printed.count("\n") == 1
    assert "real.h5 is a skeleton store already: `skag check real.h5`" in no_recordings(Path("real.h5"))
    assert "runs/ucla-j is a run folder and holds no recordings" in no_recordings(Path("runs/ucla-j"))
    assert no_recordings(Path("squat.csv")) is None
    assert "`skag predict RUN squat.csv` recognises them" in no_run(Path("squat.csv"))
    assert "is a skeleton store, no run folder: `skag train real.h5`" in no_run(Path("real.h5"))
    assert "give its folder, runs/ucla-j" in no_run(Path("runs/ucla-j/best.pt"))
    assert no_run(Path("nw-ucla.txt")) is None and no_store(Path("absent")) is None


def test_skag_alone_says_where_to_begin() -> None:
    shown = invoke()
    begin = [line.split()[1] for line in shown.splitlines() if line.startswith("  skag ")]
    assert begin == ["convert", "describe", "train"]
    assert "skag --help" in shown and max(map(len, shown.splitlines())) <= 80


def offered(words: str) -> list[str]:
    """What bash would be told when Tab is pressed behind these words."""
    environment = {"_SKAG_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    return CliRunner().invoke(app, [], prog_name="skag", env=environment).stdout.split()


def test_tab_completes_commands_recipes_layouts_and_runs(folder: Path) -> None:
    assert offered("skag do") == ["doctor"]
    assert offered("skag train sbu.h5 --recipe nw") == ["nw-ucla", "nw-ucla-small"]
    assert offered("skag recipes show sb") == ["sbu"]
    assert offered("skag convert x --layout ki") == ["kinect-v1"]
    assert offered("skag eval runs/") == ["runs/six/bm", "runs/ucla-j"]
    assert offered("skag eval runs/ucla-j runs/six/") == ["runs/six/bm"]
    assert offered("skag export o") == ["other"]
    assert offered("skag analyze-confusion ") == ["other", "runs/six/bm", "runs/ucla-j"]
    assert offered("skag train --resume runs/u") == ["runs/ucla-j"]


def test_a_folder_that_is_not_there_completes_to_nothing() -> None:
    assert completion.run_folders("/nowhere/at/all") == []


def test_completing_runs_imports_nothing_heavy() -> None:
    code = f"import sys; from skag.cli import completion; completion.run_folders('')\n\
print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_completion_can_be_installed(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    code = "import sys; sys.argv[0] = 'skag'; from skag.cli import main; main()"
    command = [sys.executable, "-c", code, "--install-completion", "bash"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (script,) = (path for path in tmp_path.rglob("*.sh") if path.is_file())
    assert "_SKAG_COMPLETE" in script.read_text() and str(script) in (tmp_path / ".bashrc").read_text()
