"""Prompts read by the network once: the keys and values from which an answer goes on, and those of conversations kept.

A conversation's next question begins with all that was said before, and questions of one kind begin alike. What was
read of that is not read again. N prompts, L positions, P of them read before, H heads, W their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .causal import CausalModel
from .prompts import Inputs

KEPT = 1 << 29  # bytes of keys and values: 11,000 tokens of SmolLM2-135M in float32
_WORTH = 16  # tokens; a shorter common beginning is read again
Layers = list[tuple[Tensor, Tensor]]  # keys and values of every layer


@dataclass
class Begun:
    """Prompts that were read, and what stands after them so far."""

    past: Any  # transformers' cache
    mask: Tensor  # [N, L] of the positions in it
    lengths: Tensor  # [N], positions without gaps
    logits: Tensor  # [N, V] after the last position, float32

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows alone."""
        chosen = torch.tensor(rows, device=self.mask.device)
        self.past.batch_select_indices(chosen)
        self.mask, self.lengths, self.logits = self.mask[chosen], self.lengths[chosen], self.logits[chosen]

    def advance(self, model: CausalModel, tokens: Tensor) -> None:
        """One further token `[N]` of every row."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], 1)
        found = model.network(
            input_ids=tokens[:, None],
            attention_mask=self.mask,
            position_ids=self.lengths[:, None],
            past_key_values=self.past,
            use_cache=True,
        )
        self.past, self.lengths, self.logits = found.past_key_values, self.lengths + 1, found.logits[:, -1].float()

    def row(self, place: int) -> Layers:
        """Keys and values `[H, l, W]` of one row, without gaps."""
        there = self.mask[place].bool()
        return [(layer.keys[place][:, there], layer.values[place][:, there]) for layer in self.past.layers]


def read(model: CausalModel, prefix: Inputs, keep: int | Tensor) -> Any:
    """What the network gives for prompts read from their beginning: their cache, and the logits of the last `keep`
    positions, or of those numbered so."""
    from transformers import DynamicCache

    return model.network(
        inputs_embeds=prefix.embeds,
        attention_mask=prefix.mask,
        position_ids=prefix.positions,
        past_key_values=DynamicCache(),
        use_cache=True,
        logits_to_keep=keep,
    )


def begin(model: CausalModel, prefix: Inputs) -> Begun:
    """Prompts read from their beginning; their padding is on the left."""
    found = read(model, prefix, 1)
    return Begun(found.past_key_values, prefix.mask, prefix.lengths, found.logits[:, -1].float())


@dataclass
class _Read:
    tokens: tuple[int, ...]
    layers: Layers

    @property
    def size(self) -> int:
        return sum(part.numel() * part.element_size() for pair in self.layers for part in pair)

    def shared(self, tokens: Sequence[int]) -> int:
        """Tokens that both begin with."""
        pairs = zip(self.tokens, tokens, strict=False)
        return next((n for n, (own, other) in enumerate(pairs) if own != other), min(len(self.tokens), len(tokens)))


@dataclass
class Kept:
    """Conversations that one model has read, the latest first, as many as `limit` bytes hold."""

    limit: int = KEPT
    reused: int = 0  # tokens that were not read again, of all so far
    _read: list[_Read] = field(default_factory=list)

    def begin(self, model: CausalModel, prompts: Sequence[Sequence[int]]) -> Begun:
        """Prompts as tokens, read from where they part from what is kept."""
        from transformers import DynamicCache

        known = [self._longest(tokens) for tokens in prompts]  # at least the last token is read
        before = [0 if read is None else min(read.shared(tokens), len(tokens) - 1)
                  for read, tokens in zip(known, prompts, strict=True)]  # fmt: skip
        new = [tokens[count:] for tokens, count in zip(prompts, before, strict=True)]
        num, gap, length = len(prompts), max(before), max(map(len, new))
        mask = torch.zeros(num, gap + length, dtype=torch.long)
        tokens_NL = torch.zeros(num, length, dtype=torch.long)
        positions = torch.zeros(num, length, dtype=torch.long)
        for n, (tokens, count) in enumerate(zip(new, before, strict=True)):
            mask[n, gap - count : gap] = 1
            mask[n, gap + length - len(tokens) :] = 1
            tokens_NL[n, length - len(tokens) :] = torch.tensor(tokens)
            positions[n, length - len(tokens) :] = torch.arange(count, count + len(tokens))
        past = DynamicCache(self._joined(known, before, gap)) if gap else DynamicCache()
        mask = mask.to(model.device)
        found = model.network(
            input_ids=tokens_NL.to(model.device),
            attention_mask=mask,
            position_ids=positions.to(model.device),
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        self.reused += sum(before)
        return Begun(found.past_key_values, mask, mask.sum(1), found.logits[:, -1].float())

    def add(self, tokens: Sequence[int], layers: Layers) -> None:
        """Keep what was read of a conversation."""
        self._read.insert(0, _Read(tuple(tokens), layers))
        total = 0
        for place, read in enumerate(self._read):
            total += read.size
            if total > self.limit:
                del self._read[place:]
                break

    def forget(self) -> None:
        self._read.clear()

    def _longest(self, tokens: Sequence[int]) -> _Read | None:
        best = max(self._read, key=lambda read: read.shared(tokens), default=None)
        return best if best is not None and best.shared(tokens) >= _WORTH else None

    @staticmethod
    def _joined(known: Sequence[_Read | None], before: Sequence[int], gap: int) -> Layers:
        """Keys and values `[N, H, gap, W]` of what was read before, gaps on the left."""
        layers = []
        for number, pair in enumerate(next(read for read in known if read is not None).layers):
            joined = []
            for which, like in enumerate(pair):
                part = like.new_zeros(len(known), like.shape[0], gap, like.shape[2])
                for n, (read, count) in enumerate(zip(known, before, strict=True)):
                    if read is not None:
                        part[n, :, gap - count :] = read.layers[number][which][:, :count]
                joined.append(part)
            layers.append((joined[0], joined[1]))
        return layers
