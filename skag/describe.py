"""Rounds 1 to 5: what every action looks like, asked once per class as one conversation.

Also the one way in which a question is asked anywhere in skag, `Interview.ask`: from the store where it has been
answered, else from the backend; stored before it is used; read strictly, and asked again with the reason where it
does not fit.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, TypeVar

from . import selector
from .backends import Backend, BackendDown, Message, Topic
from .dialogues import DialogueStore
from .errors import BackendError, DialogueError
from .exchanges import Conversation, Exchange, exchange_key, label_set_id, spec_of
from .layouts import Layout
from .prompts import ROUNDS, Prompts
from .selector import FormatProblem

MAX_REASKS = 2
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
    similar: tuple[str, ...] = ()

    @property
    def rounds_left(self) -> list[int]:
        """Its round, and of rounds 1 to 5 those after it, which depend on its answer."""
        return list(range(self.round, max(self.round, ROUNDS[-1]) + 1))


class NotStored(BackendError):
    """The store has no answer to a question, and nobody may be asked."""

    def __init__(self, question: Question) -> None:
        super().__init__(f"round {question.round}: not in the store")
        self.question = question


@dataclass(frozen=True)
class DescribeReport:
    """What `describe` did."""

    classes: int
    rounds: int
    asked: int  # questions that a backend answered, those asked again included
    cached: int  # questions that the store answered
    failed: tuple[tuple[str, str], ...]  # (class name, reason)
    conversations: tuple[Conversation, ...]  # of the classes that did not fail
    missing: tuple[Question, ...] = ()  # of the failed: the first question of a class that the store does not answer

    def reasons(self) -> list[tuple[str, str]]:
        """`failed`, with all rounds that the store lacks."""
        left = {question.class_name: question.rounds_left for question in self.missing}
        return [
            (name, f"not in the store: rounds {', '.join(map(str, left[name]))}" if name in left else reason)
            for name, reason in self.failed
        ]


@dataclass
class Interview:
    """Asks a backend through a store, and counts. Safe with threads.

    Without a backend only the store answers, and what it lacks raises `NotStored`.
    """

    backend: Backend | None
    store: DialogueStore
    prompts: Prompts
    layout: Layout
    label_set: str
    identities: Sequence[dict]  # whose answers are taken; new ones carry the first, which is the backend's own
    progress: Callable[[], None] | None = None  # called after every round that is answered
    asked: int = 0
    cached: int = 0
    seen: dict[str, Exchange] = field(default_factory=dict)  # all exchanges that had a say, by key
    _down: BackendDown | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, topic: Topic, history: Sequence[Message], similar: tuple[str, ...] = ()) -> Exchange:
        """The usable exchange of one round.

        Raises `BackendError` where the backend cannot answer, `FormatProblem` where its answers cannot be used.
        """
        values = {"class_name": topic.class_name, "joints": self.layout.numbered()}
        if similar:
            values["similar"] = "\n".join(f"- {name}" for name in similar)
        messages = [*history, {"role": "user", "content": self.prompts.question(topic.round, **values)}]
        for attempt in range(MAX_REASKS + 1):
            exchange = self._exchange(messages, topic, similar, attempt)
            reason = exchange.rejected
            if reason is None:
                if self.progress:
                    self.progress()
                return exchange
            messages += [
                {"role": "assistant", "content": exchange.answer},
                {"role": "user", "content": self.prompts.again(reason)},
            ]
        raise FormatProblem(f"round {topic.round}: the answer does not fit, asked {MAX_REASKS + 1} times: {reason}")

    def _exchange(self, messages: list[Message], topic: Topic, similar: tuple[str, ...], attempt: int) -> Exchange:
        """One exchange, from the store or from the backend."""
        for identity in self.identities:
            stored = self.store.get(exchange_key(identity, messages))
            if stored is not None:
                return self._counted(stored, asked=False)
        if self.backend is None:
            raise NotStored(Question(topic.class_name, topic.round, tuple(messages), similar))
        with self.store.asking(exchange_key(self.identities[0], messages)) as stored:
            if stored is not None:  # another process asked for it
                return self._counted(stored, asked=False)
            return self._counted(self._ask_backend(messages, topic, similar, attempt), asked=True)

    def _counted(self, exchange: Exchange, asked: bool) -> Exchange:
        with self._lock:
            self.asked += asked
            self.cached += not asked
            self.seen[exchange.key] = exchange
        return exchange

    def _ask_backend(self, messages: list[Message], topic: Topic, similar: tuple[str, ...], attempt: int) -> Exchange:
        """One exchange from the backend, which is kept before anything else is done with it."""
        if self._down is not None:
            raise BackendDown(str(self._down))
        try:
            answer = self.backend.ask(messages, topic)
        except BackendDown as error:
            self._down = error
            raise
        text = clean(answer.text)
        if len(text) > MAX_ANSWER:
            raise BackendError(f"{self.backend.spec} answered with {len(text)} characters: choose another model.")
        repaired, notes = self._judge(topic.round, text, last=attempt == MAX_REASKS)
        exchange = Exchange(
            key=exchange_key(self.identities[0], messages),
            label_set=self.label_set,
            class_name=topic.class_name,
            round=topic.round,
            identity=self.identities[0],
            messages=tuple(messages),
            prompt_hash=self.prompts.hash(topic.round),
            answer=text,
            similar=similar,
            repaired=repaired,
            thoughts=clean(answer.thoughts),
            tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out,
            seconds=answer.seconds,
            created=datetime.now(UTC).isoformat(),
            attempt=attempt,
            notes=notes,
            details=answer.details,
        )
        return self.store.add(exchange)

    def _judge(self, number: int, text: str, last: bool) -> tuple[str, tuple[str, ...]]:
        """(text to use instead, notes) for an answer: it fits, or is rejected, or at last repaired."""
        try:
            selector.check(number, text, self.layout)
        except FormatProblem as problem:
            mended = selector.repair(number, text, self.layout) if last else None
            if mended is None:
                return "", (f"rejected: {problem}",)
            return mended[0], (f"repaired: {mended[1]}, since {problem}",)
        return "", ()


def describe(
    backend: Backend | None,
    store: DialogueStore,
    classes: Sequence[str],
    layout: Layout,
    prompts: Prompts,
    *,
    identity: dict | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> DescribeReport:
    """Ask rounds 1 to 5 of every class, `jobs` classes at a time.

    A class whose answers fail does not stop the others, and all answers are kept. `progress(done, total)` counts
    rounds and may be called from any thread. Without a backend, the store alone answers for `identity` (by default
    the backend's own). Raises `BackendError` where no question can be asked at all.
    """
    done = iter(range(1, len(classes) * len(ROUNDS) + 1))  # next() of it is atomic
    step = (lambda: progress(next(done), len(classes) * len(ROUNDS))) if progress else None
    label_set = label_set_id(classes, layout)
    if identity is None:
        identity = backend.identity()
    interview = Interview(backend, store, prompts, layout, label_set, [identity], step)

    def one(index: int) -> Conversation | BackendError | FormatProblem:
        history: tuple[Message, ...] = ({"role": "system", "content": prompts.system()},)
        exchanges = {}
        try:
            for number in ROUNDS:
                exchanges[number] = interview.ask(Topic(index, classes[index], number), history)
                history = exchanges[number].after
        except (BackendError, FormatProblem) as error:
            return error
        return Conversation(index, classes[index], exchanges)

    results = in_parallel(one, range(len(classes)), jobs)
    return DescribeReport(
        classes=len(classes),
        rounds=len(ROUNDS),
        asked=interview.asked,
        cached=interview.cached,
        failed=tuple(
            (name, str(result))
            for name, result in zip(classes, results, strict=True)
            if not isinstance(result, Conversation)
        ),
        conversations=tuple(result for result in results if isinstance(result, Conversation)),
        missing=tuple(result.question for result in results if isinstance(result, NotStored)),
    )


def clean(text: str) -> str:
    """A model's text as it is kept: line ends as line feeds, no control characters, encodable as UTF-8."""
    return _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> list[Result]:
    """`work` of every item, in order, by `jobs` threads.

    An error ends it when those at work have finished. The threads are daemons, so that Ctrl-C ends at once: what
    is in flight then is lost, what is answered is not.
    """
    todo = deque(enumerate(items))
    results: list[Any] = [None] * len(todo)
    if jobs <= 1:
        return [work(item) for _, item in todo]
    finished: SimpleQueue[BaseException | None] = SimpleQueue()

    def worker() -> None:
        while todo:
            try:
                number, item = todo.popleft()
            except IndexError:  # another thread was faster
                break
            try:
                results[number] = work(item)
            except BaseException as error:
                todo.clear()
                return finished.put(error)
        return finished.put(None)

    threads = [threading.Thread(target=worker, daemon=True) for _ in range(min(jobs, len(todo)))]
    for thread in threads:
        thread.start()
    try:
        errors = [finished.get() for _ in threads]
    except KeyboardInterrupt:
        todo.clear()
        raise
    for error in errors:
        if error is not None:
            raise error
    return results


# ---- from the store alone


def load(
    store: DialogueStore, classes: Sequence[str], layout: Layout, *, identity: dict[str, Any] | None = None
) -> tuple[Conversation, ...]:
    """Rounds 1 to 5 of all classes from the store, in class order; asks nobody.

    `identity` narrows the choice to backends with these values, such as `{"backend": "ollama", "model": "llama3.2"}`
    or a whole `Backend.identity()`; of several complete sets the one answered last is taken. Raises `DialogueError`
    that names all missing classes.
    """
    sets = _stored_sets(store, classes, layout, identity or {})
    best = sets[0] if sets else {}
    if missing := [name for name in classes if name not in best]:
        first = _first_missing(store, classes, layout, identity or {})
        names = ", ".join(f"{name!r} from round {first[name]} on" if name in first else repr(name) for name in missing)
        by = f" by {spec_of(identity)}" if identity and "backend" in identity else ""
        raise DialogueError(
            f"{store.path} lacks rounds 1 to 5{by} of {len(missing)} of {len(classes)} classes ({names}): "
            "run `skag describe DATA.h5 --llm BACKEND/MODEL`."
        )
    return tuple(Conversation(index, name, best[name]) for index, name in enumerate(classes))


def described_with(store: DialogueStore, classes: Sequence[str], layout: Layout) -> list[str]:
    """Backends that have described all of the classes, as `--llm` takes them, the latest first."""
    specs = []
    for found in _stored_sets(store, classes, layout, {}):
        if len(found) == len(set(classes)):
            specs.append(spec_of(next(iter(found.values()))[ROUNDS[-1]].identity))
    return list(dict.fromkeys(specs))


def _usable(
    store: DialogueStore, classes: Sequence[str], identity: dict[str, Any]
) -> tuple[list[Exchange], dict[tuple[int, str], Exchange]]:
    """Exchanges of rounds 1 to 5 that were not rejected, and the same by round and the conversation after them."""
    usable = [
        exchange
        for exchange in store.find(class_names=set(classes), rounds=ROUNDS)
        if exchange.rejected is None and all(exchange.identity.get(name) == value for name, value in identity.items())
    ]
    return usable, {(exchange.round, _digest(exchange.identity, exchange.after)): exchange for exchange in usable}


def _first_missing(
    store: DialogueStore, classes: Sequence[str], layout: Layout, identity: dict[str, Any]
) -> dict[str, int]:
    """Class -> the round from which on it has no answers, of classes that have some and not all."""
    usable, after = _usable(store, classes, identity)
    label_set, reached = label_set_id(classes, layout), set()
    first: dict[str, int] = {}
    for exchange in sorted(usable, key=lambda exchange: exchange.round):
        before = after.get((exchange.round - 1, _digest(exchange.identity, exchange.base[:-1])))
        fits = exchange.round != 3 or exchange.label_set == label_set or _asked_for(layout, exchange)
        if fits and (exchange.round == 1 or (before is not None and before.key in reached)):
            reached.add(exchange.key)
            first[exchange.class_name] = max(first.get(exchange.class_name, 1), exchange.round + 1)
    return {name: number for name, number in first.items() if number <= ROUNDS[-1]}


def _stored_sets(
    store: DialogueStore, classes: Sequence[str], layout: Layout, identity: dict[str, Any]
) -> list[dict[str, dict[int, Exchange]]]:
    """Sets of conversations (class -> round -> exchange), each with one backend and one wording of the prompts.

    The sets with most classes come first, and of those the latest.
    """
    usable, after = _usable(store, classes, identity)
    label_set = label_set_id(classes, layout)
    sets: dict[tuple[str, str], dict[str, dict[int, Exchange]]] = {}
    for last in usable:
        if last.round != ROUNDS[-1]:
            continue
        chain = {last.round: last}
        while (number := min(chain)) > 1:
            before = after.get((number - 1, _digest(last.identity, chain[number].base[:-1])))
            if before is None:
                break
            chain[before.round] = before
        # The same class can stand in several label sets, and is asked once: what counts is the joint list it was given.
        if len(chain) == len(ROUNDS) and (last.label_set == label_set or _asked_for(layout, chain[3])):
            found = sets.setdefault((json.dumps(last.identity, sort_keys=True), last.prompt_hash), {})
            if last.class_name not in found or found[last.class_name][last.round].created <= last.created:
                found[last.class_name] = chain
    return sorted(
        sets.values(),
        key=lambda found: (len(found), max(chain[ROUNDS[-1]].created for chain in found.values())),
        reverse=True,
    )


def _asked_for(layout: Layout, exchange: Exchange) -> bool:
    """Whether the question of round 3 gave the joint list of this layout, and not that of a longer one."""
    question, joints = exchange.base[-1]["content"], layout.numbered()
    return joints in question and f"{joints}\n{layout.num_joints + 1}-" not in question


def _digest(identity: dict, messages: Sequence[Message]) -> str:
    return exchange_key(identity, messages)
