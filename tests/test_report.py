"""The report page: what stands in it, and what a real browser makes of it.

The second half drives a headless Chromium, and is skipped where there is none (Debian: `apt install chromium`).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skag import metrics, runs
from skag.dialogue.exchanges import Exchange, exchange_key
from skag.dialogue.transfer import to_line
from skag.errors import DataError, RunError
from skag.inference.loaded import Run
from skag.inference.scores import Predictions
from skag.methods.skeleton_agent import make_findings
from skag.methods.skeleton_agent.agents import REFRESHES
from skag.methods.skeleton_agent.classifier import SkeletonAgentClassifier
from skag.methods.skeleton_agent.network import ModelConfig, Recogniser
from skag.methods.skeleton_agent.recipes import nw_ucla_small
from skag.results import analysis, report
from skag.results.drawing import view
from skag.skeleton.layouts import Layout, load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store

from .helpers.tiny import CLASSES, tiny_clip

HOSTILE = "</script><script>alert(1)</script>"
IDENTITY = {"backend": "ollama", "model": "llama"}
ANSWERS = {
    1: "The hand goes up.",
    2: "hand: it rises.\narm: it follows.",
    3: "12, 11",
    4: "12-right hand: rises above the head\n11-right wrist: follows the hand",
    5: "The right hand rises above the head.",
}


def make_store(path: Path, classes: list[str], layout: Layout, clips_per_class: int = 4, frames: int = 12) -> Path:
    """A store whose test split has some clips of every class but the last, which is in the training split alone."""
    rng = np.random.default_rng(0)
    with write_store(path, layout) as writer:
        for k, name in enumerate(classes):
            split = "xsub_train" if k == len(classes) - 1 else "xsub_test"
            for take in range(clips_per_class):
                if layout.num_joints == 20:
                    points = tiny_clip(k % 4, rng, frames)
                else:
                    points = rng.normal(size=(1, frames, layout.num_joints, layout.dims)).astype(np.float32)
                writer.add(Clip(f"{name} {take}", k, points, splits=(split,)))
        writer.finish(classes)
    return path


def predict(store: SkeletonStore) -> Predictions:
    """Right for the first clips of every class; the rest is taken for the next class but one, or the next."""
    numbers = store.splits["xsub_test"]
    labels, num_classes = store.labels[numbers].astype(np.int64), len(store.classes)
    probabilities = np.full((len(labels), num_classes), 0.1 / num_classes, np.float32)
    for at, label in enumerate(labels):
        wrong = at % 4 == 3 or (label == 0 and at % 4 == 2)
        probabilities[at, (label + 1) % num_classes if wrong else label] += 0.9
    names = [store.names[number] for number in numbers]
    return Predictions("xsub_test", names, labels, probabilities, store.classes, 1, store.fingerprint)


def dialogue(class_name: str, answers: dict[int, str] = ANSWERS) -> list[Exchange]:
    messages: list[dict[str, str]] = [{"role": "system", "content": "Describe."}]
    found = []
    for number, answer in answers.items():
        messages.append({"role": "user", "content": f"Question {number} about {class_name}"})
        key = exchange_key(IDENTITY, messages)
        found.append(Exchange(key, "set", class_name, number, IDENTITY, tuple(messages), "hash", answer))
        messages.append({"role": "assistant", "content": answer})
    return found


def make_run(folder: Path, store_path: Path, agents: bool = True) -> Path:
    """A run folder: with agents, its first class was asked about once and the others never."""
    folder.mkdir()
    config = nw_ucla_small("j")
    with SkeletonStore(store_path) as store:
        shape = ModelConfig(num_classes=len(store.classes), num_joints=store.layout.num_joints, num_bodies=1)
        facts = {"model": asdict(shape)}
        runs.write_run_facts(folder, config, facts, store, np.arange(2), np.arange(2), torch.device("cpu"), {})
        classes = store.classes
    for epoch in range(1, 5):
        runs.append_line(folder / runs.METRICS, {"epoch": epoch, "train_top1": 20.0 * epoch, "val_top1": 15.0 * epoch})
    if not agents:
        return folder
    told = [exchange for name in classes for exchange in dialogue(name)]
    asked = dialogue(classes[0], ANSWERS | {6: f"Unlike {classes[1]}, the left hand hangs."})[-1]
    runs.write_lines(folder / runs.DIALOGUES, map(to_line, [*told, asked]))
    refresh = {
        "epoch": 2,
        "effective": 4,
        "num_classes": len(classes),
        "confusions": [[0, 0, 9], [0, 1, 5], [1, 1, 9]],
        "similar": {classes[0]: [classes[1]]},
        "asked": 1,
        "cached": 0,
        "failed": [[classes[1], "the server is down"]],
        "over_budget": [classes[2]],
        "changed": [
            {
                "class": classes[0],
                "sentence_before": ANSWERS[5],
                "sentence": asked.answer,
                "joints_before": ["right hand", "right wrist"],
                "joints": ["right hand", "left hand"],
            }
        ],
        "exchanges": [asked.key],
    }
    runs.append_line(folder / REFRESHES, refresh)
    nothing = {"similar": {}, "asked": 0, "cached": 0, "failed": [], "changed": [], "exchanges": []}
    runs.append_line(folder / REFRESHES, {"epoch": 4, "confusions": [[0, 0, 12], [0, 1, 2]], **nothing})
    return folder


def gather(folder: Path, store: SkeletonStore, epoch: int | None = 4) -> tuple:
    """What `confusion.analyze_confusion` hands to the report of a run that kept `epoch`."""
    predictions, config = predict(store), runs.read_config(folder)
    network = Recogniser(ModelConfig(len(store.classes), store.layout.num_joints, 1, channels=(8,), strides=(1,)))
    classifier = SkeletonAgentClassifier(network, store.classes)
    run = Run(folder, config, classifier, store.classes, store.layout, store.path, store.fingerprint, epoch)
    document = analysis.analyse(predictions.labels, predictions.probabilities, predictions.classes)
    predicted = predictions.probabilities.argmax(axis=1)
    matrix = metrics.confusion_matrix(predictions.labels, predicted, len(store.classes))
    pairs = analysis.confused_pairs(matrix, store.classes)
    findings = make_findings(run, store, predictions, pairs, None)
    document["pairs"] = [asdict(pair) | row for pair, row in zip(pairs, findings.pairs, strict=True)]
    document["refreshes"] = findings.document["refreshes"]
    document["remarks"], document["missing"] = ["the clips chose the epoch"], list(findings.missing)
    return run, store, predictions, document, findings


def collected(folder: Path, store_path: Path, epoch: int | None = 4) -> dict[str, Any]:
    with SkeletonStore(store_path) as store:
        return report.report_data(*gather(folder, store, epoch))


def written(folder: Path, store_path: Path) -> Path:
    return report.write_report(folder, collected(folder, store_path))


def page_data(page: str) -> dict[str, Any]:
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("report") / "data.h5", CLASSES, load_layout("kinect-v1"))


@pytest.fixture
def run_folder(tmp_path: Path, store_path: Path) -> Path:
    return make_run(tmp_path / "run", store_path)


# ---- what stands in it


def test_the_page_holds_counts_accuracies_and_the_course_of_training(run_folder: Path, store_path: Path) -> None:
    data = collected(run_folder, store_path)
    assert data["title"].endswith("/run") and data["classes"] == CLASSES and data["joints"][11] == "right hand"
    assert data["counts"] == [[0, 0, 2], [0, 1, 2], [1, 1, 3], [1, 2, 1], [2, 2, 3], [2, 3, 1]]
    assert data["analysis"]["top1"] == 66.67 and sorted(data["together"]) == [0, 1, 2, 3]
    assert data["course"] == {
        "epochs": [1, 2, 3, 4],
        "train": [20, 40, 60, 80],
        "held_out": [15, 30, 45, 60],
        "kept": 4,
    }
    assert ("Agents", "ollama/llama") in data["facts"] and ("Data", "data.h5") in data["facts"]


def test_dialogues_and_refreshes_are_told_as_they_were(run_folder: Path, store_path: Path) -> None:
    data = collected(run_folder, store_path)
    texts = data["texts"]
    assert [[said["round"] for said in rounds] for rounds in data["dialogues"]] == [[1, 2, 3, 4, 5, 6]] + 3 * [
        [1, 2, 3, 4, 5]
    ]
    assert [texts[said["question"]] for said in data["dialogues"][1]][:2] == [
        "Question 1 about lower right hand",
        "Question 2 about lower right hand",
    ]
    assert texts[data["dialogues"][1][1]["answer"]] == ANSWERS[2]
    critical = data["critical"][0]
    assert texts[critical["sentence"]] == "Unlike lower right hand, the left hand hangs."
    assert [(joint, move and texts[move]) for joint, move in critical["joints"]] == [
        (11, "rises above the head"),
        (7, None),  # the left hand, from round 6
    ]
    before = collected(run_folder, store_path, epoch=3)  # the answers came too late for the network that was kept
    assert before["texts"][before["critical"][0]["sentence"]] == ANSWERS[5]
    assert len(before["dialogues"][0]) == 5 and [joint for joint, _ in before["critical"][0]["joints"]] == [10, 11]
    first, second = data["refreshes"]
    assert (first["epoch"], first["effective"], first["over_budget"]) == (2, 4, [2])
    assert first["failed"] == [[1, "the server is down"]] and second["effective"] == 5
    (entry,) = first["classes"]
    assert entry["class"] == 0 and entry["similar"] == [[1, 5, 2]]  # 5 clips then, 2 after training with the answers
    (trained,) = data["analysis"]["trained"]
    assert trained[:2] == [0, 1] and trained[2][0]["before"] == 5 and trained[2][0]["after_clips"] == 14
    assert [texts[sentence] for sentence in entry["change"]["sentence"]] == [ANSWERS[5], texts[critical["sentence"]]]
    assert entry["change"]["joints"] == [[10, 11], [11, 7]]


def test_clips_are_the_surest_of_every_class_and_those_it_gets_wrong(run_folder: Path, store_path: Path) -> None:
    data = collected(run_folder, store_path)
    clips = data["clips"]
    assert [[clips[at]["name"] for at in kept] for kept in data["wrong"]] == [
        ["raise right hand 2", "raise right hand 3"],
        ["lower right hand 3"],
        ["raise left hand 3"],
        [],
    ]
    for k, kept in enumerate(data["typical"][:3]):
        assert kept and all(clips[at]["label"] == clips[at]["predicted"] == k for at in kept)
    (outside,) = data["typical"][3]  # no clip of it was predicted, so one of the training split
    assert clips[outside]["name"] == "step 0" and "predicted" not in clips[outside]


def test_moving_skeletons_keep_their_shape(run_folder: Path, store_path: Path) -> None:
    data = collected(run_folder, store_path)
    clip = data["clips"][data["typical"][0][0]]
    digits = np.array(
        ["ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".index(d) for d in clip["points"]]
    )
    levels = 64 * digits[::2] + digits[1::2]
    points = ((2 * levels / 4094 - 1) * 1.5).reshape(-1, clip["bodies"], 20, 3)
    with SkeletonStore(store_path) as store:
        drawn = view(store, store.names.index(clip["name"])).points
    assert points.shape == drawn.shape and clip["step"] == pytest.approx(1 / 30, abs=1e-4)
    assert np.abs(points - np.clip(drawn, -1.5, 1.5)).max() < 0.0005


def test_joints_that_are_missing_have_a_number_of_their_own_and_long_clips_fewer_frames(tmp_path: Path) -> None:
    points = tiny_clip(0, np.random.default_rng(0), frames=200)
    points[0, 0, 3] = np.nan
    two = np.concatenate([points, np.zeros_like(points)])
    with write_store(tmp_path / "a.h5", load_layout("kinect-v1")) as writer:
        writer.add(Clip("long", 0, two, splits=("xsub_test",)))
        writer.finish(["raise"])
    predictions = Predictions("xsub_test", ["long"], np.zeros(1, int), np.ones((1, 1)), ["raise"], 1, "")
    with SkeletonStore(tmp_path / "a.h5") as store:
        (clip,) = report._clips(store, predictions)["clips"]
    assert clip["bodies"] == 1 and clip["frames"] == 200 and clip["step"] == pytest.approx(3 / 30)
    assert len(clip["points"]) == 67 * 20 * 3 * 2 and clip["points"][18:24] == "//////"


def test_a_run_without_agents_and_one_of_imported_weights_have_a_page(tmp_path: Path, store_path: Path) -> None:
    run = make_run(tmp_path / "run", store_path, agents=False)
    data = collected(run, store_path)
    assert data["critical"] is None and data["refreshes"] == [] and ("Agents", "none") in data["facts"]
    (run / runs.METRICS).unlink()
    course = collected(run, store_path, epoch=None)["course"]
    assert course == {"epochs": [], "train": [], "held_out": [], "kept": None}


def test_an_unfinished_line_is_left_out_and_a_damaged_one_named(run_folder: Path, store_path: Path) -> None:
    for name in (REFRESHES, runs.METRICS):
        path = run_folder / name
        whole = path.read_text()
        path.write_text(whole + '{"epoch": 6, "conf')
        data = collected(run_folder, store_path)
        assert len(data["refreshes"]) == 2 and len(data["course"]["epochs"]) == 4
        for damage in ("[]\n", "{}\n", "no JSON\n"):
            path.write_text(whole + damage)
            with pytest.raises(RunError, match=rf"{name}.* is damaged"):
                collected(run_folder, store_path)
        path.write_text(whole)


def test_clips_of_another_store_are_refused(run_folder: Path, tmp_path: Path, store_path: Path) -> None:
    other = make_store(tmp_path / "other.h5", [name.upper() for name in CLASSES], load_layout("kinect-v1"))
    with SkeletonStore(store_path) as store, SkeletonStore(other) as opened:
        run, _, *rest = gather(run_folder, store)
        with pytest.raises(DataError, match="does not hold the clips"):
            report.report_data(run, opened, *rest)


def test_names_and_answers_never_become_markup(tmp_path: Path) -> None:
    path = hostile_run(tmp_path)
    page = path.read_text(encoding="utf-8")
    assert page.isascii() or "\u2028" not in page
    assert page.count("<script") == page.count("</script>") == 2 and "<img" not in page
    data = page_data(page)
    assert data["classes"][0] == HOSTILE + "\ufffd" and HOSTILE in data["title"] + data["joints"][3]
    assert (
        "default-src 'none'" in page and "unsafe" not in page and "http://" not in page.replace("http://www.w3.org", "")
    )


def hostile_run(folder: Path) -> Path:
    """The page of a run all of whose names try to be markup."""
    values = json.dumps(load_layout("kinect-v1").to_dict()).replace('"head"', json.dumps(HOSTILE))
    classes = [HOSTILE + "\u2028", "<img src=x onerror=alert(2)>", "${alert(3)}", "last"]
    store_path = make_store(folder / "<b>data.h5", classes, Layout.from_dict(json.loads(values)))
    return written(make_run(folder / "<b>run&amp;", store_path), store_path)


def test_sixty_classes_stay_under_five_megabytes(tmp_path: Path) -> None:
    classes = [f"class {k}" for k in range(60)]
    store_path = make_store(tmp_path / "data.h5", classes, load_layout("nturgb+d"), 8, 90)
    path = written(make_run(tmp_path / "run", store_path), store_path)
    data = page_data(path.read_text())
    assert 2_000_000 < path.stat().st_size < 5_000_000
    assert all(data["typical"]) and all(data["wrong"][:59])


# ---- in a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
QUIET += ["--disable-component-update", "--no-first-run"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Opens a page as a reader would, offline; what goes wrong in it, or is asked of a network, fails the test."""
    opened, trouble = [], []

    def go(path: Path, address: str = "", **settings: Any) -> Any:
        settings = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | settings
        context = browser.new_context(offline=True, **settings)
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda message: trouble.append(message.text))
        page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith("file:") or trouble.append(request.url))
        page.goto(path.as_uri() + address)
        return page

    yield go
    for context in opened:
        context.close()
    assert trouble == []


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory, store_path: Path) -> Path:
    return written(make_run(tmp_path_factory.mktemp("page") / "run", store_path), store_path)


