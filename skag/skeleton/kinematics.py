"""Clips as motion of a body: coordinates that depend neither on heading nor on size, and what is measured in them.

Used by the measured backend, which compares arms and legs as the busier one and the other one, since people act with
either, and by the motion term of training (`joint_motion`). Names come from the layout only. Speeds are in body heights
a frame, or a second where that is asked for and frame rates are known (`Viewpoint`). Shapes: n clips, F
resampled frames, V joints, A attributes (features of all joints, then of the body).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .layouts import Layout

if TYPE_CHECKING:
    from .store import SkeletonStore


class Recordings(Protocol):
    """Clips by number: a skeleton store, or recordings that are not in one."""

    @property
    def cameras(self) -> np.ndarray: ...  # [n], UNKNOWN where they are not known
    @property
    def frame_rates(self) -> np.ndarray: ...  # [n] frames per second, NaN where they are not known

    def keypoints(self, number: int) -> np.ndarray: ...  # [M, T, V, C], 0 where a joint was not seen

    def confidence(self, number: int) -> np.ndarray | None: ...  # [M, T, V]


_FRAMES = 32  # F
STILL = 0.05  # body heights; camera noise stays below it
_CONFIDENT = 0.3  # of a pose estimator's score; joints below are as good as missing
JOINT_FEATURES = (
    "range", "speed", "up", "rise", "dip", "forward", "reach", "outward",
    "top", "bottom", "level", "ahead", "near head", "swings", "when", "higher late", "ahead late",
)  # fmt: skip
BODY_FEATURES = (
    "travel", "sink", "lean", "lean end", "hands apart", "uneven", "one arm", "one leg", "duration", "gap", "approach",
)  # fmt: skip
PART_WORDS = {
    "head": ("head", "nose", "face", "neck"),
    "hand": ("hand", "wrist", "palm", "fingers", "finger"),
    "arm": ("elbow", "arm", "forearm", "shoulder"),
    "hip": ("hip", "hips", "pelvis", "waist"),
    "leg": ("knee", "leg", "thigh", "shin"),
    "foot": ("foot", "ankle", "toe", "toes", "heel"),
}


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
        found = {part: self.named(*words) for part, words in PART_WORDS.items()}
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


def _recorded(store: Recordings, clip: int) -> np.ndarray:
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
    step: np.ndarray  # [n] from frame to frame: seconds, or 1 where speeds are by the frame
    gap: np.ndarray  # [n, F] distance to the other body, NaN without one
    clips: np.ndarray  # [n] their numbers in the store


def known_rates(rates: np.ndarray) -> np.ndarray | None:
    """Frame rates `[n]` with the usual one where they are unknown (NaN); None where none is known."""
    known = rates[~np.isnan(rates)]
    return np.where(np.isnan(rates), np.median(known), rates) if len(known) else None


class Viewpoint:
    """Turns camera coordinates into body coordinates, upright whatever the camera's tilt.

    The tilt is estimated per camera, as the median direction from the feet to the shoulders at the start of `clips`;
    without them, `upright` and `facing` are to be set to those of another viewpoint. With `per_second`, speeds and
    durations are in seconds where the store knows any frame rate; clips of unknown rate count as of the usual one.
    """

    def __init__(
        self, store: Recordings, anatomy: Anatomy, clips: np.ndarray | None, *, per_second: bool = False
    ) -> None:
        self.anatomy, self.store = anatomy, store
        self.rates = known_rates(store.frame_rates) if per_second else None  # [clips of the store]
        self.axis, self.sign = anatomy.layout.up_axis
        self.across = [axis for axis in range(anatomy.layout.dims) if axis != self.axis]
        self.upright: dict[int, np.ndarray] = {}
        self.facing = 1.0
        if clips is not None and anatomy.layout.dims == 3:
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
        points, frames, others, kept = [], [], [], []
        for clip in clips:
            body, other = _main_body(_recorded(self.store, clip))
            if not np.isfinite(body).any():
                continue
            turn = self.upright.get(int(self.store.cameras[clip]), np.eye(body.shape[-1])).T
            points.append(_resample(body) @ turn)
            frames.append(len(body))
            kept.append(clip)
            others.append(np.full((_FRAMES, body.shape[-1]), np.nan) if other is None else _resample(other) @ turn)
        if not kept:
            return None
        step = np.ones(len(kept)) if self.rates is None else 1 / self.rates[kept]
        return self._in_body(np.stack(points), np.array(frames), step, np.stack(others), np.array(kept))

    def _in_body(
        self, points: np.ndarray, frames: np.ndarray, step: np.ndarray, others: np.ndarray, clips: np.ndarray
    ) -> Motion:
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
        return Motion(body, seen, path[..., self.across] / size, frames, step, gap, clips)

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
    """`JOINT_FEATURES` of every joint, `[n, V, 17]`."""
    points = motion.points
    edge = _FRAMES // 6
    start, end = points[:, :edge].mean(1), points[:, -edge:].mean(1)  # [n, V, 3]
    late = points[:, _FRAMES // 2 :].mean(1) - points[:, : _FRAMES // 2].mean(1)
    high, low = points.max(1), points.min(1)
    step = np.linalg.norm(np.diff(points, axis=1), axis=3)  # [n, F - 1, V]
    pace = (_FRAMES - 1) / (np.maximum(motion.frames - 1, 1) * motion.step)
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
    return np.stack([features[name] for name in JOINT_FEATURES], axis=2)


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
    return np.where(span > 2 * STILL, changes, 0.0)


def _body_features(motion: Motion, anatomy: Anatomy, busy: np.ndarray, idle: np.ndarray) -> np.ndarray:
    """`BODY_FEATURES`, `[n, 11]`; 0 where the layout lacks the joints. `busy`, `idle`: range per limb, `[n, L]`."""
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
        "duration": np.log(motion.frames * motion.step),
        "gap": motion.gap.min(1),
        "approach": motion.gap[:, -edge:].mean(1) - motion.gap[:, :edge].mean(1),
    }
    return np.stack([features[name] for name in BODY_FEATURES], axis=1)


def attributes(motion: Motion, anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
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


# ---- clips by number


def clip_attributes(viewpoint: Viewpoint, clips: np.ndarray) -> np.ndarray:
    """`attributes` of the given clips, `[n, A]`; NaN where a clip does not hold a joint."""
    anatomy = viewpoint.anatomy
    return _of_each(
        viewpoint,
        clips,
        (anatomy.layout.num_joints * len(JOINT_FEATURES) + len(BODY_FEATURES),),
        lambda motion: attributes(motion, anatomy)[0],
    )


def joint_motion(store: SkeletonStore, clips: np.ndarray) -> np.ndarray:
    """How every joint moves in the given clips: `JOINT_FEATURES` of the body that moves most, `[n, V, 17]`.

    Each joint stands in its own place (nothing is swapped as in `attributes`). NaN where a clip does not hold a joint.
    The cameras' tilt is estimated on these very clips. Speeds are a second's where the store knows frame rates.
    """
    anatomy = Anatomy(store.layout)

    def measured(motion: Motion) -> np.ndarray:
        features = _joint_features(motion, anatomy.parts["head"])
        features[~motion.seen] = np.nan
        return features

    viewpoint = Viewpoint(store, anatomy, clips, per_second=True)
    return _of_each(viewpoint, clips, (store.layout.num_joints, len(JOINT_FEATURES)), measured)


def _of_each(
    viewpoint: Viewpoint, clips: np.ndarray, shape: tuple[int, ...], measured: Callable[[Motion], np.ndarray]
) -> np.ndarray:
    """What is `measured` of every clip, `[n, *shape]`, a batch of them at a time; NaN for clips without any joint."""
    found = np.full((len(clips), *shape), np.nan)
    place = {int(clip): number for number, clip in enumerate(clips)}
    for part in np.array_split(clips, max(1, len(clips) // 256)):
        if (motion := viewpoint.motion(part)) is not None:
            found[[place[int(clip)] for clip in motion.clips]] = measured(motion)
    return found
