"""Recordings in every format: the real ones where they are at hand, otherwise the demo's simulated people.

A simulated clip has the 25 joints of Kinect v2; the joints of another layout are the nearest of them, eyes, ears and
toes a little beside. What a file of the format holds besides (tracking ids, scores, image sizes) is there too.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skag.readers.joints import recorded
from skag.readers.openpose import NAMES as OPENPOSE
from skag.readers.utd_mhad import ORDER as UTD_ORDER
from skag.skeleton.layouts import load_layout
from skag.skeleton.simulate import ACTIONS, simulate

Members = dict[str, bytes]
DATA = Path(__file__).parents[2] / "shared" / "data"
REAL = {
    "nw-ucla": "nw-ucla-raw.tar.gz",
    "sbu": "sbu-raw.tar.gz",
    "utkinect": "utkinect-raw.tar.gz",
}
CLASSES = 4
_FOCAL, _CENTRE = 1050.0, np.array([960.0, 540.0])  # pixels of a Kinect v2's colour image
_NEAREST = {  # joints that Kinect v2 does not have: the nearest that it has, and metres from there to (right, up)
    "nose": ("head", 0, 0), "left eye": ("head", 0.03, 0.04), "right eye": ("head", -0.03, 0.04),
    "left ear": ("head", 0.08, 0.02), "right ear": ("head", -0.08, 0.02), "spine": ("middle of the spine", 0, 0),
    "torso": ("middle of the spine", 0, 0), "hip centre": ("base of the spine", 0, 0),
    "mid hip": ("base of the spine", 0, 0), "shoulder centre": ("upper spine", 0, 0),
}  # fmt: skip


@dataclass(frozen=True)
class Take:
    """One simulated clip."""

    action: int
    subject: int
    repetition: int
    joints: np.ndarray  # [T, 25, 3] metres, y up

    @property
    def word(self) -> str:
        return ACTIONS[self.action].replace(" ", "-")

    @property
    def trains(self) -> bool:
        return self.subject % 3 != 0


def takes(subjects: int = 6, repetitions: int = 3, classes: int = CLASSES) -> list[Take]:
    """Simulated clips of every class by every subject."""
    found = []
    for annotation in simulate(0, subjects, repetitions)["annotations"]:
        name = annotation["frame_dir"]
        if annotation["label"] < classes:
            joints = annotation["keypoint"][0].astype(np.float64)
            found.append(Take(annotation["label"], int(name[9:12]), int(name[13:16]), joints))
    return found


def as_joints(take: Take, names: Iterable[str]) -> np.ndarray:
    """`[T, V, 3]` of joints by name."""
    kinect = load_layout("nturgb+d").index
    side = {"left": 1, "right": -1}
    columns = []
    for name in names:
        first, _, rest = name.partition(" ")
        joint, right, up = _NEAREST.get(name, (name, 0, 0))
        if joint not in kinect:
            part = next((part for part in ("hand", "foot", "ankle", "head") if _is_of(rest, part)), "head")
            joint = f"{first} {part}" if first in side and part != "head" else "head"
            right, up = 0.02 * side.get(first, 0), -0.01 * len(rest)
        columns.append(take.joints[:, kinect[joint]] + [right, up, 0])
    return np.stack(columns, axis=1)


def _is_of(rest: str, part: str) -> bool:
    words = {"hand": ("pinky", "index", "thumb"), "foot": ("toe", "foot"), "ankle": ("heel",), "head": ("mouth",)}
    return any(word in rest for word in words[part])


def in_image(take: Take, names: Iterable[str]) -> np.ndarray:
    """`[T, V, 3]`: place in the image in pixels, and a confidence."""
    joints = as_joints(take, names)
    seen = joints[..., 2:] > 0  # the simulated camera misses joints now and then
    flat = np.where(seen, _CENTRE + _FOCAL * joints[..., :2] * [1, -1] / np.where(seen, joints[..., 2:], 1), 0)
    noise = np.random.default_rng(take.subject).random((*flat.shape[:2], 1))
    return np.concatenate([flat, np.where(seen, 0.7 + 0.3 * noise, 0)], axis=-1)


def kinect_text(joints: np.ndarray, identity: int) -> bytes:
    """Kinect v2's text of one body `[T, V, 3]`."""
    rest = "283.0309 224.2974 1027.245 581.2726 -0.2574076 0.123495 0.9539005 -0.09254229 2"
    body = f"{identity} 0 1 1 1 1 0 0.0271 -0.1353 2\r\n{joints.shape[1]}\r\n"
    lines = (" ".join(f"{x:.7g}" for x in joint) + f" {rest}\r\n" for joint in joints.reshape(-1, 3))
    frames = ("1\r\n" + body + "".join(next(lines) for _ in range(joints.shape[1])) for _ in joints)
    return (f"{len(joints)}\r\n" + "".join(frames)).encode()


