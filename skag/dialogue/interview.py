"""The one way in which a question is asked anywhere in skag, `Interview.ask`.

From the store where it has been answered, else from the backend; stored before it is used; read strictly, asked again
with the reason where it does not fit, and put to a second model where the first one refuses.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from queue import SimpleQueue
from typing import Any, TypeVar

from ..backends import Answer, Backend, BackendDown, Message, Topic, holds_exactly, takes_schema
from ..errors import BackendError
from ..skeleton.layouts import Layout
from .exchanges import Exchange, Usage, exchange_key, spec_of
from .formats import Format, FormatProblem
from .prompts import Prompts
from .store import DialogueStore

MAX_REASKS = 2
MAX_ANEW = 5  # times that a question without a usable answer is put anew, once in a run of the command
MAX_ANSWER = 20_000  # characters; the longest answer asked for has a few hundred
# Control characters (but tab and line feed), which could reach a terminal; lone surrogates, which UTF-8 cannot hold.
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Question:
    """A question that the store does not answer."""

    class_name: str
    round: int
    messages: tuple[Message, ...]  # all that would be sent, the question last
    similar: tuple[str, ...]
    rounds_left: list[int]  # its round, and those before training that come after it and depend on its answer


class NotStored(BackendError):
    """The store has no answer to a question, and nobody may be asked."""

    def __init__(self, question: Question) -> None:
        super().__init__(f"round {question.round}: not in the store")
        self.question = question


class UnusableBefore(FormatProblem):
    """No answer to a question can be used, and all of them were in the store: nobody was asked now."""


class BudgetSpent(BackendError):
    """As many questions were put as may be."""


@dataclass
class Respondent:
    """Who answers: a backend, or, where nobody may be asked, the store by the identities one had."""

    backend: Backend | None
    known: Sequence[dict] = ()  # identities, without a backend

    @cached_property
    def identities(self) -> Sequence[dict]:
        """Whose answers are taken; new ones carry the first. Can ask a server, and raise `BackendError`."""
        return self.known if self.backend is None else [self.backend.identity()]

    @property
    def spec(self) -> str:
        return self.backend.spec if self.backend else spec_of(self.known[0]) if self.known else "nobody"


@dataclass
class Interview:
    """Asks a backend through a store, and counts. Safe with threads.

    Without a backend only the store answers, and what it lacks raises `NotStored`.
    """

    first: Respondent
    store: DialogueStore
    prompts: Prompts
    layout: Layout
    label_set: str
    progress: Callable[[], None] | None = None  # called after every round that is answered
    fallback: Respondent | None = None  # asked what the first one refuses, or answers unusably
    # Have the model held to a JSON schema; None: where that is certain to make an answer fit.
    structured: bool | None = None
    jobs: int = 1  # questions asked at the same time
    anew: int = 0  # times that questions are put anew whose answers in the store cannot be used
    budget: int | None = None  # questions that may be put, to the store or a backend, those put again included
    usage: Usage = field(default_factory=Usage)  # of the questions asked
    usage_before: Usage = field(default_factory=Usage)  # of those that the store answered
    by_fallback: int = 0
    _spent: int = 0  # of the budget
    seen: dict[str, Exchange] = field(default_factory=dict)  # all exchanges that had a say, by key
    _down: dict[str, BackendDown] = field(default_factory=dict)  # by the backend's spec
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _turns: threading.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._turns = threading.Semaphore(self.jobs)

    @property
    def asked(self) -> int:
        return self.usage.questions

    @property
    def cached(self) -> int:
        return self.usage_before.questions

    def ask(self, topic: Topic, history: Sequence[Message], similar: tuple[str, ...] = (), **facts: str) -> Exchange:
        """The usable exchange of one round; `facts` are further variables of its prompt.

        Raises `BackendError` where the backend cannot answer, `FormatProblem` where its answers cannot be used,
        `BudgetSpent` where it may not be asked any more.
        """
        values = {"class_name": topic.class_name, "joints": self.layout.numbered(), **facts}
        if similar:
            values["similar"] = "\n".join(f"- {name}" for name in similar)
        question = "\n\n".join([self.prompts.question(topic.round, **values), *(each.mark for each in topic.pictures)])
        messages = [*history, {"role": "user", "content": question}]
        exchange = self._of_either(messages, topic, similar)
        if self.progress:
            self.progress()
        return exchange

    def _of_either(self, messages: list[Message], topic: Topic, similar: tuple[str, ...]) -> Exchange:
        """The first model's usable answer, or the second's. A question to which the store has nothing but answers that
        cannot be used is put anew, see `anew`; what was put anew before is looked up without a backend too."""
        again = 0
        while True:
            try:
                return self._of_one(messages, topic, similar, again)
            except UnusableBefore as problem:
                if again == self.anew:
                    asked = f", in {again + 1} runs: choose another model, or --fallback" if again else ""
                    raise FormatProblem(f"{problem}{asked}") from None
                before, again = problem, again + 1
            except NotStored:
                if not again:
                    raise
                raise FormatProblem(str(before)) from None

    def _of_one(self, messages: list[Message], topic: Topic, similar: tuple[str, ...], again: int) -> Exchange:
        try:
            return self._usable(self.first, messages, topic, similar, again)
        except FormatProblem as problem:
            if self.fallback is None:
                raise
            return self._from_fallback(self.fallback, problem, messages, topic, similar, again)

    def _from_fallback(
        self,
        fallback: Respondent,
        problem: FormatProblem,
        messages: list[Message],
        topic: Topic,
        similar: tuple[str, ...],
        again: int,
    ) -> Exchange:
        """The second model's answer to what the first one refuses."""
        try:
            exchange = self._usable(fallback, messages, topic, similar, again)
        except (NotStored, BudgetSpent):
            raise
        except (BackendError, FormatProblem) as error:
            both = isinstance(problem, UnusableBefore) and isinstance(error, UnusableBefore)
            kind = UnusableBefore if both else FormatProblem
            raise kind(f"{problem}; {fallback.spec} instead: {error}") from None
        with self._lock:
            self.by_fallback += 1
        return exchange

    def _usable(
        self, asked: Respondent, messages: list[Message], topic: Topic, similar: tuple[str, ...], again: int
    ) -> Exchange:
        """The first answer that can be used; the question is put again with the reason where one cannot.

        A refusal is final where there is a second model to ask.
        """
        kind: type[FormatProblem] = UnusableBefore
        for attempt in range(MAX_REASKS + 1):
            exchange, is_new = self._exchange(asked, messages, topic, similar, attempt, again)
            kind = FormatProblem if is_new else kind
            reason = exchange.rejected
            if reason is None:
                return exchange
            if exchange.refused and self.fallback is not None and asked is self.first:
                raise kind(f"round {topic.round}: {asked.spec} refused ({reason})")
            messages = [
                *messages,
                {"role": "assistant", "content": exchange.answer or "..."},  # some servers take no empty message
                {"role": "user", "content": self.prompts.again(reason)},
            ]
        raise kind(f"round {topic.round}: the answer does not fit, asked {MAX_REASKS + 1} times: {reason}")

    def _exchange(
        self,
        asked: Respondent,
        messages: list[Message],
        topic: Topic,
        similar: tuple[str, ...],
        attempt: int,
        again: int,
    ) -> tuple[Exchange, bool]:
        """One exchange, from the store or (True) from a backend just now; costs one question of the budget unless it
        fails."""
        with self._lock:
            if self.budget is not None and self._spent >= self.budget:
                raise BudgetSpent("as many questions were put as may be")
            self._spent += 1
        try:
            return self._stored_or_asked(asked, messages, topic, similar, attempt, again)
        except BackendError:
            with self._lock:
                self._spent -= 1
            raise

    def _stored_or_asked(
        self,
        asked: Respondent,
        messages: list[Message],
        topic: Topic,
        similar: tuple[str, ...],
        attempt: int,
        again: int,
    ) -> tuple[Exchange, bool]:
        form = self.prompts.script[topic.round].format
        schemas = [(identity, self._schema(identity, form)) for identity in asked.identities]
        for identity, schema in schemas:
            stored = self.store.get(exchange_key(identity, messages, schema, again))
            if stored is not None:
                return self._counted(stored, asked=False), False
        if asked.backend is None:
            raise NotStored(
                Question(topic.class_name, topic.round, tuple(messages), similar, self.prompts.script.left(topic.round))
            )
        identity, schema = schemas[0]
        key = exchange_key(identity, messages, schema, again)
        with self.store.asking(key) as stored:
            if stored is not None:  # another process asked for it
                return self._counted(stored, asked=False), True
            with self._turns:
                answer = self._answer(asked.backend, messages, topic, schema)
            text = clean(answer.text)
            if len(text) > MAX_ANSWER:
                raise BackendError(f"{asked.spec} answered with {len(text)} characters: choose another model.")
            repaired, notes = self._judge(form, text, answer.refused, schema is not None, attempt == MAX_REASKS)
            exchange = Exchange(
                key=key,
                label_set=self.label_set,
                class_name=topic.class_name,
                round=topic.round,
                identity=identity,
                messages=tuple(messages),
                prompt_hash=self.prompts.hash(topic.round),
                answer=text,
                similar=similar,
                schema=schema,
                repaired=repaired,
                thoughts=clean(answer.thoughts),
                tokens_in=answer.tokens_in,
                tokens_out=answer.tokens_out,
                seconds=answer.seconds,
                created=datetime.now(UTC).isoformat(),
                attempt=attempt,
                notes=notes,
                details={**answer.details, "again": again} if again else answer.details,
            )
            return self._counted(self.store.add(exchange), asked=True), True

    def _answer(self, backend: Backend, messages: list[Message], topic: Topic, schema: dict | None) -> Answer:
        """What a backend answers; once it is down, it is not asked again."""
        if backend.spec in self._down:
            raise BackendDown(str(self._down[backend.spec]))
        try:
            return backend.ask(messages, topic, schema)
        except BackendDown as error:
            self._down[backend.spec] = error
            raise

    def _schema(self, identity: dict, form: Format) -> dict | None:
        exact = holds_exactly(identity)
        structured = exact if self.structured is None else self.structured
        return form.schema(self.layout, exact) if structured and takes_schema(identity) else None

    def _counted(self, exchange: Exchange, asked: bool) -> Exchange:
        with self._lock:
            (self.usage if asked else self.usage_before).add(exchange)
            self.seen[exchange.key] = exchange
        return exchange

    def _judge(self, form: Format, text: str, refused: str, as_json: bool, last: bool) -> tuple[str, tuple[str, ...]]:
        """(text to use instead, notes) for an answer: it fits, or is rejected, or at last repaired."""
        if refused:
            return "", (f"refused: {refused}",)
        read = form.as_text(text) if as_json else None  # None too where the server ignored the schema
        plain = text if read is None else read
        try:
            form.check(plain, self.layout)
        except FormatProblem as problem:
            mended = form.repair(plain, self.layout) if last else None
            if mended is None:
                return "", (f"rejected: {problem}",)
            return mended[0], (f"repaired: {mended[1]}, since {problem}",)
        return ("", ()) if read is None else (read, ("read: from JSON",))


