"""The training loop on a tiny store: it learns, asks, records, repeats, and leaves the test split alone."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from skag import runs
from skag.backends import open_backend
from skag.backends.base import BackendDown
from skag.config import replace
from skag.device import trains_in_bf16
from skag.dialogue.store import DialogueStore
from skag.encoders.graph import GRAPHS
from skag.errors import DialogueError, RunError
from skag.inference.loaded import load_run
from skag.inference.scores import predict_split, save_predictions
from skag.methods.base import KnowledgeSource
from skag.methods.skeleton_agent import class_knowledge
from skag.methods.skeleton_agent.agents import REFRESHES, Agents
from skag.methods.skeleton_agent.network import ModelConfig, Recogniser
from skag.methods.skeleton_agent.opening import open_agents
from skag.skeleton.clips import prepare
from skag.skeleton.store import SkeletonStore
from skag.text import open_clip as text_open_clip
from skag.training.batches import Batch
from skag.training.loop import Loop, train
from skag.training.optim import Average

from .helpers.text_towers import add_model
from .helpers.training import (
    CPU,
    Silent,
    Stop,
    StopsAt,
    agents_of,
    quiet,
    repeated,
    run_training,
    small,
    task_for_a_step,
)


def test_a_run_learns_asks_and_records(tiny_store: Path, dialogues: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    report, watcher = run_training(small(epochs=5), tiny_store, dialogues, run)
    first, last = watcher.metrics[0], watcher.metrics[-1]
    assert last["loss"] < first["loss"] and last["train_top1"] > 40
    assert last["loss"] == pytest.approx(last["loss_cls"] + 0.2 * last["loss_con"] + 0.5 * last["loss_align"], rel=1e-4)
    assert watcher.steps == 5 * watcher.promised
    assert report.epochs == 5 and report.of_method["refreshes"] == len(watcher.records) == 2
    assert [record["epoch"] for record in watcher.records] == [2, 4]
    assert runs.read_lines(run / runs.METRICS) == json.loads(json.dumps(watcher.metrics))
    highest = max(m["val_top1"] for m in watcher.metrics)
    held_out = len(json.loads((run / "data.json").read_text())["validation"])
    enough = highest - 100 * (highest / 100 * (1 - highest / 100) / held_out) ** 0.5
    kept = [m for m in watcher.metrics if m["val_top1"] >= enough][-1]
    assert (report.best_epoch, report.val_top1) == (kept["epoch"], round(kept["val_top1"], 2))
    saved = torch.load(run / "best.pt", weights_only=True)
    assert saved["epoch"] == report.best_epoch
    rounds = [exchange["round"] for exchange in runs.read_lines(run / runs.DIALOGUES)]
    asked = sum(len(record["exchanges"]) for record in watcher.records)
    assert sorted(set(rounds)) == [1, 2, 3, 4, 5, 6] and rounds.count(6) <= asked


def test_the_last_of_near_equal_epochs_is_kept(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On 16 held-out clips the standard error of 50 % is 11.2 points, that of 100 % 6.7."""
    numbers = [4, 8, 7, 3, 12, 10, 16, 15]  # of 16: 25, 50, 44, 19, 75 (error 10.2), 62.5, 100, 94 %
    right = iter(numbers)

    def fake(classifier, clips, config, batch_size) -> np.ndarray:
        labels, correct = clips.labels.numpy(), next(right)
        shown = np.where(np.arange(16) < correct, labels, (labels + 1) % 4)
        return np.eye(4)[shown]

    monkeypatch.setattr("skag.methods.skeleton_agent.task.predict_prepared", fake)
    kept = []
    for epochs in range(1, 9):
        right = iter(numbers)
        config = replace(small(epochs=epochs, alpha=0.0, beta=0.0), "train", batch_size=48, repeats=1)
        run = tmp_path / str(epochs)
        report, _ = run_training(config, tiny_store, tmp_path / "none.h5", run)
        kept.append((report.best_epoch, report.val_top1))
        assert torch.load(run / "best.pt", weights_only=True)["epoch"] == report.best_epoch
    assert kept == [(1, 25), (2, 50), (3, 43.75), (3, 43.75), (5, 75), (5, 75), (7, 100), (8, 93.75)]


