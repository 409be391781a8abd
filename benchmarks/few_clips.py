"""A small, hard task out of NW-UCLA that leaves its test camera alone: few clips of some people seen by one camera
against other people seen by another.

    python benchmarks/few_clips.py nw-ucla.h5 nw-ucla-few.h5

Training: ten clips per class of five people on camera 1. Test: all clips of the other five on camera 2. Which people
and clips they are is drawn once, from a fixed seed. `skag ablate` compares candidates on it, so that none is chosen on
camera 3.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from skag.skeleton.store import Clip, SkeletonStore, write_store

TRAIN_CAMERA, TEST_CAMERA, PEOPLE, PER_CLASS, SEED = 1, 2, 5, 10, 0


def choose(store: SkeletonStore) -> dict[int, str]:
    """Clip number -> split, of the clips that are used."""
    rng = np.random.default_rng(SEED)
    known = rng.permutation(np.unique(store.subjects))[:PEOPLE]
    of_known = np.isin(store.subjects, known)
    chosen = dict.fromkeys(np.flatnonzero(~of_known & (store.cameras == TEST_CAMERA)).tolist(), "few_test")
    for label in range(len(store.classes)):
        members = np.flatnonzero(of_known & (store.cameras == TRAIN_CAMERA) & (store.labels == label))
        chosen |= dict.fromkeys(rng.permutation(members)[:PER_CLASS].tolist(), "few_train")
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    with SkeletonStore(args.source) as store, write_store(args.out, store.layout) as writer:
        chosen = choose(store)
        for number in sorted(chosen):
            facts = {"subject": int(store.subjects[number]), "camera": int(store.cameras[number])}
            clip = store.keypoints(number)
            label = int(store.labels[number])
            writer.add(Clip(store.names[number], label, clip, splits=(chosen[number],), **facts))
        writer.finish(store.classes)
    counts = {split: list(chosen.values()).count(split) for split in ("few_train", "few_test")}
    print(f"{args.out}: {counts}")


if __name__ == "__main__":
    main()
