"""`skag train --from` and `--resume RUN --epochs N`: what is taken over, what begins anew, and how training goes on."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from skag import runs
from skag.config import replace
from skag.errors import RunError
from skag.methods import method
from skag.methods.skeleton_agent.network import ModelConfig, Recogniser
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, write_store
from skag.training.start import prolonged
from skag.training.start_from import Start, open_start, take_over

from .helpers.commands import document, failure
from .helpers.published import checkpoint
from .helpers.tiny import CLASSES, tiny_clip
from .helpers.training import small

OTHER = ["lower right hand", "jump", "step"]  # two of the tiny store's classes, and one more


def network(layout: str, classes: int, seed: int, channels: tuple[int, ...] = (16, 16)) -> Recogniser:
    torch.manual_seed(seed)
    return Recogniser(ModelConfig(classes, load_layout(layout).num_joints, 1, channels=channels, strides=(1, 2)))


def start(model: Recogniser, layout: str, classes: list[str]) -> Start:
    joints = tuple(load_layout(layout).joints)
    return Start(Path("there"), "0", model.state_dict(), joints, tuple(classes), None, "skeleton-agent", layout)


AXES = method("skeleton-agent").axes(replace(small(), "data", num_bodies=1))


def test_joints_and_classes_are_taken_over_by_name() -> None:
    old, new = network("kinect-v1", 4, 0), network("nturgb+d", 3, 1)
    theirs, ours = load_layout("kinect-v1"), load_layout("nturgb+d")
    fresh = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    with torch.no_grad():
        old.data_bn.weight.copy_(torch.arange(20 * 16).float())
    taken = take_over(start(old, "kinect-v1", CLASSES), new, AXES, ours, OTHER)
    both = [joint for joint in ours.joints if joint in theirs.joints]
    assert len(both) > 10 and list(taken.joints) == both and len(taken.joints) + len(taken.new_joints) == 25
    assert taken.classes == ("lower right hand", "step") and taken.new_classes == ("jump",) and taken.anew == ()
    v, w = ours.index["left knee"], theirs.index["left knee"]
    a, b = ours.index["head"], theirs.index["head"]
    torch.testing.assert_close(new.pos_embedding[0, v], old.pos_embedding[0, w])
    torch.testing.assert_close(new.blocks[0].gcn.A[:, v, a], old.blocks[0].gcn.A[:, w, b])
    torch.testing.assert_close(new.data_bn.weight.view(25, 16)[v], torch.arange(w * 16, w * 16 + 16).float())
    torch.testing.assert_close(new.class_head.weight[2], old.class_head.weight[3])
    torch.testing.assert_close(new.class_head.weight[1], fresh["class_head.weight"][1])
    lone = ours.index[taken.new_joints[0]]
    torch.testing.assert_close(new.pos_embedding[0, lone], fresh["pos_embedding"][0, lone])
    torch.testing.assert_close(new.blocks[1].tcn.split.weight, old.blocks[1].tcn.split.weight)


def test_the_same_joints_in_another_order_are_taken_over_by_name() -> None:
    old, new = network("kinect-v1", 4, 0), network("kinect-v1", 4, 1)
    layout = load_layout("kinect-v1")
    backwards = start(old, "kinect-v1", CLASSES[::-1])
    backwards = Start(**(vars(backwards) | {"joints": backwards.joints[::-1]}))
    taken = take_over(backwards, new, AXES, layout, CLASSES)
    assert not taken.partly and not taken.anew
    torch.testing.assert_close(new.pos_embedding, old.pos_embedding.flip(1))
    torch.testing.assert_close(new.class_head.bias, old.class_head.bias.flip(0))
    torch.testing.assert_close(new.blocks[0].gcn.A, old.blocks[0].gcn.A.flip(1, 2))


def test_a_network_of_another_width_is_refused() -> None:
    old, new = network("kinect-v1", 4, 0), network("kinect-v1", 4, 1, (24, 24))
    with pytest.raises(RunError, match=r"nothing of there fits .* is \[.*16.*\] there and \[.*24.*\] here"):
        take_over(start(old, "kinect-v1", CLASSES), new, AXES, load_layout("kinect-v1"), CLASSES)


@pytest.fixture(scope="module")
def other_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bodies of 25 joints, three classes, of which the tiny store has two."""
    path, rng = tmp_path_factory.mktemp("other") / "other.h5", np.random.default_rng(2)
    theirs, ours = load_layout("kinect-v1"), load_layout("nturgb+d")
    place = [theirs.index.get(joint, 0) for joint in ours.joints]
    with write_store(path, ours) as writer:
        for number in range(30):
            label = number % 3
            joints = tiny_clip((1, 0, 3)[label], rng)[:, :, place]
            if label == 1:
                joints[..., 1] += np.linspace(0, 1, joints.shape[1])[:, None]
            writer.add(Clip(str(number), label, joints, splits=("test" if number >= 24 else "train",)))
        writer.finish(OTHER)
    return path


