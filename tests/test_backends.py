"""Backends, driven by the real clients against servers on loopback that do what servers do: also fail."""

from __future__ import annotations

import gc
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from skag.backends import (
    BackendDown,
    OllamaBackend,
    OpenAIBackend,
    Patience,
    Price,
    Topic,
    open_backend,
    open_fallback,
    pull_model,
)
from skag.backends.base import MAX_TOKENS, MAX_TOKENS_THINKING, Busy, declined
from skag.backends.ollama_server import NUM_CTX, NUM_CTX_THINKING
from skag.backends.openai_server import _is_near, _retry_after
from skag.backends.providers import PROVIDERS
from skag.errors import BackendError, DialogueError

from .helpers.servers import Fault, Server, serve

TOPIC = Topic(3, "secret topic", 1, "overview")
MESSAGES = [{"role": "system", "content": "You describe."}, {"role": "user", "content": "What is a throw?"}]
SCHEMA = {"type": "object", "properties": {"joints": {"type": "array"}}}
KINDS = ("ollama", "openai")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {preset.key for preset in PROVIDERS.values()}
    for name in {"OLLAMA_HOST", "OLLAMA_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", *keys}:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ollama() -> Iterator[Server]:
    with serve("ollama") as server:
        yield server


@pytest.fixture
def openai() -> Iterator[Server]:
    with serve("openai") as server:
        yield server


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[tuple[Server, OllamaBackend | OpenAIBackend]]:
    with serve(request.param) as server:
        yield server, backend(request.param, server.address)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds slept between questions, by a clock that only sleeping moves on."""
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: 1000 + sum(slept), sleep=slept.append)
    monkeypatch.setattr("skag.backends.base.time", clock)
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    return slept


def backend(kind: str, address: str, model: str = "tiny", timeout: float = 5.0) -> OllamaBackend | OpenAIBackend:
    made = OllamaBackend if kind == "ollama" else OpenAIBackend
    url = address if kind == "ollama" else f"{address}/v1"
    return made(model, url, patience=Patience(timeout, retries=2, first_wait=0.01))


def refused(asked: OllamaBackend | OpenAIBackend) -> BackendError:
    """The error that asking raises: one line, nothing but a `BackendError`."""
    with pytest.raises(BackendError) as caught:
        asked.ask(MESSAGES, TOPIC)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    return caught.value


def test_ollama_is_sent_what_was_given_and_room_for_six_rounds(ollama: Server) -> None:
    asked = open_backend("ollama/tiny", base_url=ollama.address, seed=7)
    answer = asked.ask(MESSAGES, TOPIC, SCHEMA)
    (sent,) = ollama.chats()
    assert sent["messages"] == MESSAGES and sent["model"] == "tiny" and sent["format"] == SCHEMA
    assert sent["options"] == {"seed": 7, "num_ctx": 8192, "num_predict": MAX_TOKENS} and not sent["stream"]
    assert "think" not in sent
    assert (answer.text, answer.tokens_in, answer.tokens_out) == ("The right hand moves up.", 40, 9)
    assert answer.seconds > 0 and answer.details["done_reason"] == "stop"
    identity = {"backend": "ollama", "model": "tiny", "digest": "abc123", "options": sent["options"]}
    assert asked.identity() == identity and "cost" not in answer.details


def test_openai_is_sent_what_was_given_and_no_more(openai: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    url = openai.address.replace("http://", "http://user:hidden@") + "/v1"
    plain, given = (open_backend("openai/tiny", base_url=url, temperature=t) for t in (None, 0.0))
    answer = plain.ask(MESSAGES, TOPIC)
    given.ask(MESSAGES, TOPIC, SCHEMA)
    first, second = openai.chats()
    assert first == {"model": "tiny", "messages": MESSAGES}
    assert second["temperature"] == 0.0 and second["response_format"]["json_schema"]["schema"] == SCHEMA
    assert (answer.text, answer.tokens_in, answer.tokens_out) == ("The right hand moves up.", 40, 9)
    assert answer.details["model"] == "tiny-0613"
    assert plain.identity() != given.identity()
    assert plain.identity() == {"backend": "openai", "model": "tiny", "address": openai.address, "options": {}}


def test_what_a_question_is_about_stays_here(either: tuple[Server, OllamaBackend | OpenAIBackend]) -> None:
    server, asked = either
    asked.ask(MESSAGES, TOPIC)
    assert "secret topic" not in json.dumps(server.requests)


def test_a_thinking_model_is_told_not_to_and_its_thoughts_kept_apart(ollama: Server, openai: Server) -> None:
    ollama.capabilities, ollama.message = ["completion", "thinking"], {"thinking": "Hm."}
    thinks = backend("ollama", ollama.address)
    answer = thinks.ask(MESSAGES, TOPIC)
    assert ollama.chats()[0]["think"] is False and thinks.identity()["think"] is False
    assert (answer.text, answer.thoughts) == ("The right hand moves up.", "Hm.")
    openai.message = {"reasoning_content": "Hm."}
    assert backend("openai", openai.address).ask(MESSAGES, TOPIC).thoughts == "Hm."
    openai.message, openai.reply = {}, lambda messages: "<think>\nHm.\n</think>\n\nUp."
    answer = backend("openai", openai.address).ask(MESSAGES, TOPIC)
    assert (answer.text, answer.thoughts) == ("Up.", "Hm.")


def test_no_server(either: tuple[Server, OllamaBackend | OpenAIBackend]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    kind = "ollama" if isinstance(either[1], OllamaBackend) else "openai"
    error = refused(backend(kind, address))
    assert isinstance(error, BackendDown) and address in str(error)
    assert ("ollama serve" if kind == "ollama" else "--base-url") in str(error)


def test_a_missing_model(ollama: Server, openai: Server) -> None:
    error = refused(backend("ollama", ollama.address, "other"))
    assert isinstance(error, BackendDown) and "`ollama pull other`" in str(error)
    ollama.faults = [Fault(404, b'{"error": "model \'tiny\' not found"}')]  # removed since
    assert "`ollama pull tiny`" in str(refused(backend("ollama", ollama.address)))
    error = refused(backend("openai", openai.address, "other"))
    assert isinstance(error, BackendDown) and "has no model 'other'" in str(error)


def test_a_key_that_is_refused_is_not_shown(openai: Server, ollama: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    openai.faults = [Fault(401, b'{"error": {"message": "Incorrect API key provided: sk-secret"}}')]
    error = refused(backend("openai", openai.address))
    assert isinstance(error, BackendDown) and "OPENAI_API_KEY" in str(error) and "sk-secret" not in str(error)
    ollama.faults = [Fault(401, b'{"error": "unauthorized: sk-secret"}')]
    error = refused(backend("ollama", ollama.address))
    assert isinstance(error, BackendDown) and "OLLAMA_API_KEY" in str(error) and "sk-secret" not in str(error)


def test_no_key_is_needed_nearby_and_asked_for_elsewhere(openai: Server) -> None:
    backend("openai", openai.address).ask(MESSAGES, TOPIC)
    error = refused(OpenAIBackend("tiny"))
    assert isinstance(error, BackendDown) and "set OPENAI_API_KEY" in str(error)
    near = [_is_near(f"http://{host}/v1") for host in ("localhost:1", "[::1]:1", "192.168.1.4", "api.x.com", "8.8.8.8")]
    assert near == [True, True, True, False, False]


def test_an_address_without_a_scheme_is_completed(openai: Server) -> None:
    asked = OpenAIBackend("tiny", f"{openai.address.removeprefix('http://')}/v1")
    assert asked.ask(MESSAGES, TOPIC).text and asked.identity()["address"] == openai.address
    nobody = refused(OpenAIBackend("tiny", "localhost:9", provider="vllm"))
    assert isinstance(nobody, BackendDown) and "no server at http://localhost:9: start it" in str(nobody)
    assert OpenAIBackend("tiny", "api.x.com/v1").address == "https://api.x.com"


PASSING = [Fault(500, b'{"error": "out of memory"}'), Fault(503, b"<html>"), Fault(cut=30), Fault(body=b'{"message')]


@pytest.mark.parametrize("fault", PASSING, ids=["500", "503", "broken off", "truncated JSON"])
def test_a_passing_failure_is_asked_again(either: tuple[Server, OllamaBackend | OpenAIBackend], fault: Fault) -> None:
    server, asked = either
    server.faults = [fault, fault]
    assert asked.ask(MESSAGES, TOPIC).text == "The right hand moves up."
    assert len(server.chats()) == 3


def test_a_lasting_failure_is_given_up(either: tuple[Server, OllamaBackend | OpenAIBackend]) -> None:
    server, asked = either
    server.faults = [Fault(500, b'{"error": {"message": "out of\\nmemory"}}')] * 5
    assert "memory" in str(refused(asked)) and len(server.chats()) == 3


def test_retry_after_is_obeyed(openai: Server, waits: list[float]) -> None:
    openai.faults = [Fault(429, b"{}", {"Retry-After": "17"}), Fault(429, b"{}")]
    backend("openai", openai.address).ask(MESSAGES, TOPIC)
    assert [round(wait) for wait in waits if wait > 1] == [17]
    assert [_retry_after(value) for value in ("x", "nan", "-3", "Wed, 21 Oct 2015 07:28:00 GMT")] == [0, 0, 0, 0]


@pytest.mark.parametrize("headers", [{"Retry-After": "90000"}, {"Retry-After": "inf"}])
def test_an_endless_wait_and_a_used_up_quota_stop_at_once(openai: Server, headers: dict[str, str]) -> None:
    body = b'{"error": {"message": "quota", "code": "insufficient_quota"}}'
    for fault in (Fault(429, b"{}", headers), Fault(429, body)):
        openai.faults = [fault]
        error = refused(backend("openai", openai.address))
        assert isinstance(error, BackendDown) and "wait until it is renewed" in str(error)
    assert len(openai.chats()) == 2


def test_a_server_that_stays_busy_stops_the_others_too(openai: Server) -> None:
    openai.faults = [Fault(429, b"{}")] * 3
    assert isinstance(refused(backend("openai", openai.address)), BackendDown)


@pytest.mark.parametrize("fault", [Fault(delay=0.6), Fault(cut=30, stall=0.6)], ids=["first byte", "mid-stream"])
def test_a_slow_server_is_tried_once_more(either: tuple[Server, OllamaBackend | OpenAIBackend], fault: Fault) -> None:
    server, asked = either
    asked.identity()
    asked.patience.timeout = 0.15
    asked.__dict__.pop("_client", None)  # made with the timeout
    server.faults = [fault] * 2
    error = refused(asked)
    assert isinstance(error, BackendDown) and "did not answer within 0.15 s" in str(error)
    assert "--timeout" in str(error) and len(server.chats()) == 2


BODIES = [
    b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"<html>", b'{"message": 3}', b'{"error": []}', b"{}",
    b'{"choices": []}', b'{"choices": [{"message": {"content": [1]}}]}', b"[" * 5000, b'{"choices": [null]}',
    b'{"message": {"role": "assistant", "content": null}}', b'{"choices": [{"message": {"content": null}}]}',
    b'{"message": {"role": "assistant", "content": "  "}}', b'{"choices": [{"message": {"content": " \\n"}}]}',
]  # fmt: skip


@pytest.fixture
def collected_by_hand() -> Iterator[None]:
    """No garbage is collected at the bottom of a recursion, where what is finished then has no stack left."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_whatever_is_sent_is_an_answer_or_one_line(
    either: tuple[Server, OllamaBackend | OpenAIBackend], collected_by_hand: None
) -> None:
    server, asked = either
    for status in (200, 400, 429):
        for body in BODIES:
            server.faults = [Fault(status, body)] * 3
            try:
                assert asked.ask(MESSAGES, TOPIC).refused == "it is empty"
            except BackendError as error:
                assert "\n" not in str(error) and str(error).endswith(".")


