"""Which questions a method asks of a language model, in which order, and what their answers must look like: data.

A method has one `Script`; what asks, checks, lists and replays is handed it and knows no other. What a question asks
for is its `kind`, a plain word by which backends that look at no wording, such as `measured`, know what to say:

    overview          the whole movement in one sentence
    body_parts        a line for each of head, hand, arm, hip, leg and foot
    joint_numbers     the numbers of all critical joints
    joint_movements   how each critical joint moves
    key_features      by what the action is recognised, in one sentence
    distinction       what tells it from the classes it is taken for, in one sentence
    imagined          what would be seen in a picture of it, of which there is none
    seen              what is seen in a picture of it
"""

from __future__ import annotations

from dataclasses import dataclass

from .formats import Format

COMMON = frozenset({"class_name", "joints"})  # the variables that every question may use


@dataclass(frozen=True)
class Round:
    """One question."""

    number: int  # stored with every exchange; no two scripts share one, so that an exchange says whose it is
    kind: str  # what it asks for: see the module's docstring
    prompt: str  # name of its file in the folder of prompts, without .txt
    title: str  # for people
    format: Format
    # Variables without which the questions for two classes, layouts or refreshes would read the same, and so share one
    # stored answer.
    required: frozenset[str] = frozenset()
    variables: frozenset[str] = COMMON  # all that it may use


@dataclass(frozen=True)
class Script:
    """The questions of one method."""

    name: str  # of the method, and of its folder in prompts/
    rounds: tuple[Round, ...]  # asked of every class before training, as one conversation
    later: tuple[Round, ...] = ()  # asked while it trains, each after all of `rounds`

    @property
    def all(self) -> tuple[Round, ...]:
        return self.rounds + self.later

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the rounds before training, in their order."""
        return tuple(each.number for each in self.rounds)

    @property
    def first(self) -> Round:
        return self.rounds[0]

    @property
    def last(self) -> Round:
        """The last one before training."""
        return self.rounds[-1]

    @property
    def lists_joints(self) -> Round | None:
        """The round before training whose question must hold the list of joints."""
        return next((each for each in self.rounds if "joints" in each.required), None)

    @property
    def span(self) -> str:
        """The rounds before training in words: `rounds 1 to 5`."""
        return (
            f"rounds {self.first.number} to {self.last.number}"
            if len(self.rounds) > 1
            else f"round {self.first.number}"
        )

    def find(self, number: int) -> Round | None:
        """The round of a number, None where it is another script's."""
        return next((each for each in self.all if each.number == number), None)

    def __getitem__(self, number: int) -> Round:
        if (found := self.find(number)) is None:
            raise KeyError(f"{self.name} has no round {number}")
        return found

    def of(self, kind: str) -> Round | None:
        """The round that asks for something, None where none does."""
        return next((each for each in self.all if each.kind == kind), None)

    def before(self, number: int) -> int | None:
        """The round before training that a round before training follows; None for the first."""
        place = self.numbers.index(number)
        return self.numbers[place - 1] if place else None

    def left(self, number: int) -> list[int]:
        """A round, and those before training that come after it and depend on its answer."""
        return list(self.numbers[self.numbers.index(number) :]) if number in self.numbers else [number]

    def up_to(self, number: int) -> tuple[Round, ...]:
        """A round and all before it, whose prompts shape its answer."""
        place = [each.number for each in self.all].index(number)
        return self.all[: place + 1]
