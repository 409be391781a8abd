"""LLM-AR from recordings to answers, with a tiny random Llama: two stages, resumed, used, and refused."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from skag import runs
from skag.errors import RunError, SkagError
from skag.inference.loaded import load_run
from skag.lm.prompts import IGNORE
from skag.lm.spread import accumulate, accumulated
from skag.methods import script_of
from skag.methods.base import Candidate
from skag.methods.llm_ar.config import LlmArConfig
from skag.methods.llm_ar.findings import class_words, word_counts
from skag.methods.llm_ar.probe import linear_top1
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, write_store
from skag.training.loop import BEST

from .helpers import llm_ar
from .helpers.commands import document, failure, invoke
from .helpers.language_models import needs_smollm2, tiny_folder
from .helpers.tiny import clip, tiny_clip
from .helpers.training import CPU, Silent, Stop, StopsAt
from .helpers.two_processes import Pair


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llm_ar.readable_store(tmp_path_factory.mktemp("store") / "tiny.h5")


@pytest.fixture(scope="module")
def finished(base_model: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Silent]:
    """A run and what was seen of it; not to be written into."""
    run = tmp_path_factory.mktemp("finished") / "run"
    return run, llm_ar.run_training(llm_ar.config(base_model), store, run)[1]


@pytest.fixture
def copied(finished: tuple[Path, Silent], tmp_path: Path) -> Path:
    return shutil.copytree(finished[0], tmp_path / "copy")


def weights(run: Path, name: str = BEST) -> dict[str, torch.Tensor]:
    return torch.load(run / name, weights_only=True)["model"]


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# ---------------------------------------------------------------- training


def test_both_stages_are_trained_and_recorded(finished: tuple[Path, Silent]) -> None:
    run, watcher = finished
    first, last = watcher.metrics[0], watcher.metrics[-1]
    assert [(each["stage"], each["epoch"]) for each in watcher.metrics] == [
        ("codebook", 1), ("codebook", 2), ("tune", 1), ("tune", 2),
    ]  # fmt: skip
    assert {"codes_used", "perplexity", "rim", "error_cm", "tokens_top1", "features_top1"} <= first.keys()
    assert 0 < first["codes_used"] <= 100 and first["error_cm"] > 0
    weighted = first["loss_reconstruction"] + first["loss_embedding"] + 0.25 * first["loss_commitment"]
    biases = first["loss_zipf"] + first["loss_context"] + first["loss_mmd"]
    supervised = 0.3 * first["loss_supervision"]
    assert first["loss"] == pytest.approx(weighted + 0.05 * biases + supervised, rel=1e-4)
    assert last["loss"] < watcher.metrics[2]["loss"] and {"train_top1", "val_top1", "val_loss"} <= last.keys()
    summary = runs.summarise(run)
    assert (summary.state, summary.epochs, summary.planned) == ("finished", 4, 4)
    assert summary.val_top1 == pytest.approx(max(each["val_top1"] for each in watcher.metrics[2:]), abs=0.01)


def test_the_base_model_is_not_kept(finished: tuple[Path, Silent]) -> None:
    kept = weights(finished[0])
    assert {name.partition(".")[0] for name in kept} == {"vqvae", "adapter", "gain"}
    assert all("lora_" in name for name in kept if name.startswith("adapter."))
    codebook = weights(finished[0], "codebook.pt")
    assert torch.equal(codebook["vqvae.codebook.tangent"], kept["vqvae.codebook.tangent"])  # frozen while it is read


@pytest.mark.parametrize(("event", "count"), [("step", 2), ("epoch", 1), ("step", 8), ("epoch", 3)])
def test_an_interrupted_run_ends_with_the_same_weights(
    finished: tuple[Path, Silent], base_model: Path, store: Path, tmp_path: Path, event: str, count: int
) -> None:
    """In the first stage and the second, in an epoch and between two: three steps an epoch, two epochs a stage."""
    run, config = tmp_path / "run", llm_ar.config(base_model)
    with pytest.raises(Stop):
        llm_ar.run_training(config, store, run, StopsAt(event, count))
    assert runs.summarise(run).state == "interrupted"
    llm_ar.run_training(config, store, run, resume=True)
    assert_equal(weights(run), weights(finished[0]))
    assert_equal(weights(run, "codebook.pt"), weights(finished[0], "codebook.pt"))
    lines = [runs.read_lines(each / runs.METRICS) for each in (run, finished[0])]
    assert [[each | {"seconds": 0} for each in found] for found in lines][0] == [
        each | {"seconds": 0} for each in lines[1]
    ]


def test_a_seed_draws_other_weights(
    finished: tuple[Path, Silent], base_model: Path, store: Path, tmp_path: Path
) -> None:
    llm_ar.run_training(
        llm_ar.config(base_model, "train.seed=1", "train.epochs=1", "tune.epochs=1"), store, tmp_path / "run"
    )
    ours, theirs = weights(tmp_path / "run"), weights(finished[0])
    name = next(name for name in ours if "lora_A" in name)
    assert not torch.equal(ours[name], theirs[name])


def test_a_part_of_the_batch_at_a_time_gives_the_same_weights(
    finished: tuple[Path, Silent], base_model: Path, store: Path, tmp_path: Path
) -> None:
    changes = ("lm.clips_at_once=5", "lm.dropout=0")
    runs_of = {}
    for name, some in (("parts", changes), ("whole", changes[1:])):
        shutil.copytree(finished[0], tmp_path / "first", dirs_exist_ok=True)
        config = llm_ar.config(base_model, f"codebook.of={tmp_path / 'first'}", "tune.epochs=1", *some)
        llm_ar.run_training(config, store, tmp_path / name)
        runs_of[name] = weights(tmp_path / name)
    for name, value in runs_of["whole"].items():
        torch.testing.assert_close(runs_of["parts"][name], value, rtol=1e-3, atol=2e-4)


def test_accumulated_gradients_come_when_they_are_called() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

    def step(rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        return (rows * weight).square().sum(), len(rows)

    batches = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0], [1.0, 1.0]])]
    mean = accumulate(step, batches, [weight])
    expected, weight.grad = weight.grad, None
    loss = accumulated(step, batches, [weight])
    assert weight.grad is None and loss.item() == pytest.approx(mean) == pytest.approx((1 + 16 + 1 + 4) / 3)
    (2 * loss).backward()
    torch.testing.assert_close(weight.grad, 2 * expected)


def test_a_collapse_is_said_with_what_to_change(base_model: Path, store: Path, tmp_path: Path) -> None:
    """All codes but one lie far away, and are never revived."""
    printed = ("codebook.begin=normal", "codebook.revive_every=0", "bias.weight=0", "codebook.embedding=0")
    changes = ("codebook.commitment=0", "codebook.max_norm=0", "codebook.latent_scale=none", "train.lr=1e-5")
    config = llm_ar.config(base_model, *printed, *changes, "tune.epochs=1", "codebook.num_codes=64")
    _, watcher = llm_ar.run_training(config, store, tmp_path / "run")
    (note,) = watcher.notes
    assert "codebook collapses" in note and "--set codebook.begin=data" in note
    assert "--set codebook.revive_every=200" in note and "codebook.code_loss" not in note


def test_words_of_a_class_are_those_that_others_seldom_use() -> None:
    codes = torch.tensor([[0, 1, 1], [2, 1, 0], [2, 2, -1]])
    mask = codes >= 0
    counts = word_counts(codes, mask, np.array([0, 1, 1]), 3, 4)
    assert counts.tolist() == [[1, 2, 0, 0], [1, 1, 3, 0], [0, 0, 0, 0]]
    assert [(word["code"], word["share"]) for word in class_words(counts, 0)] == [(1, 66.7), (0, 33.3)]
    assert class_words(counts, 1)[0] == {"code": 2, "share": 60.0, "elsewhere": 0.0} and class_words(counts, 2) == []


def test_linear_classifier_finds_what_is_there_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    noise = torch.randn(60, 40, generator=generator)
    there = noise + 4 * torch.nn.functional.one_hot(labels, 40)
    assert linear_top1(there[:40], labels[:40], there[40:], labels[40:], 3) == 100
    assert linear_top1(noise[:40], labels[:40], noise[40:], labels[40:], 3) < 70


# ---------------------------------------------------------------- reading and answering


def test_scores_are_of_the_classes_or_of_any_names(finished: tuple[Path, Silent]) -> None:
    run = load_run(finished[0], CPU)
    x = torch.randn(3, 1, 8, 20, 3)
    with torch.inference_mode():
        own = run.classifier.log_scores(x)
        others = run.classifier.log_scores(x, [Candidate("brush hair"), Candidate("sit down", ("bends",))])
    assert own.shape == (3, 4) and others.shape == (3, 2) and bool((own < 0).all())
    assert not torch.allclose(own[0], own[1])  # the sentence is read
    with pytest.raises(RunError, match="same to the base model"):
        run.classifier.log_scores(x, [Candidate("unknown"), Candidate("strange")])


@pytest.mark.parametrize("tokens", ["vectors", "digits", "features"])
@pytest.mark.parametrize("space", ["ball", "tangent"])
def test_prompts_hold_the_sentence_and_only_the_answer_is_learned(
    finished: tuple[Path, Silent], tokens: str, space: str
) -> None:
    reader = load_run(finished[0], CPU).model
    read = dataclasses.replace(reader.config.read, tokens=tokens, space=space)
    reader.config = dataclasses.replace(reader.config, read=read)
    x = torch.randn(2, 1, 8, 20, 3)
    codes, _ = reader.vqvae.tokenise(x)
    inputs = reader.inputs(x, answers=["drink water", "wave"])
    learned = [reader.lm.decode(row[row != IGNORE]) for row in inputs.targets]
    assert learned == ["drink water", "wave"]
    sentence = reader.sentences(x)[0]
    if tokens == "digits":
        assert sentence == " ".join(map(str, codes[0].tolist()))
    else:
        assert sentence.shape == (2, 32)
    if tokens == "vectors":
        words = reader.lm.words().norm(dim=1).mean()
        read = reader.gain * reader.vqvae.codebook.vectors("ball")
        assert read.norm(dim=1).mean().item() == pytest.approx(words.item(), rel=1e-4)  # as the run was begun
        torch.testing.assert_close(sentence, reader.gain * reader.vqvae.codebook.vectors(space)[codes[0]])


def test_lists_of_classes_come_in_their_share(finished: tuple[Path, Silent], base_model: Path, store: Path) -> None:
    from skag.methods.llm_ar.tune_task import TuneTask

    task = TuneTask.__new__(TuneTask)
    task.config = llm_ar.config(base_model, "read.lists=0.5", "read.listed=3")
    task.facts = dataclasses.make_dataclass("F", ["classes"])(tuple(llm_ar.NAMES))
    labels = torch.arange(200) % 4
    lists = task._lists(labels, torch.Generator().manual_seed(0))
    shown = [(listed, llm_ar.NAMES[k]) for listed, k in zip(lists, labels.tolist(), strict=True) if listed]
    assert 70 < len(shown) < 130
    assert all(own in listed and len(listed) == len(set(listed)) == 3 for listed, own in shown)
    reader = load_run(finished[0], CPU).model
    text = "".join(part for part in reader.prompt("7 3", shown[0][0]) if isinstance(part, str))
    assert text.endswith(f"please predict the corresponding action from {', '.join(shown[0][0])}.")


def test_generated_answers_that_are_no_class_count_for_nobody(finished: tuple[Path, Silent], monkeypatch) -> None:
    reader = load_run(finished[0], CPU).classifier
    reader.model.config = dataclasses.replace(
        reader.model.config, read=dataclasses.replace(reader.model.config.read, answer="generate")
    )
    said = ["wave", None]
    monkeypatch.setattr("skag.methods.llm_ar.classifier.answer_freely", lambda *_: (said, 0.5))
    scores = reader.log_scores(torch.randn(2, 1, 8, 20, 3)).softmax(1)
    assert scores[0].argmax() == 2 and scores[0, 2] > 0.99
    torch.testing.assert_close(scores[1], torch.full((4,), 0.25))


def test_all_weights_are_kept_where_all_are_trained(base_model: Path, store: Path, tmp_path: Path) -> None:
    config = llm_ar.config(base_model, "lm.adapt=all", "train.epochs=1", "tune.epochs=1")
    llm_ar.run_training(config, store, tmp_path / "run")
    kept = weights(tmp_path / "run")
    assert any(name.startswith("base.") for name in kept) and not any("lora" in name for name in kept)
    run = load_run(tmp_path / "run", CPU)
    assert run.classifier.log_scores(torch.randn(1, 1, 8, 20, 3)).shape == (1, 4)


# ---------------------------------------------------------------- commands


def test_commands_from_training_to_prediction(base_model: Path, store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [part for change in llm_ar.SMALL for part in ("--set", change)]
    report = document(
        "train",
        store,
        "--recipe",
        "llm-ar-small",
        "--base-model",
        base_model,
        *settings,
        "--out",
        run,
        "--device",
        "cpu",
    )
    assert report["epochs"] == 2
    found = document("eval", run, "--device", "cpu")
    assert found["clips"] == 16 and 0 <= found["top1"] <= 100
    np.save(tmp_path / "clip.npy", clip(2)[0])
    predicted = document("predict", run, tmp_path / "clip.npy", "--device", "cpu")
    assert predicted["evidence"]["ranked_by"] == "removal"  # sentences have no gradient
    np.save(tmp_path / "new.npy", clip(3)[0] * [1, -1, 1])
    added = document("add", run, tmp_path / "more", "--class", "brush hair", tmp_path / "new.npy", "--device", "cpu")
    assert added["classes"] == 5
    predicted = document("predict", tmp_path / "more", tmp_path / "new.npy", "--device", "cpu", "--no-reasons")
    assert len(predicted["top"]) == 5 and "brush hair" in {each["class"] for each in predicted["top"]}
    analysed = document("analyze-confusion", run, "--device", "cpu")
    assert sum(analysed["codebook"]["shares"]) == pytest.approx(1, abs=1e-4)
    used = analysed["codebook"]["used"]
    assert 0 < used <= analysed["codebook"]["codes"] == 16 and analysed["words"].keys() == set(llm_ar.NAMES)
    assert all(len(pair["true_codes"]) == 2 for pair in analysed["pairs"])
    figures = {path.name for path in (run / "figures").iterdir()}
    assert {"code-use.png", "codes.png"} <= figures and ("class-words.png" in figures) == any(
        analysed["words"].values()
    )
    page = json.loads(re.search(r'type="application/json">(.*?)</script>', (run / "report.html").read_text())[1])
    assert page["made"]["title"] == "Action words" and len(page["of_class"]) == 4
    made = [each for each in page["clips"] if "label" not in each]
    assert len(made) == used and all(each["frames"] == 12 for each in made)
    invoke("show", store, 2, "--run", run, "--out", tmp_path / "beside.html", "--device", "cpu")
    assert "and its reconstruction" in (tmp_path / "beside.html").read_text()
    again = document("train", "--repeat", run, "--out", tmp_path / "again", "--device", "cpu")
    assert again["val_top1"] == report["val_top1"]
    assert_equal(weights(run), weights(tmp_path / "again"))


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.num_frames=3", "a code stands for 4 frames"),
        ("data.num_frames=10", "multiple of 4"),
        ("codebook.num_codes=400", "training clips have 128 tokens"),
        ("lm.base_model=nowhere", "no base model 'nowhere'"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_made(
    base_model: Path, store: Path, tmp_path: Path, change: str, message: str
) -> None:
    with pytest.raises(SkagError, match=message):
        llm_ar.run_training(llm_ar.config(base_model, change), store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_recordings_shorter_than_a_code_are_stretched(finished: tuple[Path, Silent], tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", clip(2)[0][:2])
    assert document("predict", finished[0], tmp_path / "short.npy", "--device", "cpu")


def test_nothing_to_train_is_refused(base_model: Path) -> None:
    with pytest.raises(RunError, match="lm.adapt is nothing"):
        llm_ar.config(base_model, "lm.adapt=nothing")


def test_another_base_model_is_refused(copied: Path, tmp_path: Path) -> None:
    facts = json.loads((copied / runs.CONFIG).read_text())
    for name, changes in (("other weights", {"seed": 1}), ("another width", {"hidden_size": 64})):
        facts["config"]["lm"]["base_model"] = str(tiny_folder(tmp_path / name.replace(" ", "-"), **changes))
        (copied / runs.CONFIG).write_text(json.dumps(facts))
        with pytest.raises(SkagError, match="name the base model it was trained with"):
            load_run(copied, CPU)


def test_a_codebook_of_another_base_model_is_refused(
    finished: tuple[Path, Silent], store: Path, tmp_path: Path
) -> None:
    other = tiny_folder(tmp_path / "other", seed=1)
    with pytest.raises(RunError, match="is for the words of"):
        llm_ar.run_training(llm_ar.config(other, f"codebook.of={finished[0]}"), store, tmp_path / "run")


def test_a_codebook_of_other_clips_is_refused(
    finished: tuple[Path, Silent], base_model: Path, store: Path, tmp_path: Path
) -> None:
    config = llm_ar.config(base_model, f"codebook.of={finished[0]}", "data.val_fraction=0.5")
    with pytest.raises(RunError, match="was trained on other clips"):
        llm_ar.run_training(config, store, tmp_path / "run")


def test_an_adapter_without_its_codebook_is_refused(copied: Path, base_model: Path, store: Path) -> None:
    best = torch.load(copied / BEST, weights_only=True)
    torch.save(best | {"model": {k: v for k, v in best["model"].items() if k.startswith("adapter.")}}, copied / BEST)
    with pytest.raises(RunError, match="adapter without its codebook"):
        load_run(copied, CPU)
    (copied / "codebook.pt").unlink()
    with pytest.raises(RunError, match="nothing reads without a codebook"):
        llm_ar.run_training(llm_ar.config(base_model), store, copied, resume=True)


def test_names_that_are_one_to_the_base_model_are_refused_before_training(
    base_model: Path, tiny_store: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="same to the base model"):
        llm_ar.run_training(llm_ar.config(base_model), tiny_store, tmp_path / "run")


def test_nothing_is_asked(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(RunError, match="asks nothing about the classes"):
        script_of("llm-ar")
    code, printed = failure(
        monkeypatch, capsys, "describe", store, "--method", "llm-ar", "--llm", "measured", "--store", tmp_path / "d.h5"
    )
    assert code == 1 and "asks nothing" in printed


def test_a_network_that_rebuilds_nothing_is_said_so(
    tiny_store: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    code, printed = failure(monkeypatch, capsys, "show", tiny_store, 0, "--run", trained, "--device", "cpu")
    assert code == 1 and "rebuilds no clips" in printed


def test_a_language_model_is_not_exported(
    finished: tuple[Path, Silent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    code, printed = failure(monkeypatch, capsys, "export", finished[0], tmp_path / "graph.onnx")
    assert code == 1 and len(printed.strip().splitlines()) == 1 and "language model" in printed


def test_the_papers_settings_and_their_sources() -> None:
    from skag.config import flat
    from skag.methods.llm_ar import recipes

    config = recipes.published("llm-ar-ntu120-xset", "j")
    assert isinstance(config, LlmArConfig)
    values = flat(config)
    assert (values["codebook.num_codes"], values["codebook.commitment"], values["bias.weight"]) == (512, 0.02, 0.2)
    steps = values["train.epochs"] * 0.9 * 54_468 / 256
    assert steps == pytest.approx(300_000, rel=0.01)
    found = recipes.sources(config)
    assert found.keys() == values.keys() and "paper" in found["bias.weight"] and found["train.seed"] == "skag"
    with pytest.raises(RunError, match="never published"):
        recipes.faithful(config, "release", 3)


@needs_smollm2()
@pytest.mark.long
def test_the_embedded_base_model_is_read_and_written_to(tmp_path: Path) -> None:
    """A step of both stages with real words of width 576, on eight clips."""
    rng = np.random.default_rng(0)
    with write_store(tmp_path / "few.h5", load_layout("kinect-v1")) as writer:
        for number in range(8):
            split = ("x_train", "x_test")[number > 5]
            writer.add(Clip(f"clip {number}", number % 2, tiny_clip(2 * (number % 2), rng), splits=(split,)))
        writer.finish(["wave", "stand up"])
    changes = ("train.epochs=1", "tune.epochs=1", "codebook.num_codes=8")
    llm_ar.run_training(llm_ar.config(Path("smollm2"), *changes), tmp_path / "few.h5", tmp_path / "run")
    assert weights(tmp_path / "run")["vqvae.codebook.tangent"].shape == (8, 576)


@pytest.fixture
def pair() -> Iterator[Pair]:
    two = Pair()
    yield two
    two.close()


@pytest.mark.long
def test_two_processes_train_what_one_does_with_the_double_batch(
    pair: Pair, base_model: Path, store: Path, tmp_path: Path
) -> None:
    """Of both stages, without what each draws for itself (Gumbel noise, dropout); dead codes are revived alike."""
    sgd = ("train.optimizer=sgd", "train.lr=0.01", "tune.optimizer=sgd", "tune.lr=0.05", "bias.weight=0")
    same = (*llm_ar.SMALL, *sgd, "lm.dropout=0", "codebook.revive_every=2", "codebook.revive_until=1")
    command = [
        "train",
        store,
        "--recipe",
        "llm-ar-small",
        "--base-model",
        base_model,
        "--device",
        "cpu",
        "-q",
        "--json",
    ]
    command += [part for change in same for part in ("--set", change)]
    done = pair.skag(
        *command, "--out", "two", "--set", "train.batch_size=8", "--set", "tune.batch_size=8", folder=tmp_path
    )
    assert done.codes == [0, 0], done.stderr
    invoke(*command, "--out", tmp_path / "one", "--set", "train.batch_size=16", "--set", "tune.batch_size=16")
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    for name in theirs:
        if name != "vqvae.codebook.used":  # counted apart
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)
    metrics = [runs.read_lines(tmp_path / run / runs.METRICS) for run in ("two", "one")]
    for two, one in zip(*metrics, strict=True):
        for name in two.keys() & {"loss", "loss_reconstruction", "codes_used", "error_cm", "train_top1", "val_loss"}:
            assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-3), name