def until(page: Any, expression: str, arg: Any = None) -> bool:
    """Whether an expression comes to be true. Playwright's own way needs `eval`, which the page does not allow."""
    for _ in range(200):
        if page.evaluate(expression, arg):
            return True
        page.wait_for_timeout(30)
    return False


def headed(page: Any, selector: str, text: str) -> bool:
    """Whether the heading comes to hold that text, and has the focus; addresses are followed a moment after a press."""
    active = "document.activeElement"
    return until(page, f"([at, text]) => {active}.matches(at) && {active}.innerText.includes(text)", [selector, text])


def cell(page: Any, row: int, column: int) -> dict[str, float]:
    """Where a cell of the matrix lies on its canvas."""
    return page.evaluate(
        "([row, column]) => ({x: view.left + (column + .5) * view.cell, y: view.top + (row + .5) * view.cell})",
        [row, column],
    )


def test_the_matrix_is_read_and_opened_by_pointer(visit: Any, page_path: Path) -> None:
    page = visit(page_path)
    assert page.inner_text("#tiles div:first-child dd >> nth=0") == "66.7 %"
    assert page.inner_text(".notice") == "the clips chose the epoch"
    assert "an earlier skag trained it. Intervals" in page.inner_text("#footer")
    page.hover("#matrix", position=cell(page, 1, 1))
    assert page.inner_text("#readout") == "lower right hand, recognised as such: 3 of 4 clips (75 %)"
    page.click("#matrix", position=cell(page, 1, 2))
    assert headed(page, "#pair-title", "lower right hand → raise left hand")
    assert page.url.endswith("#pair-1-2") and page.locator("#pair canvas").count() == 2
    assert "lower right hand 3" in page.inner_text("#pair .stage.wrong")
    page.click("#matrix", position=cell(page, 2, 2))
    assert headed(page, "#class-title", "raise left hand")
    page.go_back()
    assert headed(page, "#pair-title", "lower right hand → raise left hand")


