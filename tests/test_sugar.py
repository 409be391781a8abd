"""SUGAR's stages as runs: the same weights when interrupted or repeated, what is kept, and what answers."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from skag import runs
from skag.cli import app
from skag.config import AugmentConfig
from skag.errors import DialogueError, ModelError, RunError
from skag.inference.evaluate import evaluate_runs
from skag.inference.export import export
from skag.inference.loaded import load_run
from skag.methods import sugar
from skag.methods.base import Candidate, Facts, KnowledgeSource
from skag.methods.sugar import base_model, descriptions
from skag.methods.sugar.base_model import open_base
from skag.methods.sugar.classifier import SugarClassifier
from skag.methods.sugar.config import SugarConfig
from skag.methods.sugar.network import Aligner, Sugar
from skag.methods.sugar.rows import OF_BRIDGE
from skag.methods.sugar.task import TuneTask
from skag.methods.sugar.teach_task import name_vectors
from skag.results.confusion import analyze_confusion
from skag.skeleton import clips as data
from skag.skeleton.store import Clip, SkeletonStore
from skag.training.batches import training_batches
from skag.training.optim import make_optimizer
from skag.training.start import train_run

from .helpers.commands import document, invoke
from .helpers.language_models import model_cache, needs_smollm2, tiny_folder
from .helpers.runs import opened
from .helpers.sugar import SMALL, WORDS, config_of, materials, trained
from .helpers.tiny import CLASSES, clip
from .helpers.training import CPU, Silent, Stop, StopsAt, quiet
from .helpers.two_processes import Pair


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return materials(tmp_path_factory.mktemp("sugar"))


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """Both stages."""
    trained(config_of(folder), folder, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def aligned(folder: Path) -> Path:
    """The encoder alone, for long enough to learn something."""
    learning = ("train.epochs=10", "train.batch_size=8", "train.lr=0.01", "train.ema=0", "augment.mirror=0")
    config = config_of(folder, "answer.by=encoder", "texts.name=true", *learning)
    trained(config, folder, folder / "aligned")
    return folder / "aligned"


def weights(run: Path, name: str = "best.pt") -> dict[str, torch.Tensor]:
    return torch.load(run / name, weights_only=True)["model"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def some_clips(folder: Path, config: object) -> tuple[torch.Tensor, torch.Tensor]:
    with SkeletonStore(folder / "t.h5") as store:
        clips = data.prepare(store, store.splits["xsub_test"], config.data, CPU)
        return next(data.test_batches(clips, config.data, 16))[:, 0], clips.labels


# ---------------------------------------------------------------- a run


def test_a_run_keeps_what_was_trained_and_never_the_base_model(run: Path, folder: Path) -> None:
    kept = weights(run)
    parts = {name.split(".")[0] for name in kept}
    assert parts == {"encoder", "bridge", "adapter"}
    assert not any("embed_tokens" in name for name in kept)
    encoder = {name.removeprefix("encoder."): value for name, value in kept.items() if name.startswith("encoder.")}
    assert same(encoder, weights(run, "align.pt"))  # frozen in the second stage, batch norms too
    lines = runs.read_lines(run / runs.METRICS)
    assert [(line["stage"], line["epoch"]) for line in lines] == [("align", 1), ("align", 2), ("tune", 1), ("tune", 2)]
    told = json.loads((run / descriptions.FILE).read_text())
    assert list(told["classes"]) == CLASSES and told["llm"] == "measured"
    text = told["classes"]["step"][0]["text"]
    assert text.startswith("An action of step; the head ") and text.count(";") >= 6
    assert runs.summarise(run).state == "finished" and runs.summarise(run).epochs == 4


@pytest.mark.parametrize("epochs", [1, 3])
def test_an_interrupted_run_comes_to_the_same_weights(run: Path, folder: Path, tmp_path: Path, epochs: int) -> None:
    """In the first stage and in the second."""
    config = config_of(folder)
    with pytest.raises(Stop):
        trained(config, folder, tmp_path / "again", StopsAt("epoch", epochs + 1))
    assert (tmp_path / "again" / "align.pt").exists()
    assert (tmp_path / "again" / "best.pt").exists() == (epochs == 3)
    trained(config, folder, tmp_path / "again", resume=True)
    assert same(weights(tmp_path / "again"), weights(run))
    without = [{k: v for k, v in line.items() if k != "seconds"} for line in runs.read_lines(run / runs.METRICS)]
    again = runs.read_lines(tmp_path / "again" / runs.METRICS)
    assert [{k: v for k, v in line.items() if k != "seconds"} for line in again] == without


TAUGHT = ("bridge.taught=3", "tune.epochs=1")


@pytest.fixture(scope="module")
def taught(folder: Path) -> Path:
    trained(config_of(folder, *TAUGHT), folder, folder / "taught")
    return folder / "taught"


def test_the_bridge_is_taught_before_a_language_model_reads_it(taught: Path, folder: Path) -> None:
    lines = runs.read_lines(taught / runs.METRICS)
    stages = [line["stage"] for line in lines]
    assert stages == ["align"] * 2 + ["teach"] * 3 + ["tune"]
    losses = [line["loss"] for line in lines if line["stage"] == "teach"]
    assert losses[-1] < 0.9 * losses[0]
    assert {name.split(".")[0] for name in weights(taught, "teach.pt")} == {"encoder", "bridge"}
    config = config_of(folder, *TAUGHT)
    with SkeletonStore(folder / "t.h5") as store:
        task = task_of(config, store, taught)  # as stage `tune` begins
    own = {f"bridge.{name}": value for name, value in task.model.bridge.state_dict().items()}
    assert all(value.equal(weights(taught, "teach.pt")[name]) for name, value in own.items())
    assert runs.summarise(taught).state == "finished" and runs.summarise(taught).epochs == 6


@pytest.mark.long
def test_an_interrupted_teaching_comes_to_the_same_weights(taught: Path, folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, *TAUGHT)
    with pytest.raises(Stop):
        trained(config, folder, tmp_path / "again", StopsAt("epoch", 4))
    assert not (tmp_path / "again" / "best.pt").exists()
    trained(config, folder, tmp_path / "again", resume=True)
    assert same(weights(tmp_path / "again"), weights(taught))
    (tmp_path / "again" / "teach.pt").write_bytes(b"no")
    with SkeletonStore(folder / "t.h5") as store, pytest.raises(RunError, match=r"teach\.pt cannot be read"):
        task_of(config, store, tmp_path / "again")


@pytest.mark.long
def test_a_base_model_in_bf16_is_told_of_where_that_is_slow(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skag.training.start.multiplies_bf16", lambda: False)
    config = config_of(folder, "lm.precision=bf16", "train.epochs=1", "tune.epochs=1")
    told: list[str] = []
    with SkeletonStore(folder / "t.h5") as store:
        train_run(store, config, tmp_path / "run", KnowledgeSource(folder / "d.h5"), CPU, Silent(), told.append)
    assert [line for line in told if "--set lm.precision=float32 is faster" in line]


def test_names_are_as_far_apart_as_their_words(folder: Path) -> None:
    lm = open_base(config_of(folder), "cpu", 4)
    vectors = name_vectors(lm, CLASSES)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    mean = torch.stack([lm.words()[lm.encode(f" {name}")].mean(0) for name in CLASSES])
    apart = (mean - mean.mean(0))[1] / (mean - mean.mean(0))[1].norm()
    torch.testing.assert_close(vectors[1], apart)


@pytest.mark.long
def test_the_encoder_of_another_run_is_taken(run: Path, folder: Path, tmp_path: Path) -> None:
    trained(config_of(folder, f"align.of={run}", "tune.epochs=1"), folder, tmp_path / "run")
    assert len(runs.read_lines(tmp_path / "run" / runs.METRICS)) == 1
    assert not (tmp_path / "run" / "align.pt").exists()
    kept = {name: value for name, value in weights(tmp_path / "run").items() if name.startswith("encoder.")}
    assert all(value.equal(weights(run)[name]) for name, value in kept.items())
    other = config_of(folder, f"align.of={run}", "tune.epochs=1", "data.val_fraction=0.5")
    with pytest.raises(RunError, match="was trained on other clips than"):
        trained(other, folder, tmp_path / "other")
    with pytest.raises(RunError, match="no-such-run"):
        trained(config_of(folder, "align.of=no-such-run"), folder, tmp_path / "third")


def test_a_run_is_repeated_without_a_store(run: Path, folder: Path, tmp_path: Path) -> None:
    config = config_of(folder)
    given = {"repeat": run}
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.copy(folder / "t.h5", moved / "t.h5")  # and no dialogues
    trained(config, moved, tmp_path / "again", **given)
    assert same(weights(tmp_path / "again"), weights(run))
    assert (tmp_path / "again" / descriptions.FILE).read_text() == (run / descriptions.FILE).read_text()


def test_a_batch_in_parts_is_the_batch(run: Path, folder: Path) -> None:
    found = []
    for size in (0, 3):
        config = config_of(folder, "lm.dropout=0", "bridge.dropout=0", f"lm.clips_at_once={size}")
        with SkeletonStore(folder / "t.h5") as store:
            task = task_of(config, store, run)
            clips = task.facts.training
            batch = next(training_batches(clips, config.data, AugmentConfig(), 8, 1, torch.Generator().manual_seed(0)))
        task.model.train()
        step = task.step(batch, torch.Generator().manual_seed(1))
        step.loss.backward()
        found.append([weight.grad for group in task.trained for weight in group["params"] if weight.grad is not None])
        assert 0 < float(step.terms["loss"]) < 20 and step.count == 8
    assert len(found[0]) == len(found[1]) > 10
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def task_of(config: SugarConfig, store: SkeletonStore, run: Path) -> TuneTask:
    """The second stage on the training split, with the encoder of a run."""
    torch.manual_seed(0)
    numbers = store.splits["xsub_train"][:16]
    clips = data.prepare(store, numbers, config.data, CPU)
    facts = Facts(tuple(CLASSES), store.layout, run, clips, clips, store.labels[numbers], numbers)
    return TuneTask(config, facts, descriptions.without_texts(store), CPU)


def test_the_encoder_learns_from_texts(aligned: Path, folder: Path) -> None:
    found = evaluate_runs([aligned], store=folder / "t.h5", device=CPU)
    assert found.accuracies[0].top1 >= 50  # of four classes
    losses = [line["loss"] for line in runs.read_lines(aligned / runs.METRICS)]
    assert losses[-1] < 0.75 * losses[0]
    kept = load_run(aligned, CPU)
    assert isinstance(kept.model, Aligner) and kept.model.available.tolist() == [[True, True]] * 4


def test_without_knowledge_the_class_head_answers(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, "texts.knowledge=none", "answer.by=encoder", "train.epochs=1")
    trained(config, folder, tmp_path / "run")
    kept = load_run(tmp_path / "run", CPU)
    x, _ = some_clips(folder, kept.config)
    with torch.inference_mode():
        assert kept.classifier.log_scores(x).equal(kept.model(x).class_logits)
        with pytest.raises(RunError, match="'fly' is no class of this run's training"):
            kept.classifier.log_scores(x, [Candidate("fly")])
    found = analyze_confusion(tmp_path / "run", device=CPU, note=quiet)
    assert "nearest_texts" not in found and "learned from the classes alone" in found["missing"][0]


def test_a_second_stage_without_the_first_is_one_line(run: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "align.pt").write_bytes(b"no")
    with pytest.raises(RunError, match=r"align\.pt cannot be read") as caught:
        trained(config_of(folder), folder, tmp_path / "run", resume=True)
    assert "\n" not in str(caught.value)


def test_training_starts_from_another_run_but_not_from_its_texts(run: Path, folder: Path, tmp_path: Path) -> None:
    changes = [*SMALL, "train.epochs=1", "train.lr=0", "texts.knowledge=none", "texts.name=true"]
    command = ["train", folder / "t.h5", "--recipe", "sugar-align-small", "--from", run, "--out", tmp_path / "run"]
    document(*command, *(word for change in changes for word in ("--set", change)))
    kept, start = weights(tmp_path / "run"), weights(run, "align.pt")
    assert kept["blocks.1.gcn.A"].equal(start["blocks.1.gcn.A"])
    assert kept["class_head.bias"].equal(start["class_head.bias"])
    assert kept["texts"].shape == start["texts"].shape and not kept["texts"].equal(start["texts"])


@pytest.mark.long
def test_two_processes_train_what_one_does(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stages, with the double batch. The loss of stage `tune` is shown as the mean over processes, and differs."""
    sgd = [f"{name}.{setting}" for name in ("train", "tune") for setting in ("optimizer=sgd", "lr=0.005", "warmup=0")]
    plain = ["lm.dropout=0", "bridge.dropout=0", "network.dropout=0", "train.ema=0", "bridge.lr=0.01", *sgd]
    command = ["train", folder / "t.h5", "--recipe", "sugar-small", "--base-model", folder / "lm", "--json", "--quiet"]
    command += ["--store", folder / "d.h5", "--device", "cpu"]

    def with_batches_of(size: int) -> list[str]:
        changes = [*SMALL, *plain, f"train.batch_size={size}", f"tune.batch_size={size}", "train.sync_batch_norm=true"]
        return [word for change in changes for word in ("--set", change)]

    pair = Pair()
    done = pair.skag(*command, "--out", tmp_path / "two", *with_batches_of(24), folder=tmp_path)
    pair.close()
    assert done.codes == [0, 0], done.stderr
    monkeypatch.chdir(tmp_path)
    document(*command, "--out", tmp_path / "one", *with_batches_of(48))
    lines = zip(*(runs.read_lines(tmp_path / run / runs.METRICS) for run in ("two", "one")), strict=True)
    for two, one in lines:
        for name in ("val_loss", "val_top1", *(["loss"] if one["stage"] == "align" else [])):
            assert two[name] == pytest.approx(one[name], abs=2e-3)


