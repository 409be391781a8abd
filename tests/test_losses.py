"""Losses against their formulas, written out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from skag.methods.skeleton_agent.losses import add_confusions, alignment_loss, mixing_loss
from skag.methods.skeleton_agent.questioner import release_similar_classes


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


def test_mixing_weighs_both_labels() -> None:
    logits = torch.randn(4, 3, dtype=torch.double)
    labels, partner = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 3, 0])
    one_hot = torch.eye(3, dtype=torch.double)[labels]
    soft = 0.7 * one_hot + 0.3 * one_hot[partner]
    expected = -(soft * logits.log_softmax(1)).sum(1).mean()
    assert mixing_loss(logits, labels, partner, 0.3).item() == pytest.approx(expected.item(), abs=1e-12)


def test_the_published_counting_by_hand() -> None:
    """Clips 0 and 1 are of class 0, clip 2 of class 1; clips 1 and 2 are taken for each other's class."""
    counts = torch.zeros(3, 3, dtype=torch.long)
    logits = torch.nn.functional.one_hot(torch.tensor([0, 1, 0]), 3).float()
    add_confusions(counts, torch.tensor([0, 0, 1]), logits, "release")
    # H(0, 1): clip 1 once, and clip 2 (taken for 0) once for each of the two clips of class 0; H(1, 0) likewise
    assert counts.tolist() == [[0, 3, 0], [2, 0, 0], [0, 0, 0]]
    assert release_similar_classes(counts.numpy(), 2) == {0: (0, 1), 1: (0, 1), 2: (0, 1)}


def test_the_published_target_is_a_softmax() -> None:
    torch.manual_seed(1)
    labels = torch.tensor([0, 0, 1])
    text, clips = torch.eye(3, dtype=torch.double)[labels], torch.randn(3, 3, dtype=torch.double)
    q = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.double).mul(10).softmax(1)
    cosine = 2.5 * torch.nn.functional.normalize(clips) @ text.T
    both = sum((q * (q.log() - logits.log_softmax(1))).sum() / 3 for logits in (cosine, cosine.T)) / 2
    assert alignment_loss(clips, text, labels, 2.5, "softmax").item() == pytest.approx(both.item(), abs=1e-12)