def clean(text: str) -> str:
    """A model's text as it is kept: line ends as line feeds, no control characters, encodable as UTF-8."""
    return _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> list[Result]:
    """`work` of every item, in order, by `jobs` threads.

    The last items, fewer than `jobs`, are all begun as soon as there are no others: work that waits for its turn
    to ask, as `Interview` does, then keeps all turns taken to the end. An error ends it when those at work have
    finished. The threads are daemons, so that Ctrl-C ends at once: what is in flight then is lost, what is answered
    is not.
    """
    todo = deque(enumerate(items))
    results: list[Any] = [None] * len(todo)
    if jobs <= 1:
        return [work(item) for _, item in todo]
    finished: SimpleQueue[BaseException | None] = SimpleQueue()
    threads: list[threading.Thread] = []

    def start() -> None:
        threads.append(threading.Thread(target=worker, daemon=True))
        threads[-1].start()

    def worker() -> None:
        while todo:
            try:
                number, item = todo.popleft()
            except IndexError:  # another thread was faster
                break
            try:
                if 0 < len(todo) < jobs:
                    start()
                results[number] = work(item)
            except BaseException as error:
                todo.clear()
                return finished.put(error)
        return finished.put(None)

    for _ in range(min(jobs, len(todo))):
        start()
    errors: list[BaseException | None] = []
    try:
        while len(errors) < len(threads):  # a thread has started its last one before it finishes
            errors.append(finished.get())
    except KeyboardInterrupt:
        todo.clear()
        raise
    for error in errors:
        if error is not None:
            raise error
    return results
