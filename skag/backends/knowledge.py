"""A person's knowledge as a backend: `--llm file:KNOWLEDGE.toml`.

A coach or clinician writes down, for each class, what a language model would be asked for, and for pairs of classes
what tells them apart:

    [[class]]
    name = "sit down"
    overview = "..."                            one sentence
    head = "..."  (hand, arm, hip, leg, foot)   a few words
    critical_joints = ["left knee: bends"]      by the layout's names, 1 to 10
    key_features = "..."                        one sentence

    [[pair]]
    "sit down" = "what one sees in it and not in the other"
    "stand up" = "and the other way round"

What distinguishes a class is composed from the pairs of it and its similar classes. Answers go through the same store
and the same checks as any other's. Files that come with skag are in `knowledge_files/`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dialogue import formats
from ..dialogue.formats import SENTENCE, FormatProblem
from ..errors import BackendError
from ..skeleton.layouts import Layout

if TYPE_CHECKING:
    from ..dialogue.exchanges import Conversation
    from ..dialogue.script import Script
    from .base import Answer, Message, Topic

KNOWLEDGE_FOLDER = Path(__file__).parent / "knowledge_files"
PARTS = ("head", "hand", "arm", "hip", "leg", "foot")
TEXT_FIELDS = ("name", "overview", *PARTS, "key_features")
MOST_PAIRS = 3  # that one distinction tells of: more would not fit a sentence
_FIELDS = (*TEXT_FIELDS, "critical_joints")
_LARGEST_FILE = 4 << 20  # bytes
_MOST_MISTAKES = 5  # that one line tells of
_PART_LINE = re.compile(rf"\W*({'|'.join(PARTS)})\W*: ?(.*\S)", re.IGNORECASE)
_ANSWERS = {  # what a question asks for -> (the fields that answer it, the format of the answer)
    "overview": ("overview", formats.FREE_TEXT),
    "body_parts": ("head to foot", formats.FREE_TEXT),
    "joint_numbers": ("critical_joints", formats.JOINT_NUMBERS),
    "joint_movements": ("critical_joints", formats.JOINT_MOVEMENTS),
    "key_features": ("key_features", SENTENCE),
}


@dataclass(frozen=True)
class ClassEntry:
    """What is known of one class; all texts are one line."""

    name: str
    overview: str
    parts: dict[str, str]
    joints: dict[int, str]  # 0-based critical joint -> how it moves
    key_features: str

    def answer(self, kind: str, layout: Layout) -> str:
        """What a question of a `kind` of `_ANSWERS` asks for."""
        joints = sorted(self.joints)
        return {
            "overview": lambda: self.overview,
            "body_parts": lambda: "\n".join(f"{part}: {text}" for part, text in self.parts.items()),
            "joint_numbers": lambda: ", ".join(str(joint + 1) for joint in joints),
            "joint_movements": lambda: "\n".join(
                f"{joint + 1}-{layout.joints[joint]}: {self.joints[joint]}" for joint in joints
            ),
            "key_features": lambda: self.key_features,
        }[kind]()


@dataclass(frozen=True)
class Knowledge:
    """A knowledge file, checked against the classes and the layout of a data set."""

    name: str
    layout: Layout
    classes: dict[str, ClassEntry]  # by the data set's names
    pairs: dict[tuple[str, str], str]  # (class, other class) -> what one sees in the first and not in the second

    @property
    def content(self) -> str:
        """Short hash of what is known of the data set's classes; notes and other classes do not count."""
        known = [
            [name, entry.overview, entry.parts, sorted(entry.joints.items()), entry.key_features]
            for name, entry in sorted(self.classes.items())
        ]
        return hashlib.sha256(json.dumps([known, sorted(self.pairs.items())]).encode()).hexdigest()[:16]

    def distinction(self, one: str, similar: Iterable[str]) -> tuple[str, list[str]]:
        """(what distinguishes it, the classes it tells from): from its pairs, else the key features."""
        clauses: list[str] = []
        told: list[str] = []
        for other in similar:
            if (sign := self.pairs.get((one, other))) is None:
                continue
            if (
                len(told) == MOST_PAIRS
                or formats.token_bound(_sentence([*clauses, _unlike(other, sign)])) > formats.MAX_TOKENS
            ):
                break
            clauses.append(_unlike(other, sign))
            told.append(other)
        return (_sentence(clauses), told) if clauses else (self.classes[one].key_features, [])


