"""What a network has to beat: MultiRocket-Hydra and a discriminant on measured motion, beside runs of skag.

    pip install aeon
    python benchmarks/sceptic.py DATA.h5 [--protocol P] [--seeds 0 1 2] [--real-time] [--with RUN ...]

MultiRocket-Hydra with ridge (Dempster, Schmidt and Webb, Data Mining and Knowledge Discovery 37, 2023) is aeon's, on
joints and velocities: clips stand upright, face one way, are centred, scaled to one body (of one person) and brought to
64 frames, as the recipes do. It learns from the whole training split and is asked once a seed. The discriminant is that
of `--kinematics`, alone. Runs are shown as `skag eval` has them; names with commas are fused.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from skag.config import DataConfig
from skag.inference import discriminant
from skag.inference.evaluate import evaluate_runs
from skag.metrics import wilson_interval
from skag.skeleton.clips import prepare, test_batches
from skag.skeleton.store import SkeletonStore

FRAMES = 64


def series(store: SkeletonStore, numbers: np.ndarray, real_time: bool) -> np.ndarray:
    """Joints and velocities of clips, float32 `[n, bodies x joints x 6, 64]`; by the frame, or by the second."""
    bodies = min(2, int(store.bodies.max()))
    config = DataConfig(
        num_frames=FRAMES,
        num_bodies=bodies,
        stand_upright=True,
        face_forward=True,
        unit_height=bodies == 1,
        timing="speed" if real_time else "none",
    )
    clips = prepare(store, numbers, config, torch.device("cpu"))
    x = torch.cat([views[:, 0] for views in test_batches(clips, config, 256)])  # n M T V C
    if not real_time:
        x = torch.cat([x, x.diff(dim=2, append=x[:, :, -1:])], -1)
    return x.permute(0, 1, 3, 4, 2).flatten(1, 3).numpy()


def rocket(train: np.ndarray, labels: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Answers `[n]` of MultiRocket-Hydra."""
    from aeon.classification.convolution_based import MultiRocketHydraClassifier

    model = MultiRocketHydraClassifier(n_jobs=1, random_state=seed)
    model.fit(train, labels)
    return np.asarray(model.predict(test))


def row(name: str, right: int, clips: int, began: float) -> dict[str, object]:
    """Top-1 and its interval, in percent."""
    low, high = wilson_interval(right, clips)
    top1, seconds = 100 * right / clips, time.perf_counter() - began
    print(f"{name:40} {top1:6.2f}  ({low:.1f} to {high:.1f})  {seconds:6.1f} s", flush=True)
    return {"name": name, "top1": top1, "low": low, "high": high, "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--protocol")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--real-time", action="store_true", help="velocities by the second, not by the frame")
    parser.add_argument("--with", dest="runs", nargs="*", default=[], metavar="RUN[,RUN...]")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with SkeletonStore(options.data) as store:
        train, test = (store.splits[name] for name in store.protocol(options.protocol))
        labels, truth = store.labels[train], store.labels[test]
        print(f"{options.data.name}: {len(train)} training clips, {len(test)} test clips, {len(store.classes)} classes")
        began = time.perf_counter()
        opinion = discriminant.fit(store, train)
        answers = opinion.probabilities(store, test, store.layout).argmax(1)
        rows.append(row("discriminant on measured motion", int((answers == truth).sum()), len(truth), began))
        learned, asked = (series(store, numbers, options.real_time) for numbers in (train, test))
    for seed in options.seeds:
        began = time.perf_counter()
        answers = rocket(learned, labels, asked, seed)
        rows.append(row(f"MultiRocket-Hydra, seed {seed}", int((answers == truth).sum()), len(truth), began))
    for names in options.runs:
        began = time.perf_counter()
        folders = [Path(name) for name in names.split(",")]
        found = evaluate_runs(folders, store=options.data, device=torch.device("cpu")).to_dict()
        rows.append(row(names, round(found["top1"] * found["clips"] / 100), found["clips"], began))
    if options.json:
        options.json.write_text(json.dumps({"data": options.data.name, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
