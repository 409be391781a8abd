"""`openai/MODEL`: a model behind any OpenAI-compatible address, by the `openai` package."""

from __future__ import annotations

import email.utils
import ipaddress
import os
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ..errors import BackendError
from .base import (
    FIRST_WAIT,
    LONGEST_WAIT,
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
    import openai

T = TypeVar("T")


@dataclass
class OpenAIBackend:
    """A model behind an OpenAI-compatible address."""

    model: str
    base_url: str | None = None
    options: dict[str, Any] = field(default_factory=dict)  # as given: GPT-5 and others refuse some
    timeout: float = TIMEOUT
    retries: int = RETRIES
    first_wait: float = FIRST_WAIT

    @property
    def spec(self) -> str:
        return f"openai/{self.model}"

    @cached_property
    def _url(self) -> str:
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"

    @cached_property
    def address(self) -> str:
        """Where the server is, without secrets."""
        return public(self._url)

    @cached_property
    def _client(self) -> openai.OpenAI:
        key = os.environ.get("OPENAI_API_KEY")
        if not key:
            if not _is_near(self._url):
                raise BackendDown(f"no key for {self.address}: set OPENAI_API_KEY.")
            key = "none"  # a server of one's own asks for none, but the package insists on one
        import openai

        try:
            client = openai.OpenAI(api_key=key, base_url=self._url, timeout=self.timeout, max_retries=0)
        except Exception as error:  # whatever its URL parser raises
            raise BackendDown(f"{self.address} is no address of a server ({type(error).__name__}).") from None
        weakref.finalize(self, client.close)
        return client

    def identity(self) -> dict:
        return {"backend": "openai", "model": self.model, "address": self.address, "options": dict(self.options)}

    def ask(self, messages: list[Message], topic: Topic, schema: dict | None = None) -> Answer:
        sent: dict[str, Any] = dict(self.options)
        if schema is not None:
            sent["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        start = time.monotonic()

        def request() -> Answer:
            reply = self._client.chat.completions.create(model=self.model, messages=messages, **sent)
            choice = reply.choices[0]
            message, usage = choice.message, reply.usage
            if refusal := getattr(message, "refusal", None):
                raise BackendError(f"{self.spec} refused to answer: {line(refusal)}.")
            if choice.finish_reason == "content_filter":
                raise BackendError(f"{self.spec} refused to answer: its content filter stopped it.")
            if choice.finish_reason == "length":
                raise BackendError(f"{self.spec}: its answer was cut at the token limit: choose another model.")
            text, thoughts = without_thoughts(message.content, getattr(message, "reasoning_content", None))
            if not text:
                raise BackendError(f"{self.spec} gave an empty answer: ask again with another --seed or model.")
            details = {"model": str(reply.model), "finish_reason": str(choice.finish_reason), **sent}
            if reply.system_fingerprint:
                details["system_fingerprint"] = str(reply.system_fingerprint)
            tokens = (count(usage.prompt_tokens), count(usage.completion_tokens)) if usage else (None, None)
            return Answer(text, thoughts, *tokens, time.monotonic() - start, details)

        return self._call(request)

    def _call(self, request: Callable[[], T]) -> T:
        """The request's result; whatever it raises becomes a `BackendError`."""
        import openai

        def once() -> T:
            try:
                return request()
            except BackendError:
                raise
            except openai.APITimeoutError:
                raise stalled(self.spec, self.address, self.timeout) from None
            except openai.APIConnectionError as error:
                if type(error.__cause__).__name__ == "ConnectError":
                    raise BackendDown(
                        f"no server at {self.address}: start it, or correct --base-url or OPENAI_BASE_URL."
                    ) from None
                raise Busy(f"the connection to {self.address} broke off ({line(error.__cause__)}).") from None
            except openai.APIStatusError as error:
                raise self._refusal(error) from None
            except Exception as error:  # truncated JSON, another protocol: whatever the client stumbles over
                raise BackendError(
                    f"{self.address} does not answer like an OpenAI-compatible server ({line(error)}); "
                    "such an address often ends in /v1."
                ) from None

        return patiently(once, self.retries, self.first_wait)

    def _refusal(self, error: openai.APIStatusError) -> Exception:
        """The error of an HTTP status. The server's words are left out where they may quote the key."""
        status = error.status_code
        if status in (401, 403):
            return BackendDown(f"{self.address} refuses the key: set OPENAI_API_KEY to a valid one.")
        if status == 404:
            return BackendDown(f"{self.address} has no model {self.model!r}, or its --base-url should end in /v1.")
        wait = _retry_after(error.response.headers.get("retry-after"))
        if wait > LONGEST_WAIT or (status == 429 and error.code == "insufficient_quota"):
            return BackendDown(
                f"the quota at {self.address} is used up: run the same command later, what is answered is kept."
            )
        reason = f"{self.spec} at {self.address} failed with status {status}: {line(error.message)}."
        if status in (408, 409, 429) or status >= 500:
            return Busy(reason, wait, down=status in (429, 503))
        return BackendError(reason)


def _retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header, which is a number or a date."""
    if value is None:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _is_near(url: str) -> bool:
    """Whether an address is on this machine or in a private network."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or host.endswith(".local") or ipaddress.ip_address(host).is_private
    except ValueError:
        return False