class FileBackend:
    """Answers from a knowledge file; see the module's docstring. Raises `BackendError` for a file with mistakes."""

    def __init__(self, path: str, classes: Sequence[str], layout: Layout) -> None:
        self._knowledge = load_knowledge(find_file(path), classes, layout)
        self._classes = list(classes)
        self.spec = f"file:{path}"

    def identity(self) -> dict:
        """What shapes the answers: what the file says of these classes. An edited file is asked anew."""
        return {"backend": "file", "version": 1, "model": self._knowledge.name, "content": self._knowledge.content}

    def ask(self, messages: list[Message], topic: Topic, schema: dict | None = None) -> Answer:
        """Answer what `topic` asks for, whatever the wording. Raises `BackendError` where no field says it."""
        from .base import Answer

        started = time.perf_counter()
        knowledge, name = self._knowledge, self._classes[topic.class_index]
        details = {}
        if topic.kind == "distinction":
            text, told = knowledge.distinction(name, [self._classes[other] for other in topic.similar])
            details["pairs"] = told
        elif topic.kind in _ANSWERS:
            text = knowledge.classes[name].answer(topic.kind, knowledge.layout)
        else:
            raise BackendError(
                f"{self.spec} cannot answer round {topic.round}, {topic.kind}: a knowledge file has no field for it; "
                "ask a language model."
            )
        return Answer(text, seconds=time.perf_counter() - started, details=details)


def knowledge_names() -> list[str]:
    """The knowledge files that come with skag."""
    return sorted(path.stem for path in KNOWLEDGE_FOLDER.glob("*.toml"))


def is_there(name: str) -> bool:
    """Whether there is a knowledge file of that name or path."""
    return name in knowledge_names() or Path(name).is_file()


def find_file(name: str) -> Path:
    """A knowledge file by skag's name for it, or by its path. Raises `BackendError`."""
    if name in knowledge_names():
        return KNOWLEDGE_FOLDER / f"{name}.toml"
    path = Path(name)
    if not path.is_file():
        raise BackendError(
            f"no knowledge file {name!r}: give --llm file:PATH, or file: and one of {', '.join(knowledge_names())}; "
            "`skag dialogues template DATA.h5 FILE.toml` writes an empty form."
        )
    return path


# ---- reading