def test_an_empty_answer_is_told_from_an_answer(either: tuple[Server, OllamaBackend | OpenAIBackend]) -> None:
    server, asked = either
    assert asked.ask(MESSAGES, TOPIC).refused == ""
    server.reply = lambda messages: " \n"
    answer = asked.ask(MESSAGES, TOPIC)
    assert (answer.text, answer.refused, answer.tokens_out) == ("", "it is empty", 9)
    server.reply = lambda messages: "I’m sorry, but I can’t help with that."
    assert asked.ask(MESSAGES, TOPIC).refused == "it declines to answer"


def test_a_refusal_is_told_from_an_answer(openai: Server) -> None:
    asked = backend("openai", openai.address)
    openai.message = {"refusal": "No,\n[red]not that[/red].", "content": None}
    answer = asked.ask(MESSAGES, TOPIC)
    assert (answer.text, answer.refused) == ("No,\n[red]not that[/red].", "it declines to answer")
    for reason in ("content_filter", "content_filter: SAFETY", "refusal"):
        openai.message, openai.extra = {}, {"finish_reason": reason}
        assert asked.ask(MESSAGES, TOPIC).refused == "its content filter stopped it"


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Content Exists Risk", "code": "invalid_request_error"},  # DeepSeek
        {"message": "<400> InternalError.Algo.DataInspectionFailed: inappropriate", "code": "data_inspection_failed"},
        {"message": "The response was filtered", "code": "content_filter"},  # Azure
    ],
    ids=["deepseek", "qwen", "azure"],
)
def test_a_refusal_by_an_error_is_one_too(openai: Server, error: dict) -> None:
    openai.faults = [Fault(400, json.dumps({"error": error}).encode())]
    answer = backend("openai", openai.address).ask(MESSAGES, TOPIC)
    assert (answer.text, answer.refused) == ("", "its content filter stopped it") and len(openai.chats()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that request.",
        "I’m really sorry, but I won’t be able to help with that.",
        "Sorry, I can't help with that.",
        "I cannot provide a description of violence.",
        "As an AI language model, I cannot describe actions.",
        "Unfortunately, I am unable to answer this.",
        "I must decline to answer.",
    ],
)
def test_a_text_that_declines_is_known(text: str) -> None:
    assert declined(text) and declined(f'  "{text}"')


