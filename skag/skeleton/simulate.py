"""Simulated recordings for the demo, so that it needs no download.

A kinematic body with the 25 joints of the layout `nturgb+d` acts ten actions and is seen by a depth camera. The actions
come in pairs that are confused as real ones are: the same path reversed in time, one hand instead of two, the same
motion at another height. An action is a list of key poses: where the hands, the hips and the feet are, how far the
trunk leans. Between them every value moves with minimum jerk (Flash and Hogan, J. Neurosci. 1985); elbows and knees
follow by two-bone inverse kinematics.

Body frame: x to the person's left, y up, z forward, metres. Poses are written for right-handed people; a left-handed
person acts the mirror image. Camera space is that of the Kinect: y up, z the distance from the camera.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..targets import check_target, start_of
from .layouts import Layout, load_layout

ACTIONS: tuple[str, ...] = (
    "sit down",
    "stand up",
    "put on a hat",
    "take off a hat",
    "pick up with one hand",
    "pick up with both hands",
    "drink",
    "touch the chest",
    "kick",
    "step forward",
)

_LAYOUT = "nturgb+d"
_CAMERAS_DEGREES = (-25.0, 0.0, 25.0)  # heading that a person who faces the middle camera has for each
_FRAMES = (30, 90)
_TRAIN_SHARE = 2 / 3  # of the subjects

# Lengths as shares of the body's height (after Winter, Biomechanics and Motor Control of Human Movement, Fig. 4.1).
_THIGH, _SHANK, _ANKLE, _FOOT = 0.245, 0.245, 0.04, 0.08
_HIP_WIDTH, _SHOULDER_WIDTH = 0.05, 0.11  # half of each
_SPINE = (0.02, 0.14, 0.15, 0.04, 0.09)  # hips to base, base to middle, middle to upper spine, to neck, to head
_UPPER_ARM, _FOREARM, _HAND, _TIP, _THUMB = 0.17, 0.145, 0.04, 0.045, 0.035
_LEG, _ARM = _THIGH + _SHANK, _UPPER_ARM + _FOREARM
_Place = tuple[float, float, float]
_IDLE = (0.14, -0.95, 0.06)  # a hanging hand, in the terms of `Pose`


@dataclass(frozen=True)
class Pose:
    """A key pose of a right-handed person. Hands in arm lengths, hips and feet in leg lengths, angles in degrees.

    Hands are relative to their shoulder, feet and hips to where they are when standing: (outwards, up, forward), the
    hips' first number being to the left.
    """

    right_hand: tuple[float, float, float] = _IDLE
    left_hand: tuple[float, float, float] = _IDLE
    hips: tuple[float, float, float] = (0.0, 0.0, 0.0)
    right_foot: tuple[float, float, float] = (0.0, 0.0, 0.0)
    left_foot: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lean: float = 0.0
    twist: float = 0.0  # of the shoulders, to the left
    nod: float = 0.0

    def vector(self) -> np.ndarray:
        """The pose as 18 numbers: right hand, left hand, hips, right foot, left foot, lean, twist, nod (radians)."""
        points = (self.right_hand, self.left_hand, self.hips, self.right_foot, self.left_foot)
        return np.concatenate([np.ravel(points), np.radians([self.lean, self.twist, self.nod])])


Plan = list[tuple[float, Pose]]  # key poses with the moment, 0 to 1, at which they are reached


def _sit(rng: np.random.Generator) -> Plan:
    knees = (-0.14, -0.62, 0.52)
    seat = -rng.uniform(0.40, 0.48)
    lean = rng.uniform(25, 45)
    push = rng.random() < 0.4  # hands on the knees on the way
    halfway = (-0.05, -0.75, 0.45) if push else (0.12, -0.88, 0.25)
    return [
        (0.0, Pose()),
        (rng.uniform(0.35, 0.5), Pose(halfway, halfway, (0, 0.45 * seat, -0.22), lean=lean, nod=10)),
        (rng.uniform(0.7, 0.8), Pose(knees, knees, (0, seat, -0.44), lean=0.5 * lean, nod=5)),
        (1.0, Pose(knees, knees, (0, seat, -0.44), lean=rng.uniform(-4, 8))),
    ]


def _put_on_hat(rng: np.random.Generator) -> Plan:
    height = rng.uniform(-0.75, -0.45)
    held = (-0.10, height, 0.45)  # the hat in front of the belly
    raised = (-0.12, 0.42, 0.45)
    brim = (-0.26, 0.66, 0.10)
    leaving = rng.uniform(0.2, 1.0)  # how much the empty hands' way resembles the full hands'
    empty = _between(leaving, _IDLE, held)
    other = _IDLE if rng.random() < 0.15 else None  # some use one hand only

    def pose(hand: tuple[float, float, float], nod: float) -> Pose:
        return Pose(hand, other or hand, nod=nod)

    nod = rng.uniform(5, 25)
    return [
        (0.0, Pose()),
        (rng.uniform(0.15, 0.3), pose(held, nod)),
        (rng.uniform(0.45, 0.55), pose(raised, 0)),
        (rng.uniform(0.6, 0.68), pose(brim, nod)),
        (rng.uniform(0.7, 0.75), pose(brim, 0)),
        (rng.uniform(0.88, 0.94), pose(empty, 0)),
        (1.0, Pose()),
    ]


def _between(share: float, start: _Place, end: _Place) -> _Place:
    """The place that `share` of the way from one to the other."""
    (a, b, c), (x, y, z) = start, end
    return (1 - share) * a + share * x, (1 - share) * b + share * y, (1 - share) * c + share * z


def _pick_up(rng: np.random.Generator, both: bool) -> Plan:
    crouch = rng.uniform(0.1, 0.9)  # how much of the way down the knees do
    lean = 95 - 45 * crouch
    hips = (0.0, -0.12 - 0.28 * crouch, -0.22)
    grasp = (-0.12, -0.90, rng.uniform(0.25, 0.45))
    along = rng.uniform(-0.1, 0.7)  # how far the idle hand goes along
    other = grasp if both else _between(along, _IDLE, grasp)
    if not both and rng.random() < 0.3:
        other = (0.0, -0.62, 0.30)  # on the thigh
    chest = (-0.12, -0.45, 0.55)
    twist = 0.0 if both else rng.uniform(5, 25)
    helps = 1.0 if both else rng.uniform(0, 0.6)
    carried = _between(helps, _IDLE, chest)
    reach = Pose(grasp, other, hips, lean=lean, twist=twist, nod=-15)
    down = rng.uniform(0.35, 0.45)
    return [
        (0.0, Pose()),
        (down, reach),
        (down + rng.uniform(0.05, 0.2), reach),
        (0.9, Pose(chest, carried, nod=10)),
        (1.0, Pose(chest, carried, nod=5)),
    ]


def _raise_hand(rng: np.random.Generator, goal: tuple[float, float, float], tilt: float) -> Plan:
    """One hand to the mouth or the chest and back: the same motion at another height."""
    front = (-0.10, -0.45, 0.50)
    start, end = rng.uniform(0.4, 0.5), rng.uniform(0.6, 0.75)
    return [
        (0.0, Pose()),
        (0.6 * start, Pose(front)),
        (start, Pose(goal)),
        (end, Pose(goal, nod=tilt)),
        (1.0, Pose()),
    ]


def _kick(rng: np.random.Generator) -> Plan:
    height, reach = rng.uniform(0.02, 0.45), rng.uniform(0.35, 0.8)
    back = Pose((0.25, -0.9, 0.2), (0.3, -0.85, -0.1), (0.06, -0.02, 0.0), (0, 0.15, -0.35), lean=8)
    strike = Pose((0.3, -0.85, -0.25), (0.25, -0.8, 0.35), (0.06, -0.02, 0.08), (0, height, reach), lean=-12, twist=-12)
    return [
        (0.0, Pose()),
        (rng.uniform(0.25, 0.4), back),
        (rng.uniform(0.52, 0.62), strike),
        (1.0, Pose(right_foot=(0, 0, rng.uniform(0, 0.2)))),
    ]


def _step(rng: np.random.Generator) -> Plan:
    length = rng.uniform(0.3, 0.75)
    lift = rng.uniform(0.08, 0.3)
    swing = Pose((0.16, -0.92, -0.2), (0.16, -0.92, 0.3), (0, -0.02, 0.35 * length), (0, lift, 0.6 * length), lean=4)
    stride = Pose((0.16, -0.92, -0.1), (0.16, -0.92, 0.2), (0, -0.07, 0.6 * length), (0, 0, length), lean=4)
    together = (0, 0, length)
    follow = Pose(hips=(0, -0.02, 0.85 * length), right_foot=together, left_foot=(0, 0.6 * lift, 0.6 * length))
    return [
        (0.0, Pose()),
        (0.3, swing),
        (rng.uniform(0.45, 0.55), stride),
        (rng.uniform(0.7, 0.8), follow),
        (1.0, Pose(hips=together, right_foot=together, left_foot=together)),
    ]


def _reverse(plan: Plan) -> Plan:
    return [(1.0 - moment, pose) for moment, pose in reversed(plan)]


def _plan(action: str, rng: np.random.Generator) -> Plan:
    mouth = (-0.27, rng.uniform(0.20, 0.36), 0.24)
    chest = (-0.27, rng.uniform(-0.28, 0.05), 0.26)
    plans = {
        "sit down": lambda: _sit(rng),
        "stand up": lambda: _reverse(_sit(rng)),
        "put on a hat": lambda: _put_on_hat(rng),
        "take off a hat": lambda: _reverse(_put_on_hat(rng)),
        "pick up with one hand": lambda: _pick_up(rng, both=False),
        "pick up with both hands": lambda: _pick_up(rng, both=True),
        "drink": lambda: _raise_hand(rng, mouth, tilt=-rng.uniform(0, 25)),
        "touch the chest": lambda: _raise_hand(rng, chest, tilt=rng.uniform(-5, 10)),
        "kick": lambda: _kick(rng),
        "step forward": lambda: _step(rng),
    }
    return plans[action]()


@dataclass(frozen=True)
class Subject:
    """What stays the same over a person's recordings."""

    height: float  # metres
    build: np.ndarray  # factors of trunk, arm and leg length
    tempo: float  # factor of the speed
    left_handed: bool
    heading: float  # degrees, added to the camera's
    habit: np.ndarray  # how this person's key poses depart from the plan's, in the units of the pose vector

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Subject:
        return cls(
            height=rng.uniform(1.50, 1.95),
            build=rng.uniform(0.94, 1.06, 3),
            tempo=rng.uniform(0.75, 1.3),
            left_handed=rng.random() < 0.2,
            heading=rng.uniform(-12, 12),
            habit=rng.normal(0, 0.06, 18) * np.repeat([1.0, 0.3, 1.5], [6, 9, 3]),
        )


