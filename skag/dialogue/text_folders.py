"""The published code's dialogues: a folder per label set, a text file per class, as in `gpt4o/nturgbd_60/`.

    NNN_class_name.txt    NNN from 001 in label order; spaces and slashes of the name became `_`
    Round N Question:     five blocks, six after a refresh, each of a question and an answer, each ended by a line
    ...                   of 80 `=`
    Round N Answer:
    ...

They were asked with other prompts, and of a joint list with some other names, so they are not found as answers to
skag's questions: they are a dialogue of their own, `imported/NAME`, that a run can be trained with. What the files say
is untrusted text; classes and joints must fit the data set, and every answer its format.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..errors import DialogueError
from ..skeleton.layouts import Layout
from .describe import load
from .exchanges import Conversation, Exchange, exchange_key, label_set_id
from .formats import FormatProblem, all_lines
from .interview import MAX_ANSWER, clean
from .script import Round, Script
from .store import DialogueStore
from .transfer import RULE

SAME_QUESTION = "has the question of"  # begins the note on a class whose first question another class has too
_LARGEST_FILE = 1 << 20  # bytes; the published ones have four thousand
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")
_FILE = re.compile(r"([0-9]{3,6})_(.+)\.txt", re.DOTALL)
_JOINT = re.compile(r"(?<![\w-])([0-9]{1,3})-([A-Za-z][A-Za-z ]{0,40}?)(?=\s*(?:[,.;\n]|$))")
_SIMILAR = re.compile(r"from similar actions like ('.*')\.", re.DOTALL)
_SIDES = frozenset({"left", "right"})
_SMALL_WORDS = frozenset({"of", "the", "and"})
_SAME_WORDS = {"thorax": "trunk"}  # the published COCO list calls the mean of hips and shoulders so


@dataclass(frozen=True)
class Block:
    """One round of a file."""

    question: str
    answer: str


def read_folder(
    folder: Path, name: str, classes: Sequence[str], layout: Layout, script: Script, *, by_number: bool = False
) -> list[Exchange]:
    """The exchanges of a folder for the classes of a data set, as the dialogue `imported/NAME`.

    Files are matched by number and name, with `by_number` by number alone. Raises `DialogueError` naming every class
    that has no file or another name, and the class and round of an answer that cannot be used.
    """
    if not NAME.fullmatch(name):
        raise DialogueError(f"{ascii(name[:80])} is no name for an import: use letters, digits, '.', '_' and '-'.")
    paths = _match(folder, classes, by_number)
    texts = [_read(path) for path in paths]
    content = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
    identity = {"backend": "imported", "model": name, "content": content}
    label_set, created = label_set_id(classes, layout), datetime.now(UTC).isoformat()
    exchanges: list[Exchange] = []
    first_asked: dict[str, str] = {}  # key -> class
    problems: list[str] = []
    for class_name, path, text in zip(classes, paths, texts, strict=True):
        try:
            blocks = dict(zip(script.all, parse(text, script), strict=False))
            listed = script.lists_joints
            joints = {} if listed is None else _joint_names(blocks[listed].question, layout, listed.number)
            first = exchange_key(identity, ({"role": "user", "content": blocks[script.all[0]].question},))
            other = first_asked.setdefault(first, class_name)
            history = () if other == class_name else _told_apart(path, len(classes))
            for asked, block in blocks.items():
                answer, repaired, notes = _usable(asked, block.answer, joints, layout)
                if asked is script.all[0] and other != class_name:
                    notes += (f"{SAME_QUESTION} {other!r}: told apart by the number of its file",)
                messages = (*history, {"role": "user", "content": block.question})
                exchange = Exchange(
                    key=exchange_key(identity, messages),
                    label_set=label_set,
                    class_name=class_name,
                    round=asked.number,
                    identity=identity,
                    messages=messages,
                    prompt_hash="",
                    answer=answer,
                    similar=_similar(block.question, classes) if "similar" in asked.required else (),
                    repaired=repaired,
                    created=created,
                    notes=notes,
                    details={"file": clean(path.name), "joints": list(layout.joints)},
                )
                exchanges.append(exchange)
                history = exchange.after
        except FormatProblem as problem:
            problems.append(f"{class_name!r}, {problem}")
    if problems:
        raise DialogueError(
            f"{folder} cannot be used: {_listed(problems, '; ')}. Correct the files, or describe the classes anew."
        )
    return exchanges


def _told_apart(path: Path, classes: int) -> tuple[dict[str, str], ...]:
    """What stands before a conversation whose first question another file has too, since an exchange is known by what
    was asked. The published FineGYM files 059 and 071 both ask about "(BB) salto backward tucked"."""
    return ({"role": "system", "content": f"Class {int(path.name.split('_')[0])} of {classes}."},)


def load_imported(
    store: DialogueStore,
    classes: Sequence[str],
    layout: Layout,
    script: Script,
    identity: dict,
    command: str = "skag dialogues import FOLDER --data DATA.h5",
) -> tuple[Conversation, ...]:
    """An imported dialogue from the store: the rounds before training of all classes, and those asked while training
    where they were imported."""
    conversations = load(store, classes, layout, script, identity=identity, command=command)
    found = store.find(class_names=set(classes), rounds=[each.number for each in script.later])
    after = {(each.round, exchange_key(each.identity, each.base[:-1])): each for each in found}
    whole = []
    for told in conversations:
        last = told.exchanges[script.last.number]
        place = exchange_key(last.identity, last.after)
        later = {each.number: after[each.number, place] for each in script.later if (each.number, place) in after}
        whole.append(Conversation(told.class_index, told.class_name, told.exchanges | later))
    return tuple(whole)


# ---- classes


def _match(folder: Path, classes: Sequence[str], by_number: bool) -> list[Path]:
    """The file of every class."""
    if not folder.is_dir():
        raise DialogueError(f"{folder} is no folder of dialogues: give one with files such as 001_drink_water.txt.")
    files: dict[int, tuple[Path, str]] = {}
    for path in sorted(folder.iterdir()):
        if match := _FILE.fullmatch(path.name):
            number = int(match[1])
            if number in files:
                raise DialogueError(f"{folder} has two files of number {number}: leave one.")
            files[number] = (path, match[2])
    problems = []
    for number, class_name in enumerate(classes, 1):
        if number not in files:
            problems.append(f"no file {number:03d} for {class_name!r}")
        elif not by_number and _plain(files[number][1]) != _plain(class_name):
            problems.append(f"file {ascii(files[number][0].name)} for class {number}, {class_name!r}")
    if problems:
        hint = "" if by_number else " Where only the names are worded differently, add --by-number."
        raise DialogueError(f"{folder} does not fit the {len(classes)} classes: {_listed(problems, ', ')}.{hint}")
    return [files[number][0] for number in range(1, len(classes) + 1)]


def _plain(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.casefold())


def _listed(items: Sequence[str], separator: str, most: int = 10) -> str:
    more = f"{separator}and {len(items) - most} more" if len(items) > most else ""
    return separator.join(items[:most]) + more


# ---- blocks


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            raise DialogueError(f"{path} is larger than a dialogue can be: take it out of the folder.")
        return clean(data.decode("utf-8-sig"))
    except OSError as error:
        raise DialogueError(f"{path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise DialogueError(f"{path} is not UTF-8 text: save it as UTF-8.") from None


def parse(text: str, script: Script) -> list[Block]:
    """The rounds of a file: those before training, or all. Raises `FormatProblem` naming the round that is wrong."""
    blocks: list[Block] = []
    lines: list[str] = []
    for line in text.split("\n"):
        if line.rstrip() != RULE:
            lines.append(line)
            continue
        blocks.append(_block(lines, len(blocks) + 1))
        lines = []
    if any(line.strip() for line in lines):
        raise FormatProblem(f"round {len(blocks) + 1} does not end with a line of 80 '=': the file is cut off")
    counts = (len(script.rounds), len(script.all))
    if len(blocks) not in counts:
        must = " or ".join(map(str, dict.fromkeys(counts)))
        raise FormatProblem(f"the file has {len(blocks)} rounds, and must have {must}")
    return blocks


def _block(lines: list[str], number: int) -> Block:
    stripped = [line.strip() for line in lines]
    try:
        question, answer = (stripped.index(f"Round {number} {part}:") for part in ("Question", "Answer"))
    except ValueError:
        raise FormatProblem(
            f"round {number} has no 'Round {number} Question:' or no 'Round {number} Answer:'"
        ) from None
    block = Block("\n".join(lines[question + 1 : answer]).strip(), "\n".join(lines[answer + 1 :]).strip())
    if question > answer or any(stripped[:question]) or not block.question or not block.answer:
        raise FormatProblem(f"round {number} is no question followed by an answer")
    if max(len(block.question), len(block.answer)) > MAX_ANSWER:
        raise FormatProblem(f"round {number} is longer than an answer can be")
    return block


def _similar(question: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that the published question of what distinguishes them lists, in its order."""
    listed = _SIMILAR.search(question)
    return tuple(name for name in listed[1][1:-1].split("', '") if name in classes) if listed else ()


