"""What all backends share: the interface, patience with busy servers, and care with what servers say."""

from __future__ import annotations

import base64
import hashlib
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import tenacity

from ..errors import BackendError

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}
T = TypeVar("T")

TIMEOUT = 600.0  # seconds without a byte from the server; a large model on a CPU is slow
MAX_TOKENS = 1024  # of an answer, where a model would go on for ever; the longest one asked for has about 300
MAX_TOKENS_THINKING = 8192  # with the thoughts
CUT = "it goes on and on, and was cut"
CONNECT_TIMEOUT = 30.0  # seconds until a server has taken up the connection
MAX_FAILURES = 3  # questions that fail one after another for the server's sake; then it counts as down
RETRIES = 6  # with waits of about 2, 4, 8, ... seconds: two minutes in all
FIRST_WAIT = 2.0
TOLD_WAIT = 5.0  # seconds; of longer waits one is told, but no more often
LONGEST_WAIT = 300.0  # a server that asks for more has run out of quota

# Held while a client's package is imported: two threads that import packages with circular imports at the same time
# can see them half-made.
IMPORTING = threading.RLock()


@dataclass(frozen=True)
class Picture:
    """A picture that a question is about. The question holds its `mark`, by which an exchange is told from others; on
    its way to a server the picture itself takes the mark's place."""

    data: bytes = field(repr=False)  # of a JPEG or PNG file
    media: str = "image/jpeg"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def mark(self) -> str:
        return f"[picture sha256:{self.digest}]"

    @property
    def base64(self) -> str:
        return base64.b64encode(self.data).decode()


@dataclass(frozen=True)
class Topic:
    """What a question is about; never sent to a server, but for its pictures."""

    class_index: int
    class_name: str
    round: int  # its number in the script
    kind: str  # what it asks for: `skag.dialogue.script`
    similar: tuple[int, ...] = ()  # indices of the similar classes, most confused first (of a distinction)
    pictures: tuple[Picture, ...] = ()  # of a model that sees


@dataclass(frozen=True)
class Answer:
    """What came back."""

    text: str
    thoughts: str = ""  # of a thinking model, apart from its answer
    tokens_in: int | None = None
    tokens_out: int | None = None
    seconds: float = 0.0  # of the request that was answered, without those that failed before it
    details: dict = field(default_factory=dict)  # what the server says it used; JSON values
    refused: str = ""  # why this is no answer: the model declined, a filter stopped it, or nothing came


class Backend(Protocol):
    """Anything that answers questions."""

    @property
    def spec(self) -> str: ...  # as given with --llm

    def identity(self) -> dict:
        """Everything but the messages that shapes an answer, as JSON values; no secrets. Raises `BackendError`."""

    def ask(self, messages: list[Message], topic: Topic, schema: dict | None = None) -> Answer:
        """One answer. Raises `BackendError`, and `BackendDown` where the next question would fare no better."""


def pictures_of(message: Message, topic: Topic) -> tuple[str, list[Picture]]:
    """What a message says without the marks of the topic's pictures, and those it has marks of."""
    text, found = message["content"], []
    for picture in topic.pictures:
        if picture.mark in text:
            text = text.replace(picture.mark, "").strip()
            found.append(picture)
    return text, found


class BackendDown(BackendError):
    """No question can be answered for now: no server, no such model, no key, no quota."""


class Busy(Exception):
    """Worth asking again after a while."""

    def __init__(
        self, message: str, wait: float = 0.0, retries: int | None = None, down: bool = False, shared: bool = False
    ) -> None:
        super().__init__(message)
        self.wait = wait  # seconds that the server asks for
        self.retries = retries  # fewer than usual
        self.down = down  # if it stays like this, the next question will fare no better
        self.shared = shared  # a limit on all questions together, which others may be using up


