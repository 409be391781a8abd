"""The three terms of `L = L_cls + alpha L_con + beta L_align` (SkeletonAgent, eq. 2, 5, 6 to 8, 9).

L_cls and L_con are cross-entropies of the network's class and constraint logits; the alignment is here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TEMPERATURE = 0.1  # tau of eq. 6 and 7


def alignment_loss(embedding: Tensor, text: Tensor, labels: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """`L_align` of eq. 8: a symmetric contrast between clips and the sentences of their classes.

    `embedding` `[N, D]` and `text` `[N, D]` (the sentence of each clip's class) are compared by cosine over
    the batch; the target q is uniform over all pairs of the same class, since several clips of a class can
    share a batch. Returns the mean over clips, a scalar.
    """
    similarity = F.normalize(embedding, dim=-1) @ F.normalize(text, dim=-1).T / temperature  # N N
    same = (labels[:, None] == labels[None, :]).to(similarity.dtype)
    target = same / same.sum(1, keepdim=True)  # symmetric, so it serves both directions
    from_clip = F.kl_div(F.log_softmax(similarity, 1), target, reduction="batchmean")
    from_text = F.kl_div(F.log_softmax(similarity.T, 1), target, reduction="batchmean")
    return (from_clip + from_text) / 2


def add_confusions(counts: Tensor, labels: Tensor, logits: Tensor) -> None:
    """Add a batch to the confusion counts `H` `[K, K]` in place (eq. 3): row = true class, column = predicted.

    One bincount on the device, no copy to the host.
    """
    K = len(counts)
    counts += torch.bincount(labels * K + logits.argmax(1), minlength=K * K).view(K, K)
