"""How fast clips come out of a skeleton store at random, and how fast a large store opens.

    python benchmarks/read_store.py [--clips 8000] [--clips-to-open 260000] [--out FILE.json]

Clips of 100 frames with 25 joints, read by one process from the page cache, and by as many as there are cores, each
with the whole store; stores as they were once written, in chunks of 256 KiB, beside them. The targets are 20,000 clips
per second and core, and 0.2 seconds to open a store of 260,000 clips. Best of five. Seconds are those of the processor,
since other work on a machine makes those of the clock longer; the clock's are there too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np

from skag.parallel import usable_cores
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store

FRAMES, RUNS = 100, 5
TARGET_READS, TARGET_OPEN = 20_000, 0.2


def written(path: Path, count: int, frames: int) -> Path:
    """A store of so many clips."""
    block = np.random.default_rng(0).normal(size=(1, frames, 25, 3)).astype("f4")
    with write_store(path, load_layout("nturgb+d")) as writer:
        for number in range(count):
            split = "xsub_train" if number % 3 else "xsub_test"
            writer.add(
                Clip(f"S001C001P001R001A001-{number:06}", number % 60, block, subject=number % 40, splits=(split,))
            )
        writer.finish([f"class {number}" for number in range(60)])
    return path


def in_chunks(path: Path, to: Path) -> Path:
    """The same store in chunks of 256 KiB."""
    to.write_bytes(path.read_bytes())
    with h5py.File(to, "r+") as file:
        rows = file["keypoints"][:]
        del file["keypoints"]
        chunks = ((1 << 18) // rows[0].nbytes, *rows.shape[1:])
        file.create_dataset("keypoints", data=rows, chunks=chunks, maxshape=(None, *rows.shape[1:]))
    return to


def reads(path: Path, seed: int = 0) -> tuple[float, float]:
    """Clips per second of the processor and by the clock, best of several runs."""
    with SkeletonStore(path) as store:
        order = np.random.default_rng(seed).permutation(len(store)).tolist()
        rates = []
        for _ in range(RUNS):
            start, used = time.perf_counter(), time.process_time()
            for number in order:
                store.keypoints(number)
            rates.append((len(order) / (time.process_time() - used), len(order) / (time.perf_counter() - start)))
    return max(rate for rate, _ in rates), max(rate for _, rate in rates)


def opening(path: Path) -> float:
    """Seconds to open a store, best of several."""
    best = float("inf")
    for _ in range(RUNS):
        start = time.perf_counter()
        SkeletonStore(path).close()
        best = min(best, time.perf_counter() - start)
    return best


def main() -> int:
    """Measure, print and compare with the targets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, default=8000)
    parser.add_argument("--clips-to-open", type=int, default=260_000)
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    options = parser.parse_args()
    cores = usable_cores()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = written(folder / "data.h5", options.clips, FRAMES)
        with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
            together = list(pool.map(reads, [path] * cores, range(cores)))
        alone, chunks = reads(path), reads(in_chunks(path, folder / "chunks.h5"))
        numbers = {
            "clips": options.clips,
            "clips per second": alone[0],
            "clips per second by the clock": alone[1],
            f"clips per second, {cores} at a time": sum(rate for rate, _ in together) / cores,
            "clips per second out of chunks": chunks[0],
            "clips to open": options.clips_to_open,
            "seconds to open": opening(written(folder / "large.h5", options.clips_to_open, 1)),
        }
    for what, number in numbers.items():
        print(f"{what}: {number:,.3f}" if number < 10 else f"{what}: {number:,.0f}")
    if options.out:
        machine = {"cores": cores, "load": os.getloadavg()[0]}
        options.out.write_text(
            json.dumps({"command": " ".join(sys.argv), "machine": machine, **numbers}, indent=1) + "\n"
        )
    return 0 if numbers["clips per second"] >= TARGET_READS and numbers["seconds to open"] < TARGET_OPEN else 1


if __name__ == "__main__":
    sys.exit(main())
