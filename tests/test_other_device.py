"""Training and evaluation on a device that is not the CPU: no tensor is left behind, and numbers are the CPU's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from skag import runs

from .helpers.commands import invoke

SMALL = "--set network.channels=16,16 --set network.strides=1,2 --set data.num_frames=8 -q --json"
TRAININGS = {
    "demo": "--set agents.query_period=1 --set train.optimizer=sgd --set train.lr=0.002",
    "options": "--set augment.mix=true --set train.ema=0.9 --set agents.confusion=val",
    "present": "--set network.present_bodies_only=true --set agents.alignment_scale=learned --set train.optimizer=sgd "
    "--set augment.part_drop=0.5 --set augment.heading=0.3 --set augment.scale=0.1",
    "motion": "--stream km --set train.balance=0.5 --set data.sampling=uniform-decode --set network.dropout=0.2 "
    "--set data.mirror_views=true",
}


def command(name: str, store: Path) -> str:
    return f"train {store} --store d.h5 --out {name} --recipe demo --epochs 2 {SMALL} {TRAININGS[name]}"


def tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from tensors(one)


@pytest.mark.long
def test_training_on_another_device(described: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    options = {"cwd": described, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    commands = [command(name, tiny_store) for name in TRAININGS]
    commands.insert(2, "too-large")
    commands += ["eval demo -q --json", "analyze-confusion demo -q --json", "train --resume options -q --json"]
    done = subprocess.run([sys.executable, "-m", "tests.helpers.other_device", *commands], check=False, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in TRAININGS:
        assert runs.read_json(described / name, "environment.json")["device"] == "elsewhere:0"
        for file in ("best.pt", "last.pt"):
            found = list(tensors(torch.load(described / name / file, weights_only=True)))
            assert found and {one.device.type for one in found} == {"cpu"}

    again = command("demo", tiny_store).replace("--out demo", "--out here --device cpu")
    monkeypatch.chdir(described)
    invoke(*again.split())
    for both in zip(*(runs.read_lines(described / run / runs.METRICS) for run in ("demo", "here")), strict=True):
        for name in ("loss", "loss_con", "loss_align", "train_top1", "val_loss", "val_top1"):
            assert both[0][name] == pytest.approx(both[1][name], abs=1e-4)
