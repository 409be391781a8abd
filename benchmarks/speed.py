"""What people wait for, part by part: each part compares within one run, so that ratios hold on other machines.

    python benchmarks/speed.py steps DATA.h5 [--device cuda] [--base-model smollm2]
    python benchmarks/speed.py profile DATA.h5
    python benchmarks/speed.py predict DATA.h5 [--run RUN]
    python benchmarks/speed.py start
    python benchmarks/speed.py to90 DATA.h5 [--epochs 40]

    steps     time and memory of a training step of every method and stage, by their small recipes with `measured`
    profile   where a training step of `nw-ucla-small` spends the processor's time
    predict   one recording with and without evidence, and frames of a live source
    start     commands that do nothing but start, beside Python and PyTorch
    to90      seconds of training until 90 % of NW-UCLA's test clips are right: skag's recipe `nw-ucla-small` beside a
              plain training loop of CTR-GCN, which is written out here; both see the same clips for as many epochs

Seconds are those of the processor, since other work on a machine makes those of the clock longer; those of `to90`, and
on a GPU all, are of the clock. `--out FILE.json` writes what is printed into a file; `--toy` makes everything small, to
try the script.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RECIPES = {"skeleton-agent": "nw-ucla-small", "sugar": "sugar-small", "llm-ar": "llm-ar-small"}
TINY = {
    "skeleton-agent": ("network.channels=16,16", "network.strides=1,2"),
    "sugar": ("network.channels=16,16", "network.strides=1,2", "bridge.num_queries=4", "bridge.width=16",
              "bridge.heads=2", "bridge.layers=2", "lm.rank=4"),
    "llm-ar": ("vqvae.width=16", "vqvae.depth=1", "codebook.num_codes=16", "lm.rank=4"),
}  # fmt: skip
STEPS = 6  # of a stage, of which the first is not counted
GOAL = 90.0  # percent


# ---------------------------------------------------------------- steps


class Stopwatch:
    """A watcher of training that notes when steps end, and the most memory of each stage."""

    def __init__(self, device: str) -> None:
        self.device, self.stages = device, []

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        self._end_of_stage()
        self.stages.append({"times": [clock(self.device)]})
        forget_the_most_memory(self.device)

    def step_done(self, means: Callable[[], dict[str, float]]) -> None:
        self.stages[-1]["times"].append(clock(self.device))
        self.stages[-1]["bytes"] = most_memory(self.device)

    def _end_of_stage(self) -> None: ...
    def epoch_done(self, metrics: dict[str, Any]) -> None: ...
    def asking(self, epoch: int, classes: int) -> None: ...
    def refreshed(self, record: dict[str, Any]) -> None: ...
    def noted(self, text: str) -> None: ...


def clock(device: str) -> float:
    """Seconds: of the processor, or on a GPU by the clock, once it has done what it was given."""
    if device == "cpu":
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def forget_the_most_memory(device: str) -> None:
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew
    else:
        import torch

        torch.cuda.reset_peak_memory_stats()


def most_memory(device: str) -> int:
    """Bytes since the last call of `forget_the_most_memory`."""
    if device == "cpu":
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    import torch

    return torch.cuda.max_memory_allocated()


def a_few_steps(
    data: Path, name: str, device: str, base_model: str, toy: bool, watch: Any, changed: Sequence[str] = ()
) -> Any:
    """Train one method for `STEPS` steps of each stage, by its small recipe with `measured`, some fields of it
    `changed`; its configuration."""
    from skag import recipes
    from skag.config import override
    from skag.device import choose_device
    from skag.methods import method
    from skag.methods.base import KnowledgeSource
    from skag.skeleton.store import SkeletonStore
    from skag.training.allocator import keep_freed_memory
    from skag.training.start import train_run

    keep_freed_memory()
    config = recipes.recipe(RECIPES[name], "j")
    with SkeletonStore(data) as store, tempfile.TemporaryDirectory() as folder:
        config = recipes.fitted(config, store)
        stages = method(name).stages(config)
        sections = {section for section in ("train", *stages) if hasattr(getattr(config, section, None), "epochs")}
        changes = [f"{section}.{field}" for section in sections for field in ("epochs=1", "repeats=1")]
        if name == "sugar":
            changes.append("bridge.taught=1")
        if name != "skeleton-agent":
            changes.append(f"lm.base_model={base_model}")
        config = override(config, [*changes, *(TINY[name] if toy else ()), *changed])
        dialogues = Path(folder) / "dialogues.h5"
        if method(name).SCRIPT is not None:
            describe = ["describe", data.resolve(), "--llm", "measured", "--store", dialogues, "--method", name, "-q"]
            subprocess.run([sys.executable, "-m", "skag", *map(str, describe)], check=True, stdout=subprocess.DEVNULL)
        train, _ = store.protocol(config.data.protocol)
        batch = max(config.settings_of(stage).batch_size for stage in stages)
        numbers = store.splits[train]
        wanted = min(len(numbers), round(STEPS * batch / (1 - config.data.val_fraction)) + batch)
        store.splits[train] = numbers[np.linspace(0, len(numbers) - 1, wanted).round().astype(int)]
        source = KnowledgeSource(dialogues, llm="measured")
        train_run(store, config, Path(folder) / "run", source, choose_device(device), watch, lambda text: None)
    return config


def steps_of(data: Path, name: str, device: str, base_model: str, toy: bool) -> list[dict[str, Any]]:
    """The stages of one method, trained for a few steps in this process."""
    import torch

    from skag.methods import method

    watch = Stopwatch(device)
    config = a_few_steps(data, name, device, base_model, toy, watch)
    rows = []
    for stage, found in zip(method(name).stages(config), watch.stages, strict=True):
        seconds = statistics.median(np.diff(found["times"])[1:])
        size = config.settings_of(stage).batch_size
        rows.append({
            "method": name, "recipe": RECIPES[name], "stage": stage, "batch": size,
            "threads": torch.get_num_threads(), "seconds a step": round(float(seconds), 4),
            "clips a second": round(size / seconds, 1), "peak MB": round(found["bytes"] / 1e6),
        })  # fmt: skip
    return rows


def steps(args: argparse.Namespace) -> dict[str, Any]:
    """Every method in a process of its own, so that its peak of memory is its own."""
    from skag.training.allocator import without_small_caches

    rows: list[dict[str, Any]] = []
    environment = without_small_caches(dict(os.environ)) | {"PYTHONPATH": str(ROOT)}
    for name in RECIPES:
        command = [sys.executable, __file__, "steps", str(args.data), "--one", name, "--device", args.device]
        command += ["--base-model", args.base_model, *(["--toy"] if args.toy else [])]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        rows += json.loads(done.stdout.splitlines()[-1])
    for row in rows:
        row["time of a clip, times skeleton-agent's"] = round(rows[0]["clips a second"] / row["clips a second"], 2)
    return {"rows": rows}


# ---------------------------------------------------------------- profile

KINDS = {  # of what a processor does in a training step, by the names of PyTorch's operations
    "matrix products": ("aten::bmm", "aten::mm", "aten::addmm", "aten::baddbmm", "aten::_scaled_dot_product"),
    "convolutions": ("aten::mkldnn_convolution", "aten::convolution_backward", "aten::_slow_conv", "aten::thnn_conv"),
    "batch norms": ("aten::native_batch_norm", "_NormOfBatch", "_BatchNorm"),
    "copies": ("aten::copy_", "aten::cat", "aten::clone", "aten::fill_", "aten::zero_", "aten::index"),
    "optimiser": ("aten::_fused", "Optimizer", "aten::_foreach"),
}  # fmt: skip


SIZES = ((16, 32), (64, 32), (16, 16), (64, 16))  # batch and frames; the recipe's first


class Counted(Stopwatch):
    """Of one stage: the profiler and the counter of operations run from the second step on."""

    def __init__(self) -> None:
        super().__init__("cpu")
        from torch.profiler import ProfilerActivity, profile
        from torch.utils.flop_counter import FlopCounterMode

        self.profiler, self.counter = profile(activities=[ProfilerActivity.CPU]), FlopCounterMode(display=False)
        self.done = 0

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        super().epoch_started(epoch, epochs, steps)
        self.steps = steps

    def step_done(self, means: Callable[[], dict[str, float]]) -> None:
        super().step_done(means)
        self.done += 1
        if self.done == 1:
            self.counter.__enter__()
        elif self.done == 2:  # one step is counted, which slows it; those after it are timed
            self.counter.__exit__(None, None, None)
            self.profiler.start()
        elif self.done == self.steps:
            self.profiler.stop()


def profile(args: argparse.Namespace) -> dict[str, Any]:
    """Where a training step of `nw-ucla-small` spends the processor's time, and how near it is to the processor's rate
    of multiplying."""
    import torch

    torch.set_num_threads(1)
    watch = Counted()
    a_few_steps(args.data, "skeleton-agent", "cpu", args.base_model, args.toy, watch)
    by_size = []
    for batch, frames in ((4, 8), (8, 8)) if args.toy else SIZES:
        sized, size = Stopwatch("cpu"), (f"train.batch_size={batch}", f"data.num_frames={frames}")
        a_few_steps(args.data, "skeleton-agent", "cpu", args.base_model, args.toy, sized, size)
        step = statistics.median(np.diff(sized.stages[0]["times"])[1:])
        by_size.append({"batch": batch, "frames": frames, "ms a clip": round(1000 * float(step) / batch, 2)})
    steps, shares = watch.steps - 2, dict.fromkeys([*KINDS, "the rest, number by number"], 0.0)
    for event in watch.profiler.key_averages():
        kind = next((kind for kind, names in KINDS.items() if event.key.startswith(names)), list(shares)[-1])
        shares[kind] += event.self_cpu_time_total / 1e6 / steps
    seconds, operations = sum(shares.values()), watch.counter.get_total_flops()
    one = torch.randn(1024, 1024)
    fastest = 2 * 1024**3 / spent(lambda: one @ one, "cpu")
    return {
        "threads": 1,
        "seconds of a step": round(seconds, 4),
        "share of a step, %": {kind: round(100 * share / seconds, 1) for kind, share in shares.items()},
        "multiplications and additions of a step, thousand millions": round(operations / 1e9, 2),
        "of them a second": round(operations / 1e9 / seconds, 1),
        "of a product of two matrices of 1024 x 1024, a second": round(fastest / 1e9, 1),
        "share of that rate, %": round(100 * operations / seconds / fastest, 1),
        "by batch and frames": by_size,
    }


# ---------------------------------------------------------------- predict


def predict(args: argparse.Namespace) -> dict[str, Any]:
    """One recording at a time, as `recogniser.predict` and `recogniser.stream` take it."""
    import skag
    from skag.skeleton.store import SkeletonStore

    device, run, made = args.device, args.run, tempfile.TemporaryDirectory()
    if run is None:  # weights do not matter to the time
        run = Path(made.name) / "run"
        options = ["--recipe", "nw-ucla-small", "--epochs", "1", "--alpha", "0", "--beta", "0", "--device", device]
        small = [word for change in (TINY["skeleton-agent"] if args.toy else ()) for word in ("--set", change)]
        command = [sys.executable, "-m", "skag", "train", args.data, "--out", run, *options, *small, "-q"]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    recogniser = skag.load(run, device=device)
    with SkeletonStore(args.data) as store:
        numbers = store.splits[store.protocol(recogniser.config.data.protocol)[1]]
        recordings = [store.keypoints(number) for number in numbers[: 3 if args.toy else 12]]
    recogniser.predict(recordings[0])  # calibrates the run
    plain = [spent(lambda clip=clip: recogniser.predict(clip, evidence=False), device) for clip in recordings]
    evidence = [spent(lambda clip=clip: recogniser.predict(clip), device) for clip in recordings]
    live, silent, answers = recogniser.stream(30.0), [], []
    for clip in recordings * (10 if args.toy else 1):  # short clips fill no window of two seconds
        for frame in np.swapaxes(clip, 0, 1):
            began = clock(device)
            answered = live.push(frame) is not None
            (answers if answered else silent).append(clock(device) - began)
    made.cleanup()
    one = statistics.median(plain)
    return {
        "threads": 1,
        "prediction without evidence, ms": round(1000 * one, 2),
        "with evidence, ms": round(1000 * statistics.median(evidence), 2),
        "with evidence, times without": round(statistics.median(evidence) / one, 2),
        "live, frame without an answer, ms": round(1000 * statistics.median(silent), 3),
        "live, frame with an answer, ms": round(1000 * statistics.median(answers), 2),
        "live, slowest answer, ms": round(1000 * max(answers), 2),
        "live, share of the time between frames at 30 a second": round(
            30 * (sum(silent) + sum(answers)) / (len(silent) + len(answers)), 3
        ),
    }


def spent(work: Callable[[], object], device: str) -> float:
    """Seconds, the least of three."""
    found = []
    for _ in range(3):
        began = clock(device)
        work()
        found.append(clock(device) - began)
    return min(found)


# ---------------------------------------------------------------- start


def start(args: argparse.Namespace) -> dict[str, Any]:
    """The least of some tries: what is left is what the machine cannot do without."""
    commands = {
        "python -c pass": ["-c", "pass"],
        "python -c 'import typer'": ["-c", "import typer"],
        "python -c 'import torch'": ["-c", "import torch"],
        "skag --help": ["-m", "skag", "--help"],
        "skag train --help": ["-m", "skag", "train", "--help"],
        "skag doctor": ["-m", "skag", "doctor"],
    }
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    rows = []
    for name, words in commands.items():
        used, waited = [], []
        for _ in range(2 if args.toy else 7):
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([sys.executable, *words], env=environment, capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            waited.append(time.perf_counter() - began)
            used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        rows.append({"command": name, "seconds of processor": min(used), "seconds by the clock": min(waited)})
    for row in rows:
        row["times python -c pass"] = round(row["seconds of processor"] / rows[0]["seconds of processor"], 1)
    return {"rows": rows}


# ---------------------------------------------------------------- to90


def plain_loop(data: Path, epochs: int, toy: bool, tell: Callable[[str], None]) -> list[tuple[float, float]]:
    """Train CTR-GCN as its authors' code does for NW-UCLA; (seconds of training so far, test top-1) of every epoch.

    Chen et al., "Channel-wise Topology Refinement Graph Convolution" (ICCV 2021), config/ucla/default.yaml: 52 frames,
    batches of 16, SGD with Nesterov momentum 0.9, rate 0.1 after a linear rise of 5 epochs, a tenth at 50 of 65 epochs
    (here at the same share of the epochs), weight decay 1e-4; of each clip's frames 52 sorted random ones out of five
    repetitions (feeder_ucla), under a random rotation and scale; the joints about the first frame's centre, within a
    cube of one. An epoch is one pass here, as in skag's recipe (the feeder's is five).
    """
    import torch
    from torch.nn import functional as F

    from skag.encoders.ctrgcn import CtrGcn, CtrGcnConfig, spatial_graphs
    from skag.skeleton.store import SkeletonStore

    torch.manual_seed(0)
    rng, frames = np.random.default_rng(0), 8 if toy else 52
    with SkeletonStore(data) as store:
        layout, (train, test) = store.layout, store.protocol(None)
        sets = [
            [(normalised(store.keypoints(n)[0], layout), int(store.labels[n])) for n in store.splits[split]]
            for split in (train, test)
        ]
        shape = {"channels": (16, 16), "strides": (1, 2)} if toy else {}
        config = CtrGcnConfig(num_joints=layout.num_joints, num_bodies=1, **shape)
        classes = len(store.classes)
    body = CtrGcn(config, spatial_graphs(layout))
    head = torch.nn.Linear(config.channels[-1], classes)
    weights = [*body.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    used, found = 0.0, []
    for epoch in range(epochs):
        rate = 0.1 * (epoch + 1) / 5 if epoch < 5 else 0.1 if epoch < 50 / 65 * epochs else 0.01
        for group in optimizer.param_groups:
            group["lr"] = rate
        began = time.perf_counter()
        body.train()
        for chosen in np.array_split(rng.permutation(len(sets[0])), -(-len(sets[0]) // 16)):
            x = np.stack([augmented(sets[0][number][0], frames, rng) for number in chosen])
            labels = torch.tensor([sets[0][number][1] for number in chosen])
            loss = F.cross_entropy(head(body.pooled(torch.from_numpy(x)[:, None])), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        used += time.perf_counter() - began
        body.eval()
        right = 0
        with torch.no_grad():
            for begin in range(0, len(sets[1]), 64):
                some = sets[1][begin : begin + 64]
                x = np.stack([clip[np.linspace(0, len(clip) - 1, frames).round().astype(int)] for clip, _ in some])
                answers = head(body.pooled(torch.from_numpy(x)[:, None])).argmax(1)
                right += int((answers == torch.tensor([label for _, label in some])).sum())
        found.append((used, 100 * right / len(sets[1])))
        tell(f"plain: epoch {epoch + 1}, {used:.0f} s, {found[-1][1]:.1f} %")
        if found[-1][1] >= GOAL:
            break
    return found


def normalised(clip: np.ndarray, layout: Any) -> np.ndarray:
    """Joints `[T, V, C]` about the first frame's centre, each coordinate scaled to -1 to 1 (feeder_ucla)."""
    clip = clip[clip.any((1, 2))] if clip.any() else clip[:1]
    clip = clip - clip[0, layout.index[layout.centre]]
    low, high = clip.min((0, 1)), clip.max((0, 1))
    return (2 * (clip - low) / np.maximum(high - low, 1e-6) - 1).astype(np.float32)


