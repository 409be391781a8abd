"""How a run bears recordings that are worse than those it is tested on: `skag eval RUN --stress`.

The test clips are changed one way at a time, before anything is normalised, and evaluated as they are without. Chance
is drawn from the seed and a clip's name, so the same clip suffers the same way in every run that is compared.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import metrics
from ..errors import RunError
from ..skeleton.clips import prepare
from ..skeleton.kinematics import Anatomy
from ..skeleton.layouts import Layout
from ..skeleton.store import SkeletonStore
from ..skeleton.transforms import limbs
from .loaded import choose_split, open_run, split_clips
from .scores import predict_prepared

HEAD_TO_FOOT = 155.0  # centimetres along the bones of a person of 1.70 m
# A child of six beside an adult: median heights of the WHO growth reference (2007), 116 and 170 cm; sitting height
# 55 and 52 % of the height (Bogin and Varela-Silva, Int. J. Environ. Res. Public Health 7, 2010, 1047-1075).
CHILD_HEIGHT, CHILD_TRUNK, CHILD_LEGS = 116 / 170, 0.55 / 0.52, 0.45 / 0.48

Change = Callable[[np.ndarray, Layout, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Corruption:
    """One way in which recordings get worse: which frames are kept of so many, or how key points `[M, T, V, C]` change,
    which are 0 where a joint was not seen."""

    meaning: str
    change: Change | None = None
    frames: Callable[[int, np.random.Generator], slice] | None = None
    needs: str = ""  # what layouts must have: "3-D", "limbs" or "head and feet"


def _seen(keypoints: np.ndarray) -> np.ndarray:
    """Which joints were seen, bool `[M, T, V]`."""
    return np.asarray(keypoints.any(axis=-1))


def _joints_missing(share: float) -> Change:
    def change(keypoints: np.ndarray, layout: Layout, rng: np.random.Generator) -> np.ndarray:
        return keypoints * (rng.random(keypoints.shape[:3]) >= share)[..., None]

    return change


def _limb_missing(ending: str) -> Change:
    def change(keypoints: np.ndarray, layout: Layout, rng: np.random.Generator) -> np.ndarray:
        sides = [joints for name, joints in layout.part_index.items() if name.endswith(ending)]
        changed = keypoints.copy()
        changed[:, :, sides[rng.integers(len(sides))]] = 0
        return changed

    return change


def _noise(centimetres: float) -> Change:
    def change(keypoints: np.ndarray, layout: Layout, rng: np.random.Generator) -> np.ndarray:
        noise = rng.normal(0, centimetres * centimetre(keypoints, layout), keypoints.shape)
        return np.where(_seen(keypoints)[..., None], keypoints + noise, 0)

    return change


def _half_rate(frames: int, rng: np.random.Generator) -> slice:
    return slice(None, None, 2)


def _third_cut(frames: int, rng: np.random.Generator) -> slice:
    kept = -(-2 * frames // 3)
    return slice(0, kept) if rng.random() < 0.5 else slice(frames - kept, frames)


def _turned(degrees: float) -> Change:
    def change(keypoints: np.ndarray, layout: Layout, rng: np.random.Generator) -> np.ndarray:
        seen = _seen(keypoints)
        if not seen.any():
            return keypoints
        first, second = (axis for axis in range(3) if axis != layout.up_axis[0])
        angle = np.radians(degrees) * rng.choice([-1, 1])
        turn = np.eye(3)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        around = keypoints[seen].mean(0)
        return np.where(seen[..., None], (keypoints - around) @ turn.T + around, 0)

    return change


def _as_child(keypoints: np.ndarray, layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Every bone scaled by its part, from the root outwards; a way that the root goes by the height. A joint that was
    not seen is skipped: the next one hangs on the nearest joint above it that was."""
    legs = {joint for name, joints in layout.parts.items() if name.endswith("leg") for joint in joints}
    arms = {joint for name, joints in layout.parts.items() if name.endswith("arm") for joint in joints}
    changed, seen = np.zeros_like(keypoints), _seen(keypoints)
    above: dict[str, str] = layout.bones
    for joint in _from_the_root(layout):
        scale = CHILD_HEIGHT * (CHILD_LEGS if joint in legs else 1.0 if joint in arms else CHILD_TRUNK)
        v, parent = layout.index[joint], joint
        shown, hung = seen[:, :, v], np.zeros(keypoints.shape[:2], bool)
        while (parent := above.get(parent, "")) and not hung[shown].all():
            u = layout.index[parent]
            here = shown & ~hung & seen[:, :, u]
            changed[here, v] = changed[here, u] + scale * (keypoints[here, v] - keypoints[here, u])
            hung |= here
        for body in range(len(keypoints)):
            free = shown[body] & ~hung[body]
            if free.any():
                start = keypoints[body, free.argmax(), v]
                changed[body, free, v] = start + CHILD_HEIGHT * (keypoints[body, free, v] - start)
    return changed


