"""What was probably meant by a path that is not there, or that is something else than wanted."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path


def nearest_path(path: Path, fits: Callable[[Path], bool] = Path.exists) -> Path | None:
    """The path beside `path` whose name is most like its own and which `fits`; None where none is like it.

    Endings such as ".h5" say nothing about likeness: they are only compared where the rest is equal.
    """
    folder = path.parent
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".") and fits(folder / name)]
    except OSError:
        return None
    wanted = path.stem.casefold()

    def likeness(name: str) -> tuple[float, bool]:
        ratio = difflib.SequenceMatcher(None, wanted, Path(name).stem.casefold()).ratio()
        return ratio, Path(name).suffix == path.suffix

    best = max(names, key=likeness, default=None)
    return None if best is None or likeness(best)[0] < 0.7 else folder / best


def did_you_mean(path: Path, otherwise: str, fits: Callable[[Path], bool] = Path.exists) -> str:
    """The next step of an error about a missing path: "did you mean ...?", or `otherwise` where nothing is like it."""
    near = nearest_path(path, fits)
    return otherwise if near is None else f"did you mean {near}?"


def nearest_name(name: str, known: Sequence[str]) -> str:
    """The next step of an error about a name that is not known: the known one like it, or all (the first twenty)."""
    folded = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    if near:
        return f"did you mean {folded[near[0]]!r}?"
    return f"known are {', '.join(known[:20])}{', ...' if len(known) > 20 else '.'}" if known else "there is none."


# ---------------------------------------------------------------- what was given in another thing's place

_RECORDINGS = {
    ".csv", ".tsv", ".parquet", ".pq", ".json", ".jsonl", ".npy", ".npz", ".pkl", ".pickle", ".skeleton", ".mat",
    ".bvh", ".c3d", ".amc", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz",
}  # fmt: skip
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"}
_CHECKPOINTS = {".pt", ".pth", ".ckpt"}
_LOOKED_AT = 200  # files of a folder


def what_is(path: Path) -> str:
    """What lies at a path: "nothing", "store", "dialogues", "run", "runs" (a folder of runs), "part of a run",
    "checkpoint", "onnx", "video", "recordings" (a file, folder or archive), "folder" or "file"."""
    try:
        if path.is_dir():
            return _what_folder(path)
        if not path.is_file():
            return "nothing"
        if (kind := _what_hdf5(path)) is not None:
            return kind
        if (path.parent / "config.json").is_file() and (path.parent / "data.json").is_file():
            return "part of a run"
    except OSError:
        return "file"
    ending = path.suffix.lower()
    kinds = {"checkpoint": _CHECKPOINTS, "onnx": {".onnx"}, "video": VIDEOS, "recordings": _RECORDINGS}
    return next((kind for kind, endings in kinds.items() if ending in endings), "file")


def _what_folder(path: Path) -> str:
    names = os.listdir(path)
    if "config.json" in names and len({"data.json", "metrics.jsonl", "best.pt", "last.pt"} & set(names)):
        return "run"
    if any((path / name / "config.json").is_file() and (path / name / "data.json").is_file() for name in names):
        return "runs"
    files = (Path(name) for _, _, found in os.walk(path) for name in found)
    endings = {file.suffix.lower() for file, _ in zip(files, range(_LOOKED_AT), strict=False)}
    if endings & VIDEOS and not endings & _RECORDINGS:
        return "video"
    return "recordings" if endings & _RECORDINGS else "folder"


def _what_hdf5(path: Path) -> str | None:
    import h5py

    if not h5py.is_hdf5(path):
        return None
    try:
        with h5py.File(path, "r") as file:
            kind = file.attrs.get("format")
    except OSError:
        return None
    return {"skag-skeletons": "store", "skag-dialogues": "dialogues"}.get(kind if isinstance(kind, str) else "")


_NO_STORE = {
    "run": "is a run folder, no skeleton store: `skag eval {path}` evaluates it, `skag predict {path} FILES` uses it",
    "runs": "is a folder of runs, no skeleton store: `skag runs {path}` lists them",
    "part of a run": "belongs to a run, and is no skeleton store: `skag eval {folder}` evaluates that run",
    "dialogues": "is a dialogue store, no skeleton store: give it as --store {path}, and the recordings' store here",
    "checkpoint": "is a checkpoint, no skeleton store: `skag convert {path} RUN --recipe NAME` imports a published one",
    "onnx": "is an exported network, no skeleton store: give what `skag convert` made of recordings",
    "recordings": "holds recordings, and is no skeleton store yet: `skag convert {path} {name}.h5` makes one; "
    "`skag predict RUN {path}` recognises them",
    "video": "is video, no skeleton store: a pose estimator makes joints of it for `skag convert` (docs/formats.md)",
    "folder": "is a folder, no skeleton store: `skag convert {path} {name}.h5` makes one of recordings",
}
_NO_RUN = {
    "store": "is a skeleton store, no run folder: `skag train {path}` makes a run of it; in a command that takes "
    "both, the run comes first, as in `skag predict RUN {path}`",
    "runs": "is a folder of runs: give one of them; `skag runs {path}` lists them",
    "part of a run": "is a file of a run: give its folder, {folder}",
    "dialogues": "is a dialogue store, no run folder: give the run, and this as --store {path}",
    "checkpoint": "is a checkpoint, no run folder: `skag convert {path} RUN --recipe NAME` imports a published one",
    "onnx": "is an exported network, no run folder: give the run that it was exported from",
    "recordings": "holds recordings, and a run folder is wanted: `skag predict RUN {path}` recognises them, "
    "`skag convert {path} {name}.h5` makes a store to train on",
    "video": "is video, and a run folder is wanted: a pose estimator makes joints of it for `skag predict RUN FILES`",
    "folder": "is a folder without a config.json, no run: `skag train DATA.h5` makes runs, `skag runs` lists them",
}
_NO_RECORDINGS = {
    "store": "is a skeleton store already: `skag check {path}` looks at it, `skag train {path}` trains on it",
    "run": "is a run folder and holds no recordings: `skag eval {path}` evaluates it, `skag predict {path} FILES` "
    "uses it",
    "runs": "is a folder of runs and holds no recordings: `skag runs {path}` lists them",
    "part of a run": "belongs to a run and holds no recordings: `skag eval {folder}` evaluates that run",
    "dialogues": "is a dialogue store and holds no recordings: give it as --store {path}",
    "onnx": "is an exported network and holds no recordings",
}


def no_store(path: Path) -> str | None:
    """Why something that is there is no skeleton store, with the command that it is for; None where nothing is known.

    For whoever opens a store: raise it where it is none.
    """
    return _said(path, _NO_STORE)


def no_run(path: Path) -> str | None:
    """Why something that is there is no run folder, with the command that it is for; None where nothing is known.

    For whoever opens a run: raise it where it has no config.json.
    """
    return _said(path, _NO_RUN)


def no_recordings(path: Path) -> str | None:
    """Why something of skag's own is no recordings, with the command that it is for; None where nothing is known."""
    return _said(path, _NO_RECORDINGS)


def _said(path: Path, sentences: dict[str, str]) -> str | None:
    if (sentence := sentences.get(what_is(path))) is None:
        return None
    shown = {"path": shlex.quote(str(path)), "folder": shlex.quote(str(path.parent)), "name": path.name.split(".")[0]}
    return f"{path} {sentence.format(**shown)}."
