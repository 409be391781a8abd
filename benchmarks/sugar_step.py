"""How long SUGAR's steps take and how much memory they need, by stage and by length of the query.

    python benchmarks/sugar_step.py DATA.h5 --lengths 1,16,32,128 > benchmarks/results/sugar-step.json

Every line is measured in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = 4  # that are timed, after one that is not


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--base-model", default="smollm2")
    parser.add_argument("--lengths", default="1,16,32,128")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--one", help="for one process: align, or the length of a query")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.data, options.one, options.base_model, options.batch)))
        return
    found = []
    for one in ("align", *options.lengths.split(",")):
        command = [sys.executable, __file__, str(options.data), "--one", one, "--base-model", options.base_model]
        done = subprocess.run([*command, "--batch", str(options.batch)], capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    print(json.dumps({"command": " ".join(sys.argv), "batch": options.batch, "rows": found}, indent=1))


def measure(data: Path, one: str, base_model: str, batch_size: int) -> dict[str, object]:
    """Seconds of a training step, the median of a few, and the peak of memory."""
    import numpy as np
    import torch

    from skag.config import AugmentConfig, override
    from skag.methods.base import Facts
    from skag.methods.sugar.descriptions import without_texts
    from skag.methods.sugar.recipes import small
    from skag.methods.sugar.task import AlignTask, TuneTask
    from skag.skeleton.clips import prepare
    from skag.skeleton.store import SkeletonStore
    from skag.training.batches import training_batches

    length = "16" if one == "align" else one
    changes = [f"bridge.num_queries={length}", f"lm.base_model={base_model}", "texts.knowledge=none"]
    config = override(small("j"), changes)
    cpu = torch.device("cpu")
    with SkeletonStore(data) as store, tempfile.TemporaryDirectory() as folder:
        numbers = store.splits[store.protocol(None)[0]]
        numbers = numbers[np.linspace(0, len(numbers) - 1, min(len(numbers), batch_size)).round().astype(int)]
        clips = prepare(store, numbers, config.data, cpu)
        facts = Facts(tuple(store.classes), store.layout, Path(folder), clips, clips, store.labels[numbers], numbers)
        task: AlignTask | TuneTask = AlignTask(config, facts, without_texts(store), cpu)
        if one != "align":
            torch.save({"model": task.model.state_dict()}, Path(folder) / "align.pt")
            task = TuneTask(config, facts, without_texts(store), cpu)
        generator = torch.Generator().manual_seed(0)
        batch = next(training_batches(clips, config.data, AugmentConfig(), batch_size, 1, generator))
        task.model.train()
        seconds = []
        for _ in range(STEPS + 1):
            began = time.perf_counter()
            task.step(batch, generator).loss.backward()
            seconds.append(time.perf_counter() - began)
    return {
        "stage": "align" if one == "align" else "tune",
        "queries": None if one == "align" else int(one),
        "seconds_per_step": round(statistics.median(seconds[1:]), 3),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    main()
