"""What language says of the classes: texts of their motion and of what is seen, and their vectors.

Texts come out of the dialogue store, from whoever described the classes; what a run was trained with is written into
it, `descriptions.json`, and a run that is repeated or resumed is given that again.

Letters of this file: K classes, n texts of a class, D text width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ... import runs, text
from ...backends import Backend, Topic, open_backend
from ...backends.names import LanguageModel
from ...dialogue.describe import begun_by, describe_measured, described_with
from ...dialogue.exchanges import Exchange, label_set_id, named, spec_of
from ...dialogue.formats import FormatProblem, read_body_parts
from ...dialogue.interview import Interview, NotStored, Question, Respondent, in_parallel
from ...dialogue.prompts import load_prompts
from ...dialogue.replay import identities_of
from ...dialogue.store import DialogueStore, check_apart
from ...dialogue.transfer import read_lines, to_line
from ...errors import BackendError, DialogueError, RunError
from ...skeleton.store import SkeletonStore
from ..base import KnowledgeSource, Note
from .config import SugarConfig, TextConfig
from .script import IMAGINED, MOTION, SCRIPT, SEEN

FILE = "descriptions.json"  # of a run folder
Kind = Literal["motion", "part", "seen", "imagined", "name"]
Embed = Callable[[list[str]], np.ndarray]  # n texts -> float32 [n, D]
_STILL = ("still", "stays still", "remains still", "remains stationary", "stationary")


@dataclass(frozen=True)
class Text:
    """One text of a class."""

    kind: Kind
    text: str
    key: str = ""  # of the exchange that it comes from


@dataclass
class Descriptions:
    """The texts of all classes of a run, and their vectors where the encoder learns from them; see
    `methods.base.Knowledge`. Without texts nothing is known."""

    classes: tuple[str, ...]
    texts: tuple[tuple[Text, ...], ...] = ()  # [K], those of the motion first
    embed: Embed | None = None
    llm: str = ""
    exchanges: dict[str, Exchange] = field(default_factory=dict)  # that the texts come from, by key
    missing: list[Question] = field(default_factory=list)
    words: int = 24  # of a description in an answer, at most

    vectors: np.ndarray = field(init=False)  # float32 [K, n, D], zeros where a class has fewer texts
    available: np.ndarray = field(init=False)  # bool [K, n]

    def __post_init__(self) -> None:
        self._read()

    def _read(self) -> None:
        most = max(map(len, self.texts), default=0)
        self.available = np.array([[i < len(own) for i in range(most)] for own in self.texts], bool)
        self.vectors = np.zeros((len(self.texts), most, 0), np.float32)
        if self.embed is not None and self.texts:
            flat = self.embed([each.text for own in self.texts for each in own])
            self.vectors = np.zeros((*self.available.shape, flat.shape[1]), np.float32)
            self.vectors[self.available] = flat

    @property
    def active(self) -> bool:
        """Whether somebody has told something; bare names are nobody's."""
        return bool(self.exchanges)

    @property
    def text_width(self) -> int:
        """D; 0 without vectors."""
        return self.vectors.shape[2] if self.vectors.ndim == 3 else 0

    @property
    def num_texts(self) -> int:
        """n, the most texts of a class that have vectors."""
        return self.vectors.shape[1] if self.text_width else 0

    @property
    def answers(self) -> tuple[str, ...]:
        """`[K]`, what describes each class behind its name in an answer; empty where there is no text."""
        if not self.texts:
            return ("",) * len(self.classes)
        return tuple(description(own, self.words) for own in self.texts)

    @property
    def snapshot(self) -> dict[str, Any]:
        """What is trained with, for processes that do not lead."""
        return {name: getattr(self, name) for name in ("texts", "vectors", "available")}

    def use_snapshot(self, snapshot: dict[str, Any]) -> None:
        """Take another process's snapshot over."""
        for name, value in snapshot.items():
            setattr(self, name, value)

    def most_questions(self, epochs: int) -> tuple[int, int]:
        """Nothing is asked while it trains."""
        return 0, len(self.classes)

    def begin_run(self, run: Path) -> None:
        """Write down what the run is trained with: the texts, and the exchanges that they come from."""
        runs.write_lines(run / runs.DIALOGUES, map(to_line, self.exchanges.values()))
        own = zip(self.classes, self.texts, strict=bool(self.texts))
        told = {name: [dataclasses.asdict(each) for each in texts] for name, texts in own}
        runs.write_json(run / FILE, {"llm": self.llm, "classes": told})

    def take_over(self, run: Path) -> None:
        """Use what a run has written down, where that is something else. Raises `RunError`."""
        texts = recorded_texts(run, self.classes)
        if texts != self.texts:
            self.texts, self.exchanges = texts, recorded_exchanges(run)
            self._read()


