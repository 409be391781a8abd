"""What language says of the classes of a run before it trains: nothing. The base model knows their names alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import Note

if TYPE_CHECKING:
    from ...dialogue.interview import Question


@dataclass
class NoQuestions:
    """See `methods.base.Knowledge`: nobody is asked."""

    tell: Note | None = None  # who hears of long waits
    active: bool = False
    llm: str = ""
    missing: Sequence[Question] = ()
    snapshot: dict[str, Any] = field(default_factory=dict)

    def begin_run(self, run: Path) -> None: ...
    def use_snapshot(self, snapshot: dict[str, Any]) -> None: ...
    def most_questions(self, epochs: int) -> tuple[int, int]:
        return 0, 0
