"""What reasons cost in `skag predict`, in looks at a recording, and how often their ranking is that of measuring each
joint alone.

    python benchmarks/evidence.py runs/ucla-j --every 4 --threads 1

Recordings are those of the run's test split, every Nth. Each is answered without reasons (one look), with them, and
with each joint measured, in turn, one recording at a time; ratios are medians over recordings.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch

from skag.inference.evidence import Evidence
from skag.inference.loaded import choose_split
from skag.inference.predict import open_predictor
from skag.inference.recordings import cleaned, each_recording
from skag.skeleton.store import SkeletonStore

WAYS = {"look": {"evidence": False}, "reasons": {}, "every joint": {"every_joint": True}}


def compare(fast: list[Evidence], full: list[Evidence]) -> dict[str, float]:
    """In percent of the recordings."""
    pairs = list(zip(fast, full, strict=True))
    return {
        "first joint is the first of the full measurement": share(a.ranking[0] == b.ranking[0] for a, b in pairs),
        "first joint is among its first three": share(a.ranking[0] in b.ranking[:3] for a, b in pairs),
        "a few joints change the answer": share(a.instead is not None for a in fast),
        "a few joints change the answer, full measurement": share(b.instead is not None for b in full),
    }


def share(those) -> float:
    those = list(those)
    return round(100 * sum(those) / len(those), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    predictor = open_predictor([args.run], device=torch.device("cpu"))
    run = predictor.runs[0]
    with SkeletonStore(run.store_path) as store:
        split = choose_split(run, store)
    found = each_recording([run.store_path], predictor.layout, split=split)
    clips = [cleaned(item.clip, predictor.layout) for item in list(found)[:: args.every]]
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    evidence: dict[str, list[Evidence]] = {name: [] for name in WAYS}
    for name in WAYS:  # what is computed once for all
        list(predictor.predict(clips[:1], **WAYS[name]))
    for clip in clips:
        for name, options in WAYS.items():
            began = time.perf_counter()
            (answer,) = predictor.predict([clip], **options)
            seconds[name].append(time.perf_counter() - began)
            evidence[name].append(answer.evidence)
    per_look = {
        name: median((taken - one) / one for taken, one in zip(seconds[name], seconds["look"], strict=True))
        for name in ("reasons", "every joint")
    }
    print(
        json.dumps(
            {
                "recordings": len(clips),
                "milliseconds": {name: round(1000 * median(taken), 1) for name, taken in seconds.items()},
                "looks": {name: round(looks, 2) for name, looks in per_look.items()},
                "percent": compare(evidence["reasons"], evidence["every joint"]),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
