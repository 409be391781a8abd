"""`skag add` against the nearest prototype alone: 1, 3 and 5 recordings of classes that a run has never seen.

    python benchmarks/few_recordings.py RUN DATA.h5

RUN was trained with `--unseen`. Of the training split of DATA.h5 recordings of every unseen class are drawn, ten times;
the test split's clips are named among all classes. S and U are the accuracies on seen and unseen classes, H their
harmonic mean.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from skag.inference.adding import embed, fit, prototypes
from skag.inference.loaded import load_run
from skag.inference.scores import predict_prepared
from skag.inference.zero_shot import harmonic
from skag.runs import DATA, read_json
from skag.skeleton.clips import prepare
from skag.skeleton.store import SkeletonStore

DRAWS = 10


def main(folder: Path, path: Path) -> None:
    torch.set_num_threads(1)
    device = torch.device("cpu")
    run = load_run(folder, device)
    with SkeletonStore(path) as store:
        train, test = (store.splits[name] for name in store.protocol(run.config.data.protocol))
        new = [name for name in store.classes if name not in run.classes]
        order = [*run.classes, *new]
        number = np.array([order.index(name) for name in store.classes])
        clips = {
            name: prepare(store, numbers, run.config.data, device) for name, numbers in (("a", train), ("b", test))
        }
        vectors, tested = embed(run, clips["a"]), embed(run, clips["b"])
        old = np.log(predict_prepared(run.classifier, clips["b"], run.config.data, 64))
        labels, truth = number[store.labels[train]], number[store.labels[test]]
        held = np.isin(train, read_json(folder, DATA)["validation"])
    K = len(run.classes)
    trained = prototypes([vectors[(labels == k) & ~held] for k in range(K)])
    kept = held & (labels < K)
    nearest = (tested @ trained.T).max(1)
    print(f"{len(truth)} test clips, {K} classes seen, {len(new)} added: {', '.join(new)}")
    for count in (1, 3, 5):
        found: dict[str, list[list[float]]] = {"nearest prototype": [], "skag add": []}
        for seed in range(DRAWS):
            rng = np.random.default_rng(seed)
            given = [
                vectors[rng.choice(np.flatnonzero(labels == K + k), count, replace=False)] for k in range(len(new))
            ]
            fitted = [fit(vectors[kept], labels[kept], trained, each, None, seed) for each in given]
            odds = [each.scale * (tested @ each.prototype - nearest) for each in fitted]
            answers = {
                "nearest prototype": (tested @ np.concatenate([trained, prototypes(given)]).T).argmax(1),
                "skag add": np.column_stack([old, *odds]).argmax(1),
            }
            for name, answer in answers.items():
                right = 100 * (answer == truth)
                S, U = float(right[truth < K].mean()), float(right[truth >= K].mean())
                found[name].append([S, U, harmonic(S, U) or 0.0, float(right.mean())])
        for name, rows in found.items():
            means, spread = np.mean(rows, 0), np.std(rows, 0, ddof=1)
            columns = zip(("S", "U", "H", "top-1"), means, spread, strict=True)
            print(
                f"{count} {name:18}", "  ".join(f"{what} {mean:5.1f} ± {error:4.1f}" for what, mean, error in columns)
            )
        gain = np.subtract(*[np.array(found[name])[:, 2] for name in ("skag add", "nearest prototype")])
        print(f"{count} H, skag add minus nearest prototype: {gain.mean():+.1f} ± {gain.std(ddof=1):.1f} over draws")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
