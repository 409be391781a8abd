"""How fast `convert` is, per format, against a plain copy of the same bytes in the same run.

    python benchmarks/conversion.py [--mib 12] [--out FILE.json] [FORMAT ...]

Real recordings where they are at hand, simulated people otherwise (`made_recordings.py`), of at least `--mib` MiB. MB/s
are of the bytes of the source as it lies there (a .tar.gz counts packed). Everything is read once beforehand, so that
it comes from the page cache; the copy is written beside the store. Processor seconds are those of all processes: on a
machine that others use too they say more than the clock. Best of three.

    python benchmarks/conversion.py --memory 1000 20000

measures instead the memory for so many raw NTU RGB+D files, of the process that writes and of one that reads.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread

from every_format import NEEDS
from made_recordings import DATA, MADE, kinect_text, source, takes

from skag.convert import convert
from skag.parallel import usable_cores

WLASL = DATA / "wlasl-pyskl-annotations.pkl"
RUNS = 3
FRAMES_IN_MEMORY_TEST = 20


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in files_of(path))


def files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def copy(path: Path, to: Path) -> None:
    """Copy all files of a source."""
    for number, file in enumerate(files_of(path)):
        shutil.copyfile(file, to / str(number))


def timed(work: object, *arguments: object, **options: object) -> tuple[float, float]:
    """Seconds by the clock and of the processor, of this process and of those it started."""
    before, start = os.times(), time.perf_counter()
    work(*arguments, **options)
    wall, after = time.perf_counter() - start, os.times()
    return wall, sum(after[:4]) - sum(before[:4])


def measure(name: str, path: Path, kind: str, jobs: int, folder: Path) -> dict[str, object]:
    """Conversion and copy of one source."""
    size = size_of(path)
    copies, alone, together = [], [], []
    for run in range(RUNS):
        (folder / f"copy{run}").mkdir()
        copies.append(timed(copy, path, folder / f"copy{run}"))
        alone.append(timed(convert, path, folder / "1.h5"))
        together.append(timed(convert, path, folder / "2.h5", jobs=jobs))
        shutil.rmtree(folder / f"copy{run}")
    same = (folder / "1.h5").read_bytes() == (folder / "2.h5").read_bytes()
    (copied, _), (seconds, processor), (seconds_together, _) = min(copies), min(alone), min(together)
    return {
        "format": name,
        "recordings": kind,
        "MB": size / 1e6,
        "copy MB/s": size / 1e6 / copied,
        "convert MB/s": size / 1e6 / seconds,
        "convert MB per processor second": size / 1e6 / processor,
        f"convert MB/s with {jobs} jobs": size / 1e6 / seconds_together,
        "copy / convert": seconds / copied,
        "same store": same,
    }


def large_enough(name: str, folder: Path, least: int) -> tuple[Path, str]:
    """A source of at least so many bytes; a real one as it is."""
    repetitions = 3
    while True:
        path, kind = source(name, folder / str(repetitions), 6, repetitions)
        size = size_of(path)
        if kind == "real" or size >= least or repetitions >= 9:
            return path, kind
        shutil.rmtree(folder / str(repetitions))
        repetitions = min(9, 1 + int(repetitions * least / size))


def memory_of(process: int) -> int:
    """Resident bytes of a process, without what it shares with others; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except (OSError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


def children() -> list[int]:
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def memory(count: int, jobs: int, folder: Path) -> dict[str, object]:
    """Most memory while `count` files are converted."""
    clip = takes(2, 1, 1)[0].joints[:FRAMES_IN_MEMORY_TEST]
    text = kinect_text(clip, 1)
    (folder / "in").mkdir()
    for n in range(count):
        performer, repetition, action = n % 100 + 1, n // 6000 + 1, n // 100 % 60 + 1
        (folder / "in" / f"S001C001P{performer:03}R{repetition:03}A{action:03}.skeleton").write_bytes(text)
    before, most, done = memory_of(os.getpid()), {"writes": 0, "reads": 0}, Event()

    def watch() -> None:
        while not done.wait(0.1):
            most["writes"] = max(most["writes"], memory_of(os.getpid()) - before)
            most["reads"] = max([most["reads"], *map(memory_of, children())])

    watching = Thread(target=watch)
    watching.start()
    report = convert(folder / "in", folder / "out.h5", jobs=jobs)
    done.set()
    watching.join()
    assert report.clips == count
    row = {"files": count, "MB": count * len(text) / 1e6, "jobs": jobs}
    return row | {f"MiB more of the process that {what}": bytes >> 20 for what, bytes in most.items()}


def show(row: dict[str, object]) -> None:
    values = (f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
    print(", ".join(values), flush=True)


def main() -> int:
    """Measure the formats named on the command line, or all; or memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"of {', '.join(MADE)}; all by default")
    parser.add_argument("--mib", type=float, default=12, help="least length of made recordings (default 12)")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="processes (default: one per core)")
    parser.add_argument("--memory", type=int, nargs="+", metavar="FILES", help="measure memory for so many files")
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    options = parser.parse_args()
    if unknown := set(options.formats) - set(MADE):
        parser.error(f"no format {sorted(unknown)[0]!r}")
    rows = []
    for count in options.memory or ():
        with tempfile.TemporaryDirectory() as folder:
            rows.append(memory(count, options.jobs, Path(folder)))
            show(rows[-1])
    for name in () if options.memory else options.formats or MADE:
        if name in NEEDS and find_spec(NEEDS[name]) is None:
            print(f"{name}: {NEEDS[name]} is not installed", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            path, kind = large_enough(name, Path(folder) / "in", int(options.mib * (1 << 20)))
            rows.append(measure(name, path, kind, options.jobs, Path(folder)))
            show(rows[-1])
            if name == "pyskl" and WLASL.exists():
                rows.append(measure(name, WLASL, "real", options.jobs, Path(folder)))
                show(rows[-1])
    if options.out:
        machine = {"cores": usable_cores(), "load": os.getloadavg()[0]}
        document = {"command": " ".join(sys.argv), "machine": machine, "rows": rows}
        options.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(row.get("same store", True) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