def test_the_command_starts_from_a_run(trained: Path, other_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--alpha", 0, "--beta", 0, "--epochs", 1, "--set", "data.val_fraction=0.25")
    report = document("train", other_store, "--from", trained, "--out", out, *options)
    assert report["epochs"] == 1
    facts = json.loads((out / runs.CONFIG).read_text())
    origin = json.loads((trained / runs.CONFIG).read_text())
    assert facts["from"]["path"] == str(trained.resolve()) and len(facts["from"]["sha256"]) == 64
    assert facts["from"]["classes"] == ["lower right hand", "step"] and "left knee" in facts["from"]["joints"]
    assert facts["config"]["network"] == origin["config"]["network"] and facts["classes"] == OTHER
    assert document("eval", out)["runs"][0]["top1"] > 0


def test_the_command_starts_from_a_published_checkpoint(tiny_store: Path, tmp_path: Path) -> None:
    """Of two bodies of 25 joints; the recordings have one of 20."""
    torch.save(checkpoint(), tmp_path / "ntu.pth")
    out, options = tmp_path / "run", ("--alpha", 0, "--beta", 0, "--epochs", 1, "--set", "train.lr=0")
    document("train", tiny_store, "--from", tmp_path / "ntu.pth", "--out", out, *options, "--set", "train.ema=0")
    facts = json.loads((out / runs.CONFIG).read_text())
    assert facts["config"]["network"]["channels"] == [16, 24] and facts["config"]["data"]["num_bodies"] == 2
    assert facts["from"]["layout"] == "nturgb+d" and facts["from"]["classes"] == []
    assert {"class_head.weight", "class_head.bias"} <= set(facts["from"]["weights_anew"])
    published = open_start(tmp_path / "ntu.pth").weights
    own = torch.load(out / "best.pt", weights_only=True)["model"]
    torch.testing.assert_close(own["blocks.1.gcn.post.weight"], published["blocks.1.gcn.post.weight"])
    ours, theirs = load_layout("kinect-v1").index["head"], load_layout("nturgb+d").index["head"]
    torch.testing.assert_close(own["pos_embedding"][0, ours], published["pos_embedding"][0, theirs])


def test_bad_starts_are_told(
    trained: Path, other_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    unfinished = shutil.copytree(trained, tmp_path / "unfinished")
    (unfinished / "best.pt").unlink()
    for given, said in (
        (tmp_path / "nowhere", "no run folder"),
        (tmp_path / "nowhere.pth", "no checkpoint"),
        (tmp_path / "bad.pth", "cannot be loaded as weights alone"),
        (unfinished, "has no best.pt"),
    ):
        code, told = failure(
            monkeypatch, capsys, "train", other_store, "--from", given, "--out", tmp_path / "run", "--beta", 0, "-q"
        )
        assert code == 1 and said in told and told.count("\n") == 1, told
    arguments = ("train", other_store, "--from", trained, "--recipe", "nw-ucla-small", "--out", tmp_path / "run")
    code, told = failure(monkeypatch, capsys, *arguments, "--alpha", 0, "--beta", 0, "-q")
    assert code == 1 and "fits the network of this recipe" in told
    code, told = failure(monkeypatch, capsys, "train", "--resume", trained, "--from", trained)
    assert code == 2


def test_a_changed_origin_is_told(trained: Path, tmp_path: Path) -> None:
    from skag.training.start_from import reopened

    origin = shutil.copytree(trained, tmp_path / "origin")
    record = open_start(origin).to_record()
    assert reopened(record).classes == tuple(CLASSES)
    torch.save({"model": {}}, origin / "best.pt")
    with pytest.raises(RunError, match="has changed since the run started from it"):
        reopened(record)


def test_a_finished_run_is_trained_on(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out, options = tmp_path / "run", ("--alpha", 0, "--beta", 0, "--set", "network.channels=16,16")
    options = (*options, "--set", "network.strides=1,2", "--set", "data.num_frames=8", "--set", "train.warmup=0")
    document("train", tiny_store, "--out", out, "--epochs", 2, *options)
    code, told = failure(monkeypatch, capsys, "train", "--resume", out, "--epochs", 2)
    assert code == 1 and "was to have 2 epochs already" in told
    assert document("train", "--resume", out, "--epochs", 4)["epochs"] == 4
    lines, facts = runs.read_lines(out / runs.METRICS), json.loads((out / runs.CONFIG).read_text())
    rate = facts["config"]["train"]["lr"]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4] and facts["config"]["train"]["epochs"] == 4
    assert facts["prolonged"] == [{"after_epoch": 2, "from": 2, "to": 4}]
    assert lines[1]["lr"] == pytest.approx(0, abs=1e-9) and lines[3]["lr"] == pytest.approx(0, abs=1e-9)
    assert lines[2]["lr"] == pytest.approx(rate * 0.5 * (1 + math.cos(math.pi * 3 / 4)))
    assert document("runs", tmp_path)["runs"][0]["state"] == "finished"


def test_what_a_longer_run_is_told(tmp_path: Path) -> None:
    config, said = small(epochs=10), []
    config = replace(config, "train", warmup=0, lr=0.1)
    runs.write_json(tmp_path / runs.CONFIG, {"config": config.to_dict()})
    runs.write_lines(tmp_path / runs.METRICS, ["{}\n"] * 10)
    longer = prolonged(tmp_path, config, 20, said.append)
    assert longer.train.epochs == 20 and "from 0.05 instead of 0 after epoch 10" in said[0]
