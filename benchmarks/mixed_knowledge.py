"""A knowledge file of two sources: critical joints as a person names them, all sentences as `measured` says them.

    python benchmarks/mixed_knowledge.py nw-ucla.h5 mixed.toml [--joints nw-ucla] [--split xview_train]

`--joints` is a knowledge file for the same classes, by its path or by the name of one that comes with skag. Sentences
are measured on the clips of one split; what tells each class from each other one becomes a pair. The file then answers
with `--llm file:mixed.toml`. What that is for: docs/ablation.md.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path

from skag.backends.class_statistics import measure
from skag.backends.knowledge import PARTS, find_file, load_knowledge
from skag.backends.wording import Teller
from skag.store import SkeletonStore


def entry(teller: Teller, one: int, joints: list[str]) -> str:
    """The `[[class]]` of one class."""
    parts = dict(line.split(": ", 1) for line in teller.body_parts(one).splitlines())
    fields = {"name": teller.classes[one], "overview": teller.overview(one)}
    fields |= {part: parts[part].rstrip(".") for part in PARTS}
    fields |= {"critical_joints": joints, "key_features": teller.key_features(one)}
    return "[[class]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())


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
    named = tomllib.loads(find_file(args.joints).read_text(encoding="utf-8"))
    joints = {known["name"]: known["critical_joints"] for known in named["class"]}
    with SkeletonStore(args.data) as store:
        teller = Teller(measure(store, args.split), store.classes)
        numbers = range(len(store.classes))
        blocks = [entry(teller, one, joints[store.classes[one]]) for one in numbers]
        blocks += [pair(teller, one, other) for one in numbers for other in numbers if one < other]
        args.out.write_text("\n".join(blocks), encoding="utf-8")
        load_knowledge(args.out, store.classes, store.layout)


if __name__ == "__main__":
    main()
