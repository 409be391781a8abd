"""Rows of `skag ablate`, after Tables 4 to 7 of the paper, and controls beyond them."""

from __future__ import annotations

from ..base import Row

BASELINE = "baseline"
REPEATABLE: tuple[str, ...] = ()  # nobody is asked: runs of one seed are the same
ROWS = {
    row.name: row
    for row in (
        Row(BASELINE, "the recipe as it is"),
        Row("no-biases", "without the human-bias losses (Table 4)", ("bias.weight=0",)),
        Row("no-zipf", "without L_Zipf (Table 4)", ("bias.zipf=0",)),
        Row("no-context", "without L_context (Table 4)", ("bias.context=0",)),
        Row("no-mmd", "without the MMD to the base model's words (Table 4)", ("bias.mmd=0",)),
        Row("features", "the encoder's continuous features are read, not codes (Table 5)", ("read.tokens=features",)),
        Row("digits", "codes are read as digits", ("read.tokens=digits",)),
        Row("euclidean", "a Euclidean codebook (Table 6)", ("codebook.geometry=euclidean",)),
        Row("all-weights", "all weights of the base model are trained (Table 7)", ("lm.adapt=all", "tune.lr=2e-5")),
        Row("random-weights", "control: a base model whose weights are drawn at random", ("lm.pretrained=false",)),
    )
}