def load_knowledge(path: Path, classes: Sequence[str], layout: Layout) -> Knowledge:
    """Read a knowledge file for the classes of a data set.

    Raises `BackendError` that names what is wrong by class and field, with the nearest known name.
    """
    values = _read(path)
    mistakes: list[str] = []
    if unknown := sorted(set(values) - {"class", "pair"}):
        mistakes.append(f"{_quoted(unknown[0])} is no part of it{_near(unknown[0], ['class', 'pair'])}")
    entries: dict[str, ClassEntry] = {}
    for number, entry in enumerate(_tables(values, "class", mistakes), 1):
        name = entry.get("name")
        known = " ".join(name.split()) if isinstance(name, str) else ""
        if not known:
            mistakes.append(f"class number {number} has no name")
        elif known in entries:
            mistakes.append(f"class {_quoted(known)} is there twice")
        else:
            entries[known] = _class(known, entry, layout, mistakes)
    wanted = {" ".join(name.split()): name for name in classes}
    for plain in wanted:
        if plain not in entries:
            mistakes.append(f"class {_quoted(plain)} is missing{_near(plain, set(entries) - set(wanted))}")
    pairs: dict[tuple[str, str], str] = {}
    for number, pair in enumerate(_tables(values, "pair", mistakes), 1):
        _pair(number, pair, entries, pairs, layout, mistakes)
    if mistakes:
        more = f"; and {len(mistakes) - _MOST_MISTAKES} more" if len(mistakes) > _MOST_MISTAKES else ""
        raise BackendError(f"{path}: {'; '.join(mistakes[:_MOST_MISTAKES])}{more}. Correct the file and try again.")
    return Knowledge(
        path.stem,
        layout,
        {name: entries[plain] for plain, name in wanted.items()},
        {(wanted[a], wanted[b]): sign for (a, b), sign in pairs.items() if a in wanted and b in wanted},
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            raise BackendError(f"{path} is larger than a knowledge file can be.")
        return tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise BackendError(f"{path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise BackendError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise BackendError(
            f"{path} is no valid TOML ({reason}): see that every text is between quotation marks, and every line of a "
            "list ends with a comma."
        ) from None


def _tables(values: dict[str, Any], name: str, mistakes: list[str]) -> list[dict[str, Any]]:
    found = values.get(name, [])
    if isinstance(found, list) and all(isinstance(each, dict) for each in found):
        return found
    mistakes.append(f"'{name}' must be written [[{name}]]")
    return []


def _class(name: str, entry: dict[str, Any], layout: Layout, mistakes: list[str]) -> ClassEntry:
    """One class; what is wrong with it goes into `mistakes`."""
    where = f"class {_quoted(name)}"
    before = len(mistakes)
    for unknown in sorted(set(entry) - set(_FIELDS)):
        mistakes.append(f"{where} has an unknown field {_quoted(unknown)}{_near(unknown, _FIELDS)}")
    texts = {}
    for field in TEXT_FIELDS:
        value = entry.get(field, "")
        texts[field] = " ".join(value.split()) if isinstance(value, str) else ""
        if not texts[field]:
            mistakes.append(f"{where}, {field}: " + ("is empty" if isinstance(value, str) else "is no text"))
    joints = _joints(where, entry.get("critical_joints", []), layout, mistakes)
    parts = {part: texts[part] for part in PARTS}
    known = ClassEntry(name, texts["overview"], parts, joints, texts["key_features"])
    if len(mistakes) == before:
        for kind, (field, form) in _ANSWERS.items():
            try:
                form.check(known.answer(kind, layout), layout)
            except FormatProblem as problem:
                mistakes.append(f"{where}, {field}: {problem}")
                break
    return known


def _joints(where: str, value: Any, layout: Layout, mistakes: list[str]) -> dict[int, str]:
    """Joint -> movement from lines such as "left knee: bends"."""
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        mistakes.append(f'{where}, critical_joints: is no list of texts such as "{layout.joints[-1]}: moves up"')
        return {}
    if not value:
        mistakes.append(f"{where}, critical_joints: is empty")
    by_name = {joint.casefold(): index for joint, index in layout.index.items()}
    joints: dict[int, str] = {}
    for line in value:
        name, _, movement = (" ".join(part.split()) for part in line.partition(":"))
        if name.casefold() not in by_name:
            near = _near(name, layout.joints)
            mistakes.append(f"{where}, critical_joints: {_quoted(name)} is no joint of layout {layout.name}{near}")
        elif not movement:
            mistakes.append(f"{where}, critical_joints: {_quoted(name)} does not say how it moves")
        elif by_name[name.casefold()] in joints:
            mistakes.append(f"{where}, critical_joints: {_quoted(name)} is there twice")
        else:
            joints[by_name[name.casefold()]] = movement
    return joints


def _pair(
    number: int,
    pair: dict[str, Any],
    entries: dict[str, ClassEntry],
    pairs: dict[tuple[str, str], str],
    layout: Layout,
    mistakes: list[str],
) -> None:
    """One pair; what is wrong with it goes into `mistakes`."""
    signs = {" ".join(name.split()): text for name, text in pair.items()}
    where = f"pair number {number} ({' and '.join(map(_quoted, signs))})"
    if len(signs) != 2:
        mistakes.append(f"{where} has {len(signs)} classes, and must have two")
        return
    for name, sign in signs.items():
        if name not in entries:
            mistakes.append(f"{where}: {_quoted(name)} is no class of the file{_near(name, entries)}")
            return
        if not isinstance(sign, str) or not sign.strip():
            mistakes.append(f"{where}, {_quoted(name)}: is empty")
            return
    for one, other in (tuple(signs), tuple(signs)[::-1]):
        sign = " ".join(signs[one].split()).rstrip(".")
        try:
            SENTENCE.check(_sentence([_unlike(other, sign)]), layout)
        except FormatProblem as problem:
            mistakes.append(f"{where}, {_quoted(one)}: {problem}")
        if (one, other) in pairs:
            mistakes.append(f"{where} is there twice")
            return
        pairs[one, other] = sign


def _unlike(other: str, sign: str) -> str:
    """A clause; marks in a class's name that would end a sentence are left out."""
    name = " ".join(re.sub(r"[.!?*`#;]", " ", other).split())
    return f"unlike in {name}, {sign}"


def _sentence(clauses: Sequence[str]) -> str:
    text = "; ".join(clauses)
    return f"{text[:1].upper()}{text[1:]}."


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.casefold(), sorted(known), n=1)
    return f" (nearest: {_quoted(near[0])})" if near else ""