@pytest.mark.parametrize(
    "text",
    ["", "1, 2", "I can't", "The person cannot help swaying.", "Sorry gestures: both hands come together.",
     "It can't be told from standing still.", "I-shaped, the arms hang down."],
)  # fmt: skip
def test_a_text_that_describes_does_not_decline(text: str) -> None:
    assert not declined(text)


def test_an_answer_cut_at_the_limit_is_no_answer(openai: Server, ollama: Server) -> None:
    openai.extra, ollama.extra = {"finish_reason": "length"}, {"done_reason": "length"}
    for kind, server in (("openai", openai), ("ollama", ollama)):
        answer = backend(kind, server.address).ask(MESSAGES, TOPIC)
        assert (answer.text, answer.refused) == ("The right hand moves up.", "it goes on and on, and was cut")
    ollama.extra = {"prompt_eval_count": NUM_CTX}
    error = str(refused(backend("ollama", ollama.address)))
    assert f"does not fit its context of {NUM_CTX} tokens: shorten the prompts" in error


def test_strange_token_counts_are_left_out(openai: Server) -> None:
    reply = {
        "choices": [{"message": {"content": "Up."}}],
        "usage": {"prompt_tokens": "9", "completion_tokens": 1 << 70},
    }
    openai.faults = [Fault(body=json.dumps(reply).encode())]
    answer = backend("openai", openai.address).ask(MESSAGES, TOPIC)
    assert (answer.text, answer.tokens_in, answer.tokens_out) == ("Up.", None, None)


