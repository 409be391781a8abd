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
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from queue import SimpleQueue
from typing import Any, TypeVar

from . import schemas, selector
from .backends import Answer, Backend, BackendDown, Message, Topic, takes_schema
from .dialogues import DialogueStore
from .errors import BackendError, DialogueError
from .exchanges import Conversation, Exchange, Usage, exchange_key, label_set_id, spec_of
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
    by_fallback: int  # rounds whose answer is the second model's
    usage: Usage  # of the questions asked now
    usage_before: Usage  # of those that the store answered, when they were asked
    missing: tuple[Question, ...] = ()  # of the failed: the first question of a class that the store does not answer

    def reasons(self) -> list[tuple[str, str]]:
        """`failed`, with all rounds that the store lacks."""
        left = {question.class_name: question.rounds_left for question in self.missing}
        return [
            (name, f"not in the store: rounds {', '.join(map(str, left[name]))}" if name in left else reason)
            for name, reason in self.failed
        ]


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
    structured: bool = False  # ask servers to hold the model to a JSON schema
    jobs: int = 1  # questions asked at the same time
    usage: Usage = field(default_factory=Usage)  # of the questions asked
    usage_before: Usage = field(default_factory=Usage)  # of those that the store answered
    by_fallback: int = 0
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

    def ask(self, topic: Topic, history: Sequence[Message], similar: tuple[str, ...] = ()) -> Exchange:
        """The usable exchange of one round.

        Raises `BackendError` where the backend cannot answer, `FormatProblem` where its answers cannot be used.
        """
        values = {"class_name": topic.class_name, "joints": self.layout.numbered()}
        if similar:
            values["similar"] = "\n".join(f"- {name}" for name in similar)
        messages = [*history, {"role": "user", "content": self.prompts.question(topic.round, **values)}]
        try:
            exchange = self._usable(self.first, messages, topic, similar)
        except FormatProblem as problem:
            if self.fallback is None:
                raise
            exchange = self._from_fallback(problem, messages, topic, similar)
        if self.progress:
            self.progress()
        return exchange

    def _from_fallback(
        self, problem: FormatProblem, messages: list[Message], topic: Topic, similar: tuple[str, ...]
    ) -> Exchange:
        """The second model's answer to what the first one refuses."""
        try:
            exchange = self._usable(self.fallback, messages, topic, similar)
        except NotStored:
            raise
        except (BackendError, FormatProblem) as error:
            raise FormatProblem(f"{problem}; {self.fallback.spec} instead: {error}") from None
        with self._lock:
            self.by_fallback += 1
        return exchange

    def _usable(self, asked: Respondent, messages: list[Message], topic: Topic, similar: tuple[str, ...]) -> Exchange:
        """The first answer that can be used; the question is put again with the reason where one cannot.

        A refusal is final where there is a second model to ask.
        """
        for attempt in range(MAX_REASKS + 1):
            exchange = self._exchange(asked, messages, topic, similar, attempt)
            reason = exchange.rejected
            if reason is None:
                return exchange
            if exchange.refused and self.fallback is not None and asked is self.first:
                raise FormatProblem(f"round {topic.round}: {asked.spec} refused ({reason})")
            messages = [
                *messages,
                {"role": "assistant", "content": exchange.answer or "..."},  # some servers take no empty message
                {"role": "user", "content": self.prompts.again(reason)},
            ]
        raise FormatProblem(f"round {topic.round}: the answer does not fit, asked {MAX_REASKS + 1} times: {reason}")

    def _exchange(
        self, asked: Respondent, messages: list[Message], topic: Topic, similar: tuple[str, ...], attempt: int
    ) -> Exchange:
        """One exchange, from the store or from the backend."""
        schemas_of = [(identity, self._schema(identity, topic.round)) for identity in asked.identities]
        for identity, schema in schemas_of:
            stored = self.store.get(exchange_key(identity, messages, schema))
            if stored is not None:
                return self._counted(stored, asked=False)
        if asked.backend is None:
            raise NotStored(Question(topic.class_name, topic.round, tuple(messages), similar))
        identity, schema = schemas_of[0]
        key = exchange_key(identity, messages, schema)
        with self.store.asking(key) as stored:
            if stored is not None:  # another process asked for it
                return self._counted(stored, asked=False)
            with self._turns:
                answer = self._answer(asked.backend, messages, topic, schema)
            text = clean(answer.text)
            if len(text) > MAX_ANSWER:
                raise BackendError(f"{asked.spec} answered with {len(text)} characters: choose another model.")
            repaired, notes = self._judge(topic.round, text, answer.refused, schema is not None, attempt == MAX_REASKS)
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
                details=answer.details,
            )
            return self._counted(self.store.add(exchange), asked=True)

    def _answer(self, backend: Backend, messages: list[Message], topic: Topic, schema: dict | None) -> Answer:
        """What a backend answers; once it is down it is not asked again."""
        if backend.spec in self._down:
            raise BackendDown(str(self._down[backend.spec]))
        try:
            return backend.ask(messages, topic, schema)
        except BackendDown as error:
            self._down[backend.spec] = error
            raise

    def _schema(self, identity: dict, number: int) -> dict | None:
        return schemas.of_round(number, self.layout) if self.structured and takes_schema(identity) else None

    def _counted(self, exchange: Exchange, asked: bool) -> Exchange:
        with self._lock:
            (self.usage if asked else self.usage_before).add(exchange)
            self.seen[exchange.key] = exchange
        return exchange

    def _judge(self, number: int, text: str, refused: str, as_json: bool, last: bool) -> tuple[str, tuple[str, ...]]:
        """(text to use instead, notes) for an answer: it fits, or is rejected, or at last repaired."""
        if refused:
            return "", (f"refused: {refused}",)
        read = schemas.as_text(number, text) if as_json else None  # None too where the server ignored the schema
        plain = text if read is None else read
        try:
            selector.check(number, plain, self.layout)
        except FormatProblem as problem:
            mended = selector.repair(number, plain, self.layout) if last else None
            if mended is None:
                return "", (f"rejected: {problem}",)
            return mended[0], (f"repaired: {mended[1]}, since {problem}",)
        return ("", ()) if read is None else (read, ("read: from JSON",))


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
    fallback: Respondent | None = None,
    structured: bool = False,
) -> DescribeReport:
    """Ask rounds 1 to 5 of every class, `jobs` classes at a time.

    What the backend refuses or answers unusably is asked of `fallback`; later rounds go to the backend again.
    A class whose answers fail does not stop the others, and all answers are kept. `progress(done, total)` counts
    rounds and may be called from any thread. Without a backend, the store alone answers for `identity` (by default
    the backend's own). Raises `BackendError` where no question can be asked at all.
    """
    done = iter(range(1, len(classes) * len(ROUNDS) + 1))  # next() of it is atomic
    step = (lambda: progress(next(done), len(classes) * len(ROUNDS))) if progress else None
    label_set = label_set_id(classes, layout)
    first = Respondent(backend, [] if identity is None else [identity])
    _ = first.identities  # a backend without one can be asked nothing
    interview = Interview(first, store, prompts, layout, label_set, step, fallback, structured, jobs)

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
        by_fallback=interview.by_fallback,
        usage=interview.usage,
        usage_before=interview.usage_before,
        missing=tuple(result.question for result in results if isinstance(result, NotStored)),
    )


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
    errors = []
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
    best = sets[0][1] if sets else {}
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
    specs = [
        spec_of(owner) for owner, found in _stored_sets(store, classes, layout, {}) if len(found) == len(set(classes))
    ]
    return list(dict.fromkeys(specs))


