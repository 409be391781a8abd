"""The benchmarks of speed run: at toy size, on a CPU. What they find is not looked at, only that they find it."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from skag.skeleton.simulate import ACTIONS

from .helpers.language_models import tiny_folder
from .helpers.recordings import ROOT

pytestmark = pytest.mark.long


def run(*words: object) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_a_gpu_is_to_measure_runs_on_a_cpu(tmp_path: Path) -> None:
    scored = runpy.run_path(str(ROOT / "benchmarks" / "candidate_scoring.py"))
    base = tiny_folder(tmp_path / "lm", words=" ".join([*ACTIONS, *scored["VERBS"], *scored["THINGS"]]))
    settings = f"OUT={tmp_path / 'out'} BASE_MODEL={base} PYTHON={sys.executable}"
    told = run("env", *settings.split(), "bash", ROOT / "benchmarks" / "gpu.sh", "--toy")
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    assert set(found) == {"step", "whole", "stages", "scoring"} and "results in" in told
    assert set(found["step"]["variants"]) == {"plain", "skag", "skag-compiled"}
    assert found["step"]["against_plain"].keys() == {"skag", "skag-compiled"}
    assert found["whole"]["seconds"].keys() == {"describe", "train", "eval"}
    assert [row["stage"] for row in found["stages"]["rows"]] == ["train", "align", "teach", "tune", "codebook", "tune"]
    assert all(row["clips a second"] > 0 and row["peak MB"] > 0 for row in found["stages"]["rows"])
    assert found["scoring"]["scoring"][0]["names"] == 5


def test_parts_of_speed_run(tiny_store: Path, tmp_path: Path) -> None:
    speed = (sys.executable, ROOT / "benchmarks" / "speed.py")
    predicted = json.loads(run(*speed, "predict", tiny_store, "--toy"))
    assert predicted["with evidence, times without"] > 1
    started = json.loads(run(*speed, "start", "--toy", "--out", tmp_path / "start.json"))
    assert started == json.loads((tmp_path / "start.json").read_text())
    assert {row["command"] for row in started["rows"]} > {"skag --help", "skag doctor"}
    profiled = json.loads(run(*speed, "profile", tiny_store, "--toy"))
    assert sum(profiled["share of a step, %"].values()) == pytest.approx(100, abs=1)
    assert 0 < profiled["share of that rate, %"] < 100
    assert all(each["ms a clip"] > 0 for each in profiled["by batch and frames"])
    reached = json.loads(run(*speed, "to90", tiny_store, "--epochs", 2, "--toy"))
    assert reached["to what both reach"]["ratio"] > 0
    assert (
        len(reached["plain"]["top-1 after every epoch"]) <= 2 and len(reached["skag"]["top-1 after every epoch"]) == 2
    )


def test_training_from_a_file_sees_what_training_in_memory_sees(tmp_path: Path) -> None:
    """The benchmark itself compares what the processes see."""
    words = ("--clips", 120, "--limit-gib", 4, "--steps", 1, "--rounds", 1, "--folder", tmp_path)
    found = json.loads(run(sys.executable, ROOT / "benchmarks" / "larger_than_memory.py", *words))
    assert set(found["processes"]) == {"memory", "file", "file, cold"}
    assert found["processes"]["file"]["bytes"] > found["processes"]["memory"]["bytes"] > 10**7  # the test clip too


def test_names_of_kinder_gator_come_to_48_actions(tmp_path: Path) -> None:
    """Names of files as the recordings have them, and pairs of "your hand" and "your other hand" as one action."""
    made = runpy.run_path(str(ROOT / "benchmarks" / "kinder_gator.py"))
    names = [
        *made["SAME"],
        *made["SAME"].values(),
        "Swipe across an imaginary screen in front of you from left to right",
    ]
    for group, person in (("Adults", "565"), ("Children", "103")):
        (tmp_path / group).mkdir()
        for number, name in enumerate(names):
            file = f"POSE-p{person}_{number:02d}-{name.replace(' ', '-')}-1469182402284.csv"
            (tmp_path / group / file).write_text("")
    found = made["recordings"](tmp_path)
    assert len(found) == 2 * len(names) and len({label for _, label, *_ in found}) == len(made["SAME"]) + 1
    assert {(person, child) for *_, person, child in found} == {("565", False), ("103", True)}
    few = made["some"](found, {"103"}, 1)
    assert sum(child for *_, child in few) == len(names)  # all that test
    assert len({label for _, label, _, child in few if not child}) == len(few) - len(names) == len(made["SAME"]) + 1
