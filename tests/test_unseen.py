"""Seen and unseen classes: which they are, that nothing is learned from the unseen ones, and what is answered."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from skag import runs
from skag.backends import open_backend
from skag.cli import app
from skag.config import replace
from skag.dialogue.describe import describe
from skag.dialogue.prompts import load_prompts
from skag.dialogue.store import DialogueStore
from skag.errors import DataError, DialogueError, RunError
from skag.inference import attributes, zero_shot
from skag.inference.baselines import motion_of
from skag.inference.candidates import make_candidates, read_candidates
from skag.inference.loaded import load_run
from skag.inference.opinions import OPINIONS, Mixing, harmonic, mixed, shares
from skag.methods.base import Candidate, KnowledgeSource
from skag.methods.skeleton_agent.config import AgentConfig
from skag.methods.skeleton_agent.losses import class_alignment_loss
from skag.methods.skeleton_agent.network import ModelConfig, Recogniser
from skag.methods.skeleton_agent.recipes import for_unseen
from skag.methods.skeleton_agent.script import SCRIPT
from skag.readers.label_names import known_names
from skag.skeleton.kinematics import JOINT_FEATURES
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store
from skag.skeleton.unseen import seen_part, unseen_classes
from skag.skeleton.unseen_protocols import PROTOCOLS, REFUSED
from skag.training.start import REHEARSAL, Wanted, configure, rehearsal_of, train_run, usual_rehearsal, with_clips

from .helpers.commands import document, failure, invoke
from .helpers.runs import untrained
from .helpers.tiny import CLASSES, tiny_clip
from .helpers.training import CPU, Silent, quiet, small

UNSEEN = "raise left hand"
SEEN = [name for name in CLASSES if name != UNSEEN]


def names_only(store: Path, out: Path, rehearse: int = 0, unseen: tuple[str, ...] = (UNSEEN,), seed: int = 0) -> Path:
    """A run that knows the classes by their names, trained for three epochs."""
    config = for_unseen(replace(small(epochs=3), "data", unseen=unseen, rehearse=rehearse))
    config = replace(config, "train", seed=seed)
    with SkeletonStore(store) as clips:
        train_run(clips, config, out, KnowledgeSource(out.parent / "d.h5"), CPU, Silent(), quiet)
    return out


@pytest.fixture(scope="module")
def run(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return names_only(tiny_store, tmp_path_factory.mktemp("unseen") / "run")


def with_other_unseen_clips(store: Path, path: Path) -> Path:
    """A copy of a store in which every clip of the unseen class is another, under another name."""
    shutil.copy(store, path)
    with h5py.File(path, "r+") as file:
        label, clips = CLASSES.index(UNSEEN), file["clips"]
        for n in np.flatnonzero(clips["label"][:] == label):
            start = int(clips["offset"][n])
            stop = start + int(clips["bodies"][n] * clips["frames"][n])
            rows = file["keypoints"][start:stop]
            file["keypoints"][start:stop] = np.random.default_rng(n).normal(0, 1, rows.shape) + 7
            end = int(clips["name_ends"][n])
            clips["name_bytes"][end - 1] = ord("x")
        file.attrs["fingerprint"] = "of another file"
    return path


# ---- which classes


def test_unseen_classes_are_named_in_four_ways(tiny_store: Path, tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("# mine\nSTEP\nraise_left hand\n")
    with SkeletonStore(tiny_store) as store:
        assert unseen_classes("step", store) == ("step",)
        assert unseen_classes(str(file), store) == ("raise left hand", "step"), "in the store's order"
        drawn = [unseen_classes("2", store, seed) for seed in range(6)]
        assert all(len(set(each)) == 2 for each in drawn) and len(set(drawn)) > 1
        assert unseen_classes("2", store, 3) == drawn[3]
        part = seen_part(store, ("step",))
        assert part.classes == CLASSES[:3] and len(part) == 60
        assert seen_part(part, ("step",)) is part
        assert seen_part(part, ("step", UNSEEN)).classes == CLASSES[:2], "of a part those that it has"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wave", "has no class 'wave'"),
        ("4", "all 4 classes"),
        ("3", "one class would be seen"),
        ("0", "no unseen class"),
        ("ntu60-5", "is of the 60 classes of ntu60"),
        ("ntu60-6", "did you mean 'ntu60-5"),
        ("llm-ar", "does not say which: --unseen 3"),
        ("sugar-pku", "--data PKU.h5"),
    ],
)
def test_what_is_no_choice_of_unseen_classes_is_one_line(tiny_store: Path, text: str, message: str) -> None:
    with SkeletonStore(tiny_store) as store, pytest.raises(DataError, match=message) as caught:
        unseen_classes(text, store)
    assert "\n" not in str(caught.value)


def test_published_protocols_are_whole() -> None:
    sizes = {"ntu60": 60, "ntu120": 120, "pku-mmd": 51, "nw-ucla": 10, "kinder-gator": 48}
    for name, protocol in PROTOCOLS.items():
        count = int(re.findall(r"-(\d+)", name)[0])
        assert len(protocol.unseen) == len(set(protocol.unseen)) == count, name
        assert protocol.source and all(isinstance(n, str) or 0 <= n < sizes[protocol.classes] for n in protocol.unseen)
    assert not PROTOCOLS.keys() & REFUSED.keys()
    names = known_names("ntu120")
    assert [names[n] for n in PROTOCOLS["ntu60-5"].unseen][:4] == ["reading", "writing", "put on a hat/cap", "jump up"]


# ---- nothing leaks


def test_a_run_is_the_same_whatever_the_unseen_clips_are(tiny_store: Path, tmp_path: Path) -> None:
    """Weights, metrics, knowledge and answers of `measured`: bit for bit, with dialogues and refreshes."""
    other = with_other_unseen_clips(tiny_store, tmp_path / "other.h5")
    config = replace(replace(small(epochs=3), "data", unseen=(UNSEEN,)), "agents", wait_for_answers=True)
    found = []
    for path in (tiny_store, other):
        folder = tmp_path / path.stem
        source = KnowledgeSource(tmp_path / "d.h5", "measured")
        with SkeletonStore(path) as store:
            part = seen_part(store, (UNSEEN,))
            with DialogueStore(source.dialogues) as kept:
                report = describe(
                    open_backend("measured", store=part), kept, part.classes, part.layout, load_prompts(SCRIPT)
                )
            assert not report.failed and (path is tiny_store or not report.asked)
            train_run(store, config, folder, source, CPU, Silent(), quiet)
        weights = torch.load(folder / "best.pt", weights_only=True)["model"]
        assert len(weights["class_head.bias"]) == 3
        lines = runs.read_lines(folder / runs.METRICS)
        for line in lines:
            line.pop("seconds")
        documents = [json.loads((folder / name).read_text()) for name in (runs.CONFIG, runs.DATA)]
        documents[1].pop("store"), documents[1].pop("fingerprint")  # which file it is
        texts = [(folder / name).read_text() for name in ("class_knowledge.jsonl", runs.DIALOGUES)]
        found.append((weights, lines, documents, texts))
    (weights, *rest), (others, *other_rest) = found
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert rest == other_rest
    assert UNSEEN not in rest[2][0] + rest[2][1]


def test_what_was_measured_of_all_classes_is_not_used_but_measured_anew(
    tiny_store: Path, dialogues: Path, tmp_path: Path
) -> None:
    config = replace(small(epochs=1), "data", unseen=(UNSEEN,))
    told: list[str] = []
    with SkeletonStore(tiny_store) as store:
        with pytest.raises(DialogueError, match=f"run `skag describe .* --unseen '?{UNSEEN}'?"):
            source = KnowledgeSource(dialogues, "measured", offline=True)
            train_run(store, config, tmp_path / "run", source, CPU, Silent(), quiet)
        assert not (tmp_path / "run").exists()
        train_run(store, config, tmp_path / "run", KnowledgeSource(dialogues, "measured"), CPU, Silent(), told.append)
    assert any(line.startswith("3 classes described by `measured`") for line in told), told
    found = zero_shot.evaluate_classes([tmp_path / "run"], "all", opinions=["embedding"], device=CPU)
    said = {each.name: each.text for each in found.classes}
    assert said[UNSEEN] == (UNSEEN,) and all(said[name] != (name,) for name in SEEN), "sentences of the dialogue"


def test_what_is_derived_from_the_data_is_of_the_seen_clips(tiny_store: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        config, reasons = configure(store, Wanted(unseen=(UNSEEN, "step")), "j", "cpu")
    assert config.data.unseen == (UNSEEN, "step") and config.data.rehearse == 0
    assert (config.agents.alpha, config.agents.alignment_text, config.train.keep) == (0.0, "name", "last")
    assert any("over 32 clips, 2 classes" in reason for reason in reasons), reasons
    with SkeletonStore(tiny_store) as store, pytest.raises(RunError, match="by --unseen"):
        configure(store, Wanted(changes=("data.unseen=step",)), "j", "cpu")


def test_seen_classes_without_training_clips_are_left_out(tmp_path: Path) -> None:
    """Two classes of five have clips; one of the others is to be unseen."""
    path, rng = tmp_path / "part.h5", np.random.default_rng(0)
    with write_store(path, load_layout("kinect-v1")) as writer:
        for n in range(8):
            clip = rng.normal(0, 1, (1, 6, 20, 3)).astype(np.float32)
            writer.add(Clip(f"clip {n}", 2 * (n % 2), clip, splits=("train" if n < 6 else "test",)))
        writer.finish(list("abcde"))
    notes: list[str] = []
    with SkeletonStore(path) as store:
        part = with_clips(store, Wanted(unseen=("d",)), "j", "cpu", notes.append)
        assert part.classes == ["a", "c", "d"] and seen_part(part, ("d",)).classes == ["a", "c"]
        assert with_clips(part, Wanted(unseen=("d",)), "j", "cpu", notes.append) is part
        assert with_clips(store, Wanted(unseen=("d",)), "j", "cpu", quiet, ["a", "c", "d"]).classes == ["a", "c", "d"]
    assert notes and "2 classes without a clip" in notes[0]


# ---- the rehearsal


def test_a_rehearsal_leaves_out_seen_classes_too(tiny_store: Path, tmp_path: Path) -> None:
    assert [usual_rehearsal(n) for n in (3, 4, 8, 38)] == [0, 2, 2, 8]
    run = names_only(tiny_store, tmp_path / "run", rehearse=1)
    second = load_run(run / REHEARSAL, CPU)
    assert len(second.classes) == 2 and UNSEEN in second.config.data.unseen and second.config.data.rehearse == 0
    before = (run / REHEARSAL / "best.pt").read_bytes()
    shutil.rmtree(run / REHEARSAL)
    config = runs.read_config(run)
    with SkeletonStore(tiny_store) as store:
        train_run(store, config, run, KnowledgeSource(tmp_path / "d.h5"), CPU, Silent(), quiet, resume=True)
    assert (run / REHEARSAL / "best.pt").read_bytes() == before, "resumed: what is missing is trained"
    with SkeletonStore(tiny_store) as store, pytest.raises(RunError, match="leave at least two"):
        rehearsal_of(replace(small(), "data", rehearse=2), seen_part(store, (UNSEEN,)))
    found = zero_shot.evaluate_classes([run], "all", device=CPU)
    assert "16 training clips of 1 seen classes held out" in found.mixing.how
    assert set(found.mixing.weights) == set(OPINIONS) and sum(found.mixing.weights.values()) == pytest.approx(1)


def test_runs_answer_together(run: Path, tiny_store: Path, tmp_path: Path) -> None:
    """Two seeds: their scores are averaged, and a single run's are its own."""
    one, other = run, names_only(tiny_store, tmp_path / "1", seed=1)
    alone = [zero_shot.evaluate_classes([run], "all", device=CPU) for run in (one, other)]
    both = zero_shot.evaluate_classes([one, other], "all", device=CPU)
    again = zero_shot.evaluate_classes([one, one], "all", device=CPU)
    assert again.together == alone[0].together and again.alone == alone[0].alone
    assert both.to_dict()["runs"] == [str(one), str(other)] and both.clips == alone[0].clips
    assert both.alone["motion"] == alone[0].alone["motion"]  # measured of the same clips
    assert both.alone["embedding"] != again.alone["embedding"] or both.together != again.together


