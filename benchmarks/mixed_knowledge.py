"""A knowledge file of two sources: critical joints as a person names them, all sentences as `measured` says them.

    python benchmarks/mixed_knowledge.py nw-ucla.h5 mixed.toml [--joints nw-ucla] [--split xview_train]

`--joints` is a knowledge file for the same classes, by its path or by the name of one that comes with skag. Sentences
are measured on the clips of one split; what tells each class from each other one becomes a pair. The file then answers
with `--llm file:mixed.toml`. What that is for: docs/ablation.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path

from skag.backends.class_statistics import measure
from skag.backends.knowledge import ClassKnowledge, find_file, load_knowledge, template
from skag.backends.wording import Teller
from skag.skeleton.store import SkeletonStore


def with_measured_words(known: ClassKnowledge, teller: Teller, one: int) -> ClassKnowledge:
    """What is known of a class, with all sentences but those of its critical joints as measured."""
    parts = dict(line.rstrip(".").split(": ", 1) for line in teller.body_parts(one).splitlines())
    return replace(known, overview=teller.overview(one), parts=parts, key_features=teller.key_features(one))


def pair(teller: Teller, one: int, other: int) -> str:
    """The `[[pair]]` of two classes."""

    def sign(of: int, against: int) -> str:
        sentence = teller.distinction(of, [against]).rstrip(".")
        return sentence.split(", ", 1)[1] if sentence.startswith("Unlike ") else sentence

    lines = ((one, other), (other, one))
    return "[[pair]]\n" + "".join(
        f"{json.dumps(teller.classes[of])} = {json.dumps(sign(of, against))}\n" for of, against in lines
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--joints", default="nw-ucla")
    parser.add_argument("--split", default="xview_train")
    args = parser.parse_args()
    with SkeletonStore(args.data) as store:
        known = load_knowledge(find_file(args.joints), store.classes, store.layout).classes
        teller = Teller(measure(store, args.split), store.classes)
        told = [with_measured_words(known[name], teller, one) for one, name in enumerate(store.classes)]
        pairs = [pair(teller, one, other) for one, other in itertools.combinations(range(len(told)), 2)]
        args.out.write_text("\n".join([template(store.classes, store.layout, told), *pairs]), encoding="utf-8")
        load_knowledge(args.out, store.classes, store.layout)


if __name__ == "__main__":
    main()
