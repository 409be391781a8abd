"""Questioner and Selector as the training loop sees them: masks and sentence embeddings that change at refreshes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ... import runs, text
from ...backends import open_backend, open_fallback
from ...backends.base import TIMEOUT
from ...backends.names import LanguageModel
from ...config import AgentConfig
from ...dialogue.describe import described_with, load, unusable_before
from ...dialogue.exchanges import Conversation, Exchange
from ...dialogue.interview import Question, Respondent
from ...dialogue.prompts import load_prompts
from ...dialogue.replay import identities_of
from ...dialogue.store import DialogueStore, check_apart
from ...dialogue.text_folders import load_imported
from ...dialogue.transfer import read_lines
from ...errors import DialogueError, RunError
from ...skeleton.layouts import Layout
from ...skeleton.store import SkeletonStore
from . import selector
from .questioner import (
    DISTINCTION_ROUND,
    Refresh,
    ask_distinctions,
    not_yet_told,
    release_similar_classes,
    similar_classes,
)
from .script import SCRIPT

Embed = Callable[[list[str]], np.ndarray]  # n sentences -> float32 [n, D]
Ask = Callable[[Sequence[Conversation], dict[int, tuple[int, ...]], int | None], Refresh]
INACTIVE_TEXT_WIDTH = 8  # of the unused embedding head where no agent takes part


@dataclass(frozen=True)
class Reading:
    """What the Selector reads in the conversations."""

    joints: np.ndarray  # uint8 [K, V], the critical joints
    sentences: list[str]  # what distinguishes every class
    text: np.ndarray  # float32 [K, D], the embedded sentences


@dataclass(frozen=True)
class Asking:
    """A refresh on its way."""

    epoch: int  # the counts were taken in
    confusions: np.ndarray  # [K, K]
    similar: dict[int, tuple[int, ...]]  # of all classes that are confused
    started: float  # by `time.perf_counter`
    answers: Future[tuple[Refresh, Reading]]
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
    num_put: int = 0  # questions of the refreshes, whoever answered: what `max_questions` limits
    llm: str = ""  # who described the classes and answers round 6
    missing: list[Question] = field(default_factory=list)  # offline: what the store did not answer
    on_its_way: Asking | None = None
    recorded: dict[int, dict[str, Any]] = field(default_factory=dict)  # refreshes to be repeated, by epoch
    repeats: bool = False  # nobody is asked: only what is recorded happens
    sentences: list[str] = field(init=False)  # what distinguishes every class, as the dialogue has it now
    text: np.ndarray = field(init=False)  # float32 [K, D], the embedded sentences
    joints: np.ndarray = field(init=False)  # uint8 [K, V], the critical joints
    exchanges: dict[str, Exchange] = field(init=False)  # everything that shaped the run, by key

    def __post_init__(self) -> None:
        used = [exchange for c in self.conversations for exchange in c.exchanges.values()]
        self.exchanges = {exchange.key: exchange for exchange in used}
        self.joints = np.ones((self.num_classes, self.layout.num_joints), np.uint8)
        self.text = np.zeros((self.num_classes, INACTIVE_TEXT_WIDTH), np.float32)
        self.sentences = []
        if self.conversations:
            self._use(self._read(self.conversations))

    @property
    def active(self) -> bool:
        return bool(self.conversations)

    @property
    def text_width(self) -> int:
        return self.text.shape[1]

    @property
    def told(self) -> dict[str, Any]:
        """What the network is trained with, for processes that have no agents of their own."""
        names = ("joints", "sentences", "text", "open_tower")
        return {name: getattr(self, name) for name in names}

    def hear(self, told: dict[str, Any]) -> None:
        """Take what `told` says."""
        for name, value in told.items():
            setattr(self, name, value)

    def mask(self, stream: str) -> np.ndarray:
        """Weights of the joints in the constraint, as a stream sees them, float32 `[K, V]`: 0 but for critical ones."""
        mask = self.layout.stream_mask(self.joints, stream).astype(np.float32)
        return mask / mask.sum(1, keepdims=True) if self.config.constraint_over == "mean" else mask

    def _read(self, conversations: Sequence[Conversation]) -> Reading:
        """Let the Selector read all conversations anew."""
        with_distinctions = self.config.joints_from_distinctions
        joints = selector.critical_mask(conversations, self.layout, with_distinctions=with_distinctions)
        if self.config.both_sides:
            joints |= joints[:, self.layout.mirror_index]
        sentences = self._sentences(conversations)
        # Nobody looks at the vectors without an alignment; a text encoder that is trained along makes its own.
        used = self.config.beta and (self.open_tower is None or not self.sentences)
        text = self.embed(selector.sentences(conversations))[self._given] if used else self.text
        return Reading(joints[self._given], sentences, text)

    @property
    def _given(self) -> np.ndarray:
        """`[K]`, whose answers every class is given: its own, or those of the class half of all classes on."""
        return np.roll(np.arange(self.num_classes), self.num_classes // 2 if self.config.shuffled else 0)

    def _sentences(self, conversations: Sequence[Conversation]) -> list[str]:
        found = selector.sentences(conversations)
        return [found[k] for k in self._given]

    def _use(self, reading: Reading) -> None:
        self.joints, self.sentences, self.text = reading.joints, reading.sentences, reading.text

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
        errors = confusions.sum(1) - confusions.diagonal()
        conversations, answers = self.conversations, Future()
        if epoch in self.recorded:
            record = self.recorded[epoch]
            result = self._as_recorded(record)
            answers.set_result((result, self._read(result.conversations)))
            self.on_its_way = Asking(epoch, confusions, similar, started, answers, record["effective"])
            return
        if self.repeats:
            return
        by_errors = {m: similar[m] for m in sorted(similar, key=lambda m: -errors[m])}
        to_ask = not_yet_told(by_errors, conversations)
        budget = self.config.max_questions
        left = None if budget is None else max(0, budget - self.num_put)

        def work() -> None:
            try:
                result = self.ask(conversations, to_ask, left)
                answers.set_result((result, self._read(result.conversations)))
            except BaseException as error:
                answers.set_exception(error)

        self.on_its_way = Asking(epoch, confusions, similar, started, answers)
        threading.Thread(target=work, daemon=True).start()

    def finish_refresh(self, effective: int, patience: float | None = None) -> dict[str, Any] | None:
        """Take the answers over, from epoch `effective` on, if they come within `patience` seconds (None: however
        long it takes). Returns the record of the refresh; None where there is none, or it is still on its way."""
        if self.on_its_way is None or effective < self.on_its_way.effective:
            return None
        if not wait([self.on_its_way.answers], patience).done:
            return None
        asking, self.on_its_way = self.on_its_way, None
        result, reading = asking.answers.result()
        joints, sentences = self.joints, self.sentences
        self.conversations = result.conversations
        self.exchanges |= {exchange.key: exchange for exchange in (*result.consulted, *result.exchanges)}
        self.num_refreshes += 1
        self.num_asked += result.asked
        self.num_put += result.asked + result.cached
        self.missing += result.missing
        self._use(reading)
        names = [conversation.class_name for conversation in self.conversations]
        changed = [
            {
                "class": names[k],
                "sentence_before": sentences[k],
                "sentence": self.sentences[k],
                "joints_before": self._joint_names(joints[k]),
                "joints": self._joint_names(self.joints[k]),
            }
            for k in range(self.num_classes)
            if sentences[k] != self.sentences[k] or (joints[k] != self.joints[k]).any()
        ]
        counts = asking.confusions
        true, predicted = np.nonzero(counts)
        return {
            "epoch": asking.epoch,
            "effective": effective,
            "similar": {names[m]: [names[n] for n in others] for m, others in asking.similar.items()},
            "asked": result.asked,
            "cached": result.cached,
            "failed": [list(failure) for failure in result.failed],
            "over_budget": list(result.over_budget),
            "exchanges": [exchange.key for exchange in result.exchanges],
            "num_classes": self.num_classes,
            "confusions": [[int(m), int(n), int(counts[m, n])] for m, n in zip(true, predicted, strict=True)],
            "changed": changed,
            "seconds": round(time.perf_counter() - asking.started, 3),
        }

    def repeat(self, records: Sequence[dict[str, Any]], told: Mapping[str, Exchange], only: bool = False) -> None:
        """Let the refreshes of `records` happen again when their epochs come, with their answers (`told`, by key) and
        taking effect when they did; with `only` nothing else is asked. Raises `KeyError` for an answer not told."""
        self.exchanges |= {key: told[key] for record in records for key in record["exchanges"]}
        self.recorded, self.repeats = {record["epoch"]: record for record in records}, only

    def _as_recorded(self, record: dict[str, Any]) -> Refresh:
        told = [self.exchanges[key] for key in record["exchanges"]]
        by_class = {exchange.class_name: exchange for exchange in told}
        conversations = tuple(
            replace(each, exchanges=each.exchanges | {DISTINCTION_ROUND: by_class[each.class_name]})
            if each.class_name in by_class
            else each
            for each in self.conversations
        )
        failed = tuple((name, reason) for name, reason in record["failed"])
        put = record["asked"] + record["cached"]
        return Refresh(conversations, tuple(told), 0, put, failed, over_budget=tuple(record["over_budget"]))

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on: plain values, and arrays under "text" and "joints"."""
        return {
            "used": [{n: exchange.key for n, exchange in c.exchanges.items()} for c in self.conversations],
            "num_refreshes": self.num_refreshes,
            "num_asked": self.num_asked,
            "num_put": self.num_put,
            "text": self.text,
            "joints": self.joints,
            "on_its_way": None if self.on_its_way is None else self.on_its_way.epoch,
            "confusions": np.zeros(0, np.int64) if self.on_its_way is None else self.on_its_way.confusions,
        }

    def restore(self, state: dict[str, Any], exchanges: dict[str, Exchange]) -> None:
        """Go on from a `state`, with the run's `exchanges` by key; what was on its way is asked again.

        Raises `KeyError` for an exchange that is not there.
        """
        self.conversations = tuple(
            replace(conversation, exchanges={n: exchanges[key] for n, key in used.items()})
            for conversation, used in zip(self.conversations, state["used"], strict=True)
        )
        self.exchanges = {**exchanges, **self.exchanges}  # in the order in which they were told
        self.num_refreshes, self.num_asked = state["num_refreshes"], state["num_asked"]
        self.num_put = state.get("num_put", self.num_asked)  # of older runs: what was really asked
        self.text, self.joints = state["text"], state["joints"]
        self.sentences = self._sentences(self.conversations)
        if state["on_its_way"] is not None:
            self.begin_refresh(state["confusions"], state["on_its_way"])

    def _joint_names(self, mask_V: np.ndarray) -> list[str]:
        return [self.layout.joints[v] for v in np.flatnonzero(mask_V)]