# ---------------------------------------------------------------- candidates


def test_the_language_model_answers_from_any_list(run: Path, folder: Path) -> None:
    kept = load_run(run, CPU)
    assert isinstance(kept.model, Sugar) and isinstance(kept.classifier, SugarClassifier)
    x, _ = some_clips(folder, kept.config)
    with torch.inference_mode():
        whole = kept.classifier.log_scores(x)
        given = kept.classifier.log_scores(x, [Candidate(name) for name in CLASSES])
        fewer = kept.classifier.log_scores(x, [Candidate("step"), Candidate("drink water")])
        told = kept.classifier.describe(x, [0] * len(x))
    assert whole.shape == (16, 4) and given.equal(whole) and fewer.shape == (16, 2)
    assert (whole < 0).all() and len(told) == 16  # log-likelihoods
    with pytest.raises(RunError, match="same name"):
        kept.classifier.log_scores(x, [Candidate("step"), Candidate("step")])


def test_nearest_texts_of_candidates(aligned: Path, folder: Path) -> None:
    kept = load_run(aligned, CPU)
    x, _ = some_clips(folder, kept.config)
    with torch.inference_mode():
        whole = kept.classifier.log_scores(x)
        own = kept.classifier.log_scores(x, [Candidate(name) for name in reversed(CLASSES)])
        texts = descriptions.recorded_texts(aligned, CLASSES)
        given = [Candidate("one", tuple(each.text for each in texts[3])), Candidate("two", (texts[0][0].text,))]
        new = kept.classifier.log_scores(x, given)
    torch.testing.assert_close(own.flip(1), whole)  # a class of the training without descriptions has its own
    torch.testing.assert_close(new[:, 0], whole[:, 3], atol=1e-5, rtol=1e-5)
    assert (new[:, 1] <= whole[:, 0] + 1e-5).all()  # fewer texts are no nearer


