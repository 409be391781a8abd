"""`openai/MODEL` and its like: a model behind any OpenAI-compatible address, by the `openai` package."""

from __future__ import annotations

import email.utils
import ipaddress
import json
import math
import os
import re
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ..errors import BackendError
from .base import (
    CONNECT_TIMEOUT,
    CUT,
    IMPORTING,
    LONGEST_WAIT,
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
from .providers import PROVIDERS, Provider

if TYPE_CHECKING:
    import openai
    from openai.types.chat import ChatCompletion

T = TypeVar("T")

# How providers say in an error what is no fault of the request: that it was filtered, or that the money is used up.
_FILTERED = re.compile(r"content[_ ](?:filter|policy_violation)|data_?inspection_?failed|content exists risk", re.I)
_NO_MONEY = re.compile(r"credit balance|insufficient[_ ](?:balance|quota)|arrearage|free ?tier ?only|billing", re.I)
_GEMINI_WAIT = re.compile(r'"retryDelay"\s*:\s*"([0-9.]{1,12})s"')


class _Filtered(Exception):
    """The server refuses this question by an error."""


@dataclass
class OpenAIBackend:
    """A model behind an OpenAI-compatible address: a preset of `providers`, or `openai` with any `base_url`."""

    model: str
    base_url: str | None = None
    options: dict[str, Any] = field(default_factory=dict)  # as given: seed, temperature
    think: bool = False
    provider: str = "openai"
    price: Price | None = None
    patience: Patience = field(default_factory=Patience)

    @property
    def spec(self) -> str:
        return f"{self.provider}/{self.model}"

    @property
    def _preset(self) -> Provider:
        return PROVIDERS[self.provider]

    @cached_property
    def _url(self) -> str:
        elsewhere = os.environ.get("OPENAI_BASE_URL") if self.provider == "openai" else None
        return _with_scheme(self.base_url or elsewhere or self._preset.address)

    @cached_property
    def address(self) -> str:
        """Where the server is, without secrets."""
        return public(self._url)

    @cached_property
    def _client(self) -> openai.OpenAI:
        key = os.environ.get(self._preset.key)
        if not key:
            if not _is_near(self._url):
                raise BackendDown(f"no key for {self.address}: set {self._preset.key}.")
            key = "none"  # a server of one's own asks for none, but the package insists on one
        try:
            with IMPORTING:
                # With each request openai takes httpx from sys.modules, if it is there: also half-made, while the
                # ollama package imports it in another thread. So it is there from the start.
                import httpx  # noqa: F401
                import openai

                timeout = openai.Timeout(self.patience.timeout, connect=min(CONNECT_TIMEOUT, self.patience.timeout))
                client = openai.OpenAI(api_key=key, base_url=self._url, timeout=timeout, max_retries=0)
                _ = client.chat.completions, client.models  # imported when they are first looked at
        except Exception as error:  # whatever its URL parser raises
            raise BackendDown(f"{self.address} is no address of a server ({type(error).__name__}).") from None
        weakref.finalize(self, client.close)
        return client

    @cached_property
    def _body(self) -> dict[str, Any]:
        """What is sent beside the options given."""
        switch = self._preset.thinking
        limit = {"max_tokens": MAX_TOKENS_THINKING if self.think else MAX_TOKENS} if self._preset.limit else {}
        return limit | (switch(self.think) if switch else {})

    def identity(self) -> dict:
        options = {**self.options, **self._body}
        return {"backend": self.provider, "model": self.model, "address": self.address, "options": options}

    def ask(self, messages: list[Message], topic: Topic, schema: dict | None = None) -> Answer:
        sent: dict[str, Any] = dict(self.options)
        if schema is not None:
            sent["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        if self._body:
            sent["extra_body"] = self._body
        if self._preset.one_model:
            self._call(lambda: self._served)

        spoken: Any = [_with_pictures(message, topic) for message in messages] if topic.pictures else messages

        def request() -> Answer:
            start = time.monotonic()
            reply = self._client.chat.completions.create(model=self.model, messages=spoken, **sent)
            return self._read(reply, time.monotonic() - start)

        try:
            return self._call(request)
        except _Filtered as reason:
            return Answer("", refused=str(reason), details={"finish_reason": "content_filter"})

    def _read(self, reply: ChatCompletion, seconds: float) -> Answer:
        choice, usage = reply.choices[0], reply.usage
        message, reason = choice.message, str(choice.finish_reason)
        thoughts = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
        text, thoughts = without_thoughts(message.content, thoughts)
        refusal = getattr(message, "refusal", None)
        refused = declined(text)
        if refusal:
            text, refused = str(refusal).strip(), "it declines to answer"
        elif reason.startswith(("content_filter", "refusal")):  # Gemini adds what it was
            refused = "its content filter stopped it"
        elif reason == "length":
            refused = CUT
        elif not text:
            refused = "it is empty"
        details: dict[str, Any] = {"model": str(reply.model), "finish_reason": reason}
        if reply.system_fingerprint:
            details["system_fingerprint"] = str(reply.system_fingerprint)
        tokens = (count(usage.prompt_tokens), count(usage.completion_tokens)) if usage else (None, None)
        if self.price:
            details |= self.price.cost(*tokens)
        return Answer(text, thoughts, *tokens, seconds, details, refused)

    @cached_property
    def _served(self) -> list[str]:
        """Names of the models that a server of one model has. Raises `BackendDown` where ours is not among them."""
        import openai  # imported by `_call` already

        try:
            served = [model.id for model in self._client.models.list().data]
        except (openai.NotFoundError, openai.InternalServerError):  # it cannot say
            return []
        if served and not any(self.model in (name, name.rpartition("/")[2]) for name in served):
            raise BackendDown(
                f"the server at {self.address} has the model {line(served[0])!r}, not {self.model!r}: "
                f"write {self.provider}/{line(served[0])}, or start it with the other model."
            )
        return served

    def _call(self, request: Callable[[], T]) -> T:
        """The request's result; whatever it raises becomes a `BackendError` or `_Filtered`."""
        with IMPORTING:
            import openai

        def once() -> T:
            try:
                return request()
            except BackendError:
                raise
            except openai.APIConnectionError as error:
                if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout"):
                    raise BackendDown(self._unreachable()) from None
                if isinstance(error, openai.APITimeoutError):
                    raise self.patience.stalled(self.spec, self.address) from None
                raise Busy(f"the connection to {self.address} broke off ({line(error.__cause__)}).") from None
            except openai.APIStatusError as error:
                raise self._refusal(error) from None
            except json.JSONDecodeError as error:
                raise Busy(f"{self.address} answered with broken JSON ({line(error)}).", retries=2) from None
            except Exception as error:  # another protocol: whatever the client stumbles over
                raise BackendError(
                    f"{self.address} does not answer like an OpenAI-compatible server ({line(error)}); "
                    "such an address often ends in /v1."
                ) from None

        return self.patience.call(once)

    def _unreachable(self) -> str:
        if _is_near(self._url):
            return f"no server at {self.address}: start it, or correct --base-url."
        correct = " and --base-url" if self.base_url else ""
        return f"no connection to {self.address}: check the network{correct}."

    def _refusal(self, error: openai.APIStatusError) -> Exception:
        """The error of an HTTP status. The server's words are left out where they may quote the key."""
        status, code, says = error.status_code, error.code or "", error.response.text[:10_000]
        if status in (400, 403) and _FILTERED.search(f"{code} {says}"):
            return _Filtered("its content filter stopped it")
        wait = _retry_after(error.response.headers.get("retry-after")) or _gemini_wait(says)
        used_up = status == 402 or (status in (400, 403) and _NO_MONEY.search(f"{code} {says}"))
        if used_up or wait > LONGEST_WAIT or (status == 429 and (code == "insufficient_quota" or "PerDay" in says)):
            return BackendDown(f"the quota at {self.address} is used up: wait until it is renewed, or raise it.")
        if status in (401, 403):
            return BackendDown(f"{self.address} refuses the key: set {self._preset.key} to a valid one.")
        if status == 404:
            return BackendDown(f"{self.address} has no model {self.model!r}, or its --base-url should end in /v1.")
        words = re.sub(r"Error code: [0-9]+( - )?", "", error.message)
        reason = f"{self.spec} at {self.address} failed with status {status}{f': {line(words)}' if words else ''}."
        if status in (408, 409, 429) or status >= 500:
            return Busy(reason, wait, down=status in (429, 503), shared=status == 429)
        if given := [name for name in self.options if re.search(rf"\b{name}\b", says)]:
            return BackendDown(f"{reason[:-1]}; leave --{given[0]} out.")
        return BackendError(reason)


def _retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header, which is a number or a date."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
        return 0.0 if math.isnan(seconds) else max(0.0, seconds)
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _gemini_wait(says: str) -> float:
    """Seconds of a `google.rpc.RetryInfo` in an error's body: Gemini sends no Retry-After."""
    found = _GEMINI_WAIT.search(says)
    return _retry_after(found[1]) if found else 0.0


def _with_scheme(url: str) -> str:
    """An address as the package takes it; a key goes to other people's servers by https alone."""
    if "://" in url:
        return url
    near = f"http://{url}"
    return near if _is_near(near) else f"https://{url}"


def _is_near(url: str) -> bool:
    """Whether an address is on this machine or in a private network."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or host.endswith(".local") or ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def _with_pictures(message: Message, topic: Topic) -> dict[str, Any]:
    """A message as OpenAI's protocol has it, with its pictures as data URLs behind the text."""
    text, pictures = pictures_of(message, topic)
    if not pictures:
        return {**message, "content": text}
    urls = [f"data:{each.media};base64,{each.base64}" for each in pictures]
    parts = [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]
    return {**message, "content": parts}