def test_everything_is_within_reach_of_the_keyboard(visit: Any, page_path: Path) -> None:
    page = visit(page_path)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(20):
        if page.evaluate("document.activeElement.id") == "matrix":
            break
        page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#readout") == "lower right hand, taken for raise left hand: 1 of 4 clips (25 %)"
    page.keyboard.press("PageUp")
    assert page.inner_text("#readout") == "raise right hand, taken for lower right hand: 2 of 4 clips (50 %)"
    page.keyboard.press("PageDown")
    page.keyboard.press("Enter")
    assert headed(page, "#pair-title", "lower right hand → raise left hand")


def test_wrong_clips_are_gone_through_beside_the_class_they_were_taken_for(visit: Any, page_path: Path) -> None:
    page = visit(page_path, "#pair-0-1")
    assert page.inner_text("#pair .stage.wrong .name") == "raise right hand 2"
    assert page.inner_text("#pair .stage.right strong") == "lower right hand"
    page.click("#pair >> text=Next clip")
    assert page.inner_text("#pair .stage.wrong .name") == "raise right hand 3"
    assert page.inner_text("#pair [role=status]") == "clip 2 of 2"
    page.click("#pair >> text=The other way")
    assert headed(page, "#pair-title", "lower right hand → raise right hand")
    assert page.inner_text("#pair p >> nth=0").startswith("0 of 4 clips of lower right hand")