def table_text(table: np.ndarray, delimiter: str) -> bytes:
    """A line of numbers per row."""
    return "".join(delimiter.join(f"{x:.7g}" for x in row) + "\n" for row in table).encode()


def pyskl(clips: list[Take]) -> Members:
    annotations = [
        {
            "frame_dir": f"{t.word}-{t.subject}-{t.repetition}", "label": t.action, "total_frames": len(t.joints),
            "keypoint": t.joints[None].astype("f2"),
        }
        for t in clips
    ]  # fmt: skip
    split = {
        name: [a["frame_dir"] for a, t in zip(annotations, clips, strict=True) if t.trains == trains]
        for name, trains in (("xsub_train", True), ("xsub_val", False))
    }
    return {"data.pkl": pickle.dumps({"split": split, "annotations": annotations}, 4)}


def kinetics(clips: list[Take]) -> Members:
    names = recorded(load_layout("coco"))
    annotations, joints = [], {}
    for t in clips:
        name = f"{t.word[:8]}_{t.subject:06}_{t.repetition:06}"
        frames = np.arange(len(t.joints))
        annotations.append(
            {
                "frame_dir": name, "label": t.action, "img_shape": (1080, 1920), "total_frames": len(frames),
                "raw_file": f"kpfiles/{t.action}.pkl", "frame_inds": frames, "box_score": np.ones(len(frames), "f2"),
            }
        )  # fmt: skip
        joints.setdefault(t.action, {})[name] = {"keypoint": in_image(t, names).astype("f2")}
    split = {
        name: [a["frame_dir"] for a, t in zip(annotations, clips, strict=True) if t.trains == trains]
        for name, trains in (("train", True), ("val", False))
    }
    files = {f"k400/kpfiles/{action}.pkl": pickle.dumps(of_action, 4) for action, of_action in joints.items()}
    return {"k400/k400_hrnet.pkl": pickle.dumps({"split": split, "annotations": annotations}, 4), **files}


def ntu(clips: list[Take]) -> Members:
    return {
        f"nturgb+d_skeletons/S001C{1 + t.repetition % 3:03}P{t.subject:03}R{1 + t.repetition // 3:03}"
        f"A{t.action + 1:03}.skeleton": kinect_text(t.joints, 72057594037931101)
        for t in clips
    }


def uav_human(clips: list[Take]) -> Members:
    names = recorded(load_layout("coco"))
    return {
        f"Skeleton/P{t.subject:03}S00G10B10H10UC022000LC021000A{t.action:03}R0_0824{t.repetition:04}.txt": kinect_text(
            in_image(t, names) * [1, 1, 0], 0
        )
        for t in clips
    }


def msr_action3d(clips: list[Take]) -> Members:
    from skag.readers.msr_action3d import ORDER

    names = recorded(load_layout("kinect-v1"))
    members = {}
    for t in clips:
        joints = as_joints(t, names)
        recorded_order = np.ones((len(joints), 20, 4))
        recorded_order[:, ORDER, :3] = joints
        text = table_text(recorded_order.reshape(-1, 4), " ")
        members[f"a{t.action + 1:02}_s{t.subject:02}_e{t.repetition:02}_skeleton3D.txt"] = text
    return members


def utd_mhad(clips: list[Take]) -> Members:
    from scipy.io import savemat

    names = recorded(load_layout("kinect-v1"))
    members = {}
    for t in clips:
        joints = np.empty((20, 3, len(t.joints)))
        joints[UTD_ORDER] = as_joints(t, names).transpose(1, 2, 0)
        savemat(buffer := io.BytesIO(), {"d_skel": joints}, do_compression=True)
        members[f"Skeleton/a{t.action + 1}_s{t.subject}_t{t.repetition}_skeleton.mat"] = buffer.getvalue()
    return members


