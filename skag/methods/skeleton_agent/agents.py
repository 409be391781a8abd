"""Questioner and Selector as training sees them: class knowledge and its embeddings, which change at refreshes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ... import runs, text
from ...backends.contradictions import Witness
from ...dialogue.exchanges import Conversation, Exchange
from ...dialogue.interview import Question
from ...dialogue.transfer import to_line
from ...skeleton.layouts import Layout
from . import class_knowledge, selector
from .class_knowledge import ClassKnowledge
from .config import AgentConfig
from .questioner import (
    DISTINCTION_ROUND,
    RefreshAnswers,
    by_errors,
    by_gain,
    not_yet_asked,
    release_similar_classes,
    similar_classes,
)

REFRESHES = "refreshes.jsonl"  # of a run folder
Embed = Callable[[list[str]], np.ndarray]  # n sentences -> float32 [n, D]
Ask = Callable[[Sequence[Conversation], dict[int, tuple[int, ...]], int | None], RefreshAnswers]
INACTIVE_TEXT_WIDTH = 8  # of the unused embedding head where no agent takes part


@dataclass(frozen=True)
class Reading:
    """What the Selector reads in the conversations."""

    joints: np.ndarray  # uint8 [K, V], the critical joints
    sentences: list[str]  # what distinguishes every class
    text_vectors: np.ndarray  # float32 [K, D], the embedded sentences


@dataclass(frozen=True)
class PendingRefresh:
    """A refresh whose answers are not complete yet."""

    epoch: int  # the counts were taken in
    confusions: np.ndarray  # [K, K]
    similar: dict[int, tuple[int, ...]]  # of all classes that are confused
    started: float  # by `time.perf_counter`
    answers: Future[tuple[RefreshAnswers, Reading]]
    effective: int = 0  # the first epoch that may use the answers


@dataclass
class Agents:
    """The two agents of one run.

    `ask` puts round 6 to a language model, `embed` is the frozen text encoder. Without conversations the
    agents are inactive: every joint is critical and no sentence is known.

    A refresh begins with the confusions of an epoch (`begin_refresh`), is asked by a thread of its own, and is taken
    over when its answers are complete (`finish_refresh`). There is at most one on its way.
    """

    config: AgentConfig
    layout: Layout
    num_classes: int
    conversations: tuple[Conversation, ...] = ()
    ask: Ask | None = None
    embed: Embed | None = None
    answers_late: bool = False  # a server answers: it is not waited for, unless the configuration says so
    open_tower: Callable[[], tuple[Any, Any]] | None = None  # the text encoder to be trained along, and its tokeniser
    num_refreshes: int = 0
    num_asked: int = 0
    num_queries: int = 0  # questions of the refreshes, whoever answered: what `max_questions` limits
    llm: str = ""  # who described the classes and answers round 6
    missing: list[Question] = field(default_factory=list)  # offline: what the store did not answer
    shuffled: bool = False  # control: every class is given another one's joints and sentence
    pending: PendingRefresh | None = None
    recorded: dict[int, dict[str, Any]] = field(default_factory=dict)  # refreshes to be repeated, by epoch
    repeats: bool = False  # nobody is asked: only what is recorded happens
    witness: Witness | None = None  # the training clips, where what they contradict is left out
    told_apart: Callable[[int, int], float] | None = None  # of two classes, where that orders questions
    names: tuple[str, ...] = ()  # of the classes, where the alignment is with these
    sentences: list[str] = field(init=False)  # what distinguishes every class, as the dialogue has it now
    text_vectors: np.ndarray = field(init=False)  # float32 [K, D], the embedded sentences
    joints: np.ndarray = field(init=False)  # uint8 [K, V], the critical joints
    exchanges: dict[str, Exchange] = field(init=False)  # everything that shaped the run, by key

    def __post_init__(self) -> None:
        used = [exchange for c in self.conversations for exchange in c.exchanges.values()]
        self.exchanges = {exchange.key: exchange for exchange in used}
        self.joints = np.ones((self.num_classes, self.layout.num_joints), np.uint8)
        self.text_vectors = np.zeros((self.num_classes, INACTIVE_TEXT_WIDTH), np.float32)
        self.sentences = []
        if self.conversations:
            self._use(self._read(self.conversations))
        elif self.names:
            self.sentences = self._sentences(())
            if self.open_tower is None:
                self.text_vectors = self._vectors(())

    @property
    def active(self) -> bool:
        return bool(self.conversations)

    @property
    def text_width(self) -> int:
        return self.text_vectors.shape[1]

    @property
    def snapshot(self) -> dict[str, Any]:
        """What the network is trained with, for processes that have no agents of their own."""
        return {name: getattr(self, name) for name in ("joints", "sentences", "text_vectors", "open_tower")}

    def use_snapshot(self, snapshot: dict[str, Any]) -> None:
        """Take another process's snapshot over."""
        for name, value in snapshot.items():
            setattr(self, name, value)

    def most_questions(self, epochs: int) -> tuple[int, int]:
        """(refreshes of a training of so many epochs, classes that each can ask about)."""
        return ((epochs - 1) // self.config.query_period if self.active else 0), self.num_classes

    def begin_run(self, run: Path) -> None:
        """Write down what a new run begins with."""
        self.write_dialogues(run)
        if self.active:
            class_knowledge.append(run, 0, self.class_knowledge())

    def write_dialogues(self, run: Path) -> None:
        """Write the exchanges that have shaped the run until now."""
        runs.write_lines(run / runs.DIALOGUES, map(to_line, self.exchanges.values()))

    def class_knowledge(self) -> dict[str, ClassKnowledge]:
        """What the network is trained with now, by class."""
        return {
            each.class_name: ClassKnowledge(
                self.sentences[k],
                tuple(self._joint_names(self.joints[k])),
                {number: exchange.key for number, exchange in sorted(each.exchanges.items())},
            )
            for k, each in enumerate(self.conversations)
        }

    def mask(self, stream: str) -> np.ndarray:
        """The constraint's joints as a stream sees them, float32 `[K, V]`: 1 where critical, else 0."""
        published = self.config.bone_masks == "release"
        return self.layout.stream_mask(self.joints, stream, published).astype(np.float32)

    def _read(self, conversations: Sequence[Conversation]) -> Reading:
        """Let the Selector read all conversations anew."""
        with_distinctions = self.config.joints_from_distinctions
        joints = selector.critical_mask(conversations, self.layout, with_distinctions=with_distinctions)
        if self.witness is not None:
            joints = selector.without_contradicted_joints(joints, conversations, self.witness)
        sentences = self._sentences(conversations)
        # Nobody looks at the vectors without an alignment; a text encoder that is trained along makes its own.
        used = self.config.beta and (self.open_tower is None or not self.sentences)
        vectors = self._vectors(conversations) if used else self.text_vectors
        return Reading(joints[self._given], sentences, vectors)

    def _vectors(self, conversations: Sequence[Conversation]) -> np.ndarray:
        """The vectors of what the classes are aligned with, `[K, D]`."""
        assert self.embed is not None  # who has an alignment is given it
        return self.embed(self._texts(conversations))[self._given]

    def _texts(self, conversations: Sequence[Conversation]) -> list[str]:
        return list(map(text.words_of, self.names)) if self.names else selector.sentences(conversations, self.witness)

    @property
    def _given(self) -> np.ndarray:
        """`[K]`, whose answers every class is given: its own, or those of the class half of all classes on."""
        return np.roll(np.arange(self.num_classes), self.num_classes // 2 if self.shuffled else 0)

    def _sentences(self, conversations: Sequence[Conversation]) -> list[str]:
        found = self._texts(conversations)
        return [found[k] for k in self._given]

    def _use(self, reading: Reading) -> None:
        self.joints, self.sentences, self.text_vectors = reading.joints, reading.sentences, reading.text_vectors

    def begin_refresh(self, confusions: np.ndarray, epoch: int) -> None:
        """Let a thread ask what separates the classes confused in `confusions` `[K, K]`, those confused most first.

        A class whose similar classes are those that its distinction was asked against is not asked about again. A
        refresh that is `recorded` for this epoch is repeated: nobody is asked.
        """
        started, confusions = time.perf_counter(), np.array(confusions)  # a copy: training goes on counting
        if self.config.confusion_rule == "release":
            similar = release_similar_classes(confusions, self.config.max_similar)
        else:
            similar = similar_classes(confusions, self.config.max_similar, self.config.min_confusions)
        conversations, answers = self.conversations, Future[tuple[RefreshAnswers, Reading]]()
        if epoch in self.recorded:
            record = self.recorded[epoch]
            result = self._as_recorded(record)
            answers.set_result((result, self._read(result.conversations)))
            self.pending = PendingRefresh(epoch, confusions, similar, started, answers, record["effective"])
            return
        if self.repeats:
            return
        if self.told_apart is None:
            similar_first = by_errors(confusions, similar)
        else:
            similar_first = by_gain(confusions, similar, self.told_apart)
        to_ask = not_yet_asked(similar_first, conversations)
        budget = self.config.max_questions
        left = None if budget is None else max(0, budget - self.num_queries)

        def work() -> None:
            try:
                assert self.ask is not None  # who has conversations is given it, unless it repeats a run
                result = self.ask(conversations, to_ask, left)
                answers.set_result((result, self._read(result.conversations)))
            except BaseException as error:
                answers.set_exception(error)

        self.pending = PendingRefresh(epoch, confusions, similar, started, answers)
        threading.Thread(target=work, daemon=True).start()

    def finish_refresh(self, effective: int, patience: float | None = None) -> dict[str, Any] | None:
        """Take the answers over, from epoch `effective` on, if they come within `patience` seconds (None: however
        long it takes). Returns the record of the refresh; None where there is none, or it is still on its way."""
        if self.pending is None or effective < self.pending.effective:
            return None
        if not wait([self.pending.answers], patience).done:
            return None
        pending, self.pending = self.pending, None
        result, reading = pending.answers.result()
        joints, sentences = self.joints, self.sentences
        self.conversations = result.conversations
        self.exchanges |= {exchange.key: exchange for exchange in (*result.consulted, *result.exchanges)}
        self.num_refreshes += 1
        self.num_asked += result.asked
        self.num_queries += result.asked + result.cached
        self.missing += result.missing
        self._use(reading)
        names = [conversation.class_name for conversation in self.conversations]
        changed = [
            names[k]
            for k in range(self.num_classes)
            if sentences[k] != self.sentences[k] or (joints[k] != self.joints[k]).any()
        ]
        counts = pending.confusions
        true, predicted = np.nonzero(counts)
        return {
            "epoch": pending.epoch,
            "effective": effective,
            "similar": {names[m]: [names[n] for n in others] for m, others in pending.similar.items()},
            "asked": result.asked,
            "cached": result.cached,
            "failed": [list(failure) for failure in result.failed],
            "over_budget": list(result.over_budget),
            "exchanges": [exchange.key for exchange in result.exchanges],
            "num_classes": self.num_classes,
            "confusions": [[int(m), int(n), int(counts[m, n])] for m, n in zip(true, predicted, strict=True)],
            "changed": changed,
            "seconds": round(time.perf_counter() - pending.started, 3),
        }

    def repeat(self, records: Sequence[dict[str, Any]], exchanges: Mapping[str, Exchange], only: bool = False) -> None:
        """Let the refreshes of `records` happen again in their epochs, with their answers (of
        `exchanges`, by key), and take effect when they did; with `only` nothing else is asked. Raises `KeyError` for
        an answer that is not there."""
        self.exchanges |= {key: exchanges[key] for record in records for key in record["exchanges"]}
        self.recorded, self.repeats = {record["epoch"]: record for record in records}, only

    def _as_recorded(self, record: dict[str, Any]) -> RefreshAnswers:
        answers = [self.exchanges[key] for key in record["exchanges"]]
        by_class = {exchange.class_name: exchange for exchange in answers}
        conversations = tuple(
            replace(each, exchanges=each.exchanges | {DISTINCTION_ROUND: by_class[each.class_name]})
            if each.class_name in by_class
            else each
            for each in self.conversations
        )
        failed = tuple((name, reason) for name, reason in record["failed"])
        put = record["asked"] + record["cached"]
        return RefreshAnswers(conversations, tuple(answers), 0, put, failed, over_budget=tuple(record["over_budget"]))

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on: plain values, and arrays under "text" and "joints"."""
        return {
            "used": [{n: exchange.key for n, exchange in c.exchanges.items()} for c in self.conversations],
            "num_refreshes": self.num_refreshes,
            "num_asked": self.num_asked,
            "num_queries": self.num_queries,
            "text": self.text_vectors,
            "joints": self.joints,
            "pending": None if self.pending is None else self.pending.epoch,
            "confusions": np.zeros(0, np.int64) if self.pending is None else self.pending.confusions,
        }

    def restore(self, state: dict[str, Any], exchanges: dict[str, Exchange]) -> None:
        """Go on from a `state`, with the run's `exchanges` by key; what was on its way is asked again.

        Raises `KeyError` for an exchange that is not there.
        """
        self.conversations = tuple(
            replace(conversation, exchanges={n: exchanges[key] for n, key in used.items()})
            for conversation, used in zip(self.conversations, state["used"], strict=True)
        )
        self.exchanges = {**exchanges, **self.exchanges}  # in the order in which they were used
        self.num_refreshes, self.num_asked = state["num_refreshes"], state["num_asked"]
        self.num_queries = state["num_queries"]
        self.text_vectors, self.joints = state["text"], state["joints"]
        self.sentences = self._sentences(self.conversations)
        if state["pending"] is not None:
            self.begin_refresh(state["confusions"], state["pending"])

    def _joint_names(self, mask_V: np.ndarray) -> list[str]:
        return [self.layout.joints[v] for v in np.flatnonzero(mask_V)]