def test_skeletons_move_and_rest_when_told(visit: Any, page_path: Path) -> None:
    page = visit(page_path, reduced_motion="no-preference")
    picture = "document.querySelector('#pair canvas').toDataURL()"
    first = page.evaluate(picture)
    assert until(page, f"{picture} !== {json.dumps(first)}")
    page.click("text=Pause motion")
    page.wait_for_timeout(50)
    rest = page.evaluate(picture)
    page.wait_for_timeout(150)
    assert page.evaluate(picture) == rest
    assert page.inner_text("#pair .play") == "Play"
    before = page.evaluate(picture)
    page.locator("#pair input >> nth=1").fill("60")  # turned
    assert until(page, f"{picture} !== {json.dumps(before)}")


def test_who_wants_no_motion_gets_none_until_asked_for(visit: Any, page_path: Path) -> None:
    page = visit(page_path)
    picture = "document.querySelector('#pair canvas').toDataURL()"
    assert until(page, "document.querySelector('#pair canvas').width > 100")
    first = page.evaluate(f"new Promise(done => setTimeout(() => done({picture}), 100))")
    assert page.inner_text("#motion") == "Play motion" and page.evaluate(picture) == first
    page.click("#pair .play")
    assert until(page, f"{picture} !== {json.dumps(first)}")