def _quoted(text: str) -> str:
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")


# ---- the form


def as_told(conversation: Conversation, layout: Layout, script: Script) -> ClassEntry:
    """What the answers to a script say of a class, for a person to correct. Empty are parts of the body that have no
    line, the critical joints where they do not fit the layout, and what the script does not ask for."""
    said = {each.kind: conversation.text(each.number) or "" for each in script.rounds}
    said = dict.fromkeys(_ANSWERS, "") | said
    lines = [" ".join(line.split()) for line in said["body_parts"].split("\n")]
    parts = dict.fromkeys(PARTS, "") | {
        match[1].lower(): match[2] for match in map(_PART_LINE.fullmatch, lines) if match
    }
    try:
        joints = {
            found.joint: found.movement for found in formats.read_critical_joints(said["joint_movements"], layout)
        }
    except FormatProblem:
        joints = {}
    overview, key_features = (" ".join(said[kind].split()) for kind in ("overview", "key_features"))
    return ClassEntry(conversation.class_name, overview, parts, joints, key_features)


def template(classes: Sequence[str], layout: Layout, told: Sequence[ClassEntry] = ()) -> str:
    """A knowledge file for the classes of a data set, with notes for whoever fills it in: empty, or with what is
    `told` of every class."""
    blank = dict.fromkeys(PARTS, "")
    entries = told or [ClassEntry(name, "", blank, {}, "") for name in classes]
    joints = "".join(f"#   {joint}\n" for joint in layout.joints)
    first, second = [*classes, *classes][:2]
    begun = "It holds what was answered before: correct it" if told else "Fill it in"
    head = f"""\
# What a person knows of these actions, for skag. {begun}, save it, then run:
#
#   skag describe DATA.h5 --llm file:THIS-FILE.toml
#
# Write between the quotation marks, in plain words: how the body moves, in which direction, how far, how fast, in
# which order. A program sees only the positions of the joints, no picture and no objects. Left and right are the
# person's own. Lines that begin with # are notes for you; skag does not read them.
#
#   overview          one sentence: the whole movement from beginning to end
#   head ... foot     a few words each; "still" where the part hardly moves
#   critical_joints   1 to 10 lines "joint: how it moves", the joints one has to watch to recognise the action
#   key_features      one sentence of at most 40 words: by what it is recognised
#
# The joints, called exactly so:
#
{joints}#
# At the end, in pairs, write what tells look-alike actions apart.
"""
    body = "".join(_form(entry, layout) for entry in entries)
    tail = f"""
# ---- Pairs: for actions that look alike, what one sees in the one and not in the other. Few words, no full stop.
# `skag analyze-confusion RUN` says which are confused. Copy these three lines, without the #, for every pair.
#
# [[pair]]
# {_toml(first)} = "what one sees in it and not in the other"
# {_toml(second)} = "what one sees in it and not in the other"
"""
    return head + body + tail


def _form(entry: ClassEntry, layout: Layout) -> str:
    """The `[[class]]` of one class."""
    named = [f"{_toml(f'{layout.joints[joint]}: {movement}')},\n" for joint, movement in sorted(entry.joints.items())]
    texts = {"name": entry.name, "overview": entry.overview, **entry.parts}
    return (
        "\n[[class]]\n"
        + "".join(f"{field} = {_toml(text)}\n" for field, text in texts.items())
        + "critical_joints = [\n"
        + "".join(f"  {line}" for line in named or [f'# "{layout.joints[-1]}: moves up and stays there",\n'])
        + f"]\nkey_features = {_toml(entry.key_features)}\n"
    )


def _toml(text: str) -> str:
    """A text as a TOML basic string."""
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007F")
