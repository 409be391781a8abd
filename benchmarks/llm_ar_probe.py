"""What linear classifiers read of an LLM-AR run's tokens and features on the test split, and what its language model
reads of the same tokens.

    python benchmarks/llm_ar_probe.py RUN [RUN ...]

The classifiers are ridges (`skag.methods.llm_ar.probe`) that learn from the clips that the run was trained on, without
augmentation. `skag eval RUN` has been run before. One line of JSON for each run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from skag import metrics
from skag.inference.loaded import load_run
from skag.inference.scores import load_predictions
from skag.methods.llm_ar.codebook import code_use
from skag.methods.llm_ar.codebook_task import look, words_of
from skag.methods.llm_ar.probe import linear_top1
from skag.runs import DATA, read_json
from skag.skeleton.clips import prepare
from skag.skeleton.store import SkeletonStore

_MOST = 1000  # training clips


def probe(folder: Path) -> dict[str, object]:
    """Top-1 in percent on the test split, and the share of codes that training clips use."""
    device = torch.device("cpu")
    run = load_run(folder, device)
    vqvae, config = run.model.vqvae.eval(), run.config
    with SkeletonStore(run.store_path) as store:
        split = store.protocol(config.data.protocol)[1]
        training = np.array(read_json(folder, DATA)["training"])
        chosen = training[np.linspace(0, len(training) - 1, min(_MOST, len(training))).round().astype(int)]
        seen, tested = (
            (look(vqvae, prepare(store, numbers, config.data, device), config.data, 64), store.labels[numbers])
            for numbers in (chosen, store.splits[split])
        )
        classes = len(store.classes)
    table = vqvae.codebook.vectors().detach()

    def top1(train: torch.Tensor, test: torch.Tensor) -> float:
        labels = (torch.from_numpy(own.astype(np.int64)) for own in (seen[1], tested[1]))
        train_labels, test_labels = labels
        return round(linear_top1(train.flatten(1), train_labels, test.flatten(1), test_labels, classes), 2)

    (codes, mask, latents), (test_codes, test_mask, test_latents) = seen[0], tested[0]
    if (said := load_predictions(folder, split)) is None:
        sys.exit(f"{folder} has no predictions of {split}: run `skag eval {folder}` first.")
    return {
        "run": str(folder),
        "test clips": len(tested[1]),
        "language model": round(metrics.accuracy(said.labels, said.probabilities).top1, 2),
        "linear on tokens": top1(words_of(codes, mask, table), words_of(test_codes, test_mask, table)),
        "linear on features": top1(latents, test_latents),
        "codes used, %": round(100 * code_use(torch.bincount(codes[mask], minlength=len(table))).share, 1),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        print(json.dumps(probe(Path(name))))
