"""The three terms of `L = L_cls + alpha L_con + beta L_align` (SkeletonAgent, eq. 2, 5, 6 to 8, 9), and others.

L_cls and L_con are cross-entropies of the network's class and constraint logits; the alignment is here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

TEMPERATURE = 0.1  # tau of eq. 6 and 7
LEARNED_SCALE = math.log(1 / 0.07)  # where the published code's learned scale begins


def alignment_loss(
    embedding: Tensor,
    text: Tensor,
    labels: Tensor,
    scale: Tensor | float = 1 / TEMPERATURE,
    target: str = "uniform",
) -> Tensor:
    """`L_align` of eq. 8: a symmetric contrast between clips and the sentences of their classes.

    `embedding` `[N, D]` and `text` `[N, D]` (the sentence of each clip's class) are compared by cosine times `scale`
    over the batch. Several clips of a class can share a batch: the target q is "uniform" over all pairs of the same
    class, or the "softmax" of 10 times "same class" (published code). Returns the mean over clips, a scalar.
    """
    similarity = scale * F.normalize(embedding, dim=-1) @ F.normalize(text, dim=-1).T  # N N
    same = (labels[:, None] == labels[None, :]).to(similarity.dtype)
    q = same / same.sum(1, keepdim=True) if target == "uniform" else torch.softmax(10 * same, 1)
    # `same` is symmetric and both targets are made of its rows, so one q serves both directions.
    from_clip = F.kl_div(F.log_softmax(similarity, 1), q, reduction="batchmean")
    from_text = F.kl_div(F.log_softmax(similarity.T, 1), q, reduction="batchmean")
    return (from_clip + from_text) / 2


def class_alignment_loss(
    embedding: Tensor, text: Tensor, labels: Tensor, scale: Tensor | float = 1 / TEMPERATURE
) -> Tensor:
    """Cross-entropy of the cosines of embeddings `[N, D]` and the texts of all classes `[K, D]`, times `scale`, with
    the `labels` `[N]`; a scalar. Not in the paper."""
    similarity = scale * F.normalize(embedding, dim=-1) @ F.normalize(text, dim=-1).T  # N K
    return F.cross_entropy(similarity, labels)


def mixing_loss(logits: Tensor, labels: Tensor, partner: Tensor, weight: float) -> Tensor:
    """Cross-entropy of mixed clips: `logits` `[N, K]` against their own `labels` and, by `weight`, their partners'."""
    return (1 - weight) * F.cross_entropy(logits, labels) + weight * F.cross_entropy(logits, labels[partner])


def add_confusions(counts: Tensor, labels: Tensor, logits: Tensor, rule: str = "paper") -> None:
    """Add a batch to the confusion counts `H` `[K, K]` in place: row = true class, column = predicted.

    "paper" is eq. 3. "release" is what the published code counts instead: for every clip of class n taken for m, not
    only H(n, m) but also H(m, n), once for each clip of class m in the batch; right answers are not counted. On the
    device: the host waits for nothing.
    """
    K = len(counts)
    batch = _counted(labels * K + logits.argmax(1), K * K).view(K, K)
    if rule == "release":
        batch = batch - torch.diag(batch.diagonal())
        batch = batch + _counted(labels, K)[:, None] * batch.T
    counts += batch


def _counted(numbers: Tensor, length: int) -> Tensor:
    """How often each number below `length` comes; `torch.bincount` would let the host wait for a GPU."""
    return numbers.new_zeros(length).index_add_(0, numbers, torch.ones_like(numbers))