def test_runs_are_averaged_by_their_own_weights() -> None:
    """Two runs, two candidates of which the first is seen; by hand."""
    seen = np.array([True, False])
    first = SimpleNamespace(mixing=Mixing({"embedding": 0.25, "head": 0.75}, 1.0, "a"))
    second = SimpleNamespace(mixing=Mixing({"embedding": 1.0, "head": 0.0}, 0.0, "b"))
    scores = [
        {"embedding": np.array([[4.0, 0.0]]), "head": np.array([[0.0, 8.0]])},
        {"embedding": np.array([[2.0, 6.0]]), "head": np.array([[9.0, 9.0]])},
    ]
    found = zero_shot._mean_of([first, second], scores, seen)
    np.testing.assert_allclose(found, [[(4 * 0.25 - 1 + 2) / 2, (8 * 0.75 + 6) / 2]])
    alone = zero_shot._mean_of([first, second], [{"head": each["head"]} for each in scores], seen, {"head": 1.0})
    np.testing.assert_allclose(alone, [[(0 - 1 + 9) / 2, (8 + 9) / 2]])
    shown = zero_shot._mixing_of([first, second])
    assert shown == Mixing({"embedding": 0.625, "head": 0.375}, 0.5, "a; b")


@pytest.mark.long
def test_runs_of_other_classes_do_not_answer_together(run: Path, tiny_store: Path, tmp_path: Path) -> None:
    other = names_only(tiny_store, tmp_path / "other", unseen=("step",))
    with pytest.raises(RunError, match="have learned other classes"):
        zero_shot.evaluate_classes([run, other], "all", device=CPU)


