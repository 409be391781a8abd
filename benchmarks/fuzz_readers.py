"""Feeds damaged recordings to every reader and counts what comes of them.

    python benchmarks/fuzz_readers.py [--count 1000] [--seed 0] [READER ...]

Every mutated input has to be converted ("ok", perhaps with recordings left out) or refused with one line
("refused"). Anything else is a fault: a traceback, a store left behind by a refused input, more than ten seconds, or
memory beyond four times the input and a floor of 8 MiB. The exit code is 1 where there was a fault; the input that
caused it is kept and named.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import random
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from skag.convert import convert
from skag.errors import DataError

TIMEOUT = 10
MEMORY, FLOOR = 4, 8 << 20  # times the input, and bytes that small inputs may take as well
TOKENS = [b"NaN", b"1e999", b"-1", b"null", b"[]", b"{}", b'"', b"[" * 5000, b"9" * 5000, b"\xff\xfe", b"\0", b","]

Members = dict[str, bytes]


def text_of(table: np.ndarray, delimiter: str = " ") -> str:
    """A line per row."""
    return "".join(delimiter.join(f"{x:.5g}" for x in row) + "\n" for row in table)


def nw_ucla() -> Members:
    """Four tiny recordings in NW-UCLA's form."""
    rng = np.random.default_rng(0)
    names = ["a01_s01_e00_v01", "a02_s01_e00_v03", "a08_s02_e01_v02", "a12_s03_e04_v03"]
    labels = [1, 2, 7, 10]
    return {
        f"all_sqe/{name}.json": json.dumps(
            {"file_name": name, "skeletons": rng.normal(size=(2, 20, 3)).round(3).tolist(), "label": label}
        ).encode()
        for name, label in zip(names, labels, strict=True)
    }


def sbu() -> Members:
    """Two pairs of people, three frames each."""
    rng = np.random.default_rng(0)
    tables = {
        f"SBU/{pair}/{action:02}/001/skeleton_pos.txt": np.hstack([np.arange(3)[:, None] + 55, rng.random((3, 90))])
        for pair, action in (("s01s02", 1), ("s01s02", 8), ("s02s03", 3))
    }
    return {name: text_of(table, ",").encode() for name, table in tables.items()}


def utkinect() -> Members:
    """Two recordings with two actions each, and their labels."""
    rng = np.random.default_rng(0)
    numbers = np.array([10, 12, 12, 15, 20, 24, 30])[:, None]
    labels = "".join(f"{r}\nwalk: 10 15\nsitDown: 20 30 \n" for r in ("s01_e01", "s02_e01"))
    return {
        "joints/actionLabel_modified.txt": labels.encode(),
        **{
            f"joints/joints_{r}.txt": text_of(np.hstack([numbers, rng.normal(size=(7, 60))]), "  ").encode()
            for r in ("s01_e01", "s02_e01")
        },
    }


def pyskl(protocol: int = 4) -> Members:
    """Four annotations, two of them with two bodies, and a split."""
    rng = np.random.default_rng(0)
    annotations = [
        {
            "frame_dir": f"S001C001P00{i + 1}R001A00{i + 1}",
            "label": np.int64(i) if i % 2 else i,
            "img_shape": (1080, 1920),
            "total_frames": 3,
            "keypoint": rng.normal(size=(1 + i % 2, 3, 17, 2)).astype("f2"),
            "keypoint_score": rng.random((1 + i % 2, 3, 17)).astype("f2"),
        }
        for i in range(4)
    ]
    names = [annotation["frame_dir"] for annotation in annotations]
    split = {"xsub_train": names[:2], "xsub_val": names[2:]}
    return {"data.pkl": pickle.dumps({"split": split, "annotations": annotations}, protocol)}


def kinetics() -> Members:
    """Annotations without joints and two kpfiles; the old form is among the annotations of a single pickle."""
    rng = np.random.default_rng(0)
    annotations, joints = [], {}
    for i in range(4):
        frames = np.sort(rng.integers(0, 6, 9))
        name = f"video{i}_000010_000020"
        annotations.append(
            {
                "frame_dir": name, "label": i % 3, "img_shape": (240, 320), "original_shape": (240, 320),
                "total_frames": 6, "raw_file": f"data/k400/kpfiles/part{i % 2}.pkl", "frame_inds": frames,
                "box_score": rng.random(9).astype("f2"), "valid": {0.5: 6},
            }
        )  # fmt: skip
        joints[name] = {"keypoint": (rng.random((9, 17, 3)) * [320, 240, 1]).astype("f2")}
    names = list(joints)
    split = {"train": names[:2], "val": names[2:]}
    return {
        "k400/k400_hrnet.pkl": pickle.dumps({"split": split, "annotations": annotations}, 4),
        **{
            f"k400/kpfiles/part{n}.pkl": pickle.dumps({name: joints[name] for name in names[n::2]}, 4) for n in range(2)
        },
    }


