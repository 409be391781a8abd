"""A training that starts from what was trained before: a run, or a published checkpoint, perhaps of other classes and
of another layout.

A weight is taken over where it has the same name and shape. Along joints and classes, which a method's `axes` name, it
is taken over where joint or class has the same name in both; what has no namesake begins anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import runs
from ..config import Config
from ..errors import RunError
from ..methods import DEFAULT, method
from ..skeleton.layouts import Layout

JOINTS, CLASSES = "joints", "classes"  # as a method's `axes` name them
Axes = Mapping[str, Sequence[int | str]]  # how the end of a weight's name begins -> its axes
_SHOWN = 4  # names in a message


@dataclass(frozen=True)
class Start:
    """What a training starts from."""

    path: Path
    sha256: str  # of the weights' file
    weights: Mapping[str, Tensor]
    joints: tuple[str, ...]
    classes: tuple[str, ...]  # empty where a checkpoint does not say
    config: Config | None  # of a run
    method: str
    layout: str
    changes: tuple[str, ...] = ()  # FIELD=VALUE: a network of its shape, of a checkpoint

    def to_record(self) -> dict[str, Any]:
        """For config.json."""
        return {"path": str(self.path.resolve()), "sha256": self.sha256, "layout": self.layout, "method": self.method}


@dataclass(frozen=True)
class Taken:
    """What became of every weight of the new network, by name."""

    whole: tuple[str, ...] = ()
    partly: tuple[str, ...] = ()  # along joints or classes
    anew: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()  # that were matched
    new_joints: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    new_classes: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """For config.json: how many weights were taken over, and which joints and classes."""
        counts = {"weights_whole": len(self.whole), "weights_partly": len(self.partly), "weights_anew": list(self.anew)}
        named = {"joints": self.joints, "new_joints": self.new_joints}
        return counts | {name: list(each) for name, each in (named | {"classes": self.classes}).items()}

    def lines(self) -> list[str]:
        """What was taken over and what begins anew, for people."""
        found = [
            f"{len(self.whole)} weights taken over whole, {len(self.partly)} for the joints and classes that both have",
            f"joints taken over: {_listed(self.joints)}; anew: {_listed(self.new_joints)}",
            f"classes taken over: {_listed(self.classes)}; anew: {_listed(self.new_classes)}",
        ]
        if self.anew:
            found.append(f"weights that begin anew: {_listed(self.anew)}")
        return found


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none"
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def open_start(path: Path, of_method: str | None = None) -> Start:
    """A run folder, or a published checkpoint of the method (the usual one where none is named), to start from. Raises
    `RunError`."""
    if path.is_dir() or not path.suffix:
        return _of_run(path)
    name = of_method or DEFAULT
    read = getattr(method(name), "published_start", None)
    if read is None:
        raise RunError(f"there are no published checkpoints of {name} that skag reads: give a run folder to --from.")
    if not path.is_file():
        raise RunError(f"no checkpoint {path}: give a run folder or a published .pth to --from.")
    weights, layout, changes = read(path)
    return Start(path, _sha256(path), weights, tuple(layout.joints), (), None, name, layout.name, tuple(changes))


def _of_run(path: Path) -> Start:
    facts, config = runs.read_json(path, runs.CONFIG), runs.read_config(path)
    name = facts.get("method", DEFAULT)
    first = method(name).stages(config)[0]
    file = next((path / each for each in (f"{first}.pt", "best.pt") if (path / each).exists()), None)
    if file is None:
        raise RunError(f"{path} has no best.pt, since no epoch of it was finished: there is nothing to start from.")
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)["model"]
        layout = Layout.from_dict(facts["layout"], str(path / runs.CONFIG))
        classes = tuple(map(str, facts["classes"]))
    except Exception as error:  # a damaged or foreign file fails in many ways, none of them runs code
        raise RunError(f"{file} cannot be loaded ({str(error).splitlines()[0]}): train that run again.") from None
    return Start(path, _sha256(file), weights, tuple(layout.joints), classes, config, name, layout.name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reopened(record: Mapping[str, Any]) -> Start:
    """What a run noted that it started from. Raises `RunError` where that is gone or another."""
    path = Path(str(record["path"]))
    start = open_start(path, str(record["method"]))
    if start.sha256 != record["sha256"]:
        raise RunError(f"{path} has changed since the run started from it: train it anew, with --from.")
    return start


def axes_of(of_method: Any, config: Config) -> Axes:
    """A method's `axes`; none where it has none, and then only weights of equal shape are taken over."""
    axes = getattr(of_method, "axes", None)
    return {} if axes is None else axes(config)


