"""The agents of a run as it begins: who answers, what the classes' dialogue says, and what embeds sentences."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ... import runs, text
from ...backends import Backend, open_backend, open_fallback
from ...backends.class_statistics import ClassStatistics, measure
from ...backends.contradictions import Witness
from ...backends.names import LanguageModel
from ...backends.wording import Teller
from ...dialogue.describe import begun_by, describe_measured, described_with, load, unusable_before
from ...dialogue.exchanges import Conversation
from ...dialogue.interview import Respondent
from ...dialogue.prompts import load_prompts
from ...dialogue.replay import identities_of
from ...dialogue.store import DialogueStore, check_apart
from ...dialogue.text_folders import load_imported
from ...errors import DialogueError, RunError
from ...skeleton.store import SkeletonStore
from ..base import KnowledgeSource, Note
from . import class_knowledge
from .agents import REFRESHES, Agents, Embed
from .config import AgentConfig, SkeletonAgentConfig
from .questioner import RefreshAnswers, ask_distinctions
from .script import SCRIPT, WITH_MEASURED


@contextmanager
def open_agents(
    config: SkeletonAgentConfig, store: SkeletonStore, source: KnowledgeSource, device: str, note: Note
) -> Iterator[Agents]:
    """The agents of a run; inactive where nothing uses them.

    Offline the store alone answers, and what it lacks gathers in `Agents.missing`. Sentence embeddings are cached
    beside the dialogues. `note` is told of long waits for a server, and of sentences that are long for the text
    encoder, of each once. Raises `DialogueError` where the classes have not been described.
    """
    classes, layout, settings = store.classes, store.layout, config.agents
    if not settings.used:
        yield without_knowledge(config, store)
        return
    text.check_encoder(settings.text_encoder)
    names = tuple(classes) if settings.alignment_text == "name" and settings.beta else ()
    if not settings.asks:
        embed, tower = _open_text(settings, classes, source, device, note)
        yield Agents(
            settings, layout, len(classes), embed=embed, open_tower=tower, shuffled=source.shuffled, names=names
        )
        return
    if source.repeat is not None:
        yield recorded_agents(config, store, source, device, note)
        return
    check_apart(source.dialogues, store.path)
    with DialogueStore(source.dialogues) as kept:
        texts = load_prompts(WITH_MEASURED if settings.measured_differences else SCRIPT, source.prompts)
        statistics = _statistics(config, store)
        teller = Teller(statistics, classes) if statistics is not None and settings.measured_differences else None
        answering = _Answering.open(config, store, source, kept, note)
        if answering.llm == "measured" and (measures := answering.backend) is not None:
            did = describe_measured(measures, kept, classes, layout, texts, source.jobs, source.progress)
            if did:
                note(did)
        load_stored = load_imported if answering.imported and source.asks_again else load
        command = _describing(answering.llm, config, store, source)
        conversations = load_stored(kept, classes, layout, SCRIPT, identity=answering.identity, command=command)

        def ask(
            conversations: Sequence[Conversation], similar: dict[int, tuple[int, ...]], budget: int | None
        ) -> RefreshAnswers:
            if answering.imported:  # there is nobody to ask: it stays as it was imported
                return RefreshAnswers(tuple(conversations), (), 0, 0, ())
            return ask_distinctions(
                answering.backend,
                kept,
                conversations,
                similar,
                layout,
                texts,
                identities=answering.identities,
                jobs=source.jobs,
                fallback=answering.fallback,
                budget=budget,
                measured=None if teller is None else lambda one, others: teller.distinction(one, list(others)),
            )

        embed, tower = _open_text(settings, classes, source, device, note)
        if answering.is_server and settings.beta:  # weights are read now, not by a thread beside the training
            text.open_encoder(settings.text_encoder, weights=source.text_weights, device=device).encode([classes[0]])
        agents = Agents(
            settings,
            layout,
            len(classes),
            conversations,
            ask,
            embed,
            answering.is_server,
            tower,
            llm=answering.llm,
            shuffled=source.shuffled,
            names=names,
            witness=_witness(config, store, statistics),
            told_apart=statistics.told_apart if statistics is not None and settings.questions_by == "gain" else None,
        )
        earlier = unusable_before(kept, list(agents.exchanges.values()))
        agents.exchanges |= {exchange.key: exchange for exchange in earlier}
        yield agents


def _statistics(config: SkeletonAgentConfig, store: SkeletonStore) -> ClassStatistics | None:
    """What is measured of the training clips, where something is made of it."""
    agents = config.agents
    if not (agents.drop_contradicted or agents.measured_differences or agents.questions_by == "gain"):
        return None
    return measure(store, store.protocol(config.data.protocol)[0])


def _witness(config: SkeletonAgentConfig, store: SkeletonStore, statistics: ClassStatistics | None) -> Witness | None:
    """The training clips, where claims are held against them."""
    return Witness(statistics, store.classes) if statistics is not None and config.agents.drop_contradicted else None


def _describing(llm: str, config: SkeletonAgentConfig, store: SkeletonStore, source: KnowledgeSource) -> str:
    """The command that has the classes described, with all that is known of it."""
    words = ["skag", "describe", str(store.path), "--llm", llm, "--store", str(source.dialogues)]
    for option, value in (
        ("--unseen", ",".join(config.data.unseen) or None),
        ("--protocol", config.data.protocol),
        ("--prompts", source.prompts),
        ("--base-url", source.base_url),
        ("--fallback", source.fallback),
    ):
        words += [] if value is None else [option, str(value)]
    return shlex.join(words)


@dataclass(frozen=True)
class _Answering:
    """Who answers round 6, and by which identity their rounds 1 to 5 are found."""

    llm: str
    imported: bool
    is_server: bool
    backend: Backend | None
    identities: list[dict]  # offline: by which the store is asked
    identity: dict
    fallback: Respondent | None

    @classmethod
    def open(
        cls, config: SkeletonAgentConfig, store: SkeletonStore, source: KnowledgeSource, kept: DialogueStore, note: Note
    ) -> _Answering:
        """Open who `source` names, by default whoever described the classes last. Raises `DialogueError`."""
        protocol, llm, offline = config.data.protocol, source.llm, source.offline
        if llm is None:
            classes = store.classes
            known = described_with(kept, classes, store.layout, SCRIPT)
            if not known and (begun := begun_by(kept, classes, SCRIPT)):
                raise DialogueError(
                    f"{source.dialogues} has no complete dialogue about the classes of {store.path}; {begun} has begun "
                    f"one: run `{_describing(begun, config, store, source)}`, or train with --llm measured."
                )
            if not known and offline:
                raise DialogueError(
                    f"{source.dialogues} has no dialogue about the classes of {store.path}: "
                    f"run `{_describing('measured', config, store, source)}` first."
                )
            llm = known[0] if known else "measured"
        name = LanguageModel.parse(llm)
        backend, identities = None, []
        if offline and not name.is_imported:
            identities = identities_of(llm, kept, store=store, protocol=protocol)
        elif not name.is_imported:
            backend = open_backend(
                llm, store=store, protocol=protocol, base_url=source.base_url, timeout=source.timeout, tell=note
            )
        second = open_fallback(source.fallback, llm, store=store, protocol=protocol, timeout=source.timeout, tell=note)
        fallback = None
        if second is not None and source.fallback is not None:
            others = identities_of(source.fallback, kept, store=store, protocol=protocol) if offline else []
            fallback = Respondent(None if offline else second, others)
        # Named models are looked up by name, so that a server that is down does not stop a run from starting.
        by_name = name.is_server or name.is_imported
        identity = name.identity if by_name else identities[0] if backend is None else backend.identity()
        return cls(llm, name.is_imported, name.is_server and not offline, backend, identities, identity, fallback)


def without_knowledge(config: SkeletonAgentConfig, store: SkeletonStore) -> Agents:
    """Agents that say nothing: of a run that uses none, and of processes that do not lead."""
    return Agents(config.agents, store.layout, len(store.classes))


def recorded_agents(
    config: SkeletonAgentConfig, store: SkeletonStore, source: KnowledgeSource, device: str, note: Note
) -> Agents:
    """The agents of the run `source.repeat`, to give the same knowledge at the same epochs: nobody is asked, and no
    dialogue store is read. Raises `RunError` where the run's record is not complete."""
    run, classes = source.repeat, store.classes
    assert run is not None
    before = class_knowledge.read(run, classes, store.layout, config.agents.joints_from_distinctions).at(0)
    exchanges = class_knowledge.read_dialogue(run)
    if before is None:
        raise RunError(f"{run} cannot be repeated: it has no {runs.DIALOGUES}.")
    try:
        conversations = tuple(
            Conversation(k, name, {number: exchanges[key] for number, key in known.dialogue.items()})
            for k, (name, known) in enumerate(zip(classes, before, strict=True))
        )
        embed, tower = _open_text(config.agents, classes, source, device, note)
        agents = Agents(
            config.agents,
            store.layout,
            len(classes),
            conversations,
            embed=embed,
            open_tower=tower,
            shuffled=source.shuffled,
            witness=_witness(config, store, _statistics(config, store)),
            names=tuple(classes) if config.agents.alignment_text == "name" and config.agents.beta else (),
        )
        agents.repeat(runs.read_lines(run / REFRESHES), exchanges, only=True)
    except KeyError as error:
        raise RunError(f"{run} cannot be repeated: its {runs.DIALOGUES} lacks the exchange {error}.") from None
    return agents


def _open_text(
    config: AgentConfig, classes: Sequence[str], source: KnowledgeSource, device: str, note: Note
) -> tuple[Embed, Callable[[], tuple[Any, Any]] | None]:
    """(what embeds sentences, what opens the text encoder where it is trained along)."""
    weights, cache = source.text_weights, source.dialogues.with_name("text.h5")
    seen: set[str] = set()

    def embed(sentences: list[str]) -> np.ndarray:
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
