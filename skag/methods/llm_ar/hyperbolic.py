"""The Poincaré ball of curvature -c: points with c ||x||^2 < 1, tangent vectors at the origin, and distances.

Formulas are those of Ganea et al., "Hyperbolic Neural Networks" (NeurIPS 2018), and Khrulkov et al. (CVPR 2020). The
paper's equations 8 to 10 differ in misprints: a quotient by sqrt(c) ||x|| is printed as a product, and c is missing in
the distance. Values and gradients are finite everywhere: at the origin, at equal points, and at the rim.

Tensors are float32 or float64; in 16 bits the rim would be the whole ball.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

RIM = 1e-3  # points keep 1 - RIM of the ball's radius at most, and float32 can still tell distances there


def exp0(v: Tensor, c: float = 1.0) -> Tensor:
    """Tangent vectors at the origin `[..., d]` to points of the ball (paper, eq. 8), those beyond the rim to the rim:
    tanh(sqrt(c) ||v||) v / (sqrt(c) ||v||)."""
    scaled = math.sqrt(c) * _norm(v)
    return v * (torch.tanh(scaled).clamp(max=1 - RIM) / scaled)


def log0(y: Tensor, c: float = 1.0) -> Tensor:
    """Points of the ball `[..., d]` to tangent vectors at the origin (paper, eq. 10), the inverse of `exp0`; points
    beyond the rim count as on it: artanh(sqrt(c) ||y||) y / (sqrt(c) ||y||)."""
    scaled = math.sqrt(c) * _norm(y)
    return y * (torch.atanh(scaled.clamp(max=1 - RIM)) / scaled)


def rim_norm(c: float = 1.0) -> float:
    """The norm of the longest tangent vector that `exp0` takes to a point of its own: 3.8 for c = 1."""
    return math.atanh(1 - RIM) / math.sqrt(c)


def distance(x: Tensor, y: Tensor, c: float = 1.0) -> Tensor:
    """Distances `[...]` of points `[..., d]` and `[..., d]`, by the arsinh form: the arcosh form of the paper's eq. 9
    has an infinite slope where points are equal."""
    return _distance((x - y).square().sum(-1), _room(x, c), _room(y, c), c)


def pair_distances(x: Tensor, y: Tensor, c: float = 1.0) -> Tensor:
    """Distances of every point of `x` `[n, d]` to every point of `y` `[m, d]`, `[n, m]`. By ||x||^2 + ||y||^2 - 2 xy,
    which rounds the distance of equal points: in float32 to 0.002 where tangent vectors have length 1, to 0.03 at
    length 2.3 and to 0.6 at the rim; that of others by 2e-4 at most."""
    return _distance(squared_distances(x, y), _room(x, c)[:, None], _room(y, c)[None], c)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """||x_i - y_j||^2 of `[n, d]` and `[m, d]`, `[n, m]`, at least 0."""
    squares = x.square().sum(1, keepdim=True) + y.square().sum(1)
    return torch.addmm(squares, x, y.T, alpha=-2).clamp(min=0)


def clip_norm(v: Tensor, limit: float) -> Tensor:
    """Vectors `[..., d]` no longer than `limit`, in their own direction; 0 for `limit` leaves them as they are."""
    return v * (limit / _norm(v)).clamp(max=1) if limit else v


def _norm(v: Tensor) -> Tensor:
    """Norms `[..., 1]`, at least the type's precision: with a gradient of 0 where a vector is shorter, not NaN."""
    eps = torch.finfo(v.dtype).eps
    return v.square().sum(-1, keepdim=True).clamp(min=eps**2).sqrt()


def _room(x: Tensor, c: float) -> Tensor:
    """1 - c ||x||^2, of points beyond the rim what it is on it."""
    return (1 - c * x.square().sum(-1)).clamp(min=1 - (1 - RIM) ** 2)


def _distance(squares: Tensor, room_x: Tensor, room_y: Tensor, c: float) -> Tensor:
    ratio = c * squares / (room_x * room_y)
    least = torch.finfo(ratio.dtype).eps ** 2  # under the root: nearer points have distance 0 and no gradient
    near = ratio < least
    return torch.where(near, 0.0, torch.asinh(ratio.clamp(min=least).sqrt())) * (2 / math.sqrt(c))
