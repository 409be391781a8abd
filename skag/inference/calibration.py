"""How sure a run may be: a temperature for its probabilities and a threshold for "none of these".

Both are fitted on the clips that the run held out from training, never on the test split, and kept in the run folder
as `calibration.json`, or `calibration-<12 hex digits>.json` in the first of several fused runs. A network whose weights
have changed since is calibrated anew.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import metrics, runs
from . import added

FILE = "calibration.json"
_LEAST = 1e-12  # of a probability, before its logarithm is taken


@dataclass(frozen=True)
class Calibration:
    """What was fitted on held-out clips; errors are in percent, as `metrics.expected_calibration_error` has them."""

    temperature: float
    confidences: tuple[float, ...]  # calibrated probability of the likeliest class of every held-out clip, rising
    top1: float  # percent of the held-out clips that are right
    ece_before: float  # expected calibration error
    ece: float
    networks: tuple[str, ...]  # SHA-256 of every run's best.pt, and of the discriminant that is asked beside them
    num_views: int

    @property
    def fitted_on(self) -> int:
        """Number of held-out clips."""
        return len(self.confidences)

    def threshold(self, rate: float) -> float:
        """The probability below which the likeliest class is no answer, for at most the share `rate` of recordings of
        known classes: that of the held-out clip below which no more than `rate` of them lie.

        With few held-out clips the share is coarse: at 20 clips, a rate below 0.05 is as good as 0, and the threshold
        that of the least sure clip.
        """
        if not 0 <= rate < 1:
            raise ValueError(f"rate is {rate}, and must be at least 0 and below 1")
        return self.confidences[math.floor(rate * self.fitted_on + 1e-9)]


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities `[..., K]` at another temperature: in proportion to p^(1/temperature), the class order unchanged.

    For one network seen once this is the softmax of its logits over the temperature (Guo et al., ICML 2017); for
    averages over views or runs, which have no logits, it takes their logarithm in the place of logits.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), _LEAST)) / temperature
    logits -= logits.max(-1, keepdims=True)
    tempered = np.exp(logits)
    return tempered / tempered.sum(-1, keepdims=True)


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature under which `labels` `[N]` are likeliest given `probabilities` `[N, K]` (Guo et al., ICML 2017).

    A penalty (a normal distribution of standard deviation ln 2 on the logarithm of the temperature, as in
    `evaluate.fit_weights`) keeps it near 1 where clips are few: of twenty clips that are all right the bare likelihood
    makes a certainty.
    """
    logits_NK = torch.from_numpy(probabilities).double().clamp_min(_LEAST).log()
    labels_N = torch.from_numpy(np.asarray(labels, np.int64))
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        likelihood = torch.nn.functional.cross_entropy(logits_NK / log_temperature.exp(), labels_N, reduction="sum")
        total = (likelihood + 0.5 * (log_temperature / math.log(2)).square()) / len(labels_N)
        total.backward()
        return total

    optimizer.step(loss)
    return float(log_temperature.detach().exp())


def fit(labels: np.ndarray, probabilities: np.ndarray, networks: Sequence[str], num_views: int) -> Calibration:
    """Calibrate on held-out clips: `labels` `[N]`, uncalibrated `probabilities` `[N, K]`."""
    temperature = fit_temperature(labels, probabilities)
    calibrated = temper(probabilities, temperature)
    return Calibration(
        temperature=temperature,
        confidences=tuple(np.sort(calibrated.max(1)).tolist()),
        top1=metrics.accuracy(labels, probabilities).top1,
        ece_before=metrics.expected_calibration_error(labels, probabilities),
        ece=metrics.expected_calibration_error(labels, calibrated),
        networks=tuple(networks),
        num_views=num_views,
    )


def network_hash(run: Path) -> str:
    """SHA-256 of a run's weights, and of the classes added to them."""
    with (run / "best.pt").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    if (run / added.FILE).exists():
        digest.update((run / added.FILE).read_bytes())
    return digest.hexdigest()


def path_for(folder: Path, networks: Sequence[str]) -> Path:
    """Where the calibration of these networks is kept; `folder` is that of the first."""
    if len(networks) == 1:
        return folder / FILE
    together = hashlib.sha256("".join(networks).encode()).hexdigest()
    return folder / f"calibration-{together[:12]}.json"


def save(folder: Path, calibration: Calibration) -> Path:
    """Write a calibration into the run folder; returns its path."""
    path = path_for(folder, calibration.networks)
    runs.write_json(path, asdict(calibration))
    return path


def load(folder: Path, networks: Sequence[str], num_views: int) -> Calibration | None:
    """The calibration kept for these networks and views; None where there is none, or one of others."""
    path = path_for(folder, networks)
    if not path.exists():
        return None
    found = _read(runs.read_json(folder, path.name))
    if found is None or found.networks != tuple(networks) or found.num_views != num_views:
        return None
    return found


def _read(values: dict[str, Any]) -> Calibration | None:
    """A calibration from what JSON made of it, or None where it is none: it is then fitted anew."""
    try:
        found = Calibration(**values | {name: tuple(values[name]) for name in ("confidences", "networks")})
        usable = found.temperature > 0 and len(found.confidences) > 0 and all(0 <= p <= 1 for p in found.confidences)
    except (TypeError, KeyError):
        return None
    return found if usable else None
