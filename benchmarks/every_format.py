"""Recordings of every format through convert, check, show and one training epoch, as a user would do it.

    python benchmarks/every_format.py [--out FILE.json] [FORMAT ...]

Real recordings where they are at hand, simulated people otherwise (`made_recordings.py`). The exit code is 1 where a
command failed; findings of `skag check` are no failure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from made_recordings import MADE, source

NEEDS = {"utd-mhad": "scipy", "parquet": "pyarrow"}


def skag(*arguments: object) -> tuple[int, dict | None, str]:
    """Exit code, the JSON document on stdout, and the last line on stderr."""
    command = [sys.executable, "-m", "skag", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    document = json.loads(done.stdout) if done.stdout.strip() else None
    return done.returncode, document, (done.stderr.strip().splitlines() or [""])[-1]


def through(name: str, folder: Path) -> dict[str, object]:
    """What a format's recordings came to."""
    path, kind = source(name, folder / "in")
    data = folder / "data.h5"
    row: dict[str, object] = {"format": name, "recordings": kind}
    code, report, said = skag("convert", path, data)
    if code:
        return row | {"failed": f"convert: {said}"}
    row |= {"clips": report["clips"], "left out": len(report["skipped"]), "layout": report["layout"]}
    row["splits"] = report["splits"]
    code, report, said = skag("check", data)
    if report is None:
        return row | {"failed": f"check: {said}"}
    levels = Counter(finding["level"] for finding in report["findings"])
    row |= {"errors": levels["error"], "remarks": sum(levels.values()) - levels["error"]}
    row["findings"] = [finding["kind"] for finding in report["findings"]]
    for ending in ("png", "html"):
        code, _, said = skag("show", data, 0, "--out", folder / f"clip.{ending}")
        if code or not (folder / f"clip.{ending}").stat().st_size:
            return row | {"failed": f"show: {said}"}
    protocol = next(split.removesuffix("train").rstrip("_") for split in row["splits"] if split.endswith("train"))
    options = ["--protocol", protocol or "default", "--epochs", 1, "--alpha", 0, "--beta", 0, "--device", "cpu"]
    small = ["--set", "network.channels=8,16", "--set", "network.strides=1,2", "--set", "data.num_frames=16"]
    code, report, said = skag("train", data, "--out", folder / "run", *options, *small)
    if code:
        return row | {"failed": f"train: {said}"}
    last = json.loads((folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    return row | {"epoch": last}


def main() -> int:
    """Go through the formats named on the command line, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"of {', '.join(MADE)}; all by default")
    parser.add_argument("--out", type=Path, help="where to write the table as JSON")
    options = parser.parse_args()
    if unknown := set(options.formats) - set(MADE):
        parser.error(f"no format {sorted(unknown)[0]!r}")
    rows = []
    print("format        recordings  clips  left out  errors  remarks  show  epoch")
    for name in options.formats or MADE:
        if name in NEEDS and find_spec(NEEDS[name]) is None:
            rows.append({"format": name, "not tried": f"{NEEDS[name]} is not installed"})
            print(f"{name:13} {NEEDS[name]} is not installed", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = through(name, Path(folder))
        rows.append(row)
        numbers = [row.get(key, "") for key in ("recordings", "clips", "left out", "errors", "remarks")]
        cells = "{:11} {:>5}  {:>8}  {:>6}  {:>7}".format(*numbers)
        print(
            f"{name:13} {cells}  {'ok  ' if 'epoch' in row else ''}  {'ok' if 'epoch' in row else row['failed']}",
            flush=True,
        )
    if options.out:
        options.out.write_text(json.dumps({"command": " ".join(sys.argv), "rows": rows}, indent=1) + "\n")
    return 1 if any("failed" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
