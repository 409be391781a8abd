"""The statistics of the classes in words: one consistent vocabulary, so that similar movements read alike."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..dialogue.formats import MAX_TOKENS, token_bound
from ..skeleton.kinematics import BODY_FEATURES, JOINT_FEATURES, PART_WORDS, STILL
from .class_statistics import USUAL_RATE, ClassStatistics, critical_joints

_SIDED = 0.65  # from this share of clips on, a class has a preferred side
_DISTINCTION_TOKENS = 58  # as `_length` counts them
_NAME_TOKENS = 14

# What a feature says where it is larger, and where it is smaller, than in other classes. {place} is a height.
_SAYS = {
    "range": ("moves far", "hardly moves"),
    "speed": ("moves quickly", "moves slowly"),
    "rise": ("goes up and comes down again", "is not raised and lowered again"),
    "dip": ("goes down and comes up again", "is not lowered and raised again"),
    "reach": ("reaches forward and comes back", "does not reach forward"),
    "top": ("gets up to {place}", "gets no higher than {place}"),
    "bottom": ("stays at {place} or higher", "gets down to {place}"),
    "level": ("is held high, at {place}", "is held low, at {place}"),
    "ahead": ("is held far in front of the body", "stays beside the body"),
    "near head": ("stays away from the head", "comes close to the head"),
    "swings": ("moves to and fro", "moves in one sweep"),
    "when": ("moves late in the action", "moves early in the action"),
    "higher late": ("is higher in the second half than in the first", "is higher in the first half than in the second"),
    "ahead late": ("is farther in front in the second half", "is farther in front in the first half"),
    "travel": ("the body moves away from its place", "the body stays on the spot"),
    "lean": ("the body bends forward", "the body stays upright"),
    "lean end": ("the body ends bent forward", "the body straightens up"),
    "hands apart": ("the hands stay apart", "the hands come together"),
    "uneven": ("one hand is higher than the other", "both hands are at the same height"),
    "one arm": ("one arm acts alone", "both arms act alike"),
    "one leg": ("one leg acts alone", "both legs act alike"),
    "duration": ("the action takes long", "the action is short"),
    "gap": ("the two people stay apart", "the two people come close together"),
    "approach": ("the two people move apart", "the two people approach each other"),
}
_NET = {  # of features with a sign of their own: above, below and around zero
    "up": ("moves up and ends higher", "moves down and ends lower", "ends at the height where it began"),
    "forward": ("ends farther forward", "ends farther back", "ends as far forward as it began"),
    "outward": ("moves outwards", "moves inwards", "ends as far to the side as it began"),
    "sink": ("the body rises", "the body sinks down", "the body ends at the height where it began"),
}
_COMPARED = {  # instead, where both heights have the same name
    "top": ("is raised higher", "is not raised as high"),
    "bottom": ("stays higher", "gets lower"),
    "level": ("is held higher", "is held lower"),
}
_PLURAL = {"moves": "move", "goes": "go", "comes": "come", "stays": "stay", "gets": "get", "is": "are", "ends": "end",
           "reaches": "reach", "does": "do"}  # fmt: skip
_FORWARD_LEG = ("comes out in front of the hips", "goes back under the hips", "ends under the hips as it began")
# What is worth saying of the joints of a part: of a foot nobody tells how close to the head it is.
_TOLD = {
    "head": ("range", "speed", "up", "dip", "bottom"),
    "hand": ("range", "speed", "up", "rise", "dip", "forward", "reach", "outward", "top", "bottom", "level", "ahead",
             "near head", "swings", "higher late", "ahead late"),
    "arm": ("range", "speed", "up", "rise", "dip", "outward", "top", "bottom"),
    "hip": ("range", "up", "dip", "bottom"),
    "leg": ("range", "speed", "rise", "forward", "reach", "top", "bottom", "swings", "when"),
    "foot": ("range", "speed", "rise", "forward", "reach", "top", "swings", "when"),
}  # fmt: skip
# The words of `_SAYS` are true from the first value on, or up to the second.
_TRUE = {
    "range": (0.25, 0.12), "rise": (0.06, 0.06), "dip": (0.06, 0.06), "reach": (0.06, 0.06), "ahead": (0.05, 0.05),
    "near head": (0.2, 0.25), "swings": (1.5, 1.5), "when": (0.52, 0.48), "higher late": (0.02, -0.02),
    "ahead late": (0.02, -0.02), "travel": (0.15, 0.25), "lean": (0.25, 0.3),
    "lean end": (0.1, -0.1), "hands apart": (0.12, 0.15), "uneven": (0.12, 0.15), "one arm": (0.12, 0.15),
    "one leg": (0.12, 0.15),
}  # fmt: skip
# Smaller differences of means are not worth saying; lengths, in body heights, where nothing else is given.
_LEAST = {"speed": 0.01, "swings": 0.6, "when": 0.08, "duration": 0.25, "lean": 0.15, "lean end": 0.15, "one arm": 0.05,
          "one leg": 0.05}  # fmt: skip
_LEAST_LENGTH = 0.04
_MOTION = ("range", "speed", "rise", "dip", "reach")
_NEED_MOTION = ("swings", "when", "higher late", "ahead late")
_MATTER = {  # what a feature of the body is about: of each matter one fact is told
    "travel": "trunk", "sink": "trunk", "lean": "trunk", "lean end": "trunk", "hands apart": "hands", "uneven": "hands",
    "one arm": "hands", "one leg": "legs", "duration": "time", "gap": "people", "approach": "people",
}  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """Something true of a class that is not, or less so, of what it was compared with."""

    subject: str  # "the left and right hand", or nothing where the words name their own
    words: str
    matter: str  # the part of the body, or else what it is about

    def __str__(self) -> str:
        return _agree(self.subject, self.words).strip()


class Teller:
    """Puts the statistics of the classes into words."""

    def __init__(self, statistics: ClassStatistics, classes: list[str]) -> None:
        self.statistics, self.classes = statistics, classes
        self.layout = statistics.anatomy.layout
        self.critical = critical_joints(statistics)

    # -- names and heights

    def place(self, height: float) -> str:
        """A height in words, by the landmarks of the body."""
        marks = self.statistics.landmarks
        if not {"knee", "waist", "shoulder", "head"} <= marks.keys():
            return "a greater height" if height > 0.5 else "a lower height"
        knee, waist, shoulder, head = (marks[name] for name in ("knee", "waist", "shoulder", "head"))
        bounds = [
            (0.4 * knee, "the ground"),
            (0.6 * knee + 0.4 * waist, "knee height"),
            (0.3 * knee + 0.7 * waist, "thigh height"),
            (0.65 * waist + 0.35 * shoulder, "waist height"),
            (0.2 * waist + 0.8 * shoulder, "chest height"),
            (0.4 * shoulder + 0.6 * head, "shoulder height"),
            (head + 0.06, "head height"),
        ]
        return next((name for bound, name in bounds if height < bound), "above the head")

    def noun(self, one: int, part: str, which: str) -> str:
        """The joint, or pair of joints, that stands for a part; `which` is "busy", "idle" or "both"."""
        joints = self.statistics.anatomy.spoken[part]
        names = [self.layout.joints[joint] for joint in joints]
        if len(joints) != 2 or self.layout.mirror_index[joints[0]] != joints[1]:
            return "the " + " and ".join(names)
        kind = names[1].removeprefix("right ")
        limb = self.statistics.anatomy.limb_of[joints[1]]
        if which == "both" or limb < 0:
            return f"the left and right {kind}"
        right = self.statistics.right[one, limb]
        if max(right, 1 - right) < _SIDED:
            return f"the left or right {kind}" if which == "busy" else f"the less busy {kind}"
        return f"the {'right' if (right >= _SIDED) == (which == 'busy') else 'left'} {kind}"

    # -- movements

    def movement(self, one: int, joint: int) -> str:
        """What a joint (busier side in the right one's place) does in a class, as a predicate."""
        does = self.statistics.of_joint(one, joint)
        if self._is_still(one, joint):
            return f"stays almost still at {self.place(does['level'])}"
        turns = []
        back_and_forth = max(does["rise"], does["dip"])
        if abs(does["up"]) > max(STILL, 0.7 * back_and_forth):
            up = does["up"] > 0
            turns.append(f"moves {'up' if up else 'down'} to {self.place(does['top' if up else 'bottom'])}")
        elif back_and_forth > 1.2 * STILL:
            turns.append(
                f"goes up to {self.place(does['top'])} and comes down again"
                if does["rise"] > does["dip"]
                else f"goes down to {self.place(does['bottom'])} and comes up again"
            )
        if abs(does["forward"]) > STILL:
            turns.append("comes forward" if does["forward"] > 0 else "goes back")
        elif does["reach"] > 1.6 * STILL:
            turns.append("reaches forward")
        if does["swings"] > 2.4:
            turns.append("moves to and fro")
        if not turns:
            turns.append(f"moves {'a little' if does['range'] < 0.25 else 'about'} at {self.place(does['level'])}")
        speed = self.statistics.joint_table(self.statistics.against_rest(one))[joint, JOINT_FEATURES.index("speed")]
        joint_by = ", " if " and " in turns[0] else " and "
        return joint_by.join(turns[:2]) + (", quickly" if speed > 0.6 else ", slowly" if speed < -0.6 else "")

    def _is_still(self, one: int, joint: int) -> bool:
        return self.statistics.of_joint(one, joint)["range"] < 2 * STILL

    def part(self, one: int, part: str) -> str:
        """What a body part does: one predicate for both sides, or one for each where they differ."""
        anatomy = self.statistics.anatomy
        if part not in anatomy.spoken:
            return "not among the recorded joints"
        joints = anatomy.spoken[part]
        busy = self.movement(one, joints[-1])
        if len(joints) == 2 and anatomy.limb_of[joints[1]] >= 0:
            idle = self.movement(one, joints[0])
            if idle.split()[:4] != busy.split()[:4]:  # another way, or to another height
                return f"{self.noun(one, part, 'busy')} {busy}; {self.noun(one, part, 'idle')} {idle}"
        return _agree(self.noun(one, part, "both"), busy)

    # -- differences

    def facts(self, one: int, differences: np.ndarray, others: np.ndarray) -> list[Fact]:
        """What sets a class apart, strongest first: `differences` are Cohen's d `[A]` from the means `others` `[A]`."""
        found: list[tuple[float, Fact]] = []
        statistics, anatomy = self.statistics, self.statistics.anatomy
        table, change = statistics.joint_table(differences), statistics.joint_table(statistics.mean[one] - others)
        for part, joints in anatomy.spoken.items():
            for number, feature in enumerate(JOINT_FEATURES):
                if feature not in _TOLD.get(part, _TOLD["hand"]):
                    continue
                d = table[joints, number]
                alike = len(d) < 2 or (d[0] * d[1] > 0 and abs(d).min() > 0.6 * abs(d).max())
                for which, side in (("both", [0, -1]),) if alike else (("idle", [0]), ("busy", [-1])):
                    does = statistics.of_joint(one, int(joints[side[-1]]))
                    value = does[feature]
                    if feature in _NEED_MOTION and does["range"] < 3 * STILL:
                        continue
                    step = change[joints[side], number].mean()
                    if _tells_of_motion(feature, value, step, part) and any(
                        self._is_still(one, int(v)) for v in joints[side]
                    ):
                        continue
                    if feature == "speed" and statistics.per_second:
                        step /= USUAL_RATE  # `_LEAST` is by the frame
                    if words := _words(feature, value, step, part, self.place(value), self.place(value - step)):
                        fact = Fact(self.noun(one, part, which), words, part)
                        found.append((_weight(feature, value, d[side].mean()), fact))
        body, body_step = statistics.of_body(one), (statistics.mean[one] - others)[-len(BODY_FEATURES) :]
        for feature, d, step in zip(BODY_FEATURES, differences[-len(BODY_FEATURES) :], body_step, strict=True):
            limb = anatomy.spoken.get({"one arm": "hand", "one leg": "foot"}.get(feature, ""))
            if limb is not None and statistics.of_joint(one, int(limb[-1]))["range"] < 4 * STILL:
                continue
            if words := _words(feature, body[feature], step, "body"):
                found.append((_weight(feature, body[feature], d), Fact("", words, _MATTER[feature])))
        found.sort(key=lambda entry: -entry[0])
        return [fact for _, fact in found]

    def outstanding(self, one: int, other: int | None, count: int, said: Collection[str] = ()) -> list[Fact]:
        """The `count` strongest facts on different matters, against one class or (None) all others."""
        statistics = self.statistics
        if other is None:
            rest = statistics.known[statistics.known != one]
            others = statistics.mean[rest].mean(0) if len(rest) else np.zeros_like(statistics.mean[one])
            facts = self.facts(one, statistics.against_rest(one), others)
        else:
            facts = self.facts(one, statistics.against(one, other), statistics.mean[other])
        chosen: list[Fact] = []
        for fact in facts:
            new = all(fact.matter != earlier.matter and fact.words != earlier.words for earlier in chosen)
            if new and str(fact) not in said:
                chosen.append(fact)
            if len(chosen) == count:
                break
        return chosen

    # -- the answers

    def overview(self, one: int) -> str:
        """The whole movement in one sentence."""
        body = self.statistics.of_body(one)
        travel = body["travel"]
        ways = ((0.8, "walks far"), (0.45, "walks"), (0.2, "steps"))
        says = [next((way for least, way in ways if travel > least), "stays on the spot")]
        if abs(body["sink"]) > 2 * STILL:
            says.append("rises" if body["sink"] > 0 else "sinks down")
        if body["lean"] > 0.3 and body["lean"] > body["lean end"] + 0.1:
            says.append("bends forward and straightens up again" if abs(body["lean end"]) < 0.3 else "bends forward")
        spoken = self.statistics.anatomy.spoken
        moves = [self.part(one, part).partition(";")[0] for part in ("head", "hand", "leg") if part in spoken]
        moves = [move for move in moves or [self.part(one, part) for part in spoken] if " still " not in move]
        return f"In {self.name(one)} the body {_join(says)}{'; '.join(['', *moves])}."

    def body_parts(self, one: int) -> str:
        """A line per part of the body."""
        return "\n".join(f"{part}: {self.part(one, part)}." for part in PART_WORDS)

    def joint_numbers(self, one: int) -> str:
        """The numbers of the critical joints."""
        return ", ".join(str(joint + 1) for joint in sorted(self.critical[one]))

    def joint_movements(self, one: int) -> str:
        """How each critical joint moves, a line per joint."""
        statistics, lines = self.statistics, []
        for joint in sorted(self.critical[one]):
            limb, place = statistics.anatomy.limb_of[joint], joint
            if limb >= 0 and statistics.right[one, limb] < 0.5:  # the left side is the busier one
                place = self.layout.mirror_index[joint]
            lines.append(f"{joint + 1}-{self.layout.joints[joint]}: {self.movement(one, place)}")
        return "\n".join(lines)

    def key_features(self, one: int) -> str:
        """By what the class is recognised, in one sentence."""
        facts = [str(fact) for fact in self.outstanding(one, None, 4)] or ["it moves much like the others"]
        while _length(_join(facts)) > _DISTINCTION_TOKENS - _NAME_TOKENS:
            facts.pop()
        return f"The key features of {self.name(one)} are that {_join(facts)}."

    def distinction(self, one: int, similar: list[int]) -> str:
        """What distinguishes it: facts against the similar classes, most against the first, as long as a CLIP text."""
        said: set[str] = set()
        clauses: list[str] = []
        for other, count in zip(similar, (3, 2, 1), strict=False):
            facts = [str(fact) for fact in self.outstanding(one, other, count, said)]
            for kept in range(len(facts), 0, -1):
                clause = f"unlike {self.name(other)}, {_join(facts[:kept])}"
                if _length("; ".join([*clauses, clause])) <= _DISTINCTION_TOKENS:
                    clauses.append(clause)
                    said.update(facts[:kept])
                    break
        if not clauses:
            facts = [str(fact) for fact in self.outstanding(one, None, 2)] or ["nothing measured stands out"]
            clauses = [f"in {self.name(one)} {_join(facts)}"]
        sentence = _shorten("; ".join(clauses), _DISTINCTION_TOKENS)
        return f"{sentence[0].upper()}{sentence[1:]}."

    def name(self, one: int) -> str:
        """A class's name on one line, of bearable length and without marks that would end a sentence."""
        return _shorten(" ".join(re.sub(r"[.!?*`#]", " ", self.classes[one]).split()), _NAME_TOKENS)


def _words(feature: str, value: float, step: float, part: str, place: str = "", other: str = "") -> str | None:
    """What to say of a feature of mean `value` that is larger by `step` than elsewhere; None where nothing is worth it.

    `place` and `other` are the heights that `value` and its counterpart stand for.
    """
    if abs(step) < _LEAST.get(feature, _LEAST_LENGTH):
        return None
    larger = step > 0
    if feature in _NET:
        words = _FORWARD_LEG if feature == "forward" and part in ("leg", "foot") else _NET[feature]
        if abs(value) < STILL:
            return words[2] if abs(step) > 2 * STILL else None
        return words[0 if larger else 1] if (value > 0) == larger else None
    least, most = _TRUE.get(feature, (-np.inf, np.inf))
    if (larger and value < least) or (not larger and value > most):
        return None
    if feature == "top" and part in ("leg", "foot"):
        return "is lifted higher" if larger else "is lifted less"
    if feature in _COMPARED and place == other:
        return _COMPARED[feature][0 if larger else 1]
    return _SAYS[feature][0 if larger else 1].format(place=place)


def _tells_of_motion(feature: str, value: float, step: float, part: str) -> bool:
    """Whether what `_words` says is that the joint moves: not to be said of one that `Teller.movement` calls still."""
    if feature in _NET:
        return abs(value) >= STILL
    return step > 0 and (feature in _MOTION or (feature == "top" and part in ("leg", "foot")))


def _weight(feature: str, value: float, difference: float) -> float:
    """How much a difference counts: what does not happen says less than what does."""
    absent = difference < 0 and feature in ("rise", "dip", "reach", "range", "top")
    dull = absent or (difference > 0 and feature == "bottom") or (feature in _NET and abs(value) < STILL)
    return abs(difference) * (0.6 if dull or feature == "duration" else 1.0)


def _agree(subject: str, words: str) -> str:
    """Subject and predicate, the predicate in the plural after "left and right"."""
    if " and " in subject:
        words = re.sub(r"\b(moves|goes|comes|stays|gets|is|ends|reaches|does)\b", lambda verb: _PLURAL[verb[0]], words)
        words = words.replace("it began", "they began")
    return f"{subject} {words}"


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def _shorten(text: str, most: int) -> str:
    """The text's first words, or the first word's first letters, within `most` tokens."""
    words = text.split() or ["?"]
    while len(words) > 1 and _length(" ".join(words)) > most:
        words.pop()
    while _length(words[0]) > most:
        words[0] = words[0][:-1]
    return " ".join(words)


def _length(text: str) -> int:
    """Tokens of a text at eight letters a token, as the limits here were chosen; more where `token_bound` says
    that it would not fit.
    """
    return max(token_bound(text, letters=8), token_bound(text) - MAX_TOKENS + _DISTINCTION_TOKENS)