def simulate(seed: int = 0, subjects: int = 12, repetitions: int = 4) -> dict:
    """Recordings of all `ACTIONS` in the form of PYSKL's annotation files.

    Returns `{"split": {"xsub_train": [...], "xsub_val": [...]}, "annotations": [...]}` with one dict per clip:
    frame_dir (named as in NTU RGB+D), label, total_frames and keypoint, float16 `[1, T, 25, 3]`, metres. Two thirds of
    the subjects train. The same arguments give the same recordings, and more subjects or repetitions leave those there
    were as they are. Raises `ValueError` for fewer than two subjects, or more than the names can tell apart.
    """
    if not (2 <= subjects <= 999 and 1 <= repetitions <= 999):
        raise ValueError(f"{subjects} subjects and {repetitions} repetitions: give 2 to 999 and 1 to 999.")
    layout = load_layout(_LAYOUT)
    train = max(1, min(subjects - 1, round(_TRAIN_SHARE * subjects)))
    split: dict[str, list[str]] = {"xsub_train": [], "xsub_val": []}
    annotations = []
    for person in range(1, subjects + 1):
        subject = Subject.draw(np.random.default_rng((seed, person)))
        for label, action in enumerate(ACTIONS):
            for repetition in range(1, repetitions + 1):
                rng = np.random.default_rng((seed, person, label + 1, repetition))
                camera = (repetition + label) % len(_CAMERAS_DEGREES)
                clip = _record(action, subject, camera, layout, rng)
                name = f"S001C{camera + 1:03}P{person:03}R{repetition:03}A{label + 1:03}"
                split["xsub_train" if person <= train else "xsub_val"].append(name)
                keypoint = clip.astype(np.float16)[None]
                annotations.append({"frame_dir": name, "label": label, "total_frames": len(clip), "keypoint": keypoint})
    return {"split": split, "annotations": annotations}


