"""Does the dialogue help? Train a recipe with and without the agents over several seeds, and compare.

    python benchmarks/agents_or_not.py nw-ucla.h5 --recipe nw-ucla-small --out runs/agents-or-not

Each run is one `skag train` and one `skag eval`, selected on held-out training clips; the test split decides
nothing. A run that is complete is not made again, so an interrupted benchmark goes on where it stopped. Prints
a table and writes OUT/results.json: test top-1 of every run, mean and sample standard deviation per variant.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

VARIANTS = {"no agents": ["--alpha", "0", "--beta", "0"], "measured": ["--llm", "measured"]}


def skag(*arguments: object, threads: int) -> dict:
    command = [sys.executable, "-m", "skag", *map(str, arguments), "--json", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout)


def one_run(args: argparse.Namespace, variant: str, seed: int, threads: int) -> dict:
    folder = args.out / f"{variant.replace(' ', '-')}-{seed}"
    result = folder / "benchmark.json"
    if result.exists():
        return json.loads(result.read_text())
    # a dialogue store of its own: runs at the same time must not find one another's answers
    store = args.out / f"dialogues-{folder.name}.h5"
    started = time.time()
    if variant != "no agents":
        skag("describe", args.data, "--store", store, *VARIANTS[variant], threads=threads)
    trained = skag(
        "train", args.data, "--recipe", args.recipe, "--stream", args.stream, "--seed", seed, "--store", store,
        "--out", folder, *VARIANTS[variant], threads=threads,
    )  # fmt: skip
    minutes = (time.time() - started) / 60
    tested = skag("eval", folder, threads=threads)
    found = {"variant": variant, "seed": seed, "minutes": round(minutes, 1), "threads": threads}
    found |= {name: trained[name] for name in ("best_epoch", "val_top1", "refreshes", "asked")}
    found |= {"test_top1": round(tested["top1"], 2), "split": tested["split"], "clips": tested["clips"]}
    result.write_text(json.dumps(found))
    print(f"{variant}, seed {seed}: test {found['test_top1']:.2f} %, {found['minutes']} minutes", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--stream", default="j")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time, sharing the cores")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // args.parallel)
    jobs = [(variant, seed) for seed in args.seeds for variant in VARIANTS]
    with ThreadPoolExecutor(args.parallel) as pool:
        results = list(pool.map(lambda job: one_run(args, *job, threads), jobs))
    summary = {}
    print(f"{'variant':<12}{'mean':>8}{'spread':>8}   seeds")
    for variant in VARIANTS:
        tops = [found["test_top1"] for found in results if found["variant"] == variant]
        spread = statistics.stdev(tops) if len(tops) > 1 else 0.0
        summary[variant] = {"mean": round(statistics.mean(tops), 2), "spread": round(spread, 2), "test_top1": tops}
        print(f"{variant:<12}{statistics.mean(tops):>8.2f}{spread:>8.2f}   {tops}")
    command = " ".join(["python", *sys.argv])
    (args.out / "results.json").write_text(
        json.dumps({"command": command, "summary": summary, "runs": results}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