def test_a_class_shows_its_joints_its_dialogue_and_its_refreshes(visit: Any, page_path: Path) -> None:
    page = visit(page_path)
    page.click("#class-table >> text=raise right hand")
    assert headed(page, "#class-title", "raise right hand")
    assert page.inner_text("#class blockquote") == "Unlike lower right hand, the left hand hangs."
    before = page.evaluate("document.querySelector('#class canvas').toDataURL()")
    page.click("#class .joints >> text=left hand")
    assert until(page, f"document.querySelector('#class canvas').toDataURL() !== {json.dumps(before)}")
    assert page.locator("#class .rounds > li").count() == 6
    page.click("#class .rounds li >> nth=1 >> text=Question")
    assert page.inner_text("#class .rounds li:nth-child(2) .asked") == "Question 2 about raise right hand"
    page.click("#class .note a >> text=2")
    page.wait_for_selector("#refresh-2 .change")
    opened = page.inner_text("#refresh-2")
    assert "taken for" in opened and "lower right hand 5 → 2" in opened and "Trained with from epoch 4 on" in opened
    assert "+ left hand" in opened and ANSWERS[5] in opened and "the server is down" in opened
    assert page.locator("#refresh-2 .removed").all_inner_texts() == ["right wrist"]


def test_classes_are_sorted_by_any_column(visit: Any, page_path: Path) -> None:
    page = visit(page_path)

    def names() -> list[str]:
        return page.locator("#class-table tbody th").all_inner_texts()

    assert names()[0] == "raise right hand"  # the worst first
    page.click("#class-table th >> text=class")
    assert names() == sorted(CLASSES)
    page.keyboard.press("Enter")  # the button keeps the focus
    assert names() == sorted(CLASSES, reverse=True)
    assert page.get_attribute("#class-table th >> nth=0", "aria-sort") == "descending"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    visit: Any, page_path: Path, width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(page_path, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    page.wait_for_selector(".change")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()


def test_names_are_text_in_a_browser_too(visit: Any, tmp_path: Path) -> None:
    page = visit(hostile_run(tmp_path))
    assert page.inner_text("h1").endswith("/<b>run&amp;")
    for address, wanted in (("#pair-0-1", "#pair-title"), ("#class-0", "#class-title")):
        page.evaluate("address => { location.hash = address; }", address)
        assert headed(page, wanted, HOSTILE)
    page.evaluate("location.hash = '#refresh-2'")
    page.wait_for_selector("#refresh-2 .change")
    assert HOSTILE in page.inner_text("#refresh-2") and page.locator("img, b").count() == 0


def test_flat_recordings_of_a_run_without_agents(visit: Any, tmp_path: Path) -> None:
    store_path = make_store(tmp_path / "data.h5", CLASSES, load_layout("coco"))
    page = visit(written(make_run(tmp_path / "run", store_path, agents=False), store_path), "#class-0")
    assert "This run had no refresh" in page.inner_text("#refreshes")
    assert "no dialogue about the class" in page.inner_text("#class")
    assert page.locator("#class .stage").count() == 3 and page.locator("text=Turn").count() == 0


def test_a_method_without_refreshes_shows_none(visit: Any, page_path: Path, tmp_path: Path) -> None:
    def without(found: re.Match[str]) -> str:
        document = json.loads(found[2])
        del document["analysis"]["refreshes"]
        return found[1] + json.dumps(document | {"refreshes": []}) + found[3]

    html = page_path.read_text(encoding="utf-8")
    changed = re.sub(r'(type="application/json">)(.*?)(</script>)', without, html, count=1, flags=re.DOTALL)
    (tmp_path / "page.html").write_text(changed, encoding="utf-8")
    page = visit(tmp_path / "page.html", "#class-0")
    assert page.locator("#refreshes").count() == 0 and "Refreshes" not in page.inner_text("nav")
    assert page.locator("#calibration").count() == 1 and page.locator("#class .stage").count() > 0


@pytest.mark.long
def test_four_hundred_classes_can_be_used(visit: Any, tmp_path: Path) -> None:
    classes = [f"class {k}" for k in range(400)]
    store_path = make_store(tmp_path / "data.h5", classes, load_layout("kinect-v1"), 4, 10)
    page = visit(written(make_run(tmp_path / "run", store_path), store_path))
    page.fill("#filter", "class 39")
    assert page.locator("#class-table tbody tr").count() == 11 and page.inner_text("#filter-count") == "11 of 400"
    page.focus("#matrix")
    page.keyboard.press("PageDown")
    told = page.inner_text("#readout")
    assert "taken for" in told and "1 of 4" in told
    page.select_option("#show", "20")
    assert page.evaluate("view.order.length") == 20 and page.evaluate("view.named")
    name = page.evaluate("classes[view.order[0]]")
    page.click("#matrix", position=cell(page, 0, 0))
    assert headed(page, "#class-title", name)