@contextmanager
def open_descriptions(
    config: SugarConfig, store: SkeletonStore, source: KnowledgeSource, device: str, note: Note
) -> Iterator[Descriptions]:
    """The texts of a run's classes; none where nothing uses them.

    Of what would be seen, a language model is asked now where the store holds no text. Raises `DialogueError` naming
    the classes that have no text, and what to do.
    """
    classes = tuple(store.classes)
    embed = None
    if config.learns_texts:
        text.check_encoder(config.texts.text_encoder)
        embed = _embedding(config.texts, classes, source, device, note)
    if source.repeat is not None:
        texts, exchanges = recorded_texts(source.repeat, classes), recorded_exchanges(source.repeat)
        llm = str(runs.read_json(source.repeat, FILE).get("llm", ""))
        yield Descriptions(classes, texts, embed, llm, exchanges, words=config.answer.words)
        return
    motion: Sequence[Exchange | None] = [None] * len(classes)
    seen: Sequence[Sequence[Exchange]] = [[]] * len(classes)
    llm, missing = "", []
    if config.asks:
        check_apart(source.dialogues, store.path)
        with DialogueStore(source.dialogues) as kept:
            asking = _Asking(config, store, source, kept, note)
            llm = asking.llm
            motion = asking.motion() if config.texts.motion else motion
            seen = asking.visual() if config.texts.visual else seen
            missing = asking.missing
    texts = tuple(
        class_texts(name, motion[k], seen[k], config.texts) if config.asks or config.texts.name else ()
        for k, name in enumerate(classes)
    )
    used = [exchange for k in range(len(classes)) for exchange in (motion[k], *seen[k]) if exchange is not None]
    if source.shuffled:  # those of the class half of all classes on
        texts = tuple(texts[k] for k in np.roll(np.arange(len(texts)), len(texts) // 2))
    if not any(texts):
        texts = ()
    exchanges = {exchange.key: exchange for exchange in used}
    yield Descriptions(classes, texts, embed if texts else None, llm, exchanges, missing, config.answer.words)


def without_texts(store: SkeletonStore) -> Descriptions:
    """Of a run that uses none, and of processes that do not lead."""
    return Descriptions(tuple(store.classes))


# ---- texts of a class


def class_texts(
    name: str, motion: Exchange | None, visual: Sequence[Exchange], settings: TextConfig
) -> tuple[Text, ...]:
    """The texts of one class out of the exchanges about it: of the motion first, then of what is seen, then those that
    are beyond the paper."""
    found: list[Text] = []
    parts: dict[str, str] = {}
    if motion is not None:
        parts = read_body_parts(motion.text)
        found.append(Text("motion", motion_text(name, parts), motion.key))
    for exchange in visual[: settings.visual_texts or None]:
        kind: Kind = "seen" if exchange.round == SEEN.number else "imagined"
        found.append(Text(kind, " ".join(exchange.text.split()), exchange.key))
    if settings.parts and motion is not None:
        found += [Text("part", told_of(part, words), motion.key) for part, words in parts.items()]
    if settings.name:
        found.append(Text("name", text.words_of(name)))
    return tuple(found)


def motion_text(name: str, parts: dict[str, str]) -> str:
    """`An action of drink water; head tilts back slightly; hand grasps cup; ...` (paper, Fig. 2)."""
    return "; ".join([f"An action of {name}", *(told_of(part, words) for part, words in parts.items())])


def told_of(part: str, words: str) -> str:
    """What a part does, with its name in front where the words do not begin with whose part it is."""
    words = words.strip().rstrip(".")
    return words if words.casefold().startswith("the ") else f"{part} {words}"


def description(texts: Sequence[Text], words: int) -> str:
    """What describes a class briefly: of its text of the motion what moves, else of what is seen; at most so many
    words. The paper has GPT sum the texts up; here whole parts of them are taken."""
    told = next((each.text for each in texts if each.kind == "motion"), None)
    mark = "; " if told is not None else ". "
    if told is not None:
        pieces = told.split(mark)[1:]
        pieces = [piece for piece in pieces if not piece.endswith(_STILL)] or pieces
    else:
        pieces = next((each.text.split(mark) for each in texts if each.kind in ("seen", "imagined")), [])
    kept: list[str] = []
    for piece in pieces:
        if len(" ".join([*kept, piece]).split()) > words:
            break
        kept.append(piece.rstrip("."))
    kept = kept or [" ".join(piece.split()[:words]) for piece in pieces[:1]]
    whole = mark.join(kept)
    return f"{whole[0].upper()}{whole[1:]}." if whole else ""


def _embedding(settings: TextConfig, classes: Sequence[str], source: KnowledgeSource, device: str, note: Note) -> Embed:
    """What embeds texts, with its cache beside the dialogues."""
    weights, cache = source.text_weights, source.dialogues.with_name("text.h5")

    def embed(texts: list[str]) -> np.ndarray:
        vectors = text.embed(texts, settings.text_encoder, weights=weights, cache=cache, device=device)
        if remark := text.length_remark(texts, texts, settings.text_encoder, weights=weights):
            note(f"Note: {remark}")
        return vectors

    return embed


# ---- from the record of a run


def recorded_texts(run: Path, classes: Sequence[str]) -> tuple[tuple[Text, ...], ...]:
    """The texts that a run was trained with, in the order of its classes. Raises `RunError` for a damaged file."""
    found = runs.read_json(run, FILE)
    try:
        told = found["classes"]
        if not told:
            return ()
        return tuple(
            tuple(Text(each["kind"], str(each["text"]), str(each["key"])) for each in told[name]) for name in classes
        )
    except (LookupError, TypeError) as error:
        raise RunError(f"{run / FILE} is damaged ({error}): take it from a copy, or train the run again.") from None


def recorded_exchanges(run: Path) -> dict[str, Exchange]:
    """The exchanges that a run's texts come from, by key. Raises `RunError` for a damaged file."""
    path = run / runs.DIALOGUES
    try:
        return {exchange.key: exchange for exchange in read_lines(path)} if path.exists() else {}
    except DialogueError as error:
        raise RunError(f"{path} is damaged ({str(error).split(': ')[0]}): train the run again.") from None


def stored_motion(run: Path, names: Sequence[str]) -> dict[str, str]:
    """The texts of the motion of any classes in the dialogue store that a run was trained with: by who told of its own
    classes, else by whoever told last."""
    asking = runs.read_json(run, runs.CONFIG).get("asking")
    asking = asking if isinstance(asking, dict) else {}
    path, llm, found = asking.get("dialogues"), asking.get("llm"), {}
    if not isinstance(path, str) or not Path(path).is_file():
        return {}
    with DialogueStore(Path(path)) as kept:
        told = kept.find(class_names=set(names), rounds=[MOTION.number])
        for exchange in sorted(told, key=lambda each: (spec_of(each.identity) == llm, each.created)):
            if exchange.rejected is None and not LanguageModel.of(exchange.identity).is_measured:
                found[exchange.class_name] = motion_text(exchange.class_name, read_body_parts(exchange.text))
    return found


# ---- from the dialogue store


class _Asking:
    """The exchanges about a run's classes: those of the store, and new ones where a question has no answer yet."""

    def __init__(
        self, config: SugarConfig, store: SkeletonStore, source: KnowledgeSource, kept: DialogueStore, note: Note
    ) -> None:
        self.config, self.store, self.source, self.kept, self.note = config, store, source, kept, note
        self.missing: list[Question] = []
        self.llm = source.llm or self._by_default()
        if LanguageModel.parse(self.llm).is_measured and not source.offline:
            protocol, prompts = config.data.protocol, load_prompts(SCRIPT, source.prompts)
            backend = open_backend(self.llm, store=store, protocol=protocol, tell=note)
            if did := describe_measured(
                backend, kept, store.classes, store.layout, prompts, source.jobs, source.progress
            ):
                note(did)

    def _by_default(self) -> str:
        """Who described the classes last; `measured` where nobody has. Raises `DialogueError` where somebody has begun,
        or `measured` may not be asked."""
        source, store = self.source, self.store
        if known := described_with(self.kept, store.classes, store.layout, SCRIPT):
            return known[0]
        begun = begun_by(self.kept, store.classes, SCRIPT)
        if begun or source.offline:
            command = f"skag describe {store.path} --method {self.config.method} --llm {begun or 'measured'}"
            raise DialogueError(
                f"{source.dialogues} has no texts of {'all' if begun else 'the'} classes of {store.path}: "
                f"run `{command} --store {source.dialogues}` first{', or train with --llm measured' if begun else ''}."
            )
        return "measured"

    def motion(self) -> list[Exchange]:
        """The exchange about the motion of every class; of classes that the first one has none of, the second's."""
        found: dict[str, Exchange] = {}
        for llm in filter(None, (self.source.fallback, self.llm)):
            found |= self._told(self._identity(llm))
        if missing := [name for name in self.store.classes if name not in found]:
            named_classes = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise DialogueError(
                f"{self.source.dialogues} has no text by {self.llm} of {len(missing)} of {len(self.store.classes)} "
                f"classes ({named_classes}): run `skag describe {self.store.path} --method {self.config.method} --llm "
                f"{self.llm}`, or name who tells of them with --fallback."
            )
        return [found[name] for name in self.store.classes]

    def visual(self) -> list[list[Exchange]]:
        """The exchanges about what is seen, of every class: of frames where frames were described, else of what would
        be seen, which a language model is asked now."""
        if (seen := self._complete(SEEN.number)) is not None:
            return seen
        if (imagined := self._complete(IMAGINED.number)) is not None:
            return imagined
        return [[exchange] for exchange in self._ask()]

    def _identity(self, llm: str) -> dict[str, Any]:
        """Which of the store's exchanges are this one's."""
        name = LanguageModel.parse(llm)
        if name.is_server or name.is_imported:
            return named(llm)
        return identities_of(llm, self.kept, store=self.store, protocol=self.config.data.protocol)[0]

    def _told(self, identity: dict[str, Any]) -> dict[str, Exchange]:
        """By class: the latest usable answer about its motion."""
        found: dict[str, Exchange] = {}
        for exchange in self.kept.find(class_names=set(self.store.classes), rounds=[MOTION.number]):
            fits = exchange.rejected is None and all(exchange.identity.get(k) == v for k, v in identity.items())
            if fits and (exchange.class_name not in found or found[exchange.class_name].created <= exchange.created):
                found[exchange.class_name] = exchange
        return found

    def _complete(self, number: int) -> list[list[Exchange]] | None:
        """The answers of a round about every class, by one who answered: `llm` before others, the latest of those.
        None where nobody has answered, or where the rest can be asked now. Raises `DialogueError` where some classes'
        frames were described and others' were not."""
        by: dict[str, dict[str, list[Exchange]]] = {}
        for exchange in self.kept.find(class_names=set(self.store.classes), rounds=[number]):
            if exchange.rejected is None:
                by.setdefault(spec_of(exchange.identity), {}).setdefault(exchange.class_name, []).append(exchange)
        if not by:
            return None

        def rank(spec: str) -> tuple[int, bool, str]:
            return len(by[spec]), spec == self.llm, max(each.created for own in by[spec].values() for each in own)

        spec = max(by, key=rank)
        if missing := [name for name in self.store.classes if name not in by[spec]]:
            if number == IMAGINED.number:
                return None
            raise DialogueError(
                f"{self.source.dialogues} has texts of what is seen by {spec} of {len(by[spec])} classes and none of "
                f"{missing[0]!r}: describe its frames too, or set texts.knowledge=motion."
            )
        if spec != self.llm:
            self.note(f"Texts of what is seen by {spec}.")
        return [sorted(by[spec][name], key=lambda each: each.created) for name in self.store.classes]

    def _ask(self) -> list[Exchange]:
        """Ask what would be seen of every class, with no picture shown. Raises `DialogueError`."""
        source, classes, layout = self.source, self.store.classes, self.store.layout
        name = LanguageModel.parse(self.llm)
        if name.is_measured or name.is_file or name.is_imported:
            raise DialogueError(
                f"{self.llm} cannot tell what is seen, and {source.dialogues} has no such texts: describe frames with "
                f"`skag describe {self.store.path} --method {self.config.method} --frames FOLDER --llm ollama/MODEL`, "
                "name a language model with --llm, or set texts.knowledge=motion."
            )
        backend: Backend | None = None
        identities = []
        if source.offline:
            identities = identities_of(self.llm, self.kept, store=self.store, protocol=self.config.data.protocol)
        else:
            backend = open_backend(
                self.llm, store=self.store, base_url=source.base_url, timeout=source.timeout, tell=self.note
            )
        prompts = load_prompts(SCRIPT, source.prompts)
        interview = Interview(
            Respondent(backend, identities), self.kept, prompts, layout, label_set_id(classes, layout), jobs=source.jobs
        )
        self.note("No frame was described: what would be seen is asked of a model that sees none.")

        def one(k: int) -> Exchange | Exception:
            system = {"role": "system", "content": prompts.system()}
            try:
                return interview.ask(Topic(k, classes[k], IMAGINED.number, IMAGINED.kind), [system])
            except (BackendError, FormatProblem) as error:
                return error

        found = in_parallel(one, range(len(classes)), source.jobs)
        self.missing += [each.question for each in found if isinstance(each, NotStored)]
        failed = [(name, each) for name, each in zip(classes, found, strict=True) if isinstance(each, Exception)]
        if failed:
            raise DialogueError(
                f"{len(failed)} of {len(classes)} classes have no text of what would be seen ({failed[0][0]!r}: "
                f"{str(failed[0][1]).rstrip('.')}): run the same command again, or set texts.knowledge=motion."
            )
        return [each for each in found if isinstance(each, Exchange)]