# ---- candidates


def test_candidates_come_with_what_stands_for_them(tmp_path: Path, run: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("wave_hand\nbow\tThe person bends.\tThe head goes down.\n")
    given = read_candidates(file)
    assert given == [Candidate("wave_hand"), Candidate("bow", ("The person bends.", "The head goes down."))]
    made = make_candidates(["wave_hand", "bow"], load_run(run, CPU).classifier, {"bow": given[1].descriptions})
    assert [each.descriptions for each in made] == [("wave hand",), given[1].descriptions]
    for text, message in (
        ("bow\t\n", "tab without a sentence"),
        ("bow\nbow\tagain\n", "there twice"),
        ("\tbow\n", "begins with a tab"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            read_candidates(file)
    with pytest.raises(DataError, match="'a b' and 'a_b' have one text"):
        make_candidates(["a b", "a_b"], None)
    with pytest.raises(DataError, match="at least two"):
        make_candidates(["a"], None)


def test_the_embedding_answers_classes_never_trained(run: Path) -> None:
    loaded = load_run(run, CPU)
    x = torch.randn(5, 1, 8, 20, 3, generator=torch.Generator().manual_seed(0))
    classifier = loaded.classifier
    both = [Candidate("bow"), Candidate("step", ("step", "walk"))]
    with torch.inference_mode():
        found = classifier.log_scores(x, both)
        embedding = loaded.model(x).embedding
        vectors = classifier.reader.vectors(["bow", "step", "walk"]) - loaded.model.text_centre
        cosines = 10 * torch.nn.functional.cosine_similarity(embedding[:, None], vectors[None], dim=2)
        head = classifier.log_scores(x, [Candidate("step"), Candidate(SEEN[0])])
        logits = classifier.log_scores(x)
    torch.testing.assert_close(found[:, 0], cosines[:, 0])
    torch.testing.assert_close(found[:, 1], cosines[:, 1:].mean(1))
    torch.testing.assert_close(head, logits[:, [SEEN.index("step"), 0]])


def test_a_run_that_was_aligned_with_nothing_says_so(tiny_store: Path, tmp_path: Path) -> None:
    x = torch.zeros(1, 1, 8, 20, 3)
    config = replace(small(epochs=1, alpha=0.0, beta=0.0), "data", unseen=(UNSEEN,))
    with SkeletonStore(tiny_store) as store:
        train_run(store, config, tmp_path / "run", KnowledgeSource(tmp_path / "d.h5"), CPU, Silent(), quiet)
    with pytest.raises(RunError, match="3 trained classes apart and no others, such as 'bow'"):
        load_run(tmp_path / "run", CPU).classifier.log_scores(x, [Candidate("bow"), Candidate("step")])


def test_texts_are_compared_from_their_mean_and_whitened() -> None:
    text = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    shape = {"num_classes": 6, "num_joints": 20, "num_bodies": 1, "channels": (8,), "strides": (1,), "embedding_dim": 8}
    for space in ("raw", "centred", "whitened"):
        network = Recogniser(ModelConfig(**shape, text_space=space))
        network.begin_text(text)
        placed = network.placed(text)
        if space == "raw":
            assert placed is text and "text_centre" not in network.state_dict()
            continue
        torch.testing.assert_close(placed.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
        apart = text - text.mean(0)
        if space == "centred":
            torch.testing.assert_close(placed, apart)
        else:
            covariance = apart.T @ apart / 6
            shrunk = (covariance + torch.eye(8) * covariance.trace() / 8) / 2
            torch.testing.assert_close(network.text_map @ shrunk @ network.text_map, torch.eye(8), atol=1e-4, rtol=0)
            torch.testing.assert_close(placed, apart @ network.text_map)


def test_the_alignment_over_all_classes_is_their_cross_entropy() -> None:
    """Two clips, three classes: cosines 1, 0, -1 and 0, 1, 0 at temperature 0.5."""
    embedding, text = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [-5.0, 0.0]])
    found = class_alignment_loss(embedding, text, torch.tensor([0, 1]), 2.0)
    e = np.exp(2.0)
    assert float(found) == pytest.approx((np.log(e + 1 + 1 / e) - 2 + np.log(e + 2) - 2) / 2)
    with pytest.raises(RunError, match="moving vectors"):
        AgentConfig(train_text_encoder=True, text_encoder="open_clip:ViT-B-32", text_space="centred")


# ---- answers


def test_attributes_tell_by_sentences_what_was_never_trained() -> None:
    """Clips whose right hand rises and clips that walk: standardised by both, named by sentences of the same words."""
    layout, rng = load_layout("kinect-v1"), np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        with write_store(Path(folder) / "two.h5", layout) as writer:
            for n in range(12):
                writer.add(Clip(f"clip {n}", n % 2, tiny_clip(3 * (n % 2), rng)))
            writer.finish(["hands up", "walk"])
        with SkeletonStore(Path(folder) / "two.h5") as store:
            motion = motion_of(store, np.arange(12))
    values = attributes.measured(motion, layout)
    raised = [each.sentence for each in attributes.ATTRIBUTES].index("the hands are raised")
    hands, up = [layout.index["left hand"], layout.index["right hand"]], JOINT_FEATURES.index("up")
    np.testing.assert_allclose(values[:, raised], motion.reshape(12, 20, 17)[:, hands, up].mean(1))
    A = len(attributes.ATTRIBUTES)
    sentences, text = np.eye(A), np.eye(A)[[raised, 0]]
    weights = attributes.likeness(text, sentences)
    assert weights.sum(1) == pytest.approx(1) and weights[0, raised] > 0.9
    scores = attributes.fit(motion, np.full((3, A), A**-0.5), sentences, layout)(motion, text)
    assert (scores[::2, 0] > scores[1::2, 0].max()).all(), "whose hands go up most is nearest to that sentence"
    no_hands = load_layout("sbu-15")
    assert np.isnan(attributes.measured(np.full((2, 15 * 17), np.nan), no_hands)).all()


def test_shares_are_those_of_a_hand_count() -> None:
    """Six clips: of seen class 0 three, two right; of seen 1 one, wrong; of unseen 2 two, one right."""
    labels, seen = np.array([0, 0, 0, 1, 2, 2]), np.array([True, True, False])
    scores = np.eye(3)[[0, 0, 1, 0, 2, 0]]
    found = shares(scores, labels, seen)
    assert (found.seen, found.unseen) == (50.0, 50.0) and found.harmonic == 50.0
    assert found.seen_mean_class == pytest.approx(100 / 3) and found.unseen_mean_class == 50
    assert found.harmonic_mean_class == pytest.approx(40.0) and found.top1 == 50.0
    assert harmonic(80.0, 20.0) == 32.0 and harmonic(None, 20.0) is None and harmonic(0.0, 0.0) == 0.0
    opinions = {"embedding": np.array([[1.0, 0.0, 0.0]]), "motion": np.array([[0.0, 0.0, 2.0]])}
    mixing = Mixing({"embedding": 0.75, "motion": 0.25}, 0.5, "")
    np.testing.assert_allclose(mixed(opinions, mixing, seen), [[0.25, -0.5, 0.5]])
    np.testing.assert_allclose(mixed(opinions, mixing, ~seen & seen), [[0.75, 0.0, 0.5]])


def test_a_run_is_asked_for_unseen_seen_and_all_classes(run: Path, tmp_path: Path) -> None:
    found = document("eval", run, "--classes", "all")
    assert found["classes"] == CLASSES and found["classes_unseen"] == [UNSEEN] and found["clips"] == 16
    assert {"top1", "seen", "unseen", "harmonic"} <= found.keys() and found["opinions"].keys() == OPINIONS.keys()
    assert found["harmonic"] == pytest.approx(harmonic(found["seen"], found["unseen"]))
    assert "no rehearsal" in found["chosen"] and found["shift"] == 0
    with np.load(run / "predictions-xsub_test+all.npz") as saved:
        right = saved["probabilities"].argmax(1) == saved["labels"]
        assert 100 * right.mean() == pytest.approx(found["top1"]) and saved["classes"].tolist() == CLASSES
    only = document("eval", run, "--classes", "seen", "--opinions", "embedding")
    assert only["clips"] == 12 and only["unseen"] is None and only["harmonic"] is None
    file = tmp_path / "names.txt"
    file.write_text(f"{UNSEEN}\tThe left hand goes up.\nstep\n")
    own = document("eval", run, "--classes", file)
    assert own["classes"] == [UNSEEN, "step"] and own["per_class"][0]["text"] == ["The left hand goes up."]
    marked = invoke("eval", run, "--classes", file, "--transductive")
    assert "Transductive: every answer depends on all tested clips" in marked
    text = invoke("eval", run, "--classes", file)
    assert "Transductive" not in text
    assert "Rule: learns from: seen classes of the training split" in text and "the last" in text


@pytest.mark.parametrize(
    ("classes", "message"),
    [("unseen", "1 class to choose among"), ("nobody,step", "has no class 'nobody'"), ("step,step", "there twice")],
)
def test_classes_that_cannot_be_asked_for_are_one_line(
    run: Path, classes: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    code, text = failure(monkeypatch, capsys, "eval", run, "--classes", classes, "--quiet")
    assert code == 1 and message in text and text.count("\n") == 1


def test_a_run_of_all_classes_has_no_unseen_ones(tiny_store: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none is unseen: train with --unseen"):
        zero_shot.evaluate_classes([untrained(tiny_store, tmp_path / "run")], "unseen", device=CPU)


def other_store(path: Path, layout: str, classes: list[str]) -> Path:
    """Two clips a class, without a protocol."""
    joints, rng = load_layout(layout).num_joints, np.random.default_rng(1)
    with write_store(path, load_layout(layout)) as writer:
        for n in range(2 * len(classes)):
            writer.add(Clip(f"clip {n}", n % len(classes), rng.normal(0, 1, (1, 9, joints, 3)).astype(np.float32)))
        writer.finish(classes)
    return path


def test_a_run_is_asked_about_a_store_with_other_classes(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    other = other_store(tmp_path / "other.h5", "kinect-v1", ["bow", "step", "jump"])
    found = document("eval", run, "--classes", "all", "--data", other)
    assert found["split"] == "all clips" and found["clips"] == 6
    assert found["classes_seen"] == ["step"] and found["classes_unseen"] == ["bow", "jump"]
    assert document("eval", run, "--classes", "unseen", "--data", other)["clips"] == 4
    ntu = other_store(tmp_path / "ntu.h5", "nturgb+d", ["bow", "step"])
    code, text = failure(monkeypatch, capsys, "eval", run, "--classes", "all", "--data", ntu, "--quiet")
    assert code == 1 and "has layout nturgb+d" in text and "trained on kinect-v1" in text and text.count("\n") == 1


def test_predict_answers_with_classes_never_trained(run: Path, tiny_store: Path, tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text(f"{UNSEEN}\tThe left hand goes up.\nstep\nbow\n")
    arguments = ("predict", run, tiny_store, "--split", "xsub_test", "--classes", file)
    lines = [json.loads(line) for line in invoke(*arguments, "--abstain", "0.3", "--json").splitlines()]
    assert len(lines) == 16 and all(line["calibrated"] for line in lines)
    for line in lines:
        assert {each["class"] for each in line["top"]} == {UNSEEN, "step", "bow"}
        assert sum(each["probability"] for each in line["top"]) == pytest.approx(1)
        unsure = line["top"][0]["probability"] < line["threshold"]
        assert line["label"] == (None if unsure else line["top"][0]["class"])
        assert line["evidence"]["ranked_by"] == "gradient" and len(line["evidence"]["joints"]) == 1
    said = {line["top"][0]["class"]: line["sentence"] for line in lines}
    assert said.get(UNSEEN, "The left hand goes up.") == "The left hand goes up." and not said.get("bow")
    trained = invoke("predict", run, tiny_store, "--split", "xsub_test", "--no-reasons", "--json")
    assert {each["class"] for each in json.loads(trained.splitlines()[0])["top"]} == set(SEEN)


def test_names_alone_are_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    knowledge, names, out = tmp_path / "k.toml", tmp_path / "names.txt", tmp_path / "d.h5"
    entry = "\n".join(f'{part} = "moves"' for part in ("head", "hand", "arm", "hip", "leg", "foot"))
    knowledge.write_text(
        f'[[class]]\nname = "bow"\noverview = "The person bends."\n{entry}\ncritical_joints = ["head: sinks"]\n'
        'key_features = "The head sinks."\n'
    )
    names.write_text("bow\nwave\tThe hand goes to and fro.\n")
    arguments = ("describe", "--classes", names, "--layout", "kinect-v1", "--store", out)
    found = document(*arguments, "--llm", f"file:{knowledge}")
    assert (found["classes"], found["asked"], found["failed"]) == (1, 5, [])
    code, text = failure(monkeypatch, capsys, *arguments, "--llm", "measured")
    assert code == 1 and "classes without clips have none" in text and len(text.splitlines()) == 2
    names.write_text("wave\tThe hand goes to and fro.\n")
    code, text = failure(monkeypatch, capsys, *arguments, "--llm", f"file:{knowledge}", "--quiet")
    assert code == 1 and "nothing to ask" in text
    assert failure(monkeypatch, capsys, "describe", "--llm", "measured")[0] == 2


def test_training_says_what_is_unseen_and_by_which_rule(tiny_store: Path, tmp_path: Path) -> None:
    small_network = ("network.channels=8", "network.strides=1", "data.num_frames=8")
    arguments = ["train", tiny_store, "--unseen", "step", "--recipe", "nw-ucla-small", "--epochs", 1, "--device", "cpu"]
    arguments += ["--out", tmp_path / "run", "--store", tmp_path / "d.h5"]
    for change in small_network:
        arguments += ["--set", change]
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    assert "Unseen: step (3 classes seen); 16 clips of xsub_train left out." in done.stderr
    assert "Rule: learns from: seen classes of the training split; tested on: unseen classes" in done.stderr
    assert "lexical compares wording and knows no meanings" in done.stderr
    assert f"Next: skag eval {tmp_path / 'run'} --classes all" in done.stderr
    assert "of seen classes (the last epoch)" in done.stdout
    assert not (tmp_path / "d.h5").exists(), "nobody is asked"
    refused = CliRunner().invoke(app, ["train", str(tiny_store), "--rehearse", "1"])
    assert refused.exit_code == 2
