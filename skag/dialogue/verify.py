"""Checks of a dialogue store: is every exchange what it was, is every class told, does every answer fit its format?

    broken       a key that does not follow from its question, or a text that is not the one that was stored
    missing      a round of a class that has no usable answer
    malformed    an answer in use that does not fit its format, or a question that never got one that does
    equal        classes with the same critical joints, which the joint constraint cannot tell apart
    unfinished   a class begun under options for which there is a complete dialogue under others
    asked again  an answer that did not fit; the question was put again with the reason
    repaired     an answer that was mended

The first three are problems; the others are there to be known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from ..backends.contradictions import Contradiction, Witness
from ..skeleton.layouts import Layout
from .exchanges import Exchange, exchange_key, label_set_id, spec_of
from .formats import FormatProblem, all_lines
from .script import Script
from .store import DialogueStore

PROBLEMS = ("broken", "missing", "malformed")
_LISTED = re.compile(r"([0-9]{1,4})-(.+)")
_Place = tuple[str, str]  # identity, and digest of the conversation: a point in somebody's dialogue
_SAME_BACKEND = ("backend", "model", "address", "data", "split")  # of an identity: all but the options


@dataclass(frozen=True)
class DialogueFinding:
    """One thing that was found."""

    kind: str  # see the module's docstring
    llm: str
    class_name: str
    round: int | None
    text: str

    @property
    def is_problem(self) -> bool:
        return self.kind in PROBLEMS


def verify(
    store: DialogueStore,
    script: Script,
    *,
    llm: str | None = None,
    classes: Sequence[str] | None = None,
    layout: Layout | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, list[DialogueFinding]]:
    """(number of exchanges looked at, findings), of all exchanges or those of `llm` and of `classes`.

    Of exchanges of another script than `script` only the keys and texts are checked.
    With the classes and the layout of a data set, who has told of some of its classes must have told of all.
    """
    damaged, total, count = store.damaged(), len(store), 0
    findings: list[DialogueFinding] = []
    chains = _Chains(script)
    for done, exchange in enumerate(store, 1):
        if progress:
            progress(done, total)
        if (llm and spec_of(exchange.identity) != llm) or (classes is not None and exchange.class_name not in classes):
            continue
        count += 1
        findings += _of_exchange(exchange, script, exchange.key in damaged)
        if script.find(exchange.round) is not None:
            chains.add(exchange)
    label_set = None if classes is None or layout is None else label_set_id(classes, layout)
    findings += chains.unanswered() + chains.equal_joints(label_set)
    findings += chains.gaps(() if classes is None else classes, label_set, llm)
    return count, findings


@dataclass(frozen=True)
class ContradictedClaim:
    """A claim of a stored answer that the recordings contradict."""

    llm: str
    class_name: str
    round: int
    found: Contradiction


def contradicted(
    store: DialogueStore, script: Script, witness: Witness, llm: str | None = None
) -> list[ContradictedClaim]:
    """Claims of the answers in use, or those of `llm`, that the witness's clips contradict, each once: movements of
    critical joints, and joints that key features and distinctions call by their names."""
    found: dict[tuple[str, str, int, str, str], ContradictedClaim] = {}
    for exchange in store:
        asked = script.find(exchange.round)
        if asked is None or exchange.rejected is not None or (llm and spec_of(exchange.identity) != llm):
            continue
        if asked.kind == "joint_movements":
            claims = witness.of_lines(exchange.class_name, exchange.text)
        elif asked.kind in ("key_features", "distinction"):
            claims = witness.of_sentence(exchange.class_name, exchange.text)
        else:
            continue
        for claim in claims:
            spec = spec_of(exchange.identity)
            key = (spec, exchange.class_name, exchange.round, claim.joint, claim.claim)
            found.setdefault(key, ContradictedClaim(spec, exchange.class_name, exchange.round, claim))
    return list(found.values())


def _of_exchange(exchange: Exchange, script: Script, damaged: bool) -> list[DialogueFinding]:
    def found(kind: str, text: str) -> DialogueFinding:
        return DialogueFinding(kind, spec_of(exchange.identity), exchange.class_name, exchange.round, text)

    findings = []
    if exchange.key != exchange_key(exchange.identity, exchange.messages, exchange.schema, exchange.again):
        findings.append(found("broken", "its key does not follow from its question"))
    if damaged:
        findings.append(found("broken", "its text is not the one that was stored"))
    if exchange.rejected is not None:
        findings.append(found("asked again", exchange.rejected))
        return findings
    findings += [found("repaired", note.removeprefix("repaired: ")) for note in exchange.notes if "repaired: " in note]
    if problem := _misfit(exchange, script):
        findings.append(found("malformed", problem))
    return findings


def _misfit(exchange: Exchange, script: Script) -> str | None:
    """Why an answer in use does not fit its format, as far as can be told without the layout."""
    asked, joints = script.find(exchange.round), _joints_of(exchange)
    if asked is None:
        return None
    if asked.format.names_joints and joints is None:
        return "its question has no joint list to check it by"
    layout = _layout_of(joints or ("joint",))
    imported = exchange.identity.get("backend") == "imported"
    if imported and asked.kind == "joint_movements" and all_lines(exchange.text, layout):
        return None
    try:
        asked.format.check(exchange.text, layout)
    except FormatProblem as problem:
        return str(problem)
    return None


def _joints_of(exchange: Exchange) -> tuple[str, ...] | None:
    """The joints that an answer may name: those listed in a question, or those it was imported for."""
    imported = exchange.details.get("joints")
    if isinstance(imported, list) and all(isinstance(name, str) for name in imported):
        return _distinct(tuple(imported))
    for message in exchange.messages:
        if message["role"] == "user" and (joints := _listed_joints(message["content"])):
            return joints
    return None


@lru_cache(maxsize=256)
def _listed_joints(question: str) -> tuple[str, ...] | None:
    """The names of the longest run of lines `1-name`, `2-name`, ..."""
    longest: list[str] = []
    names: list[str] = []
    for line in question.split("\n"):
        match = _LISTED.fullmatch(line.strip())
        if match and int(match[1]) in (1, len(names) + 1):
            names = [*(names if int(match[1]) > 1 else []), match[2]]
            longest = max(longest, names, key=len)
        else:
            names = []
    return _distinct(tuple(longest))


def _distinct(names: tuple[str, ...]) -> tuple[str, ...] | None:
    return names if names and len(set(names)) == len(names) else None


@lru_cache(maxsize=64)
def _layout_of(joints: tuple[str, ...]) -> Layout:
    """A layout of these joints, for a format, which only looks at their names."""
    first, *others = joints
    return Layout("listed", 3, joints, dict.fromkeys(others, first), first, {"all": joints})


class _Chains:
    """Which answers follow which: the rounds before training are one chain per class, each exchange with those before.

    An answer that a second model gave where the first one had none that can be used is a link in the first one's chain.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._early: list[_Link] = []
        self._answered: dict[str, bool] = {}  # question -> has it a usable answer
        self._refused: dict[str, DialogueFinding] = {}  # question -> what was wrong with its last answer
        self._unusable: dict[tuple[str, str], tuple[str, str]] = {}  # (identity, what was asked) -> (llm, group)
        self._asked: dict[str, str] = {}  # question asked while training -> what was asked, whoever was
        self._told: set[str] = set()  # what was asked while training and has a usable answer by anybody
        self._followed: dict[_Place, str] = {}  # conversation -> why the question after it has no usable answer

    def add(self, exchange: Exchange) -> None:
        question = exchange.key
        if exchange.attempt:
            question = exchange_key(exchange.identity, exchange.base, exchange.schema)
        usable = exchange.rejected is None
        self._answered[question] = self._answered.get(question, False) or usable
        if not usable:
            text = f"no answer fits, the last one since {exchange.rejected}"
            self._refused[question] = DialogueFinding(
                "malformed", spec_of(exchange.identity), exchange.class_name, exchange.round, text
            )
        if exchange.round in self._script.numbers:
            link = _Link.of(exchange, self._script)
            if usable:
                self._early.append(link)
            else:
                self._unusable[link.identity, link.asked] = link.llm, link.group
                self._followed[link.before] = f"no answer fits, the last one since {exchange.rejected}"
        elif usable:
            self._told.add(_digest(exchange.base))
        else:
            self._asked[question] = _digest(exchange.base)

    def unanswered(self) -> list[DialogueFinding]:
        """Questions asked while training that never got a usable answer: their classes kept the sentences they had."""
        return [
            finding
            for question, finding in self._refused.items()
            if finding.round not in self._script.numbers
            and not self._answered[question]
            and self._asked[question] not in self._told
        ]

    @cached_property
    def _links(self) -> tuple[list[_Link], set[tuple[str, str]]]:
        """All links, a second model's also in the chains of the first; and which those are: (identity, asked)."""
        own = {(link.identity, link.asked) for link in self._early}
        asked = {question for identity, question in self._unusable if (identity, question) not in own}
        given = {link.asked: link for link in self._early if link.asked in asked}
        lent = [
            (given[question], replace(given[question], llm=llm, identity=identity, group=group))
            for (identity, question), (llm, group) in self._unusable.items()
            if (identity, question) not in own and question in given
        ]
        return [*self._early, *(link for _, link in lent)], {(link.identity, link.asked) for link, _ in lent}

    @cached_property
    def _reached(self) -> dict[_Place, _Link]:
        """Conversation -> its last exchange, of those without a gap."""
        reached: dict[_Place, _Link] = {}
        for link in sorted(self._links[0], key=lambda link: link.place):
            before = reached.get(link.before)
            if link.place == 1 or (before is not None and before.place == link.place - 1):
                joints = link.joints or (before.joints if before is not None and link.place > 1 else frozenset())
                reached[link.after] = replace(link, joints=joints)
        return reached

    def gaps(self, classes: Sequence[str], label_set: str | None, llm: str | None) -> list[DialogueFinding]:
        """Classes of which a round is missing."""
        reached, (links, lent) = self._reached, self._links
        numbers = self._script.numbers
        continued = {link.before for link in reached.values()}
        whole = {(link.group, link.class_name) for link in reached.values() if link.place == len(numbers)}
        ends = [link for link in reached.values() if link.place < len(numbers) and link.after not in continued]
        begun = {(link.identity, link.class_name) for link in reached.values()}
        ends += {
            (link.identity, link.class_name): replace(link, place=0, told="")
            for link in links
            if (link.identity, link.class_name) not in begun
        }.values()
        findings = []
        for end in ends:
            if (end.identity, end.asked) in lent:
                continue  # it was asked for that answer alone
            text = self._lacks(end.place) + (f": {why}" if (why := self._followed.get(end.after)) else "")
            kind = "unfinished" if (end.group, end.class_name) in whole else "missing"
            findings.append(DialogueFinding(kind, end.llm, end.class_name, numbers[end.place], text))
        if label_set is not None:
            own = [link for link in links if (link.identity, link.asked) not in lent]
            anybody = {link.identity: link.llm for link in own}
            told = {link.identity: link.llm for link in own if link.label_set == label_set} or anybody
            known = {(link.identity, link.class_name) for link in links}
            for identity, spec in (told or {"": llm or "nobody"}).items():
                absent = [name for name in classes if (identity, name) not in known]
                findings += [DialogueFinding("missing", spec, name, numbers[0], self._lacks(0)) for name in absent]
        return findings

    def _lacks(self, place: int) -> str:
        return f"no answers of rounds {', '.join(map(str, self._script.numbers[place:]))}"

    def equal_joints(self, label_set: str | None) -> list[DialogueFinding]:
        """Classes that one backend gave the same critical joints."""
        groups: dict[tuple[str, str, frozenset[str]], dict[str, _Link]] = {}
        movements = self._script.of("joint_movements")
        number = None if movements is None else movements.number
        for link in self._reached.values():
            if link.place == len(self._script.numbers) and link.joints:
                group = (link.identity, label_set or link.label_set, link.joints)
                groups.setdefault(group, {})[link.class_name] = link
        findings = []
        for (_, _, joints), links in groups.items():
            if len(links) > 1:
                first, *others = links
                text = f"the same as {', '.join(others)}: {', '.join(sorted(joints))}"
                findings.append(DialogueFinding("equal", links[first].llm, first, number, text))
        return findings


