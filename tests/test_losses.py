"""Losses against their formulas, written out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from skag.losses import add_confusions, alignment_loss, mixing_loss
from skag.questioner import release_similar_classes

from .golden import golden


def test_alignment_equals_the_formula() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 0, 2, 1])
    text = torch.randn(3, 6, dtype=torch.double)[labels]
    embedding = torch.randn(5, 6, dtype=torch.double)
    cosine = [[float(torch.cosine_similarity(s, t, dim=0)) / 0.1 for t in text] for s in embedding]
    total = 0.0
    for matrix in (cosine, [list(column) for column in zip(*cosine, strict=True)]):
        for i, row in enumerate(matrix):
            denominator = sum(math.exp(value) for value in row)
            same = [j for j in range(5) if labels[j] == labels[i]]
            q = 1 / len(same)
            total += sum(q * (math.log(q) - math.log(math.exp(row[j]) / denominator)) for j in same) / 5
    assert alignment_loss(embedding, text, labels).item() == pytest.approx(total / 2, abs=1e-9)


def test_alignment_rewards_the_right_sentence() -> None:
    text = torch.eye(4)
    labels = torch.arange(4)
    assert alignment_loss(text, text, labels) < 0.01
    assert alignment_loss(text.roll(1, 0), text, labels) > 5


def test_confusions_count_true_rows_and_predicted_columns() -> None:
    counts = torch.zeros(3, 3, dtype=torch.long)
    logits = torch.nn.functional.one_hot(torch.tensor([0, 2, 2, 1]), 3).float()
    add_confusions(counts, torch.tensor([0, 0, 2, 0]), logits)
    add_confusions(counts, torch.tensor([1]), torch.tensor([[9.0, 0, 0]]))
    assert counts.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(("key", "scale"), [("scale2.659", math.log(1 / 0.07)), ("scale10.000", 10.0)])
def test_the_published_alignment_equals_the_reference(key: str, scale: float) -> None:
    arrays = golden("losses_stats_text.npz")
    x, t, labels = (torch.from_numpy(arrays[f"align/{name}"]) for name in ("x", "t", "label"))
    expected = (arrays[f"align/{key}/skeleton"] + arrays[f"align/{key}/text"]) / 2
    loss = alignment_loss(x.double(), t.double(), labels, scale, "softmax")
    assert loss.item() == pytest.approx(float(expected), abs=1e-6)


def test_the_published_confusions_equal_the_reference() -> None:
    arrays = golden("losses_stats_text.npz")
    logits, labels = torch.from_numpy(arrays["stats/logits"]), torch.from_numpy(arrays["stats/labels"])
    counts = torch.zeros(60, 60, dtype=torch.long)
    for start in (0, 16, 32):
        batch = slice(start, start + 16)
        add_confusions(counts, labels[batch], logits[batch], "release")
    assert torch.equal(counts, torch.from_numpy(arrays["stats/H_after_3_batches_of_16"]))
    similar = release_similar_classes(counts.numpy(), 10)
    assert [list(similar[index]) for index in range(60)] == arrays["stats/class_list"].tolist()


def test_mixing_weighs_both_labels() -> None:
    logits = torch.randn(4, 3, dtype=torch.double)
    labels, partner = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 3, 0])
    one_hot = torch.eye(3, dtype=torch.double)[labels]
    soft = 0.7 * one_hot + 0.3 * one_hot[partner]
    expected = -(soft * logits.log_softmax(1)).sum(1).mean()
    assert mixing_loss(logits, labels, partner, 0.3).item() == pytest.approx(expected.item(), abs=1e-12)
