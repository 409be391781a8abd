"""Questioner and Selector as the training loop sees them: masks and sentence embeddings that change at refreshes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import selector, text
from .backends import open_backend, open_fallback
from .backends.base import TIMEOUT
from .config import AgentConfig
from .describe import described_with, load, unusable_before
from .dialogues import DialogueStore
from .errors import DialogueError
from .exchanges import Conversation, Exchange
from .interview import Question, Respondent
from .layouts import Layout
from .prompts import load_prompts
from .questioner import Refresh, ask_distinctions, release_similar_classes, similar_classes
from .replay import identities_of
from .store import SkeletonStore
from .text_folders import load_imported

Embed = Callable[[list[str]], np.ndarray]  # n sentences -> float32 [n, D]
Ask = Callable[[Sequence[Conversation], dict[int, tuple[int, ...]]], Refresh]
INACTIVE_TEXT_WIDTH = 8  # of the unused embedding head where no agent takes part


@dataclass
class Agents:
    """The two agents of one run.

    `ask` puts round 6 to a language model, `embed` is the frozen text encoder. Without conversations the
    agents are inactive: every joint is critical and no sentence is known.
    """

    config: AgentConfig
    layout: Layout
    num_classes: int
    conversations: tuple[Conversation, ...] = ()
    ask: Ask | None = None
    embed: Embed | None = None
    open_tower: Callable[[], tuple[Any, Any]] | None = None  # the text encoder to be trained along, and its tokeniser
    num_refreshes: int = 0
    num_asked: int = 0
    llm: str = ""  # who described the classes and answers round 6
    missing: list[Question] = field(default_factory=list)  # offline: what the store did not answer
    text: np.ndarray = field(init=False)  # float32 [K, D], the embedded sentences
    joints: np.ndarray = field(init=False)  # uint8 [K, V], the critical joints
    exchanges: dict[str, Exchange] = field(init=False)  # everything that shaped the run, by key

    def __post_init__(self) -> None:
        used = [exchange for c in self.conversations for exchange in c.exchanges.values()]
        self.exchanges = {exchange.key: exchange for exchange in used}
        self.joints = np.ones((self.num_classes, self.layout.num_joints), np.uint8)
        self.text = np.zeros((self.num_classes, INACTIVE_TEXT_WIDTH), np.float32)
        if self.conversations:
            self._select()

    @property
    def active(self) -> bool:
        return self.ask is not None

    @property
    def text_width(self) -> int:
        return self.text.shape[1]

    @property
    def sentences(self) -> list[str]:
        """What every class is given as its distinction, as the dialogue has it now."""
        found = selector.sentences(self.conversations)
        return [found[k] for k in self._given]

    @property
    def _given(self) -> np.ndarray:
        """`[K]`, whose answers every class is given: its own, or those of the class half of all classes on."""
        return np.roll(np.arange(self.num_classes), self.num_classes // 2 if self.config.shuffled else 0)

    def mask(self, stream: str) -> np.ndarray:
        """Critical joints as a stream sees them, float32 `[K, V]`."""
        return self.layout.stream_mask(self.joints, stream).astype(np.float32)

    def _select(self) -> list[str]:
        """Let the Selector read all conversations anew; returns the sentences."""
        with_distinctions = self.config.joints_from_distinctions
        joints = selector.critical_mask(self.conversations, self.layout, with_distinctions=with_distinctions)
        self.joints = joints[self._given]
        if self.config.beta:  # nobody else looks at the sentences' embeddings
            self.text = self.embed(selector.sentences(self.conversations))[self._given]
        return self.sentences

    def refresh(self, confusions: np.ndarray, epoch: int) -> dict[str, Any]:
        """Ask what separates the classes confused in `confusions` `[K, K]`, and take the answers over.

        Returns the record of the refresh: who was confused with whom, what was asked, and for every class
        that changed its critical joints and sentence before and after.
        """
        started = time.perf_counter()
        if self.config.confusion_rule == "release":
            similar = release_similar_classes(confusions, self.config.max_similar)
        else:
            similar = similar_classes(confusions, self.config.max_similar, self.config.min_confusions)
        joints, sentences = self.joints, self.sentences
        result = self.ask(self.conversations, similar)
        self.conversations = result.conversations
        new_sentences = self._select()
        self.num_refreshes += 1
        self.num_asked += result.asked
        self.exchanges |= {exchange.key: exchange for exchange in (*result.consulted, *result.exchanges)}
        self.missing += result.missing
        names = [conversation.class_name for conversation in self.conversations]
        changed = [
            {
                "class": names[k],
                "sentence_before": sentences[k],
                "sentence": new_sentences[k],
                "joints_before": self._joint_names(joints[k]),
                "joints": self._joint_names(self.joints[k]),
            }
            for k in range(self.num_classes)
            if sentences[k] != new_sentences[k] or (joints[k] != self.joints[k]).any()
        ]
        true, predicted = np.nonzero(confusions)
        return {
            "epoch": epoch,
            "num_classes": self.num_classes,
            "confusions": [[int(m), int(n), int(confusions[m, n])] for m, n in zip(true, predicted, strict=True)],
            "similar": {names[m]: [names[n] for n in others] for m, others in similar.items()},
            "asked": result.asked,
            "cached": result.cached,
            "failed": [list(failure) for failure in result.failed],
            "changed": changed,
            "exchanges": [exchange.key for exchange in result.exchanges],
            "seconds": round(time.perf_counter() - started, 3),
        }

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on: plain values, and arrays under "text" and "joints"."""
        return {
            "used": [{n: exchange.key for n, exchange in c.exchanges.items()} for c in self.conversations],
            "num_refreshes": self.num_refreshes,
            "num_asked": self.num_asked,
            "text": self.text,
            "joints": self.joints,
        }

    def restore(self, state: dict[str, Any], exchanges: dict[str, Exchange]) -> None:
        """Go on from a `state`, with the run's `exchanges` by key. Raises `KeyError` for one that is not there."""
        self.conversations = tuple(
            replace(conversation, exchanges={n: exchanges[key] for n, key in used.items()})
            for conversation, used in zip(self.conversations, state["used"], strict=True)
        )
        self.exchanges |= exchanges
        self.num_refreshes, self.num_asked = state["num_refreshes"], state["num_asked"]
        self.text, self.joints = state["text"], state["joints"]

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
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Agents]:
    """The agents of a run over the dialogue store at `dialogues`; inactive where alpha and beta are both 0.

    `llm` is who answers round 6, by default whoever described the classes last, and `fallback` what that one
    refuses. Offline the store alone answers, and what it lacks gathers in `Agents.missing`. Sentence embeddings are
    cached beside the dialogues. `note` is told of long waits for a server, and of sentences that are long for the text
    encoder, of each once. Raises `DialogueError` where the classes have not been described.
    """
    classes, layout = store.classes, store.layout
    if not config.alpha and not config.beta:
        yield Agents(config, layout, len(classes))
        return
    text.check_encoder(config.text_encoder)
    with DialogueStore(dialogues) as kept:
        if llm is None:
            known = described_with(kept, classes, layout)
            if not known:
                raise DialogueError(
                    f"{dialogues} has no dialogue about the classes of {store.path}: "
                    f"run `skag describe {store.path} --llm measured --store {dialogues}` first."
                )
            llm = known[0]
        name, _, model = llm.partition("/")
        imported = name == "imported" and model != ""
        backend, identities = None, []
        if offline and not imported:
            identities = identities_of(llm, kept, store=store, protocol=protocol)
        elif not imported:
            backend = open_backend(llm, store=store, protocol=protocol, base_url=base_url, timeout=timeout, tell=note)
        second = open_fallback(fallback, llm, store=store, protocol=protocol, timeout=timeout, tell=note)
        if second is not None:
            others = identities_of(fallback, kept, store=store, protocol=protocol) if offline else []
            second = Respondent(None if offline else second, others)
        if model and not llm.startswith("file:"):
            # Named models are looked up by name, so that a server that is down does not stop a run from starting.
            identity = {"backend": name, "model": model}
        else:
            identity = identities[0] if offline else backend.identity()
        conversations = (load_imported if imported else load)(kept, classes, layout, identity=identity)
        texts = load_prompts(prompts)

        def ask(conversations: Sequence[Conversation], similar: dict[int, tuple[int, ...]]) -> Refresh:
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
            )

        seen: set[str] = set()

        def embed(sentences: list[str]) -> np.ndarray:
            cache = dialogues.with_name("text.h5")
            vectors = text.embed(sentences, config.text_encoder, weights=text_weights, cache=cache, device=device)
            new = {name: said for name, said in zip(classes, sentences, strict=True) if said not in seen}
            if remark := text.length_remark(list(new), list(new.values()), config.text_encoder, weights=text_weights):
                note(f"Note: {remark}")
            seen.update(sentences)
            return vectors

        tower = None
        if config.train_text_encoder and config.beta:
            tower = partial(text.open_trainable, config.text_encoder, weights=text_weights, device=device)
        agents = Agents(config, layout, len(classes), conversations, ask, embed, tower, llm=llm)
        earlier = unusable_before(kept, list(agents.exchanges.values()))
        agents.exchanges |= {exchange.key: exchange for exchange in earlier}
        yield agents