def skeleton_text(frames: list[list[tuple[int, np.ndarray]]], digits: int = 7) -> bytes:
    """Kinect v2 text: per frame the bodies as (tracking id, joints `[V, 3]`)."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for identity, joints in bodies:
            lines += [f"{identity} 0 1 1 1 1 0 0.0271 -0.1353 2", str(len(joints))]
            rest = "283.0309 224.2974 1027.245 581.2726 -0.2574076 0.123495 0.9539005 -0.09254229 2"
            lines += [" ".join(f"{x:.{digits}g}" for x in joint) + f" {rest}" for joint in joints]
    return ("\r\n".join(lines) + "\r\n").encode()


def ntu() -> Members:
    """Two people, one person, and a person with a short piece of noise."""
    rng = np.random.default_rng(0)
    body = rng.normal(0, [0.2, 0.6, 0.1], (25, 3)) + [0, 0, 3]
    first, second, noise = 72057594037931101, 72057594037931102, 72057594037931368

    def moving(step: float) -> np.ndarray:
        return body + rng.normal(0, 0.02, (25, 3)) + [step * 0.05, 0, 0]

    pair = [[(first, moving(t)), (second, moving(3 + t / 2))] for t in range(13)]
    alone = [[(first, moving(t))] for t in range(6)] + [[]]
    with_noise = [[(first, moving(t))] + [(noise, moving(9))] * (t < 3) for t in range(13)]
    return {
        f"nturgb+d_skeletons/{name}.skeleton": skeleton_text(frames)
        for name, frames in (
            ("S001C001P001R001A055", pair),
            ("S001C002P003R001A001", alone),
            ("S017C003P007R002A060", with_noise),
        )
    }


def uav_human() -> Members:
    """One person, and two people."""
    rng = np.random.default_rng(0)

    def frames(people: int) -> list[list[tuple[int, np.ndarray]]]:
        points = np.concatenate([rng.random((3, people, 17, 2)) * 800, np.zeros((3, people, 17, 1))], axis=-1)
        return [[(0, body) for body in frame] for frame in points]

    return {
        "Skeleton/P000S00G10B10H10UC022000LC021000A000R0_08241716.txt": skeleton_text(frames(1)),
        "Skeleton/P001S02G11B00H00UC022072LC021061A083R0_08301122.txt": skeleton_text(frames(2)),
    }


def msr_action3d() -> Members:
    """Three recordings of three frames."""
    rng = np.random.default_rng(0)
    return {
        f"{name}_skeleton3D.txt": text_of(np.hstack([rng.normal(size=(60, 3)), np.ones((60, 1))])).encode()
        for name in ("a01_s01_e01", "a02_s02_e03", "a20_s10_e02")
    }


def utd_mhad() -> Members:
    """Three recordings, packed and not."""
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    members = {}
    for name, packed in (("a1_s1_t1", False), ("a12_s2_t3", True), ("a27_s8_t4", True)):
        savemat(buffer := io.BytesIO(), {"d_skel": rng.normal(size=(20, 3, 4))}, do_compression=packed)
        members[f"Skeleton/{name}_skeleton.mat"] = buffer.getvalue()
    return members


def npz(packed: bool = True, **arrays: object) -> bytes:
    """An .npz file."""
    (np.savez_compressed if packed else np.savez)(buffer := io.BytesIO(), **arrays)
    return buffer.getvalue()


def ctr_gcn() -> Members:
    """Five recordings, one with two people and one whose second body repeats the first."""
    x = np.zeros((5, 8, 150), np.float32)
    x[:, :6, :75] = np.random.default_rng(0).normal(size=(5, 6, 75))
    x[1, :, 75:] = x[2, :, :75]
    x[3, :, 75:] = x[3, :, :75]
    y = np.eye(60)[[0, 5, 59, 8, 7]]
    return {"NTU60_CS.npz": npz(x_train=x[:3], y_train=y[:3], x_test=x[3:], y_test=y[3:])}


def smarthome() -> Members:
    """One person, and two people with a frame in which nobody is seen."""
    rng = np.random.default_rng(0)

    def file(people: list[int]) -> bytes:
        frames = [
            [{"pose2d": rng.random(26).round(3).tolist(), "pose3d": rng.normal(size=39).round(3).tolist()}] * count
            for count in people
        ]
        return json.dumps({"njts": 13, "K": 100, "frames": frames}).encode()

    return {
        "json/Walk_p03_r00_v01_c01_pose3d.json": file([1, 1, 1]),
        "json/Cook.Cut_p10_r01_v02_c02_pose3d.json": file([2, 0, 1, 2]),
    }


def _coco(seed: int, frames: int = 3) -> np.ndarray:
    """A person in the image `[T, 17, 3]` with confidences."""
    rng = np.random.default_rng(seed)
    body = rng.random((17, 2)) * [200, 400] + 100
    points = body + np.arange(frames)[:, None, None] * 3 + rng.normal(size=(frames, 17, 2))
    return np.concatenate([points, rng.random((frames, 17, 1))], axis=-1).round(2)


def openpose() -> Members:
    """Two recordings in two classes, with BODY_25 and a frame without anybody."""
    rng = np.random.default_rng(0)
    members = {}
    for video, counts in (("walk/001", (1, 0, 2)), ("sit/002", (1, 1))):
        for number, count in enumerate(counts):
            people = [{"person_id": [-1], "pose_keypoints_2d": rng.random(75).round(3).tolist()} for _ in range(count)]
            name = f"{video}/{video[-3:]}_{number:012}_keypoints.json"
            members[name] = json.dumps({"version": 1.3, "people": people}).encode()
    return members


def mmpose() -> Members:
    """Two recordings, one with two people who are tracked."""
    files = {}
    for name, people in (("predictions/walk/1.json", 1), ("predictions/sit/2.json", 2)):
        bodies = [_coco(seed) for seed in range(people)]
        frames = [
            {
                "frame_id": t,
                "instances": [
                    {"keypoints": body[t, :, :2].tolist(), "keypoint_scores": body[t, :, 2].tolist()}
                    | ({"track_id": n} if people > 1 else {})
                    for n, body in enumerate(bodies)
                ],
            }
            for t in range(3)
        ]
        files[name] = json.dumps(frames if people > 1 else {"meta_info": {}, "instance_info": frames}).encode()
    return files


def alphapose() -> Members:
    """Two recordings, one with two people."""

    def entry(body: np.ndarray, t: int, who: int) -> dict[str, object]:
        return {
            "image_id": f"{t}.jpg", "category_id": 1, "keypoints": body[t].ravel().tolist(), "score": 2.5,
            "box": [1.0, 2.0, 3.0, 4.0], "idx": [who],
        }  # fmt: skip

    one = [entry(_coco(0), t, 1) for t in range(3)]
    two = [entry(_coco(who), t, who) for t in range(3) for who in (1, 2)]
    files = {"walk/1/alphapose-results.json": one, "sit/2/alphapose-results.json": two}
    return {name: json.dumps(entries).encode() for name, entries in files.items()}


def mediapipe() -> Members:
    """Two recordings in two spellings."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3, 33, 4)).round(3)
    named = [[dict(zip(("x", "y", "z", "visibility"), p, strict=True)) for p in frame] for frame in points.tolist()]
    first = [{"pose_landmarks": [landmarks], "pose_world_landmarks": [landmarks]} for landmarks in named]
    second = {"fps": 30, "frames": [{"landmarks": points[0].tolist()}, None, {"landmarks": points[1].tolist()}]}
    return {"walk/1.json": json.dumps(first).encode(), "sit/2.json": json.dumps(second).encode()}


