"""Replaying: everything from the store, nobody asked, and all that is missing named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from skag.backends import BackendDown, BackendError, Message, Topic, open_backend
from skag.dialogue.describe import describe, unusable_before
from skag.dialogue.prompts import Prompts, load_prompts
from skag.dialogue.replay import identities_of, missing_distinctions, replay
from skag.dialogue.store import DialogueStore
from skag.dialogue.verify import verify
from skag.errors import DialogueError
from skag.methods.skeleton_agent.config import SkeletonAgentConfig
from skag.methods.skeleton_agent.questioner import ask_distinctions
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import SkeletonStore

from .helpers.commands import failure, invoke
from .helpers.servers import ScriptedBackend, Server, good_answer, serve
from .helpers.training import agents_of

CLASSES = ["pick up", "throw", "carry"]
LAYOUT = load_layout("kinect-v1")
PROMPTS = load_prompts(SCRIPT)


def good(topic: Topic, messages: list[Message]) -> str:
    return good_answer(topic, LAYOUT)


def by_round(messages: list[Message]) -> str:
    """What a server answers, from the number of questions that it was asked."""
    return ["It goes up.", "head: still", "1, 4", "4-head: nods", "The head nods slowly."][
        min(sum(message["role"] == "user" for message in messages), 5) - 1
    ]


def test_identities_of_a_model_are_those_it_answered_under(store: DialogueStore) -> None:
    for options in ({}, {"seed": 1}, {"seed": 2, "temperature": 0.5}):
        describe(ScriptedBackend(good, options=options), store, CLASSES[:1], LAYOUT, PROMPTS)
    found = [identity["options"] for identity in identities_of("scripted/test", store)]
    assert found == [{"seed": 2, "temperature": 0.5}, {"seed": 1}, {}]
    assert [each["options"] for each in identities_of("scripted/test", store, options={"seed": 1})] == [{"seed": 1}]
    assert identities_of("scripted/other", store) == identities_of("ollama/test", store) == []
    store.close()  # from the HDF5 file as from the journal
    assert [identity["options"] for identity in identities_of("scripted/test", store)] == found


def test_a_replay_is_what_was_described(store: DialogueStore) -> None:
    first = describe(ScriptedBackend(good, options={"seed": 7}), store, CLASSES, LAYOUT, PROMPTS)
    again = replay(identities_of("scripted/test", store), store, CLASSES, LAYOUT, PROMPTS)
    assert again.conversations == first.conversations and (again.asked, again.cached) == (0, 15)
    assert again.missing == again.failed == ()


@pytest.mark.parametrize("details", [{"cost": "much"}, {"cost": None}, {"joints": 5}, {"pairs": {}}])
def test_details_from_elsewhere_are_not_believed(store: DialogueStore, tmp_path: Path, details: dict) -> None:
    describe(ScriptedBackend(good), store, CLASSES, LAYOUT, PROMPTS)
    other = DialogueStore(tmp_path / "other.h5")
    other.add_all([dataclasses.replace(each, details=details) for each in store])
    assert replay(identities_of("scripted/test", other), other, CLASSES, LAYOUT, PROMPTS).cached == 15
    assert not [finding for finding in verify(other, SCRIPT)[1] if finding.is_problem]


def test_all_that_is_missing_is_named(store: DialogueStore) -> None:
    def answer(topic: Topic, messages: list[Message]) -> str | BackendError:
        return BackendError("x") if (topic.class_index, topic.round) in ((0, 3), (2, 5)) else good(topic, messages)

    describe(ScriptedBackend(answer), store, CLASSES, LAYOUT, PROMPTS)
    report = replay(identities_of("scripted/test", store), store, [*CLASSES, "drop"], LAYOUT, PROMPTS)
    assert [(each.class_name, each.rounds_left) for each in report.missing] == [
        ("pick up", [3, 4, 5]),
        ("carry", [5]),
        ("drop", [1, 2, 3, 4, 5]),
    ]
    assert report.reasons()[1] == ("carry", "not in the store: rounds 5")
    assert report.missing[0].messages[-1]["content"].startswith("The skeleton has these joints")
    assert [each.rounds_left for each in replay([], store, CLASSES, LAYOUT, PROMPTS).missing] == [[1, 2, 3, 4, 5]] * 3


def test_the_most_complete_identity_is_replayed(store: DialogueStore) -> None:
    describe(ScriptedBackend(good), store, CLASSES, LAYOUT, PROMPTS)
    describe(ScriptedBackend(good, options={"seed": 1}), store, CLASSES[:2], LAYOUT, PROMPTS)  # later, less
    report = replay(identities_of("scripted/test", store), store, CLASSES, LAYOUT, PROMPTS)
    assert report.failed == () and report.conversations[0].exchanges[1].identity["options"] == {}


def test_other_prompts_are_other_questions(store: DialogueStore) -> None:
    describe(ScriptedBackend(good), store, CLASSES, LAYOUT, PROMPTS)
    other = Prompts({**PROMPTS.texts, "round5": "Sum it up."}, SCRIPT)
    report = replay(identities_of("scripted/test", store), store, CLASSES, LAYOUT, other)
    assert [each.rounds_left for each in report.missing] == [[5]] * 3


def test_answers_that_did_not_fit_are_replayed_too(store: DialogueStore) -> None:
    answers = iter(["Joints 1 and 2", "1, 99", "2, 1"])
    backend = ScriptedBackend(lambda topic, messages: next(answers) if topic.round == 3 else good(topic, messages))
    first = describe(backend, store, CLASSES[:1], LAYOUT, PROMPTS)
    used = first.conversations[0].exchanges[3]
    assert [each.answer for each in unusable_before(store, [used])] == ["Joints 1 and 2", "1, 99"]
    assert unusable_before(store, [first.conversations[0].exchanges[1]]) == []
    report = replay(identities_of("scripted/test", store), store, CLASSES[:1], LAYOUT, PROMPTS)
    assert report.conversations == first.conversations and report.cached == 7


def test_round_6_is_replayed_by_any_identity_of_the_model(store: DialogueStore) -> None:
    told = describe(ScriptedBackend(good), store, CLASSES, LAYOUT, PROMPTS).conversations
    other = ScriptedBackend(good, options={"seed": 1})  # training was given other options than describing
    first = ask_distinctions(other, store, told, {0: (1, 2), 1: (0,)}, LAYOUT, PROMPTS)
    identities = identities_of("scripted/test", store)
    again = ask_distinctions(None, store, told, {0: (1, 2), 1: (0,)}, LAYOUT, PROMPTS, identities=identities)
    assert again.conversations == first.conversations and (again.asked, again.cached) == (0, 2)
    lacks = ask_distinctions(None, store, told, {0: (2, 1), 2: (0,)}, LAYOUT, PROMPTS, identities=identities, jobs=2)
    assert lacks.conversations == told and [each.class_name for each in lacks.missing] == ["pick up", "carry"]
    line = str(missing_distinctions([*lacks.missing, *lacks.missing]))
    assert line.startswith("2 questions of round 6") and "'pick up' against 'carry', 'throw'; 'carry' against" in line


# ---- the commands


@pytest.fixture
def data(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tiny_store


@pytest.fixture
def ollama() -> Server:
    with serve("ollama") as server:
        server.reply = by_round
        yield server


def test_an_ollama_dialogue_is_replayed_with_no_server(data: Path, ollama: Server, monkeypatch, capsys) -> None:
    model = ["--llm", "ollama/tiny"]
    invoke("describe", data, *model, "--base-url", ollama.address, "--seed", 5)
    asked = len(ollama.requests)
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")  # nobody is there
    told = json.loads(invoke("describe", data, *model, "--offline", "--json"))
    assert (told["asked"], told["cached"], told["failed"]) == (0, 20, [])
    assert json.loads(invoke("describe", data, *model, "--offline", "--seed", 5, "--json"))["cached"] == 20
    code, printed = failure(monkeypatch, capsys, "describe", data, *model, "--offline", "--seed", 6)
    assert code == 1 and "lacks answers of ollama/tiny for 4 of 4 classes, 20 questions in all" in printed
    assert len(ollama.requests) == asked


def test_a_dry_run_counts_and_asks_nothing(data: Path, ollama: Server) -> None:
    command = ["describe", data, "--llm", "ollama/tiny", "--base-url", ollama.address, "--jobs", 1]
    invoke(*command)
    asked = len(ollama.chats())
    assert json.loads(invoke(*command, "--dry-run", "--json"))["to_ask"] == 0
    plan = json.loads(invoke(*command, "--seed", 1, "--dry-run", "--show", "--json"))
    assert (plan["to_ask"], plan["cached"], plan["unusable"]) == (20, 0, 0)
    first = plan["questions"][0]
    assert (first["round"], first["then"]) == (1, [2, 3, 4, 5])
    assert first["messages"] == ollama.chats()[0]["messages"]  # to the letter what is sent
    shown = invoke(*command, "--seed", 1, "--dry-run", "--show")
    assert "=== raise right hand, round 1" in shown and first["messages"][-1]["content"] in shown
    assert "rounds 2 to 5 also hold the answers before them" in shown
    assert len(ollama.chats()) == asked


def test_a_dry_run_without_a_server_counts_by_the_store(data: Path, ollama: Server) -> None:
    command = ["describe", data, "--llm", "ollama/tiny"]
    invoke(*command, "--base-url", ollama.address)
    plan = json.loads(invoke(*command, "--base-url", "http://127.0.0.1:9", "--dry-run", "--json", "--quiet"))
    assert (plan["to_ask"], plan["cached"]) == (0, 20)


def test_show_belongs_to_a_dry_run(data: Path, monkeypatch, capsys) -> None:
    assert failure(monkeypatch, capsys, "describe", data, "--show")[0] == 2


@pytest.mark.long
def test_training_is_repeated_from_what_its_run_folder_holds(data: Path, monkeypatch, capsys) -> None:
    """The dialogue store of the second run holds the exchanges of the first run's folder and nothing else."""
    from skag.runs import read_lines

    invoke("describe", data)
    train = ["train", data, "--recipe", "demo", "--epochs", 9, "--quiet"]
    invoke(*train, "--out", "first")
    invoke("dialogues", "import", "first/dialogues.jsonl", "--store", "copy.h5")
    again = json.loads(invoke(*train, "--out", "again", "--store", "copy.h5", "--offline", "--json"))
    assert again["asked"] == 0
    first, second = (read_lines(Path(run, "metrics.jsonl")) for run in ("first", "again"))
    drop = {"seconds"}
    assert [{k: v for k, v in line.items() if k not in drop} for line in first] == [
        {k: v for k, v in line.items() if k not in drop} for line in second
    ]
    assert Path("first/dialogues.jsonl").read_bytes() == Path("again/dialogues.jsonl").read_bytes()

    lines = Path("first/dialogues.jsonl").read_text().splitlines(keepends=True)
    Path("five.jsonl").write_text("".join(line for line in lines if json.loads(line)["round"] < 6))
    assert len(lines) > 20
    invoke("dialogues", "import", "five.jsonl", "--store", "five.h5")
    code, printed = failure(monkeypatch, capsys, *train, "--out", "lacks", "--store", "five.h5", "--offline")
    asked = [json.loads(line) for line in lines if json.loads(line)["round"] == 6]
    assert code == 1 and printed.count("\n") == 1 and "questions of round 6 are not in the dialogue store" in printed
    assert repr(asked[0]["class_name"]) in printed
    assert Path("lacks/best.pt").exists()  # it trained to its end with the sentences of round 5