def write_recordings(folder: Path, seed: int = 0, subjects: int = 12, repetitions: int = 4) -> Path:
    """Write `classes.txt` (a name a line) and `recordings.pkl` (see `simulate`) into `folder`; returns the latter.

    Files of these names are replaced only where `classes.txt` is what this function writes. Raises `DataError`.
    """
    path, classes = folder / "recordings.pkl", folder / "classes.txt"
    names = "".join(f"{action}\n" for action in ACTIONS).encode()
    made_here = start_of(classes, len(names) + 1) == names
    for target in (classes, path):
        check_target(target, lambda _: made_here, "file of an earlier simulation", DataError)
    folder.mkdir(parents=True, exist_ok=True)
    classes.write_bytes(names)
    path.write_bytes(pickle.dumps(simulate(seed, subjects, repetitions), protocol=4))
    return path


def _record(action: str, subject: Subject, camera: int, layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """One clip as the camera sees it, `[T, 25, 3]`."""
    poses = _timeline(_plan(action, rng), subject, rng)
    joints = forward_kinematics(poses, subject.height, subject.build, layout)
    if subject.left_handed != (rng.random() < 0.1):  # people use their other hand now and then
        joints = joints[:, layout.mirror_index] * (-1.0, 1.0, 1.0)
    heading = _CAMERAS_DEGREES[camera] + subject.heading + rng.normal(0, 5)
    turn = np.radians(180.0 + heading)  # 180 degrees: towards the camera
    cos, sin = np.cos(turn), np.sin(turn)
    joints = joints @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    joints += (rng.uniform(-0.5, 0.5), -rng.uniform(0.7, 1.1), rng.uniform(2.4, 3.6))
    return _depth_camera(joints, layout, rng)


def _timeline(plan: Plan, subject: Subject, rng: np.random.Generator) -> np.ndarray:
    """Poses `[T, 18]`: the plan acted by this person this time, with some standing still before and after."""
    seconds = rng.uniform(1.4, 2.0) / subject.tempo
    before, after = rng.uniform(-0.2, 0.3, 2)  # of the action's length; less than 0: the recording cuts into it
    frames = int(np.clip(round(30 * seconds * (1 + before + after)), *_FRAMES))
    moments = np.array([moment for moment, _ in plan])
    keys = np.array([pose.vector() for _, pose in plan])  # [P, 18]
    keys += subject.habit + rng.normal(0, 0.05, keys.shape) * np.repeat([1.3, 0.3, 1.5], [6, 9, 3])
    time = np.clip(np.linspace(-before, 1 + after, frames), 0, 1)
    segment = np.clip(np.searchsorted(moments, time, side="right") - 1, 0, len(plan) - 2)
    share = (time - moments[segment]) / (moments[segment + 1] - moments[segment])
    share = share**3 * (10 - 15 * share + 6 * share**2)  # minimum jerk
    poses = keys[segment] + share[:, None] * (keys[segment + 1] - keys[segment])
    turns, phases = rng.uniform(0.5, 1.5, 18), rng.uniform(0, 2 * np.pi, 18)
    sway = np.sin(2 * np.pi * turns * np.linspace(0, 1, frames)[:, None] + phases)
    return poses + 0.02 * sway * np.repeat([1.5, 0.4, 0.3, 1.5], [6, 3, 6, 3])


def forward_kinematics(poses: np.ndarray, height: float, build: np.ndarray, layout: Layout) -> np.ndarray:
    """Joints `[T, 25, 3]` in the body frame from pose vectors `[T, 18]` (see `Pose.vector`); the floor is at y = 0."""
    trunk, arm, leg = height * build
    joints = np.zeros((len(poses), layout.num_joints, 3))
    lean, twist, nod = poses[:, 15], poses[:, 16], poses[:, 17]
    hips = poses[:, 6:9] * (_LEG * leg) + (0, _ANKLE * height + 0.985 * _LEG * leg, 0)

    def put(name: str, where: np.ndarray) -> np.ndarray:
        joints[:, layout.index[name]] = where
        return where

    def along(angle: np.ndarray, length: float) -> np.ndarray:
        """A piece of spine that leans forward by `angle`."""
        return length * trunk * np.stack([np.zeros_like(angle), np.cos(angle), np.sin(angle)], axis=1)

    base = put("base of the spine", hips + along(0.5 * lean, _SPINE[0]))
    middle = put("middle of the spine", base + along(0.8 * lean, _SPINE[1]))
    upper = put("upper spine", middle + along(1.1 * lean, _SPINE[2]))
    neck = put("neck", upper + along(1.1 * lean + 0.3 * nod, _SPINE[3]))
    put("head", neck + along(1.1 * lean + nod, _SPINE[4]))
    # Axis from the right to the left shoulder, turned by the twist.
    across = np.stack([np.cos(twist), np.zeros_like(twist), -np.sin(twist)], axis=1)
    ahead = np.stack([np.sin(twist), np.zeros_like(twist), np.cos(twist)], axis=1)
    up = np.array([0.0, 1.0, 0.0])
    for side, sign, first in (("right", -1.0, 0), ("left", 1.0, 3)):
        hand, foot = poses[:, first : first + 3], poses[:, first + 9 : first + 12]
        shoulder = put(f"{side} shoulder", upper + sign * _SHOULDER_WIDTH * trunk * across - along(lean, 0.015))
        goal = shoulder + _ARM * arm * (sign * hand[:, :1] * across + hand[:, 1:2] * up + hand[:, 2:] * ahead)
        bend = sign * 0.6 * across - 0.8 * up - 0.4 * ahead
        elbow, wrist = two_bones(shoulder, goal, _UPPER_ARM * arm, _FOREARM * arm, bend)
        put(f"{side} elbow", elbow)
        put(f"{side} wrist", wrist)
        forward = (wrist - elbow) / (_FOREARM * arm)
        palm = put(f"{side} hand", wrist + _HAND * arm * forward)
        put(f"{side} hand tip", palm + _TIP * arm * forward)
        put(f"{side} thumb", palm + _THUMB * arm * _unit(0.5 * forward - sign * 0.6 * across + 0.6 * ahead))

        hip = put(f"{side} hip", hips + np.array([sign * _HIP_WIDTH * trunk, 0.0, 0.0]))
        stand = np.array([sign * (_HIP_WIDTH * trunk + 0.02 * height), _ANKLE * height, 0.0])
        goal = stand + _LEG * leg * foot * (sign, 1.0, 1.0)
        knee, ankle = two_bones(hip, goal, _THIGH * leg, _SHANK * leg, np.array([0.15 * sign, 0.0, 1.0]))
        put(f"{side} knee", knee)
        put(f"{side} ankle", ankle)
        tilt = np.clip(2.0 * foot[:, 1] * np.sign(foot[:, 2]), -0.8, 0.8)  # toes up in front, down behind
        toes = np.stack([np.full(len(tilt), 0.2 * sign), tilt - 0.3, np.ones(len(tilt))], axis=1)
        put(f"{side} foot", ankle + _FOOT * height * _unit(toes))
    return joints


def two_bones(
    start: np.ndarray, goal: np.ndarray, first: float, second: float, bend: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Inverse kinematics of two bones: where the joint between them and the end are, both `[T, 3]`.

    The end is at `goal`, or on the way there where that is out of reach; the joint lies towards `bend`.
    """
    reach = goal - start
    distance = np.linalg.norm(reach, axis=1, keepdims=True)
    direction = reach / np.maximum(distance, 1e-9)
    distance = np.clip(distance, abs(first - second) + 0.2 * min(first, second), 0.998 * (first + second))
    side = bend - np.sum(bend * direction, axis=1, keepdims=True) * direction
    cos = (first**2 + distance**2 - second**2) / (2 * first * distance)  # law of cosines
    joint = start + first * (cos * direction + np.sqrt(np.maximum(1 - cos**2, 0)) * _unit(side))
    return joint, start + distance * direction


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _smooth_noise(rng: np.random.Generator, frames: int, joints: int, width: int) -> np.ndarray:
    """Gaussian noise `[T, V, 3]` of unit deviation that changes over about `width` frames."""
    window = np.hanning(2 * width + 1)
    window /= np.linalg.norm(window)
    noise = rng.normal(size=(frames + 2 * width, joints, 3))
    return np.einsum("tvcw,w->tvc", np.lib.stride_tricks.sliding_window_view(noise, len(window), axis=0), window)


def _depth_camera(joints: np.ndarray, layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """What a depth camera makes of the true joints `[T, V, 3]`: jitter, drift, guessed and dropped joints."""
    frames, num_joints = joints.shape[:2]
    at_tip = np.array(["tip" in name or "thumb" in name for name in layout.joints])
    at_end = at_tip | np.array([name.endswith(("hand", "wrist", "ankle", "foot")) for name in layout.joints])
    size = (0.006 + 0.008 * at_end + 0.012 * at_tip)[:, None]
    # An arm or leg behind the trunk, seen from the camera, is guessed: it floats around where it hardly is.
    trunk = joints[:, [layout.index["middle of the spine"]]]
    beside = np.linalg.norm((joints - trunk)[..., :2], axis=2)
    hidden = (beside < 0.22) & (joints[..., 2] > trunk[..., 2] + 0.05) & at_end
    jitter = rng.normal(size=joints.shape) * size * np.where(hidden, 3.0, 1.0)[..., None]
    drift = _smooth_noise(rng, frames, num_joints, 8) * size * np.where(hidden, 5.0, 1.2)[..., None]
    seen = joints + jitter + drift
    time = np.arange(frames)
    for chain in ("right arm", "left arm", "right leg", "left leg"):
        if rng.random() < 0.15:  # the tracker loses a limb for a while and pulls it towards the body
            limb = layout.part_index[chain][1:]
            pull = 0.5 * np.exp(-(((time - rng.uniform(0, frames)) / rng.uniform(2, 5)) ** 2))[:, None, None]
            seen[:, limb] += pull * (trunk - seen[:, limb]) + 0.05 * pull * _smooth_noise(rng, frames, len(limb), 3)
    if rng.random() < 0.1:  # a joint that is not found for some frames is all zero
        start = rng.integers(frames)
        seen[start : start + rng.integers(1, 8), rng.integers(num_joints)] = 0.0
    return seen