def _from_the_root(layout: Layout) -> list[str]:
    order, left = [layout.root], [joint for joint in layout.joints if joint != layout.root]
    while left:
        order += (there := [joint for joint in left if layout.bones[joint] in order])
        left = [joint for joint in left if joint not in there]
    return order


def centimetre(keypoints: np.ndarray, layout: Layout) -> float:
    """A centimetre of a person of 1.70 m in the unit of a recording `[M, T, V, C]`: by the bones from head to foot,
    each of its median length where both its ends were seen."""
    seen = _seen(keypoints)
    lengths = {}
    for child, parent in layout.bones.items():
        v, u = layout.index[child], layout.index[parent]
        both = seen[:, :, v] & seen[:, :, u]
        if both.any():
            lengths[child] = float(np.median(np.linalg.norm(keypoints[both, v] - keypoints[both, u], axis=-1)))
    head, *feet = _head_and_feet(layout)

    def way(joint: str) -> list[str]:
        bones = []
        while joint in layout.bones:
            bones.append(joint)
            joint = layout.bones[joint]
        return bones

    down = [sum(lengths.get(bone, 0.0) for bone in set(way(head)) ^ set(way(foot))) for foot in feet]
    return max(down) / HEAD_TO_FOOT


def _head_and_feet(layout: Layout) -> list[str]:
    anatomy = Anatomy(layout)
    heads, feet = anatomy.named("head", "nose"), anatomy.named("foot", "ankle", "toe")
    return [layout.joints[joint] for joint in (*heads[:1], *feet)] if len(heads) and len(feet) else []


CORRUPTIONS: Mapping[str, Corruption] = {
    "joints-10": Corruption("10 % of joints missing", _joints_missing(0.1)),
    "joints-30": Corruption("30 % of joints missing", _joints_missing(0.3)),
    "arm": Corruption("an arm missing", _limb_missing("arm"), needs="limbs"),
    "leg": Corruption("a leg missing", _limb_missing("leg"), needs="limbs"),
    "noise-1cm": Corruption("1 cm of noise", _noise(1.0), needs="head and feet"),
    "noise-5cm": Corruption("5 cm of noise", _noise(5.0), needs="head and feet"),
    "half-rate": Corruption("half the frame rate", frames=_half_rate),
    "cut": Corruption("a third cut off", frames=_third_cut),
    "turn-30": Corruption("camera turned by 30 degrees", _turned(30), needs="3-D"),
    "turn-60": Corruption("camera turned by 60 degrees", _turned(60), needs="3-D"),
    "child": Corruption("a child's proportions", _as_child, needs="limbs"),
}


def lacks(layout: Layout, corruption: Corruption) -> bool:
    """Whether a layout has not what a corruption needs."""
    if corruption.needs == "3-D":
        return layout.dims != 3
    if corruption.needs == "limbs":
        return len(limbs(layout)) < 4
    return bool(corruption.needs) and not _head_and_feet(layout)


