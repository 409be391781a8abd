"""Text files of one-digit numbers, which take the most memory for their length: how much every reader takes.

    python benchmarks/dense_inputs.py [--mib 15] [--out FILE.json] [READER ...]

For every reader some sound or nearly sound files of that length are converted, made to take as much memory as can be:
the shortest numbers, a person who comes and goes, tracking ids that never come back, small lists. Printed are the
outcome and the most memory in lengths of the input. The exit code is 1 where that is more than four and a floor of 8
MiB; 1 KiB for every recording and file, for its name and facts, is no part of it. Asks Linux for the memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from fuzz_readers import FLOOR, MEMORY, Members, _memory, _outcome, _warm_up

from skag.skeleton.store import SkeletonStore

PER_RECORDING = 1 << 10


def filled(head: bytes, piece: bytes | Callable[[int], bytes], tail: bytes, size: int) -> bytes:
    """`head`, as many pieces as fit into `size` bytes, and `tail`."""
    if isinstance(piece, bytes):
        return head + piece * ((size - len(head)) // len(piece)) + tail
    out, number = bytearray(head), 0
    while len(out) < size:
        out += piece(number)
        number += 1
    return bytes(out) + tail


def zeros(count: int, digit: str = "1") -> str:
    return ",".join([digit] * count)


def triples(joints: int) -> str:
    return ",".join(["[1,1,1]"] * joints)


def kinect(joints: int, values: str, frames: Callable[[int], list[int]]) -> Callable[[int], bytes]:
    """Kinect v2's text; `frames` says for a frame which tracking ids are in it."""

    def made(size: int) -> bytes:
        body = f"{joints}\n" + f"{values}\n" * joints
        out, number = bytearray(b"999999999\n"), 0
        while len(out) < size:
            ids = frames(number)
            out += f"{len(ids)}\n".encode() + "".join(f"{i}\n{body}" for i in ids).encode()
            number += 1
        return bytes(out).replace(b"999999999", f"{number:09}".encode(), 1)

    return made


def pose_files(name: str, head: str, frame: Callable[[int], str], tail: str) -> Callable[[int], Members]:
    """A JSON file in a folder of its class, and a small one of another."""

    def made(size: int) -> Members:
        text = filled(head.encode(), lambda n: ((", " if n else "") + frame(n)).encode(), tail.encode(), size)
        return {f"walk/{name}": text, f"sit/{name}": (head + frame(0) + tail).encode()}

    return made


TWELVE = " ".join(["1"] * 12)
NTU, UAV = "S001C001P001R001A001.skeleton", "P000S00G10B10H10UC022000LC021000A000R0_08241716.txt"
SBU, MSR = "s01s02/01/001/skeleton_pos.txt", "a01_s01_e01_skeleton3D.txt"
UCLA, HOME = "a01_s01_e00_v01.json", "Walk_p03_r00_v01_c01_pose3d.json"
UCLA_FRAME = f"[{triples(20)}]".encode()
HOME_PERSON = f'{{"pose3d":[{zeros(39)}]}}'.encode()
OTHER = HOME_PERSON.replace(b"1", b"2")
COCO_PERSON = f'{{"keypoints":[{triples(17)}]}}'

CSV_HEAD = (",".join(f"joint{v}_{c}" for v in range(17) for c in "xy") + "\n").encode()
ROW = ("1," * 33 + "1\n").encode()


def come_and_go(frame: Callable[[str], str], people: int = 5) -> Callable[[int], str]:
    """Frames with one of several people by turns, for long stretches, so that all of them are kept."""
    return lambda n: frame(str(n % people))


