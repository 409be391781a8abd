"""`local/NAME`: a base model inside this process answers; no server. `skag.lm.names` says what NAME can be.

Questions that wait at the same time are answered as one batch, and what was read of a conversation is not read again
for its next question. What the weights are goes into every question's key, and is told without loading them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BackendError, ModelError
from ..lm.estimate import of_answering
from ..lm.names import CACHE, Located, locate
from .base import CUT, IMPORTING, Answer, BackendDown, Message, Price, Topic, declined, line, without_thoughts

if TYPE_CHECKING:
    from ..lm.causal import CausalModel, Precision
    from ..lm.reuse import Kept

MAX_TOKENS = 512  # of an answer that no schema ends; the longest one asked for has about 300
MAX_TOKENS_THINKING = 4096
TEMPERATURE = 0.7  # where a seed is given and no temperature: without chance a seed would change nothing
GATHER = 0.1  # seconds without a further question before a batch is begun
LATE = 0.2, 2.0  # as many questions as last time are waited for: this share of its time, and no more seconds
AT_ONCE = 16  # questions in a batch


@dataclass(eq=False)
class _Question:
    messages: list[Message]
    schema: dict | None
    answer: Answer | None = None
    error: BackendError | None = None


@dataclass
class LocalBackend:
    """A language model of transformers on this machine. Safe with threads."""

    model: str
    options: dict[str, Any] = field(default_factory=dict)  # as given: seed, temperature
    think: bool = False
    price: Price | None = None
    tell: Callable[[str], None] | None = field(default=None, repr=False)
    device: str = "auto"
    cache: Path = CACHE
    max_tokens: int = MAX_TOKENS
    _waiting: list[_Question] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)  # held by whoever answers for all
    _last: tuple[int, float] = field(default=(1, 0.0), repr=False)  # questions of the last batch, and its seconds

    @property
    def spec(self) -> str:
        return f"local/{self.model}"

    @cached_property
    def _located(self) -> Located:
        try:
            return locate(self.model)
        except ModelError as error:
            raise BackendDown(str(error)) from None

    @cached_property
    def _device(self) -> str:
        with IMPORTING:
            from ..device import choose_device
        return str(choose_device(self.device))

    @property
    def _precision(self) -> Precision:
        return "bfloat16" if self._device.startswith("cuda") else "float32"

    @property
    def _temperature(self) -> float:
        given = self.options.get("temperature")
        return given if given is not None else TEMPERATURE if "seed" in self.options else 0.0

    @property
    def _limit(self) -> int:
        return max(self.max_tokens, MAX_TOKENS_THINKING) if self.think else self.max_tokens

    def identity(self) -> dict:
        known = {name: value for name, value in self._located.identity().items() if name != "base_model"}
        options = self.options | {
            "temperature": self._temperature,
            "max_tokens": self._limit,
            "precision": self._precision,
        }
        return {"backend": "local", "model": self.model, **known, "options": options, "think": self.think}

    @cached_property
    def _loaded(self) -> CausalModel:
        with IMPORTING:
            from ..lm.causal import load_causal
        try:
            return load_causal(
                self.model,
                device=self._device,
                precision=self._precision,
                cache=self.cache,
                needed=lambda shape: of_answering(shape, self._precision),
                tell=self.tell,
            )
        except ModelError as error:
            raise BackendDown(str(error)) from None

    @cached_property
    def _kept(self) -> Kept:
        from ..lm.reuse import Kept

        return Kept()

    @cached_property
    def _guide(self) -> Any:
        from ..lm.generate import guide

        return guide(self._loaded)

    def ask(self, messages: list[Message], topic: Topic, schema: dict | None = None) -> Answer:
        if topic.pictures:
            raise BackendDown(f"{self.spec} sees no pictures: take a model that does, such as ollama/llava.")
        question = _Question(messages, schema)
        with self._lock:
            self._waiting.append(question)
        with self._turn:
            if question.answer is None and question.error is None:
                self._answer(self._batch(question))
        if question.error is not None:
            raise question.error
        assert question.answer is not None  # one of the two is given to every question
        return question.answer

    def _batch(self, first: _Question) -> list[_Question]:
        """The questions to answer now: `first`, and those that others have come with."""
        seen, expected, share = 0, *self._last
        until = time.monotonic() + min(share * LATE[0], LATE[1])
        while (count := len(self._waiting)) < AT_ONCE and (
            count > seen or (count < expected and time.monotonic() < until)
        ):
            seen = count
            time.sleep(GATHER)
        with self._lock:
            self._waiting.remove(first)
            batch = [first, *self._waiting[: AT_ONCE - 1]]
            self._waiting = self._waiting[AT_ONCE - 1 :]
        return batch

    def _answer(self, batch: list[_Question]) -> None:
        """Answers or errors for all of a batch."""
        try:
            self._answer_together(batch)
        except BackendError as error:
            self._fail(batch, error)
        except ModelError as error:
            self._fail(batch, BackendDown(str(error)))
        except (RuntimeError, MemoryError) as error:  # of PyTorch; out of memory among them
            full = isinstance(error, MemoryError) or "out of memory" in str(error)
            self._kept.forget()
            step = "ask fewer questions at a time with --jobs 1, or take a smaller model" if full else "try again"
            self._fail(batch, BackendError(f"{self.spec} failed ({line(error)}): {step}."))
        except BaseException as error:
            self._fail(batch, BackendDown(f"{self.spec} was interrupted ({type(error).__name__}): run it again."))
            raise

    def _fail(self, batch: list[_Question], error: BackendError) -> None:
        for question in batch:
            if question.answer is None and question.error is None:
                question.error = error

    def _answer_together(self, batch: list[_Question]) -> None:
        model = self._loaded
        from ..lm.generate import BySchema, reply

        fitting: list[tuple[_Question, list[int], int]] = []  # with the tokens of the conversation, and the limit
        for question in batch:
            tokens = model.encode(model.converse(question.messages, enable_thinking=self.think), first=True)
            if len(tokens) + self._limit > model.context:
                question.error = self._too_long(model.context)
            else:
                fitting.append((question, tokens, self._most_tokens(question, model.context - len(tokens))))
        if not fitting:
            return
        start = time.monotonic()
        answers = reply(
            model,
            [tokens for _, tokens, _ in fitting],
            self._kept,
            max_tokens=[limit for _, _, limit in fitting],
            temperature=self._temperature,
            seeds=[self.options.get("seed", 0)] * len(fitting),
            rules=[
                None if question.schema is None else BySchema(self._guide, question.schema)
                for question, _, _ in fitting
            ],
        )
        passed = time.monotonic() - start
        self._last, seconds = (len(fitting), passed), passed / len(fitting)
        for (question, tokens, _), answered in zip(fitting, answers, strict=True):
            text, thoughts = without_thoughts(answered.text, None)
            details: dict[str, Any] = {"done_reason": "stop" if answered.finished else "length", "batch": len(fitting)}
            details["device"] = self._device
            if self.price:
                details |= self.price.cost(len(tokens), len(answered.tokens))
            refused = CUT if not answered.finished else declined(text) if text else "it is empty"
            question.answer = Answer(text, thoughts, len(tokens), len(answered.tokens), seconds, details, refused)

    def _most_tokens(self, question: _Question, room: int) -> int:
        """Of an answer: what its schema can need, so that none is cut; where that sets no end, the usual limit."""
        from ..lm.grammar import longest

        needed = None if question.schema is None else longest(question.schema)
        return self._limit if needed is None else min(needed + 1, room)

    def _too_long(self, context: int) -> BackendError:
        return BackendError(
            f"{self.spec}: the conversation does not fit its context of {context} tokens: choose a model with a longer "
            "context, or shorten the prompts."
        )
