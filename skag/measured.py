"""The embedded stand-in for a language model: answers all six rounds from the training clips themselves.

Every clip becomes a few dozen kinematic features that depend neither on the camera's heading nor on the body's size:
how far and how fast each joint moves, whether it ends higher or lower, comes forward or goes back, how high it gets
against the body, how close to the head. Means and spreads per class give the sentences and the critical joints;
standardised differences between classes give what is worth saying. It needs no server, and it is the baseline that a
language model has to beat.

Arms and legs are compared as the busier one and the other one, since people act with either. Names come from the
layout only. Shapes: n clips, F resampled frames, V joints, A attributes (features of all joints, then of the body), K
classes.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .errors import BackendError
from .layouts import Layout
from .selector import token_bound

if TYPE_CHECKING:
    from .backends import Answer, Message, Topic
    from .store import SkeletonStore

CLIPS_PER_CLASS = 200
_FRAMES = 32  # F
_STILL = 0.05  # body heights; camera noise stays below it
_CONFIDENT = 0.3  # of a pose estimator's score; joints below are as good as missing
_SIDED = 0.65  # from this share of clips on, a class has a preferred side
_DISTINCTION_TOKENS = 58  # by the Selector's bound, which allows 69
_NAME_TOKENS = 14
_JOINT_FEATURES = (
    "range", "speed", "up", "rise", "dip", "forward", "reach", "outward",
    "top", "bottom", "level", "ahead", "near head", "swings", "when", "higher late", "ahead late",
)  # fmt: skip
_BODY_FEATURES = (
    "travel", "sink", "lean", "lean end", "hands apart", "uneven", "one arm", "one leg", "duration", "gap", "approach",
)  # fmt: skip
_PART_WORDS = {
    "head": ("head", "nose", "face", "neck"),
    "hand": ("hand", "wrist", "palm", "fingers", "finger"),
    "arm": ("elbow", "arm", "forearm", "shoulder"),
    "hip": ("hip", "hips", "pelvis", "waist"),
    "leg": ("knee", "leg", "thigh", "shin"),
    "foot": ("foot", "ankle", "toe", "toes", "heel"),
}


# ---- who is where in the layout


@dataclass(frozen=True)
class Anatomy:
    """What the joints of a layout are called: joint numbers per body part, and mirrored limbs."""

    layout: Layout

    def named(self, *words: str) -> np.ndarray:
        """Joints that carry the first of `words` that any joint carries."""
        split = [set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", j).lower())) for j in self.layout.joints]
        for word in words:
            if found := [i for i, name in enumerate(split) if word in name]:
                return np.array(found)
        return np.array([], int)

    @cached_property
    def parts(self) -> dict[str, np.ndarray]:
        """Joint numbers that stand for each of the six parts of round 2; empty where the layout has none."""
        found = {part: self.named(*words) for part, words in _PART_WORDS.items()}
        for part, joints in found.items():
            words = np.array([len(self.layout.joints[joint].split()) for joint in joints])
            found[part] = joints[words == words.min(initial=99)]  # "left hand" rather than "left hand tip"
        middle = self.layout.mirror_index == np.arange(self.layout.num_joints)
        for word in ("hip", "hips", "pelvis", "base"):  # one joint in the middle says more than two at the sides
            if len(joints := (named := self.named(word))[middle[named]]):
                found["hip"] = joints[:1]
                break
        return found

    @cached_property
    def spoken(self) -> dict[str, np.ndarray]:
        """The six parts that the layout has, and its own parts that none of them touches, by the joint at their end."""
        spoken = {part: joints[-2:] for part, joints in self.parts.items() if len(joints)}
        covered = set(np.concatenate([*self.parts.values(), []]).astype(int).tolist())
        for part, joints in self.layout.part_index.items():
            ends = joints[-1:]
            if part.startswith("left ") and self.layout.mirror_index[ends[0]] != ends[0]:
                ends = np.append(ends, self.layout.mirror_index[ends])
            if not part.startswith("right ") and covered.isdisjoint(joints.tolist()):
                spoken[part] = ends
        return spoken

    @cached_property
    def trunk(self) -> np.ndarray:
        """Joints whose mean is the body's centre."""
        found = np.concatenate([self.named("hip", "pelvis"), self.named("shoulder")])
        return found if len(found) > 1 else np.array([self.layout.index[self.layout.centre]])

    @cached_property
    def pairs(self) -> np.ndarray:
        """`[P, 2]` (left, right) joints that show where the body faces: shoulders and hips, else all pairs."""
        mirror = self.layout.mirror_index
        pairs = [(v, m) for v, m in enumerate(mirror) if v != m and self.layout.joints[v].startswith("left ")]
        trunk = [pair for pair in pairs if pair[0] in self.trunk]
        return np.array(trunk or pairs, int).reshape(-1, 2)

    @cached_property
    def limbs(self) -> list[np.ndarray]:
        """`[L, 2]` (left, right) joints of every limb that has a mirror image among the layout's parts."""
        index, mirror = self.layout.part_index, self.layout.mirror_index
        left = [joints[mirror[joints] != joints] for part, joints in index.items() if part.startswith("left ")]
        return [np.stack([joints, mirror[joints]], axis=1) for joints in left if len(joints)]

    @cached_property
    def limb_bases(self) -> list[np.ndarray]:
        """`[2]` per limb: the left and right joint at which it hangs on the body."""
        parent = {self.layout.index[j]: self.layout.index[p] for j, p in self.layout.bones.items()}
        bases = []
        for limb in self.limbs:
            inside = set(limb.ravel().tolist())
            bases.append(next((pair for pair in limb if parent.get(int(pair[0])) not in inside), limb[0]))
        return bases

    @cached_property
    def limb_of(self) -> np.ndarray:
        """`[V]` number of the limb of every joint, -1 for none."""
        limb_of = np.full(self.layout.num_joints, -1)
        for number, limb in enumerate(self.limbs):
            limb_of[limb.ravel()] = number
        return limb_of

    @cached_property
    def routes(self) -> np.ndarray:
        """`[R, V]` 0/1: which bones (by their child) lie between each two ends of the skeleton."""
        children = set(self.layout.bones) - set(self.layout.bones.values())
        ends = sorted(self.layout.index[joint] for joint in {*children, self.layout.root})
        to_root = np.zeros((len(ends), self.layout.num_joints), int)
        for row, end in zip(to_root, ends, strict=True):
            joint = self.layout.joints[end]
            while joint in self.layout.bones:
                row[self.layout.index[joint]] = 1
                joint = self.layout.bones[joint]
        return np.array([a ^ b for a in to_root for b in to_root])


