"""Copies of a recording among many clips: under other names, cut, moved, or with noise.

Equal clips are found by a hash, by whoever asks. For others every clip gets a signature: the highest and lowest value
over time of fixed random projections of its pose. Cutting off a start or an end leaves most of them, noise hardly moves
them, and the order of frames does not matter. Clips that agree in three quantised values and lie close in a fourth, of
several random choices, are candidates: sorting finds them, so that the time grows as n log n. Candidates are laid over
each other at the shift that fits best, and what is left is given as a share of the body.

Copies are equal to rounding, takes are not: two takes of one person differ by 0.02 and more (168 of 170 pairs of
Kinder-Gator and a set of exercises lie between 0.02 and 0.04), and a copy with noise of 1 % of the body by 0.02.
Copies that are turned, mirrored, played faster or hardly move are not found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

COPY = 0.002  # of the body: rounding to millimetres, or to a third of a pixel
NEAR = 0.02  # of the body: with less, two clips are a copy with noise or takes that nobody can tell apart
_PROJECTIONS = 16
_TABLES, _WINDOW = 24, 16
_GRID = 0.25  # of the median radius
_AGREE_WITHIN, _AGREE_SHARE = 0.08, 0.6
_OVERLAP = 0.6  # of the shorter clip
_UNEXPLAINED = 0.25  # of the energy of the motion
_MOST = 0.5  # of the frames, in which a second body is seen
_FEWEST_FRAMES = 5  # with which a motion can be recognised


def copies(
    keypoints: Callable[[int], np.ndarray], numbers: np.ndarray, signatures: np.ndarray, digests: np.ndarray
) -> dict[tuple[int, int], float]:
    """Pairs of the clips `numbers` `[n]` that differ by at most `NEAR` and are not equal, with their `difference`.

    `signatures` `[n, ...]` are theirs, divided by the usual radius of a body; `keypoints` gives a clip `[M, T, V, C]`.
    """
    found = {}
    for one, other in numbers[_candidates(signatures, digests)].tolist():
        apart = difference(keypoints(one), keypoints(other))
        if apart is not None and apart <= NEAR:
            found[one, other] = apart
    return found


def projections_of(size: int) -> np.ndarray:
    """`[size, P]` the fixed projections of a pose of so many numbers."""
    projections = np.random.default_rng(0).normal(size=(size, _PROJECTIONS))
    return (projections / np.linalg.norm(projections, axis=0)).astype(np.float32)


def signature(centred: np.ndarray, projections: np.ndarray) -> np.ndarray:
    """`[2 * projections]` highest and lowest value over time of every projection of the pose, of three frames' mean."""
    values = centred.reshape(len(centred), -1).astype(np.float32) @ projections
    if len(values) > 2:
        values = (values[:-2] + values[1:-1] + values[2:]) / 3
    return np.concatenate([values.max(axis=0), values.min(axis=0)])


def _candidates(signatures: np.ndarray, digests: np.ndarray) -> np.ndarray:
    """`[n, 2]` pairs of rows, the lower first, whose signatures mostly agree; pairs of equal digest are left out."""
    rng = np.random.default_rng(1)
    found = [np.zeros((0, 2), int)]
    if len(signatures) < 2:
        return found[0]
    for _ in range(_TABLES):
        *keys, last = rng.choice(signatures.shape[1], 4, replace=False)
        cells = np.floor(signatures[:, keys] / _GRID + rng.random(len(keys))).astype(int)
        order = np.lexsort((signatures[:, last], *cells.T))
        for step in range(1, min(_WINDOW, len(order) - 1) + 1):
            one, other = order[:-step], order[step:]
            close = np.abs(signatures[one, last] - signatures[other, last]) < _AGREE_WITHIN
            close &= (cells[one] == cells[other]).all(axis=1) & (digests[one] != digests[other])
            one, other = one[close], other[close]
            agree = (np.abs(signatures[one] - signatures[other]) < _AGREE_WITHIN).mean(axis=1) >= _AGREE_SHARE
            found.append(np.sort(np.stack([one[agree], other[agree]], axis=1), axis=1))
    return np.unique(np.concatenate(found), axis=0)


def difference(one: np.ndarray, other: np.ndarray) -> float | None:
    """By how much of the body's size two clips `[M, T, V, C]` differ, the root mean square over joints and frames where
    they overlap at the shift that fits best, wherever they took place. None where that says nothing: too few frames, or
    hardly any motion beside what differs."""
    a, b = _side_by_side(one), _side_by_side(other)
    if a.shape[1:] != b.shape[1:]:
        a, b = a[:, : one.shape[2]], b[:, : one.shape[2]]
    if min(len(a), len(b)) < _FEWEST_FRAMES:
        return None
    shift = _best_shift(a, b)
    start, end = max(shift, 0), min(len(a), len(b) + shift)
    a, b = a[start:end], b[start - shift : end - shift]
    a, b = a - a.mean(axis=(0, 1)), b - b.mean(axis=(0, 1))
    left, size = ((a - b) ** 2).mean(), (a**2).sum(axis=-1).mean()
    motion = ((a - a.mean(axis=0)) ** 2).mean()
    return float(np.sqrt(left / size)) if size > 0 and left <= _UNEXPLAINED * motion else None


def _side_by_side(keypoints: np.ndarray) -> np.ndarray:
    """`[T, M * V, C]` the bodies that are seen in most frames, beside each other, in the frames of the main one."""
    seen = np.any(keypoints, axis=(2, 3))
    main = seen.sum(axis=1).argmax()
    order = [main, *(m for m in range(len(keypoints)) if m != main and seen[m].mean() > _MOST)]
    return np.concatenate(keypoints[order][:, seen[main]], axis=1).astype(np.float64)


def _best_shift(a: np.ndarray, b: np.ndarray) -> int:
    """Frame of `a` that frame 0 of `b` fits best in the mean square, poses centred; the overlap is long enough."""
    a = (a - a.mean(axis=1, keepdims=True)).reshape(len(a), -1)
    b = (b - b.mean(axis=1, keepdims=True)).reshape(len(b), -1)
    need = int(np.ceil(_OVERLAP * min(len(a), len(b))))
    size = 1 << (len(a) + len(b)).bit_length()
    product = (np.fft.rfft(a, size, axis=0) * np.conj(np.fft.rfft(b, size, axis=0))).sum(axis=1)
    correlation = np.fft.irfft(product, size)
    ends_a, ends_b = (np.concatenate([[0], np.cumsum((x**2).sum(axis=1))]) for x in (a, b))
    shifts = np.arange(need - len(b), len(a) - need + 1)
    start, end = np.maximum(shifts, 0), np.minimum(len(a), len(b) + shifts)
    energy = ends_a[end] - ends_a[start] + ends_b[end - shifts] - ends_b[start - shifts]
    return int(shifts[((energy - 2 * correlation[shifts]) / (end - start)).argmin()])
