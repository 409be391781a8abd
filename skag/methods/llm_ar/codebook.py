"""The codebook: which code stands for a latent, in the Poincaré ball or in Euclidean space, and what keeps it alive.

Letters of this file: R latents, U codes, d their width. Codes are kept as tangent vectors at the ball's origin, so that
any optimiser can move them and none leaves the ball; the ball's points are computed where they are needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import RunError
from . import hyperbolic
from .config import CodebookConfig

_JITTER = 0.01  # standard deviation of the noise on a latent that becomes two codes, of a vector's length (T2M-GPT)


@dataclass
class Quantised:
    """Latents and the codes that stand for them."""

    codes: Tensor  # [R] the nearest code of every latent
    vectors: Tensor  # [R, d] its tangent vector on the latents' own scale, the gradient passed straight through
    embedding: Tensor  # L_embed, a scalar: how far codes are from their latents
    commitment: Tensor  # L_commit, a scalar: the same number, whose gradient moves the latents
    distances: Tensor  # [R, U] of every latent to every code; squared where the space is Euclidean
    rim: Tensor  # share of latents that were cut to the longest tangent vector, a scalar


class Codebook(nn.Module):
    """Latents `[R, d]` to `Quantised`. `used` `[U]` counts, while it trains, how often each code was chosen since the
    last revival."""

    used: Tensor

    def __init__(self, config: CodebookConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.scale = 1 / math.sqrt(width) if config.latent_scale == "width" else 1.0
        bound = 1 / config.num_codes  # the published Euclidean codebook begins within it
        self.tangent = nn.Parameter(torch.empty(config.num_codes, width).uniform_(-bound, bound))
        self.register_buffer("used", torch.zeros(config.num_codes))

    @property
    def hyperbolic(self) -> bool:
        return self.config.geometry == "hyperbolic"

    @property
    def limit(self) -> float:
        """Norm of the longest tangent vector, 0 where none is too long."""
        rim = hyperbolic.rim_norm(self.config.curvature) if self.hyperbolic else 0.0
        return min(filter(None, (rim, self.config.max_norm)), default=0.0)

    def vectors(self, space: str = "tangent") -> Tensor:
        """All codes `[U, d]`, as tangent vectors or as points of the "ball" (Euclidean codes are both)."""
        if not self.hyperbolic:
            return self.tangent
        c = self.config.curvature
        tangent = hyperbolic.clip_norm(self.tangent, hyperbolic.rim_norm(c))
        return hyperbolic.exp0(tangent, c) if space == "ball" else tangent

    def placed(self, latents: Tensor) -> Tensor:
        """Latents of the encoder `[R, d]` as tangent vectors, where the codes are: scaled, and none too long."""
        return hyperbolic.clip_norm(latents * self.scale, self.config.max_norm)

    def forward(self, latents: Tensor, mask: Tensor | None = None) -> Quantised:
        """`mask` `[R]` tells which latents count in losses and shares; all, where it is not given."""
        with torch.autocast(latents.device.type, enabled=False):  # 16 bits cannot tell distances near the rim
            latents = latents.to(self.tangent.dtype)
            weight = latents.new_ones(len(latents)) if mask is None else mask.to(latents.dtype)
            return self._quantised(latents, weight / weight.sum().clamp(min=1), weight)

    def _quantised(self, latents: Tensor, share: Tensor, weight: Tensor) -> Quantised:
        c, tangent, placed = self.config.curvature, self.vectors(), self.placed(latents)
        if self.hyperbolic:
            words, points = hyperbolic.exp0(tangent, c), hyperbolic.exp0(placed, c)
            distances = hyperbolic.pair_distances(points, words, c)
        else:
            distances = hyperbolic.squared_distances(placed, tangent)
        codes = distances.argmin(1)
        chosen = tangent[codes]
        if self.training:
            self.used.index_add_(0, codes, weight.to(self.used.dtype))
        if self.hyperbolic and self.config.straight_through == "ball":
            passed = hyperbolic.log0(points + (words[codes] - points).detach(), c)
        else:
            passed = placed + (chosen - placed).detach()
        over = (latents.detach() * self.scale).norm(dim=1) > self.limit if self.limit else torch.zeros_like(share)
        return Quantised(
            codes=codes,
            vectors=passed / self.scale,
            embedding=self._off(chosen, placed.detach()) @ share,
            commitment=self._off(placed, chosen.detach()) @ share,
            distances=distances,
            rim=over.to(share.dtype) @ share,
        )

    def _off(self, one: Tensor, other: Tensor) -> Tensor:
        squares = (one - other).square()
        return squares.sum(1) if self.config.code_loss == "squared_distance" else squares.mean(1)

    @torch.no_grad()
    def begin(self, latents: Tensor, generator: torch.Generator | None = None) -> None:
        """Let codes begin as rows of the encoder's `latents` `[R, d]`, each but once where there are enough of them.
        Several processes must give equal latents and generators. Raises `RunError` where there are none."""
        self.tangent.copy_(self._drawn(latents, len(self.tangent), generator))

    @torch.no_grad()
    def revive(self, latents: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Let dead codes begin anew as rows of the encoder's `latents` `[R, d]`, and count their use from 0 again.

        Returns the numbers of the codes that were dead, for an optimiser that remembers how they moved. Several
        processes must have equal counts (sum `used` over them first), latents and generators.
        """
        dead = (self.used < self.config.revive_below).nonzero().squeeze(1)
        if len(dead):
            self.tangent[dead] = self._drawn(latents, len(dead), generator)
        self.used.zero_()
        return dead

    def _drawn(self, latents: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
        """`count` rows of `latents`, those that are drawn again with a little noise."""
        if not len(latents):
            raise RunError("no clip gave a code to begin with: the recordings hold nobody; look at `skag check`.")
        place = self.placed(latents.to(self.tangent.dtype))
        order = torch.randperm(len(place), generator=generator).repeat(-(-count // len(place)))[:count]
        noise = torch.randn(count, place.shape[1], generator=generator, dtype=place.dtype).to(place.device)
        again = (torch.arange(count, device=place.device) >= len(place)).to(place.dtype)[:, None]
        rows = place[order.to(place.device)]
        return rows + again * noise * (_JITTER / math.sqrt(place.shape[1])) * rows.norm(dim=1, keepdim=True).clamp(
            min=_JITTER
        )


@dataclass(frozen=True)
class CodeUse:
    """How a codebook is used."""

    share: float  # of the codes that were chosen at all
    perplexity: float  # exp of the entropy of the choices in nats: as many codes, used equally often, would have it
    most: float  # share of the choices that fell on the commonest code


def code_use(counts: Tensor) -> CodeUse:
    """How codes are used that were chosen `counts` `[U]` times."""
    share = counts.double() / counts.sum().clamp(min=1)
    entropy = -(share * (share + 1e-10).log()).sum()
    return CodeUse(float((counts > 0).double().mean()), float(entropy.exp()), float(share.max()))