def test_a_refresh_asks_about_the_classes_that_were_confused(tiny_store: Path, dialogues: Path, tmp_path: Path) -> None:
    _, watcher = run_training(small(epochs=3), tiny_store, dialogues, tmp_path / "run")
    (record,) = watcher.records
    with SkeletonStore(tiny_store) as store:
        classes = store.classes
    counts = np.zeros((4, 4), int)
    for true, predicted, count in record["confusions"]:
        counts[true, predicted] = count
    training = json.loads((tmp_path / "run" / "data.json").read_text())["training"]
    assert counts.sum() == len(training)  # every training clip once, none from before the epoch
    for index, name in enumerate(classes):
        wrong = sorted((n for n in range(4) if n != index and counts[index, n]), key=lambda n: (-counts[index, n], n))
        assert record["similar"].get(name, []) == [classes[n] for n in wrong]
    assert record["changed"] and set(record["changed"]) <= set(record["similar"])
    first, later = runs.read_lines(tmp_path / "run" / class_knowledge.FILE)
    assert (first["epoch"], list(first["classes"])) == (0, classes)
    assert (later["epoch"], list(later["classes"])) == (record["effective"], record["changed"])
    for name, known in later["classes"].items():
        assert known["sentence"] != first["classes"][name]["sentence"] and known["joints"]


def test_masks_of_the_checkpoint_are_the_selectors(tiny_store: Path, dialogues: Path, tmp_path: Path) -> None:
    config = small(epochs=3)
    watcher = Silent()
    with SkeletonStore(tiny_store) as store, agents_of(config, store, dialogues) as agents:
        before = agents.mask("j")
        train(store, config, tmp_path / "run", agents, CPU, watcher)
        after = agents.mask("j")
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"]["critical_joints"].numpy()
    np.testing.assert_array_equal(saved, after)
    assert set(np.unique(after)) == {0, 1} and (before != after).any()


@pytest.mark.parametrize(
    ("precision", "device", "has", "in_bf16"),
    [
        ("auto", "cpu", True, False),
        ("auto", "cuda", True, True),
        ("auto", "cuda", False, False),  # cards before Ampere only imitate it
        ("float32", "cuda", True, False),
        ("bf16", "cpu", False, True),
    ],
)
def test_auto_is_bf16_on_a_gpu_that_has_it(
    precision: str, device: str, has: bool, in_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: has and not including_emulation)
    assert trains_in_bf16(precision, torch.device(device)) is in_bf16


def test_a_run_in_bf16_learns_and_repeats(tiny_store: Path, dialogues: Path, tmp_path: Path) -> None:
    config = replace(small(epochs=5), "train", precision="bf16")
    kept = []
    for name in ("one", "two"):
        _, watcher = run_training(config, tiny_store, dialogues, tmp_path / name)
        assert watcher.metrics[-1]["loss"] < watcher.metrics[0]["loss"] and watcher.metrics[-1]["train_top1"] > 40
        kept.append(torch.load(tmp_path / name / "last.pt", weights_only=True)["model"])
    run_training(small(epochs=5), tiny_store, dialogues, tmp_path / "float32")
    exact = torch.load(tmp_path / "float32" / "last.pt", weights_only=True)["model"]
    assert {value.dtype for value in kept[0].values()} == {value.dtype for value in exact.values()}
    assert all(torch.equal(value, kept[1][name]) for name, value in kept[0].items())
    assert not torch.equal(kept[0]["class_head.weight"], exact["class_head.weight"])


