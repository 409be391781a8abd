"""What the columns of a table mean: coordinates, confidences, and facts about the recordings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..skeleton.layouts import Layout
from . import joints
from .archives import printable
from .fact_columns import BODY, LABEL, PERSON, SUBJECT, best_label, fact_of, may_be_label, same_column, says_nothing
from .source import Unusable

CONFIDENCE = {"c", "conf", "confidence", "score", "visibility", "likelihood", "v"}
_OF_HANDS = {"hand", "finger", "thumb", "index", "pinky", "face"}
_JOINT_WORDS = {"joint", "j", "kp", "keypoint", "key", "point", "landmark", "lm"}
GROUP = "group"  # the column that splits are made by


@dataclass(frozen=True)
class Choice:
    """Which columns are taken, where the user or the tables say so."""

    label: str | None = None  # a column's name; None: found by its name
    without_label: bool = False  # classes come from elsewhere
    group: str | None = None
    person: str | None = None  # BODY or SUBJECT: what a column "person" is


@dataclass(frozen=True)
class Columns:
    """What the columns of a table mean."""

    facts: dict[str, int]
    points: dict[str, list[int]]  # joint -> columns of its coordinates
    confidence: dict[str, int]
    numbered: bool  # joints are "0", "1", ... in their order
    names: dict[str, str] = field(default_factory=dict)  # fact -> name of its column
    labels: tuple[str, ...] = ()  # columns that could be the label, and are not taken for it
    unused: tuple[str, ...] = ()  # columns that nothing is made of

    @property
    def dims(self) -> int:
        return len(next(iter(self.points.values())))

    def layout(self) -> Layout:
        """The layout that fits. Raises `Unusable`."""
        if self.numbered:
            return joints.layout_of_shape(len(self.points), self.dims)
        return joints.layout_of_names(self.points, self.dims)

    def numbers(self, layout: Layout) -> list[int]:
        """Columns of all coordinates in the order of the layout, then of all confidences. Raises `Unusable`."""
        names = list(self.points)
        if self.dims < layout.dims:
            raise Unusable(f"has {self.dims} coordinates per joint, and layout {layout.name} has {layout.dims}")
        if not self.numbered:
            names = [names[place] for place in joints.places(layout, names)]
        elif len(names) != layout.num_recorded:
            raise Unusable(f"has {len(names)} joints, and layout {layout.name} has {layout.num_recorded}")
        found = [column for name in names for column in self.points[name][: layout.dims]]
        return found + [self.confidence.get(name, self.points[name][0]) for name in names if self.confidence]

    def assumed(self, layout: Layout) -> list[int]:
        """Where in `numbers` x stands for a confidence that is not there: such joints count as seen."""
        names = list(self.points)
        names = names if self.numbered else [names[place] for place in joints.places(layout, names)]
        start = layout.num_recorded * layout.dims
        return [start + n for n, name in enumerate(names) if self.confidence and name not in self.confidence]


def columns_of(header: list[str], choice: Choice = Choice()) -> Columns:
    """Understand a header. Raises `Unusable` where it names no joints."""
    if not any(name.strip() for name in header):
        raise Unusable("is empty")
    stated: dict[str, list[int]] = {}
    axes: dict[str, dict[str, int]] = {}
    rest: list[int] = []
    for number, name in enumerate(header):
        if (fact := fact_of(name)) is not None:
            stated.setdefault(fact, []).append(number)
        elif found := _joint_and_axis(name):
            joint, axis = found
            if axes.setdefault(joint, {}).setdefault(axis, number) != number:
                raise Unusable(f"has two columns for {axis} of joint {printable(joint, 40)}")
        elif name.strip():
            rest.append(number)
    points, confidence, scores = _points(axes)
    facts, labels, left = _facts(header, stated, rest + scores, choice)
    numbered = all(joint.isdigit() for joint in points)
    if numbered:
        points = dict(sorted(points.items(), key=lambda item: int(item[0])))
        first = int(next(iter(points)))
        if first > 1 or list(map(int, points)) != list(range(first, first + len(points))):
            raise Unusable("has numbers of joints with gaps, or not from 0 or 1")
    names = {fact: header[number].strip() for fact, number in facts.items()}
    return Columns(facts, points, confidence, numbered, names, labels, left)


def _points(axes: dict[str, dict[str, int]]) -> tuple[dict[str, list[int]], dict[str, int], list[int]]:
    """Columns of the coordinates and of the confidence of every joint, and scores of what is no joint."""
    scores = [of_joint["c"] for of_joint in axes.values() if set(of_joint) == {"c"}]
    axes = {joint: of_joint for joint, of_joint in axes.items() if set(of_joint) != {"c"}}
    if not axes:
        raise Unusable("has no columns with coordinates of joints, such as left_hand_x")
    wanted = "xyz" if any("z" in of_joint for of_joint in axes.values()) else "xy"
    for joint, of_joint in axes.items():
        if missing := [axis for axis in wanted if axis not in of_joint]:
            raise Unusable(f"has no column {missing[0]} for joint {printable(joint, 40)}")
    confidence = {joint: of_joint["c"] for joint, of_joint in axes.items() if "c" in of_joint}
    without = {joint for joint in axes.keys() - confidence.keys() if not _OF_HANDS & set(joint.split())}
    if confidence and without:  # MediaPipe gives a visibility for the pose, and none for hands and face
        raise Unusable(f"has no confidence for joint {printable(min(without), 40)}, but for others")
    return {joint: [of_joint[axis] for axis in wanted] for joint, of_joint in axes.items()}, confidence, scores


def _facts(
    header: list[str], stated: dict[str, list[int]], rest: list[int], choice: Choice
) -> tuple[dict[str, int], tuple[str, ...], tuple[str, ...]]:
    """Columns of facts; the names of those that could be the label; and of those that say nothing that is used."""
    facts = {fact: numbers[0] for fact, numbers in stated.items()}
    labels = stated.get(LABEL, [])
    if labels:
        facts[LABEL] = labels[best_label([header[number] for number in labels])]
    if choice.label is not None:
        facts[LABEL] = _place(header, choice.label)
    if choice.without_label:
        facts.pop(LABEL, None)
    if choice.group is not None:
        facts[GROUP] = _place(header, choice.group)
    if (person := facts.pop(PERSON, None)) is not None:
        meant = choice.person or (SUBJECT if BODY in facts else BODY)
        if BODY in facts and SUBJECT in facts:
            rest = [*rest, person]
        else:
            facts.setdefault(meant, person)
    taken = set(facts.values())
    could_be = [n for n in (*labels, *rest) if n not in taken and (n in labels or may_be_label(header[n]))]
    others = [n for numbers in stated.values() for n in numbers[1:]] + rest
    left = [n for n in sorted(set(others) - taken - set(could_be)) if not says_nothing(header[n])]
    named = lambda numbers: tuple(printable(header[n].strip(), 40) for n in numbers)  # noqa: E731
    return facts, named(could_be), named(left)


def _place(header: list[str], name: str) -> int:
    for number, column in enumerate(header):
        if same_column(column, name):
            return number
    raise Unusable(f"has no column {printable(name, 40)!r}")


def _joint_and_axis(name: str) -> tuple[str, str] | None:
    """ "left_hand_x" -> ("left hand", "x"); None for a column of something else."""
    parts = joints.words(name) if len(name) < 100 else []
    for axis, rest in ((parts[-1:], parts[:-1]), (parts[:1], parts[1:])):
        is_confidence = axis and axis[0] in CONFIDENCE
        if rest and (is_confidence or axis[0] in ("x", "y", "z")):
            number = [part for part in rest if part not in _JOINT_WORDS]
            numbered = len(number) == 1 and re.fullmatch(r"\d{1,4}", number[0])
            rest = joints.bare(rest)
            return str(int(number[0])) if numbered else " ".join(rest), "c" if is_confidence else axis[0]
    return None
