"""Backends, driven by the real clients against servers on loopback that do what servers do: also fail."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from skag.backends import BackendDown, OllamaBackend, OpenAIBackend, Topic, open_backend
from skag.backends.openai_server import _is_near, _retry_after
from skag.errors import BackendError, DialogueError

from .servers import Fault, Server, serve

TOPIC = Topic(3, "secret topic", 1)
MESSAGES = [{"role": "system", "content": "You describe."}, {"role": "user", "content": "What is a throw?"}]
SCHEMA = {"type": "object", "properties": {"joints": {"type": "array"}}}
KINDS = ("ollama", "openai")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy"):
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


def backend(kind: str, address: str, model: str = "tiny", timeout: float = 5.0) -> OllamaBackend | OpenAIBackend:
    made = OllamaBackend if kind == "ollama" else OpenAIBackend
    url = address if kind == "ollama" else f"{address}/v1"
    return made(model, url, timeout=timeout, retries=2, first_wait=0.01)


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
    assert sent["options"] == {"seed": 7, "num_ctx": 8192} and not sent["stream"]
    assert "think" not in sent
    assert (answer.text, answer.tokens_in, answer.tokens_out) == ("The right hand moves up.", 40, 9)
    assert answer.seconds > 0 and answer.details["done_reason"] == "stop"
    identity = {"backend": "ollama", "model": "tiny", "digest": "abc123", "options": sent["options"]}
    assert asked.identity() == identity


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


def test_a_key_that_is_refused_is_not_shown(openai: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    openai.faults = [Fault(401, b'{"error": {"message": "Incorrect API key provided: sk-secret"}}')]
    error = refused(backend("openai", openai.address))
    assert isinstance(error, BackendDown) and "OPENAI_API_KEY" in str(error) and "sk-secret" not in str(error)


def test_no_key_is_needed_nearby_and_asked_for_elsewhere(openai: Server) -> None:
    backend("openai", openai.address).ask(MESSAGES, TOPIC)
    error = refused(OpenAIBackend("tiny"))
    assert isinstance(error, BackendDown) and "set OPENAI_API_KEY" in str(error)
    near = [_is_near(f"http://{host}/v1") for host in ("localhost:1", "[::1]:1", "192.168.1.4", "api.x.com", "8.8.8.8")]
    assert near == [True, True, True, False, False]


@pytest.mark.parametrize("fault", [Fault(500, b'{"error": "out of memory"}'), Fault(503, b"<html>"), Fault(cut=30)])
def test_a_passing_failure_is_asked_again(either: tuple[Server, OllamaBackend | OpenAIBackend], fault: Fault) -> None:
    server, asked = either
    server.faults = [fault, fault]
    assert asked.ask(MESSAGES, TOPIC).text == "The right hand moves up."
    assert len(server.chats()) == 3


def test_a_lasting_failure_is_given_up(either: tuple[Server, OllamaBackend | OpenAIBackend]) -> None:
    server, asked = either
    server.faults = [Fault(500, b'{"error": {"message": "out of\\nmemory"}}')] * 5
    assert "memory" in str(refused(asked)) and len(server.chats()) == 3


def test_retry_after_is_obeyed(openai: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    openai.faults = [Fault(429, b"{}", {"Retry-After": "17"}), Fault(429, b"{}")]
    backend("openai", openai.address).ask(MESSAGES, TOPIC)
    first, second = (wait for wait in waits if wait)  # the server's own waits are 0
    assert first == 17 and second < 1
    assert [_retry_after(value) for value in ("x", "nan", "-3", "Wed, 21 Oct 2015 07:28:00 GMT")] == [0, 0, 0, 0]


@pytest.mark.parametrize("headers", [{"Retry-After": "90000"}, {"Retry-After": "inf"}])
def test_an_endless_wait_and_a_used_up_quota_stop_at_once(openai: Server, headers: dict[str, str]) -> None:
    body = b'{"error": {"message": "quota", "code": "insufficient_quota"}}'
    for fault in (Fault(429, b"{}", headers), Fault(429, body)):
        openai.faults = [fault]
        error = refused(backend("openai", openai.address))
        assert isinstance(error, BackendDown) and "what is answered is kept" in str(error)
    assert len(openai.chats()) == 2


def test_a_server_that_stays_busy_stops_the_others_too(openai: Server) -> None:
    openai.faults = [Fault(429, b"{}")] * 3
    assert isinstance(refused(backend("openai", openai.address)), BackendDown)


def test_a_slow_server_is_tried_once_more(either: tuple[Server, OllamaBackend | OpenAIBackend]) -> None:
    server, asked = either
    asked.identity()
    asked.timeout = 0.15
    asked.__dict__.pop("_client", None)  # made with the timeout
    server.faults = [Fault(delay=0.6)] * 2
    error = refused(asked)
    assert isinstance(error, BackendDown) and "did not answer within 0.15 s" in str(error)
    assert len(server.chats()) == 2


BODIES = [
    b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"<html>", b'{"message": 3}', b'{"error": []}', b"{}",
    b'{"choices": []}', b'{"choices": [{"message": {"content": [1]}}]}', b"[" * 5000, b'{"choices": [null]}',
    b'{"message": {"role": "assistant", "content": null}}', b'{"choices": [{"message": {"content": null}}]}',
    b'{"message": {"role": "assistant", "content": "  "}}', b'{"choices": [{"message": {"content": " \\n"}}]}',
]  # fmt: skip


def test_whatever_is_sent_is_an_answer_or_one_line(either: tuple[Server, OllamaBackend | OpenAIBackend]) -> None:
    server, asked = either
    for status in (200, 400, 429):
        for body in BODIES:
            server.faults = [Fault(status, body)] * 3
            assert refused(asked)


def test_an_empty_answer_and_a_refusal_say_so(openai: Server, ollama: Server) -> None:
    for server, kind in ((openai, "openai"), (ollama, "ollama")):
        server.reply = lambda messages: " \n"
        assert "empty answer" in str(refused(backend(kind, server.address)))
    openai.message = {"refusal": "I can't\nhelp with [red]that[/red]."}
    assert "refused to answer: I can't help with" in str(refused(backend("openai", openai.address)))
    openai.message, openai.extra = {}, {"finish_reason": "content_filter"}
    assert "content filter" in str(refused(backend("openai", openai.address)))


def test_an_answer_cut_at_the_limit_is_no_answer(openai: Server, ollama: Server) -> None:
    openai.extra = {"finish_reason": "length"}
    assert "cut at the token limit" in str(refused(backend("openai", openai.address)))
    ollama.context_length = 45  # less than the 49 tokens used
    assert "context of 45 tokens" in str(refused(backend("ollama", ollama.address)))


def test_strange_token_counts_are_left_out(openai: Server) -> None:
    reply = {
        "choices": [{"message": {"content": "Up."}}],
        "usage": {"prompt_tokens": "9", "completion_tokens": 1 << 70},
    }
    openai.faults = [Fault(body=json.dumps(reply).encode())]
    answer = backend("openai", openai.address).ask(MESSAGES, TOPIC)
    assert (answer.text, answer.tokens_in, answer.tokens_out) == ("Up.", None, None)


@pytest.mark.parametrize("spec", ["llama3", "ollama", "ollama/", "gpt/x", "", "measured/x"])
def test_a_spec_that_is_none_is_refused(spec: str) -> None:
    with pytest.raises(DialogueError, match="write ollama/MODEL, openai/MODEL or measured"):
        open_backend(spec)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("address", ["http://[::1", "http://127.0.0.1:notaport", "ftp://127.0.0.1", "http://", "::::"])
def test_an_address_that_is_none_is_one_line(kind: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    made = OllamaBackend if kind == "ollama" else OpenAIBackend
    assert refused(made("tiny", address, timeout=1, retries=0))


def test_no_client_is_imported_before_it_is_used() -> None:
    code = "import sys, skag.backends; print([m for m in ('ollama', 'openai', 'torch', 'h5py') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
