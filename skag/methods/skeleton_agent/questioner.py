"""The Questioner: which classes the recogniser takes for one another, and what a language model says of that.

Numpy only: it is handed counts and gives back conversations, and knows nothing of networks or training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...backends import Backend, Topic
from ...dialogue.exchanges import Conversation, Exchange, label_set_id
from ...dialogue.formats import FormatProblem
from ...dialogue.interview import MAX_REASKS, BudgetSpent, Interview, NotStored, Question, Respondent, in_parallel
from ...dialogue.prompts import Prompts
from ...dialogue.store import DialogueStore
from ...errors import BackendError
from ...skeleton.layouts import Layout
from .script import DISTINCTION, SCRIPT

DISTINCTION_ROUND = DISTINCTION.number


@dataclass(frozen=True)
class RefreshAnswers:
    """What came of asking round 6."""

    conversations: tuple[Conversation, ...]  # of all classes; a class that failed keeps its previous distinction
    exchanges: tuple[Exchange, ...]  # the round 6 exchanges of this refresh, in the order of `similar`
    asked: int  # questions that a backend answered, those asked again included
    cached: int  # questions that the store answered
    failed: tuple[tuple[str, str], ...]  # (class name, reason)
    missing: tuple[Question, ...] = ()  # of the failed: what the store does not answer, where nobody may be asked
    consulted: tuple[Exchange, ...] = ()  # `exchanges`, and those whose answers did not fit
    over_budget: tuple[str, ...] = ()  # classes that were not asked about, since the budget is spent; not in `failed`


def similar_classes(confusion: np.ndarray, k: int = 10, min_confusions: int = 1) -> dict[int, tuple[int, ...]]:
    """The similar classes of every class that is confused at all (paper eq. 3).

    `confusion` `[K, K]` counts class m (row) predicted as n (column). For each m the at most `k` classes n != m with
    the highest counts, at least `min_confusions`, most frequent first, ties by index.
    """
    counts = np.array(confusion, np.int64)
    np.fill_diagonal(counts, 0)
    found = {}
    for index, row in enumerate(counts):
        order = np.argsort(-row, kind="stable")[:k]
        similar = tuple(int(other) for other in order if row[other] >= max(min_confusions, 1))
        if similar:
            found[index] = similar
    return found


def release_similar_classes(confusion: np.ndarray, k: int = 10) -> dict[int, tuple[int, ...]]:
    """The similar classes as the published code chooses them: for every class the `k` highest of its counts `[K, K]`,
    zero counts and the class itself among them, ties by index, then in the order of their indices."""
    ranked = np.argsort(-np.asarray(confusion, np.int64), axis=1, kind="stable")[:, :k]
    return {index: tuple(sorted(row.tolist())) for index, row in enumerate(ranked)}


def not_yet_asked(
    similar: Mapping[int, Sequence[int]], conversations: Sequence[Conversation]
) -> dict[int, tuple[int, ...]]:
    """Of `similar` (class -> similar classes) those whose distinction so far was not asked against the same set."""
    found = {}
    for index, others in similar.items():
        last = conversations[index].exchanges.get(DISTINCTION_ROUND)
        if last is None or set(last.similar) != {conversations[other].class_name for other in others}:
            found[index] = tuple(others)
    return found


def by_errors(confusion: np.ndarray, similar: Mapping[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """`similar` in the order of the classes' errors in `confusion` `[K, K]`, most first."""
    errors = confusion.sum(1) - confusion.diagonal()
    return {m: similar[m] for m in sorted(similar, key=lambda m: -errors[m])}


def by_gain(
    confusion: np.ndarray, similar: Mapping[int, tuple[int, ...]], told_apart: Callable[[int, int], float]
) -> dict[int, tuple[int, ...]]:
    """`similar` in the order of the errors of `confusion` `[K, K]` that an answer could mend, most first: a pair's
    errors times what share of its clips something measured tells apart, added up over the similar classes."""
    gain = {m: sum(confusion[m, n] * told_apart(m, n) for n in others) for m, others in similar.items()}
    return {m: similar[m] for m in sorted(similar, key=lambda m: -gain[m])}


def ask_distinctions(
    backend: Backend | None,
    store: DialogueStore,
    conversations: Sequence[Conversation],
    similar: Mapping[int, Sequence[int]],
    layout: Layout,
    prompts: Prompts,
    *,
    identities: Sequence[dict] = (),
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
    fallback: Respondent | None = None,
    budget: int | None = None,
    measured: Callable[[int, Sequence[int]], str] | None = None,
) -> RefreshAnswers:
    """Ask round 6 for the classes of `similar` (class -> similar classes), in that order, after their rounds 1 to 5.

    `conversations` holds all classes in their order. What the backend refuses or answers unusably is asked of
    `fallback`. Without a backend the store alone answers, by any of `identities`. With a `budget` at most so many
    questions are put; those that the store answers count too, and where it could be spent one class comes after the
    other, so that what it leaves out depends on neither the store nor `jobs`. `measured` says what the recordings show
    of a class against its similar ones, which the prompts then have a place for. Trouble with the backend or its
    answers is reported in `failed`, never raised: training goes on with what there is.
    """
    done = iter(range(1, len(similar) + 1))
    step = (lambda: progress(next(done), len(similar))) if progress else None
    names = [conversation.class_name for conversation in conversations]
    first = Respondent(backend, identities)
    try:
        _ = first.identities
    except BackendError as error:
        failed = tuple((names[index], str(error)) for index in similar)
        return RefreshAnswers(tuple(conversations), (), 0, 0, failed)
    label_set = label_set_id(names, layout)
    if budget is not None and budget < len(similar) * (MAX_REASKS + 1) * (1 if fallback is None else 2):
        jobs = 1
    interview = Interview(first, store, prompts, layout, label_set, step, fallback, jobs=jobs, budget=budget)

    def one(index: int) -> Exchange | BackendError | FormatProblem:
        others = tuple(int(other) for other in similar[index])
        topic = Topic(index, names[index], DISTINCTION_ROUND, DISTINCTION.kind, others)
        history = conversations[index].exchanges[SCRIPT.last.number].after
        facts = {} if measured is None else {"measured": measured(index, others)}
        try:
            return interview.ask(topic, history, tuple(names[other] for other in others), **facts)
        except (BackendError, FormatProblem) as error:
            return error

    results = dict(zip(similar, in_parallel(one, similar, jobs), strict=True))
    order = {names[index]: place for place, index in enumerate(similar)}  # threads finish in any order
    consulted = sorted(interview.seen.values(), key=lambda exchange: (order[exchange.class_name], exchange.attempt))
    updated = list(conversations)
    for index, result in results.items():
        if isinstance(result, Exchange):
            exchanges = {**updated[index].exchanges, DISTINCTION_ROUND: result}
            updated[index] = replace(updated[index], exchanges=exchanges)
    over_budget = {i for i, result in results.items() if isinstance(result, BudgetSpent)}
    return RefreshAnswers(
        conversations=tuple(updated),
        exchanges=tuple(result for result in results.values() if isinstance(result, Exchange)),
        asked=interview.asked,
        cached=interview.cached,
        failed=tuple(
            (names[i], str(result))
            for i, result in results.items()
            if not isinstance(result, Exchange) and i not in over_budget
        ),
        missing=tuple(result.question for result in results.values() if isinstance(result, NotStored)),
        consulted=tuple(consulted),
        over_budget=tuple(names[i] for i in results if i in over_budget),
    )