def test_training_offline_without_a_dialogue_names_classes_and_rounds(data: Path, ollama: Server) -> None:
    ollama.reply = lambda messages: by_round(messages) if len(messages) < 8 else ""
    with DialogueStore("cache/dialogues.h5") as kept, SkeletonStore(data) as clips:
        backend = open_backend("ollama/tiny", base_url=ollama.address)
        describe(backend, kept, clips.classes, clips.layout, PROMPTS)
        config, source = SkeletonAgentConfig("x"), {"llm": "ollama/tiny", "offline": True}
        opened = agents_of(config, clips, Path("cache/dialogues.h5"), **source)
        with pytest.raises(DialogueError, match="'step' from round 4 on"), opened:
            pass


def test_a_dry_run_of_training_bounds_the_questions(data: Path) -> None:
    invoke("describe", data)
    told = json.loads(invoke("train", data, "--recipe", "demo", "--out", "run", "--dry-run", "--json"))
    assert told == {"refreshes": 4, "classes": 4, "to_ask_at_most": 16} and not Path("run").exists()


def test_a_backend_that_is_down_is_no_missing_answer(store: DialogueStore) -> None:
    down = ScriptedBackend(lambda topic, messages: BackendDown("no server."))
    assert describe(down, store, CLASSES, LAYOUT, PROMPTS).missing == ()
