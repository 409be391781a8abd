"""Rows of `skag ablate`, after the paper's two tables: which knowledge, and which bridge with how many tokens."""

from __future__ import annotations

from ..base import Row

BASELINE = "baseline"
REPEATABLE = ()
ROWS = {
    row.name: row
    for row in (
        Row(BASELINE, "no knowledge: the encoder learns the classes alone", ("texts.knowledge=none",)),
        Row("visual", "texts of what is seen", ("texts.knowledge=visual",)),
        Row("motion", "texts of the motion", ("texts.knowledge=motion",)),
        Row("both", "texts of both", ("texts.knowledge=both",)),
        Row("shuffled", "control: the recipe, with every class given another class's texts", shuffled=True),
        Row("cross-attention", "one attention in the place of the projection", ("bridge.kind=cross_attention",)),
        Row("qformer", "one Q-Former in the place of the projection", ("bridge.kind=qformer",)),
        Row("linear", "a linear layer in the place of the projection", ("bridge.kind=linear",)),
        Row("tqp", "the temporal query projection", ("bridge.kind=tqp",)),
        Row("tokens-1", "queries of length 1", ("bridge.num_queries=1",)),
        Row("tokens-16", "queries of length 16", ("bridge.num_queries=16",)),
        Row("tokens-32", "queries of length 32", ("bridge.num_queries=32",)),
        Row("tokens-128", "queries of length 128", ("bridge.num_queries=128",)),
        Row("tokens-all", "queries as long as a clip", ("bridge.num_queries=0",)),
    )
}
OF_SEEN = ("visual", "both")  # rows that need texts of what is seen
OF_BRIDGE = tuple(name for name, row in ROWS.items() if any(each.startswith("bridge.") for each in row.changes))
