"""The Poincaré ball: maps that undo each other, distances that are distances, and nothing that is not a number."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skag.methods.llm_ar import hyperbolic as ball

unhurried = settings(deadline=None, max_examples=50)  # a busy machine is no error
DTYPES = (torch.float32, torch.float64)
curvatures = st.sampled_from([0.1, 0.3, 1.0, 2.5])
seeds = st.integers(0, 10_000)
# Lengths of tangent vectors: none, tiny, inside, at the rim and far beyond it.
lengths = st.sampled_from([0.0, 1e-30, 1e-18, 1e-9, 1e-4, 0.1, 1.0, 3.0, 3.8, 10.0, 72.0, 1e4])


def vectors(seed: int, length: float, dtype: torch.dtype = torch.float64, count: int = 4) -> torch.Tensor:
    direction = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (torch.nn.functional.normalize(direction) * length).to(dtype)


def inside(seed: int, c: float, count: int = 4) -> torch.Tensor:
    """Points of the ball, off the rim."""
    share = torch.rand(count, 1, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return ball.exp0(vectors(seed, 1.0, count=count) * share * 3 / math.sqrt(c), c)


@unhurried
@given(seeds, curvatures, st.sampled_from([1e-12, 1e-4, 0.1, 1.0, 3.0]))
def test_the_maps_undo_each_other(seed: int, c: float, length: float) -> None:
    v = vectors(seed, length / math.sqrt(c))
    assert (ball.log0(ball.exp0(v, c), c) - v).abs().max() <= 1e-12 * max(length, 1)
    single = v.float()
    assert (ball.log0(ball.exp0(single, c), c) - single).abs().max() <= 1e-3 * length / math.sqrt(c)


@unhurried
@given(seeds, curvatures, lengths, lengths, st.sampled_from(DTYPES))
def test_everything_is_finite_everywhere(seed: int, c: float, first: float, second: float, dtype: torch.dtype) -> None:
    v, w = (vectors(seed, length, dtype).requires_grad_() for length in (first, second))
    x, y = ball.exp0(v, c), ball.exp0(w, c)
    assert (c * x.square().sum(-1) < 1).all() and (c * y.square().sum(-1) < 1).all()
    values = (
        ball.log0(x, c), ball.distance(x, y, c), ball.distance(x, x, c), ball.pair_distances(x, y, c),
        ball.pair_distances(x, x, c), ball.clip_norm(v, 2.3), ball.clip_norm(v, 0),
    )  # fmt: skip
    assert all(value.isfinite().all() for value in values)
    sum(value.sum() for value in values).backward()
    assert v.grad.isfinite().all() and w.grad.isfinite().all()


@unhurried
@given(st.sampled_from(DTYPES), curvatures, st.floats(0.9, 1.5))
def test_points_beyond_the_rim_are_safe_too(dtype: torch.dtype, c: float, share: float) -> None:
    y = (vectors(3, 1.0, dtype) * share / math.sqrt(c)).requires_grad_()
    out = ball.log0(y, c).sum() + ball.distance(y, -y, c).sum() + ball.pair_distances(y, y, c).sum()
    out.backward()
    assert out.isfinite() and y.grad.isfinite().all()


@unhurried
@given(seeds, seeds, seeds, curvatures)
def test_a_distance_is_a_distance(first: int, second: int, third: int, c: float) -> None:
    x, y, z = (inside(seed, c) for seed in (first, second, third))
    assert (ball.distance(x, x, c) == 0).all()
    assert (ball.distance(x, y, c) - ball.distance(y, x, c)).abs().max() < 1e-12
    assert (ball.distance(x, z, c) <= ball.distance(x, y, c) + ball.distance(y, z, c) + 1e-9).all()
    pairs = ball.pair_distances(x, y, c)
    assert (pairs.diagonal() - ball.distance(x, y, c)).abs().max() < 1e-4  # of equal points it is rounded


@unhurried
@given(seeds, seeds, curvatures)
def test_three_forms_of_the_distance_agree(first: int, second: int, c: float) -> None:
    x, y = inside(first, c), inside(second, c)
    xx, yy, xy = x.square().sum(1, keepdim=True), y.square().sum(1, keepdim=True), -(x * y).sum(1, keepdim=True)
    sum_of = ((1 + 2 * c * xy + c * yy) * -x + (1 - c * xx) * y) / (1 + 2 * c * xy + c * c * xx * yy)  # Moebius
    by_artanh = 2 / math.sqrt(c) * torch.atanh(math.sqrt(c) * sum_of.norm(dim=1))
    ratio = 2 * c * (x - y).square().sum(1) / ((1 - c * xx) * (1 - c * yy)).squeeze(1)
    by_arcosh = torch.acosh(1 + ratio) / math.sqrt(c)
    assert (ball.distance(x, y, c) - by_artanh).abs().max() < 1e-9
    assert (ball.distance(x, y, c) - by_arcosh).abs().max() < 1e-6


@pytest.mark.parametrize(("length", "error"), [(0.1, 1e-3), (2.3, 0.05), (3.8, 0.8)])
def test_how_far_pairs_are_rounded_in_float32(length: float, error: float) -> None:
    x = ball.exp0(vectors(1, length, count=200))
    single = ball.pair_distances(x.float(), x.float())
    off = (single - ball.pair_distances(x, x)).abs()
    assert off.max() < error  # of equal points
    assert off.fill_diagonal_(0).max() < 5e-4


def test_from_the_origin_a_distance_is_twice_the_tangent_vector() -> None:
    for c in (0.3, 1.0):
        v = vectors(1, 1.3)
        assert (ball.distance(torch.zeros_like(v), ball.exp0(v, c), c) - 2.6).abs().max() < 1e-12


def test_gradients_are_those_of_finite_differences() -> None:
    v, w = vectors(1, 0.7).requires_grad_(), vectors(2, 1.4).requires_grad_()
    for c in (0.3, 1.0):
        assert torch.autograd.gradcheck(lambda v, c=c: ball.exp0(v, c), v)
        assert torch.autograd.gradcheck(lambda v, c=c: ball.log0(v * 0.5, c), v)
        assert torch.autograd.gradcheck(lambda v, w, c=c: ball.pair_distances(v * 0.5, w * 0.4, c), (v, w))
        assert torch.autograd.gradcheck(lambda v, w, c=c: ball.distance(v * 0.5, w * 0.4, c), (v, w))
    assert torch.autograd.gradcheck(lambda v: ball.clip_norm(v, 0.5), v)


def test_latents_beyond_the_rim_end_on_it() -> None:
    assert ball.rim_norm() == pytest.approx(3.80, abs=0.01)
    far = ball.log0(ball.exp0(vectors(1, 72.0)))
    torch.testing.assert_close(far.norm(dim=1), torch.full((4,), ball.rim_norm(), dtype=torch.double))
    torch.testing.assert_close(ball.clip_norm(vectors(1, 72.0), 2.3), vectors(1, 2.3))
    torch.testing.assert_close(ball.clip_norm(vectors(1, 1.2), 2.3), vectors(1, 1.2))


@unhurried
@given(seeds, seeds, curvatures)
def test_equal_to_geoopt(first: int, second: int, c: float) -> None:
    geoopt = pytest.importorskip("geoopt")
    theirs = geoopt.PoincareBall(c=torch.tensor(c, dtype=torch.double))
    x, y, v = inside(first, c), inside(second, c), vectors(first, 1.1)
    assert (ball.distance(x, y, c) - theirs.dist(x, y)).abs().max() < 1e-9
    assert (ball.exp0(v, c) - theirs.expmap0(v)).abs().max() < 1e-9
    assert (ball.log0(x, c) - theirs.logmap0(x)).abs().max() < 1e-9
