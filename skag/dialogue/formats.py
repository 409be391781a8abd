"""What an answer must look like: read strictly, mended where that is no guessing, and as a JSON schema.

An answer that does not fit its format raises `FormatProblem` with a reason that the model can be told. Answers are
untrusted: they are matched against the layout and never interpreted. The prompts ask for plain text; a model that
often misses the format can be held to a JSON schema of the same content (`--structured`), whose JSON is turned into
the text that was asked for.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..skeleton.kinematics import PART_WORDS
from ..skeleton.layouts import Layout

BODY_PARTS = tuple(PART_WORDS)  # head, hand, arm, hip, leg, foot
MAX_JOINTS = 10  # of a class (paper section 3: at most ten are named with their movements)
MAX_TOKENS = 75  # of a sentence: CLIP reads 77, two of them its begin and its end
_MIN_WORDS = 3
_PART_LINE = re.compile(rf"\W*({'|'.join(BODY_PARTS)})s?\b\W*(.*\w.*)", re.IGNORECASE)
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
    """A joint by whose movement an action is recognised."""

    joint: int  # 0-based
    movement: str


@dataclass(frozen=True)
class Format:
    """What an answer must look like. The ones there are stand at the end of this module."""

    read: Callable[[str, Layout], object] | None = None  # raises `FormatProblem`; None: it must only say something
    mend: Callable[[str, Layout], tuple[str, str] | None] | None = None  # (text to use, what was done)
    properties: Callable[[Layout], dict[str, Any]] | None = None  # of the JSON object that says the same
    exact: Callable[[Layout], dict[str, Any]] | None = None  # the same with all limits, of which not all servers know
    write: Callable[[dict[str, Any]], str] | None = None  # such an object as text
    names_joints: bool = False  # it can only be checked by a list of joints

    def check(self, text: str, layout: Layout) -> None:
        """Raise `FormatProblem` where an answer cannot be used."""
        if not text.strip():
            raise FormatProblem("it is empty")
        if self.read is not None:
            self.read(text, layout)

    def repair(self, text: str, layout: Layout) -> tuple[str, str] | None:
        """Mend an answer that does not fit: the text to use and what was done, or None where that would be guessing."""
        found = None if self.mend is None else self.mend(text, layout)
        if found is None:
            return None
        try:
            self.check(found[0], layout)
        except FormatProblem:
            return None
        return found

    def schema(self, layout: Layout, exact: bool = False) -> dict[str, Any] | None:
        """The JSON schema of an answer; None for free text.

        All that keeps to the `exact` one fits the format. Its keywords are those of `skag.lm.grammar`.
        """
        properties = self.exact if exact and self.exact is not None else self.properties
        return None if properties is None else _object(**properties(layout))

    def as_text(self, answer: str) -> str | None:
        """An answer by the schema, as the plain text that was asked for; None for anything else."""
        try:
            return None if self.write is None else self.write(json.loads(answer))
        except (ValueError, TypeError, LookupError, RecursionError):
            return None


# ---- strict readers


def read_joint_numbers(text: str, layout: Layout) -> tuple[int, ...]:
    """`8, 12, 24` as 0-based joints, in the order given."""
    line = text.strip()
    if not _NUMBERS.fullmatch(line):
        raise FormatProblem("it is not one line of joint numbers separated by commas")
    joints = tuple(_joint(number, layout) for number in re.findall(r"[0-9]+", line))
    _refuse_repeated(joints, layout)
    return joints


def read_critical_joints(text: str, layout: Layout, most: int = MAX_JOINTS) -> tuple[CriticalJoint, ...]:
    """Lines `12-right hand: moves forward and up`, 1 to 10 (`most`) of them, names as in the layout."""
    found = [_critical_joint(line, layout) for line in text.split("\n") if line.strip()]
    if not 1 <= len(found) <= most:
        raise FormatProblem(f"it names {len(found)} joints, and must name 1 to {most}")
    _refuse_repeated([each.joint for each in found], layout)
    return tuple(found)


def all_lines(text: str, layout: Layout) -> str | None:
    """Critical joints of an imported answer with more lines than are asked for, all of which fit; None where it is
    none."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    try:
        found = read_critical_joints("\n".join(lines), layout, layout.num_joints)
    except FormatProblem:
        return None
    return "\n".join(lines) if len(found) > MAX_JOINTS else None