def unusable_before(store: DialogueStore, used: Collection[Exchange]) -> list[Exchange]:
    """Stored answers to the same questions as `used` that could not be used: what led to those cannot be replayed
    without them."""
    questions = {_digest({}, exchange.base) for exchange in used}
    found = store.find(class_names={item.class_name for item in used}, rounds={item.round for item in used})
    return [item for item in found if item.rejected is not None and _digest({}, item.base) in questions]


def _usable(
    store: DialogueStore, classes: Sequence[str], identity: dict[str, Any]
) -> tuple[list[tuple[dict[str, Any], Exchange]], dict[tuple[int, str], Exchange]]:
    """Exchanges of rounds 1 to 5 that can be used, each with the identity of the backend whose conversation it belongs
    to, and the same by round and the conversation after them."""
    usable = [
        (owner, exchange)
        for owner, exchange in _with_owners(store.find(class_names=set(classes), rounds=ROUNDS))
        if all(owner.get(name) == value for name, value in identity.items())
    ]
    return usable, {(exchange.round, _digest(owner, exchange.after)): exchange for owner, exchange in usable}


def _first_missing(
    store: DialogueStore, classes: Sequence[str], layout: Layout, identity: dict[str, Any]
) -> dict[str, int]:
    """Class -> the round from which on it has no answers, of classes that have some and not all."""
    usable, after = _usable(store, classes, identity)
    label_set, reached = label_set_id(classes, layout), set()
    first: dict[str, int] = {}
    for owner, exchange in sorted(usable, key=lambda item: item[1].round):
        before = after.get((exchange.round - 1, _digest(owner, exchange.base[:-1])))
        fits = exchange.round != 3 or exchange.label_set == label_set or _asked_for(layout, exchange)
        if fits and (exchange.round == 1 or (before is not None and before.key in reached)):
            reached.add(exchange.key)
            first[exchange.class_name] = max(first.get(exchange.class_name, 1), exchange.round + 1)
    return {name: number for name, number in first.items() if number <= ROUNDS[-1]}


