"""The human-bias losses of LLM-AR: how often action words come, which come together, and where they lie (eq. 3 to 7).

Letters of this file: N clips, L tokens of a clip, U codes, d their width, n and m vectors of a set.
"""

from __future__ import annotations

import math
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from ...errors import RunError
from .config import BiasConfig
from .hyperbolic import squared_distances

ZIPF_SHIFT = 2.7  # of a natural language's word of rank i, which comes in proportion to 1 / (i + 2.7) (paper, eq. 4)
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the MMD's Gaussians, times the mean squared distance
_EPS = 1e-10  # under logarithms


def gumbel_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel numbers of the shape of `like`; torch's own state draws them where no generator is given."""
    draw = torch.empty_like(like, memory_format=torch.contiguous_format).exponential_(generator=generator)
    return -draw.clamp(min=torch.finfo(draw.dtype).tiny).log()


def token_use(distances: Tensor, mask: Tensor, tau: float, noise: Tensor, hard: bool = True) -> Tensor:
    """Which code each token uses, by straight-through Gumbel softmax (paper, eq. 3): `[N, L, U]`.

    `distances` `[N, L, U]` to all codes, `mask` `[N, L]` where somebody is (elsewhere nothing is used), `noise` from
    `gumbel_noise` (zeros: the nearest code). Rows are one-hot, with the gradient of the soft choice; `hard=False` gives
    the soft choice itself.
    """
    soft = ((noise - distances) / tau).softmax(-1)
    if hard:
        one_hot = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1)
        soft = one_hot + (soft - soft.detach())
    return soft * mask.unsqueeze(-1)


def zipf_target(num_codes: int, like: Tensor) -> Tensor:
    """`[U]`, the shares of ranks 1 to U after Zipf's law as Mandelbrot shifted it (paper, eq. 4)."""
    share = 1 / (torch.arange(1, num_codes + 1, dtype=like.dtype, device=like.device) + ZIPF_SHIFT)
    return share / share.sum()


def zipf_loss(frequency: Tensor) -> Tensor:
    """L_Zipf (paper, eq. 5): the Jensen-Shannon divergence in nats, at most ln 2, between the sorted shares of codes
    `[U]` and Zipf's law; 0 where they are equal. The gradient passes the sorting, which only reorders."""
    ours = frequency.sort(descending=True).values
    target = zipf_target(len(ours), ours)
    log_middle = ((ours + target) / 2).clamp(min=_EPS).log()
    from_ours = (ours * (ours.clamp(min=_EPS).log() - log_middle)).sum()
    return (from_ours + (target * (target.log() - log_middle)).sum()) / 2


def context_loss(counts: Tensor) -> Tensor:
    """L_context (paper, eq. 6): 1 - the share of tokens that have a mate, codes u and u + U/2 being mates.

    `counts` `[N, U]` how often clips use codes. Of a pair the rarer counts; it stands for two tokens, so that the loss
    is between 0 (all have a mate in their clip) and 1. The paper's exact form is in a supplement that is not to be had:
    without the 2 the loss could not fall below 0.5, and its slope would be half as steep.
    """
    first, second = counts.chunk(2, dim=1)
    mated = 2 * torch.minimum(first, second).sum()
    return 1 - mated / counts.detach().sum().clamp(min=_EPS)


def mmd(x: Tensor, y: Tensor, bandwidth: Tensor | float | None = None) -> Tensor:
    """The squared maximum mean discrepancy of two sets `[n, d]` and `[m, d]` (Gretton et al., 2006): 0 for equal sets.

    The kernel is a sum of five Gaussians exp(-||a - b||^2 / (2 s)) with s = `bandwidth` times 1/4, 1/2, 1, 2, 4, by
    default the mean squared distance of all pairs, through which no gradient goes; the estimate is the biased one. The
    paper states neither.
    """
    squares = squared_distances(both := torch.cat([x, y]), both)
    if bandwidth is None:
        count = len(both)
        bandwidth = (squares.detach().sum() / max(count * (count - 1), 1)).clamp(min=_EPS)
    kernel = reduce(add, (torch.exp(-squares / (2 * bandwidth * factor)) for factor in BANDWIDTHS))
    n = len(x)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def draw_words(words: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """`count` different rows of the base model's word embeddings `[words, d]`, or all where there are fewer."""
    chosen = torch.randperm(len(words), generator=generator)[:count]
    return words[chosen.to(words.device)]


class HumanBias(nn.Module):
    """The three losses of a batch by name, and what their running count of codes remembers. A loss whose weight is 0 is
    not computed."""

    running: Tensor

    def __init__(self, config: BiasConfig, num_codes: int) -> None:
        super().__init__()
        self.config = config
        self.decay = math.exp(-1 / config.zipf_memory) if config.zipf_memory else 0.0
        self.register_buffer("running", torch.zeros(num_codes))

    def forward(
        self, distances: Tensor, mask: Tensor, codes: Tensor, words: Tensor, noise: Tensor | None = None
    ) -> dict[str, Tensor]:
        """`distances` `[N, L, U]` and `mask` `[N, L]` of `VqVaeOutput`; `codes` `[U, d]` in the coordinates that the
        base model reads; `words` `[m, d]` as `draw_words` draws them; `noise` as `gumbel_noise`, drawn where it is not
        given. Returns {"zipf": ..., "context": ..., "mmd": ...}, without weights. Raises `RunError` where a batch
        is too small for L_Zipf and nothing is remembered."""
        config, found = self.config, {}
        if config.zipf or config.context:
            noise = gumbel_noise(distances) if noise is None else noise
            counts = token_use(distances, mask, config.tau, noise).sum(1)  # N U
            if config.zipf:
                found["zipf"] = zipf_loss(self.frequency(counts.sum(0)))
            if config.context:
                found["context"] = context_loss(counts)
        if config.mmd:
            if config.mmd_words == "scaled":
                lengths = codes.detach().norm(dim=1).mean() / words.norm(dim=1).mean().clamp(min=_EPS)
                words = words * lengths
            found["mmd"] = mmd(codes, words.to(codes.dtype))
        return found

    def frequency(self, counts: Tensor) -> Tensor:
        """Shares `[U]` of the codes that a batch chose `counts` `[U]` times, together with what is remembered of
        earlier batches. The gradient is that of the batch's own shares."""
        total = counts.detach().sum()
        if not self.decay:
            if total < len(counts):
                raise RunError(
                    f"a batch has {int(total)} tokens for {len(counts)} codes, too few to compare with Zipf's law: "
                    "set bias.zipf_memory to 20, train.batch_size to more, or codebook.num_codes to fewer."
                )
            return counts / total
        own = counts / total.clamp(min=1)
        known = self.decay * self.running + counts.detach().to(self.running.dtype)
        if self.training:
            self.running.copy_(known)
        return (known / known.sum().clamp(min=1)).to(own.dtype) + (own - own.detach())
