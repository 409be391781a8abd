"""Which joints carried a decision, measured by holding joints still and looking again.

What is said of a joint is measured. Which joints are looked at is chosen by the gradient, which costs one pass back
through the network: the change of the log-odds of the answer, to first order, if a joint were held still ("gradient x
input", Shrikumar et al., ICML 2017, with the joint's mean place as what is left without it). Where a method has no
gradient, or where every joint is asked for, each joint alone is looked at.

Letters of this file: N recordings, M bodies, T frames, R frames of all recordings, V joints, C coordinates, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from ..skeleton import clips as data
from ..skeleton.layouts import Layout
from .fusion import stream_weight

if TYPE_CHECKING:
    from .predict import Predictor

MOST_CARRIERS = 4  # joints that are held still together
_TOGETHER = (1, 2, MOST_CARRIERS)  # the first joints of the ranking by gradient, as many as are looked at together
AT_ONCE = 8  # views of recordings that are differentiated at a time: what layers gave for them stays in memory
MAX_BATCH_FRAMES = 1 << 16  # of all recordings of a batch; a longer recording is a batch of its own
_LEAST = 1e-30  # of a probability, before its logarithm


@dataclass(frozen=True)
class JointEffect:
    """What the class loses when a joint is held still."""

    joint: str
    drop: float  # of its probability, 1 at most; negative where the joint spoke for other classes


@dataclass(frozen=True)
class Evidence:
    """Which joints carried a decision."""

    joints: tuple[JointEffect, ...]  # held still alone: the first of the ranking, or all in its order
    carried_by: tuple[str, ...]  # the fewest first joints that were held still together and change the answer
    instead: tuple[str, float] | None  # what is then likeliest; None where no `MOST_CARRIERS` joints change it
    ranking: tuple[str, ...]  # all joints, the most telling first: by the odds that the answer loses
    ranked_by: Literal["gradient", "removal"]  # estimated, or measured with each joint alone


def look(
    predictor: Predictor, prepared: Sequence[data.Clips], opinion: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """(what `Predictor.uncalibrated` has of prepared recordings, `[N, K]`; by how much the log-odds of the likeliest
    class change if each joint is held still, to first order, `[N, V]`, or None where no gradient reaches the joints).

    One pass of the network, and one back."""
    at_once = max(1, AT_ONCE // predictor.num_views)
    starts = range(0, len(prepared[0]), at_once)
    parts = [[part_of(clips, start, start + at_once) for clips in prepared] for start in starts]
    opinions = [None if opinion is None else opinion[start : start + at_once] for start in starts]
    found = [_look(predictor, part, said) for part, said in zip(parts, opinions, strict=True)]
    effects = [each for _, each in found if each is not None]
    together = np.concatenate([each for each, _ in found])
    return together, np.concatenate(effects) if len(effects) == len(found) else None


def _look(
    predictor: Predictor, prepared: Sequence[data.Clips], opinion: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    rows = [clips.rows.detach().requires_grad_() for clips in prepared]
    moved = [replace(clips, rows=each) for clips, each in zip(prepared, rows, strict=True)]
    with torch.enable_grad():
        found = predictor.each_run(moved)
    if predictor.chooser is None:
        together = predictor.together([each.detach().cpu().numpy() for each in found], opinion)
    else:
        together = predictor.uncalibrated(prepared, opinion)
    if not all(each.requires_grad for each in found):
        return together, None
    chosen = torch.from_numpy(together.argmax(1)).to(found[0].device)
    with torch.enable_grad():
        odds = _log_odds(predictor, found, None if predictor.chooser is not None else opinion, chosen)
    effects = np.zeros((len(together), predictor.layout.num_joints))
    for clips, gradient in zip(prepared, torch.autograd.grad(odds.sum(), rows, allow_unused=True), strict=True):
        if gradient is None:  # it ends at parameters
            return together, None
        lengths = clips.frames.tolist()
        held = [held_still(each, range(each.shape[2]), clips.layout) for each in clips.rows.split(lengths)]
        change = (gradient * (torch.cat(held) - clips.rows)).sum((1, 3))  # R V
        effects += np.stack([each.sum(0).cpu().numpy() for each in change.split(lengths)])
    return together, effects


def _log_odds(
    predictor: Predictor, found: Sequence[torch.Tensor], opinion: np.ndarray | None, chosen: torch.Tensor
) -> torch.Tensor:
    """The log-odds `[N]` of the `chosen` classes under what the runs `found` `[N, K]` each and the `opinion` say."""
    weights = [stream_weight(run.config.data.stream) if len(found) > 1 else 1.0 for run in predictor.runs]
    fused = torch.stack([weight * each for weight, each in zip(weights, found, strict=True)]).sum(0) / sum(weights)
    logs = fused.clamp(min=_LEAST).log()
    if opinion is not None:
        logs = logs + torch.from_numpy(np.log(np.maximum(opinion, _LEAST)).astype(np.float32)).to(logs.device)
    if predictor.calibration is not None:
        logs = logs / predictor.calibration.temperature
    others = torch.nn.functional.one_hot(chosen, logs.shape[1]).bool()
    odds: torch.Tensor = logs.gather(1, chosen[:, None])[:, 0] - logs.masked_fill(others, -torch.inf).logsumexp(1)
    return odds


def by_gradient(
    predictor: Predictor,
    prepared: Sequence[data.Clips],
    calibrated: np.ndarray,
    effects: np.ndarray,
    opinion: np.ndarray | None = None,
) -> list[Evidence]:
    """Of each of a few prepared recordings, with calibrated probabilities `[N, K]` and the `effects` that `look` found:
    the first joints of the ranking are held still, `_TOGETHER`, in as many looks."""
    orders = [np.argsort(each, kind="stable").tolist() for each in effects]
    which = [(n, tuple(order[:count])) for n, order in enumerate(orders) for count in _TOGETHER]
    found = _held_still(predictor, prepared, which, opinion).reshape(len(orders), len(_TOGETHER), -1)
    return [
        _evidence(predictor, each, order, together, [order[:count] for count in _TOGETHER], alone=None)
        for each, order, together in zip(calibrated, orders, found, strict=True)
    ]


def by_removal(
    predictor: Predictor, prepared: Sequence[data.Clips], calibrated: np.ndarray, opinion: np.ndarray | None = None
) -> Evidence:
    """Of one prepared recording with calibrated probabilities `[K]`: each joint alone is held still, and then the first
    joints together, one more at a time. As many looks as there are joints, and a few."""
    k = int(calibrated.argmax())
    each = [(0, (v,)) for v in range(predictor.layout.num_joints)]
    alone = _held_still(predictor, prepared, each, opinion)[:, k]
    order = np.argsort(np.log(alone) - np.log1p(-alone), kind="stable").tolist()
    firsts = [order[: count + 1] for count in range(min(MOST_CARRIERS, len(order)))]
    together = _held_still(predictor, prepared, [(0, tuple(first)) for first in firsts], opinion)
    return _evidence(predictor, calibrated, order, together, firsts, alone)


def _evidence(
    predictor: Predictor,
    calibrated: np.ndarray,
    order: Sequence[int],
    together: np.ndarray,
    firsts: Sequence[Sequence[int]],
    alone: np.ndarray | None,
) -> Evidence:
    """What is said of one recording: `together` `[n, K]` is what it is taken for with each of the `firsts` held still;
    `alone` `[V]` the probability of its class without each joint, None where that of the first alone is known."""
    names, k = predictor.layout.joints, int(calibrated.argmax())
    measured = [(order[0], together[0, k])] if alone is None else [(v, alone[v]) for v in order]
    changed = np.flatnonzero(together.argmax(1) != k)
    other = together[changed[0]] if len(changed) else None
    return Evidence(
        joints=tuple(JointEffect(names[v], float(calibrated[k] - left)) for v, left in measured),
        carried_by=tuple(names[v] for v in firsts[changed[0]]) if len(changed) else (),
        instead=None if other is None else (predictor.classes[int(other.argmax())], float(other.max())),
        ranking=tuple(names[v] for v in order),
        ranked_by="gradient" if alone is None else "removal",
    )


def _held_still(
    predictor: Predictor,
    prepared: Sequence[data.Clips],
    which: Sequence[tuple[int, Sequence[int]]],
    opinion: np.ndarray | None,
) -> np.ndarray:
    """Calibrated probabilities `[n, K]` of prepared recordings, for each of `which` (recording, joints) with those
    joints held still."""
    found = []
    longest = max(int(clips.frames.max()) for clips in prepared)
    size = max(1, min(predictor.batch_size, MAX_BATCH_FRAMES // longest))
    for start in range(0, len(which), size):
        some = which[start : start + size]
        varied = [versions(clips, some) for clips in prepared]
        said = None if opinion is None else opinion[[n for n, _ in some]]
        found.append(predictor.calibrated(predictor.uncalibrated(varied, said)))
    return np.clip(np.concatenate(found), 1e-15, 1 - 1e-15)


def part_of(clips: data.Clips, start: int, stop: int) -> data.Clips:
    """Some prepared recordings that stand one after another, with their own frames alone."""
    frames, first = clips.frames[start:stop], clips.first_row[start:stop]
    begin, end = int(first[0]), int(first[-1] + frames[-1])
    return data.Clips(
        rows=clips.rows[begin:end],
        first_row=first - begin,
        frames=frames,
        labels=clips.labels[start:stop],
        widths=None if clips.widths is None else clips.widths[start:stop],
        layout=clips.layout,
        rates=None if clips.rates is None else clips.rates[start:stop],
    )


def versions(clips: data.Clips, which: Sequence[tuple[int, Sequence[int]]]) -> data.Clips:
    """Prepared recordings by their numbers, each time with some joints held still."""
    numbers = np.array([n for n, _ in which])
    own = clips.rows.split(clips.frames.tolist())
    chosen = clips.at(numbers)
    rows = [held_still(own[n], joints, clips.layout) for n, joints in which]
    return replace(chosen, rows=torch.cat(rows), first_row=chosen.frames.cumsum(0) - chosen.frames)


def held_still(rows: torch.Tensor, joints: Sequence[int], layout: Layout) -> torch.Tensor:
    """A prepared recording `[T, M, V, C]` in which some joints stay at their mean place of the recording.

    Frames in which a joint was not seen stay as they are, and so do confidences. Compared were, on the test clips of
    UTKinect and SBU with trained networks, how much holding the three most telling joints still takes from the class's
    probability, and how much any three do: mean place 21 and 1 points (UTKinect), 21 and 3 (SBU); coordinates at 0,
    the sign of a joint not seen, 22 and 2, 92 and 58, which measures how odd such a body is; the place of the joint
    that it hangs on 9 and 1, 67 and 14; carried along rigidly by that joint 3 and 0, 17 and 1.
    """
    held, dims = rows.clone(), layout.dims
    which = list(joints)
    points = rows[..., which, :dims]  # T M v C
    seen = points.any(-1, keepdim=True)
    mean = (points * seen).sum(0) / seen.sum(0).clamp(min=1)
    held[..., which, :dims] = torch.where(seen, mean, points)
    return held
