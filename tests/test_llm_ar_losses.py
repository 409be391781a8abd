"""The human-bias losses: zero where theory says so, with gradients of finite differences, and in small batches."""

from __future__ import annotations

import math

import pytest
import torch

from skag.errors import RunError
from skag.methods.llm_ar.config import BiasConfig
from skag.methods.llm_ar.losses import (
    HumanBias,
    context_loss,
    draw_words,
    gumbel_noise,
    mmd,
    token_use,
    zipf_loss,
    zipf_target,
)

double = torch.double


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_token_use_is_one_hot_with_the_gradient_of_the_soft_choice() -> None:
    distances = torch.rand(2, 3, 4, dtype=double, generator=seeded()).requires_grad_()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    noise = gumbel_noise(distances, seeded(1))
    hard, soft = (token_use(distances, mask, 0.7, noise, hard=hard) for hard in (True, False))
    assert set(hard.detach().unique().tolist()) <= {0.0, 1.0}
    assert hard.sum(2).tolist() == [[1, 1, 0], [1, 1, 1]]
    weights = torch.randn(2, 3, 4, dtype=double, generator=seeded(2))
    gradients = [torch.autograd.grad((use * weights).sum(), distances)[0] for use in (hard, soft)]
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradcheck(lambda d: token_use(d, mask, 0.7, noise, hard=False), distances)


def test_without_noise_the_nearest_code_is_used_and_with_it_codes_by_their_distance() -> None:
    distances = torch.tensor([0.0, 1.0, 2.0], dtype=double).expand(1, 20_000, 3)
    mask = torch.ones(1, 20_000, dtype=torch.bool)
    assert token_use(distances, mask, 1.0, torch.zeros_like(distances))[0, :, 0].all()
    share = token_use(distances, mask, 1.0, gumbel_noise(distances, seeded())).mean((0, 1))
    expected = torch.tensor([0.0, -1.0, -2.0], dtype=double).softmax(0)
    assert (share - expected).abs().max() < 0.015  # Gumbel-max draws from the softmax


def test_zipf_is_zero_on_zipfs_law_in_any_order() -> None:
    target = zipf_target(512, torch.empty(0, dtype=double))
    assert target[0] / target[9] == pytest.approx(12.7 / 3.7) and target.sum() == pytest.approx(1)
    assert float(-(target * target.log()).sum()) == pytest.approx(5.33, abs=0.01)
    assert zipf_loss(target).abs() < 1e-12
    assert zipf_loss(target[torch.randperm(512, generator=seeded())]).abs() < 1e-12


def test_zipf_equals_the_formula_and_is_at_most_ln_2() -> None:
    p = torch.tensor([0.1, 0.6, 0.3], dtype=double)
    q = [1 / 3.7, 1 / 4.7, 1 / 5.7]
    q = [value / sum(q) for value in q]
    pairs = list(zip([0.6, 0.3, 0.1], q, strict=True))
    by_hand = sum(a * math.log(2 * a / (a + b)) + b * math.log(2 * b / (a + b)) for a, b in pairs) / 2
    assert zipf_loss(p).item() == pytest.approx(by_hand, abs=1e-12)
    collapsed = torch.zeros(512, dtype=double)
    collapsed[7] = 1
    even = torch.full((512,), 1 / 512, dtype=double)
    assert zipf_loss(even) < zipf_loss(collapsed) < math.log(2)


def test_zipf_gradients_are_those_of_finite_differences_and_finite_for_unused_codes() -> None:
    logits = torch.randn(9, dtype=double, generator=seeded()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: zipf_loss(x.softmax(0)), logits)
    counts = torch.zeros(9, dtype=double).index_fill_(0, torch.tensor([3]), 1).requires_grad_()
    zipf_loss(counts).backward()
    assert counts.grad.isfinite().all() and counts.grad[0] < counts.grad[3]  # more of the unused, less of the used


def test_context_is_zero_when_every_token_has_its_mate_in_its_clip() -> None:
    mated = torch.tensor([[2, 0, 1, 2, 0, 1], [0, 3, 0, 0, 3, 0]], dtype=double)
    assert context_loss(mated).item() == 0
    apart = torch.tensor([[2, 0, 1, 0, 0, 0], [0, 0, 0, 2, 0, 1]], dtype=double)  # mates in another clip
    assert context_loss(apart).item() == 1
    half = torch.tensor([[3, 0, 0, 1, 0, 0]], dtype=double)
    assert context_loss(half).item() == pytest.approx(0.5)
    assert context_loss(torch.zeros(2, 6)).item() == 1


def test_context_gradients_are_those_of_finite_differences() -> None:
    mask = torch.ones(2, 5, dtype=torch.bool)
    distances = torch.rand(2, 5, 6, dtype=double, generator=seeded()).requires_grad_()

    def loss(distances: torch.Tensor) -> torch.Tensor:
        return context_loss(token_use(distances, mask, 1.0, torch.zeros(2, 5, 6), hard=False).sum(1))

    assert torch.autograd.gradcheck(loss, distances)