def test_a_seed_repeats_a_run_bit_for_bit(tiny_store: Path, dialogues: Path, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = replace(small(epochs=3), "train", seed=seed)
        run_training(config, tiny_store, dialogues, tmp_path / name)
        weights.append(torch.load(tmp_path / name / "last.pt", weights_only=True)["model"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_without_the_loss_terms_nobody_is_asked(tiny_store: Path, tmp_path: Path) -> None:
    report, watcher = run_training(
        small(epochs=3, alpha=0.0, beta=0.0), tiny_store, tmp_path / "none.h5", tmp_path / "r"
    )
    assert report.of_method["refreshes"] == report.of_method["asked"] == 0 and not watcher.records
    assert watcher.metrics[0]["loss_con"] == watcher.metrics[0]["loss_align"] == 0
    assert not (tmp_path / "none.h5").exists()


def test_classes_that_nobody_described_are_named(tiny_store: Path, tmp_path: Path) -> None:
    offline = KnowledgeSource(tmp_path / "none.h5", offline=True)
    measured = f"skag describe {tiny_store} --llm measured --store {tmp_path / 'none.h5'}"
    with SkeletonStore(tiny_store) as store, pytest.raises(DialogueError, match=re.escape(f"run `{measured}` first")):
        open_agents(small(), store, offline, "cpu", quiet).__enter__()


def test_measured_describes_the_classes_where_nobody_has(tiny_store: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    source = KnowledgeSource(tmp_path / "new.h5", progress=lambda *far: told.append(far))
    notes: list[str] = []
    with SkeletonStore(tiny_store) as store:
        for _ in range(2):
            with open_agents(small(), store, source, "cpu", notes.append) as agents:
                assert agents.llm == "measured" and len(agents.conversations) == 4
    assert notes == ["4 classes described by `measured`, from their training clips: 20 questions answered."]
    measuring = [far[1:] for far in told if "measuring" in far[0]]
    assert measuring == [(done, 4) for done in range(4)] and told[-1] == ("describing the classes", 20, 20)


def test_a_dialogue_that_another_model_began_is_not_replaced(tiny_store: Path, dialogues: Path, tmp_path: Path) -> None:
    """Half a description by a server is to be gone on with: `measured` in its place would be a surprise."""
    with DialogueStore(dialogues) as kept:
        some = [
            dataclasses.replace(each, identity={"backend": "ollama", "model": "m"}) for each in kept.find(rounds={1})
        ]
    source = KnowledgeSource(tmp_path / "begun.h5", base_url="http://localhost:1")
    with DialogueStore(source.dialogues) as begun:
        for each in some:
            begun.add(each)
    wanted = f"skag describe {tiny_store} --llm ollama/m --store {source.dialogues} --base-url http://localhost:1"
    with SkeletonStore(tiny_store) as store, pytest.raises(DialogueError, match=re.escape(f"run `{wanted}`, or train")):
        open_agents(small(), store, source, "cpu", quiet).__enter__()


def test_the_test_split_is_never_read(
    tiny_store: Path, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    original = SkeletonStore.keypoints
    monkeypatch.setattr(SkeletonStore, "keypoints", lambda self, n: read.append(int(n)) or original(self, n))
    run_training(small(epochs=3), tiny_store, dialogues, tmp_path / "run")
    with SkeletonStore(tiny_store) as store:
        assert read and not set(read) & set(store.splits["xsub_test"].tolist())
    facts = json.loads((tmp_path / "run" / "data.json").read_text())
    assert facts["fingerprint"] and not set(facts["training"]) & set(facts["validation"])


def test_a_finished_run_is_evaluated_with_its_best_weights(tiny_store: Path, trained: Path) -> None:
    run = load_run(trained, CPU)
    with SkeletonStore(tiny_store) as store:
        found = predict_split(run, store, "xsub_test", CPU)
    assert (found.probabilities.argmax(1) == found.labels).mean() > 0.6  # chance is 0.25


@pytest.mark.parametrize("as_on_a_gpu", [True, False])
def test_a_step_in_bf16_is_nearly_one_in_float32(as_on_a_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, gradients and statistics stay in float32, and so do coordinates, what they are lifted to, and heads."""
    if as_on_a_gpu:
        monkeypatch.setattr("skag.encoders.layers.is_traced", lambda: True)  # torch's own layers
    torch.manual_seed(0)
    x, labels = torch.randn(8, 2, 8, 20, 3), torch.arange(8) % 4
    x[:5, 1] = 0
    shape = ModelConfig(4, 20, 2, channels=(16, 32), strides=(1, 2), present_bodies_only=True)
    task = task_for_a_step(small(alpha=0.2, beta=0.5), Recogniser(shape), torch.eye(4, 512))
    terms, gradients = [], []
    for in_bf16 in (False, True):
        torch.manual_seed(1)
        model, between, outside = Recogniser(shape).train(), set(), set()
        model.bf16 = in_bf16
        for block in model.blocks:
            for part in (block, block.tcn.transform):
                part.register_forward_hook(lambda *of, between=between: between.add(of[2].dtype))
        for part in (model.to_joint_embedding, model.data_bn, model.class_head, model.constraint_head):
            part.register_forward_hook(lambda *of, outside=outside: outside.add(of[2].dtype))
        task.model = task.forward = model
        step = task.step(Batch(x, labels), torch.Generator())
        step.loss.backward()
        terms.append(torch.stack([*step.terms.values()]))
        gradients.append({name: one.grad for name, one in model.named_parameters()})
    assert terms[0].tolist() == pytest.approx(terms[1].tolist(), rel=0.02) and not torch.equal(*terms)
    assert between == {torch.bfloat16}  # what lies between the blocks, the largest tensors
    assert outside == {torch.float32}
    assert {one.dtype for one in gradients[1].values()} == {torch.float32}
    assert {one.dtype for one in model.buffers()} == {torch.float32, torch.int64}
    for name in ("class_head.weight", "blocks.1.tcn.transform.weight", "to_joint_embedding.weight"):
        assert torch.cosine_similarity(*(one[name].flatten() for one in gradients), dim=0) > 0.95


def test_a_refresh_records_some_of_many_clips(
    tiny_store: Path, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = []
    for most in (2000, 5):
        monkeypatch.setattr("skag.methods.skeleton_agent.task.MAX_CLIPS_RECORDED", most)
        run_training(small(epochs=1), tiny_store, dialogues, tmp_path / str(most))
        recorded.append(np.load(tmp_path / str(most) / "refreshes" / "epoch-000.npz"))
    every, some = recorded
    assert (len(every["clip_numbers"]), len(some["clip_numbers"])) == (16, 5)
    places = np.searchsorted(every["clip_numbers"], some["clip_numbers"])
    np.testing.assert_allclose(some["clip_embeddings"], every["clip_embeddings"][places], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(some["clip_labels"], every["clip_labels"][places])


def test_a_step_reads_nothing_back(tiny_store: Path) -> None:
    """On a GPU the host would wait for the number, and the card for the host."""

    class Reads(TorchDispatchMode):
        found: list[str] = []

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            name = function._schema.name
            if name in ("aten::_local_scalar_dense", "aten::bincount", "aten::nonzero", "aten::equal"):
                self.found.append(name)
            return function(*arguments, **(options or {}))

    batch = Batch(torch.randn(8, 2, 8, 20, 3), torch.arange(8) % 4)
    with SkeletonStore(tiny_store) as store:
        clips = prepare(store, store.splits["xsub_train"], small().data, CPU)
    for rule in ("paper", "release"):
        config = small(alpha=0.2, beta=0.5, confusion_rule=rule)
        model = Recogniser(ModelConfig(4, 20, 2, channels=(16,), strides=(1,))).train()
        task = task_for_a_step(config, model, torch.eye(4, 512))
        loop = Loop(task, config, dataclasses.replace(task.facts, training=clips), Silent(), ("train",), 0)
        assert isinstance(loop.optimizer, torch.optim.AdamW)
        with Reads() as reads:
            loop._update(task.step(batch, loop.generator).loss)
        assert reads.found == [] and loop.average.updates == 1 and task.confusions.sum() > 0


def test_the_published_choices_train_too(tiny_store: Path, dialogues: Path, tmp_path: Path) -> None:
    """Mixing, learned scale, softmax target, release counting, uniform sampling, part drop: all at once, on motions."""
    config = replace(
        small(epochs=4, alignment_scale="learned", alignment_target="softmax", confusion_rule="release"),
        "augment", mix=True, part_drop=0.5, mirror_kind="swap",
    )  # fmt: skip
    config = replace(config, "data", sampling="uniform-decode", stream="bm", mirror_views=False)
    config = replace(config, "train", optimizer="sgd", lr=0.02, momentum=0.9, ema=0.0)
    _, watcher = run_training(config, tiny_store, dialogues, tmp_path / "run")
    for metrics in watcher.metrics:
        terms = metrics["loss_cls"] + 0.2 * metrics["loss_con"] + 0.5 * metrics["loss_align"] + metrics["loss_mix"]
        assert metrics["loss"] == pytest.approx(terms, rel=1e-4) and metrics["loss_mix"] > 0
        assert 0 <= metrics["train_top1"] <= 100
    assert watcher.metrics[-1]["loss"] < watcher.metrics[0]["loss"]
    for similar in watcher.records[0]["similar"].values():
        assert len(similar) == 4  # the published choice takes ten, the class itself among them: here all four
    scale = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"]["alignment_scale"]
    assert scale.item() != pytest.approx(2.6593, abs=1e-4)


def test_confusions_of_held_out_clips_can_drive_the_questions(
    tiny_store: Path, dialogues: Path, tmp_path: Path
) -> None:
    _, watcher = run_training(small(epochs=3, confusion="val"), tiny_store, dialogues, tmp_path / "run")
    held_out = len(json.loads((tmp_path / "run" / "data.json").read_text())["validation"])
    assert sum(count for _, _, count in watcher.records[0]["confusions"]) == held_out


@pytest.mark.parametrize("keep", ["highest", "last"])
def test_which_epoch_is_kept_can_be_chosen(keep: str, tiny_store: Path, tmp_path: Path) -> None:
    config = replace(small(epochs=6, alpha=0.0, beta=0.0), "train", keep=keep)
    report, watcher = run_training(config, tiny_store, tmp_path / "none.h5", tmp_path / "run")
    val = [metrics["val_top1"] for metrics in watcher.metrics]
    assert report.best_epoch == (6 if keep == "last" else val.index(max(val)) + 1)
    assert torch.load(tmp_path / "run" / "best.pt", weights_only=True)["epoch"] == report.best_epoch


def test_choosing_on_the_test_split_is_marked(tiny_store: Path, tmp_path: Path) -> None:
    config = replace(small(epochs=2, alpha=0.0, beta=0.0), "train", select_on="test")
    report, _ = run_training(config, tiny_store, tmp_path / "none.h5", tmp_path / "run")
    assert report.selected_on == "test"
    facts = json.loads((tmp_path / "run" / "data.json").read_text())
    with SkeletonStore(tiny_store) as store:
        assert facts["training"] == store.splits["xsub_train"].tolist()
        assert facts["validation"] == store.splits["xsub_test"].tolist()


@pytest.mark.parametrize("graph", ["binary", "spatial", "stgcn_spatial"])
def test_learned_graphs_can_begin_as_the_skeleton(graph: str, tiny_store: Path, tmp_path: Path) -> None:
    config = small(epochs=1, alpha=0.0, beta=0.0)
    config = replace(replace(config, "network", graph=graph), "train", lr=0.0, ema=0.0)
    run_training(config, tiny_store, tmp_path / "none.h5", tmp_path / "run")
    weights = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"]
    with SkeletonStore(tiny_store) as store:
        expected = torch.from_numpy(GRAPHS[graph](store.layout)).float()
    for block in (0, 1):
        A = weights[f"blocks.{block}.gcn.A"]
        torch.testing.assert_close(A[: len(expected)], expected, atol=1e-4, rtol=1e-3)  # weight decay alone acts
        assert A[len(expected) :].std() > 0.01


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch's own, where it begins to compile
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # and while it does
@pytest.mark.long
def test_bodies_left_out_classes_balanced_and_blocks_compiled(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled by what runs each graph as it is: PyTorch's own compiler takes minutes. Validation is not compiled."""
    run_in_training: list[bool] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        return lambda *inputs: (run_in_training.append(torch.is_grad_enabled()), graph.forward(*inputs))[1]

    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda block, **how: compile_(block, backend=backend, **how))
    config = small(epochs=1, alpha=0.0, beta=0.0)
    config = replace(replace(config, "network", present_bodies_only=True), "data", num_bodies=2)
    weights = {}
    for name, compiled in (("plain", False), ("compiled", True)):
        config = replace(config, "train", balance=0.5, compile=compiled, ema=0.0, optimizer="sgd", lr=0.01)
        report, _ = run_training(config, tiny_store, tmp_path / "none.h5", tmp_path / name)
        assert np.isfinite(report.val_top1)
        weights[name] = torch.load(tmp_path / name / "last.pt", weights_only=True)["training_model"]
        assert load_run(tmp_path / name, CPU).model.config.present_bodies_only
    assert weights["plain"].keys() == weights["compiled"].keys()
    for name, value in weights["plain"].items():
        torch.testing.assert_close(weights["compiled"][name], value, atol=1e-4, rtol=1e-3)
    assert run_in_training and all(run_in_training)


def test_the_text_encoder_can_be_trained_along(tiny_store: Path, dialogues: Path, tmp_path: Path) -> None:
    """As in the published code; the cached vectors of the frozen encoder stay what they were."""
    add_model(tmp_path, "skag-along")
    weights = tmp_path / "along.pt"
    torch.save(text_open_clip.import_open_clip().create_model("skag-along", load_weights=False).state_dict(), weights)
    choices = {"text_encoder": "open_clip:skag-along", "train_text_encoder": True, "alignment_scale": "learned"}
    config = replace(small(epochs=3, **choices), "train", weight_decay=0.0, lr=0.01)
    with (
        SkeletonStore(tiny_store) as store,
        agents_of(config, store, dialogues, text_weights=weights) as agents,
    ):
        before = agents.text_vectors.copy()
        sentences = agents.sentences
        train(store, config, tmp_path / "run", agents, CPU, Silent())
        np.testing.assert_array_equal(agents.embed(sentences), before)
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    original = torch.load(weights, weights_only=True)
    tower, tokenise = text_open_clip.open_trainable("skag-along", None, weights, "cpu")
    tower.encode_text(tokenise(sentences)).sum().backward()
    # Several processes cannot train a weight that has no part in what is made.
    assert all((weight.grad is not None) == weight.requires_grad for weight in tower.parameters())
    moved = [name for name, value in saved["text_encoder"].items() if not torch.equal(value, original[name])]
    assert "text_projection" in moved and "token_embedding.weight" in moved
    best = torch.load(tmp_path / "run" / "best.pt", weights_only=True)["model"]
    assert not any("token_embedding" in name for name in best)  # inference needs no text


def test_only_clip_can_be_trained_along() -> None:
    with pytest.raises(RunError, match="train_text_encoder trains open_clip:NAME, not lexical"):
        small(train_text_encoder=True)


def test_kept_weights_are_an_average_that_follows_faster_at_first() -> None:
    shape = ModelConfig(4, 20, 1, channels=(16,), strides=(1,))
    model = Recogniser(shape)
    average, expected = Average(model, decay=0.3), None
    for step in range(4):
        with torch.no_grad():
            for value in (*model.parameters(), *model.buffers()):
                value.copy_(torch.randn(value.shape).abs() * 10)
        average.update()
        weight = model.class_head.weight.detach().clone()
        share = 1 - min(0.3, (1 + step) / (10 + step))  # 9/11, 9/12, then 0.7
        expected = weight if expected is None else expected + share * (weight - expected)
        torch.testing.assert_close(average.module.class_head.weight.data, expected)
    torch.testing.assert_close(average.module.data_bn.num_batches_tracked, model.data_bn.num_batches_tracked)
    mean = average.module.data_bn.running_mean
    assert not torch.equal(mean, model.data_bn.running_mean) and not mean.requires_grad


def test_the_learning_rate_rises_and_falls_and_targets_can_be_smoothed(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(epochs=4, alpha=0.0, beta=0.0)
    config = replace(config, "train", warmup=2, lr=0.1, optimizer="sgd", label_smoothing=0.25)
    used, rates, smoothed = torch.optim.SGD.step, [], []
    cross_entropy = torch.nn.functional.cross_entropy

    def step(optimizer: torch.optim.SGD, *arguments: object) -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        used(optimizer, *arguments)

    def counted(logits: torch.Tensor, labels: torch.Tensor, **options: float) -> torch.Tensor:
        smoothed.append(options.get("label_smoothing"))
        return cross_entropy(logits, labels, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    monkeypatch.setattr("skag.methods.skeleton_agent.task.F.cross_entropy", counted)
    _, watcher = run_training(config, tiny_store, tmp_path / "none.h5", tmp_path / "run")
    steps, half = len(rates), len(rates) // 2
    expected = [0.1 * (n + 1) / half for n in range(half)]
    expected += [0.05 * (1 + math.cos(math.pi * n / half)) for n in range(half)]
    assert steps == watcher.steps and rates == pytest.approx(expected) and set(smoothed) == {0.25}


def test_a_run_is_trained_by_one_at_a_time(tiny_store: Path, tmp_path: Path) -> None:
    config, run = small(epochs=2, alpha=0.0, beta=0.0), tmp_path / "run"
    with runs.training(run):
        assert runs.is_training(run)
        with pytest.raises(RunError, match="is being trained already"):
            run_training(config, tiny_store, tmp_path / "none.h5", run)
    assert not run.exists()  # nothing came of it
    run_training(config, tiny_store, tmp_path / "none.h5", run)
    assert not runs.is_training(run) and (run / "best.pt").exists()


def test_as_many_processes_go_on_as_began(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = small(epochs=2, alpha=0.0, beta=0.0), tmp_path / "run"
    run_training(config, tiny_store, tmp_path / "none.h5", run)
    last = torch.load(run / "last.pt", weights_only=True)
    torch.save(last | {"processes": 2}, run / "last.pt")
    refused = pytest.raises(RunError, match="was trained by 2 processes, and 1 would take other steps")
    with SkeletonStore(tiny_store) as store, agents_of(config, store, tmp_path / "none.h5") as agents, refused:
        train(store, config, run, agents, CPU, Silent(), resume=True)


def test_predictions_of_weights_that_are_gone_go_with_them(tiny_store: Path, tmp_path: Path) -> None:
    config, run = replace(small(epochs=4, alpha=0.0, beta=0.0), "train", keep="last"), tmp_path / "run"
    with SkeletonStore(tiny_store) as store, agents_of(config, store, tmp_path / "none.h5") as agents:
        with pytest.raises(Stop):
            train(store, config, run, agents, CPU, StopsAt("epoch", 3))
        save_predictions(run, predict_split(load_run(run, CPU), store, "xsub_test", CPU))
        assert list(run.glob("predictions-*.npz"))
        train(store, config, run, agents, CPU, Silent(), resume=True)
    assert not list(run.glob("predictions-*.npz"))


def same(one: object, other: object) -> bool:
    """Equal to the last bit, through nested dictionaries and lists."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def with_every_generator(run: Path, store_path: Path, dialogues: Path, watcher: Silent, resume: bool = False) -> None:
    """Train with dropout and augmentation, which draw from generators of their own, and a budget of questions, which
    is spent in the first refresh."""
    config = small(epochs=5, alignment_scale="learned", max_questions=2)
    config = replace(replace(config, "network", dropout=0.3), "augment", mix=True)
    with SkeletonStore(store_path) as store, agents_of(config, store, dialogues) as agents:
        train(store, config, run, agents, CPU, watcher, resume=resume)


@pytest.fixture(scope="module")
def uninterrupted(tiny_store: Path, tiny_dialogues: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    shutil.copytree(tiny_dialogues, folder, dirs_exist_ok=True)
    with_every_generator(folder / "run", tiny_store, folder / "d.h5", Silent())
    return folder / "run"


@pytest.mark.parametrize(
    ("event", "count"), [("step", 1), ("step", 9), ("step", 14), ("epoch", 1), ("epoch", 4), ("refresh", 1)]
)
def test_a_run_that_was_interrupted_goes_on_as_if_it_never_had_been(
    event: str, count: int, uninterrupted: Path, tiny_store: Path, tmp_path: Path
) -> None:
    """Weights, optimiser, schedule, generators, metrics, dialogues and the budget of questions."""
    run, dialogues = tmp_path / "cut", tmp_path / "d.h5"
    shutil.copy(uninterrupted.parent / "d.h5", dialogues)  # the same exchanges, with their times
    with pytest.raises(Stop):
        with_every_generator(run, tiny_store, dialogues, StopsAt(event, count))
    torch.manual_seed(99)  # another process has other generators
    with_every_generator(run, tiny_store, dialogues, Silent(), resume=True)
    assert runs.read_lines(uninterrupted / REFRESHES)[0]["over_budget"]
    whole, cut = (torch.load(path / "last.pt", weights_only=True) for path in (uninterrupted, run))
    whole["agents"].pop("num_asked"), cut["agents"].pop("num_asked")  # what was asked before is in the store now
    assert same(whole, cut)
    assert same(*(torch.load(path / "best.pt", weights_only=True) for path in (uninterrupted, run)))
    for file in (runs.METRICS, REFRESHES, class_knowledge.FILE):
        lines = [runs.read_lines(path / file) for path in (uninterrupted, run)]
        for line in (line for one in lines for line in one):
            for name in ("seconds", "asked", "cached"):
                line.pop(name, None)
        assert lines[0] == lines[1]
    assert (uninterrupted / runs.DIALOGUES).read_bytes() == (run / runs.DIALOGUES).read_bytes()


class Gate(Silent):
    """Lets the answers of a refresh come in one epoch, and only then; keeps the counts that refreshes began with."""

    def __init__(self, agents: Agents, epoch: int) -> None:
        super().__init__()
        self.agents, self.epoch, self.event = agents, epoch, threading.Event()
        ask, begin = agents.ask, agents.begin_refresh
        self.counts: dict[int, np.ndarray] = {}

        def begin_refresh(counts: np.ndarray, epoch: int) -> None:
            self.counts[epoch] = counts.copy()
            begin(counts, epoch)

        agents.answers_late, agents.begin_refresh = True, begin_refresh
        agents.ask = lambda *arguments: self.event.wait() and ask(*arguments)

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        super().epoch_started(epoch, epochs, steps)
        if epoch == self.epoch:
            self.event.set()
            wait([self.agents.pending.answers])


def test_training_goes_on_while_questions_are_being_answered(
    tiny_store: Path, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a run with late answers is repeated bit for bit, since the epoch at which each took effect is recorded."""
    monkeypatch.setattr("skag.methods.skeleton_agent.task.STORED_ANSWERS_TAKE", 0)
    config = small(epochs=6)
    run, again = tmp_path / "run", tmp_path / "again"
    with SkeletonStore(tiny_store) as store, agents_of(config, store, dialogues) as agents:
        watcher = Gate(agents, epoch=4)
        train(store, config, run, agents, CPU, watcher)
    late = watcher.records[0]
    assert (late["epoch"], late["effective"], watcher.asked[:2]) == (2, 5, [2, 2])
    # What is recorded are the counts of the epoch that asked, though two more have been counted since.
    counts = np.zeros((4, 4), int)
    for true, predicted, count in late["confusions"]:
        counts[true, predicted] = count
    assert (counts == watcher.counts[2]).all() and (watcher.counts[2] != watcher.counts[4]).any()
    vectors = np.load(run / "refreshes" / "epoch-002.npz")
    assert (vectors["text"] != vectors["text_before"]).any() and len(vectors["clip_labels"]) == 16
    with SkeletonStore(tiny_store) as store:
        agents = repeated(config, store, run, dialogues=tmp_path / "elsewhere.h5")
        report = train(store, config, again, agents, CPU, Silent())
    assert report.of_method["asked"] == 0
    assert same(*(torch.load(path / "last.pt", weights_only=True)["training_model"] for path in (run, again)))
    effective = [[line["effective"] for line in runs.read_lines(path / REFRESHES)] for path in (run, again)]
    assert effective[0] == effective[1]
    waiting = replace(config, "agents", wait_for_answers=True)
    with SkeletonStore(tiny_store) as store, agents_of(config, store, dialogues) as agents:
        agents.answers_late, watcher = True, Silent()
        train(store, waiting, tmp_path / "waiting", agents, CPU, watcher)
    assert [(record["epoch"], record["effective"]) for record in watcher.records] == [(2, 3), (4, 5)]
    assert not watcher.asked


def test_what_was_on_its_way_is_asked_again_after_an_interruption(
    tiny_store: Path, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skag.methods.skeleton_agent.task.STORED_ANSWERS_TAKE", 0)
    config, run = small(epochs=6), tmp_path / "run"
    with SkeletonStore(tiny_store) as store, agents_of(config, store, dialogues) as agents:
        gate = Gate(agents, epoch=99)
        with pytest.raises(Stop):
            train(store, config, run, agents, CPU, StopsAt("epoch", 4))
    assert gate.agents.pending.epoch == 2 and not runs.read_lines(run / REFRESHES)
    kept = torch.load(run / "last.pt", weights_only=True)["agents"]["confusions"].numpy()
    assert (kept == gate.counts[2]).all()  # and not those of the epoch that was trained meanwhile
    with SkeletonStore(tiny_store) as store, agents_of(config, store, dialogues) as agents:
        watcher = Silent()
        train(store, config, run, agents, CPU, watcher, resume=True)
    gate.event.set()
    assert [(record["epoch"], record["effective"]) for record in watcher.records] == [(2, 5), (4, 5)]


def test_training_goes_on_without_its_model_and_asks_it_again_later(
    tiny_store: Path, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(Silent):
        """A backend that is down until the first refresh has failed, and who sees that."""

        spec = "measured"

        def ask(self, *question: object) -> object:
            if not self.records:
                raise BackendDown("no server.")
            return self.measured.ask(*question)

        def identity(self) -> dict:
            return self.measured.identity()

    watcher, config = Away(), small(epochs=5)
    with SkeletonStore(tiny_store) as store:
        watcher.measured = open_backend("measured", store=store)
        monkeypatch.setattr("skag.methods.skeleton_agent.opening.open_backend", lambda *_, **__: watcher)
        with agents_of(config, store, dialogues) as agents:
            report = train(store, config, tmp_path / "run", agents, CPU, watcher)
    first, second = watcher.records
    assert first["failed"] and all(reason == "no server." for _, reason in first["failed"])
    assert (first["asked"], first["changed"], second["failed"]) == (0, [], [])
    assert second["asked"] == report.of_method["asked"] > 0 and second["changed"] and report.epochs == 5


def test_a_repetition_that_was_interrupted_goes_on(tiny_store: Path, dialogues: Path, tmp_path: Path) -> None:
    config, run, again = small(epochs=6), tmp_path / "run", tmp_path / "again"
    run_training(config, tiny_store, dialogues, run)
    with SkeletonStore(tiny_store) as store:

        def repeat(watcher: Silent, resume: bool) -> None:
            agents = repeated(config, store, run, dialogues=dialogues)
            train(store, config, again, agents, CPU, watcher, resume=resume)

        with pytest.raises(Stop):
            repeat(StopsAt("epoch", 4), resume=False)
        repeat(Silent(), resume=True)
    assert same(*(torch.load(path / "last.pt", weights_only=True)["training_model"] for path in (run, again)))
    effective = [[line["effective"] for line in runs.read_lines(path / REFRESHES)] for path in (run, again)]
    assert effective == [[3, 5], [3, 5]]


def test_answers_that_come_too_late_for_a_run_are_reported(
    tiny_store: Path, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skag.methods.skeleton_agent.task.STORED_ANSWERS_TAKE", 0)
    config = small(epochs=3)
    with SkeletonStore(tiny_store) as store, agents_of(config, store, dialogues) as agents:
        gate = Gate(agents, epoch=99)
        report = train(store, config, tmp_path / "run", agents, CPU, gate)
        gate.event.set()
    assert (report.of_method["too_late"], report.of_method["refreshes"]) == (2, 0)


def test_a_finished_run_has_nothing_to_go_on_with(tiny_store: Path, tmp_path: Path) -> None:
    config, watcher = small(epochs=2, alpha=0.0, beta=0.0), Silent()
    report, _ = run_training(config, tiny_store, tmp_path / "none.h5", tmp_path / "run")
    with SkeletonStore(tiny_store) as store, agents_of(config, store, tmp_path / "none.h5") as agents:
        assert train(store, config, tmp_path / "run", agents, CPU, watcher, resume=True) == report
    assert not watcher.metrics


def test_a_damaged_checkpoint_is_named(tiny_store: Path, tmp_path: Path) -> None:
    config = small(epochs=2, alpha=0.0, beta=0.0)
    run_training(config, tiny_store, tmp_path / "none.h5", tmp_path / "run")
    path = tmp_path / "run" / "last.pt"
    path.write_bytes(path.read_bytes()[:5000])
    with SkeletonStore(tiny_store) as store, agents_of(config, store, tmp_path / "none.h5") as agents:
        with pytest.raises(RunError, match="cannot be resumed from"):
            train(store, config, tmp_path / "run", agents, CPU, Silent(), resume=True)
        (tmp_path / "run" / "best.pt").unlink()
        with pytest.raises(RunError, match=r"best\.pt is missing"):
            train(store, config, tmp_path / "run", agents, CPU, Silent(), resume=True)


def test_metrics_are_written_for_tensorboard_too(tiny_store: Path, tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = small(epochs=2, alpha=0.0, beta=0.0)
    run_training(config, tiny_store, tmp_path / "none.h5", tmp_path / "run")
    found = loader.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    metrics = runs.read_lines(tmp_path / "run" / runs.METRICS)
    for name in ("loss_cls", "val_top1"):
        values = [(scalar.step, scalar.value) for scalar in found.Scalars(name)]
        assert values == [(line["epoch"], pytest.approx(line[name])) for line in metrics]
