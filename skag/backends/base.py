"""What all backends share: the interface, patience with busy servers, and care with what servers say."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import tenacity

from ..errors import BackendError

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}
T = TypeVar("T")

TIMEOUT = 600.0  # seconds for one answer; a large model on a CPU is slow
RETRIES = 6  # with waits of about 2, 4, 8, ... seconds: two minutes in all
FIRST_WAIT = 2.0
LONGEST_WAIT = 300.0  # a server that asks for more has run out of quota


@dataclass(frozen=True)
class Topic:
    """What a question is about; never sent to a server."""

    class_index: int
    class_name: str
    round: int
    similar: tuple[int, ...] = ()  # indices of the similar classes, most confused first (round 6)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    text: str
    thoughts: str = ""  # of a thinking model, apart from its answer
    tokens_in: int | None = None
    tokens_out: int | None = None
    seconds: float = 0.0
    details: dict = field(default_factory=dict)  # what the server says it used; JSON values


class Backend(Protocol):
    """Anything that answers questions."""

    spec: str  # as given with --llm

    def identity(self) -> dict:
        """Everything but the messages that shapes an answer, as JSON values; no secrets. Raises `BackendError`."""

    def ask(self, messages: list[Message], topic: Topic, schema: dict | None = None) -> Answer:
        """One answer. Raises `BackendError`, and `BackendDown` where the next question would fare no better."""


class BackendDown(BackendError):
    """No question can be answered for now: no server, no such model, no key, no quota."""


class Busy(Exception):
    """Worth asking again after a while."""

    def __init__(self, message: str, wait: float = 0.0, retries: int | None = None, down: bool = False) -> None:
        super().__init__(message)
        self.wait = wait  # seconds that the server asks for
        self.retries = retries  # fewer than usual
        self.down = down  # if it stays like this, the next question will fare no better


def patiently(request: Callable[[], T], retries: int, first_wait: float) -> T:
    """Ask a busy server again, after growing, jittered waits, and no sooner than it says."""

    def wait(state: tenacity.RetryCallState) -> float:
        grown = min(first_wait * 2 ** (state.attempt_number - 1), LONGEST_WAIT) * random.uniform(0.75, 1.25)
        return max(grown, _busy(state).wait)

    def stop(state: tenacity.RetryCallState) -> bool:
        most = _busy(state).retries
        return state.attempt_number > (retries if most is None else min(most, retries))

    retrying = tenacity.Retrying(retry=tenacity.retry_if_exception_type(Busy), stop=stop, wait=wait, reraise=True)
    try:
        return retrying(request)
    except Busy as error:
        raise (BackendDown if error.down else BackendError)(str(error)) from None


def _busy(state: tenacity.RetryCallState) -> Busy:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, Busy)
    return error


def stalled(spec: str, address: str, timeout: float) -> Busy:
    """The error of a server that does not answer in time: worth one more try."""
    return Busy(f"{spec} at {address} did not answer within {timeout:g} s.", retries=1, down=True)


def without_thoughts(content: str | None, thoughts: str | None) -> tuple[str, str]:
    """(answer, thoughts): some servers leave a thinking model's thoughts in the answer, between tags."""
    text = (content or "").strip()
    found = re.match(r"<think>(.*?)</think>", text, re.DOTALL)
    if found:
        return text[found.end() :].strip(), (thoughts or found[1]).strip()
    return text, (thoughts or "").strip()


def public(url: str) -> str:
    """Scheme, host and port of an address: what may be shown and stored. User, path and query may be secrets."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError:
        return "the given address"
    return f"{parts.scheme}://{line(parts.netloc.rpartition('@')[2])}"


def count(value: object) -> int | None:
    """A number of tokens, if it is one."""
    return value if type(value) is int and 0 <= value < 1 << 40 else None


def line(words: object) -> str:
    """What a server or a client says, as one short printable line."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(words)).split())
    return (text if len(text) <= 200 else f"{text[:197]}...").rstrip(".") or type(words).__name__