@dataclass
class Patience:
    """How long a backend waits for its server. All threads that ask it share one."""

    timeout: float = TIMEOUT
    retries: int = RETRIES
    first_wait: float = FIRST_WAIT
    tell: Callable[[str], None] | None = field(default=None, repr=False)  # is told of waits that one would wonder at
    _told: float = field(default=0.0, repr=False)  # when it was told last
    _resume: float = field(default=0.0, repr=False)  # by `time.monotonic`: the server wants no question before
    _answered: float = field(default=0.0, repr=False)  # when the last question was answered
    _failures: int = field(default=0, repr=False)  # questions given up since then
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def call(self, request: Callable[[], T]) -> T:
        """The request's result. After `Busy` it is tried again, after growing, jittered waits, no sooner than
        the server says.

        A limit that all questions share does not end it while others are being answered. Raises `BackendError`, and
        `BackendDown` where the next question would fare no better.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Busy),
            before=self._pause,
            wait=self._wait,
            stop=self._stop,
            reraise=True,
        )
        try:
            result = retrying(request)
        except Busy as error:
            with self._lock:
                self._failures += 1
            down = error.down or self._failures >= MAX_FAILURES
            raise (BackendDown if down else BackendError)(str(error)) from None
        with self._lock:
            self._answered, self._failures = time.monotonic(), 0
        return result

    def _pause(self, state: tenacity.RetryCallState) -> None:
        """What one question was told to wait, all wait; then they come one after another, not all at once."""
        if (pause := self._resume - time.monotonic()) > 0:
            time.sleep(pause + random.uniform(0, self.first_wait))

    def _wait(self, state: tenacity.RetryCallState) -> float:
        busy = _busy(state)
        with self._lock:
            self._resume = max(self._resume, time.monotonic() + busy.wait)
            grown = min(self.first_wait * 2 ** (state.attempt_number - 1), LONGEST_WAIT) * random.uniform(0.75, 1.25)
            pause = max(grown, self._resume - time.monotonic())
            if self.tell and pause >= TOLD_WAIT and time.monotonic() - self._told >= TOLD_WAIT:
                self._told = time.monotonic()
                self.tell(f"{str(busy).rstrip('.')}; asking again in {pause:.0f} s.")
        return grown

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        busy = _busy(state)
        if busy.shared and time.monotonic() - self._answered < self.first_wait * 2**self.retries:
            return False
        return state.attempt_number > (self.retries if busy.retries is None else min(busy.retries, self.retries))

    def stalled(self, spec: str, address: str) -> Busy:
        """The error of a server that does not answer in time: worth one more try."""
        return Busy(
            f"{spec} at {address} did not answer within {self.timeout:g} s: give it more with --timeout, or fewer "
            "questions at a time with --jobs.",
            retries=1,
            down=True,
        )


def _busy(state: tenacity.RetryCallState) -> Busy:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, Busy)
    return error


@dataclass(frozen=True)
class Price:
    """What tokens cost, in one's own currency per million."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0

    def cost(self, tokens_in: int | None, tokens_out: int | None) -> dict[str, float]:
        """`{"cost": ...}` for an answer's details; empty where the server did not count the tokens."""
        if tokens_in is None or tokens_out is None:
            return {}
        return {"cost": (tokens_in * self.tokens_in + tokens_out * self.tokens_out) / 1e6}


# How aligned models begin when they decline. A description of a movement does not speak of "I".
_SORRY = (
    r"(?:unfortunately|sorry|apologies|as an ai|i(?:'m| am) (?:\w+ )?(?:sorry|afraid)|i apologi[sz]e)\b[^.!?\n]{0,80}?"
)
_UNABLE = (
    r"i (?:can(?:no|')t|can not|(?:won't|will not)(?: be able to)?|(?:must|have to) decline to)"
    r"|i(?:'m| am) (?:unable|not able|not comfortable|not allowed)(?: to)?"
)
_ACT = (
    "assist|answer|comply|continue|creat|describ|discuss|engag|fulfil|generat|give|help|participat|produc|provid"
    "|respond|support|with|write"
)
_DECLINES = re.compile(rf"(?:{_SORRY})?\b(?:{_UNABLE}) (?:{_ACT})", re.IGNORECASE)


def declined(text: str) -> str:
    """The reason, if a text declines to answer in so many words, else ""."""
    opening = text[:300].replace("’", "'").lstrip(" \"'*>#\n")
    return "it declines to answer" if _DECLINES.match(opening) else ""


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