def own_npz() -> Members:
    """All recordings in one file."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 2, 5, 25, 3)).astype(np.float32)
    values[1, 1] = values[2, :, 3:] = 0
    splits = np.array(["train", "train", "test", "test"])
    return {"data.npz": npz(keypoints=values, labels=[0, 1, 1, 0], subjects=[1, 2, 3, 4], splits=splits)}


def own_npy() -> Members:
    """A file per recording, the folder is the class."""
    rng = np.random.default_rng(0)
    np.save(buffer := io.BytesIO(), rng.normal(size=(4, 25, 3)))
    return {"walk/1.npy": buffer.getvalue(), "sit/2.npz": npz(keypoints=rng.normal(size=(2, 3, 25, 3)))}


def _own_table() -> tuple[list[str], list[list[object]]]:
    """Header and rows of three recordings, one with two bodies."""
    rng = np.random.default_rng(0)
    header = ["clip", "label", "subject", "frame", "body", *(f"joint{v}_{c}" for v in range(17) for c in "xyc")]
    rows = []
    for clip, label, bodies in (("a", "walk", 1), ("b", "sit", 2), ("c", "walk", 1)):
        for frame in range(3):
            for body in range(bodies):
                rows.append([clip, label, clip, frame, body, *rng.random(51).round(3).tolist()])
    return header, rows


def own_csv() -> Members:
    """All recordings in one file."""
    header, rows = _own_table()
    return {"data.csv": "".join(",".join(map(str, row)) + "\n" for row in [header, *rows]).encode()}


def own_csv_files() -> Members:
    """A file per recording, the folder is the class, and labels beside them."""
    header, rows = _own_table()
    text = "".join(",".join(map(str, row[3:])) + "\n" for row in [header, *rows[:3]]).encode()
    return {"data/walk/1.csv": text, "data/sit/2.csv": text, "data/labels.csv": b"file,label\n1,walk\n2,sit\n"}


def own_parquet() -> Members:
    """All recordings in one file."""
    import pyarrow as pa
    from pyarrow import parquet

    header, rows = _own_table()
    table = pa.table({name: list(values) for name, values in zip(header, zip(*rows, strict=True), strict=True)})
    parquet.write_table(table, buffer := io.BytesIO())
    return {"data.parquet": buffer.getvalue()}


def st_gcn() -> Members:
    """Training and test arrays with their labels."""
    rng = np.random.default_rng(0)
    members = {}
    for part in ("train", "val"):
        values = rng.normal(size=(2, 3, 4, 25, 2)).astype("f4")
        values[1, :, 3:] = 0
        np.save(buffer := io.BytesIO(), values)
        names = [f"{part}{n}.skeleton" for n in range(2)]
        members |= {f"{part}_data_joint.npy": buffer.getvalue(), f"{part}_label.pkl": pickle.dumps((names, [0, 1]))}
    return members


def kinetics_skeleton() -> Members:
    """Three clips with the files of labels."""
    rng = np.random.default_rng(0)
    members, labels = {}, {"train": {}, "val": {}}
    for n, split in enumerate(("train", "train", "val")):
        points = rng.random((3, 18, 3)).round(3)
        frames = [
            {"frame_index": t, "skeleton": [{"pose": p[:, :2].ravel().tolist(), "score": p[:, 2].tolist()}]}
            for t, p in enumerate(points, 1)
        ]
        facts = {"label": ["bow", "run"][n % 2], "label_index": n % 2}
        members[f"kinetics_{split}/clip{n}.json"] = json.dumps({"data": frames, **facts}).encode()
        labels[split][f"clip{n}"] = {"has_skeleton": True, **facts}
    return members | {f"kinetics_{split}_label.json": json.dumps(rows).encode() for split, rows in labels.items()}


def yolo() -> Members:
    """Text files of frames, two recordings."""
    rng = np.random.default_rng(0)
    return {
        f"{label}/labels/v_{t}.txt": text_of(np.hstack([[[0.0]], rng.random((1, 4 + 51))])).encode()
        for label in ("walk", "sit")
        for t in range(1, 4)
    }


def bvh() -> Members:
    """Two recordings of a small skeleton."""
    joint = "OFFSET 0 {y} 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n"
    tree = "HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation "
    tree += "Yrotation\nJOINT Spine\n{\n" + joint.format(y=4) + "End Site\n{\nOFFSET 0 4 0\n}\n}\nJOINT LeftUpLeg\n{\n"
    tree += joint.format(y=-4) + "}\n}\nMOTION\nFrames: 3\nFrame Time: 0.033\n"
    rng = np.random.default_rng(0)
    return {f"{label}/1.bvh": (tree + text_of(rng.normal(size=(3, 12)))).encode() for label in ("walk", "sit")}


def asf_amc() -> Members:
    """Two recordings and their skeleton."""
    bone = "begin\nid {n}\nname {name}\ndirection 0 -1 0\nlength 4\naxis 0 0 20 XYZ\ndof rx ry rz\nend\n"
    asf = ":version 1.10\n:units\nlength 0.45\nangle deg\n:root\norder TX TY TZ RX RY RZ\naxis XYZ\nposition 0 0 0\n"
    asf += "orientation 0 0 0\n:bonedata\n" + bone.format(n=1, name="lfemur") + bone.format(n=2, name="rfemur")
    asf += ":hierarchy\nbegin\nroot lfemur rfemur\nend\n"
    frame = "{t}\nroot 1 2 3 {t} 5 6\nlfemur {t} 2 3\nrfemur 1 {t} 3\n"
    amc = ":FULLY-SPECIFIED\n:DEGREES\n" + "".join(frame.format(t=t) for t in range(1, 4))
    return {"x.asf": asf.encode(), "walk/1.amc": amc.encode(), "sit/2.amc": amc.replace("1 2 3", "3 2 1").encode()}


def pku_mmd() -> Members:
    """Two recordings of the published form, with labels and splits."""
    rng = np.random.default_rng(0)
    members = {}
    for name in ("0002-L", "0003-R"):
        members[f"Skeleton/{name}.txt"] = text_of(rng.normal(size=(6, 150))).encode()
        members[f"Train_Label_PKU_final/{name}.txt"] = b"1,1,3,2\n51,4,6,1\n"
    members["Split/cross-subject.txt"] = b"Training videos:\n0002-L\nValidataion videos:\n0003-R\n"
    return members


def numbers() -> Members:
    """Rows of numbers for the twenty joints of Kinect v1, two recordings."""
    rng = np.random.default_rng(0)
    return {f"{label}/1.txt": text_of(-rng.random((3, 60))).encode() for label in ("walk", "sit")}


SAMPLES: dict[str, Callable[[], Members]] = {  # by format: a small sound data set
    "pyskl": pyskl,
    "kinetics": kinetics,
    "ntu": ntu,
    "uav-human": uav_human,
    "utkinect": utkinect,
    "sbu": sbu,
    "msr-action3d": msr_action3d,
    "utd-mhad": utd_mhad,
    "ctr-gcn": ctr_gcn,
    "smarthome": smarthome,
    "nw-ucla": nw_ucla,
    "openpose": openpose,
    "mmpose": mmpose,
    "alphapose": alphapose,
    "mediapipe": mediapipe,
    "npz": own_npz,
    "parquet": own_parquet,
    "csv": own_csv,
    "st-gcn": st_gcn,
    "kinetics-skeleton": kinetics_skeleton,
    "pku-mmd": pku_mmd,
    "yolo": yolo,
    "bvh": bvh,
    "asf-amc": asf_amc,
    "numbers": numbers,
}
NEEDS = {"utd-mhad": "scipy", "parquet": "pyarrow"}  # packages that skag does not need otherwise


def as_tar(members: Members, compression: str = "") -> bytes:
    """A tar archive; `compression` is "", "gz", "bz2" or "xz"."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def as_zip(members: Members, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few random changes: bits, bytes, cuts, repeats, moves, and tokens that parsers choke on."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 6])):
        a, b = sorted(rng.randrange(len(out) + 1) for _ in range(2))
        b = min(b, a + rng.choice([1, 2, 8, 64, 4096]))
        kind = rng.randrange(7)
        if kind == 0 and out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[rng.randrange(len(out))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        elif kind == 2:
            del out[a:b]
        elif kind == 3:
            out[a:a] = out[a:b] * rng.randint(1, 3)
        elif kind == 4:
            out[a:b] = rng.choice(TOKENS)
        elif kind == 5:
            out[a:b] = rng.randbytes(b - a)
        elif rng.random() < 0.3:
            del out[rng.randrange(len(out) + 1) :]
    return bytes(out)


def one_mutated(members: Members, rng: random.Random) -> Members:
    """The members with damage in one of them."""
    name = rng.choice(sorted(members))
    return {**members, name: mutated(members[name], rng)}


Damage = Callable[[random.Random], bytes]


def inside(sample: Callable[[], Members]) -> tuple[str, Damage]:
    """Damage inside the files of a format: a single file as it is, several in a sound archive."""
    members = sample()
    if len(members) == 1:
        ((file, data),) = members.items()
        return file, lambda rng: mutated(data, rng)
    return "data.zip", lambda rng: as_zip(one_mutated(members, rng), zipfile.ZIP_STORED)


READERS: dict[str, Callable[[], tuple[str, Damage]]] = {
    **{name: partial(inside, sample) for name, sample in SAMPLES.items()},
    "npz-files": partial(inside, own_npy),
    "csv-files": partial(inside, own_csv_files),
    "pyskl": lambda: ("data.pkl", lambda rng: mutated(pyskl(rng.choice([0, 2, 3, 4, 5]))["data.pkl"], rng)),
    "nw-ucla-json": lambda: ("a01_s01_e00_v01.json", lambda rng: mutated(next(iter(nw_ucla().values())), rng)),
    # damage to archives
    "tar": lambda: ("data.tar", lambda rng: mutated(as_tar(nw_ucla()), rng)),
    "tar-gz": lambda: ("data.tar.gz", lambda rng: mutated(as_tar(nw_ucla(), "gz"), rng)),
    "zip": lambda: ("data.zip", lambda rng: mutated(as_zip(nw_ucla()), rng)),
}


class Hang(BaseException):
    """Raised by the alarm; no `except Exception` stops it."""


def _alarm(*_: object) -> None:
    raise Hang


def _memory(reset: bool = False) -> int:
    """Peak resident memory in bytes since the last reset; 0 where the system does not say (it does on Linux)."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def fuzz(reader: str, count: int, seed: int, folder: Path) -> tuple[Counter[str], int]:
    """Convert `count` mutated inputs; one that caused a fault stays in `folder`. Returns outcomes and most memory."""
    name, make = READERS[reader]()
    outcomes: Counter[str] = Counter()
    most = 0
    previous = signal.signal(signal.SIGALRM, _alarm)
    _warm_up(reader, folder / "sound")
    try:
        for number in range(count):
            source, out = folder / f"{number}" / name, folder / f"{number}" / "out.h5"
            source.parent.mkdir(parents=True)
            data = make(random.Random(f"{reader}/{seed}/{number}"))
            source.write_bytes(data)
            before = _memory(reset=True)
            outcome = _outcome(source, out)
            grown = _memory() - before
            most = max(most, grown)
            if outcome in ("ok", "refused") and grown > MEMORY * len(data) + FLOOR:
                outcome = f"{grown >> 20} MiB of memory"
            outcomes[outcome] += 1
            if outcome in ("ok", "refused"):
                shutil.rmtree(source.parent)
            else:
                print(f"{reader}: {outcome} by {source}", file=sys.stderr)
    finally:
        signal.signal(signal.SIGALRM, previous)
    return outcomes, most


def _warm_up(reader: str, folder: Path) -> None:
    """Convert the undamaged sample once, so that what libraries take for themselves counts for no input."""
    for file, data in SAMPLES.get(reader, nw_ucla)().items():
        (folder / "in" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / file).write_bytes(data)
    convert(folder / "in", folder / "out.h5")
    shutil.rmtree(folder)


def _outcome(source: Path, out: Path, timeout: int = TIMEOUT) -> str:
    signal.alarm(timeout)
    try:
        convert(source, out)
        return "ok"
    except DataError as error:
        left = [path for path in source.parent.iterdir() if path != source]
        if left or "\n" in str(error):
            return "left something behind" if left else "long message"
        return "refused"
    except Hang:
        return "hang"
    except BaseException:
        traceback.print_exc(limit=-3)
        return "traceback"
    finally:
        signal.alarm(0)


def main() -> int:
    """Fuzz the readers named on the command line, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}; all by default")
    parser.add_argument("--count", type=int, default=1000, help="inputs per reader (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.readers) - set(READERS):
        parser.error(f"no reader {sorted(unknown)[0]!r}")
    warnings.simplefilter("error")
    faults = 0
    for reader in options.readers or READERS:
        if reader in NEEDS and find_spec(NEEDS[reader]) is None:
            parser.error(f"{reader} needs a package: pip install {NEEDS[reader]}")
        folder = Path(tempfile.mkdtemp(prefix=f"skag-fuzz-{reader}-"))
        start = time.perf_counter()
        outcomes, most = fuzz(reader, options.count, options.seed, folder)
        bad = sum(outcomes.values()) - outcomes["ok"] - outcomes["refused"]
        faults += bad
        counts = ", ".join(f"{what} {n}" for what, n in sorted(outcomes.items()))
        seconds = time.perf_counter() - start
        print(f"{reader}: {counts}; {seconds:.0f} s, at most {most >> 10} KiB more memory for one input", flush=True)
        if not bad:
            shutil.rmtree(folder)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
