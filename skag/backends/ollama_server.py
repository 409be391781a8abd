"""`ollama/MODEL`: a model on an Ollama server, by the `ollama` package."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import BackendError
from .base import (
    FIRST_WAIT,
    RETRIES,
    TIMEOUT,
    Answer,
    BackendDown,
    Busy,
    Message,
    Topic,
    count,
    line,
    patiently,
    public,
    stalled,
    without_thoughts,
)

if TYPE_CHECKING:
    import ollama

T = TypeVar("T")
NUM_CTX = 8192  # six rounds with a joint list need about 2500 tokens; Ollama cuts longer prompts silently


@dataclass
class OllamaBackend:
    """A model on an Ollama server."""

    model: str
    base_url: str | None = None
    options: dict[str, Any] = field(default_factory=dict)  # as given: seed, temperature
    timeout: float = TIMEOUT
    retries: int = RETRIES
    first_wait: float = FIRST_WAIT

    @property
    def spec(self) -> str:
        return f"ollama/{self.model}"

    @cached_property
    def address(self) -> str:
        """Where the server is, without secrets."""
        return public(self.base_url or os.environ.get("OLLAMA_HOST") or "http://127.0.0.1:11434")

    @cached_property
    def _client(self) -> ollama.Client:
        import ollama

        try:
            client = ollama.Client(host=self.base_url, timeout=self.timeout)
        except Exception as error:  # whatever its URL parser raises
            raise BackendDown(f"{self.address} is no address of an Ollama server ({type(error).__name__}).") from None
        weakref.finalize(self, client.close)
        return client

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """What the server says of the model: digest, context length, whether it thinks."""

        def look_up() -> dict[str, Any]:
            name = self.model if ":" in self.model.rpartition("/")[2] else f"{self.model}:latest"
            digests = {found.model: found.digest for found in self._client.list().models}
            if name not in digests:
                raise BackendDown(self._missing())
            shown = self._client.show(self.model)
            lengths = [v for k, v in (shown.modelinfo or {}).items() if k.endswith(".context_length")]
            length = next((v for v in lengths if isinstance(v, int) and v > 0), NUM_CTX)
            return {
                "digest": digests[name],
                "num_ctx": min(NUM_CTX, length),
                "thinks": "thinking" in (shown.capabilities or ()),
            }

        return self._call(look_up)

    def identity(self) -> dict:
        facts = self._facts
        options = {**self.options, "num_ctx": facts["num_ctx"]}
        identity = {"backend": "ollama", "model": self.model, "digest": facts["digest"], "options": options}
        return {**identity, "think": False} if facts["thinks"] else identity

    def ask(self, messages: list[Message], topic: Topic, schema: dict | None = None) -> Answer:
        facts = self._facts
        options = {**self.options, "num_ctx": facts["num_ctx"]}
        # Thinking models think unless told not to; others refuse to be told.
        think = {"think": False} if facts["thinks"] else {}
        start = time.monotonic()
        reply = self._call(lambda: self._client.chat(self.model, messages, options=options, format=schema, **think))
        used = (reply.prompt_eval_count or 0) + (reply.eval_count or 0)
        if reply.done_reason == "length" or used >= facts["num_ctx"]:
            raise BackendError(
                f"{self.spec}: the conversation does not fit its context of {facts['num_ctx']} tokens: "
                "choose a model with a longer context, or shorten the prompts."
            )
        text, thoughts = without_thoughts(reply.message.content, reply.message.thinking)
        if not text:
            raise BackendError(f"{self.spec} gave an empty answer: ask again with another --seed, or another model.")
        return Answer(
            text,
            thoughts,
            count(reply.prompt_eval_count),
            count(reply.eval_count),
            time.monotonic() - start,
            {"model": reply.model, "done_reason": reply.done_reason, "options": options, **think},
        )

    def _missing(self) -> str:
        return f"the Ollama server at {self.address} has no model {self.model!r}: run `ollama pull {self.model}`."

    def _call(self, request: Callable[[], T]) -> T:
        """The request's result; whatever it raises becomes a `BackendError`."""
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
                reason = f"{self.spec} at {self.address} failed: {line(error)}."
                if error.status_code in (408, 429) or error.status_code >= 500:
                    raise Busy(reason, down=error.status_code in (429, 503)) from None
                raise BackendError(reason) from None
            except ConnectionError:
                raise BackendDown(
                    f"no Ollama server at {self.address}: start Ollama with `ollama serve`, or name it with --base-url."
                ) from None
            except httpx.TimeoutException:
                raise stalled(self.spec, self.address, self.timeout) from None
            except httpx.TransportError as error:
                raise Busy(f"the connection to {self.address} broke off ({line(error)}).") from None
            except Exception as error:  # truncated JSON, another protocol: whatever the client stumbles over
                raise BackendError(f"{self.address} does not answer like an Ollama server ({line(error)}).") from None

        return patiently(once, self.retries, self.first_wait)
