"""The Selector: reads answers strictly and turns a dialogue into what a network can use.

That is the critical joints of every class, `[K classes, V joints]`, and one sentence per class. An answer that
does not fit its format raises `FormatProblem` with a reason that the model can be told; `repair` mends what can be
mended without guessing. Answers are untrusted: they are matched against the layout and never interpreted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...dialogue.exchanges import Conversation
from ...errors import DialogueError
from ...skeleton.layouts import Layout

MAX_JOINTS = 10  # of a class (paper section 3: round 4 names at most ten)
MAX_TOKENS = 75  # of a sentence: CLIP reads 77, two of them its begin and its end
_MIN_WORDS = 3
_LINE = re.compile(r"([0-9]{1,4}) ?- ?([^:]{1,100}?) ?: ?(\S.*)")
_NUMBERS = re.compile(r"[0-9]{1,4}(\s*,\s*[0-9]{1,4})*\s*\.?")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]?\s+(?=[\"'(]?[A-Z])")
_CLAUSE_END = re.compile(r"\s*(?:[,;]|\s-\s|\s–\s|—)\s*")
_PIECES = re.compile(r"[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]")
_MARKUP = re.compile(r"[*`#]+")


class FormatProblem(Exception):
    """An answer does not have the format that was asked for; the text says why."""


@dataclass(frozen=True)
class CriticalJoint:
    """One line of round 4."""

    joint: int  # 0-based
    movement: str


# ---- strict readers


def check(number: int, text: str, layout: Layout) -> None:
    """Raise `FormatProblem` where the answer of round `number` cannot be used.

    Rounds 1 and 2 are read by the language model alone, as history: they must only say something.
    """
    if not text.strip():
        raise FormatProblem("it is empty")
    if number == 3:
        read_joint_numbers(text, layout)
    elif number == 4:
        read_critical_joints(text, layout)
    elif number in (5, 6) and (label := _label_pattern(layout).search(read_distinction(text))):
        raise FormatProblem(f"it has the joint number {_quote(label[0])}")


def read_joint_numbers(text: str, layout: Layout) -> tuple[int, ...]:
    """Round 3: `8, 12, 24` as 0-based joints, in the order given."""
    line = text.strip()
    if not _NUMBERS.fullmatch(line):
        raise FormatProblem("it is not one line of joint numbers separated by commas")
    joints = tuple(_joint(number, layout) for number in re.findall(r"[0-9]+", line))
    if len(set(joints)) < len(joints):
        raise FormatProblem("it names a joint twice")
    return joints


def read_critical_joints(text: str, layout: Layout, most: int = MAX_JOINTS) -> tuple[CriticalJoint, ...]:
    """Round 4: lines `12-right hand: moves forward and up`, 1 to 10 (`most`) of them, names as in the layout."""
    found = [_critical_joint(line, layout) for line in text.split("\n") if line.strip()]
    if not 1 <= len(found) <= most:
        raise FormatProblem(f"it names {len(found)} joints, and must name 1 to {most}")
    if len({joint.joint for joint in found}) < len(found):
        raise FormatProblem("it names a joint twice")
    return tuple(found)


def all_lines(text: str, layout: Layout) -> str | None:
    """An imported round 4 with more lines than are asked for, all of which fit; None where it is none."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    try:
        found = read_critical_joints("\n".join(lines), layout, layout.num_joints)
    except FormatProblem:
        return None
    return "\n".join(lines) if len(found) > MAX_JOINTS else None


def read_distinction(text: str) -> str:
    """Rounds 5 and 6: one plain sentence that a text encoder reads to its end. Returns it without space around it."""
    sentence = text.strip()
    if "\n" in sentence or len(_SENTENCE_END.split(sentence)) > 1:
        raise FormatProblem("it is more than one sentence")
    if _MARKUP.search(sentence):
        raise FormatProblem("it has marks such as * or #, and must be plain text")
    if len(re.findall(r"[^\W\d_]+", sentence)) < _MIN_WORDS:
        raise FormatProblem("it is no sentence")
    if (tokens := token_bound(sentence)) > MAX_TOKENS:
        raise FormatProblem(f"it is too long: up to {tokens} tokens, and must have fewer than 70")
    return sentence


