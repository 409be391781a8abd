"""`ollama/MODEL`: a model on an Ollama server, by the `ollama` package."""

from __future__ import annotations

import json
import os
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import BackendError
from .base import (
    CONNECT_TIMEOUT,
    CUT,
    IMPORTING,
    MAX_TOKENS,
    MAX_TOKENS_THINKING,
    Answer,
    BackendDown,
    Busy,
    Message,
    Patience,
    Price,
    Topic,
    count,
    declined,
    line,
    pictures_of,
    public,
    without_thoughts,
)

if TYPE_CHECKING:
    import ollama

T = TypeVar("T")
NUM_CTX = 8192  # six rounds with a joint list need about 2500 tokens; Ollama cuts longer prompts silently
NUM_CTX_THINKING = 16384
BYTES_PER_TOKEN = 3  # of a conversation, rather too few than too many: English text has four and more


@dataclass
class OllamaBackend:
    """A model on an Ollama server."""

    model: str
    base_url: str | None = None
    options: dict[str, Any] = field(default_factory=dict)  # as given: seed, temperature
    think: bool = False  # for thinking models
    price: Price | None = None
    patience: Patience = field(default_factory=Patience)

    @property
    def spec(self) -> str:
        return f"ollama/{self.model}"

    @cached_property
    def address(self) -> str:
        """Where the server is, without secrets."""
        return public(self.base_url or os.environ.get("OLLAMA_HOST") or "http://127.0.0.1:11434")

    @cached_property
    def _client(self) -> ollama.Client:
        with IMPORTING:
            import httpx  # ollama's own
            import ollama
        try:
            timeout = httpx.Timeout(self.patience.timeout, connect=min(CONNECT_TIMEOUT, self.patience.timeout))
            client = ollama.Client(host=self.base_url, timeout=timeout)
        except Exception as error:  # whatever its URL parser raises
            raise BackendDown(f"{self.address} is no address of an Ollama server ({type(error).__name__}).") from None
        weakref.finalize(self, client.close)
        return client

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """What the server says of the model: digest, context length, whether it thinks."""

        def look_up() -> dict[str, Any]:
            if (digest := self._digest()) is None:
                raise BackendDown(self._missing())
            shown = self._client.show(self.model)
            lengths = [v for k, v in (shown.modelinfo or {}).items() if k.endswith(".context_length")]
            wanted = NUM_CTX_THINKING if self.think else NUM_CTX
            length = next((v for v in lengths if isinstance(v, int) and v > 0), wanted)
            return {
                "digest": digest,
                "num_ctx": min(wanted, length),
                "thinks": "thinking" in (shown.capabilities or ()),
            }

        return self._call(look_up)

    def _digest(self) -> str | None:
        """Digest of the model, None where the server does not have it."""
        name = self.model if ":" in self.model.rpartition("/")[2] else f"{self.model}:latest"
        return {found.model: found.digest for found in self._client.list().models}.get(name)

    def pull(self, progress: Callable[[int, int | None], None]) -> bool:
        """Let the server fetch the model where it lacks it; whether it did. `progress(bytes, bytes in all)`.

        Raises `BackendError`.
        """

        def fetch() -> bool:
            if self._digest() is not None:
                return False
            layers: dict[str, tuple[int, int]] = {}
            for step in self._client.pull(self.model, stream=True):
                if step.digest and step.total:
                    layers[step.digest] = step.completed or 0, step.total
                    progress(sum(done for done, _ in layers.values()), sum(total for _, total in layers.values()))
            return True

        return self._call(fetch)

    @property
    def _thinking(self) -> dict[str, Any]:
        """Thinking models think unless told not to; others refuse to be told."""
        return {"think": self.think} if self._facts["thinks"] else {}

    @property
    def _options(self) -> dict[str, Any]:
        return {**self.options, "num_ctx": self._facts["num_ctx"], "num_predict": self._limit}

    @property
    def _limit(self) -> int:
        """The most tokens of an answer, which the context has room for beside the conversation."""
        return MAX_TOKENS_THINKING if self.think and self._facts["thinks"] else MAX_TOKENS

    def identity(self) -> dict:
        identity = {"backend": "ollama", "model": self.model, "digest": self._facts["digest"]}
        return {**identity, "options": self._options, **self._thinking}

    def ask(self, messages: list[Message], topic: Topic, schema: dict | None = None) -> Answer:
        num_ctx = self._facts["num_ctx"]
        size = sum(len(message["content"].encode(errors="replace")) for message in messages)
        if size / BYTES_PER_TOKEN + self._limit > num_ctx:
            raise self._too_long()

        sent = [_with_pictures(message, topic) for message in messages] if topic.pictures else messages

        def request() -> tuple[ollama.ChatResponse, float]:
            start = time.monotonic()
            reply = self._client.chat(self.model, sent, options=self._options, format=schema, **self._thinking)
            return reply, time.monotonic() - start

        reply, seconds = self._call(request)
        tokens = count(reply.prompt_eval_count), count(reply.eval_count)
        if sum(number or 0 for number in tokens) >= num_ctx:
            raise self._too_long()
        if (used := self._context) is not None and used < num_ctx:
            raise BackendDown(
                f"{self.spec}: the server works with a context of {used} tokens, not with the {num_ctx} asked for, and "
                "would cut long conversations: give Ollama more memory, or choose a smaller model."
            )
        text, thoughts = without_thoughts(reply.message.content, reply.message.thinking)
        details: dict[str, Any] = {"model": reply.model, "done_reason": reply.done_reason, "num_ctx": used}
        if self.price:
            details |= self.price.cost(*tokens)
        refused = CUT if reply.done_reason == "length" else declined(text) if text else "it is empty"
        return Answer(text, thoughts, *tokens, seconds, details, refused)

    @cached_property
    def _context(self) -> int | None:
        """The context the server gave the loaded model, None where it does not say (before Ollama 0.10)."""
        import ollama  # imported by `_call` already

        def look_up() -> int | None:
            try:
                loaded = self._client.ps().models
            except ollama.ResponseError:
                return None
            return next((found.context_length for found in loaded if found.digest == self._facts["digest"]), None)

        return self._call(look_up)

    def _too_long(self) -> BackendError:
        length = self._facts["num_ctx"]
        longer = "" if length in (NUM_CTX, NUM_CTX_THINKING) else "choose a model with a longer context, or "
        return BackendError(
            f"{self.spec}: the conversation does not fit its context of {length} tokens: {longer}shorten the prompts."
        )

    def _missing(self) -> str:
        return (
            f"the Ollama server at {self.address} has no model {self.model!r}: run `ollama pull {self.model}`, or add "
            "--pull."
        )

    def _call(self, request: Callable[[], T]) -> T:
        """The request's result; whatever it raises becomes a `BackendError`."""
        with IMPORTING:
            import httpx  # ollama's own
            import ollama

        def once() -> T:
            try:
                return request()
            except BackendError:
                raise
            except ollama.ResponseError as error:
                if error.status_code in (400, 404) and "not found" in str(error.error):
                    raise BackendDown(self._missing()) from None
                if error.status_code in (401, 403):
                    raise BackendDown(f"{self.address} refuses access: set OLLAMA_API_KEY.") from None
                status = f" with status {error.status_code}" if error.status_code > 0 else ""  # -1: within an answer
                reason = f"{self.spec} at {self.address} failed{status}: {line(error.error)}."
                if error.status_code in (408, 429) or error.status_code >= 500:
                    limited = error.status_code == 429
                    raise Busy(reason, down=limited or error.status_code == 503, shared=limited) from None
                raise BackendError(reason) from None
            except (ConnectionError, httpx.ConnectTimeout):
                raise BackendDown(
                    f"no Ollama server at {self.address}: start Ollama with `ollama serve`, or name it with --base-url."
                ) from None
            except httpx.TimeoutException:
                raise self.patience.stalled(self.spec, self.address) from None
            except httpx.TransportError as error:
                raise Busy(f"the connection to {self.address} broke off ({line(error)}).") from None
            except json.JSONDecodeError as error:
                raise Busy(f"{self.address} answered with broken JSON ({line(error)}).", retries=2) from None
            except Exception as error:  # another protocol: whatever the client stumbles over
                raise BackendError(f"{self.address} does not answer like an Ollama server ({line(error)}).") from None

        return self.patience.call(once)


def _with_pictures(message: Message, topic: Topic) -> dict[str, Any]:
    """A message as Ollama takes it, with its pictures in base64."""
    text, pictures = pictures_of(message, topic)
    return {**message, "content": text} | ({"images": [each.base64 for each in pictures]} if pictures else {})