def take_over(start: Start, model: torch.nn.Module, axes: Axes, layout: Layout, classes: Sequence[str]) -> Taken:
    """Load into `model`, a network for clips of `layout` and `classes`, what fits of `start`. Raises `RunError` where
    nothing of the body of the network does."""
    own = model.state_dict()
    names = {JOINTS: (start.joints, tuple(layout.joints)), CLASSES: (start.classes, tuple(classes))}
    places = {axis: _matched(*pair) for axis, pair in names.items()}
    found: dict[str, list[str]] = {"whole": [], "partly": [], "anew": []}
    with torch.no_grad():
        for name, tensor in own.items():
            theirs = start.weights.get(name)
            how = "anew"
            if theirs is not None:
                how = _copied(tensor, theirs, _axes_of(name, axes), places, names)
            found[how].append(name)
    trained = {name for name, parameter in model.named_parameters() if parameter.ndim > 1}
    if not any(name in trained and not _axes_of(name, axes) for name in found["whole"]):
        raise RunError(
            f"nothing of {start.path} fits the network of this recipe ({_why(own, start.weights)}): leave out "
            "--recipe, so that its own network is trained on, or train without --from."
        )
    model.load_state_dict(own)
    matched = {axis: [names[axis][1][place] for place in pair[1]] for axis, pair in places.items()}
    return Taken(
        whole=tuple(found["whole"]),
        partly=tuple(found["partly"]),
        anew=tuple(found["anew"]),
        joints=tuple(matched[JOINTS]),
        new_joints=tuple(each for each in layout.joints if each not in matched[JOINTS]),
        classes=tuple(matched[CLASSES]),
        new_classes=tuple(each for each in classes if each not in matched[CLASSES]),
    )


def _why(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    for name, tensor in own.items():
        if name in theirs and theirs[name].shape != tensor.shape:
            return f"{name} is {list(theirs[name].shape)} there and {list(tensor.shape)} here"
    return "no weight has the same name"


def _matched(theirs: Sequence[str], own: Sequence[str]) -> tuple[list[int], list[int]]:
    """Numbers of the names that both have, (theirs, own)."""
    number = {name.casefold(): place for place, name in enumerate(theirs)}
    pairs = [(number[name.casefold()], place) for place, name in enumerate(own) if name.casefold() in number]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _axes_of(name: str, axes: Axes) -> Sequence[int | str]:
    """The axes of a weight: those of the last part of its name, or the last two, that `axes` knows; none: plain."""
    return next((found for end, found in axes.items() if name == end or name.endswith(f".{end}")), ())


def _copied(
    own: Tensor,
    theirs: Tensor,
    axes: Sequence[int | str],
    places: Mapping[str, tuple[list[int], list[int]]],
    names: Mapping[str, tuple[Sequence[str], Sequence[str]]],
) -> str:
    """Copy what fits into `own`: "whole", "partly" or "anew"."""
    if not axes:
        if own.shape != theirs.shape:
            return "anew"
        own.copy_(theirs)
        return "whole"
    try:
        there = theirs.reshape([_size(names, axis, 0) for axis in axes])
        here = own.view([_size(names, axis, 1) for axis in axes])
    except RuntimeError:  # of another width, or for another number of bodies
        return "anew"
    plain = [n for n, axis in enumerate(axes) if not isinstance(axis, str)]
    if any(there.shape[n] != here.shape[n] for n in plain):
        return "anew"
    every = [list(range(size)) for size in here.shape]
    to = [places[axis][1] if isinstance(axis, str) else every[n] for n, axis in enumerate(axes)]
    of = [places[axis][0] if isinstance(axis, str) else every[n] for n, axis in enumerate(axes)]
    if not all(to):
        return "anew"
    for n, rows in enumerate(of):
        there = there.index_select(n, torch.tensor(rows))
    here[torch.meshgrid(*map(torch.tensor, to), indexing="ij")] = there.to(here)
    return "whole" if [len(rows) for rows in to] == list(here.shape) else "partly"


def _size(names: Mapping[str, tuple[Sequence[str], Sequence[str]]], axis: int | str, which: int) -> int:
    return len(names[axis][which]) if isinstance(axis, str) else axis
