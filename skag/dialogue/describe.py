"""The rounds before training: what every action looks like, asked once per class as one conversation, and found
again."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..backends import Backend, Message, Topic
from ..backends.measured import MeasuredBackend
from ..errors import BackendError, DialogueError
from ..plural import counted
from ..skeleton.layouts import Layout
from .exchanges import Conversation, Exchange, Usage, exchange_key, label_set_id, spec_of
from .formats import FormatProblem
from .interview import MAX_ANEW, Interview, NotStored, Question, Respondent, in_parallel
from .prompts import Prompts
from .script import Script
from .store import DialogueStore


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
    structured: bool | None = None,
) -> DescribeReport:
    """Ask the rounds before training of every class, `jobs` classes at a time.

    What the backend refuses or answers unusably is asked of `fallback`; later rounds go to the backend again.
    A class whose answers fail does not stop the others, and all answers are kept; the next time its question is put
    anew, `MAX_ANEW` times at most. `progress(done, total)` counts
    rounds and may be called from any thread. Without a backend, the store alone answers for `identity` (by default
    the backend's own). Raises `BackendError` where no question can be asked at all.
    """
    rounds = prompts.script.rounds
    done = iter(range(1, len(classes) * len(rounds) + 1))  # next() of it is atomic
    step = (lambda: progress(next(done), len(classes) * len(rounds))) if progress else None
    label_set = label_set_id(classes, layout)
    first = Respondent(backend, [] if identity is None else [identity])
    _ = first.identities  # a backend without one can be asked nothing
    interview = Interview(first, store, prompts, layout, label_set, step, fallback, structured, jobs, MAX_ANEW)

    def one(index: int) -> Conversation | BackendError | FormatProblem:
        history: tuple[Message, ...] = ({"role": "system", "content": prompts.system()},)
        exchanges = {}
        try:
            for each in rounds:
                exchanges[each.number] = interview.ask(Topic(index, classes[index], each.number, each.kind), history)
                history = exchanges[each.number].after
        except (BackendError, FormatProblem) as error:
            return error
        return Conversation(index, classes[index], exchanges)

    results = in_parallel(one, range(len(classes)), jobs)
    return DescribeReport(
        classes=len(classes),
        rounds=len(rounds),
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


def describe_measured(
    backend: Backend,
    store: DialogueStore,
    classes: Sequence[str],
    layout: Layout,
    prompts: Prompts,
    jobs: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> str:
    """Have `measured` answer the rounds before training that nobody has asked it for yet: it takes seconds and no
    server. What was done in one line, or "" where every answer was there; `progress(what, done, total)` tells of it."""
    asked = None
    if progress is not None:
        asked = partial(progress, "describing the classes")
        if isinstance(backend, MeasuredBackend):
            backend.progress = partial(progress, "measuring the classes' motion")
    report = describe(backend, store, classes, layout, prompts, jobs=jobs, progress=asked)
    if not report.asked:
        return ""
    described, questions = counted(len(classes), "class"), counted(report.asked, "question")
    return f"{described} described by `measured`, from their training clips: {questions} answered."


# ---- from the store alone


def load(
    store: DialogueStore,
    classes: Sequence[str],
    layout: Layout,
    script: Script,
    *,
    identity: dict[str, Any] | None = None,
    command: str = "skag describe DATA.h5 --llm BACKEND/MODEL",
) -> tuple[Conversation, ...]:
    """The rounds before training of all classes from the store, in class order; asks nobody.

    `identity` narrows the choice to backends with these values, such as `{"backend": "ollama", "model": "llama3.2"}`
    or a whole `Backend.identity()`; of several complete sets the one answered last is taken. Raises `DialogueError`
    that names all missing classes, and the `command` that has them described.
    """
    sets = _stored_sets(store, classes, layout, script, identity or {})
    best = sets[0][1] if sets else {}
    if missing := [name for name in classes if name not in best]:
        first = _first_missing(store, classes, layout, script, identity or {})
        names = ", ".join(f"{name!r} from round {first[name]} on" if name in first else repr(name) for name in missing)
        by = f" by {spec_of(identity)}" if identity and "backend" in identity else ""
        raise DialogueError(
            f"{store.path} lacks {script.span}{by} of {len(missing)} of {len(classes)} classes ({names}): "
            f"run `{command}`."
        )
    return tuple(Conversation(index, name, best[name]) for index, name in enumerate(classes))


def described_with(store: DialogueStore, classes: Sequence[str], layout: Layout, script: Script) -> list[str]:
    """Backends that have described all of the classes, as `--llm` takes them, the latest first."""
    sets = _stored_sets(store, classes, layout, script, {})
    specs = [spec_of(owner) for owner, found in sets if len(found) == len(set(classes))]
    return list(dict.fromkeys(specs))


def begun_by(store: DialogueStore, classes: Sequence[str], script: Script) -> str:
    """Who has answered some questions about the classes, the latest; "" where nobody has, or `measured` alone."""
    found = store.find(class_names=set(classes), rounds=script.numbers)
    return next((spec for each in reversed(found) if (spec := spec_of(each.identity)) != "measured"), "")


def unusable_before(store: DialogueStore, used: Collection[Exchange]) -> list[Exchange]:
    """Stored answers to the same questions as `used` that could not be used: what led to those cannot be replayed
    without them."""
    questions = {_digest({}, exchange.base) for exchange in used}
    found = store.find(class_names={item.class_name for item in used}, rounds={item.round for item in used})
    return [item for item in found if item.rejected is not None and _digest({}, item.base) in questions]


def _usable(
    store: DialogueStore, classes: Sequence[str], script: Script, identity: dict[str, Any]
) -> tuple[list[tuple[dict[str, Any], Exchange]], dict[tuple[int, str], Exchange]]:
    """Exchanges of the rounds before training that can be used, each with the identity of the backend whose
    conversation it belongs to, and the same by round and the conversation after them."""
    usable = [
        (owner, exchange)
        for owner, exchange in _with_owners(store.find(class_names=set(classes), rounds=script.numbers))
        if all(owner.get(name) == value for name, value in identity.items())
    ]
    return usable, {(exchange.round, _digest(owner, exchange.after)): exchange for owner, exchange in usable}


def _first_missing(
    store: DialogueStore, classes: Sequence[str], layout: Layout, script: Script, identity: dict[str, Any]
) -> dict[str, int]:
    """Class -> the round from which on it has no answers, of classes that have some and not all."""
    usable, after = _usable(store, classes, script, identity)
    label_set, reached = label_set_id(classes, layout), set()
    done: dict[str, int] = {}  # class -> rounds that follow one another from the first on
    for owner, exchange in sorted(usable, key=lambda item: script.numbers.index(item[1].round)):
        earlier = script.before(exchange.round)
        before = None if earlier is None else after.get((earlier, _digest(owner, exchange.base[:-1])))
        fits = script[exchange.round] != script.lists_joints or exchange.label_set == label_set
        if (fits or _asked_for(layout, exchange)) and (
            earlier is None or (before is not None and before.key in reached)
        ):
            reached.add(exchange.key)
            done[exchange.class_name] = max(done.get(exchange.class_name, 0), script.numbers.index(exchange.round) + 1)
    return {name: script.numbers[count] for name, count in done.items() if count < len(script.numbers)}


def _stored_sets(
    store: DialogueStore, classes: Sequence[str], layout: Layout, script: Script, identity: dict[str, Any]
) -> list[tuple[dict[str, Any], dict[str, dict[int, Exchange]]]]:
    """Sets of conversations (class -> round -> exchange), each with one backend and one wording of the prompts.

    Each comes with its backend's identity; the sets with most classes first, and of those the latest.
    """
    usable, after = _usable(store, classes, script, identity)
    label_set = label_set_id(classes, layout)
    sets: dict[tuple[str, str], dict[str, dict[int, Exchange]]] = {}
    for owner, last in usable:
        if last.round != script.last.number:
            continue
        chain, link = {last.round: last}, last
        while (earlier := script.before(link.round)) is not None:
            before = after.get((earlier, _digest(owner, link.base[:-1])))
            if before is None:
                break
            chain[earlier] = link = before
        # The same class can stand in several label sets, and is asked once: what counts is the joint list it was given.
        lists = script.lists_joints
        if len(chain) == len(script.rounds) and (
            lists is None or last.label_set == label_set or _asked_for(layout, chain[lists.number])
        ):
            found = sets.setdefault((json.dumps(owner, sort_keys=True), last.prompt_hash), {})
            if last.class_name not in found or found[last.class_name][last.round].created <= last.created:
                found[last.class_name] = chain
    latest_first = sorted(
        sets.items(),
        key=lambda item: (len(item[1]), max(chain[script.last.number].created for chain in item[1].values())),
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
    """Whether the question gave the joint list of this layout, and not that of a longer one."""
    question, joints = exchange.base[-1]["content"], layout.numbered()
    return joints in question and f"{joints}\n{layout.num_joints + 1}-" not in question


def _digest(identity: dict, messages: Sequence[Message]) -> str:
    return exchange_key(identity, messages)