def token_bound(text: str, letters: int = 6) -> int:
    """How many tokens CLIP's tokeniser makes of a text, rather too many than too few.

    A token per six letters of a word, per digit, per mark, per byte of other letters. Of the 834 sentences of the
    published dialogues none has more (with eight letters a token 144 have, by up to five); a row of rare words can.
    """
    return sum(
        -(-len(piece) // letters) if piece.isascii() else len(piece.encode(errors="replace"))
        for piece in _PIECES.findall(text)
    )


def _joint(number: str, layout: Layout) -> int:
    """0-based joint of a 1-based number as text of at most 4 digits."""
    if not 1 <= int(number) <= layout.num_joints:
        raise FormatProblem(f"joint number {number} is not in the list, which ends at {layout.num_joints}")
    return int(number) - 1


def _critical_joint(line: str, layout: Layout) -> CriticalJoint:
    match = _LINE.fullmatch(" ".join(line.split()))  # single spaces: no room for slow matching
    if not match:
        raise FormatProblem(f"the line {_quote(line)} is not of the form number-name: movement")
    joint, name = _joint(match[1], layout), match[2].casefold()
    if name != layout.joints[joint].casefold():
        raise FormatProblem(f"joint {match[1]} is {layout.joints[joint]}, not {_quote(match[2])}")
    return CriticalJoint(joint, match[3])


def _label_pattern(layout: Layout) -> re.Pattern:
    """`12-right hand` anywhere in a text; its groups are number and name."""
    return re.compile(rf"(?<!\w)([0-9]{{1,4}})\s?-\s?({_names(layout)})(?!\w)", re.IGNORECASE)


def _names(layout: Layout) -> str:
    """Joint names as alternatives, the longest first: "left hand tip" is not also "left hand"."""
    return "|".join(re.escape(name) for name in sorted(layout.joints, key=len, reverse=True))


def _quote(text: str) -> str:
    """A short, printable piece of an answer."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")


# ---- repair


def repair(number: int, text: str, layout: Layout) -> tuple[str, str] | None:
    """Mend an answer that does not fit: the text to use and what was done, or None where that would be guessing."""
    mended = {3: _repair_numbers, 4: _repair_lines, 5: _repair_sentence, 6: _repair_sentence}
    if number not in mended:
        return None
    found = mended[number](text, layout)
    if found is None:
        return None
    try:
        check(number, found[0], layout)
    except FormatProblem:
        return None
    return found


def _repair_numbers(text: str, layout: Layout) -> tuple[str, str] | None:
    """Keep the numbers that are joints; a number inside other words is left out."""
    pattern = re.compile(rf"\W*([0-9]{{1,4}})(?:\s*[-.):]?\s*({_names(layout)}))?\W*", re.IGNORECASE)
    kept: dict[int, None] = {}
    dropped = 0
    for line in _MARKUP.sub("", text).split("\n"):
        listed = line if re.match(r"\W*[0-9]", line) else line.rpartition(":")[2]
        for item in filter(None, (part.strip() for part in re.split(r"[,;]|\band\b", listed))):
            match = pattern.fullmatch(item)
            number, name = (int(match[1]), match[2]) if match else (0, None)
            joint = layout.joints[number - 1] if 1 <= number <= layout.num_joints else None
            if joint is not None and (name is None or name.casefold() == joint.casefold()):
                kept[number] = None
            else:
                dropped += 1
    if not kept:
        return None
    return ", ".join(map(str, kept)), f"kept {len(kept)} joint numbers, dropped {dropped} others"


def _repair_lines(text: str, layout: Layout) -> tuple[str, str] | None:
    """Keep the lines that fit, the first ten of them."""
    kept: dict[int, str] = {}
    lines = [_MARKUP.sub("", line).strip().lstrip("-•+ ") for line in text.split("\n") if line.strip()]
    for line in lines:
        try:
            found = _critical_joint(line, layout)
        except FormatProblem:
            continue
        if len(kept) < MAX_JOINTS:
            kept.setdefault(found.joint, f"{found.joint + 1}-{layout.joints[found.joint]}: {found.movement}")
    if not kept:
        return None
    return "\n".join(kept.values()), f"kept {len(kept)} of {len(lines)} lines"


def _repair_sentence(text: str, layout: Layout) -> tuple[str, str] | None:
    """Keep the first whole sentence; where it is too long, its clauses up to the limit.

    A joint's number before its own name is left out; before another joint's name, nobody knows which is meant.
    """

    def name_alone(label: re.Match) -> str:
        number, name = int(label[1]), label[2]
        agree = 1 <= number <= layout.num_joints and layout.joints[number - 1].casefold() == name.casefold()
        return name if agree else label[0]

    plain = _label_pattern(layout).sub(name_alone, _MARKUP.sub("", text))
    lines = [" ".join(line.split()) for line in plain.split("\n")]
    sentences = [part for line in lines if line and line[-1] != ":" for part in _SENTENCE_END.split(line)]
    sentence = next((part for part in sentences if len(part.split()) >= 5), None)
    if sentence is None:
        return None
    if token_bound(sentence) <= MAX_TOKENS:
        return sentence, "kept the first sentence"
    ends = [match.start() for match in _CLAUSE_END.finditer(sentence, 0, 10 * MAX_TOKENS)]  # a token per 6 letters
    fitting = [end for end in ends if token_bound(sentence[:end]) < MAX_TOKENS]
    return (f"{sentence[: fitting[-1]]}.", "cut the sentence after a clause") if fitting else None


# ---- what the network is given


def critical_mask(conversations: Sequence[Conversation], layout: Layout, with_distinctions: bool = False) -> np.ndarray:
    """Critical joints `[K, V]` uint8 of every class, from round 4 as in the published code.

    `with_distinctions` adds the joints that round 6 calls by their names, up to ten in all. Of an imported dialogue all
    lines count, as in the published masks (24 of its 834 classes have eleven or more). Raises `DialogueError` naming
    class and round where an answer does not fit the layout.
    """
    mask_KV = np.zeros((len(conversations), layout.num_joints), np.uint8)
    for row, conversation in zip(mask_KV, conversations, strict=True):
        most = MAX_JOINTS if not _imported(conversation) else layout.num_joints
        try:
            joints = [found.joint for found in read_critical_joints(conversation.text(4) or "", layout, most)]
        except FormatProblem as problem:
            raise DialogueError(
                f"class {conversation.class_name!r}, round 4: the answer does not fit layout {layout.name!r} "
                f"({problem}); describe the class again."
            ) from None
        if with_distinctions:
            joints += [joint for joint in named_joints(conversation.text(6) or "", layout) if joint not in joints]
        row[joints[:most]] = 1
    return mask_KV


def _imported(conversation: Conversation) -> bool:
    fourth = conversation.exchanges.get(4)
    return fourth is not None and fourth.identity.get("backend") == "imported"


def named_joints(text: str, layout: Layout) -> list[int]:
    """Joints whose exact names stand in a text, in the order of their first mention."""
    found = re.findall(rf"(?<!\w)({_names(layout)})(?!\w)", text, re.IGNORECASE)
    index = {name.casefold(): joint for name, joint in layout.index.items()}
    return list(dict.fromkeys(index[name.casefold()] for name in found if name.casefold() in index))


def sentences(conversations: Sequence[Conversation]) -> list[str]:
    """One sentence per class: its distinction (round 6) where there is one, else its key features (round 5)."""
    return [(conversation.text(6) or conversation.text(5) or "").strip() for conversation in conversations]
