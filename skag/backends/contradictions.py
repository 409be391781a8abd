"""What is said of a class against what its recordings show: claims that the training clips contradict.

Few words are taken for claims, those that are easily measured: that a joint goes up or down, stays still, moves fast or
slowly, gets above the head or down to the floor. The rest is neither confirmed nor contradicted. What is said of one
side of the body is held against both, since people act with either hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..dialogue.formats import FormatProblem, joint_name_pattern, read_critical_joints
from ..skeleton.kinematics import JOINT_FEATURES
from ..skeleton.layouts import Layout
from .class_statistics import ClassStatistics

_FAR = 0.25  # body heights; what moves farther is not still
_SLOWER = 0.6  # standard deviations of the speed from other classes
_LEAST = 0.03  # body heights up or down, the least that "up" and "down" promise
_UNCLEAR = re.compile(r"\b(not|never|no|or|less|than|without|instead|hardly|unlike|a little)\b")
# Quick repeated movements are smoothed away where a clip is measured in 32 frames.
_REPEATED = re.compile(r"\b(in turn|again|every|each|steps?|stepping|times|twice|to and fro|run(ning)?|walk(ing)?)\b")
_OF_ANOTHER = r"(?:above|beside|behind|below|over|near|past|to|of|from|with|at|before) (?:the )?"
_POSTURE = re.compile(r"\b(held|holds|stays?|staying|kept|keeps|remains?|rests?)\b")
_HELD = re.compile(r"\b(held|holds|kept|keeps)\b")
_CLAIMS = {
    "up": r"\b(up|upwards?|rises?|rising|raise[sd]?|raising|lift(s|ed|ing)?)\b",
    "down": r"\b(down|downwards?|sinks?|sinking|lower(s|ed|ing)|drops?|dropping)\b",
    "still": r"\b(still|stationary|motionless|fixed in place)\b",
    "fast": r"\b(fast|quick|quickly|rapidly)\b",
    "slow": r"\b(slow|slowly)\b",
    "overhead": r"\b(above the head|overhead|over the head)\b",
    "floor": r"\b(to the (floor|ground|feet|toes)|reach(es)? the (floor|ground|feet|toes))\b",
}
_SEGMENT = re.compile(r"[,;.:]| and | while | but | then ")


@dataclass(frozen=True)
class Contradiction:
    """A claim, and what the clips show instead."""

    joint: str
    claim: str  # the words
    shown: str


@dataclass(frozen=True)
class Witness:
    """The training clips of a store, asked about one claim after another."""

    statistics: ClassStatistics
    classes: Sequence[str]

    @property
    def layout(self) -> Layout:
        return self.statistics.anatomy.layout

    def of_lines(self, class_name: str, text: str) -> list[Contradiction]:
        """Of critical joints with their movements (round 4), at most one a joint; none where the text is no such."""
        layout = self.layout
        try:
            lines = read_critical_joints(text, layout, layout.num_joints)
        except FormatProblem:
            return []
        found = [self._of(class_name, line.joint, line.movement) for line in lines]
        return [each for each in found if each is not None]

    def of_sentence(self, class_name: str, text: str) -> list[Contradiction]:
        """Of the joints that a sentence calls by their names, in the words up to the next comma or "and"."""
        layout, found = self.layout, []
        for segment in _SEGMENT.split(text):
            named = re.findall(rf"(?<!\w)({_OF_ANOTHER})?({joint_name_pattern(layout)})(?!\w)", segment, re.IGNORECASE)
            if len(named) == 1 and not named[0][0]:
                joint = next(v for name, v in layout.index.items() if name.casefold() == named[0][1].casefold())
                found.append(self._of(class_name, joint, segment))
        return [each for each in found if each is not None]

    def _of(self, class_name: str, joint: int, text: str) -> Contradiction | None:
        """The first claim of a text about a joint that is contradicted on both sides of the body."""
        if class_name not in self.classes:
            return None
        one, layout = self.classes.index(class_name), self.layout
        if not self.statistics.clips[one]:
            return None
        repeated = _REPEATED.search(text.casefold()) is not None
        for segment in _SEGMENT.split(text):
            words = segment.casefold()
            if _UNCLEAR.search(words):
                continue
            for claim, pattern in _CLAIMS.items():
                if claim in ("up", "down") and (repeated or _POSTURE.search(words)):
                    continue
                if claim == "still" and _HELD.search(words):  # somewhere, after it moved there
                    continue
                if re.search(pattern, words):
                    sides = {joint, int(layout.mirror_index[joint])}
                    shown = [self._shown(one, side, claim) for side in sorted(sides)]
                    if all(shown):
                        return Contradiction(layout.joints[joint], segment.strip(), shown[-1])
        return None

    def _shown(self, one: int, joint: int, claim: str) -> str:
        """What is measured of a joint (the busier side in the right one's place) against a claim; else ""."""
        does, marks = self.statistics.of_joint(one, joint), self.statistics.landmarks
        turns = max(does["rise"], does["dip"])
        if claim in ("up", "down"):
            way = max(does["up"] if claim == "up" else -does["up"], turns)
            return f"goes {claim} by {100 * max(way, 0):.0f} % of the body's height" if way < _LEAST else ""
        if claim == "still":
            return f"moves through {100 * does['range']:.0f} % of the body's height" if does["range"] > _FAR else ""
        if claim == "overhead":
            low = "shoulder" in marks and does["top"] < marks["shoulder"]
            return "gets no higher than the shoulders" if low else ""
        if claim == "floor":
            return "gets no lower than the hips" if "waist" in marks and does["bottom"] > marks["waist"] else ""
        speed = self._speeds(one)[joint]
        if claim == "fast":
            return "is slower than in the other classes" if speed < -_SLOWER else ""
        return "is faster than in the other classes" if speed > _SLOWER else ""

    def _speeds(self, one: int) -> np.ndarray:
        """Cohen's d `[V]` of the speed of every joint against all other classes."""
        table = self.statistics.joint_table(self.statistics.against_rest(one))
        return np.asarray(table[:, JOINT_FEATURES.index("speed")])


def without_contradicted(sentence: str, contradictions: Callable[[str], Sequence[object]]) -> str:
    """The sentence without those of its parts between semicolons that are contradicted; as it is where none is left."""
    clauses = [part.strip() for part in sentence.strip().rstrip(".").split(";")]
    kept = [clause for clause in clauses if not contradictions(clause)]
    if not kept or len(kept) == len(clauses):
        return sentence
    text = "; ".join(kept)
    return f"{text[:1].upper()}{text[1:]}."