def augmented(clip: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    """A training clip `[frames, V, C]`: random frames in order, turned about two axes by up to 60 degrees, scaled."""
    a, b = np.radians(rng.uniform(-60, 60, 2))
    turn = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
    turn = turn @ np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    every = np.tile(np.arange(len(clip)), 1 + 100 // len(clip))
    chosen = np.sort(rng.choice(every, frames, replace=len(every) < frames))
    return (clip[chosen] @ (turn * rng.uniform(0.5, 1.5))).astype(np.float32)


def epochs_of_skag(data: Path, epochs: int, toy: bool) -> list[tuple[float, float]]:
    """The same of `nw-ucla-small`, with all training clips and the test split's result after every epoch."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        describe = ["describe", data, "--llm", "measured", "--store", folder / "d.h5", "-q"]
        changes = ["train.select_on=test", *(TINY["skeleton-agent"] if toy else ())]
        options = [word for change in changes for word in ("--set", change)]
        train = ["train", data, "--recipe", "nw-ucla-small", "--store", folder / "d.h5", "--out", folder / "run"]
        train += ["--epochs", epochs, "--device", "cpu", "-q", *options]
        for words in (describe, train):
            command = [sys.executable, "-m", "skag", *map(str, words)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
        return list(accuracies(folder / "run" / "metrics.jsonl"))


def accuracies(metrics: Path) -> Iterator[tuple[float, float]]:
    used = 0.0
    for line in metrics.read_text().splitlines():
        record = json.loads(line)
        used += record["seconds"]
        yield used, record["val_top1"]


def to90(args: argparse.Namespace) -> dict[str, Any]:
    """First skag, which is done sooner."""
    found = {"skag": epochs_of_skag(args.data, args.epochs, args.toy)}
    found["plain"] = plain_loop(args.data, args.epochs, args.toy, lambda text: print(text, file=sys.stderr, flush=True))
    document: dict[str, Any] = {"epochs": args.epochs}
    for name, epochs in found.items():
        reached = next(((number + 1, used) for number, (used, top1) in enumerate(epochs) if top1 >= GOAL), None)
        document[name] = {
            "epoch that reached 90 %": reached and reached[0],
            "seconds until then": reached and round(reached[1], 1),
            "seconds an epoch": round(epochs[-1][0] / len(epochs), 1),
            "highest top-1": round(max(top1 for _, top1 in epochs), 2),
            "top-1 after every epoch": [round(top1, 2) for _, top1 in epochs],
        }
    both = [document[name]["seconds until then"] for name in ("plain", "skag")]
    document["plain, times skag's seconds"] = round(both[0] / both[1], 2) if all(both) else None
    return document | {"to what both reach": until_common(found)}


def until_common(found: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    """Seconds until the highest top-1 that both reach, and their ratio: says something where one is far from 90."""
    goal = min(max(top1 for _, top1 in epochs) for epochs in found.values())
    plain, skag = (next(used for used, top1 in found[name] if top1 >= goal) for name in ("plain", "skag"))
    return {"top-1": round(goal, 2), "plain": round(plain, 1), "skag": round(skag, 1), "ratio": round(plain / skag, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("steps", "profile", "predict", "start", "to90"))
    parser.add_argument("data", type=Path, nargs="?", help="skeleton store, for all parts but `start`")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--base-model", default="smollm2")
    parser.add_argument("--run", type=Path, help="of `predict`; default: one is trained for an epoch")
    parser.add_argument("--epochs", type=int, default=40, help="of `to90`")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=RECIPES, help=argparse.SUPPRESS)  # the processes that `steps` starts
    args = parser.parse_args()
    if args.part != "start" and args.data is None:
        parser.error("give a skeleton store")
    if args.one:
        print(json.dumps(steps_of(args.data, args.one, args.device, args.base_model, args.toy)))
        return
    parts = {"steps": steps, "profile": profile, "predict": predict, "start": start, "to90": to90}
    found = parts[args.part](args)
    command = " ".join(["python", "benchmarks/speed.py", *(Path(word).name for word in sys.argv[1:])])
    machine = {"device": args.device, "load": round(os.getloadavg()[0], 1)}
    text = json.dumps({"command": command, "machine": machine, **found}, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