def test_predict_shows_what_the_language_model_says(run: Path, folder: Path) -> None:
    predictor = opened(run, store=folder / "t.h5")
    recording = Clip("new", 0, clip(0), subject=9, splits=())
    (found,) = predictor.predict([recording])
    assert found.evidence.ranked_by == "gradient"  # it goes through the language model
    assert isinstance(found.sentence, str) and found.label in CLASSES


@pytest.mark.long
@needs_smollm2()
def test_a_pretrained_model_reads_and_learns(run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps with SmolLM2: its tokeniser, its chat frame, and gradients through it to the bridge."""
    monkeypatch.setattr(base_model, "load_causal", partial(base_model.load_causal, cache=model_cache()))
    settings = ("lm.base_model=smollm2", "bridge.width=48", "bridge.heads=3", "answer.frame=chat", "answer.described=0")
    config = config_of(folder, *settings, "lm.dropout=0", "bridge.dropout=0")
    with SkeletonStore(folder / "t.h5") as store:
        task = task_of(config, store, run)
        batch = next(training_batches(task.facts.training, config.data, AugmentConfig(), 4, 1, torch.Generator()))
    assert task.words.before.startswith("<|im_start|>") and task.words.after.endswith("assistant\n")
    with torch.inference_mode():
        lengths = task.model.eval().read(batch.x)[0].norm(dim=2)
    assert float(lengths.mean()) == pytest.approx(float(task.model.lm.words().norm(dim=1).mean()), rel=0.3)
    optimizer = make_optimizer(task.settings, task.trained)
    task.model.train()
    losses = []
    for _ in range(4):
        step = task.step(batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        losses.append(float(step.terms["loss"]))
    assert min(losses[1:]) < losses[0] < 8


def test_unseen_classes_are_named_by_their_texts(folder: Path, tmp_path: Path) -> None:
    changes = [*SMALL, "train.epochs=1", "train.batch_size=8"]
    command = ["train", folder / "t.h5", "--recipe", "sugar-align-small", "--unseen", "step,raise left hand"]
    command += ["--rehearse", 0, "--out", tmp_path / "run", "--store", tmp_path / "nobody.h5"]
    document(*command, *(word for change in changes for word in ("--set", change)))
    told = json.loads((tmp_path / "run" / descriptions.FILE).read_text())["classes"]
    assert list(told) == ["raise right hand", "lower right hand"]  # and of those the bare names, nobody was asked
    assert [each["kind"] for each in told["lower right hand"]] == ["name"]
    found = document("eval", tmp_path / "run", "--classes", "unseen")
    assert found["clips"] == 8
    names = [Candidate("step"), Candidate("raise left hand")]
    kept = load_run(tmp_path / "run", CPU)
    x, labels = some_clips(folder, kept.config)
    with torch.inference_mode():
        answers = kept.classifier.log_scores(x, names).argmax(1)
    right = (answers[labels >= 2] == torch.tensor([1, 0])[labels[labels >= 2] - 2]).float().mean()
    assert found["opinions"]["embedding"]["top1"] == pytest.approx(100 * float(right), abs=0.01)
    assert "motion" in found["opinions"]  # whose ridge leads to the same texts


# ---------------------------------------------------------------- findings


def test_what_is_found_beyond_accuracies(aligned: Path, run: Path, folder: Path) -> None:
    found = analyze_confusion(aligned, device=CPU, note=quiet)
    by_class = found["nearest_texts"]
    assert [row["class"] for row in by_class] == CLASSES and sum(row["clips"] for row in by_class) == 16
    for row in by_class:
        own = sum(text["clips"] for text in row["texts"])
        assert own == round(row["nearest_is_own"] / 100 * row["clips"])
        assert own + sum(each["clips"] for each in row["taken_by"]) == row["clips"]
        assert [text["kind"] for text in row["texts"]] == ["motion", "name"]
    alike = found["texts_alike"]
    assert len(alike) == 6 and alike[0]["cosine"] >= alike[-1]["cosine"]
    assert set(found["nearest_is_own"]) == {"before", "kept"} and not found["missing"]
    for pair in found["pairs"]:
        assert -1 <= pair["texts_alike"] <= 1 and pair["true_text"].startswith(f"An action of {pair['true']}; ")
    assert {"texts-alike", "embeddings"} <= set(found["figures"])
    page = (aligned / "report.html").read_text()
    assert "Texts that the encoder learned from" in page and '"told":[{' in page
    tuned = analyze_confusion(run, device=CPU, note=quiet)
    assert "nearest_texts" in tuned and "Class named by" in (run / "report.html").read_text()


def test_the_commands_work_as_for_any_run(run: Path, folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "run"
    shutil.copytree(run, kept)
    found = document("eval", kept)
    assert found["split"] == "xsub_test" and {"top1", "mean_class"} <= set(found)
    lines = invoke("predict", kept, folder / "t.h5", "--split", "xsub_test", "--no-reasons", "--json", "--quiet")
    answers = [json.loads(line) for line in lines.splitlines()]
    assert len(answers) == 16 and all(each["label"] in CLASSES for each in answers)
    assert document("analyze-confusion", kept)["clips"] == 16 and (kept / "report.html").exists()
    (row,) = document("runs", tmp_path)["runs"]
    assert (row["state"], row["epochs"], row["planned"], row["recipe"]) == ("finished", 4, 4, "sugar-small")
    invoke("train", folder / "t.h5", "--recipe", "sugar-small", "--dry-run", "--store", folder / "d.h5", "--quiet",
           "--base-model", folder / "lm", *(word for change in SMALL for word in ("--set", change)))  # fmt: skip


# ---------------------------------------------------------------- bad input


def test_bad_input_is_one_line_and_nothing_is_lost(folder: Path, tmp_path: Path) -> None:
    def refused(kind: type[Exception], *changes: str, **source: object) -> str:
        with pytest.raises(kind) as caught:
            trained(config_of(folder, *changes), folder, tmp_path / "run", **source)
        assert not (tmp_path / "run").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "set bridge.width to 32 or less" in refused(RunError, "bridge.width=64")
    assert "set bridge.num_queries to 80 or less" in refused(RunError, "bridge.num_queries=81")
    assert "no folder" in refused(ModelError, f"lm.base_model={tmp_path / 'nowhere'}")
    assert "cannot tell what is seen" in refused(DialogueError, "texts.knowledge=visual")


def test_rows_that_would_say_nothing(folder: Path) -> None:
    config = config_of(folder, "answer.by=encoder")
    found = sugar.rows_left_out(config, KnowledgeSource(folder / "d.h5", llm="measured"))
    assert set(found) == {"visual", "both", *OF_BRIDGE} and "measured cannot tell what is seen" in found["both"]
    assert set(sugar.rows_left_out(config_of(folder), KnowledgeSource(folder / "d.h5"))) == {"visual", "both"}
    assert not sugar.rows_left_out(config_of(folder), KnowledgeSource(folder / "d.h5", llm="ollama/llava"))


@pytest.mark.long
def test_ablation_leaves_out_rows_that_would_say_nothing(folder: Path, tmp_path: Path) -> None:
    changes = ["train.epochs=1", "answer.by=encoder"]
    options = [word for change in (*SMALL, *changes) for word in ("--set", change)]
    command = ["ablate", folder / "t.h5", "--recipe", "sugar-small", "--seeds", "1", "--store", folder / "d.h5"]
    result = CliRunner().invoke(app, [str(word) for word in (*command, "--out", tmp_path / "abl", *options)])
    assert result.exit_code == 0, result.output
    assert "Without visual, both: measured cannot tell what is seen" in " ".join(result.stderr.split())
    assert {path.name for path in (tmp_path / "abl").iterdir()} == {
        f"{row}-seed1" for row in ("baseline", "motion", "shuffled")
    }


@pytest.mark.long
def test_an_encoder_is_exported(aligned: Path, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    report = export(aligned, tmp_path / "x.onnx", store=folder / "t.h5")
    assert report.largest_difference < 1e-3


def test_a_language_model_is_not_exported(run: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="a language model names its classes"):
        export(run, tmp_path / "x.onnx", store=folder / "t.h5")
    assert not list(tmp_path.iterdir())


def test_another_base_model_is_refused(run: Path, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(run, other)
    tiny_folder(tmp_path / "lm", words=WORDS, seed=1)
    facts = json.loads((other / runs.CONFIG).read_text())
    facts["config"]["lm"]["base_model"] = str(tmp_path / "lm")
    (other / runs.CONFIG).write_text(json.dumps(facts))
    with pytest.raises(RunError, match="adapter of") as caught:
        load_run(other, CPU)
    assert "\n" not in str(caught.value)
