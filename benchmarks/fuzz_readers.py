"""Feeds damaged recordings to every reader and counts what comes of them.

    python benchmarks/fuzz_readers.py [--count 1000] [--seed 0] [READER ...]

Every mutated input has to be converted ("ok", perhaps with recordings left out) or refused with one line
("refused"). Anything else is a fault: a traceback, a store left behind by a refused input, more than ten seconds.
The exit code is 1 where there was a fault; the input that caused it is kept and named.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import random
import resource
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
from pathlib import Path

import numpy as np

from skag.convert import convert
from skag.errors import DataError

TIMEOUT = 10
TOKENS = [b"NaN", b"1e999", b"-1", b"null", b"[]", b"{}", b'"', b"[" * 5000, b"9" * 5000, b"\xff\xfe", b"\0"]


def nw_ucla_members() -> dict[str, bytes]:
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


def nw_ucla_tar(compression: str, members: dict[str, bytes] | None = None) -> bytes:
    """The recordings as a tar archive; `compression` is "", "gz", "bz2" or "xz"."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:
        for name, data in (members or nw_ucla_members()).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def nw_ucla_zip(members: dict[str, bytes] | None = None) -> bytes:
    """The recordings as a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (members or nw_ucla_members()).items():
            archive.writestr(name, data)
    return buffer.getvalue()


def pyskl(protocol: int) -> bytes:
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
    return pickle.dumps({"split": split, "annotations": annotations}, protocol)


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


def _one_member(rng: random.Random, pack: Callable[[dict[str, bytes]], bytes]) -> bytes:
    """Damage inside an archive that is sound itself."""
    members = nw_ucla_members()
    name = rng.choice(sorted(members))
    members[name] = mutated(members[name], rng)
    return pack(members)


def _tar_gz(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return mutated(nw_ucla_tar("gz"), rng)
    return _one_member(rng, lambda members: nw_ucla_tar("gz", members))


def _zip(rng: random.Random) -> bytes:
    return mutated(nw_ucla_zip(), rng) if rng.random() < 0.5 else _one_member(rng, nw_ucla_zip)


READERS: dict[str, tuple[str, Callable[[random.Random], bytes]]] = {
    "nw-ucla-json": ("a01_s01_e00_v01.json", lambda rng: mutated(next(iter(nw_ucla_members().values())), rng)),
    "nw-ucla-tar": ("data.tar", lambda rng: mutated(nw_ucla_tar(""), rng)),
    "nw-ucla-tar-gz": ("data.tar.gz", _tar_gz),
    "nw-ucla-zip": ("data.zip", _zip),
    "pyskl": ("data.pkl", lambda rng: mutated(pyskl(rng.choice([0, 2, 3, 4, 5])), rng)),
}


class Hang(BaseException):
    """Raised by the alarm; no `except Exception` stops it."""


def _alarm(*_: object) -> None:
    raise Hang


def fuzz(reader: str, count: int, seed: int, folder: Path) -> Counter[str]:
    """Convert `count` mutated inputs; an input that caused a fault stays in `folder`."""
    name, make = READERS[reader]
    outcomes: Counter[str] = Counter()
    previous = signal.signal(signal.SIGALRM, _alarm)
    try:
        for number in range(count):
            source, out = folder / f"{number}" / name, folder / f"{number}" / "out.h5"
            source.parent.mkdir(parents=True)
            source.write_bytes(make(random.Random(f"{reader}/{seed}/{number}")))
            outcome = _outcome(source, out)
            outcomes[outcome] += 1
            if outcome in ("ok", "refused"):
                shutil.rmtree(source.parent)
            else:
                print(f"{reader}: {outcome} by {source}", file=sys.stderr)
    finally:
        signal.signal(signal.SIGALRM, previous)
    return outcomes


def _outcome(source: Path, out: Path) -> str:
    signal.alarm(TIMEOUT)
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
        traceback.print_exc()
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
        folder = Path(tempfile.mkdtemp(prefix=f"skag-fuzz-{reader}-"))
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        outcomes = fuzz(reader, options.count, options.seed, folder)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        bad = sum(outcomes.values()) - outcomes["ok"] - outcomes["refused"]
        faults += bad
        counts = ", ".join(f"{what} {n}" for what, n in sorted(outcomes.items()))
        print(f"{reader}: {counts}; {time.perf_counter() - start:.0f} s, peak memory grew by {grown // 1024} MiB")
        if not bad:
            shutil.rmtree(folder)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
