"""Rows of `skag ablate`, after Table 4 of the paper: stage 1, stage 2, joint constraint and alignment on a baseline."""

from __future__ import annotations

from ..base import Row

BASELINE = "baseline"
REPEATABLE = ("agents.wait_for_answers=true",)
ROWS = {
    row.name: row
    for row in (
        Row(BASELINE, "no agents: alpha 0, beta 0", ("agents.alpha=0", "agents.beta=0")),
        Row(
            "stage-1",
            "constraint and alignment from rounds 1 to 5, never asked again",
            ("agents.query_period={epochs}",),
            asks_again=False,
        ),
        Row("constraint", "constraint alone, with refreshes: beta 0", ("agents.beta=0",)),
        Row("alignment", "alignment alone, with refreshes: alpha 0", ("agents.alpha=0",)),
        Row("all", "constraint and alignment, with refreshes: the recipe as it is"),
        Row("shuffled", "control: as all, with every class given another class's answers", shuffled=True),
    )
}
