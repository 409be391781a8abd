"""The graph against what `skag eval` computes: the preparation step by step, then ONNX Runtime on real files."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from skag import recipes, runs
from skag.config import DataConfig
from skag.errors import RunError
from skag.inference import export as library
from skag.methods.skeleton_agent.classifier import SkeletonAgentClassifier
from skag.methods.skeleton_agent.network import ModelConfig, Recogniser
from skag.skeleton import clips as data
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store

from .helpers.commands import document, failure, invoke
from .helpers.tiny import CLASSES

CPU = torch.device("cpu")
ALL_STEPS = {"stand_upright": True, "face_forward": True, "unit_height": True}
CASES = {
    "plain": ("kinect-v1", DataConfig(num_frames=16)),
    "every step": ("kinect-v1", DataConfig(num_frames=16, num_bodies=1, mirror_views=True, **ALL_STEPS)),
    "bones": ("nturgb+d", DataConfig(num_frames=16, stream="b", **ALL_STEPS)),
    "motion of bones": ("nturgb+d", DataConfig(num_frames=16, stream="bm", align_spine=True)),
    "motion of k-bones, views": ("nturgb+d", DataConfig(num_frames=16, stream="km", test_views=3)),
    "published 3-D": ("nturgb+d", DataConfig(num_frames=20, stream="jm", sampling="uniform-decode", test_views=4)),
    "2-D box": ("coco", DataConfig(num_frames=16, stream="b", mirror_views=True)),
    "published 2-D": (
        "coco-17+3",
        DataConfig(num_frames=20, stream="bm", sampling="uniform-frames", pixels=True, bone_confidence="difference"),
    ),
}


def network(layout_name: str, config: DataConfig) -> Recogniser:
    """An untrained network whose answers differ from clip to clip."""
    torch.manual_seed(0)
    joints = load_layout(layout_name).num_joints
    shape = ModelConfig(4, joints, config.num_bodies, channels=(16, 16), strides=(1, 2), embedding_dim=8)
    return Recogniser(shape).eval()


def synthetic(path: Path, layout_name: str, with_confidence: bool = True) -> SkeletonStore:
    layout = load_layout(layout_name)
    library._write_synthetic(path, layout, CLASSES, seed=1)
    if with_confidence:
        return SkeletonStore(path)
    bare = path.with_name(f"bare-{path.name}")
    with SkeletonStore(path) as store, write_store(bare, layout) as writer:
        for number in range(len(store)):
            writer.add(Clip(store.names[number], 0, store.keypoints(number), splits=("synthetic",)))
        writer.finish(CLASSES)
    return SkeletonStore(bare)


@pytest.mark.parametrize(
    ("case", "with_confidence"),
    [*((case, True) for case in CASES), ("2-D box", False), ("published 2-D", False)],
)
def test_the_clips_are_those_of_eval(case: str, with_confidence: bool, tmp_path: Path) -> None:
    name, config = CASES[case]
    layout = load_layout(name)
    pipeline = library.Pipeline(SkeletonAgentClassifier(network(name, config)), layout, config, config.test_views, 200)
    with synthetic(tmp_path / "s.h5", name, with_confidence) as store:
        numbers = store.splits["synthetic"]
        clips = data.prepare(store, numbers, config, CPU)
        expected = torch.cat(list(data.test_batches(clips, config, 8, config.test_views)))
        joints = [torch.from_numpy(library.recorded_joints(store, number, layout, 2)) for number in numbers]
    assert joints[0].shape[3:] == (layout.num_recorded, 2 + (layout.dims == 3 or with_confidence))
    found = torch.cat([pipeline.clips(x) for x in joints])
    assert found.shape == expected.shape and expected.std() > 0.05
    assert (found - expected).abs().max() < 2e-5
    together = pipeline.clips(torch.cat([joints[0], joints[0].flip(2), joints[0]]))
    assert torch.equal(together[0], together[2]) and (together[0] - expected[0]).abs().max() < 2e-5


def test_recordings_longer_than_the_table_are_spread_alike() -> None:
    config = DataConfig(num_frames=20, sampling="uniform-decode")
    layout = load_layout("kinect-v1")
    pipeline = library.Pipeline(SkeletonAgentClassifier(network("kinect-v1", config)), layout, config, 1, 50)
    (positions,) = pipeline._view_positions(torch.tensor([50, 500]), torch.float32)
    assert torch.equal(positions[1], 10 * positions[0]) and positions[1].max() < 500


def make_run(folder: Path, store: Path | None, layout_name: str, config: DataConfig) -> Path:
    """A run folder with an untrained network."""
    model, layout = network(layout_name, config), load_layout(layout_name)
    facts = {
        "config": dataclasses.replace(recipes.recipe("demo", "j"), data=config).to_dict(),
        "model": dataclasses.asdict(model.config),
        "classes": CLASSES,
        "layout": layout.to_dict(),
    }
    folder.mkdir()
    runs.write_json(folder / runs.CONFIG, facts)
    source = {"store": None, "fingerprint": None}
    if store is not None:
        with SkeletonStore(store) as clips:
            source = {"store": str(store), "fingerprint": clips.fingerprint}
    runs.write_json(folder / runs.DATA, source | {"training": [], "validation": []})
    torch.save({"model": model.state_dict()}, folder / "best.pt")
    return folder


@pytest.fixture(scope="module")
def exported(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    """A run of the tiny store, its graph, and what the command said."""
    pytest.importorskip("onnxscript", reason="the extra skag[onnx] is not installed")
    pytest.importorskip("onnxruntime", reason="the extra skag[onnx] is not installed")
    folder = tmp_path_factory.mktemp("export")
    config = DataConfig(num_frames=8, num_bodies=1, mirror_views=True, **ALL_STEPS)
    run = make_run(folder / "run", tiny_store, "kinect-v1", config)
    out = folder / "new" / "tiny.onnx"
    return run, out, document("export", run, out, "--int8")


@pytest.mark.long
def test_a_run_becomes_a_graph_that_was_checked(exported: tuple[Path, Path, dict], tiny_store: Path) -> None:
    run, out, report = exported
    assert (report["model"], report["bytes"]) == (str(out), out.stat().st_size)
    assert (report["checked_on"], report["checked_clips"]) == ("xsub_test", 16)
    assert report["largest_difference"] < 1e-5 and report["input"] == ["recordings", 2, "frames", 20, 3]
    quantised = report["int8"]
    evaluated = document("eval", run)
    assert quantised["top1_float"] == pytest.approx(evaluated["top1"], abs=0.01) and quantised["clips"] == 16
    assert quantised["same_answer"] > 50 and 0 <= quantised["top1"] <= 100
    assert Path(quantised["model"]) == out.with_name("tiny.int8.onnx")
    assert quantised["bytes"] == Path(quantised["model"]).stat().st_size
    assert not list(out.parent.glob(".*"))


@pytest.mark.long
def test_the_graph_takes_any_number_of_recordings_and_frames(exported: tuple[Path, Path, dict]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported[1], providers=["CPUExecutionProvider"])
    joints = np.random.default_rng(0).normal(1, 0.3, (3, 2, 31, 20, 3)).astype(np.float32)
    (found,) = session.run(["probabilities"], {"joints": joints})
    assert found.shape == (3, 4) and found.sum(1) == pytest.approx(np.ones(3), abs=1e-5)
    for number in range(3):  # bodies of one recording change nothing for another
        (alone,) = session.run(None, {"joints": joints[number : number + 1]})
        assert alone[0] == pytest.approx(found[number], abs=1e-5)
    assert session.run(None, {"joints": joints[:1, :, :1]})[0].shape == (1, 4)  # one frame
    assert np.isfinite(session.run(None, {"joints": 0 * joints})[0]).all()  # nobody there
    moved = joints + np.float32([3, -1, 2])  # where somebody stands does not matter
    assert session.run(None, {"joints": moved})[0] == pytest.approx(found, abs=1e-4)


@pytest.mark.long
def test_the_metadata_says_what_it_is(exported: tuple[Path, Path, dict], tiny_store: Path) -> None:
    import onnx

    model = onnx.load(exported[1])
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    layout = load_layout("kinect-v1")
    assert facts["classes"] == CLASSES and facts["joints"] == list(layout.joints)
    assert (facts["stream"], facts["frames"], facts["bodies"], facts["layout"]) == ("j", 8, 2, "kinect-v1")
    with SkeletonStore(tiny_store) as store:
        assert facts["data_fingerprint"] == store.fingerprint
    assert len(facts["weights_sha256"]) == 64 and facts["outside"] == exported[2]["outside"]
    assert "body turned upright" in facts["inside"] and "mirror image of every view added" in facts["inside"]
    onnx.checker.check_model(model)
    assert str(Path(library.__file__).parent).encode() not in exported[1].read_bytes()  # no path of this machine


@pytest.mark.long
def test_without_its_recordings_a_run_is_checked_on_synthetic_ones(tmp_path: Path, capfd) -> None:
    pytest.importorskip("onnxruntime", reason="the extra skag[onnx] is not installed")
    config = DataConfig(num_frames=12, stream="bm", sampling="uniform-frames", pixels=True, mirror_views=True)
    run = make_run(tmp_path / "run", None, "coco-17+3", config)
    report = library.export(run, tmp_path / "m.onnx", num_views=2)
    assert (report.checked_on, report.checked_clips, report.views) == ("synthetic", 32, 2)
    assert report.largest_difference < 1e-5 and report.int8 is None
    assert report.input == ("recordings", 2, "frames", 17, 3)
    assert "mirror images" in report.outside[0] and any("confidence" in line for line in report.outside)


def test_what_differs_from_pytorch_is_not_written(tiny_store: Path, tmp_path: Path, monkeypatch) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra skag[onnx] is not installed")
    run = make_run(tmp_path / "run", tiny_store, "kinect-v1", DataConfig(num_frames=8, num_bodies=1))
    monkeypatch.setattr(library, "_to_onnx", lambda pipeline, sizes: onnx.ModelProto())
    monkeypatch.setattr(library, "_predict", lambda model, clips, numbers, *given: (np.full((16, 4), np.nan), 1.0))
    with pytest.raises(RunError, match="differs from PyTorch by nan"):
        library.export(run, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.long
def test_only_an_onnx_graph_is_replaced(
    exported: tuple[Path, Path, dict], tiny_store: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    import onnx

    run, made = exported[0], onnx.load(exported[1])
    del made.metadata_props[:]
    monkeypatch.setattr(library, "_to_onnx", lambda pipeline, sizes: made)  # takes half a minute
    store, table, graph = tmp_path / "clinic.h5", tmp_path / "labels.int8.csv", tmp_path / "m.onnx"
    store.write_bytes(tiny_store.read_bytes())
    table.write_text("file,label\n")
    graph.write_bytes(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])).SerializeToString())
    for arguments in ([store], [table], [tmp_path / "labels.csv", "--int8"]):
        code, printed = failure(monkeypatch, capsys, "export", run, *arguments)
        assert code == 1 and (
            "is there already and is no ONNX graph" in printed or "is named like a file of" in printed
        )
        assert printed.count("\n") == 1
    assert store.read_bytes() == tiny_store.read_bytes() and table.read_text() == "file,label\n"
    before = graph.read_bytes()
    for _ in range(2):
        assert library.export(run, graph).bytes == len(graph.read_bytes()) > len(before)
        assert graph.read_bytes() == exported[1].read_bytes()
        del made.metadata_props[:]


def test_what_keeps_a_run_from_being_exported_is_one_line(
    tiny_store: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    run = make_run(tmp_path / "run", tiny_store, "kinect-v1", DataConfig(num_frames=8, num_bodies=1))
    for arguments, says in (
        ((tmp_path / "none", "m.onnx"), "no run folder"),
        ((run, tmp_path), "is a folder: name the file"),
        ((run, tmp_path / "m.onnx", "--split", "xview_test"), "has no split 'xview_test'"),
        ((run, tmp_path / "m.onnx", "--data", tmp_path / "none.h5"), "no skeleton store"),
    ):
        code, printed = failure(monkeypatch, capsys, "export", *arguments)
        assert code == 1 and says in printed and printed.count("\n") == 1
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, printed = failure(monkeypatch, capsys, "export", run, "m.onnx")
    assert code == 1 and "pip install 'skag[onnx]'" in printed and printed.count("\n") == 1
    assert "OUT.onnx" in invoke("export", "--help")
