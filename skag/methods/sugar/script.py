"""What SUGAR asks: how the parts of the body move, and what would be seen in pictures.

Round 11 is asked of every class by `skag describe`. Rounds 12 and 13 are what the paper asks a model that sees, of a
frame each (13), or, where there are no pictures, of a model that reads alone (12), which the paper does not do.
"""

from __future__ import annotations

from ...dialogue.formats import FREE_TEXT, PARTS
from ...dialogue.script import Round, Script

_CLASS = frozenset({"class_name"})

MOTION = Round(11, "body_parts", "motion", "motion, by parts of the body", PARTS, required=_CLASS)
IMAGINED = Round(12, "imagined", "imagined", "what would be seen (no picture was shown)", FREE_TEXT, required=_CLASS)
SEEN = Round(13, "seen", "seen", "what is seen in a frame", FREE_TEXT, required=_CLASS)
SCRIPT = Script("sugar", (MOTION,), (IMAGINED, SEEN))