@contextmanager
def open_agents(
    config: AgentConfig,
    store: SkeletonStore,
    *,
    llm: str | None,
    protocol: str | None,
    dialogues: Path,
    prompts: Path | None = None,
    base_url: str | None = None,
    fallback: str | None = None,
    timeout: float = TIMEOUT,
    text_weights: Path | None = None,
    device: str = "cpu",
    jobs: int = 4,
    offline: bool = False,
    asks_again: bool = True,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Agents]:
    """The agents of a run over the dialogue store at `dialogues`; inactive where nothing uses them.

    `llm` is who answers round 6, by default whoever described the classes last, and `fallback` what that one
    refuses. Offline the store alone answers, and what it lacks gathers in `Agents.missing`. A run that never
    `asks_again` is not told an imported round 6 either. Sentence embeddings are
    cached beside the dialogues. `note` is told of long waits for a server, and of sentences that are long for the text
    encoder, of each once. Raises `DialogueError` where the classes have not been described.
    """
    classes, layout = store.classes, store.layout
    if not config.used:
        yield Agents(config, layout, len(classes))
        return
    text.check_encoder(config.text_encoder)
    check_apart(dialogues, store.path)
    with DialogueStore(dialogues) as kept:
        if llm is None:
            known = described_with(kept, classes, layout, SCRIPT)
            if not known:
                raise DialogueError(
                    f"{dialogues} has no dialogue about the classes of {store.path}: "
                    f"run `skag describe {store.path} --llm measured --store {dialogues}` first."
                )
            llm = known[0]
        name = LanguageModel.parse(llm)
        imported = name.is_imported
        backend, identities = None, []
        if offline and not imported:
            identities = identities_of(llm, kept, store=store, protocol=protocol)
        elif not imported:
            backend = open_backend(llm, store=store, protocol=protocol, base_url=base_url, timeout=timeout, tell=note)
        second = open_fallback(fallback, llm, store=store, protocol=protocol, timeout=timeout, tell=note)
        if second is not None:
            others = identities_of(fallback, kept, store=store, protocol=protocol) if offline else []
            second = Respondent(None if offline else second, others)
        # Named models are looked up by name, so that a server that is down does not stop a run from starting.
        by_name = name.is_server or imported
        identity = name.identity if by_name else identities[0] if offline else backend.identity()
        conversations = (load_imported if imported and asks_again else load)(
            kept, classes, layout, SCRIPT, identity=identity
        )
        texts = load_prompts(SCRIPT, prompts)

        def ask(
            conversations: Sequence[Conversation], similar: dict[int, tuple[int, ...]], budget: int | None
        ) -> Refresh:
            if imported:  # there is nobody to ask: it stays as it was imported
                return Refresh(tuple(conversations), (), 0, 0, ())
            return ask_distinctions(
                backend,
                kept,
                conversations,
                similar,
                layout,
                texts,
                identities=identities,
                jobs=jobs,
                fallback=second,
                recall=config.recall_distinctions,
                budget=budget,
            )

        embed, tower = _open_text(config, classes, dialogues, text_weights, device, note)
        served = name.is_server and not offline
        if served and config.beta:  # its weights are read now, not by a thread beside the training
            text.open_encoder(config.text_encoder, weights=text_weights, device=device).encode([classes[0]])
        agents = Agents(config, layout, len(classes), conversations, ask, embed, served, tower, llm=llm)
        earlier = unusable_before(kept, list(agents.exchanges.values()))
        agents.exchanges |= {exchange.key: exchange for exchange in earlier}
        yield agents