# ---- clips to body coordinates


def _main_body(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The body that moves most, `[T, V, C]` with missing joints as NaN, and the centre of the next one."""
    there = np.isfinite(keypoints).all(-1, keepdims=True) & (keypoints != 0).any(-1, keepdims=True)
    points = np.where(there, keypoints, np.nan).astype(np.float64)
    if len(points) == 1:
        return points[0], None
    moved = np.nansum(np.abs(np.diff(points, axis=1)), axis=(1, 2, 3))
    present = np.isfinite(points).any(-1).sum((1, 2))
    order = np.lexsort((-present, -moved))
    other = points[order[1]]
    seen = np.isfinite(other).all(-1)
    total = np.where(seen[..., None], other, 0).sum(1)
    return points[order[0]], total / np.where(seen.any(1), seen.sum(1), np.nan)[:, None]


def _recorded(store: SkeletonStore, clip: int) -> np.ndarray:
    """Key points `[M, T, V, C]`, zero where the recording has a confidence and hardly believes in the joint."""
    keypoints, confidence = store.keypoints(clip), store.confidence(clip)
    if confidence is None or confidence.max() < _CONFIDENT:
        return keypoints
    return np.where(confidence[..., None] < _CONFIDENT, 0, keypoints)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _resample(points: np.ndarray) -> np.ndarray:
    """`[T, ...]` to `[F, ...]`, linear in time; gaps (NaN) are bridged, what is missing throughout stays NaN."""
    rows = points.reshape(len(points), -1)
    time, old = np.linspace(0, len(rows) - 1, _FRAMES), np.arange(len(rows))
    low = np.floor(time).astype(int)
    share = (time - low)[:, None]
    out = (1 - share) * rows[low] + share * rows[np.minimum(low + 1, len(rows) - 1)]
    for column in np.flatnonzero(np.isnan(rows).any(0)):
        seen = np.isfinite(rows[:, column])
        out[:, column] = np.interp(time, old[seen], rows[seen, column]) if seen.any() else np.nan
    return out.reshape(_FRAMES, *points.shape[1:])


@dataclass
class Motion:
    """Clips in body coordinates, lengths in body heights."""

    points: np.ndarray  # [n, F, V, 3]: height above the ground, forward of the centre, outwards (to its own side)
    seen: np.ndarray  # [n, V] whether the joint was recorded at all
    path: np.ndarray  # [n, F, H] where the hips are, horizontally
    frames: np.ndarray  # [n] length of the recordings
    gap: np.ndarray  # [n, F] distance to the other body, NaN without one


class Viewpoint:
    """Turns camera coordinates into body coordinates, upright whatever the camera's tilt.

    The tilt is estimated per camera, as the median direction from the feet to the shoulders at the start of clips.
    """

    def __init__(self, store: SkeletonStore, anatomy: Anatomy, clips: np.ndarray) -> None:
        self.anatomy, self.store = anatomy, store
        self.axis, self.sign = anatomy.layout.up_axis
        self.across = [axis for axis in range(anatomy.layout.dims) if axis != self.axis]
        self.upright: dict[int, np.ndarray] = {}
        self.facing = 1.0
        if anatomy.layout.dims == 3:
            self._calibrate(clips[np.linspace(0, len(clips) - 1, min(len(clips), 600)).astype(int)])

    def _calibrate(self, clips: np.ndarray) -> None:
        feet, shoulders = self.anatomy.named("ankle", "foot"), self.anatomy.named("shoulder")
        toes, ankles = self.anatomy.named("foot", "toe", "nose"), self.anatomy.named("ankle", "heel", "ear")
        first = np.stack([_main_body(_recorded(self.store, clip)[:, :1])[0][0] for clip in clips])  # [n, V, 3]
        up = np.eye(3)[self.axis] * self.sign
        if len(feet) and len(shoulders):
            spine = first[:, shoulders].mean(1) - first[:, feet].mean(1)
            for camera in np.unique(self.store.cameras[clips]):
                here = spine[(self.store.cameras[clips] == camera) & np.isfinite(spine).all(1)]
                if len(here) < 5:
                    continue
                seen_up = np.median(_unit(here), axis=0)
                seen_up = _unit(seen_up)
                if seen_up @ up > 0.7:  # turn seen_up onto up (Rodrigues' formula); more than 45 degrees is no tilt
                    v = np.cross(seen_up, up)
                    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
                    self.upright[int(camera)] = np.eye(3) + cross + cross @ cross / (1 + seen_up @ up)
        if len(toes) and len(toes) == len(ankles) and len(self.anatomy.pairs):
            left = (first[:, self.anatomy.pairs[:, 0]] - first[:, self.anatomy.pairs[:, 1]]).mean(1)
            ahead = np.sum(np.cross(left, up) * (first[:, toes] - first[:, ankles]).mean(1), axis=1)
            self.facing = -1.0 if np.nanmedian(np.append(ahead, 0.0)) < 0 else 1.0  # mirrored camera coordinates

    def motion(self, clips: np.ndarray) -> Motion | None:
        """The clips (numbers in the store) in body coordinates; clips without any joint are left out."""
        points, frames, others = [], [], []
        for clip in clips:
            body, other = _main_body(_recorded(self.store, clip))
            if not np.isfinite(body).any():
                continue
            turn = self.upright.get(int(self.store.cameras[clip]), np.eye(body.shape[-1])).T
            points.append(_resample(body) @ turn)
            frames.append(len(body))
            others.append(np.full((_FRAMES, body.shape[-1]), np.nan) if other is None else _resample(other) @ turn)
        return self._in_body(np.stack(points), np.array(frames), np.stack(others)) if points else None

    def _in_body(self, points: np.ndarray, frames: np.ndarray, others: np.ndarray) -> Motion:
        layout, anatomy = self.anatomy.layout, self.anatomy
        seen = np.isfinite(points).all((1, 3))  # [n, V]
        inside = np.where(seen[:, None, :, None], points, 0.0)
        middle = inside.sum(2) / seen.sum(1)[:, None, None]
        points = np.where(seen[:, None, :, None], points, middle[:, :, None])
        for _ in range(2):  # binomial smoothing over five resampled frames
            padded = np.concatenate([points[:, :1], points, points[:, -1:]], axis=1)
            points = 0.25 * padded[:, :-2] + 0.5 * padded[:, 1:-1] + 0.25 * padded[:, 2:]
        parents = np.array([layout.index[layout.bones.get(joint, joint)] for joint in layout.joints])
        bones = np.median(np.linalg.norm(points - points[:, :, parents], axis=3), axis=1)  # [n, V]
        size = np.maximum(0.8 * (bones @ anatomy.routes.T).max(1), 1e-6)[:, None, None]  # hand to foot is 1.25 heights
        centre = points[:, :, anatomy.trunk].mean(2)
        height = self.sign * points[..., self.axis]
        ground = np.median(height.min(2), axis=1)[:, None, None]
        level = (points - centre[:, :, None])[..., self.across]  # [n, F, V, H]
        ahead, outward = self._directions(points, level)
        body = np.stack([height - ground, ahead, outward], axis=-1) / size[..., None]
        gap = np.linalg.norm(others - centre, axis=2) / size[:, 0]
        hips = anatomy.named("hip", "pelvis")  # unlike the shoulders they do not move when a person bends
        path = points[:, :, hips].mean(2) if len(hips) else centre
        return Motion(body, seen, path[..., self.across] / size, frames, gap)

    def _directions(self, points: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far every joint is forward and outwards, both `[n, F, V]`, along the body's slowly changing heading."""
        pairs, layout = self.anatomy.pairs, self.anatomy.layout
        if not len(pairs):
            return np.zeros(level.shape[:3]), np.linalg.norm(level, axis=3)
        left = (points[:, :, pairs[:, 0]] - points[:, :, pairs[:, 1]]).mean(2)[..., self.across]  # [n, F, H]
        half = _FRAMES // 6  # of the window over which the heading is averaged
        total = np.cumsum(np.pad(left, ((0, 0), (half + 1, half), (0, 0)), mode="edge"), axis=1)
        left = total[:, 2 * half + 1 :] - total[:, :_FRAMES]
        left = _unit(left)
        side = np.array([j.startswith("left ") * 1.0 - j.startswith("right ") for j in layout.joints])
        outward = np.einsum("nfvh,nfh->nfv", level, left) * side
        if layout.dims == 2:
            return np.zeros_like(outward), outward
        first, second = self.across
        whole = np.zeros((*left.shape[:2], 3))
        whole[..., [first, second]] = left
        ahead = self.facing * np.cross(whole, np.eye(3)[self.axis] * self.sign)[..., [first, second]]
        return np.einsum("nfvh,nfh->nfv", level, ahead), outward


# ---- body coordinates to attributes


def _joint_features(motion: Motion, head: np.ndarray) -> np.ndarray:
    """`_JOINT_FEATURES` of every joint, `[n, V, 17]`."""
    points = motion.points
    edge = _FRAMES // 6
    start, end = points[:, :edge].mean(1), points[:, -edge:].mean(1)  # [n, V, 3]
    late = points[:, _FRAMES // 2 :].mean(1) - points[:, : _FRAMES // 2].mean(1)
    high, low = points.max(1), points.min(1)
    step = np.linalg.norm(np.diff(points, axis=1), axis=3)  # [n, F - 1, V]
    pace = (_FRAMES - 1) / np.maximum(motion.frames - 1, 1)
    span = np.linalg.norm(high - low, axis=2)
    moments = np.linspace(0, 1, _FRAMES - 1)[:, None]
    gone = np.maximum(step.sum(1), 1e-9)
    far_from_head = np.zeros_like(span)
    if len(head):
        far_from_head = np.linalg.norm(points - points[:, :, head].mean(2, keepdims=True), axis=3).min(1)
    features = {
        "range": span,
        "speed": step.max(1) * pace[:, None],
        "up": (end - start)[..., 0],
        "rise": high[..., 0] - np.maximum(start, end)[..., 0],
        "dip": np.minimum(start, end)[..., 0] - low[..., 0],
        "forward": (end - start)[..., 1],
        "reach": high[..., 1] - np.maximum(start, end)[..., 1],
        "outward": (end - start)[..., 2],
        "top": high[..., 0],
        "bottom": low[..., 0],
        "level": points[..., 0].mean(1),
        "ahead": points[..., 1].mean(1),
        "near head": far_from_head,
        "swings": _swings(points, span),
        "when": (step * moments).sum(1) / gone,
        "higher late": late[..., 0],
        "ahead late": late[..., 1],
    }
    return np.stack([features[name] for name in _JOINT_FEATURES], axis=2)


def _swings(points: np.ndarray, span: np.ndarray) -> np.ndarray:
    """How often each joint changes sides along the axis of its largest motion, `[n, V]`; 0 where it hardly moves."""
    axis = (points.max(1) - points.min(1)).argmax(2)[:, None, :, None]  # [n, 1, V, 1]
    line = np.take_along_axis(points, np.broadcast_to(axis, (*points.shape[:3], 1)), axis=3)[..., 0]
    line = line - 0.5 * (line.max(1, keepdims=True) + line.min(1, keepdims=True))
    side = np.sign(line) * (np.abs(line) > 0.15 * np.ptp(line, axis=1)[:, None])
    changes, current = np.zeros(span.shape), side[:, 0]
    for now in side.swapaxes(0, 1)[1:]:
        changes += (now != 0) & (current != 0) & (now != current)
        current = np.where(now != 0, now, current)
    return np.where(span > 2 * _STILL, changes, 0.0)


def _body_features(motion: Motion, anatomy: Anatomy, busy: np.ndarray, idle: np.ndarray) -> np.ndarray:
    """`_BODY_FEATURES`, `[n, 11]`; 0 where the layout lacks the joints. `busy`, `idle`: range per limb, `[n, L]`."""
    points, n = motion.points, len(motion.points)
    edge = _FRAMES // 6
    shoulders, hips, hands = anatomy.named("shoulder"), anatomy.named("hip", "pelvis"), anatomy.parts["hand"]
    height = points[:, :, anatomy.trunk, 0].mean(2)
    lean = np.zeros((n, _FRAMES))
    if len(shoulders) and len(hips):
        spine = points[:, :, shoulders].mean(2) - points[:, :, hips].mean(2)
        lean = np.arctan2(spine[..., 1], spine[..., 0])  # radians, forwards
    apart, uneven = np.zeros((2, n))
    if len(hands) == 2:
        uneven = np.abs(points[:, :, hands[0], 0] - points[:, :, hands[1], 0]).max(1)
        distance = np.linalg.norm(points[:, :, hands[0]] * (1, 1, -1) - points[:, :, hands[1]], axis=2)
        apart = distance.min(1)
    alone = (busy - idle) / np.maximum(busy + idle, 1e-9)  # [n, L]
    uses = dict.fromkeys(("arm", "leg"), np.zeros(n))
    for number, limb in enumerate(anatomy.limbs):
        for kind, part in (("arm", "hand"), ("leg", "foot")):
            if np.isin(limb, anatomy.parts[part]).any():
                uses[kind] = alone[:, number]
    features = {
        "travel": np.linalg.norm(motion.path - motion.path[:, :1], axis=2).max(1),
        "sink": height[:, -edge:].mean(1) - height[:, :edge].mean(1),
        "lean": lean.max(1),
        "lean end": lean[:, -edge:].mean(1) - lean[:, :edge].mean(1),
        "hands apart": apart,
        "uneven": uneven,
        "one arm": uses["arm"],
        "one leg": uses["leg"],
        "duration": np.log(motion.frames),
        "gap": motion.gap.min(1),
        "approach": motion.gap[:, -edge:].mean(1) - motion.gap[:, :edge].mean(1),
    }
    return np.stack([features[name] for name in _BODY_FEATURES], axis=1)


def _attributes(motion: Motion, anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """Attributes `[n, A]` (NaN for missing joints) and whether each limb's busier side is the right one, `[n, L]`.

    Of mirrored limbs the busier one stands in the right one's place.
    """
    features = _joint_features(motion, anatomy.parts["head"])
    features[~motion.seen] = np.nan
    n, num_joints, _ = features.shape
    place = np.tile(np.arange(num_joints), (n, 1))
    right_busy = np.ones((n, len(anatomy.limbs)), bool)
    busy, idle = np.zeros((2, n, len(anatomy.limbs)))
    for number, limb in enumerate(anatomy.limbs):
        own = motion.points[:, :, limb] - motion.points[:, :, anatomy.limb_bases[number]][:, :, None]
        moved = np.linalg.norm(np.ptp(own, axis=1), axis=3).sum(1)  # [n, 2] left, right, against shoulder or hip
        right_busy[:, number] = moved[:, 1] >= moved[:, 0]
        busy[:, number], idle[:, number] = moved.max(1), moved.min(1)
        swapped = ~right_busy[:, number]
        place[np.ix_(swapped, limb[:, 0])] = limb[:, 1]
        place[np.ix_(swapped, limb[:, 1])] = limb[:, 0]
    features = np.take_along_axis(features, place[:, :, None], axis=1)
    body = _body_features(motion, anatomy, busy, idle)
    return np.concatenate([features.reshape(n, -1), body], axis=1), right_busy


# ---- attributes to classes


@dataclass(frozen=True)
class ClassStatistics:
    """What the classes do, and how they differ. A = V * 17 joint features, then 11 of the body."""

    anatomy: Anatomy
    clips: np.ndarray  # [K] clips measured
    mean: np.ndarray  # [K, A]
    variance: np.ndarray  # [K, A]
    right: np.ndarray  # [K, L] share of clips in which the right limb is the busier
    landmarks: dict[str, float]  # usual heights of knees, hips, shoulders, head above the ground

    @cached_property
    def known(self) -> np.ndarray:
        """Classes that have clips."""
        return np.flatnonzero(self.clips)

    @cached_property
    def _noise(self) -> np.ndarray:
        """`[A]` least variance that counts, so that a joint that never moves does not stand out by noise."""
        return 0.05 * self.variance[self.known].mean(0) + 1e-4

    def against(self, one: int, other: int) -> np.ndarray:
        """Cohen's d of every attribute between two classes, `[A]`."""
        spread = 0.5 * (self.variance[one] + self.variance[other]) + self._noise
        return (self.mean[one] - self.mean[other]) / np.sqrt(spread)

    def against_rest(self, one: int) -> np.ndarray:
        """Cohen's d of every attribute between a class and all others pooled, each class weighing the same, `[A]`."""
        rest = self.known[self.known != one]
        if not len(rest):
            return np.zeros_like(self.mean[one])
        pooled = self.variance[rest].mean(0) + self.mean[rest].var(0)
        return (self.mean[one] - self.mean[rest].mean(0)) / np.sqrt(0.5 * (self.variance[one] + pooled) + self._noise)

    def nearest(self, one: int, count: int) -> list[int]:
        """The classes that differ least, nearest first."""
        others = [other for other in self.known.tolist() if other != one]
        return sorted(others, key=lambda other: float(np.square(self.against(one, other)).mean()))[:count]

    def of_joint(self, one: int, joint: int) -> dict[str, float]:
        """Mean features of a joint in a class."""
        width = len(_JOINT_FEATURES)
        return dict(zip(_JOINT_FEATURES, self.mean[one, joint * width : (joint + 1) * width].tolist(), strict=True))

    def of_body(self, one: int) -> dict[str, float]:
        return dict(zip(_BODY_FEATURES, self.mean[one, -len(_BODY_FEATURES) :].tolist(), strict=True))

    def joint_table(self, attributes: np.ndarray) -> np.ndarray:
        """The joint part `[V, 17]` of a row of attributes `[A]`."""
        return attributes[: -len(_BODY_FEATURES)].reshape(-1, len(_JOINT_FEATURES))


def measure(store: SkeletonStore, train_split: str) -> ClassStatistics:
    """Read at most `CLIPS_PER_CLASS` clips per class of a split, evenly chosen, and measure them."""
    anatomy = Anatomy(store.layout)
    numbers = store.splits[train_split]
    labels = store.labels[numbers]
    chosen = []
    for label in range(len(store.classes)):
        mine = numbers[labels == label]
        chosen.append(mine[np.linspace(0, len(mine) - 1, min(len(mine), CLIPS_PER_CLASS)).astype(int)])
    width = store.layout.num_joints * len(_JOINT_FEATURES) + len(_BODY_FEATURES)
    mean, variance = np.full((2, len(chosen), width), np.nan)
    right, counts = np.ones((len(chosen), len(anatomy.limbs))), np.zeros(len(chosen), int)
    everyone = np.concatenate(chosen)
    viewpoint = Viewpoint(store, anatomy, everyone) if len(everyone) else None
    for label, clips in enumerate(chosen):
        if (motion := viewpoint.motion(clips) if len(clips) else None) is None:
            continue
        rows, right_busy = _attributes(motion, anatomy)
        masked = np.ma.masked_invalid(rows)
        mean[label], variance[label] = masked.mean(0).filled(np.nan), masked.var(0).filled(np.nan)
        right[label], counts[label] = right_busy.mean(0), len(rows)
    for values in (mean, variance):  # what a class never shows does not set it apart: as the others on average
        values[:] = np.where(np.isnan(values), np.ma.masked_invalid(values).mean(0).filled(0.0), values)
    return ClassStatistics(anatomy, counts, mean, variance, right, _landmarks(anatomy, mean[counts > 0]))


def _landmarks(anatomy: Anatomy, mean: np.ndarray) -> dict[str, float]:
    """Usual heights of body parts: the median over classes of how high they get."""
    top = _JOINT_FEATURES.index("top")
    tops = mean[:, : -len(_BODY_FEATURES)].reshape(len(mean), -1, len(_JOINT_FEATURES))[..., top]
    words = {"knee": ("knee",), "waist": ("hip", "pelvis"), "shoulder": ("shoulder",), "head": ("head", "nose")}
    found = {name: anatomy.named(*named) for name, named in words.items()}
    return {name: float(np.median(tops[:, joints])) for name, joints in found.items() if len(joints) and len(tops)}


# ---- critical joints


def critical_joints(statistics: ClassStatistics) -> dict[int, list[int]]:
    """3 to 8 critical joints per class, most critical first: those that move and that set the class apart.

    Neighbours of a joint already taken count less. Sets differ by two joints or more where that can be had, since
    the constraint branch cannot separate classes with equal sets and hardly those with nearly equal ones.
    """
    chosen: dict[int, list[int]] = {}
    for one in statistics.known.tolist():
        score = _joint_scores(statistics, one)
        ranked = _spread_out(score, statistics.anatomy.layout)
        wanted = int(np.clip((score[ranked] >= 0.5 * score.max()).sum(), 3, 8))
        chosen[one] = _own_set(ranked, min(wanted, len(ranked)), [set(joints) for joints in chosen.values()])
    return chosen


def _own_set(ranked: list[int], wanted: int, taken: list[set[int]]) -> list[int]:
    """The best `wanted` joints, or the nearest variation that no other class has."""
    best, further = ranked[:wanted], ranked[wanted:]
    variations = [best]
    variations += [[*best, joint] for joint in further if wanted < 8]
    variations += [[*best[:-1], joint] for joint in further]
    variations += [[*best[:-2], *pair] for pair in itertools.combinations(further, 2)]
    variations += [best[:i] + best[i + 1 :] for i in reversed(range(wanted)) if wanted > 3]
    for apart in (2, 1):
        for joints in variations:
            if all(len(set(joints) ^ other) >= apart for other in taken):
                return joints
    return best


def _joint_scores(statistics: ClassStatistics, one: int) -> np.ndarray:
    """`[V]` how critical each joint is for a class.

    The root of how far a joint moves, times the size of its largest differences (the mean of the four largest |d|)
    against all other classes and, counting double, against the two nearest ones; raised where the joint moves more
    than in those, lowered where it moves less.
    """
    rest = statistics.joint_table(statistics.against_rest(one))
    score, more = _largest(rest), rest[:, 0]
    near = [statistics.joint_table(statistics.against(one, other)) for other in statistics.nearest(one, 2)]
    if near:
        score = score + 2 * np.mean([_largest(table) for table in near], axis=0)
        more = more + np.mean([table[:, 0] for table in near], axis=0)
    moved = np.maximum(statistics.joint_table(statistics.mean[one])[:, 0], 0)
    score = np.sqrt(moved / max(moved.max(), 1e-9)) * score * np.exp(0.3 * np.clip(more, -3, 3)) + 1e-9 * moved
    real = score.copy()
    for limb, right in zip(statistics.anatomy.limbs, statistics.right[one], strict=True):
        # The busier limb stands in the right one's place: give its score to the sides that act.
        busy, idle = score[limb[:, 1]], score[limb[:, 0]]
        real[limb[:, 1]] = right * busy + (1 - right) * idle
        real[limb[:, 0]] = right * idle + (1 - right) * busy
    return real


def _largest(table: np.ndarray) -> np.ndarray:
    return np.sort(np.abs(table), axis=1)[:, -4:].mean(1)


def _spread_out(score: np.ndarray, layout: Layout) -> list[int]:
    """All joints, best first, where each bone away from a joint taken earlier lowers the loss of score."""
    parents = np.array([layout.index[layout.bones.get(joint, joint)] for joint in layout.joints])
    left, ranked = score.copy(), []
    for _ in range(len(score)):
        best = int(np.argmax(left))
        ranked.append(best)
        left[best] = -1.0
        neighbours = np.flatnonzero((parents == best) | (np.arange(len(score)) == parents[best]))
        left[neighbours] *= np.where(left[neighbours] > 0, 0.75, 1.0)
    return ranked


# ---- sentences

# What a feature says where it is larger, and where it is smaller, than in other classes. {place} is a height.
_SAYS = {
    "range": ("moves far", "hardly moves"),
    "speed": ("moves quickly", "moves slowly"),
    "rise": ("goes up and comes down again", "is not raised and lowered again"),
    "dip": ("goes down and comes up again", "is not lowered and raised again"),
    "reach": ("reaches forward and comes back", "does not reach forward"),
    "top": ("gets up to {place}", "gets no higher than {place}"),
    "bottom": ("stays at {place} or higher", "gets down to {place}"),
    "level": ("is held high, at {place}", "is held low, at {place}"),
    "ahead": ("is held far in front of the body", "stays beside the body"),
    "near head": ("stays away from the head", "comes close to the head"),
    "swings": ("moves to and fro", "moves in one sweep"),
    "when": ("moves late in the action", "moves early in the action"),
    "higher late": ("is higher in the second half than in the first", "is higher in the first half than in the second"),
    "ahead late": ("is farther in front in the second half", "is farther in front in the first half"),
    "travel": ("the body moves away from its place", "the body stays on the spot"),
    "lean": ("the body bends forward", "the body stays upright"),
    "lean end": ("the body ends bent forward", "the body straightens up"),
    "hands apart": ("the hands stay apart", "the hands come together"),
    "uneven": ("one hand is higher than the other", "both hands are at the same height"),
    "one arm": ("one arm acts alone", "both arms act alike"),
    "one leg": ("one leg acts alone", "both legs act alike"),
    "duration": ("the action takes long", "the action is short"),
    "gap": ("the two people stay apart", "the two people come close together"),
    "approach": ("the two people move apart", "the two people approach each other"),
}
_NET = {  # of features with a sign of their own: above, below and around zero
    "up": ("moves up and ends higher", "moves down and ends lower", "ends at the height where it began"),
    "forward": ("ends farther forward", "ends farther back", "ends as far forward as it began"),
    "outward": ("moves outwards", "moves inwards", "ends as far to the side as it began"),
    "sink": ("the body rises", "the body sinks down", "the body ends at the height where it began"),
}
_COMPARED = {  # instead, where both heights have the same name
    "top": ("is raised higher", "is not raised as high"),
    "bottom": ("stays higher", "gets lower"),
    "level": ("is held higher", "is held lower"),
}
_PLURAL = {"moves": "move", "goes": "go", "comes": "come", "stays": "stay", "gets": "get", "is": "are", "ends": "end",
           "reaches": "reach", "does": "do"}  # fmt: skip
_FORWARD_LEG = ("comes out in front of the hips", "goes back under the hips", "ends under the hips as it began")
# What is worth saying of the joints of a part: of a foot nobody tells how close to the head it is.
_TOLD = {
    "head": ("range", "speed", "up", "dip", "bottom"),
    "hand": ("range", "speed", "up", "rise", "dip", "forward", "reach", "outward", "top", "bottom", "level", "ahead",
             "near head", "swings", "higher late", "ahead late"),
    "arm": ("range", "speed", "up", "rise", "dip", "outward", "top", "bottom"),
    "hip": ("range", "up", "dip", "bottom"),
    "leg": ("range", "speed", "rise", "forward", "reach", "top", "bottom", "swings", "when"),
    "foot": ("range", "speed", "rise", "forward", "reach", "top", "swings", "when"),
}  # fmt: skip
# The words of `_SAYS` are true from the first value on, or up to the second.
_TRUE = {
    "range": (0.25, 0.12), "rise": (0.06, 0.06), "dip": (0.06, 0.06), "reach": (0.06, 0.06), "ahead": (0.05, 0.05),
    "near head": (0.2, 0.25), "swings": (1.5, 1.5), "when": (0.52, 0.48), "higher late": (0.02, -0.02),
    "ahead late": (0.02, -0.02), "travel": (0.15, 0.25), "lean": (0.25, 0.3),
    "lean end": (0.1, -0.1), "hands apart": (0.12, 0.15), "uneven": (0.12, 0.15), "one arm": (0.12, 0.15),
    "one leg": (0.12, 0.15),
}  # fmt: skip
# Smaller differences of means are not worth saying; lengths, in body heights, where nothing else is given.
_LEAST = {"speed": 0.01, "swings": 0.6, "when": 0.08, "duration": 0.25, "lean": 0.15, "lean end": 0.15, "one arm": 0.05,
          "one leg": 0.05}  # fmt: skip
_LEAST_LENGTH = 0.04
_NEED_MOTION = ("swings", "when", "higher late", "ahead late")
_MATTER = {  # what a feature of the body is about: of each matter one fact is told
    "travel": "trunk", "sink": "trunk", "lean": "trunk", "lean end": "trunk", "hands apart": "hands", "uneven": "hands",
    "one arm": "hands", "one leg": "legs", "duration": "time", "gap": "people", "approach": "people",
}  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """Something true of a class that is not, or less so, of what it was compared with."""

    subject: str  # "the left and right hand", or nothing where the words name their own
    words: str
    matter: str  # the part of the body, or else what it is about

    def __str__(self) -> str:
        return _agree(self.subject, self.words).strip()


class Teller:
    """Puts the statistics of the classes into words."""

    def __init__(self, statistics: ClassStatistics, classes: list[str]) -> None:
        self.statistics, self.classes = statistics, classes
        self.layout = statistics.anatomy.layout
        self.critical = critical_joints(statistics)

    # -- names and heights

    def place(self, height: float) -> str:
        """A height in words, by the landmarks of the body."""
        marks = self.statistics.landmarks
        if not {"knee", "waist", "shoulder", "head"} <= marks.keys():
            return "a greater height" if height > 0.5 else "a lower height"
        knee, waist, shoulder, head = (marks[name] for name in ("knee", "waist", "shoulder", "head"))
        bounds = [
            (0.4 * knee, "the ground"),
            (0.6 * knee + 0.4 * waist, "knee height"),
            (0.3 * knee + 0.7 * waist, "thigh height"),
            (0.65 * waist + 0.35 * shoulder, "waist height"),
            (0.2 * waist + 0.8 * shoulder, "chest height"),
            (0.4 * shoulder + 0.6 * head, "shoulder height"),
            (head + 0.06, "head height"),
        ]
        return next((name for bound, name in bounds if height < bound), "above the head")

    def noun(self, one: int, part: str, which: str) -> str:
        """The joint, or pair of joints, that stands for a part; `which` is "busy", "idle" or "both"."""
        joints = self.statistics.anatomy.spoken[part]
        names = [self.layout.joints[joint] for joint in joints]
        if len(joints) != 2 or self.layout.mirror_index[joints[0]] != joints[1]:
            return "the " + " and ".join(names)
        kind = names[1].removeprefix("right ")
        limb = self.statistics.anatomy.limb_of[joints[1]]
        if which == "both" or limb < 0:
            return f"the left and right {kind}"
        right = self.statistics.right[one, limb]
        if max(right, 1 - right) < _SIDED:
            return f"the left or right {kind}" if which == "busy" else f"the less busy {kind}"
        return f"the {'right' if (right >= _SIDED) == (which == 'busy') else 'left'} {kind}"

    # -- movements

    def movement(self, one: int, joint: int) -> str:
        """What a joint (busier side in the right one's place) does in a class, as a predicate."""
        does = self.statistics.of_joint(one, joint)
        if does["range"] < 2 * _STILL:
            return f"stays almost still at {self.place(does['level'])}"
        turns = []
        back_and_forth = max(does["rise"], does["dip"])
        if abs(does["up"]) > max(_STILL, 0.7 * back_and_forth):
            up = does["up"] > 0
            turns.append(f"moves {'up' if up else 'down'} to {self.place(does['top' if up else 'bottom'])}")
        elif back_and_forth > 1.2 * _STILL:
            turns.append(
                f"goes up to {self.place(does['top'])} and comes down again"
                if does["rise"] > does["dip"]
                else f"goes down to {self.place(does['bottom'])} and comes up again"
            )
        if abs(does["forward"]) > _STILL:
            turns.append("comes forward" if does["forward"] > 0 else "goes back")
        elif does["reach"] > 1.6 * _STILL:
            turns.append("reaches forward")
        if does["swings"] > 2.4:
            turns.append("moves to and fro")
        if not turns:
            turns.append(f"moves {'a little' if does['range'] < 0.25 else 'about'} at {self.place(does['level'])}")
        speed = self.statistics.joint_table(self.statistics.against_rest(one))[joint, _JOINT_FEATURES.index("speed")]
        joint_by = ", " if " and " in turns[0] else " and "
        return joint_by.join(turns[:2]) + (", quickly" if speed > 0.6 else ", slowly" if speed < -0.6 else "")

    def part(self, one: int, part: str) -> str:
        """What a body part does: one predicate for both sides, or one for each where they differ."""
        anatomy = self.statistics.anatomy
        if part not in anatomy.spoken:
            return "not among the recorded joints"
        joints = anatomy.spoken[part]
        busy = self.movement(one, joints[-1])
        if len(joints) == 2 and anatomy.limb_of[joints[1]] >= 0:
            idle = self.movement(one, joints[0])
            if idle.split()[:4] != busy.split()[:4]:  # another way, or to another height
                return f"{self.noun(one, part, 'busy')} {busy}; {self.noun(one, part, 'idle')} {idle}"
        return _agree(self.noun(one, part, "both"), busy)

    # -- differences

    def facts(self, one: int, differences: np.ndarray, others: np.ndarray) -> list[Fact]:
        """What sets a class apart, strongest first: `differences` are Cohen's d `[A]` from the means `others` `[A]`."""
        found: list[tuple[float, Fact]] = []
        statistics, anatomy = self.statistics, self.statistics.anatomy
        table, change = statistics.joint_table(differences), statistics.joint_table(statistics.mean[one] - others)
        for part, joints in anatomy.spoken.items():
            for number, feature in enumerate(_JOINT_FEATURES):
                if feature not in _TOLD.get(part, _TOLD["hand"]):
                    continue
                d = table[joints, number]
                alike = len(d) < 2 or (d[0] * d[1] > 0 and abs(d).min() > 0.6 * abs(d).max())
                for which, side in (("both", [0, -1]),) if alike else (("idle", [0]), ("busy", [-1])):
                    does = statistics.of_joint(one, int(joints[side[-1]]))
                    value = does[feature]
                    if feature in _NEED_MOTION and does["range"] < 3 * _STILL:
                        continue
                    step = change[joints[side], number].mean()
                    if words := _words(feature, value, step, part, self.place(value), self.place(value - step)):
                        fact = Fact(self.noun(one, part, which), words, part)
                        found.append((_weight(feature, value, d[side].mean()), fact))
        body, body_step = statistics.of_body(one), (statistics.mean[one] - others)[-len(_BODY_FEATURES) :]
        for feature, d, step in zip(_BODY_FEATURES, differences[-len(_BODY_FEATURES) :], body_step, strict=True):
            limb = anatomy.spoken.get({"one arm": "hand", "one leg": "foot"}.get(feature, ""))
            if limb is not None and statistics.of_joint(one, int(limb[-1]))["range"] < 4 * _STILL:
                continue
            if words := _words(feature, body[feature], step, "body"):
                found.append((_weight(feature, body[feature], d), Fact("", words, _MATTER[feature])))
        found.sort(key=lambda entry: -entry[0])
        return [fact for _, fact in found]

    def outstanding(self, one: int, other: int | None, count: int, said: Collection[str] = ()) -> list[Fact]:
        """The `count` strongest facts on different matters, against one class or (None) all others."""
        statistics = self.statistics
        if other is None:
            rest = statistics.known[statistics.known != one]
            others = statistics.mean[rest].mean(0) if len(rest) else np.zeros_like(statistics.mean[one])
            facts = self.facts(one, statistics.against_rest(one), others)
        else:
            facts = self.facts(one, statistics.against(one, other), statistics.mean[other])
        chosen: list[Fact] = []
        for fact in facts:
            new = all(fact.matter != earlier.matter and fact.words != earlier.words for earlier in chosen)
            if new and str(fact) not in said:
                chosen.append(fact)
            if len(chosen) == count:
                break
        return chosen

    # -- the rounds

    def overview(self, one: int) -> str:
        """Round 1."""
        body = self.statistics.of_body(one)
        travel = body["travel"]
        ways = ((0.8, "walks far"), (0.45, "walks"), (0.2, "steps"))
        says = [next((way for least, way in ways if travel > least), "stays on the spot")]
        if abs(body["sink"]) > 2 * _STILL:
            says.append("rises" if body["sink"] > 0 else "sinks down")
        if body["lean"] > 0.3 and body["lean"] > body["lean end"] + 0.1:
            says.append("bends forward and straightens up again" if abs(body["lean end"]) < 0.3 else "bends forward")
        spoken = self.statistics.anatomy.spoken
        moves = [self.part(one, part).partition(";")[0] for part in ("head", "hand", "leg") if part in spoken]
        moves = [move for move in moves or [self.part(one, part) for part in spoken] if " still " not in move]
        return f"In {self.name(one)} the body {_join(says)}{'; '.join(['', *moves])}."

    def body_parts(self, one: int) -> str:
        """Round 2."""
        return "\n".join(f"{part}: {self.part(one, part)}." for part in _PART_WORDS)

    def joint_numbers(self, one: int) -> str:
        """Round 3."""
        return ", ".join(str(joint + 1) for joint in sorted(self.critical[one]))

    def joint_movements(self, one: int) -> str:
        """Round 4."""
        statistics, lines = self.statistics, []
        for joint in sorted(self.critical[one]):
            limb, place = statistics.anatomy.limb_of[joint], joint
            if limb >= 0 and statistics.right[one, limb] < 0.5:  # the left side is the busier one
                place = self.layout.mirror_index[joint]
            lines.append(f"{joint + 1}-{self.layout.joints[joint]}: {self.movement(one, place)}")
        return "\n".join(lines)

    def key_features(self, one: int) -> str:
        """Round 5."""
        facts = [str(fact) for fact in self.outstanding(one, None, 4)] or ["it moves much like the others"]
        while token_bound(_join(facts)) > _DISTINCTION_TOKENS - _NAME_TOKENS:
            facts.pop()
        return f"The key features of {self.name(one)} are that {_join(facts)}."

    def distinction(self, one: int, similar: list[int]) -> str:
        """Round 6: facts against the similar classes, most against the first, within the length of a CLIP text."""
        said: set[str] = set()
        clauses: list[str] = []
        for other, count in zip(similar, (3, 2, 1), strict=False):
            facts = [str(fact) for fact in self.outstanding(one, other, count, said)]
            for kept in range(len(facts), 0, -1):
                clause = f"unlike {self.name(other)}, {_join(facts[:kept])}"
                if token_bound("; ".join([*clauses, clause])) <= _DISTINCTION_TOKENS:
                    clauses.append(clause)
                    said.update(facts[:kept])
                    break
        if not clauses:
            facts = [str(fact) for fact in self.outstanding(one, None, 2)] or ["nothing measured stands out"]
            clauses = [f"in {self.name(one)} {_join(facts)}"]
        sentence = _shorten("; ".join(clauses), _DISTINCTION_TOKENS)
        return f"{sentence[0].upper()}{sentence[1:]}."

    def name(self, one: int) -> str:
        """A class's name on one line, of bearable length and without marks that would end a sentence."""
        return _shorten(" ".join(re.sub(r"[.!?*`#]", " ", self.classes[one]).split()), _NAME_TOKENS)


def _words(feature: str, value: float, step: float, part: str, place: str = "", other: str = "") -> str | None:
    """What to say of a feature of mean `value` that is larger by `step` than elsewhere; None where nothing is worth it.

    `place` and `other` are the heights that `value` and its counterpart stand for.
    """
    if abs(step) < _LEAST.get(feature, _LEAST_LENGTH):
        return None
    larger = step > 0
    if feature in _NET:
        words = _FORWARD_LEG if feature == "forward" and part in ("leg", "foot") else _NET[feature]
        if abs(value) < _STILL:
            return words[2] if abs(step) > 2 * _STILL else None
        return words[0 if larger else 1] if (value > 0) == larger else None
    least, most = _TRUE.get(feature, (-np.inf, np.inf))
    if (larger and value < least) or (not larger and value > most):
        return None
    if feature == "top" and part in ("leg", "foot"):
        return "is lifted higher" if larger else "is lifted less"
    if feature in _COMPARED and place == other:
        return _COMPARED[feature][0 if larger else 1]
    return _SAYS[feature][0 if larger else 1].format(place=place)


def _weight(feature: str, value: float, difference: float) -> float:
    """How much a difference counts: what does not happen says less than what does."""
    absent = difference < 0 and feature in ("rise", "dip", "reach", "range", "top")
    dull = absent or (difference > 0 and feature == "bottom") or (feature in _NET and abs(value) < _STILL)
    return abs(difference) * (0.6 if dull or feature == "duration" else 1.0)


def _agree(subject: str, words: str) -> str:
    """Subject and predicate, the predicate in the plural after "left and right"."""
    if " and " in subject:
        words = re.sub(r"\b(moves|goes|comes|stays|gets|is|ends|reaches|does)\b", lambda verb: _PLURAL[verb[0]], words)
        words = words.replace("it began", "they began")
    return f"{subject} {words}"


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def _shorten(text: str, most: int) -> str:
    """The text's first words, or the first word's first letters, within `most` tokens."""
    words = text.split() or ["?"]
    while len(words) > 1 and token_bound(" ".join(words)) > most:
        words.pop()
    while token_bound(words[0]) > most:
        words[0] = words[0][:-1]
    return " ".join(words)


# ---- the backend


class MeasuredBackend:
    """Answers every question about a class from the clips of one split; see the module's docstring.

    It looks at what a question is about, not at its wording. At most `CLIPS_PER_CLASS` clips per class are read,
    evenly chosen, on the first question. Safe to ask from several threads.
    """

    spec = "measured"

    def __init__(self, store: SkeletonStore, train_split: str) -> None:
        if train_split not in store.splits:
            known = ", ".join(store.splits) or "none"
            raise BackendError(f"{store.path} has no split {train_split!r} to measure: it has {known}.")
        self._store, self._split = store, train_split
        self._lock = threading.Lock()
        self._teller: Teller | None = None

    def identity(self) -> dict:
        """What shapes the answers: the recordings and the split."""
        return {"backend": "measured", "version": 1, "data": self._store.fingerprint, "split": self._split}

    @property
    def teller(self) -> Teller:
        with self._lock:
            if self._teller is None:
                self._teller = Teller(measure(self._store, self._split), self._store.classes)
            return self._teller

    def ask(self, messages: list[Message], topic: Topic, schema: dict | None = None) -> Answer:
        """Answer round `topic.round` about class `topic.class_index`. Raises `BackendError` where it has no clips."""
        from .backends import Answer

        started = time.perf_counter()
        teller, one = self.teller, topic.class_index
        clips = teller.statistics.clips
        if not 0 <= one < len(clips) or not clips[one]:
            raise BackendError(
                f"class {topic.class_name!r} has no usable clip in split {self._split!r}, so that nothing can be "
                "measured: add recordings of it, or describe the classes with a language model."
            )
        similar = [other for other in topic.similar if other != one and 0 <= other < len(clips) and clips[other]]
        rounds = {
            1: teller.overview,
            2: teller.body_parts,
            3: teller.joint_numbers,
            4: teller.joint_movements,
            5: teller.key_features,
            6: lambda one: teller.distinction(one, similar or teller.statistics.nearest(one, 3)),
        }
        if topic.round not in rounds:
            raise ValueError(f"round {topic.round}: rounds are 1 to 6")
        text = rounds[topic.round](one)
        return Answer(text, seconds=time.perf_counter() - started, details={"clips": int(clips[one])})
