"""Classes that were added to a trained run by a few recordings: what is kept of them, and how they are answered.

A run folder with added classes has `added.npz`, arrays alone, and says in `config.json` under "added" what each is made
of. The trained classes keep their scores; an added class stands beside them by how much nearer a clip lies to its
prototype than to that of any trained class.

Letters of this file: N clips, D width of the embedding, K trained classes, A added ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import runs
from ..errors import RunError
from ..methods.base import Candidate, Classifier

FILE = "added.npz"


@dataclass(frozen=True)
class Added:
    """The added classes of a run."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]  # empty where none was given
    trained: np.ndarray  # float32 [K, D] prototypes of the trained classes, of length 1
    prototypes: np.ndarray  # float32 [A, D] of length 1
    scale: np.ndarray  # float32 [A] how much a difference of cosines counts

    def save(self, folder: Path) -> None:
        arrays = {name: getattr(self, name) for name in ("trained", "prototypes", "scale")}

        def write(file: IO[bytes]) -> None:
            np.savez(file, **arrays)

        runs.write_whole(folder / FILE, write)


def read_added(folder: Path, facts: Mapping[str, Any]) -> Added | None:
    """The added classes of a run with the config.json `facts`; None where there are none. Raises `RunError`."""
    records = facts.get("added")
    if not records:
        return None
    path = folder / FILE
    try:
        names = tuple(str(each["name"]) for each in records)
        descriptions = tuple(str(each["description"] or "") for each in records)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            arrays = {name: kept[name].astype(np.float32) for name in ("trained", "prototypes", "scale")}
        A, D = len(names), arrays["prototypes"].shape[1]
        wanted = {"trained": (len(facts["classes"]), D), "prototypes": (A, D), "scale": (A,)}
        if any(arrays[name].shape != shape or not np.isfinite(arrays[name]).all() for name, shape in wanted.items()):
            raise ValueError("its parts do not fit each other")
    except Exception as error:  # zip, numpy and key errors alike: the file is not what we wrote
        raise RunError(
            f"{path} is damaged ({type(error).__name__}): take it from a copy, or add the classes again."
        ) from None
    return Added(names, descriptions, **arrays)


class WithAdded:
    """A classifier that also answers for added classes. What the trained classes have among themselves stays as it is.

    Of an added class with the prototype p the log-odds against all trained ones together are scale * (cos(e, p) -
    max_k cos(e, p_k)), where e is a clip's embedding and p_k are the trained classes' prototypes.
    """

    def __init__(self, inner: Classifier, classes: Sequence[str], added: Added) -> None:
        self.inner, self.classes, self.added = inner, tuple(classes), added
        self._arrays: dict[torch.device, tuple[Tensor, ...]] = {}

    @property
    def model(self) -> nn.Module:
        return self.inner.model

    def __getattr__(self, name: str) -> Any:
        """What else the method's own classifier offers."""
        if name == "inner":  # while it is being made
            raise AttributeError(name)
        return getattr(self.inner, name)

    def log_scores(self, x: Tensor, candidates: Sequence[Candidate] | None = None) -> Tensor:
        """See `methods.base.Classifier`: without candidates, the trained classes and then the added ones."""
        names = self.added.names
        if candidates is None:
            return torch.cat([self.inner.log_scores(x).log_softmax(1), self.log_odds(x)], 1)
        own = [names.index(each.name) if each.name in names else -1 for each in candidates]
        if max(own) < 0:
            return self.inner.log_scores(x, candidates)
        odds = self.log_odds(x)
        rest = [each for each, number in zip(candidates, own, strict=True) if number < 0]
        others = self.inner.log_scores(x, rest).log_softmax(1) if rest else odds[:, :0]
        columns = iter(range(len(rest)))
        found = [others[:, next(columns)] if number < 0 else odds[:, number] for number in own]
        return torch.stack(found, 1)

    def log_odds(self, x: Tensor) -> Tensor:
        """Of the added classes, `[N, A]`, each against all trained ones."""
        embedding = F.normalize(self.inner.embed(x).float(), dim=1)  # type: ignore[attr-defined]  # optional
        trained, prototypes, scale = self._on(embedding.device)
        nearest = (embedding @ trained.T).max(1, keepdim=True).values
        return scale * (embedding @ prototypes.T - nearest)

    def _on(self, device: torch.device) -> tuple[Tensor, ...]:
        if device not in self._arrays:
            arrays = (self.added.trained, self.added.prototypes, self.added.scale)
            self._arrays[device] = tuple(torch.from_numpy(array).to(device) for array in arrays)
        return self._arrays[device]
