"""Kinder-Gator as docs/results.md has it: 48 actions, and stores by who tests.

    python benchmarks/kinder_gator.py FOLDER OUT

FOLDER holds the recordings, `Adults/POSE-p565_01-Raise-your-hand-1469182402284.csv` and so on. Written are:

    OUT/kg.h5               four people test, chosen by a hash as `skag convert --split-by subject` does
    OUT/kg-0.h5 to kg-4.h5  two adults and two children test, drawn by the number
    OUT/kg-ac.h5            adults train, children test
    OUT/kg-0-dev-0.h5, -1   draw 0 without those who test; two adults and two children of the others test instead
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
from pathlib import Path

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


def recordings(folder: Path) -> list[Row]:
    """(file, label, person, whether a child) of every recording."""
    found = []
    for path in sorted(folder.rglob("*.csv")):
        if named := _FILE.search(path.name):
            label = named[2].strip("-").replace("-", " ")
            file = path.relative_to(folder)
            found.append((file.as_posix(), SAME.get(label, label), named[1], file.parts[0].startswith("Child")))
    return found


def drawn(adults: list[str], children: list[str], seed: int) -> set[str]:
    """Two adults and two children."""
    rng = random.Random(seed)
    return {*rng.sample(adults, 2), *rng.sample(children, 2)}


def some(rows: list[Row], testing: set[str], count: int) -> list[Row]:
    """All recordings of people who test, and `count` of every action's others, drawn by the count."""
    rng, found = random.Random(count), [row for row in rows if row[2] in testing]
    for action in sorted({row[1] for row in rows}):
        found += rng.sample([row for row in rows if row[1] == action and row[2] not in testing], count)
    return found


def stores(rows: list[Row]) -> dict[str, tuple[list[Row], set[str]]]:
    """By store: its recordings and the people who test; none where `skag convert` chooses them."""
    adults, children = (sorted({person for *_, person, child in rows if child == young}) for young in (False, True))
    found = {"kg": (rows, set[str]()), "kg-ac": (rows, {*children})}
    found |= {f"kg-{draw}": (rows, drawn(adults, children, draw)) for draw in range(DRAWS)}
    four = found["kg-0"][1]
    others = [[person for person in people if person not in four] for people in (adults, children)]
    kept = [row for row in rows if row[2] not in four]
    found |= {f"kg-0-dev-{draw}": (kept, drawn(*others, 100 + draw)) for draw in range(2)}
    return found | {f"kg-0-of-{count}": (some(rows, four, count), four) for count in FEW}


def main(folder: Path, out: Path) -> None:
    rows = recordings(folder)
    print(f"{len(rows)} recordings, {len({row[1] for row in rows})} actions, {len({row[2] for row in rows})} people")
    out.mkdir(parents=True, exist_ok=True)
    for name, (own, testing) in stores(rows).items():
        with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["file", "label", "subject", *(["split"] if testing else [])])
            for path, label, person, _ in own:
                table.writerow([path, label, person, *([("train", "test")[person in testing]] if testing else [])])
        command = ["skag", "convert", folder, out / f"{name}.h5", "--labels", out / f"{name}.csv"]
        command += [] if testing else ["--split-by", "subject"]
        subprocess.run([sys.executable, "-m", *map(str, command), "-q"], check=True, stdout=subprocess.DEVNULL)
        print(out / f"{name}.h5")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