def test_mmd_is_zero_on_equal_sets_and_grows_with_distance() -> None:
    x = torch.randn(40, 5, dtype=double, generator=seeded())
    assert mmd(x, x).abs() < 1e-12
    assert mmd(x, x[torch.randperm(40, generator=seeded(1))]).abs() < 1e-12
    assert mmd(torch.ones(3, 2), torch.ones(4, 2)) == 0
    other = torch.randn(40, 5, dtype=double, generator=seeded(2))
    near, middle, far = mmd(x, other), mmd(x, other + 1), mmd(x, other + 4)
    assert 0 < near < middle < far <= 10


def test_mmd_equals_its_definition() -> None:
    x, y = (torch.randn(n, 3, dtype=double, generator=seeded(n)) for n in (4, 6))

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return sum(math.exp(-float((a - b).square().sum()) / (2 * 1.7 * f)) for f in (0.25, 0.5, 1, 2, 4))

    def mean(a: torch.Tensor, b: torch.Tensor) -> float:
        return sum(kernel(u, v) for u in a for v in b) / (len(a) * len(b))

    assert mmd(x, y, 1.7).item() == pytest.approx(mean(x, x) + mean(y, y) - 2 * mean(x, y), abs=1e-12)
    both = torch.cat([x, y])
    usual = sum(float((u - v).square().sum()) for u in both for v in both) / 90
    assert mmd(x, y).item() == pytest.approx(mmd(x, y, usual).item(), abs=1e-12)


def test_mmd_gradients_are_those_of_finite_differences() -> None:
    x, y = (torch.randn(n, 3, dtype=double, generator=seeded(n)).requires_grad_() for n in (4, 5))
    assert torch.autograd.gradcheck(lambda x, y: mmd(x, y, 1.3), (x, y))


def test_words_are_drawn_once_each() -> None:
    words = torch.arange(10.0)[:, None]
    drawn = draw_words(words, 4, seeded())
    assert len(drawn.unique()) == 4 and draw_words(words, 40).sort(0).values.equal(words)
    assert drawn.equal(draw_words(words, 4, seeded()))


def batch(num_codes: int = 8, clips: int = 6, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    distances = torch.rand(clips, 4, num_codes, generator=seeded(), dtype=dtype).requires_grad_()
    codes = torch.randn(num_codes, 5, generator=seeded(1), dtype=dtype).requires_grad_()
    return distances, torch.ones(clips, 4, dtype=torch.bool), codes, torch.randn(20, 5, generator=seeded(2)) * 7


def test_all_losses_reach_distances_and_codes() -> None:
    distances, mask, codes, words = batch()
    found = HumanBias(BiasConfig(), 8)(distances, mask, codes, words)
    assert set(found) == {"zipf", "context", "mmd"} and all(0 <= value <= 10 for value in found.values())
    sum(found.values()).backward()
    assert distances.grad.abs().sum() > 0 and codes.grad.abs().sum() > 0


def test_a_loss_without_weight_is_not_computed() -> None:
    found = HumanBias(BiasConfig(zipf=0, mmd=0), 8)(*batch())
    assert list(found) == ["context"]
    assert not HumanBias(BiasConfig(zipf=0, mmd=0, context=0), 8)(*batch())


def test_scaled_words_make_the_mmd_blind_to_their_size() -> None:
    distances, mask, codes, words = batch()
    ours = HumanBias(BiasConfig(), 8)
    assert ours(distances, mask, codes, words)["mmd"].item() == pytest.approx(
        ours(distances, mask, codes, words * 100)["mmd"].item(), rel=1e-4
    )
    as_is = HumanBias(BiasConfig(mmd_words="as_is"), 8)
    assert as_is(distances, mask, codes, words)["mmd"] != as_is(distances, mask, codes, words * 100)["mmd"]


def test_small_batches_are_counted_together() -> None:
    """Batches of two tokens that follow Zipf's law one after another come to a loss near 0, and to one alone far from
    it; the gradient is that of the batch's own shares."""
    target = zipf_target(8, torch.empty(0, dtype=double))
    bias = HumanBias(BiasConfig(zipf_memory=500), 8)
    for _ in range(1500):
        chosen = torch.multinomial(target, 2, replacement=True, generator=seeded_once)
        frequency = bias.frequency(torch.zeros(8, dtype=double).index_add_(0, chosen, torch.ones(2, dtype=double)))
    assert zipf_loss(frequency) < 0.02 < zipf_loss(torch.eye(8, dtype=double)[0])
    counts = torch.tensor([2.0, 0, 0, 0, 0, 0, 0, 0], dtype=double).requires_grad_()
    bias.eval()
    before = bias.running.clone()
    (bias.frequency(counts) @ torch.arange(8, dtype=double)).backward()
    assert counts.grad.tolist() == [number / 2 for number in range(8)]
    assert bias.running.equal(before)  # evaluation counts nothing


seeded_once = seeded(5)


def test_without_a_memory_small_batches_are_refused_with_the_reason() -> None:
    bias = HumanBias(BiasConfig(zipf_memory=0), 8)
    assert "zipf" in bias(*batch())
    with pytest.raises(RunError, match="4 tokens for 8 codes.*zipf_memory"):
        bias(*batch(clips=1))


@pytest.mark.parametrize("changes", [{"weight": -1}, {"tau": 0}, {"zipf_memory": -1}])
def test_weights_that_cannot_be_are_refused(changes: dict) -> None:
    with pytest.raises(RunError, match=next(iter(changes))):
        BiasConfig(**changes)