def _stored_sets(
    store: DialogueStore, classes: Sequence[str], layout: Layout, identity: dict[str, Any]
) -> list[tuple[dict[str, Any], dict[str, dict[int, Exchange]]]]:
    """Sets of conversations (class -> round -> exchange), each with one backend and one wording of the prompts.

    Each comes with its backend's identity; the sets with most classes first, and of those the latest.
    """
    usable, after = _usable(store, classes, identity)
    label_set = label_set_id(classes, layout)
    sets: dict[tuple[str, str], dict[str, dict[int, Exchange]]] = {}
    for owner, last in usable:
        if last.round != ROUNDS[-1]:
            continue
        chain = {last.round: last}
        while (number := min(chain)) > 1:
            before = after.get((number - 1, _digest(owner, chain[number].base[:-1])))
            if before is None:
                break
            chain[before.round] = before
        # The same class can stand in several label sets, and is asked once: what counts is the joint list it was given.
        if len(chain) == len(ROUNDS) and (last.label_set == label_set or _asked_for(layout, chain[3])):
            found = sets.setdefault((json.dumps(owner, sort_keys=True), last.prompt_hash), {})
            if last.class_name not in found or found[last.class_name][last.round].created <= last.created:
                found[last.class_name] = chain
    latest_first = sorted(
        sets.items(),
        key=lambda item: (len(item[1]), max(chain[ROUNDS[-1]].created for chain in item[1].values())),
        reverse=True,
    )
    return [(json.loads(owner), found) for (owner, _), found in latest_first]


def _with_owners(exchanges: Sequence[Exchange]) -> list[tuple[dict[str, Any], Exchange]]:
    """The usable exchanges, each with the identity of the backend whose conversation it belongs to.

    A question that a backend refused or answered unusably is followed by a second model's answer to the same
    messages, the latest where there are several; that one belongs to both.
    """
    owned = [(exchange.identity, exchange) for exchange in exchanges if exchange.rejected is None]
    unusable = [exchange for exchange in exchanges if exchange.rejected is not None]
    concerned = {(exchange.class_name, exchange.round) for exchange in unusable}
    answers: dict[str, list[Exchange]] = {}  # by their question
    for _, exchange in owned:
        if (exchange.class_name, exchange.round) in concerned:
            answers.setdefault(_digest({}, exchange.base), []).append(exchange)
    followed = set()
    for exchange in unusable:
        question = _digest({}, exchange.base)
        given = answers.get(question, [])
        mark = _digest(exchange.identity, exchange.base)
        if given and mark not in followed and all(answer.identity != exchange.identity for answer in given):
            owned.append((exchange.identity, max(given, key=lambda answer: answer.created)))
            followed.add(mark)
    return owned


def _asked_for(layout: Layout, exchange: Exchange) -> bool:
    """Whether the question of round 3 gave the joint list of this layout, and not that of a longer one."""
    question, joints = exchange.base[-1]["content"], layout.numbered()
    return joints in question and f"{joints}\n{layout.num_joints + 1}-" not in question


def _digest(identity: dict, messages: Sequence[Message]) -> str:
    return exchange_key(identity, messages)
