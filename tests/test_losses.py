"""Losses against their formulas, written out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from skag.losses import add_confusions, alignment_loss


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