def _digest(messages: Sequence[dict[str, str]]) -> str:
    return exchange_key({}, messages)


@dataclass(frozen=True)
class _Link:
    """What a chain needs to know of an exchange."""

    llm: str
    identity: str
    group: str  # identities with the same one differ in options alone
    label_set: str
    class_name: str
    place: int  # of its round among those before training, from 1
    history: str  # digests, whoever was asked: of the conversation before the question
    asked: str  # with the question
    told: str  # and with the answer
    joints: frozenset[str]  # the critical ones

    @property
    def before(self) -> _Place:
        return self.identity, self.history

    @property
    def after(self) -> _Place:
        return self.identity, self.told

    @classmethod
    def of(cls, exchange: Exchange, script: Script) -> _Link:
        identity = exchange.identity
        joints: frozenset[str] = frozenset()
        if script[exchange.round].kind == "joint_movements":
            joints = frozenset(re.findall(r"(?m)^ *[0-9]{1,4} ?- ?([^:\n]{1,100}?) ?:", exchange.text.casefold()))
        return cls(
            spec_of(identity),
            json.dumps(identity, sort_keys=True),
            json.dumps({name: identity.get(name) for name in _SAME_BACKEND}),
            exchange.label_set,
            exchange.class_name,
            script.numbers.index(exchange.round) + 1,
            _digest(exchange.base[:-1]),
            _digest(exchange.base),
            _digest(exchange.after),
            joints,
        )
