"""MIL-NCE: clips against the several texts of their classes (SUGAR, eq. 3; Miech et al., CVPR 2020).

Letters of this file: N clips, Q texts, K classes, n texts of a class, D text width.

Eq. 3 as it is printed sums over all clips and texts of the batch above the fraction bar and below it. The quotient is
then 1 and the loss 0 whatever the network says: a misprint. What works, and is computed here, sums above the bar over a
clip's positives alone. Texts belong to classes, so that these are the texts of all clips of its class.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def mil_nce_loss(
    embedding: Tensor,
    labels: Tensor,
    text: Tensor,
    text_labels: Tensor,
    temperature: float = 0.07,
    direction: str = "row",
    normalise: bool = True,
) -> Tensor:
    """The mean over clips of -log(what a clip has in common with its class's texts / with all texts).

    `embedding` `[N, D]` of clips of classes `labels` `[N]`; `text` `[Q, D]` of classes `text_labels` `[Q]`, in which
    every clip's class must be. They may be the texts drawn for the batch's clips, each class's once, or those of all
    classes. What two have in common is exp(cosine / `temperature`), or of the product where not to `normalise`.

    "row" compares each clip with all texts. "both" (Miech et al.) has all clips with the clip's own texts below the bar
    too. Miech's form counts positives once above the bar and twice below, and cannot fall below ln 2; here they count
    twice in both, which is ln 2 less where classes are all different, with the same gradient. Both directions are 0
    where positives alone have something in common.
    """
    if normalise:
        embedding, text = F.normalize(embedding, dim=-1), F.normalize(text, dim=-1)
    x = embedding @ text.to(embedding.dtype).T / temperature  # N Q
    own = labels[:, None] == text_labels[None]  # N Q
    positives, everything = _logsumexp(x, own), x.logsumexp(1)
    if direction == "both":
        same = labels[:, None] == labels[None]  # N N
        of_texts = _logsumexp(x.logsumexp(0).expand_as(x), own)  # all clips with the clip's own texts
        mates = _logsumexp(positives.expand_as(same), same)  # the clips of its class with these texts
        positives, everything = torch.logaddexp(positives, mates), torch.logaddexp(everything, of_texts)
    return (everything - positives).mean()


def _logsumexp(x: Tensor, where: Tensor) -> Tensor:
    """Over the second axis, of the values that are `where`; gradients of the others are 0, not NaN."""
    return x.masked_fill(~where, -torch.inf).logsumexp(1)


def draw_texts(
    available: Tensor, labels: Tensor, count: int, keep_first: bool = True, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """For every clip, `count` different texts of its class: their numbers `[N, count]` and which of them are texts at
    all `[N, count]`, since a class may have fewer.

    `available` `[K, n]` tells which texts each class has, `labels` `[N]` the clips' classes. The first text (of the
    motion) is always among them with `keep_first`; the others are drawn, each as likely as another. A `count` of 0, or
    of more than any class has, takes all. `text[labels[:, None], numbers][drawn]` are then the texts of `mil_nce_loss`,
    and `labels[:, None].expand_as(drawn)[drawn]` their classes.
    """
    there = available[labels]  # N n
    order = torch.rand(there.shape, generator=generator).to(available.device)
    if keep_first:
        order[:, 0] = 2
    order = torch.where(there, order, -1)
    count = min(count or there.shape[1], there.shape[1])
    numbers = order.topk(count, dim=1).indices
    return numbers, there.gather(1, numbers)


def nearest_text(embedding: Tensor, text: Tensor, available: Tensor) -> tuple[Tensor, Tensor]:
    """Classes by their nearest text: cosines `[N, K]` of clips `[N, D]` with the nearest of each class's texts
    `[K, n, D]`, and which of its texts that is `[N, K]`. `available` `[K, n]` tells which texts there are."""
    cosine = torch.einsum("nd,ktd->nkt", F.normalize(embedding, dim=-1), F.normalize(text, dim=-1))
    found = cosine.masked_fill(~available, -torch.inf).max(2)
    return found.values, found.indices