# ---- joints


def _joint_names(question: str, layout: Layout, number: int) -> dict[int, str]:
    """The joint list of round `number`'s question, number -> name. Raises `FormatProblem` where it is not the layout's.

    The layout may have fewer joints (the published lists add three to the 17 of COCO), never others: names must have
    the same side, and the words of the one must be among those of the other ("tip of the left hand", "left hand tip").
    """
    listed: dict[int, str] = {}
    for digits, name in _JOINT.findall(question):
        if int(digits) == len(listed) + 1:
            listed[int(digits)] = " ".join(name.split())
    if len(listed) < layout.num_joints:
        raise FormatProblem(
            f"round {number} lists {len(listed)} joints, and layout {layout.name!r} has {layout.num_joints}"
        )
    for index, joint in enumerate(layout.joints, 1):
        theirs, ours = _words(listed[index]), _words(joint)
        if theirs & _SIDES != ours & _SIDES or not (theirs <= ours or ours <= theirs):
            raise FormatProblem(
                f"round {number} calls joint {index} {listed[index]!r}, and layout {layout.name!r} {joint!r}"
            )
    return listed


def _words(joint: str) -> set[str]:
    return {_SAME_WORDS.get(word, word) for word in _plain(joint)} - _SMALL_WORDS


def _usable(asked: Round, answer: str, joints: dict[int, str], layout: Layout) -> tuple[str, str, tuple[str, ...]]:
    """(answer, what is used instead, notes) of an imported answer.

    Nobody can be asked again, so what does not fit is mended at once.
    """
    text = _in_layout_names(answer, joints, layout) if asked.kind == "joint_movements" else answer
    try:
        if asked.kind == "joint_movements" and (whole := all_lines(text, layout)):  # published masks keep all joints
            return answer, whole if whole != answer else "", ()
        asked.format.check(text, layout)
    except FormatProblem as problem:
        mended = asked.format.repair(text, layout)
        if mended is None:
            raise FormatProblem(f"round {asked.number}: {problem}") from None
        return answer, mended[0], (f"repaired: {mended[1]}, since {problem}",)
    if text != answer:
        return answer, text, (f"repaired: joints called as in layout {layout.name}",)
    return answer, "", ()


def _in_layout_names(answer: str, joints: dict[int, str], layout: Layout) -> str:
    """How joints move, with the layout's names of joints in the places of the list's own."""
    lines = []
    for line in answer.split("\n"):
        label, colon, movement = line.strip().partition(":")
        number, dash, name = label.partition("-")
        index = int(number) if re.fullmatch(r"[0-9]{1,3}", number) else 0
        if 1 <= index <= layout.num_joints and _plain(name) == _plain(joints[index]):
            label = f"{number}{dash}{layout.joints[index - 1]}"
        lines.append(f"{label}{colon}{movement}")
    return "\n".join(lines)