def read_distinction(text: str) -> str:
    """One plain sentence that a text encoder reads to its end. Returns it without space around it."""
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


def read_body_parts(text: str) -> dict[str, str]:
    """Lines `head: tilts back slightly`, one for each of `BODY_PARTS`; what each does, in that order."""
    found: dict[str, str] = {}
    for line in (line.strip() for line in text.split("\n") if line.strip()):
        part, colon, words = line.partition(":")
        name = part.strip().casefold()
        if not colon or name not in BODY_PARTS or not words.strip():
            raise FormatProblem(f"the line {_quote(line)} is not of the form part: what it does")
        if name in found:
            raise FormatProblem(f"it tells of the {name} twice")
        found[name] = " ".join(words.split())
    if missing := [part for part in BODY_PARTS if part not in found]:
        raise FormatProblem(f"it tells nothing of the {', '.join(missing)}")
    return {part: found[part] for part in BODY_PARTS}


def _read_sentence(text: str, layout: Layout) -> str:
    """`read_distinction`, in which no joint is called by its number."""
    sentence = read_distinction(text)
    if label := _label_pattern(layout).search(sentence):
        raise FormatProblem(f"it has the joint number {_quote(label[0])}")
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


def _refuse_repeated(joints: Sequence[int], layout: Layout) -> None:
    if repeated := [joint for joint, count in Counter(joints).items() if count > 1]:
        labels = ", ".join(f"{joint + 1}-{layout.joints[joint]}" for joint in repeated)
        raise FormatProblem(f"it names a joint twice: {labels}")


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
    return re.compile(rf"(?<!\w)([0-9]{{1,4}})\s?-\s?({joint_name_pattern(layout)})(?!\w)", re.IGNORECASE)


def joint_name_pattern(layout: Layout) -> str:
    """Joint names as alternatives, the longest first: "left hand tip" is not also "left hand"."""
    return "|".join(re.escape(name) for name in sorted(layout.joints, key=len, reverse=True))


def _quote(text: str) -> str:
    """A short, printable piece of an answer."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")


# ---- repair


def _repair_numbers(text: str, layout: Layout) -> tuple[str, str] | None:
    """Keep the numbers that are joints; a number inside other words is left out."""
    pattern = re.compile(rf"\W*([0-9]{{1,4}})(?:\s*[-.):]?\s*({joint_name_pattern(layout)}))?\W*", re.IGNORECASE)
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


def body_part_lines(text: str) -> str | None:
    """What a text tells of each part of the body, as six lines, also where the parts stand in one line, as in the
    paper's example; None where one is missing."""
    found: dict[str, str] = {}
    pieces = [piece for line in _MARKUP.sub("", text).split("\n") for piece in line.split(";")]
    for piece in pieces:
        if match := _PART_LINE.fullmatch(" ".join(piece.split()).rstrip(".;, ")):
            found.setdefault(match[1].casefold(), match[2])
    if len(found) < len(BODY_PARTS):
        return None
    return "\n".join(f"{part}: {found[part]}" for part in BODY_PARTS)


def _repair_parts(text: str, layout: Layout) -> tuple[str, str] | None:
    lines = body_part_lines(text)
    return None if lines is None else (lines, "kept what is told of the six parts")


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


# ---- JSON


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _numbers_properties(layout: Layout) -> dict[str, Any]:
    joint: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": layout.num_joints}
    return {"joints": {"type": "array", "items": joint, "minItems": 1}}


