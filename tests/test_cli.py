"""The command line as scripts and people meet it: shapes of --json, one-line errors, exit codes, a quick --help."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import skag
from skag.cli import app, main
from skag.cli.output import Output
from skag.cli.progress import Terminal, _losses
from skag.errors import DataError
from skag.methods.skeleton_agent.network import ModelConfig

from .helpers.commands import HEAVY, document, failure, invoke
from .helpers.published import checkpoint
from .helpers.servers import Fault, reply_by_round, serve
from .helpers.tiny import CLASSES, tiny_clip


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PYSKL-style pickle of four classes and five subjects; the working folder is temporary."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    split: dict[str, list[str]] = {"xsub_train": [], "xsub_val": []}
    annotations = []
    for subject in range(1, 6):
        for label in range(4):
            for take in range(4):
                name = f"S001C001P{subject:03}R{take + 1:03}A{label + 1:03}"
                split["xsub_val" if subject == 5 else "xsub_train"].append(name)
                clip = tiny_clip(label, rng)
                annotations.append({"frame_dir": name, "label": label, "keypoint": clip, "total_frames": clip.shape[1]})
    path = tmp_path / "tiny.pkl"
    path.write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return path


def test_the_main_job_end_to_end(recordings: Path, monkeypatch, capsys) -> None:
    converted = document("convert", recordings, "tiny.h5", "--classes", "classes.txt", "--jobs", "2")
    assert (converted["clips"], converted["layout"], converted["joints"]) == (80, "kinect-v1", 20)
    assert converted["classes"] == CLASSES and converted["splits"] == {"xsub_train": 64, "xsub_val": 16}
    assert {"bodies", "frames", "skipped"} <= set(converted)

    described = document("describe", "tiny.h5", "--llm", "measured")
    expected = {"classes": 4, "rounds": 5, "asked": 20, "cached": 0, "failed": [], "by_fallback": 0}
    assert expected.items() <= described.items()
    assert document("describe", "tiny.h5")["cached"] == 20
    assert Path("cache/dialogues.h5").exists()

    trained = document("train", "tiny.h5", "--recipe", "demo", "--epochs", 5, "--seed", 3, "--set", "data.num_frames=8")
    facts = {
        "run",
        "epochs",
        "best_epoch",
        "val_top1",
        "majority_top1",
        "selected_on",
        "refreshes",
        "asked",
        "too_late",
    }
    assert set(trained) == facts and trained["majority_top1"] == 25
    assert trained["epochs"] == 5 and trained["refreshes"] == 1
    run = Path(trained["run"])
    assert run.parent == Path("runs") and run.name.startswith("tiny-j-")

    listed = document("runs")["runs"][0]
    assert (listed["best_epoch"], listed["val_top1"]) == (trained["best_epoch"], trained["val_top1"])

    evaluated = document("eval", run, "--num-clips", 3)
    facts = {"runs", "fusions", "weights", "fitted_on", "split", "clips", "num_clips_per_sample", "kinematics"}
    assert set(evaluated) == facts | {"top1", "top5", "mean_class"} and evaluated["fusions"] == []
    assert evaluated["kinematics"] is None
    assert "with kinematics" in invoke("eval", run, "--kinematics", "--quiet")
    assert (evaluated["split"], evaluated["clips"], evaluated["num_clips_per_sample"]) == ("xsub_val", 16, 3)
    assert evaluated["top5"] == 100 and evaluated["runs"][0]["top1"] == evaluated["top1"]

    analysed = document("analyze-confusion", run)
    assert analysed["top1"] == pytest.approx(evaluated["top1"], abs=0.01)
    assert set(analysed["sets"]) == {"hard", "medium", "easy"}
    assert sum(len(found["classes"]) for found in analysed["sets"].values()) == 4
    assert [row["class"] for row in analysed["per_class"]] == CLASSES and analysed["per_class"][0]["n"] == 4
    wrong = round(16 * (1 - analysed["top1"] / 100))
    assert sum(pair["count"] for pair in analysed["pairs"]) == wrong
    figures = ("confusion", "class-accuracy", "reliability", "topology", "embeddings", "critical-joints")
    assert list(analysed["figures"]) == list(figures) and analysed["missing"] == []
    assert all((run / "figures" / f"{name}.png").stat().st_size > 1000 for name in figures)
    assert analysed["report"] == str(run / "report.html") and CLASSES[0] in (run / "report.html").read_text()
    assert len(analysed["refreshes"]) == 1 and 0 <= analysed["refreshes"][0]["asked_before"] <= 100

    shown = invoke("analyze-confusion", run, "--reference", run)
    assert "Classes by difficulty" in shown and CLASSES[0] in shown
    assert "0 clips gained, 0 lost, p = 1, within noise" in shown and "Expected calibration error" in shown
    Path("tiny.h5").rename("moved.h5")
    with pytest.raises(DataError, match="give the store with --data"):
        document("eval", run)
    assert document("eval", run, "--data", "moved.h5")["clips"] == 16
    Path("moved.h5").rename("tiny.h5")

    code, printed = failure(monkeypatch, capsys, "eval", run, f"{run}/../{run.name}")
    assert code == 1 and "is given twice" in printed
    shutil.copytree(run, "copy")
    fused = document("eval", run, "copy")
    assert fused["top1"] == document("eval", run)["top1"] and len(fused["runs"]) == 2


def test_without_a_recipe_train_says_what_it_chose(recordings: Path, capfd: pytest.CaptureFixture) -> None:
    invoke("convert", recordings, "tiny.h5", "--classes", "classes.txt", "--quiet")
    result = CliRunner().invoke(app, ["train", "tiny.h5", "--epochs", "1", "--alpha", "0", "--beta", "0", "--out", "r"])
    assert result.exit_code == 0
    assert "Recipe derived from the data" in result.stderr and "64 clips" in result.stderr
    assert "but as asked for: train.epochs=1, agents.alpha=0.0, agents.beta=0.0\n" in result.stderr
    config = json.loads(Path("r/config.json").read_text())["config"]
    assert config["recipe"] == "derived" and config["agents"]["alpha"] == 0


def test_a_run_that_learned_nothing_is_told_of(recordings: Path) -> None:
    invoke("convert", recordings, "tiny.h5", "--classes", "classes.txt", "--quiet")
    options = ["train", "tiny.h5", "--recipe", "demo", "--alpha", "0", "--beta", "0", "--set", "train.lr=10"]
    result = CliRunner().invoke(app, [*options, "--epochs", "1", "--out", "r"])
    assert result.exit_code == 0 and "top-1 25.00 %" in result.stdout
    assert "class has there (25.00 %). See what `skag check tiny.h5` finds, or try --set train.lr=1 or" in result.stderr


def test_a_processor_that_bf16_slows_down_is_told_of(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke("convert", recordings, "tiny.h5", "--classes", "classes.txt", "--quiet")
    options = ["train", "tiny.h5", "--recipe", "demo", "--alpha", "0", "--beta", "0", "--epochs", "1"]
    options += ["--set", "data.num_frames=8"]
    for has, precision in ((False, "bf16"), (True, "bf16"), (False, "float32")):
        monkeypatch.setattr("skag.training.start.multiplies_bf16", lambda has=has: has)
        out = f"{precision}-{has}"
        setting = f"train.precision={precision}"
        result = CliRunner().invoke(app, [*options, "--device", "cpu", "--set", setting, "--out", out])
        assert result.exit_code == 0
        assert ("no instructions for bf16" in result.stderr) == (out == "bf16-False")


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("touch executed",)


def truncated_archive(folder: Path) -> Path:
    (folder / "a01_s01_e01_v01.json").write_text(json.dumps({"skeletons": np.ones((50, 20, 3)).tolist(), "label": 1}))
    whole = folder / "whole.tar"
    with tarfile.open(whole, "w") as archive:
        archive.add(folder / "a01_s01_e01_v01.json")
    path = folder / "cut.tar"
    path.write_bytes(whole.read_bytes()[:2000])
    return path


def without_skeletons(folder: Path) -> Path:
    path = folder / "only" / "a01_s01_e01_v01.json"
    path.parent.mkdir()
    path.write_text('{"label": 1}')
    return path.parent


def hostile_pickle(folder: Path) -> Path:
    path = folder / "evil.pkl"
    path.write_bytes(pickle.dumps([Evil()]))
    return path


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "absent.pkl", "absent.pkl does not exist"),
        (empty_folder, "holds no files"),
        (truncated_archive, "truncated"),
        (hostile_pickle, "does not load from a pickle (nothing was run)"),
        (without_skeletons, 'has no "skeletons"'),
    ],
)
def test_bad_recordings_end_in_one_line(make, says, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed = failure(monkeypatch, capsys, "convert", make(tmp_path), "out.h5")
    assert code == 1 and says in printed and printed.count("\n") == 1
    assert not list(tmp_path.glob("**/*.h5")) and not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "absent.h5"], "no skeleton store absent.h5"),
        (["train", "classes.txt"], "no readable HDF5 file"),
        (["train", "tiny.h5", "--recipe", "dmo"], "did you mean 'demo'"),
        (["train", "tiny.h5", "--recipe", "demo", "--offline"], "skag describe tiny.h5 --llm measured"),
        (["train", "tiny.h5", "--recipe", "demo", "--llm", "ollama/x"], "skag describe tiny.h5 --llm ollama/x --store"),
        (["train", "tiny.h5", "--protocol", "xview"], "no protocol 'xview'"),
        (["train", "tiny.h5", "--text-encoder", "lexcal"], "lexical"),
        (["train", "tiny.h5", "--device", "cuda"], "finds no cuda device"),
        (["train", "tiny.h5", "--out", "full"], "full is there already"),
        (["describe", "tiny.h5", "--llm", "magic/model"], "magic"),
        (["describe", "tiny.h5", "--prompts", "nowhere"], "nowhere"),
        (["describe", "tiny.h5", "--store", "./tiny.h5"], "tiny.h5 is the skeleton store"),
        (["train", "tiny.h5", "--store", "./tiny.h5"], "tiny.h5 is the skeleton store"),
        (["ablate", "tiny.h5", "--store", "./tiny.h5", "--out", "a"], "tiny.h5 is the skeleton store"),
        (["eval", "nowhere"], "no run folder nowhere"),
        (["analyze-confusion", "full"], "full is a folder without a config.json, no run"),
    ],
)
def test_wrong_input_ends_in_one_line(arguments, says, recordings, monkeypatch, capsys) -> None:
    if arguments[-1] == "cuda":
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a CUDA device")
    invoke("convert", recordings, "tiny.h5", "--classes", "classes.txt", "--quiet")
    Path("full").mkdir()
    Path("full/file").touch()
    code, printed = failure(monkeypatch, capsys, *arguments, "--quiet")
    assert code == 1 and says in printed and printed.count("\n") == 1


def test_an_unreachable_language_model_loses_nothing(recordings, monkeypatch, capsys) -> None:
    invoke("convert", recordings, "tiny.h5", "--classes", "classes.txt", "--quiet")
    arguments = ["describe", "tiny.h5", "--llm", "ollama/llama3.2", "--base-url", "http://127.0.0.1:9", "--quiet"]
    code, printed = failure(monkeypatch, capsys, *arguments)
    assert code == 1 and "ollama serve" in printed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["openai/tiny"], "no key for https://api.openai.com: set OPENAI_API_KEY. Then run the same command again.\n"),
        (
            ["openai/tiny", "--base-url", "x.invalid"],
            "no connection to https://x.invalid: check the network and --base",
        ),
        (["opanai/gpt"], "no backend 'opanai/gpt': did you mean openai/gpt?\n"),
    ],
)
def test_describing_says_what_is_missing_once(options, says, recordings, monkeypatch, capfd) -> None:
    invoke("convert", recordings, "tiny.h5", "--classes", "classes.txt", "--quiet")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if "--base-url" in options:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.setattr(sys, "argv", ["skag", "describe", "tiny.h5", "--llm", *options])
    with pytest.raises(SystemExit) as done:
        main()
    out, printed = capfd.readouterr()
    assert done.value.code == 1 and says in printed and printed.count("\n") == 1 and says[:20] not in out
    assert "kept" not in printed  # nothing was answered


def test_answers_that_do_not_fit_are_asked_of_another_model(recordings, monkeypatch, capsys) -> None:
    invoke("convert", recordings, "tiny.h5", "--classes", "classes.txt", "--quiet")
    with serve("openai") as server:
        server.reply = lambda messages: "No." if CLASSES[0] in messages[1]["content"] else reply_by_round(messages)
        arguments = ["describe", "tiny.h5", "--llm", "openai/tiny", "--base-url", f"{server.address}/v1", "--quiet"]
        code, printed = failure(monkeypatch, capsys, *arguments)
    assert code == 1 and f"1 of 4 classes have no complete dialogue ({CLASSES[0]}): round" in printed
    assert "Run the same command again, which puts only these anew, or with another model" in printed


def test_a_server_is_paid_asked_again_and_fallen_back_from(recordings, monkeypatch, capsys) -> None:
    """Prices, a second model, a quota that ends in the middle, and going on where it ended."""

    def reply(messages: list[dict[str, str]]) -> str:
        refused = len(messages) == 4 and CLASSES[0] in messages[1]["content"]
        return "I'm sorry, but I can't help with that." if refused else reply_by_round(messages)

    invoke("convert", recordings, "tiny.h5", "--classes", "classes.txt", "--quiet")
    with serve("openai") as server:
        server.reply = reply
        server.faults = [Fault()] * 7 + [Fault(429, b'{"error": {"code": "insufficient_quota"}}')]
        arguments = ["describe", "tiny.h5", "--llm", "openai/tiny", "--base-url", f"{server.address}/v1", "--jobs", 1]
        arguments += ["--fallback", "measured", "--price-in", 2, "--price-out", 10, "--temperature", 0, "--quiet"]
        code, printed = failure(monkeypatch, capsys, *arguments)
        assert code == 1 and "is used up: wait until it is renewed" in printed
        assert server.chats()[0]["temperature"] == 0
        report = document(*arguments)
        assert (report["asked"], report["cached"], report["by_fallback"], report["failed"]) == (13, 8, 1, [])
        usage, before = report["usage"], report["usage_before"]
        assert usage["tokens_in"] == 13 * 40 and usage["cost"] == pytest.approx(13 * 170e-6)
        assert before["cost"] == pytest.approx(7 * 170e-6) and before["unpriced"] == 1  # the measured answer
        shown = invoke(*arguments)
    assert "1 of the rounds answered by measured, since openai/tiny refused" in shown
    assert "answered before: 800 tokens in, 180 out" in shown and "cost 0.0034, not counting 1 answer without" in shown
    assert "asked now" not in shown


def test_a_missing_model_is_pulled_on_request(recordings, monkeypatch, capsys) -> None:
    invoke("convert", recordings, "tiny.h5", "--classes", "classes.txt", "--quiet")
    with serve("ollama") as server:
        server.installed.clear()
        server.reply = reply_by_round
        arguments = ["describe", "tiny.h5", "--llm", "ollama/tiny", "--base-url", server.address, "--quiet"]
        code, printed = failure(monkeypatch, capsys, *arguments)
        assert code == 1 and "run `ollama pull tiny`, or add --pull" in printed
        assert document(*arguments[:-1], "--pull")["asked"] == 20 and server.installed == {"tiny:latest"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["eval", "--colour", "red"],
        ["trian"],
        ["train", "x", "--epochs", "0"],
        ["train", "x", "--stream", "x"],
    ],
)
def test_wrong_usage_exits_with_2(arguments, monkeypatch, capsys) -> None:
    code, printed = failure(monkeypatch, capsys, *arguments)
    assert code == 2 and "Value error" not in printed


@pytest.mark.parametrize(
    ("command", "hint"),
    [("train", "--set train.batch_size=N"), ("eval", "--batch-size N"), ("analyze-confusion", "--device cpu")],
)
def test_a_device_without_memory_is_one_line(command, hint, monkeypatch, capsys) -> None:
    def fail() -> None:
        if command == "train":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        torch.empty(2**50)

    monkeypatch.setattr("skag.cli.app", fail)
    monkeypatch.setattr("skag.cli.restart_without_small_caches", lambda: None)
    code, printed = failure(monkeypatch, capsys, command, "run")
    assert code == 1 and printed.count("\n") == 1 and "no memory left" in printed and hint in printed


@pytest.mark.parametrize(
    ("command", "number", "hint"),
    [
        ("train", errno.ENOSPC, "skag train --resume RUN"),
        ("eval", errno.ENOSPC, "run the command again"),
        ("eval", errno.EACCES, "may read and write"),
        ("show", errno.ENAMETOOLONG, "check the path"),
        ("show", errno.EIO, "SKAG_DEBUG=1"),
    ],
)
def test_what_the_system_refuses_is_one_line(command, number, hint, monkeypatch, capsys) -> None:
    path = None if number == errno.EIO else "runs/j/figures"

    def fail() -> None:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr("skag.cli.app", fail)
    monkeypatch.setattr("skag.cli.restart_without_small_caches", lambda: None)
    code, printed = failure(monkeypatch, capsys, command)
    assert code == 1 and printed.count("\n") == 1 and hint in printed
    assert printed.startswith(f"skag: {path}: {os.strerror(number)}: " if path else f"skag: {os.strerror(number)}: ")
    monkeypatch.setenv("SKAG_DEBUG", "1")
    with pytest.raises(OSError):
        main()


def test_a_file_where_a_folder_is_wanted(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "file").touch()
    code, printed = failure(monkeypatch, capsys, "simulate", tmp_path / "file")
    assert code == 1 and printed == f"skag: {tmp_path / 'file'}: File exists: check the path.\n"


@pytest.mark.parametrize(("threads", "notes"), [(1, 0), (2, 1)])
def test_a_run_that_waits_for_cores_says_so_once(threads, notes, monkeypatch, capsys) -> None:
    now = 0.0
    monkeypatch.setattr("skag.cli.progress.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("skag.device.seconds_kept_waiting", lambda: 0.5 * now)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    metrics = {"epoch": 1, "val_top1": 50.0, "train_top1": 40.0, "seconds": 1.0, "loss": 1.0}
    metrics |= {f"loss_{name}": 0.5 for name in ("cls", "con", "align", "mix")}
    with Terminal(Output(as_json=False, quiet=False), torch.device("cpu")) as terminal:
        terminal.before("measuring", 1, 4)
        for epoch in (1, 2):
            terminal.epoch_started(epoch, 2, 1)
            now += 8
            terminal.epoch_done(metrics)
    printed = capsys.readouterr().err
    assert printed.count("for 50% of this epoch other programs had the cores") == notes
    assert printed.count("OMP_NUM_THREADS=1") == notes


def test_the_traceback_comes_back_on_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from skag.errors import SkagError

    monkeypatch.setenv("SKAG_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["skag", "eval", str(tmp_path / "none")])
    with pytest.raises(SkagError):
        main()


def test_an_interrupted_command_is_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("skag.runs.list_runs", interrupted)
    assert failure(monkeypatch, capsys, "runs", tmp_path) == (130, "skag: interrupted; what was finished is kept.\n")


def test_interrupted_training_names_the_command_that_goes_on(recordings, monkeypatch, capsys) -> None:
    def interrupted(clips: object, config: object, run: Path, *others: object, **options: object) -> None:
        if run.name != "early":
            run.mkdir()
            (run / "config.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("skag.training.start.train", interrupted)
    monkeypatch.setattr("skag.cli.restart_without_small_caches", lambda: None)
    invoke("convert", recordings, "tiny.h5", "--classes", "classes.txt", "--quiet")
    for run, processes, ends in (
        ("tall people", None, "`skag train --resume 'tall people'`.\n"),
        ("several", "2", "`torchrun --nproc-per-node 2 -m skag train --resume several`.\n"),
        ("early", None, "what was finished is kept.\n"),
    ):
        if processes is not None:
            monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        arguments = ["train", "tiny.h5", "--recipe", "demo", "--alpha", 0, "--beta", 0, "--out", run, "--quiet"]
        code, printed = failure(monkeypatch, capsys, *arguments)
        assert code == 130 and printed.count("\n") == 1 and printed.endswith(ends)


def test_an_interrupt_while_skag_is_being_imported() -> None:
    code = (
        "import sys, runpy\n"
        "class Finder:\n"
        "    def find_spec(name, *others):\n"
        "        if name == 'skag.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder)\n"
        "runpy.run_module('skag', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "skag: interrupted; what was finished is kept.\n")


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys, skag.cli; print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "skag", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("skag ")


def test_every_command_explains_itself() -> None:
    listed = invoke("--help")
    for command in ("convert", "simulate", "describe", "train", "eval", "analyze-confusion", "ablate"):
        assert command in listed
        text = invoke(command, "--help")
        assert "Example: skag " + command in text and "Writes" in text
        for option in ("--json", "--quiet", "--seed", "--device"):
            assert option in text, (command, option)


def test_recipes_are_listed_and_shown() -> None:
    listed = {row["name"]: row for row in document("recipes")["recipes"]}
    assert listed["ntu60-xsub"]["published"]["6"] == 94.51 and listed["sbu"]["published"] == {}
    assert (listed["nw-ucla"]["trained_on"], listed["nw-ucla-small"]["trained_on"]) == ("GPU", "CPU")
    assert re.search(r"nw-ucla-small +NW-UCLA +CPU +kinect-v1", invoke("recipes"))
    shown = document("recipes", "show", "ntu120-xsub", "--stream", "k", "--set", "train.lr=0.05")
    assert shown["config"]["augment"]["part_drop"] == 0.2 and shown["config"]["train"]["lr"] == 0.05
    assert shown["sources"]["train.lr"] == "--set" and "configs/ntu120_xsub/k.py" in shown["sources"]["agents.beta"]
    release = document("recipes", "show", "k400", "--faithful-to", "release")
    assert release["config"]["train"]["select_on"] == "test"
    assert release["sources"]["train.select_on"] == "--faithful-to release"
    assert "1,1,1,1,2,1,1,2,1,1" in invoke("recipes", "show", "k400")


def test_all_streams_train_in_turn_and_fuse(recordings: Path) -> None:
    document("convert", recordings, "tiny.h5", "--classes", "classes.txt")
    options = ("--recipe", "demo", "--epochs", 1, "--alpha", 0, "--beta", 0, "--set", "data.num_frames=8")
    trained = document("train", "tiny.h5", *options, "--stream", "all", "--out", "six")
    runs = [report["run"] for report in trained["runs"]]
    assert runs == [f"six/{stream}" for stream in ("j", "b", "k", "jm", "bm", "km")]
    config = json.loads(Path("six/bm/config.json").read_text())["config"]
    assert config["data"]["stream"] == "bm" and config["data"]["num_frames"] == 8
    assert len(document("eval", *runs)["runs"]) == 6


def test_a_published_checkpoint_becomes_a_run(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    shape = ModelConfig(120, 25, 2, channels=(8,) * 9, strides=(1,) * 9, embedding_dim=6, learned_scale=True)
    torch.save({"state_dict": checkpoint(shape)}, "ntu120.pth")
    made = document("convert", "ntu120.pth", "run", "--recipe", "ntu120-xset", "--stream", "bm")
    assert (made["run"], made["stream"], len(made["classes"])) == ("run", "bm", 120)
    assert skag.load("run").config.data.stream == "bm"
    for arguments, says in (
        (("convert", "ntu120.pth", "other"), "name the recipe"),
        (("convert", "ntu120.pth", "run", "--recipe", "ntu120-xset"), "is there already"),
        (("convert", "ntu120.pth", "other", "--recipe", "ntu60-xsub"), "120 classes and recipe ntu60-xsub 60"),
        (("convert", "ntu120.pth", "other", "--recipe", "k400"), "name the 400 classes"),
        (("convert", "ntu120.pth", "other", "--recipe", "demo"), "no checkpoints are published for recipe demo"),
        (("eval", "run"), "give the recordings with --data"),
    ):
        code, printed = failure(monkeypatch, capsys, *arguments)
        assert code == 1 and says in printed and printed.count("\n") == 1
    assert not Path("other").exists()


def test_every_command_of_dialogues_explains_itself() -> None:
    listed = invoke("dialogues", "--help")
    for command in ("list", "show", "export", "import", "verify", "template"):
        assert command in listed
        text = invoke("dialogues", command, "--help")
        assert "Example: skag dialogues " + command in text and "Reads" in text
        assert "--json" in text and "--quiet" in text


@pytest.mark.long
def test_a_killed_run_goes_on(recordings: Path, monkeypatch, capsys) -> None:
    """kill -9 while it trains, then `--resume`: the weights of the run that was never killed."""
    document("convert", recordings, "tiny.h5", "--classes", "classes.txt")
    document("describe", "tiny.h5")
    options = ["tiny.h5", "--recipe", "demo", "--epochs", "5", "--seed", "3", "--device", "cpu"]
    options += ["--set", "data.num_frames=8", "--set", "agents.query_period=2"]
    command = [sys.executable, "-m", "skag", "train", *options, "--quiet", "--out", "cut"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (Path("cut/metrics.jsonl").exists() and len(Path("cut/metrics.jsonl").read_text()) > 300):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    cut = document("train", "--resume", "cut")
    whole = document("train", *options, "--out", "whole")
    assert {**cut, "run": "whole", "asked": whole["asked"]} == whole
    weights = [torch.load(f"{run}/last.pt", weights_only=True)["model"] for run in ("cut", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    Path("tiny.h5").rename("moved.h5")
    assert document("train", "moved.h5", "--resume", "cut")["epochs"] == 5
    again = document("train", "moved.h5", "--repeat", "cut")
    assert (again["run"], again["asked"]) == ("cut-again", 0)
    repeated, first = (torch.load(f"{name}/best.pt", weights_only=True)["model"] for name in ("cut-again", "cut"))
    assert all(torch.equal(repeated[name], first[name]) for name in first)
    assert document("train", "moved.h5", "--resume", "cut-again")["best_epoch"] == again["best_epoch"]
    for arguments, says, code in (
        (("train", "--resume", "cut"), "is gone: give the store, DATA.h5 --resume cut", 1),
        (("train", "moved.h5", "--resume", "cut", "--store", "x.h5", "--offline"), "x.h5 lacks rounds 1 to 5", 1),
        (("train", "moved.h5", "--out", "cut"), "--resume cut", 1),
        (("train",), "give DATA.h5, or --resume RUN", 2),
        (("train", "--resume", "cut", "--recipe", "demo"), "keeps its recipe", 2),
        (("train", "--resume", "absent"), "no run folder absent", 1),
        (("train", "--repeat", "cut"), "is gone: give the store, DATA.h5 --repeat cut", 1),
        (("train", "--repeat", "cut", "--alpha", "0"), "keeps its recipe", 2),
        (("train", "--repeat", "cut", "--resume", "cut"), "not both", 2),
    ):
        found, printed = failure(monkeypatch, capsys, *arguments)
        assert found == code and says in " ".join(printed.split())


def test_the_terminal_names_the_terms_that_there_are() -> None:
    means = {"loss": 3.5, "loss_cls": 1.25, "loss_con": 0.0, "loss_align": 0.75, "loss_mix": 0.0}
    assert _losses(means) == "loss 3.500 (cls 1.250 align 0.750)"
