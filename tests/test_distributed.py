"""Several processes train what one would: two of them on the CPU, which talk by gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from skag import runs
from skag.config import replace
from skag.methods.skeleton_agent.agents import REFRESHES, Agents
from skag.methods.skeleton_agent.config import AgentConfig, SkeletonAgentConfig
from skag.methods.skeleton_agent.network import ModelConfig, Recogniser
from skag.skeleton.store import SkeletonStore
from skag.training import distributed
from skag.training.batches import Batch
from skag.training.loop import train

from .helpers.commands import document
from .helpers.training import CPU, Silent, Stop, StopsAt, agents_of, small, task_for_a_step
from .helpers.two_processes import Pair

OPTIONS = ["--recipe", "demo", "--epochs", "4", "--device", "cpu", "--json", "--quiet"]
SMALL = ["network.channels=16,16", "network.strides=1,2", "data.num_frames=8", "agents.query_period=2"]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    two = Pair()
    yield two
    two.close()


def torchrun(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "skag"]
    command += map(str, arguments)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def changes(*settings: str) -> list[str]:
    return [word for setting in (*SMALL, *settings) for word in ("--set", setting)]


@pytest.mark.long
def test_two_processes_train_what_one_does_with_the_double_batch(
    described: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One step an epoch, and no AdamW, which makes whole steps of rounding errors.
    sgd = ("train.optimizer=sgd", "train.lr=0.002", "train.seed=1", "train.epochs=2", "agents.query_period=1")
    train = ("train", tiny_store, "--store", "d.h5", *OPTIONS)
    done = torchrun(
        described, *train, "--out", "two", *changes("train.batch_size=24", "train.sync_batch_norm=true", *sgd)
    )
    assert done.returncode == 0, done.stderr
    two = json.loads(done.stdout)
    monkeypatch.chdir(described)
    one = document(*train, "--out", "one", *changes("train.batch_size=48", *sgd))
    assert two | {"run": "one", "asked": 0} == one and one["refreshes"] == 1  # asked before, and stored
    metrics = [runs.read_lines(described / run / runs.METRICS) for run in ("two", "one")]
    for both in zip(*metrics, strict=True):
        for name in ("loss", "loss_cls", "loss_align", "train_top1", "val_loss", "val_top1"):
            assert both[0][name] == pytest.approx(both[1][name], abs=1e-4)
    records = [runs.read_lines(described / run / REFRESHES) for run in ("two", "one")]
    for record in (*records[0], *records[1]):
        record.pop("seconds"), record.pop("asked"), record.pop("cached")
    assert records[0] == records[1] and records[0][0]["confusions"]


@pytest.mark.long
def test_a_mistake_ends_all_processes_in_a_line_each(pair: Pair, described: Path, tiny_store: Path) -> None:
    done = pair.skag("train", tiny_store, "--store", "nowhere.h5", "--offline", *OPTIONS, folder=described)
    lines = [line for line in done.stderr.splitlines() if line.startswith("skag: ")]
    assert done.codes == [1, 1] and any("has no dialogue about the classes" in line for line in lines)
    assert "skag: process 1 ends, since another one did." in lines
    assert "/skag/" not in done.stderr  # no traceback of ours


def test_gradients_are_those_of_the_whole_batch(pair: Pair) -> None:
    """Of all terms, with parts of unequal size; in double precision (the losses in single), where no rounding error
    tips a ReLU over."""
    done = pair.call(__name__, "compare_gradients")
    assert done.codes == [0, 0], done.stderr


def compare_gradients() -> None:
    """What `test_gradients_are_those_of_the_whole_batch` has two processes do."""
    torch.set_default_dtype(torch.float64)
    distributed.begin(torch.device("cpu"))
    torch.manual_seed(0)
    x, labels, text = torch.randn(15, 1, 8, 20, 3), torch.randint(0, 4, (15,)), torch.randn(4, 16).float()
    shape = ModelConfig(4, 20, 1, channels=(16, 16), strides=(1, 2), embedding_dim=16)

    def one_step(model: torch.nn.Module, forward: torch.nn.Module) -> dict[str, torch.Tensor]:
        config = SkeletonAgentConfig("", agents=AgentConfig(alpha=0.2, beta=0.5))
        task = task_for_a_step(config, model, text, forward)
        task.step(Batch(x[distributed.part_of(15)], labels), torch.Generator()).loss.backward()
        return {name: weights.grad for name, weights in model.named_parameters()}

    models = []
    for _ in range(2):
        torch.manual_seed(1)
        models.append(Recogniser(shape).train())
    distributed.synchronise_batch_norm(models[0])
    together = torch.nn.parallel.DistributedDataParallel(models[0])
    found = one_step(models[0], together)
    norm = torch.nn.BatchNorm1d(2)
    norm.running_mean.fill_(5 + distributed.rank())
    distributed.share_buffers(norm)
    assert norm.running_mean.tolist() == [5, 5]
    norm = distributed.synchronise_batch_norm(torch.nn.Sequential(torch.nn.BatchNorm2d(3))).float()[0]
    plain = torch.nn.BatchNorm2d(3).float()
    torch.manual_seed(2)
    both = (torch.randn(2, 4, 3, 5, 2) + 7).bfloat16()
    part, whole = norm(both[distributed.rank()]), plain(both.flatten(0, 1).float())
    assert part.dtype == torch.bfloat16
    torch.testing.assert_close(part.float(), whole.unflatten(0, (2, 4))[distributed.rank()], rtol=0.01, atol=0.01)
    torch.testing.assert_close(norm.running_var, plain.running_var)
    del together
    distributed.end()
    threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    assert not any("gloo" in name for name in threads)  # one left when Python ends can abort the process
    expected = one_step(models[1], models[1])
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=2e-6, rtol=1e-4, msg=name)
    for name, buffer in models[1].named_buffers():
        torch.testing.assert_close(models[0].get_buffer(name), buffer, msg=name)


@pytest.mark.long
def test_without_synchronised_batch_norm_each_part_has_its_own(pair: Pair, described: Path, tiny_store: Path) -> None:
    """And clips can be mixed, nobody asked, and the run gone on with; prepared clips lie in one file."""
    settings = (
        "data.prepared=file",
        "train.batch_size=7",
        "agents.alpha=0",
        "agents.beta=0",
        "augment.mix=true",
        "network.dropout=0.2",
        "train.precision=bf16",
    )
    train = ("train", tiny_store, "--store", "d.h5", "--out", "run", *OPTIONS)
    done = pair.skag(*train, *changes(*settings), folder=described)
    assert done.codes == [0, 0], done.stderr
    found = json.loads(done.stdout)
    assert (found["epochs"], found["refreshes"]) == (4, 0)
    assert len(list((described / "cache" / "prepared").glob("*.clips"))) == 1
    metrics = runs.read_lines(described / "run" / runs.METRICS)
    assert metrics[-1]["loss_cls"] < metrics[0]["loss_cls"] and metrics[0]["loss_mix"] > 0
    last = torch.load(described / "run" / "last.pt", weights_only=True)
    assert int(last["confusions"].sum()) == 48 // 14 * 14 + 48 % 14
    facts = json.loads((described / "run" / "config.json").read_text())
    facts["config"]["train"]["epochs"] = 5
    (described / "run" / "config.json").write_text(json.dumps(facts))
    resume = ("train", "--resume", "run", "--device", "cpu", "--json", "--quiet")
    done = pair.skag(*resume, folder=described)
    assert done.codes == [0, 0], done.stderr
    assert json.loads(done.stdout)["epochs"] == 5
    assert [line["epoch"] for line in runs.read_lines(described / "run" / runs.METRICS)] == [1, 2, 3, 4, 5]


def test_all_processes_go_on_with_what_the_leader_was_told(pair: Pair, described: Path, tiny_store: Path) -> None:
    """To the weights of a run that was not interrupted: the others learn the sentences from the leader's checkpoint."""
    done = pair.call(__name__, "go_on", str(described), str(tiny_store))
    assert done.codes == [0, 0], done.stderr


