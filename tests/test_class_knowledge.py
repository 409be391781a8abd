"""The one record of what the network was trained with: whatever shows it, or repeats it, has it from there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import skag
from skag import runs
from skag.config import replace
from skag.errors import RunError
from skag.inference.loaded import load_run
from skag.inference.scores import predict_split
from skag.methods.base import KnowledgeSource
from skag.methods.skeleton_agent import class_knowledge, make_findings, sentences
from skag.methods.skeleton_agent.agents import REFRESHES
from skag.methods.skeleton_agent.config import SkeletonAgentConfig
from skag.results.analysis import Pair
from skag.results.report import Texts
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import SkeletonStore
from skag.training.loop import train
from skag.training.start import train_run

from .helpers.commands import document
from .helpers.tiny import CLASSES, clip
from .helpers.training import CPU, Silent, Stop, StopsAt, agents_of, quiet, small


@pytest.fixture(scope="module", params=[False, True], ids=["own", "shuffled"])
def run(
    request: pytest.FixtureRequest, tiny_store: Path, tiny_dialogues: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run whose classes were told apart anew after every epoch; its last one is kept."""
    folder = tmp_path_factory.mktemp("known")
    shutil.copytree(tiny_dialogues, folder, dirs_exist_ok=True)
    config = replace(small(epochs=3, query_period=1), "train", keep="last")
    source = KnowledgeSource(folder / "d.h5", shuffled=request.param)
    with SkeletonStore(tiny_store) as store:
        train_run(store, config, folder / "run", source, CPU, Silent(), quiet)
    assert runs.read_json(folder / "run", runs.CONFIG)["asking"].get("shuffled", False) is request.param
    return folder / "run"


def known_at(run: Path, epoch: int) -> dict[str, dict[str, Any]]:
    """By class, as the file says, without the code that reads it."""
    known: dict[str, dict[str, Any]] = {}
    lines = [json.loads(line) for line in (run / "class_knowledge.jsonl").read_text().splitlines()]
    assert lines[0]["epoch"] == 0 and set(lines[0]["classes"]) == set(CLASSES) and len(lines) > 1
    for line in lines:
        if line["epoch"] <= epoch:
            known |= line["classes"]
    return known


def test_the_network_page_and_prediction_say_what_the_record_says(run: Path, tiny_store: Path) -> None:
    known = known_at(run, 3)
    assert known != known_at(run, 0)
    loaded = load_run(run, CPU)
    assert loaded.epoch == 3
    joints = {name: tuple(loaded.layout.index[joint] for joint in known[name]["joints"]) for name in CLASSES}
    mask = loaded.model.critical_joints
    assert {name: tuple(mask[k].nonzero().flatten().tolist()) for k, name in enumerate(CLASSES)} == joints
    with SkeletonStore(tiny_store) as store:
        predictions = predict_split(loaded, store, "xsub_test", CPU)
        found = make_findings(loaded, store, predictions, [Pair(CLASSES[0], CLASSES[1], 1, 25.0)], None)
    texts = Texts()
    page = found.page(texts)
    said = list(texts.numbers)
    shown = [(said[each["sentence"]], tuple(joint for joint, _ in each["joints"])) for each in page["critical"]]
    assert shown == [(known[name]["sentence"], joints[name]) for name in CLASSES]
    (pair,) = found.pairs
    assert (pair["true_sentence"], pair["predicted_sentence"]) == tuple(known[c]["sentence"] for c in CLASSES[:2])
    assert [list(pair["true_joints"]), list(pair["predicted_joints"])] == [known[c]["joints"] for c in CLASSES[:2]]
    dialogue = class_knowledge.read_dialogue(run)
    for name, rounds in zip(CLASSES, page["dialogues"], strict=True):
        keys = known[name]["dialogue"]
        assert [(str(one["round"]), said[one["answer"]]) for one in rounds] == [
            (number, dialogue[key].text) for number, key in keys.items()
        ]
    assert sentences(loaded) == {name: known[name]["sentence"] for name in CLASSES}
    answer = skag.load(run).predict(clip(0), evidence=False)
    assert answer.sentence == known[answer.label]["sentence"]


def test_a_repeated_run_has_the_same_record(run: Path, tmp_path: Path) -> None:
    document("train", "--repeat", run, "--out", tmp_path / "again", "--device", "cpu")
    again = tmp_path / "again"
    assert (again / class_knowledge.FILE).read_bytes() == (run / class_knowledge.FILE).read_bytes()
    weights = [torch.load(folder / "best.pt", weights_only=True)["model"] for folder in (run, again)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def as_of_version_0_1_0(run: Path) -> None:
    """What a run has that was interrupted in version 0.1.0."""
    lines = runs.read_lines(run / class_knowledge.FILE)
    (run / class_knowledge.FILE).unlink()
    changed = {line["epoch"]: line["classes"] for line in lines}
    records = runs.read_lines(run / REFRESHES)
    for record in records:
        record["changed"] = [
            {"class": name, "sentence": known["sentence"], "joints": known["joints"]}
            for name, known in changed[record["effective"]].items()
            if name in record["changed"]
        ]
    (run / REFRESHES).write_text("".join(json.dumps(record) + "\n" for record in records))
    facts = json.loads((run / runs.CONFIG).read_text())
    del facts["method"]
    for path, harmless in SkeletonAgentConfig.removed.items():
        section, name = path.split(".")
        facts["config"][section][name] = harmless
    (run / runs.CONFIG).write_text(json.dumps(facts))
    last = torch.load(run / "last.pt", weights_only=True)
    del last["stage"]
    agents = last["agents"]
    agents["num_put"], agents["on_its_way"] = agents.pop("num_queries"), agents.pop("pending")
    torch.save(last, run / "last.pt")


def test_a_run_of_version_0_1_0_goes_on_with_a_record(tiny_store: Path, dialogues: Path, tmp_path: Path) -> None:
    config = small(epochs=4, query_period=1)
    with SkeletonStore(tiny_store) as store:
        with agents_of(config, store, dialogues) as agents, pytest.raises(Stop):
            train(store, config, tmp_path / "new", agents, CPU, StopsAt("epoch", 3))
        shutil.copytree(tmp_path / "new", tmp_path / "old")
        as_of_version_0_1_0(tmp_path / "old")
        histories, weights = [], []
        for run in (tmp_path / "new", tmp_path / "old"):
            assert runs.read_config(run) == config
            with agents_of(config, store, dialogues) as agents:
                train(store, config, run, agents, CPU, Silent(), resume=True)
            history = class_knowledge.read(run, CLASSES, store.layout, True)
            histories.append([history.at(epoch) for epoch in range(5)])
            weights.append(torch.load(run / "last.pt", weights_only=True)["model"])
    assert histories[0] == histories[1] and histories[0][0] != histories[0][4]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("damage", ["", "{}\n", "[]\n", "{\n", '{"epoch": 0, "classes": {"step": {}}}\n'])
def test_a_damaged_record_is_one_line_that_names_it(damage: str, tmp_path: Path) -> None:
    (tmp_path / class_knowledge.FILE).write_text(damage)
    with pytest.raises(RunError, match="class_knowledge.jsonl is damaged") as caught:
        class_knowledge.read(tmp_path, CLASSES, load_layout("kinect-v1"), True)
    assert "\n" not in str(caught.value)
