"""Kinder-Gator as docs/results.md has it: 48 actions, and stores by who tests.

    python benchmarks/kinder_gator.py FOLDER OUT

FOLDER holds the recordings, `Adults/POSE-p565_01-Raise-your-hand-1469182402284.csv` and so on. Written are:

    OUT/kg.h5               four people test, chosen by a hash as `skag convert --split-by subject` does
    OUT/kg-0.h5 to kg-4.h5  two adults and two children test, drawn by the number
    OUT/kg-ac.h5            adults train, children test
    OUT/kg-0-of-1.h5        draw 0 with one training clip a class; also of 2, 5 and 10

each with the table of labels it is made with beside it. "Your hand" and "your other hand" follow each person's choice,
so that ten pairs of actions are one action each.
"""

from __future__ import annotations

import csv
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FILE = re.compile(r"POSE-p(\d+)_\d+-(.*)-[^-]*\.csv$")
SAME = {
    "Bend your other knee while raising your leg": "Bend your knee while raising your leg",
    "Kick a ball with the other leg": "Kick a ball",
    "Kick a ball as far as you can with the other leg": "Kick a ball as far as you can",
    "Lift your leg to the other side": "Lift your leg to one side",
    "Raise your arm to the other side": "Raise your arm to one side",
    "Raise your other hand": "Raise your hand",
    "Wave your other hand": "Wave your hand",
    "Put your hands on your hips and lean to the other side": "Put your hands on your hips and lean to the side",
    "Throw a ball with your other arm": "Throw a ball",
    "Throw a ball as far as you can with the other arm": "Throw a ball as far as you can",
}
DRAWS = 5
FEW = (1, 2, 5, 10)  # training clips of a class


Row = tuple[str, str, str, bool]
Tests = Callable[[str, bool], bool]


def recordings(folder: Path) -> list[Row]:
    """(file, label, person, whether a child) of every recording."""
    found = []
    for path in sorted(folder.rglob("*.csv")):
        if named := _FILE.search(path.name):
            label = named[2].strip("-").replace("-", " ")
            file = path.relative_to(folder)
            found.append((file.as_posix(), SAME.get(label, label), named[1], file.parts[0].startswith("Child")))
    return found


def some(rows: list[Row], tests: Tests, count: int) -> list[Row]:
    """All recordings that test, and `count` of every action's others, drawn by the count."""
    rng, found = random.Random(count), [row for row in rows if tests(row[2], row[3])]
    for action in sorted({row[1] for row in rows}):
        others = [row for row in rows if row[1] == action and not tests(row[2], row[3])]
        found += rng.sample(others, count)
    return found


def main(folder: Path, out: Path) -> None:
    rows = recordings(folder)
    adults, children = (sorted({person for *_, person, child in rows if child == young}) for young in (False, True))
    actions = {label for _, label, *_ in rows}
    print(f"{len(rows)} recordings, {len(actions)} actions, {len(adults)} adults, {len(children)} children")
    out.mkdir(parents=True, exist_ok=True)
    testing: dict[str, Any] = {"kg": None, "kg-ac": lambda person, child: child}
    for draw in range(DRAWS):
        rng = random.Random(draw)
        four = {*rng.sample(adults, 2), *rng.sample(children, 2)}
        testing[f"kg-{draw}"] = lambda person, child, four=four: person in four
    few = dict.fromkeys(testing, rows) | {f"kg-0-of-{count}": some(rows, testing["kg-0"], count) for count in FEW}
    for name in few:
        tests = testing[name.partition("-of-")[0]]
        with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["file", "label", "subject", *(["split"] if tests else [])])
            for path, label, person, child in few[name]:
                split = [] if tests is None else ["test" if tests(person, child) else "train"]
                table.writerow([path, label, person, *split])
        command = ["skag", "convert", folder, out / f"{name}.h5", "--labels", out / f"{name}.csv"]
        command += ["--split-by", "subject"] if tests is None else []
        subprocess.run([sys.executable, "-m", *map(str, command), "-q"], check=True, stdout=subprocess.DEVNULL)
        print(out / f"{name}.h5")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