def _exact_numbers(layout: Layout) -> dict[str, Any]:
    return {"joints": {**_numbers_properties(layout)["joints"], "uniqueItems": True}}


def _lines_properties(layout: Layout, **movement: Any) -> dict[str, Any]:
    line = _object(
        joint={"type": "string", "enum": layout.numbered().split("\n")},
        movement={"type": "string", **movement},
    )
    return {"joints": {"type": "array", "items": line, "minItems": 1, "maxItems": MAX_JOINTS}}


def _exact_lines(layout: Layout) -> dict[str, Any]:
    return {"joints": {**_lines_properties(layout, **_PHRASE)["joints"], "uniqueItems": True}}


def _parts_properties(layout: Layout, **words: Any) -> dict[str, Any]:
    return {part: {"type": "string", **words} for part in BODY_PARTS}


# Letters and signs beyond ASCII without the spaces among them; a character takes up to three bytes.
_OTHER = "\u00a1-\u167f\u1681-\u1fff\u200b-\u2027\u202a-\u202e\u2030-\u205e\u2060-\u2fff\u3001-\ud7ff"
_WORD = f"[A-Za-z0-9,.;:'()/%+{_OTHER}-]{{1,16}}"  # of prose: a small model would write move_right_hand_up
# What a joint or a part of the body does: at most 20 words. A model that knows no end would go on for ever.
_PHRASE = {"pattern": f"^{_WORD}(?: {_WORD}){{0,19}}$", "maxLength": 339}
# One sentence of which `token_bound` counts at most `MAX_TOKENS` tokens: three words, pieces that are a token each,
# other letters of up to three bytes that count as four, a full stop. No digits, and so no numbers of joints.
_SENTENCE = {
    "maxLength": 480,
    "x-pieces": {
        "first": "[A-Za-z]{1,18} [A-Za-z]{1,18} [A-Za-z]{1,18}",
        "parts": {" ?[A-Za-z]{1,6}|[,;:'\\-]": 1, f" ?[{_OTHER}]": 4},
        "last": "\\.",
        "most": MAX_TOKENS - 10,  # 3 * 3 of the words, and the full stop
    },
}


def _parts_text(found: dict[str, Any]) -> str:
    return "\n".join(f"{part}: {_words(found[part])}" for part in BODY_PARTS)


def _numbers_text(found: dict[str, Any]) -> str:
    return ", ".join(str(_a(int, joint)) for joint in _a(list, found["joints"]))


def _lines_text(found: dict[str, Any]) -> str:
    return "\n".join(f"{_words(line['joint'])}: {_words(line['movement'])}" for line in found["joints"])


def _words(value: Any) -> str:
    """A string on one line."""
    return " ".join(_a(str, value).split())


def _a(kind: type, value: Any) -> Any:
    """The value, if it is of that type. Raises `TypeError`."""
    if type(value) is not kind:
        raise TypeError
    return value


# ---- the formats


FREE_TEXT = Format()  # read by people, and by language models as history
JOINT_NUMBERS = Format(
    read_joint_numbers, _repair_numbers, _numbers_properties, _exact_numbers, _numbers_text, names_joints=True
)  # `8, 12, 24`
JOINT_MOVEMENTS = Format(
    read_critical_joints, _repair_lines, _lines_properties, _exact_lines, _lines_text, names_joints=True
)  # `12-right hand: moves forward and up`, one line per joint
PARTS = Format(
    lambda text, layout: read_body_parts(text),
    _repair_parts,
    _parts_properties,
    lambda layout: _parts_properties(layout, **_PHRASE),
    _parts_text,
)  # `head: tilts back slightly`, a line for each of the six parts
SENTENCE = Format(
    _read_sentence,
    _repair_sentence,
    lambda layout: {"sentence": {"type": "string"}},
    lambda layout: {"sentence": {"type": "string", **_SENTENCE}},
    lambda found: _words(found["sentence"]),
)  # one plain sentence that a text encoder reads to its end