@pytest.mark.parametrize("spec", ["llama3", "gpt/x", "", "measured/x"])
def test_a_spec_that_is_none_is_refused(spec: str) -> None:
    with pytest.raises(
        DialogueError, match="write measured, file:KNOWLEDGE.toml, or one of ollama/MODEL, openai/MODEL, deepseek/MODEL"
    ):
        open_backend(spec)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("opanai/gpt", "did you mean openai/gpt?"),
        ("Ollama/llama3.2", "did you mean ollama/llama3.2?"),
        ("mesured", "did you mean measured?"),
        ("ollama", "name a model too, ollama/MODEL."),
        ("OpenAI/", "name a model too, openai/MODEL."),
    ],
)
def test_a_misspelt_spec_is_told_what_was_meant(spec: str, says: str) -> None:
    with pytest.raises(BackendError) as caught:
        open_backend(spec)
    assert str(caught.value) == f"no backend {spec!r}: {says}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("address", ["http://[::1", "http://127.0.0.1:notaport", "ftp://127.0.0.1", "http://", "::::"])
def test_an_address_that_is_none_is_one_line(kind: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    made = OllamaBackend if kind == "ollama" else OpenAIBackend
    assert refused(made("tiny", address, patience=Patience(1, retries=0)))


# ---- Ollama alone


def test_a_conversation_that_ollama_would_cut_is_not_sent(ollama: Server) -> None:
    ollama.context_length = 4096
    asked = backend("ollama", ollama.address)
    assert asked.ask([*MESSAGES, {"role": "user", "content": "x" * 9000}], TOPIC).text
    long = [*MESSAGES, {"role": "user", "content": "x" * 9300}]
    with pytest.raises(BackendError, match="context of 4096 tokens: choose a model with a longer context, or shorten"):
        asked.ask(long, TOPIC)
    assert len(ollama.chats()) == 1 and ollama.chats()[0]["options"]["num_ctx"] == 4096


def test_a_context_smaller_than_asked_for_is_found_out(ollama: Server) -> None:
    ollama.context_used = 4096
    error = refused(backend("ollama", ollama.address))
    assert isinstance(error, BackendDown) and f"context of 4096 tokens, not with the {NUM_CTX} asked for" in str(error)


def test_an_ollama_that_does_not_tell_its_context_is_believed(ollama: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Server.ollama
    monkeypatch.setattr(
        Server, "ollama", lambda self, path, body: (404, {}) if path == "/api/ps" else answers(self, path, body)
    )
    assert backend("ollama", ollama.address).ask(MESSAGES, TOPIC).details["num_ctx"] is None


def test_a_thinking_model_that_may_think_gets_more_room(ollama: Server) -> None:
    ollama.capabilities = ["completion", "thinking"]
    asked = open_backend("ollama/tiny", base_url=ollama.address, think=True)
    asked.ask(MESSAGES, TOPIC)
    assert ollama.chats()[0]["think"] is True and asked.identity()["think"] is True
    options = ollama.chats()[0]["options"]
    assert (options["num_ctx"], options["num_predict"]) == (NUM_CTX_THINKING, MAX_TOKENS_THINKING)


def test_a_missing_model_is_pulled(ollama: Server) -> None:
    ollama.installed.clear()
    asked = backend("ollama", ollama.address)
    assert "`ollama pull tiny`, or add --pull" in str(refused(asked))
    seen: list[tuple[int, int | None]] = []
    assert pull_model(asked, lambda done, total: seen.append((done, total)))
    assert seen == [(0, 70), (70, 70), (100, 100)]
    assert asked.ask(MESSAGES, TOPIC).text
    assert not pull_model(asked, lambda done, total: None)  # there already
    with pytest.raises(BackendError, match="pull model manifest: file does not exist"):
        pull_model(backend("ollama", ollama.address, "tny"), lambda done, total: None)
    with pytest.raises(BackendError, match="--pull fetches models for Ollama, and openai/tiny is none"):
        pull_model(OpenAIBackend("tiny"), lambda done, total: None)


# ---- the providers


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_is_asked_in_its_way(name: str, openai: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = PROVIDERS[name]
    monkeypatch.setenv(preset.key, f"sk-{name}")
    asked = open_backend(f"{name}/tiny", base_url=f"{openai.address}/v1", temperature=0.5)
    answer = asked.ask(MESSAGES, TOPIC)
    (path, headers, sent) = openai.requests[-1]
    assert path == "/v1/chat/completions" and headers["authorization"] == f"Bearer sk-{name}"
    switch = preset.thinking(False) if preset.thinking else {}
    switch |= {"max_tokens": MAX_TOKENS} if preset.limit else {}
    assert sent == {"model": "tiny", "messages": MESSAGES, "temperature": 0.5, **switch}
    options = {"temperature": 0.5, **switch}  # all that was sent is in the identity, and so in the key
    assert asked.identity() == {"backend": name, "model": "tiny", "address": openai.address, "options": options}
    assert f"sk-{name}" not in json.dumps([asked.identity(), answer.details])
    if "seed" in preset.lacks:
        with pytest.raises(BackendError, match=f"{name} takes no seed: leave --seed out"):
            open_backend(f"{name}/tiny", seed=1)
    if not preset.thinking:
        with pytest.raises(BackendError, match="leave --think out"):
            open_backend(f"{name}/tiny", think=True)


def test_a_provider_has_its_own_address_and_key() -> None:
    asked = open_backend("deepseek/deepseek-chat")
    assert asked.identity()["address"] == "https://api.deepseek.com"
    assert "set DEEPSEEK_API_KEY" in str(refused(asked))
    asked = open_backend("vllm/Qwen/Qwen3-8B")
    assert asked.identity()["model"] == "Qwen/Qwen3-8B" and asked.spec == "vllm/Qwen/Qwen3-8B"


def test_the_address_of_openai_is_not_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "https://proxy.example/v1")
    assert open_backend("openai/x").identity()["address"] == "https://proxy.example"
    assert open_backend("claude/x").identity()["address"] == "https://api.anthropic.com"


def test_a_server_of_one_model_must_have_the_one_asked_for(openai: Server) -> None:
    openai.served = ["models/other-7b.gguf"]
    asked = open_backend("llama.cpp/tiny", base_url=f"{openai.address}/v1")
    error = refused(asked)
    assert isinstance(error, BackendDown) and "has the model 'models/other-7b.gguf', not 'tiny'" in str(error)
    assert "write llama.cpp/models/other-7b.gguf" in str(error) and not openai.chats()
    openai.served = ["models/tiny"]
    assert asked.ask(MESSAGES, TOPIC).text
    openai.served = None  # an older server, which cannot say
    assert open_backend("llama.cpp/tiny", base_url=f"{openai.address}/v1").ask(MESSAGES, TOPIC).text


def test_thinking_is_switched_on_when_asked_for(openai: Server) -> None:
    openai.message = {"reasoning": "Hm."}  # as vLLM names it
    asked = open_backend("vllm/tiny", base_url=f"{openai.address}/v1", think=True)
    assert asked.ask(MESSAGES, TOPIC).thoughts == "Hm."
    assert openai.chats()[0]["chat_template_kwargs"] == {"enable_thinking": True}


def test_an_option_that_a_model_refuses_is_named(openai: Server) -> None:
    message = "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default is supported."
    openai.faults = [Fault(400, json.dumps({"error": {"message": message, "param": "temperature"}}).encode())]
    error = refused(open_backend("openai/tiny", base_url=f"{openai.address}/v1", temperature=0.5))
    assert isinstance(error, BackendDown) and str(error).endswith("is supported; leave --temperature out.")


def test_a_fallback_is_another_model_and_gets_the_options_it_takes() -> None:
    assert open_fallback(None, "openai/x") is None
    with pytest.raises(BackendError, match="names the same model as --llm"):
        open_fallback("openai/x", "openai/x")
    assert open_fallback("claude/y", "openai/x", seed=1, temperature=0.5).identity()["options"] == {"temperature": 0.5}
    assert open_fallback("openai/y", "openai/x", seed=1).identity()["options"] == {"seed": 1}


# ---- patience and money


@pytest.mark.parametrize(
    "fault",
    [
        Fault(402, b'{"error": {"message": "Insufficient Balance"}}'),
        Fault(400, b'{"error": {"message": "Your credit balance is too low to access the API."}}'),
        Fault(429, b'[{"error": {"code": 429, "details": [{"violations": [{"quotaId": "RequestsPerDayPerModel"}]}]}}]'),
    ],
    ids=["deepseek", "claude", "gemini"],
)
def test_a_used_up_quota_is_known_by_every_name(openai: Server, fault: Fault) -> None:
    openai.faults = [fault]
    error = refused(backend("openai", openai.address))
    assert isinstance(error, BackendDown) and "is used up: wait until it is renewed" in str(error)


def test_the_wait_that_gemini_asks_for_in_the_body_is_obeyed(openai: Server, waits: list[float]) -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "45.837906927s"}
    openai.faults = [Fault(429, json.dumps([{"error": {"code": 429, "details": [detail]}}]).encode())]
    backend("openai", openai.address).ask(MESSAGES, TOPIC)
    assert [round(wait) for wait in waits if wait > 1] == [46]


def test_what_one_question_is_told_to_wait_all_wait(waits: list[float]) -> None:
    patience = Patience(first_wait=0.01, retries=0)

    def limited() -> None:
        raise Busy("slow down", wait=60)

    with pytest.raises(BackendError, match="slow down"):
        patience.call(limited)
    assert not waits
    assert patience.call(lambda: "another question") and [round(wait) for wait in waits] == [60]
    assert patience.call(lambda: "a third one") and len(waits) == 1


def test_waits_grow_and_differ(waits: list[float]) -> None:

    def busy() -> None:
        raise Busy("busy")

    with pytest.raises(BackendError, match="busy"):
        Patience().call(busy)
    grown = [wait for wait in waits if wait]
    assert len(grown) == 6 and all(0.75 <= wait / 2**number <= 1.25 for number, wait in enumerate(grown, start=1))
    assert len({wait / 2**number for number, wait in enumerate(grown)}) == 6


def test_of_long_waits_one_is_told(openai: Server, waits: list[float]) -> None:
    told: list[str] = []
    openai.faults = [Fault(500, b"{}"), Fault(429, b'{"error": {"message": "slow down"}}', {"Retry-After": "17"})]
    asked = open_backend("openai/tiny", base_url=f"{openai.address}/v1", tell=told.append)
    asked.ask(MESSAGES, TOPIC)
    (line,) = told  # two seconds are not worth a word
    assert line.startswith("openai/tiny at http://127.0.0.1") and line.endswith(
        "failed with status 429: slow down; asking again in 17 s."
    )


def test_a_limit_shared_with_questions_that_are_answered_is_waited_for(waits: list[float]) -> None:
    patience = Patience(first_wait=1, retries=2)
    tries: list[int] = []

    def limited() -> None:
        if len(tries) < 20:
            patience.call(lambda: "another question is answered")
        tries.append(1)
        raise Busy("too many requests", shared=True)

    with pytest.raises(BackendError, match="too many requests"):
        patience.call(limited)
    assert len(tries) > 20 and sum(waits) > 600


def test_a_server_that_fails_question_after_question_is_down() -> None:
    patience = Patience(retries=0)

    def busy() -> None:
        raise Busy("out of memory")

    def kinds(questions: int) -> list[type]:
        caught = []
        for _ in range(questions):
            with pytest.raises(BackendError) as error:
                patience.call(busy)
            caught.append(error.type)
        return caught

    assert kinds(2) == [BackendError, BackendError]
    assert patience.call(lambda: "answer") == "answer"
    assert kinds(3) == [BackendError, BackendError, BackendDown]


def test_a_price_makes_a_cost(either: tuple[Server, OllamaBackend | OpenAIBackend]) -> None:
    server, asked = either
    asked.price = Price(2.0, 10.0)  # for a million tokens in, and out
    assert asked.ask(MESSAGES, TOPIC).details["cost"] == pytest.approx((40 * 2 + 9 * 10) / 1e6)
    server.extra, server.faults = {}, []
    assert Price(2.0, 10.0).cost(None, 9) == {}


def test_no_client_is_imported_before_it_is_used() -> None:
    code = "import sys, skag.backends; print([m for m in ('ollama', 'openai', 'torch', 'h5py') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
