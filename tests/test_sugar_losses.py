"""MIL-NCE against its formula, the misprint in the paper's, and the drawing of texts."""

from __future__ import annotations

import math

import pytest
import torch

from skag.errors import RunError
from skag.methods.sugar.config import AlignConfig, BridgeConfig, EncoderConfig
from skag.methods.sugar.losses import draw_texts, mil_nce_loss, nearest_text

LABELS = torch.tensor([0, 1, 0, 2, 1])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(texts: int = 3) -> tuple[torch.Tensor, ...]:
    """Five clips of three classes, and `texts` texts drawn for each of them: embedding, labels, text, their labels."""
    embedding = torch.randn(5, 6, dtype=torch.double, generator=seeded())
    text = torch.randn(5 * texts, 6, dtype=torch.double, generator=seeded(1))
    return embedding, LABELS, text, LABELS.repeat_interleave(texts)


def common(embedding: torch.Tensor, text: torch.Tensor, temperature: float) -> list[list[float]]:
    return [[math.exp(float(torch.cosine_similarity(s, t, dim=0)) / temperature) for t in text] for s in embedding]


def test_row_equals_the_formula() -> None:
    embedding, labels, text, text_labels = batch()
    total = 0.0
    for label, row in zip(labels, common(embedding, text, 0.5), strict=True):
        positive = sum(value for value, other in zip(row, text_labels, strict=True) if label == other)
        total -= math.log(positive / sum(row)) / 5
    assert mil_nce_loss(embedding, labels, text, text_labels, 0.5).item() == pytest.approx(total, abs=1e-12)


def test_both_equals_the_formula() -> None:
    embedding, labels, text, text_labels = batch()
    x = common(embedding, text, 0.5)
    total = 0.0
    for i, label in enumerate(labels):
        own = [q for q, other in enumerate(text_labels) if other == label]
        mates = [j for j, other in enumerate(labels) if other == label]
        above = sum(x[i][q] for q in own) + sum(x[j][q] for j in mates for q in own)
        below = sum(x[i]) + sum(x[j][q] for j in range(5) for q in own)
        total -= math.log(above / below) / 5
    loss = mil_nce_loss(embedding, labels, text, text_labels, 0.5, "both")
    assert loss.item() == pytest.approx(total, abs=1e-12)


def test_both_is_miechs_loss_less_ln_2_where_classes_are_different() -> None:
    """Miech et al.: log of sums over clip i with all texts and over all clips with its texts, against its own pairs."""
    clips = torch.randn(4, 6, dtype=torch.double, generator=seeded()).requires_grad_()
    text = torch.randn(4, 3, 6, dtype=torch.double, generator=seeded(1))
    x = torch.einsum("id,jnd->ijn", clips, text)
    nominator = torch.stack([x[i, i].logsumexp(0) for i in range(4)])
    denominator = torch.stack([torch.cat([x[i].flatten(), x[:, i].flatten()]).logsumexp(0) for i in range(4)])
    published = (denominator - nominator).mean()
    labels = torch.arange(4)
    flat = text.flatten(0, 1), labels.repeat_interleave(3)
    ours = mil_nce_loss(clips, labels, *flat, 1.0, "both", normalise=False)
    assert ours.item() == pytest.approx(published.item() - math.log(2), abs=1e-12)
    gradients = [torch.autograd.grad(loss, clips, retain_graph=True)[0] for loss in (ours, published)]
    torch.testing.assert_close(*gradients)


