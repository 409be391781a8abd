"""How well runs tell Kinder-Gator's look-alikes apart.

    skag eval RUN && python benchmarks/look_alikes.py RUN [RUN ...]

Reads the predictions that `skag eval` wrote. For every group of look-alikes: top-1 of its clips among all classes, and
among those of the group alone, where nothing but the look-alikes can be confused. With several runs also the mean.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

GROUPS = {
    "walk and run, by degree": (
        "Walk in place",
        "Walk in place as fast as you can",
        "Run in place",
        "Run in place as fast as you can",
    ),
    "jump, by degree": ("Jump", "Jump as high as you can"),
    "kick, by degree": ("Kick a ball", "Kick a ball as far as you can"),
    "throw, by degree": ("Throw a ball", "Throw a ball as far as you can"),
    "drawn in the air": (
        *(f"Draw the letter {letter}" for letter in "ACKMX"),
        *(f"Draw a {shape}" for shape in ("circle", "square", "triangle")),
    ),
    "letters of the body": tuple(f"Make the letter {letter}" for letter in "ACKMPTXY"),
}


def of_run(folder: Path) -> dict[str, tuple[int, float, float]]:
    """Of every group: clips, top-1 among all classes, top-1 within the group, in percent."""
    (path,) = folder.glob("predictions-*.npz")
    with np.load(path, allow_pickle=False) as kept:
        classes, labels, probabilities = list(kept["classes"]), kept["labels"], kept["probabilities"]
    found = {}
    for name, members in {**GROUPS, "all classes": tuple(classes)}.items():
        group = np.array([classes.index(each) for each in members])
        mine = np.isin(labels, group)
        among_all = probabilities[mine].argmax(1) == labels[mine]
        within = group[probabilities[mine][:, group].argmax(1)] == labels[mine]
        found[name] = (int(mine.sum()), 100 * float(among_all.mean()), 100 * float(within.mean()))
    return found


def main(folders: list[Path]) -> None:
    every = [of_run(folder) for folder in folders]
    for name in every[0]:
        clips = [found[name][0] for found in every]
        among_all, within = (np.array([found[name][place] for found in every]) for place in (1, 2))
        each = "  ".join(f"{one:5.1f} {other:5.1f}" for one, other in zip(among_all, within, strict=True))
        mean = f"   mean {among_all.mean():5.1f} {within.mean():5.1f}" if len(every) > 1 else ""
        print(f"{name:24} {sum(clips):4} clips  {each}{mean}")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