def ctr_gcn(clips: list[Take]) -> Members:
    arrays = {}
    for part, trains in (("train", True), ("test", False)):
        chosen = [t for t in clips if t.trains == trains]
        x = np.zeros((len(chosen), 300, 150), np.float32)
        for row, t in zip(x, chosen, strict=True):
            row[: len(t.joints), :75] = t.joints.reshape(len(t.joints), -1)
        arrays |= {f"x_{part}": x, f"y_{part}": np.eye(60)[[t.action for t in chosen]]}
    np.savez(buffer := io.BytesIO(), **arrays)
    return {"NTU60_CS.npz": buffer.getvalue()}


def smarthome(clips: list[Take]) -> Members:
    names = recorded(load_layout("smarthome-13"))
    activities = ("Sitdown", "Getup", "Walk", "Readbook")
    members = {}
    for t in clips:
        frames = [
            [{"pose2d": [0.5] * 26, "pose3d": joints.T.ravel().round(5).tolist()}] for joints in as_joints(t, names)
        ]
        name = (
            f"{activities[t.action]}_p{t.subject + 2:02}_r{t.repetition:02}_v01_c{1 + t.repetition % 2:02}_pose3d.json"
        )
        members[f"json/{name}"] = json.dumps({"njts": 13, "K": 100, "frames": frames}).encode()
    return members


def _of_class(t: Take) -> str:
    return f"{'train' if t.trains else 'test'}/{t.word}/{t.subject}-{t.repetition}"


def openpose(clips: list[Take]) -> Members:
    members = {}
    for t in clips:
        for number, points in enumerate(in_image(t, OPENPOSE[25]).round(3)):
            people = [{"person_id": [-1], "pose_keypoints_2d": points.ravel().tolist()}]
            name = f"{_of_class(t)}/{t.subject}_{number:012}_keypoints.json"
            members[name] = json.dumps({"version": 1.3, "people": people}).encode()
    return members


def mmpose(clips: list[Take]) -> Members:
    names = recorded(load_layout("coco"))
    members = {}
    for t in clips:
        frames = [
            {"frame_id": n, "instances": [{"keypoints": p[:, :2].tolist(), "keypoint_scores": p[:, 2].tolist()}]}
            for n, p in enumerate(in_image(t, names))
        ]
        members[f"{_of_class(t)}.json"] = json.dumps({"meta_info": {}, "instance_info": frames}).encode()
    return members


def alphapose(clips: list[Take]) -> Members:
    names = recorded(load_layout("coco"))
    members = {}
    for t in clips:
        entries = [
            {
                "image_id": f"{n}.jpg", "category_id": 1, "keypoints": points.ravel().tolist(), "score": 2.9,
                "box": [1.0, 2.0, 3.0, 4.0], "idx": [1],
            }
            for n, points in enumerate(in_image(t, names))
        ]  # fmt: skip
        members[f"{_of_class(t)}/alphapose-results.json"] = json.dumps(entries).encode()
    return members


def mediapipe(clips: list[Take]) -> Members:
    names = recorded(load_layout("mediapipe-33"))
    axes = ("x", "y", "z", "visibility")
    members = {}
    for t in clips:
        points = np.concatenate([as_joints(t, names) * [1, -1, 1], np.full((len(t.joints), 33, 1), 0.99)], axis=-1)
        frames = [
            {"pose_world_landmarks": [[dict(zip(axes, p, strict=True)) for p in frame]]} for frame in points.tolist()
        ]
        members[f"{_of_class(t)}.json"] = json.dumps(frames).encode()
    return members


def own_npz(clips: list[Take]) -> Members:
    longest = max(len(t.joints) for t in clips)
    values = np.zeros((len(clips), 1, longest, 25, 3), np.float32)
    for row, t in zip(values, clips, strict=True):
        row[0, : len(t.joints)] = t.joints
    np.savez(
        buffer := io.BytesIO(),
        keypoints=values,
        labels=[t.action for t in clips],
        class_names=ACTIONS[:CLASSES],
        subjects=[t.subject for t in clips],
        splits=["train" if t.trains else "test" for t in clips],
    )
    return {"data.npz": buffer.getvalue()}