def recorded_agents(
    run: Path,
    store: SkeletonStore,
    *,
    dialogues: Path,
    text_weights: Path | None = None,
    device: str = "cpu",
    note: Callable[[str], None] = lambda text: None,
) -> Agents:
    """The agents of a run of skag, to say again what they said then and when: nobody is asked, no dialogue store is
    read. Sentence embeddings are cached beside `dialogues`. Raises `RunError` where the run did not get so far."""
    config, classes = runs.read_config(run).agents, store.classes
    if not config.used:
        return Agents(config, store.layout, len(classes))
    text.check_encoder(config.text_encoder)
    try:
        used = torch.load(run / "last.pt", map_location="cpu", weights_only=True)["agents"]["used"]
    except Exception as error:  # a file that is missing, damaged or of another version fails in many ways
        raise RunError(f"{run} cannot be repeated: its last.pt cannot be read ({_first_line(error)}).") from None
    told = {exchange.key: exchange for exchange in read_lines(run / runs.DIALOGUES)}

    def at_first(number: int, exchange: Exchange) -> bool:  # not asked in training, but there when it began
        return number in SCRIPT.numbers or exchange.identity["backend"] == "imported"

    try:
        conversations = tuple(
            Conversation(k, name, {number: told[key] for number, key in used[k].items() if at_first(number, told[key])})
            for k, name in enumerate(classes)
        )
        embed, tower = _open_text(config, classes, dialogues, text_weights, device, note)
        agents = Agents(config, store.layout, len(classes), conversations, embed=embed, open_tower=tower)
        agents.repeat(runs.read_lines(run / runs.REFRESHES), told, only=True)
    except (KeyError, IndexError) as error:
        raise RunError(f"{run} cannot be repeated: its {runs.DIALOGUES} lacks the exchange {error}.") from None
    return agents


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _open_text(
    config: AgentConfig,
    classes: Sequence[str],
    dialogues: Path,
    weights: Path | None,
    device: str,
    note: Callable[[str], None],
) -> tuple[Embed, Callable[[], tuple[Any, Any]] | None]:
    """(what embeds sentences, what opens the text encoder where it is trained along)."""
    seen: set[str] = set()

    def embed(sentences: list[str]) -> np.ndarray:
        cache = dialogues.with_name("text.h5")
        vectors = text.embed(sentences, config.text_encoder, weights=weights, cache=cache, device=device)
        new = {name: said for name, said in zip(classes, sentences, strict=True) if said not in seen}
        if remark := text.length_remark(list(new), list(new.values()), config.text_encoder, weights=weights):
            note(f"Note: {remark}")
        seen.update(sentences)
        return vectors

    tower = None
    if config.train_text_encoder and config.beta:
        tower = partial(text.open_trainable, config.text_encoder, weights=weights, device=device)
    return embed, tower