DENSE: dict[str, dict[str, Callable[[int], Members]]] = {
    "ntu": {
        "one body": lambda size: {NTU: kinect(25, TWELVE, lambda n: [1])(size)},
        "two by turns": lambda size: {NTU: kinect(25, TWELVE, lambda n: [n % 2])(size)},
        "always somebody new": lambda size: {NTU: kinect(25, TWELVE, lambda n: [n])(size)},
        "three values a joint": lambda size: {NTU: kinect(25, "1 1 1", lambda n: [n % 2])(size)},
    },
    "uav-human": {
        "one body": lambda size: {UAV: kinect(17, TWELVE, lambda n: [1])(size)},
        "four once": lambda size: {UAV: kinect(17, TWELVE, lambda n: [1, 2, 3, 4] if n == 9 else [1])(size)},
        "three values a joint": lambda size: {UAV: kinect(17, "1 1 1", lambda n: [1, 2] if n % 9 else [1])(size)},
    },
    "utkinect": {
        "one long action": lambda size: {
            "joints_s01_e01.txt": filled(b"", lambda n: f"{n} {' '.join('1' * 60)}\n".encode(), b"", size),
            "actionLabel_modified.txt": b"s01_e01\nwalk: 0 99999999\nsitDown: 3 99999999\n",
        },
        "repeated frames": lambda size: {
            "joints_s01_e01.txt": filled(b"", lambda n: f"{n // 2} {' '.join('1' * 60)}\n".encode(), b"", size),
            "actionLabel_modified.txt": b"s01_e01\nwalk: 0 99999999\n",
        },
        "empty lines": lambda size: {
            "joints_s01_e01.txt": filled(b"1" + b" 1" * 60 + b"\n", b"\n", b"", size),
            "actionLabel_modified.txt": b"s01_e01\nwalk: 0 99999999\n",
        },
    },
    "sbu": {
        "two people": lambda size: {SBU: filled(b"", b"1" + b",1" * 90 + b"\n", b"", size)},
        "one NaN": lambda size: {SBU: filled(b"", b"1" + b",1" * 90 + b"\n", b"1" + b",nan" * 90, size)},
    },
    "msr-action3d": {"one body": lambda size: {MSR: filled(b"", b"1 1 1 1\n" * 20, b"", size)}},
    "nw-ucla": {
        "one body": lambda size: {
            UCLA: filled(b'{"label":1,"skeletons":[', UCLA_FRAME + b",", UCLA_FRAME + b"]}", size)
        },
        "small frames": lambda size: {UCLA: filled(b'{"label":1,"skeletons":[', b"[[1]],", b"[[1]]]}", size)},
        "empty lists": lambda size: {UCLA: filled(b'{"label":1,"skeletons":[[', b"[],", b"[]]]}", size)},
        "one long number": lambda size: {UCLA: filled(b'{"label":1,"skeletons":[', b"1", b"]}", size)},
    },
    "smarthome": {
        "one person": lambda size: {
            HOME: filled(b'{"frames":[', b"[" + HOME_PERSON + b"],", b"[" + HOME_PERSON + b"]]}", size)
        },
        "a second in one frame": lambda size: {
            HOME: filled(b'{"frames":[', b"[" + HOME_PERSON + b"],", b"[" + HOME_PERSON + b"," + OTHER + b"]]}", size)
        },
    },
    "openpose": {
        "many frames": lambda size: {
            **{
                f"walk/001/001_{n:012}_keypoints.json": f'{{"people":[{{"pose_keypoints_2d":[{zeros(54)}]}}]}}'.encode()
                for n in range(min(size, 2 << 20) // 140)
            },
            "sit/002/002_000000000000_keypoints.json": f'{{"people":[{{"pose_keypoints_2d":[{zeros(54)}]}}]}}'.encode(),
        },
        "many people": lambda size: {
            **{
                f"walk/001/001_{n:012}_keypoints.json": filled(
                    b'{"people":[',
                    f'{{"pose_keypoints_2d":[{zeros(54)}]}},'.encode(),
                    f'{{"pose_keypoints_2d":[{zeros(54)}]}}]}}'.encode(),
                    min(size // 5, 4_000_000),
                )
                for n in range(5)
            },
            "sit/002/002_000000000000_keypoints.json": f'{{"people":[{{"pose_keypoints_2d":[{zeros(54)}]}}]}}'.encode(),
        },
    },
    "mmpose": {
        "one person": pose_files("1.json", "[", lambda n: f'{{"instances":[{COCO_PERSON}]}}', "]"),
        "five by turns": pose_files(
            "1.json", "[",
            come_and_go(lambda who: f'{{"instances":[{COCO_PERSON[:-1]},"track_id":{who}}}]}}'), "]",
        ),
        "always somebody new": pose_files(
            "1.json", "[", lambda n: f'{{"instances":[{COCO_PERSON[:-1]},"track_id":{n}}}]}}', "]"
        ),
        "nobody": pose_files("1.json", "[", lambda n: f'{{"instances":[{"" if n else COCO_PERSON}]}}', "]"),
    },
    "alphapose": {
        "one person": pose_files(
            "1.json", "[", lambda n: f'{{"image_id":"{n}","keypoints":[{zeros(51)}]}}', "]"
        ),
        "five by turns": pose_files(
            "1.json", "[",
            lambda n: f'{{"image_id":"{n}","idx":{n % 5},"keypoints":[{zeros(51)}]}}', "]",
        ),
    },
    "mediapipe": {
        "one person": pose_files("1.json", '{"landmarks":0,"frames":[', lambda n: f"[{triples(33)}]", "]}"),
        "nobody": pose_files("1.json", '{"landmarks":0,"frames":[', lambda n: "[]" if n else f"[{triples(33)}]", "]}"),
    },
    "csv": {
        "one recording": lambda size: {
            "walk/1.csv": filled(
                CSV_HEAD,
                ROW, b"", size,
            ),
            "sit/2.csv": CSV_HEAD + ROW,
        },
        "five people by turns": lambda size: {
            "walk/1.csv": filled(
                b"frame,body," + CSV_HEAD,
                lambda n: (f"{n},{n % 5}" + ",1" * 34 + "\n").encode(), b"", size,
            ),
            "sit/2.csv": CSV_HEAD + ROW,
        },
        "always a new recording": lambda size: {
            "1.csv": filled(
                b"clip,label," + CSV_HEAD,
                lambda n: (f"{n},{n % 2}" + ",1" * 34 + "\n").encode(), b"", size,
            ),
        },
    },
}  # fmt: skip


def measure(reader: str, members: Members) -> tuple[str, int, int, int]:
    """Outcome, most memory, recordings and length of one input."""
    folder = Path(tempfile.mkdtemp(prefix="skag-dense-"))
    try:
        for name, data in members.items():
            (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "in" / name).write_bytes(data)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # its memory is not yet used by anything
            return *pool.submit(converted, reader, folder).result(), sum(map(len, members.values()))
    finally:
        shutil.rmtree(folder)


def converted(reader: str, folder: Path) -> tuple[str, int, int]:
    """Outcome of the conversion of folder/in, most memory, and number of recordings or files."""
    _warm_up(reader, folder / "sound")
    before = _memory(reset=True)
    outcome = _outcome(folder / "in", folder / "out.h5", 600)
    memory = max(0, _memory() - before)
    count = sum(path.is_file() for path in (folder / "in").rglob("*"))
    if outcome == "ok":
        with SkeletonStore(folder / "out.h5") as store:
            count = max(count, len(store))
    return outcome, memory, count


def main() -> int:
    """Measure the readers named on the command line, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(DENSE)}; all by default")
    parser.add_argument("--mib", type=float, default=15, help="length of an input (default 15)")
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    options = parser.parse_args()
    if unknown := set(options.readers) - set(DENSE):
        parser.error(f"no reader {sorted(unknown)[0]!r}")
    rows = []
    for reader in options.readers or DENSE:
        for case, make in DENSE[reader].items():
            outcome, memory, count, size = measure(reader, make(int(options.mib * (1 << 20))))
            ok = outcome in ("ok", "refused") and memory <= MEMORY * size + FLOOR + PER_RECORDING * count
            rows.append(
                {"reader": reader, "input": case, "outcome": outcome, "bytes": size, "memory": memory, "ok": ok}
            )
            print(f"{reader}, {case}: {outcome}, {memory / size:.1f} times {size / 2**20:.1f} MiB"
                  + ("" if ok else " TOO MUCH"), flush=True)  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps({"command": " ".join(sys.argv), "rows": rows}, indent=1) + "\n")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