def _rows(clips: list[Take]) -> tuple[list[str], list[list[object]]]:
    names = recorded(load_layout("coco"))
    header = ["clip", "label", "subject", "split", "frame"]
    header += [f"{name.replace(' ', '_')}_{axis}" for name in names for axis in "xyc"]
    return header, [
        [f"{t.word}-{t.subject}-{t.repetition}", t.word, t.subject, "train" if t.trains else "test", n, *points]
        for t in clips
        for n, points in enumerate(in_image(t, names).round(3).reshape(len(t.joints), -1).tolist())
    ]


def own_csv(clips: list[Take]) -> Members:
    header, rows = _rows(clips)
    return {"data.csv": "".join(",".join(map(str, row)) + "\n" for row in [header, *rows]).encode()}


def own_parquet(clips: list[Take]) -> Members:
    import pyarrow as pa
    from pyarrow import parquet

    header, rows = _rows(clips)
    table = pa.table({name: list(values) for name, values in zip(header, zip(*rows, strict=True), strict=True)})
    parquet.write_table(table, buffer := io.BytesIO())
    return {"data.parquet": buffer.getvalue()}


def utkinect(clips: list[Take]) -> Members:
    """Every subject's clips one after another."""
    names = recorded(load_layout("kinect-v1"))
    words = ("sitDown", "standUp", "pickUp", "throw")
    members, labels = {}, []
    for subject in sorted({t.subject for t in clips}):
        for repetition in sorted({t.repetition for t in clips}):
            mine = [t for t in clips if (t.subject, t.repetition) == (subject, repetition)]
            labels.append(f"s{subject:02}_e{repetition:02}")
            start, rows = 1, []
            for t in mine:
                numbers = np.arange(start, start + len(t.joints))
                rows.append(np.hstack([numbers[:, None], as_joints(t, names).reshape(len(t.joints), -1)]))
                labels.append(f"{words[t.action]}: {numbers[0]} {numbers[-1]}")
                start += len(t.joints)
            members[f"joints/{'joints_' + f's{subject:02}_e{repetition:02}'}.txt"] = table_text(np.vstack(rows), "  ")
    return {"joints/actionLabel_modified.txt": "\n".join(labels).encode(), **members}


def sbu(clips: list[Take]) -> Members:
    """The same person twice, a metre apart, in the data set's own numbers."""
    from skag.readers.sbu import FOLDS, ORIGIN, SCALE

    names = recorded(load_layout("sbu-15"))
    pairs = [pair for fold in FOLDS for pair in fold[:2]]
    members = {}
    for t in clips:
        first = as_joints(t, names) * 1000
        both = np.stack([first - [500, 0, 0], first + [500, 0, 0]], axis=1)
        published = (both - ORIGIN) / SCALE
        table = np.hstack([np.arange(len(both))[:, None] + 1, published.reshape(len(both), -1)])
        pair = pairs[t.subject % len(pairs)]
        members[f"SBU/{pair}/{t.action + 1:02}/{t.repetition:03}/skeleton_pos.txt"] = table_text(table, ",")
    return members


def nw_ucla(clips: list[Take]) -> Members:
    names = recorded(load_layout("kinect-v1"))
    members = {}
    for t in clips:
        name = f"a{t.action + 1:02}_s{t.subject:02}_e{t.repetition:02}_v{1 + t.subject % 3:02}"
        text = json.dumps({"file_name": name, "skeletons": as_joints(t, names).tolist(), "label": t.action + 1})
        members[f"all_sqe/{name}.json"] = text.encode()
    return members


MADE: dict[str, Callable[[list[Take]], Members]] = {
    "pyskl": pyskl, "kinetics": kinetics, "ntu": ntu, "uav-human": uav_human, "utkinect": utkinect, "sbu": sbu,
    "msr-action3d": msr_action3d, "utd-mhad": utd_mhad, "ctr-gcn": ctr_gcn, "smarthome": smarthome,
    "nw-ucla": nw_ucla, "openpose": openpose, "mmpose": mmpose, "alphapose": alphapose, "mediapipe": mediapipe,
    "npz": own_npz, "parquet": own_parquet, "csv": own_csv,
}  # fmt: skip


def source(name: str, folder: Path, subjects: int = 6, repetitions: int = 3) -> tuple[Path, str]:
    """Recordings of a format, and "real" or "made"; made ones are written into `folder`."""
    if name in REAL and (DATA / REAL[name]).exists():
        return DATA / REAL[name], "real"
    members = MADE[name](takes(subjects, repetitions))
    for file, data in members.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
    return (folder / next(iter(members)) if len(members) == 1 else folder), "made"
