"""Training on prepared clips that are larger than the memory a process may have, beside training on them in memory.

    python benchmarks/larger_than_memory.py [--clips 24000] [--limit-gib 1] [--out FILE.json]

Makes a store of clips of 150 frames, two bodies and 25 joints, whose prepared clips are larger than the limit. Then
three processes train the network of `nw-ucla-small` on it, by turns, so that all see the machine as it is at that time:

    memory        data.prepared=memory, without a limit: what skag did before
    file          data.prepared=file under `ulimit -d`, the limit; the file is in the system's cache as far as it fits
    file, cold    the same; before each of its turns the system forgets the file, so that all comes from the disk

A turn is so many steps of training, and so many batches that are made and thrown away, which no network hides. All must
see the same batches. Ratios are medians over turns, each of a process to "memory" in the same round. Resident memory is
the most at any batch, with what is the process's own apart from pages of files, which the system takes back when it
needs them. Last, a process that is to keep the clips in memory under the same limit shows that they do not fit.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FRAMES, BODIES, JOINTS, CLASSES, BATCH = 150, 2, 25, 60, 16
PROCESSES = ("memory", "file", "file, cold")


def make_store(path: Path, clips: int) -> None:
    """Clips of noise around one pose; every clip another piece of it, so that no two are the same."""
    import numpy as np

    from skag.skeleton.layouts import load_layout
    from skag.skeleton.store import Clip, write_store

    rng = np.random.default_rng(0)
    block = rng.normal(size=(BODIES, 8 * FRAMES, JOINTS, 3)).astype(np.float32)
    with write_store(path, load_layout("nturgb+d")) as writer:
        for number in range(clips):
            start = int(rng.integers(7 * FRAMES))
            points = block[:, start : start + FRAMES] + np.float32(number / clips)
            writer.add(Clip(f"c{number}", number % CLASSES, points, splits=("train" if number else "test",)))
        writer.finish([f"class {number}" for number in range(CLASSES)])


def resident() -> dict[str, int]:
    """Bytes of this process in memory: all, and what is its own."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "RssAnon"))}
    return {"resident": 1024 * int(found["VmRSS"]), "own": 1024 * int(found["RssAnon"])}


def work(store: Path, kind: str, steps: int) -> None:
    """One process: prepares the clips, then takes a turn for every line of its input."""
    import torch
    from torch.nn import functional as F

    from skag.config import AugmentConfig, DataConfig
    from skag.errors import DataError
    from skag.methods.skeleton_agent.network import ModelConfig, Recogniser
    from skag.methods.skeleton_agent.recipes import nw_ucla_small
    from skag.skeleton.clips import prepare
    from skag.skeleton.store import SkeletonStore
    from skag.training.batches import training_batches

    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = nw_ucla_small("j")
    config = DataConfig(num_frames=recipe.data.num_frames, num_bodies=BODIES, prepared=kind.split(",")[0])
    with SkeletonStore(store) as opened:
        began = time.perf_counter()
        try:
            clips = prepare(opened, opened.splits["train"], config, torch.device("cpu"))
        except DataError as error:
            print(json.dumps({"error": str(error)}), flush=True)
            return
        prepared = time.perf_counter() - began
    network = recipe.network
    model = Recogniser(ModelConfig(CLASSES, JOINTS, BODIES, channels=network.channels, strides=network.strides))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, fused=True)
    augment = AugmentConfig(heading=0.3, scale=0.1, shortest_part=0.8)
    generator, most = torch.Generator().manual_seed(0), resident()
    print(json.dumps({"seconds to prepare": prepared, "bytes": clips.rows.nbytes}), flush=True)
    batches: Any = iter(())
    for line in sys.stdin:
        if kind.endswith("cold"):
            forget(Path("cache/prepared"))
        count, trained = (steps, True) if line.strip() == "train" else (20 * steps, False)
        began, sums = time.perf_counter(), torch.zeros(())
        for _ in range(count):
            if (batch := next(batches, None)) is None:
                batches = training_batches(clips, config, augment, BATCH, 1, generator)
                batch = next(batches)
            if trained:
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(model(batch.x).class_logits, batch.labels).backward()
                optimizer.step()
            sums += batch.x.sum()
            most = {name: max(value, most[name]) for name, value in resident().items()}
        rate = count * BATCH / (time.perf_counter() - began)
        print(json.dumps({"clips a second": rate, "sum": float(sums), **most}), flush=True)


def forget(folder: Path) -> None:
    """Have the system drop what it keeps of files."""
    for path in folder.glob("*.clips"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def started(folder: Path, kind: str, steps: int, limit: int | None) -> subprocess.Popen[str]:
    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    command = [sys.executable, str(Path(__file__).resolve()), "--work", kind, "--steps", str(steps)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdin=-1, stdout=-1, text=True, preexec_fn=limited)


def answer(process: subprocess.Popen[str], wanted: str | None = None) -> dict[str, Any]:
    assert process.stdin is not None and process.stdout is not None
    if wanted is not None:
        print(wanted, file=process.stdin, flush=True)
    return json.loads(process.stdout.readline())


def measured(folder: Path, clips: int, limit: int, steps: int, rounds: int) -> dict[str, Any]:
    """All processes by turns, see above."""
    make_store(folder / "data.h5", clips)
    processes, found = {}, {}
    for kind in PROCESSES:  # one after another: the first of those with a file makes it
        processes[kind] = started(folder, kind, steps, None if kind == "memory" else limit)
        found[kind] = answer(processes[kind])
        if "error" in found[kind]:
            raise SystemExit(found[kind]["error"])
    turns: dict[str, dict[str, list[dict[str, Any]]]] = {kind: {"train": [], "batches": []} for kind in PROCESSES}
    for number in range(rounds):
        order = PROCESSES if number % 2 == 0 else PROCESSES[::-1]
        for what in ("train", "batches"):
            for kind in order:
                turns[kind][what].append(answer(processes[kind], what))
            sums = {turns[kind][what][-1]["sum"] for kind in PROCESSES}
            assert len(sums) == 1, f"the batches differ: {sums}"
    for process in processes.values():
        process.communicate()
    fails = started(folder, "memory", steps, limit)
    refused = answer(fails).get("error")
    fails.communicate()
    for kind, own in turns.items():
        last = own["batches"][-1]
        found[kind] |= {"largest resident memory": last["resident"], "of it the process's own": last["own"]}
        for what, row in own.items():
            rates = [turn["clips a second"] for turn in row]
            plain = [turn["clips a second"] for turn in turns["memory"][what]]
            found[kind][f"{what}, clips a second"] = statistics.median(rates)
            ratios = [one / other for one, other in zip(rates, plain, strict=True)]
            found[kind][f"{what}, share of memory's rate"] = statistics.median(ratios)
    return {"processes": found, "in memory under the limit": refused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=24000)
    parser.add_argument("--limit-gib", type=float, default=1.0)
    parser.add_argument(
        "--steps", type=int, default=20, help="of training in a turn; batches alone are 20 times as many"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the store and the file are made; default: a temporary one")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)  # the processes this one starts
    args = parser.parse_args()
    if args.work:
        work(Path("data.h5"), args.work, args.steps)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        found = measured(Path(folder), args.clips, round(args.limit_gib * 2**30), args.steps, args.rounds)
    command = " ".join(["python", "benchmarks/larger_than_memory.py", *sys.argv[1:]])
    machine = {"threads": 1, "load": round(os.getloadavg()[0], 1)}
    text = json.dumps({"command": command, "machine": machine, "limit": args.limit_gib * 2**30, **found}, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