def go_on(folder: str, data: str) -> None:
    """What `test_all_processes_go_on_with_what_the_leader_was_told` has two processes do."""
    distributed.begin(CPU)
    config = replace(small(epochs=5), "train", batch_size=8)

    def run_in(run: Path, watcher: Silent, resume: bool) -> None:
        with SkeletonStore(Path(data)) as store, agents_of(config, store, Path(folder, "d.h5")) as told:
            nobody = Agents(config.agents, store.layout, len(store.classes))
            train(store, config, run, told if distributed.leads() else nobody, CPU, watcher, resume=resume)

    run_in(Path(folder, "whole"), Silent(), resume=False)
    with pytest.raises(Stop):
        run_in(Path(folder, "cut"), StopsAt("step", 7), resume=False)
    assert torch.load(Path(folder, "cut", "last.pt"), weights_only=True)["epoch"] == 2
    run_in(Path(folder, "cut"), Silent(), resume=True)
    distributed.share([])  # the leader has written its last checkpoint
    weights = [torch.load(Path(folder, run, "last.pt"), weights_only=True)["model"] for run in ("whole", "cut")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    distributed.end()


def test_one_process_keeps_everything_to_itself() -> None:
    assert (distributed.size(), distributed.rank(), distributed.leads()) == (1, 0, True)
    assert distributed.begin(torch.device("cpu")) == torch.device("cpu")
    assert distributed.part_of(7) == slice(0, 7) and distributed.share([1]) == [1]
    rows = torch.ones(3, 2)
    assert distributed.gather(rows, 3) is rows
    np.testing.assert_array_equal(distributed.interleave(rows.numpy(), 3), rows)