class Corrupted:
    """The clips of a store, each changed by a corruption: a `skeleton.clips.ClipSource`."""

    def __init__(self, store: SkeletonStore, corruption: Corruption, seed: int) -> None:
        self.layout, self.frames, self.labels, self.widths = store.layout, store.frames, store.labels, store.widths
        self.frame_rates = store.frame_rates / (2 if corruption.frames is _half_rate else 1)
        self._store, self._corruption, self._seed = store, corruption, seed

    def _chance(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32(self._store.names[number].encode())])

    def _kept(self, number: int) -> slice:
        frames = self._corruption.frames
        return slice(None) if frames is None else frames(int(self.frames[number]), self._chance(number))

    def keypoints(self, number: int) -> np.ndarray:
        """Changed key points `[M, T', V, C]`."""
        keypoints = self._store.keypoints(number)[:, self._kept(number)]
        if self._corruption.change is not None:
            keypoints = self._corruption.change(keypoints, self.layout, self._chance(number))
        return keypoints.astype(np.float32)

    def confidence(self, number: int) -> np.ndarray | None:
        """Confidences `[M, T', V]`, 0 of joints that are missing now."""
        confidence = self._store.confidence(number)
        if confidence is None:
            return None
        return np.where(_seen(self.keypoints(number)), confidence[:, self._kept(number)], 0)


@dataclass(frozen=True)
class StressRow:
    """Accuracy under one corruption, in percent; `difference` is to the clean clips."""

    name: str
    meaning: str
    top1: float
    low: float  # Wilson's interval of top-1
    high: float
    mean_class: float
    difference: float


@dataclass(frozen=True)
class Stress:
    """A run on the clips of one split, clean and under every corruption that the layout allows."""

    run: Path
    split: str
    clips: int
    seed: int
    clean: StressRow
    rows: tuple[StressRow, ...]
    left_out: tuple[str, ...]  # corruptions that the layout does not allow

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"run": str(self.run)}


def stress_run(
    folder: Path,
    *,
    split: str | None = None,
    store: Path | None = None,
    num_views: int | None = None,
    batch_size: int = 64,
    seed: int = 0,
    device: torch.device,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Stress:
    """Evaluate a run on a split as it is, and under every corruption. Raises `RunError` and `DataError` where run and
    store cannot be used or do not fit."""
    with ExitStack() as stack:
        run, opened = open_run(folder, store, device, stack, note)
        chosen = split_clips(run, opened, choose_split(run, opened, split))
        if not len(chosen.numbers):
            raise RunError(f"{chosen.split} of {opened.path} has no clips: name another with --split.")
        views = num_views or run.config.data.test_views
        used = {name: each for name, each in CORRUPTIONS.items() if not lacks(opened.layout, each)}

        def row(name: str, meaning: str, source: Any, clean: float | None) -> StressRow:
            clips = prepare(source, chosen.numbers, run.config.data, device)
            found = predict_prepared(run.classifier, clips, run.config.data, batch_size, views)
            accuracy = metrics.accuracy(chosen.labels, found)
            right = int((found.argmax(1) == chosen.labels).sum())
            low, high = metrics.wilson_interval(right, len(chosen.labels))
            difference = 0.0 if clean is None else accuracy.top1 - clean
            return StressRow(name, meaning, accuracy.top1, low, high, accuracy.mean_class, difference)

        clean = row("clean", "as recorded", opened, None)
        rows = []
        for number, (name, corruption) in enumerate(used.items()):
            progress(number, len(used))
            rows.append(row(name, corruption.meaning, Corrupted(opened, corruption, seed), clean.top1))
        progress(len(used), len(used))
    left_out = tuple(each.meaning for name, each in CORRUPTIONS.items() if name not in used)
    return Stress(folder, chosen.split, len(chosen.numbers), seed, clean, tuple(rows), left_out)
