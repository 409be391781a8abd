"""Everything that a user of `SkeletonAgent` can see, as one JSON document.

    python -m tests.equality.record demo tests/equality/demo.json
    python -m tests.equality.record nw-ucla tests/equality/nw-ucla.json ../shared/data/nw-ucla-raw.tar.gz

It goes through the command line alone, so that the same file runs on any version: convert, describe, a training of two
epochs with a refresh, the same interrupted after its first epoch and resumed, repeated, evaluated and analysed.
Hashes are compared where processor and libraries are those of the record (`environment`), numbers everywhere.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from typer.testing import CliRunner

from skag import runs
from skag.cli import app

RECIPES = {"demo": "demo", "nw-ucla": "nw-ucla-small"}
_DIGITS = 3  # of a number in a document


def environment() -> dict[str, str]:
    """What decides how sums are rounded."""
    cpu = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpu.read_text()) if cpu.exists() else None
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "processor": found[1] if found else "unknown",
    }


def observe(name: str, folder: Path, source: Path | None = None) -> dict[str, Any]:
    """Run everything in `folder` on the recordings of `name`, a key of `RECIPES`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _observe(name, folder, source)
    finally:
        torch.set_num_threads(threads)


def _observe(name: str, folder: Path, source: Path | None) -> dict[str, Any]:
    data, store, run = folder / "data.h5", folder / "dialogues.h5", folder / "run"
    words: list[Any] = [source]
    if source is None:
        _invoke("simulate", folder / "recordings")
        words = [folder / "recordings" / "recordings.pkl", "--classes", folder / "recordings" / "classes.txt"]
    documents = {"convert": document("convert", words[0], data, *words[1:])}
    documents["describe"] = document("describe", data, "--llm", "measured", "--store", store)
    settings = ["--recipe", RECIPES[name], "--epochs", 2, "--seed", 3, "--store", store, "--device", "cpu"]
    settings += ["--set", "agents.query_period=1"]
    documents["train"] = document("train", data, *settings, "--out", run)
    resumed = folder / "resumed"
    interrupted("train", data, *settings, "--out", resumed)
    document("train", "--resume", resumed)
    document("train", "--repeat", run, "--out", folder / "repeated")
    documents["eval"] = document("eval", run)
    documents["analyze-confusion"] = document("analyze-confusion", run)
    with np.load(next(run.glob("predictions-*.npz"))) as saved:
        probabilities = saved["probabilities"]
    exchanges = [json.loads(line) for line in (run / "dialogues.jsonl").read_text().splitlines()]
    return {
        "environment": environment(),
        "documents": {name: _settled(value, folder) for name, value in documents.items()},
        "exchange_keys": digest(sorted(exchange["key"] for exchange in exchanges)),
        "exchanges": len(exchanges),
        "weights": {each.name: weights(each) for each in (run, resumed, folder / "repeated")},
        "predictions": digest(probabilities),
        "mean_probabilities": probabilities.mean(0).round(_DIGITS).tolist(),
        "metrics": _settled([_timeless(line) for line in runs.read_lines(run / "metrics.jsonl")], folder),
        "refreshes": _settled([_timeless(line) for line in runs.read_lines(run / "refreshes.jsonl")], folder),
        "class_knowledge": [_changed(line) for line in runs.read_lines(run / "class_knowledge.jsonl")[1:]],
    }


def _invoke(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def document(*words: object) -> dict[str, Any]:
    return json.loads(_invoke(*words, "--json", "--quiet"))


def interrupted(*words: object) -> None:
    """A training that ends as its second epoch is to be written down."""
    append = runs.append_line

    def append_or_stop(path: Path, value: Any) -> None:
        if path.name == "metrics.jsonl" and value["epoch"] == 2:
            raise InterruptedError
        append(path, value)

    with patch.object(runs, "append_line", append_or_stop):
        result = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(result.exception, InterruptedError), result.output


def weights(run: Path) -> str:
    best = torch.load(run / "best.pt", map_location="cpu", weights_only=True)["model"]
    last = torch.load(run / "last.pt", map_location="cpu", weights_only=True)["training_model"]
    return digest([best, last])


def digest(value: Any) -> str:
    sha = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value):
                sha.update(key.encode())
                add(value[key])
        elif isinstance(value, list):
            for each in value:
                add(each)
        elif isinstance(value, torch.Tensor):
            add(value.detach().cpu().numpy())
        elif isinstance(value, np.ndarray):
            sha.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
        else:
            sha.update(str(value).encode())

    add(value)
    return sha.hexdigest()[:24]


def _changed(line: dict[str, Any]) -> dict[str, Any]:
    """What a refresh changed of the network's knowledge."""
    kept = {name: {key: known[key] for key in ("sentence", "joints")} for name, known in line["classes"].items()}
    return {"epoch": line["epoch"], "classes": kept}


def _timeless(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "seconds"}


def _settled(value: Any, folder: Path) -> Any:
    """A document without what changes from one call to the next: the folder, times; numbers rounded."""
    if isinstance(value, dict):
        return {key: _settled(each, folder) for key, each in value.items() if key not in ("seconds", "usage_before")}
    if isinstance(value, list):
        return [_settled(each, folder) for each in value]
    if isinstance(value, float):
        return round(value, _DIGITS)
    return value.replace(str(folder), "FOLDER") if isinstance(value, str) else value


def main() -> None:
    name, out, *source = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        found = observe(name, Path(folder), Path(source[0]) if source else None)
    Path(out).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
