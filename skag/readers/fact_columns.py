"""What a column of a table says of a recording besides its joints, by its name: "User-ID" is a subject.

Names are compared by their words, in any case and spelling; a last word such as "id" or "name" changes nothing.
"""

from __future__ import annotations

import re

from . import joints

CLIP, FRAME, BODY, PERSON, TAKE, TIME = "clip", "frame", "body", "person", "take", "time"
LABEL, SUBJECT, CAMERA, SPLIT = "label", "subject", "camera", "split"

_WORDS = {
    CLIP: "clip recording file filename name video sequence",
    FRAME: "frame",
    BODY: "body track",
    PERSON: "person pid",  # the body where several people are in a recording, else its subject
    TAKE: "take trial repetition rep attempt episode",
    SUBJECT: "subject participant patient user performer actor signer dancer athlete volunteer player proband",
    CAMERA: "camera cam view viewpoint",
    SPLIT: "split subset partition",
    "width": "width",
    "height": "height",
    LABEL: "label class action activity exercise gesture movement category behaviour behavior sign gloss",
}
_FACTS = {word: fact for fact, words in _WORDS.items() for word in words.split()}
_ENDS = {"id", "ids", "name", "number", "num", "no", "nr", "code", "idx", "index"}
_LABEL_ENDS = _ENDS | {"label", "class", "type"}
_IMAGE = {"image", "img", "frame", "video"}  # "image_width"
_MAYBE_LABEL = {
    "pose", "posture", "state", "phase", "target", "task", "event", "type", "status", "annotation", "activity", "y",
    "motion", "skill", "stage", "emotion",
}  # fmt: skip
_NOTHING = {
    "time", "timestamp", "timestamps", "timestep", "date", "datetime", "fps", "rate", "index", "idx", "unnamed", "row",
    "id", "seconds", "ms",
}  # fmt: skip
_TIMES = {  # columns of time stamps, and what a second is in them, where the name says so
    "timestamp": 0, "time": 0, "t": 0, "time_s": 1, "timestamp_s": 1, "time_sec": 1, "seconds": 1, "time_ms": 1e3,
    "timestamp_ms": 1e3, "milliseconds": 1e3, "time_us": 1e6, "timestamp_us": 1e6, "time_ns": 1e9, "timestamp_ns": 1e9,
}  # fmt: skip
_FIRST = ("label", "class")  # of several columns with a label, one of these names; else the first


def words_of(name: str) -> list[str]:
    """The words of a column's name in lower case; "USERID" has two."""
    found = [word for word in joints.words(name) if not word.isdigit()] if len(name) < 100 else []
    if len(found) == 1 and found[0] not in _FACTS:
        for end in ("id", "name", "no"):
            if found[0].removesuffix(end) in _FACTS:
                return [found[0].removesuffix(end), end]
    return found


def fact_of(name: str) -> str | None:
    """The fact that a column of this name states; None for a column of something else."""
    if re.search(r"\d", name):
        return None
    if name.strip().lower() in _TIMES:
        return TIME
    words = words_of(name)
    if len(words) == 2 and words[0] in _IMAGE and words[1] in ("width", "height"):
        return words[1]
    fact = _FACTS.get(words[0]) if words else None
    if fact is None:
        return None
    if len(words) > 1 and fact in ("width", "height"):
        return None
    if fact == FRAME and "name" in words:
        return None
    return fact if set(words[1:]) <= (_LABEL_ENDS if fact == LABEL else _ENDS) else None


def time_unit(name: str) -> float:
    """How many units of a column of time stamps make a second; 0 where its name does not say."""
    return _TIMES[name.strip().lower()]


def may_be_label(name: str) -> bool:
    """Whether a column that states no fact sounds like one of classes."""
    return not _MAYBE_LABEL.isdisjoint(words_of(name))


def says_nothing(name: str) -> bool:
    """Whether a column is one of those that every table may have, such as time, and nobody misses."""
    return set(words_of(name)) <= _NOTHING


def best_label(names: list[str]) -> int:
    """Which of several columns with a label is taken."""
    plain = [name.strip().lower() for name in names]
    return next((plain.index(name) for name in _FIRST if name in plain), 0)


def same_column(one: str, other: str) -> bool:
    """Whether two spellings are one column."""
    return one.strip().casefold() == other.strip().casefold()