def printed_formula(embedding: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Eq. 3 to the letter, of clips `[N, D]` and the texts of each `[N, n, D]`: j and k both run over the batch."""
    N = len(embedding)
    total = embedding.new_zeros(())
    for i in range(N):
        above = sum((embedding[i] @ text[j, n]).exp() for j in range(N) for n in range(text.shape[1]))
        below = sum((embedding[i] @ text[k].T).exp().sum() for k in range(N))
        total = total - (above / below).log() / N
    return total


def test_the_printed_formula_cancels_to_zero_and_teaches_nothing() -> None:
    embedding, labels, text, text_labels = batch()
    embedding.requires_grad_()
    printed = printed_formula(embedding, text.unflatten(0, (5, 3)))
    assert printed.abs().item() < 1e-14
    assert torch.autograd.grad(printed, embedding)[0].abs().max() < 1e-14
    mended = mil_nce_loss(embedding, labels, text, text_labels)
    assert mended.item() > 0.1
    assert torch.autograd.grad(mended, embedding)[0].abs().max() > 0.1
    # It is the mended form with every text taken for a positive.
    alone = torch.zeros_like
    assert mil_nce_loss(embedding, alone(labels), text, alone(text_labels)).abs().item() < 1e-14


@pytest.mark.parametrize("direction", ["row", "both"])
def test_zero_where_positives_alone_have_something_in_common(direction: str) -> None:
    text = torch.eye(3, dtype=torch.double)
    loss = mil_nce_loss(text[LABELS], LABELS, text, torch.arange(3), 0.01, direction)
    assert 0 <= loss.item() < 1e-12
    wrong = mil_nce_loss(text[LABELS].roll(1, 1), LABELS, text, torch.arange(3), 0.01, direction)
    assert wrong.item() > 50


@pytest.mark.parametrize("direction", ["row", "both"])
def test_gradients_are_those_of_finite_differences(direction: str) -> None:
    embedding, labels, text, text_labels = batch(2)
    inputs = embedding.requires_grad_(), text.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s, t: mil_nce_loss(s, labels, t, text_labels, 0.5, direction), inputs
    )  # the product form too, in which lengths count
    assert torch.autograd.gradcheck(
        lambda s, t: mil_nce_loss(s, labels, t, text_labels, 2.0, direction, normalise=False), inputs
    )


def test_the_order_of_clips_and_texts_is_of_no_account() -> None:
    embedding, labels, text, text_labels = batch()
    first, second = torch.randperm(5, generator=seeded(2)), torch.randperm(15, generator=seeded(3))
    for direction in ("row", "both"):
        one = mil_nce_loss(embedding, labels, text, text_labels, 0.5, direction)
        other = mil_nce_loss(embedding[first], labels[first], text[second], text_labels[second], 0.5, direction)
        assert one.item() == pytest.approx(other.item(), abs=1e-12)


# ---------------------------------------------------------------- which texts

AVAILABLE = torch.tensor([[True, True, True, True], [True, False, False, True], [True, False, False, False]])


def test_texts_are_drawn_among_those_of_the_class() -> None:
    labels = torch.tensor([0, 1, 2]).repeat(200)
    numbers, drawn = draw_texts(AVAILABLE, labels, 3, generator=seeded())
    assert numbers.shape == drawn.shape == (600, 3)
    assert drawn.sum(1).tolist() == [3, 2, 1] * 200
    chosen = [set(row[ok].tolist()) for row, ok in zip(numbers, drawn, strict=True)]
    assert all(len(found) == int(ok.sum()) and 0 in found for found, ok in zip(chosen, drawn, strict=True))
    assert all(AVAILABLE[label, list(found)].all() for label, found in zip(labels, chosen, strict=True))
    assert {tuple(sorted(found)) for found in chosen[::3]} == {(0, 1, 2), (0, 1, 3), (0, 2, 3)}


def test_without_the_first_every_text_is_as_likely() -> None:
    numbers, drawn = draw_texts(AVAILABLE, torch.zeros(4000, dtype=torch.long), 2, False, seeded())
    share = torch.bincount(numbers[drawn], minlength=4) / 8000
    assert (share - 0.25).abs().max() < 0.03


@pytest.mark.parametrize("count", [0, 4, 9])
def test_all_texts_are_taken_where_there_are_no_more(count: int) -> None:
    numbers, drawn = draw_texts(AVAILABLE, torch.tensor([0, 1]), count)
    assert numbers.shape == (2, 4) and drawn.sum(1).tolist() == [4, 2]


def test_drawn_texts_are_what_the_loss_takes() -> None:
    text = torch.randn(3, 4, 6, generator=seeded())
    numbers, drawn = draw_texts(AVAILABLE, LABELS, 2, generator=seeded(1))
    chosen, classes = text[LABELS[:, None], numbers][drawn], LABELS[:, None].expand_as(drawn)[drawn]
    assert len(chosen) == len(classes) == 2 + 2 + 2 + 1 + 2
    assert mil_nce_loss(torch.randn(5, 6, generator=seeded(2)), LABELS, chosen, classes).isfinite()


def test_the_nearest_text_tells_the_class() -> None:
    text = torch.eye(12).view(3, 4, 12)
    clips = torch.stack([text[0, 2], text[1, 3] * 5 + 0.1, text[1, 1]])
    cosines, which = nearest_text(clips, text, AVAILABLE)
    assert cosines[:2].argmax(1).tolist() == [0, 1]
    assert which[0, 0] == 2 and which[1, 1] == 3
    assert cosines[2].abs().max() < 1e-6  # that text is none of the class's
    assert cosines[0, 0].item() == pytest.approx(1)


def test_settings_that_cannot_be_are_refused() -> None:
    for config, changes, said in (
        (AlignConfig, {"temperature": 0}, "temperature"), (AlignConfig, {"texts_per_clip": -1}, "texts_per_clip"),
        (BridgeConfig, {"width": 100}, "no multiple of heads"), (BridgeConfig, {"num_queries": -1}, "num_queries"),
        (EncoderConfig, {"channels": (6,)}, "one each per block"), (EncoderConfig, {"dropout": 1}, "dropout"),
        (EncoderConfig, {"channels": (6,), "strides": (1,)}, "multiple of 4"),
        (EncoderConfig, {"channels": (8,), "strides": (0,)}, "at least 1"),
    ):  # fmt: skip
        with pytest.raises(RunError, match=said):
            config(**changes)
