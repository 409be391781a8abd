"""What SkeletonAgent asks: five questions about every class, and a sixth about those it takes for one another."""

from __future__ import annotations

from ...dialogue.formats import FREE_TEXT, JOINT_MOVEMENTS, JOINT_NUMBERS, SENTENCE
from ...dialogue.script import COMMON, Round, Script

_CLASS, _JOINTS, _SIMILAR = frozenset({"class_name"}), frozenset({"joints"}), frozenset({"similar"})
_MEASURED = frozenset({"similar", "measured"})

OVERVIEW = Round(1, "overview", "round1", "the whole movement", FREE_TEXT, required=_CLASS)
BODY_PARTS = Round(2, "body_parts", "round2", "by parts of the body", FREE_TEXT)
NUMBERS = Round(3, "joint_numbers", "round3", "critical joints", JOINT_NUMBERS, required=_JOINTS)
MOVEMENTS = Round(4, "joint_movements", "round4", "how they move", JOINT_MOVEMENTS)
KEY_FEATURES = Round(5, "key_features", "round5", "key features", SENTENCE)
DISTINCTION = Round(
    6, "distinction", "round6", "what distinguishes it", SENTENCE, required=_SIMILAR, variables=COMMON | _SIMILAR
)
SCRIPT = Script("skeleton_agent", (OVERVIEW, BODY_PARTS, NUMBERS, MOVEMENTS, KEY_FEATURES), (DISTINCTION,))
# Round 6 in other words, with what was measured of these recordings (`agents.measured_differences`).
WITH_MEASURED = Script(
    SCRIPT.name,
    SCRIPT.rounds,
    (
        Round(
            6, "distinction", "round6_measured", "what distinguishes it, given what was measured", SENTENCE,
            required=_MEASURED, variables=COMMON | _MEASURED,
        ),
    ),
)  # fmt: skip
