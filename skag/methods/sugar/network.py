"""SUGAR's networks: the encoder with its heads, and the bridge that turns its tokens into what a language model reads.

Letters of this file: N clips, M bodies, T frames, V joints, C coordinates, K classes, D text width, L tokens, d their
width, k queries, W width of the base model's words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...encoders.cost import Cost, cost
from ...encoders.ctrgcn import CtrGcn, CtrGcnConfig
from ...errors import RunError
from ...lm.causal import CausalModel
from ...lm.prompts import IGNORE, Part, assemble
from ...lm.prompts import forward as logits_of
from ...weights import mend_torchvision, one_line
from .config import BridgeConfig, EncoderConfig


def shape(config: EncoderConfig, num_joints: int, num_bodies: int, in_channels: int) -> CtrGcnConfig:
    """The encoder's whole shape, of its configuration and of the data."""
    return CtrGcnConfig(
        num_joints=num_joints,
        num_bodies=num_bodies,
        in_channels=in_channels,
        channels=tuple(config.channels),
        strides=tuple(config.strides),
        max_pool=config.max_pool,
        present_bodies_only=config.present_bodies_only,
        token_by=config.token_by,
        token_bodies=config.token_bodies,
    )


@dataclass
class AlignerOutput:
    """What the encoder says about a batch of clips."""

    class_logits: Tensor  # [N, K]
    embedding: Tensor  # [N, D] to be aligned with the class's texts


class Aligner(CtrGcn):
    """Clips `[N, M, T, V, C]` to an `AlignerOutput`: CTR-GCN, its mean through one linear layer to the texts' width
    (paper, Fig. 2), and through another to the classes, which the paper's baseline without knowledge has.

    It keeps the vectors of the texts that it learns from, `texts` `[K, n, D]`, of which there are those `available`
    `[K, n]`: what was trained answers without a text encoder.
    """

    texts: Tensor
    available: Tensor

    def __init__(
        self,
        config: CtrGcnConfig,
        graphs: Tensor,
        num_classes: int,
        embedding_dim: int,
        dropout: float = 0.0,
        num_texts: int = 0,
    ) -> None:
        super().__init__(config, graphs)
        self.register_buffer("texts", torch.zeros(num_classes, num_texts, embedding_dim))
        self.register_buffer("available", torch.zeros(num_classes, num_texts, dtype=torch.bool))
        self.dropout = nn.Dropout(dropout)
        self.class_head = nn.Linear(config.width, num_classes)
        self.embedding_head = nn.Linear(config.width, embedding_dim)
        nn.init.normal_(self.class_head.weight, 0, math.sqrt(2 / num_classes))  # as the published code begins

    def forward(self, x: Tensor) -> AlignerOutput:
        pooled = self.dropout(self.pooled(x))
        return AlignerOutput(self.class_head(pooled), self.embedding_head(pooled))


@dataclass
class Answered:
    """What a base model makes of a batch of clips and their answers."""

    loss: Tensor  # cross-entropy, summed over the answers' tokens
    tokens: int  # of the answers
    right: Tensor  # [N], whether every token that names the class is the likeliest one after those before it


class Sugar(nn.Module):
    """Clips to answers: the frozen encoder, the bridge, and a base model with its adapter.

    The base model is no part of the module, and its weights are not among those that are kept: of it, what is trained
    is (`adapter`). `train` and moves to a device reach it nevertheless.
    """

    def __init__(self, encoder: Aligner, bridge: Bridge, lm: CausalModel) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.bridge = bridge
        self.lm = lm
        own = {name: weight for name, weight in lm.network.named_parameters() if weight.requires_grad}
        self.adapter = nn.ParameterDict({name.replace(".", "/"): weight for name, weight in own.items()})

    def train(self, mode: bool = True) -> Sugar:
        super().train(mode)
        self.encoder.eval()  # frozen, its batch norms too
        self.lm.network.train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Sugar:
        super()._apply(fn, recurse)
        self.lm.network._apply(fn, recurse)
        return self

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the base model reads of clips `[N, M, T, V, C]`: vectors `[N, k, W]`, and which of them count."""
        tokens, mask = self.encoder.tokens(x), self.encoder.token_mask(x)  # frozen: no gradients but those of `x`
        each = self.encoder.config.token_bodies == "each"
        return self.bridge(tokens, mask if each else None)

    def each(self, x: Tensor) -> list[Tensor]:
        """What it reads of every clip, those vectors that count, `[at most k, W]`."""
        vectors, counts = self.read(x)
        return [own if bool(there.all()) else own[there] for own, there in zip(vectors, counts, strict=True)]

    def prompts(self, x: Tensor, before: str, after: str) -> list[tuple[Part, ...]]:
        """The parts of a prompt for every clip, its vectors between two texts."""
        return [(before, own, after) for own in self.each(x)]

    def forward(self, x: Tensor, before: str, after: str, answers: Sequence[str], names: Sequence[str]) -> Answered:
        """Cross-entropy of `answers`, each of which begins with what names its class."""
        inputs = assemble(self.lm, self.prompts(x, before, after), answers)
        targets = inputs.targets[:, 1:]
        wanted = targets != IGNORE
        columns = wanted.any(0).nonzero()[:, 0]
        targets, wanted = targets[:, columns], wanted[:, columns]
        logits = logits_of(self.lm, inputs, keep=columns).float()  # N l V
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
        length = torch.tensor([len(self.lm.encode(name)) for name in names], device=targets.device)
        naming = wanted & (wanted.cumsum(1) <= length[:, None])
        right = ((logits.argmax(2) == targets) | ~naming).all(1)
        return Answered(loss, int(wanted.sum()), right)


class Bridge(nn.Module):
    """Tokens `[N, L, d]` and which of them count `[N, L]` (all, where it is not given) to vectors in the base model's
    width `[N, k, W]`, and which of those count `[N, k]`.

    - "tqp" (paper, eq. 4): the tokens are cut into segments of k; one learned query of length k reads the first segment
      through a Q-Former, what comes out reads the next through the same Q-Former, and so on; the last goes on.
    - "qformer": the same Q-Former reads all tokens at once.
    - "cross_attention": the query reads all tokens in one attention, with nothing else of a Q-Former.
    - "linear": every token goes through one linear layer, and k is L.

    A segment that is cut short is filled up and masked. A clip that has no token in a segment keeps its query. The
    paper has all queries read L = k tokens a step; a Q-Former has no positions, so that tokens are given theirs.
    """

    def __init__(self, config: BridgeConfig, token_width: int, word_width: int) -> None:
        super().__init__()
        self.config = config
        if config.kind == "linear":
            self.to_words = nn.Linear(token_width, word_width)
            return
        if config.width > word_width:
            raise RunError(
                f"the bridge's query is {config.width} wide and the base model's words {word_width}: "
                f"set bridge.width to {word_width // config.heads * config.heads} or less."
            )
        # Normal numbers, not the zeros that transformers gives BLIP-2's query: equal queries would stay equal.
        self.query = nn.Parameter(torch.randn(config.num_queries, config.width) * 0.02)
        self.token_norm = nn.LayerNorm(token_width)  # as BLIP-2 has before its Q-Former
        key_width = config.key_width or token_width
        self.to_keys = nn.Linear(token_width, key_width) if config.key_width else nn.Identity()
        if config.kind == "cross_attention":
            self.reader: nn.Module = CrossAttention(config, key_width)
        else:
            self.reader = QFormer(config, key_width)
        self.to_words = nn.Linear(config.width, word_width)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        N, L, _ = tokens.shape
        if self.config.kind == "linear":
            return self.to_words(tokens), tokens.new_ones(N, L, dtype=torch.bool) if mask is None else mask
        tokens = self.token_norm(tokens)
        if self.config.positions == "sinusoidal":
            tokens = tokens + positions(L, tokens.shape[2], tokens)
        tokens = self.to_keys(tokens)
        query = self.query.expand(N, -1, -1)
        for segment, counts in self.segments(tokens, mask):
            query = self.read(query, segment, counts)
        return self.to_words(query), tokens.new_ones(N, query.shape[1], dtype=torch.bool)

    def segments(self, tokens: Tensor, mask: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
        """What is read one after another, `[N, k, d]` and which of it counts `[N, k]` (None: all of it). Raises
        `RunError` where a query of the temporal projection is longer than a clip."""
        L, k = tokens.shape[1], self.config.num_queries
        if self.config.kind != "tqp":
            return [(tokens, mask)]
        if k > L:
            raise RunError(
                f"the bridge's query has length {k} and clips have {L} tokens: set bridge.num_queries to {L} or less, "
                "or network.token_by to time_joint."
            )
        if missing := -L % k:
            mask = tokens.new_ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask
            tokens, mask = F.pad(tokens, (0, 0, 0, missing)), F.pad(mask, (0, missing))
        parts = tokens.split(k, dim=1)
        return list(zip(parts, [None] * len(parts) if mask is None else mask.split(k, dim=1), strict=True))

    def read(self, query: Tensor, segment: Tensor, counts: Tensor | None) -> Tensor:
        """`query` `[N, k, width]` after it has read `segment`; as it was in clips of whose segment nothing counts."""
        if counts is None:
            return self.reader(query, segment, None)
        something = counts.any(1)
        # Where nothing counts all is let through, and not used: an attention over nothing is not a number.
        after = self.reader(query, segment, (counts | ~something[:, None])[:, None, None, :])
        return torch.where(something[:, None, None], after, query)


class QFormer(nn.Module):
    """BLIP-2's Q-Former without its text half: a query `[N, k, width]` reads `[N, L, d]`, of which `mask` `[N, 1, 1,
    L]` tells what counts."""

    def __init__(self, config: BridgeConfig, key_width: int) -> None:
        super().__init__()
        transformers = _import_transformers()
        self.model = transformers.Blip2QFormerModel(
            transformers.Blip2QFormerConfig(
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=4 * config.width,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
                cross_attention_frequency=config.cross_attention_every,
                encoder_hidden_size=key_width,
                attn_implementation="sdpa",  # takes masks of yes and no
            )
        )

    def forward(self, query: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        # A mask of four axes is used as it is; of one of two transformers would ask whether it is all true, for which
        # the host waits.
        if mask is not None:
            mask = mask.expand(-1, -1, query.shape[1], -1)
        read = self.model(query_embeds=query, encoder_hidden_states=tokens, encoder_attention_mask=mask)
        return read.last_hidden_state


class CrossAttention(nn.Module):
    """One attention of a query `[N, k, width]` over `[N, L, d]`, of which `mask` `[N, 1, 1, L]` tells what counts."""

    def __init__(self, config: BridgeConfig, key_width: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.width)
        self.query, self.out = nn.Linear(config.width, config.width), nn.Linear(config.width, config.width)
        self.key, self.value = nn.Linear(key_width, config.width), nn.Linear(key_width, config.width)

    def forward(self, query: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(self.norm(query)), self.key(tokens), self.value(tokens))
        )
        read = F.scaled_dot_product_attention(q, k, v, mask)  # N heads k width / heads
        return query + self.out(read.transpose(1, 2).flatten(2))


def positions(length: int, width: int, like: Tensor) -> Tensor:
    """`[length, width]`, sines and cosines of the place (Vaswani et al., 2017, section 3.5), of the type of `like`."""
    place = torch.arange(length, dtype=torch.float32, device=like.device)[:, None]
    step = torch.exp(torch.arange(0, width, 2, dtype=torch.float32, device=like.device) * (-math.log(10000) / width))
    return torch.stack([torch.sin(place * step), torch.cos(place * step)], 2).flatten(1)[:, :width].to(like.dtype)


def begin_like_words(bridge: Bridge, words: Tensor) -> None:
    """Let the vectors of a bridge whose last features are of unit variance begin as long as the words `[V, W]` are."""
    length = float(words.float().norm(dim=1).mean())
    layer = bridge.to_words
    nn.init.normal_(layer.weight, 0, length / math.sqrt(layer.in_features * layer.out_features))
    nn.init.zeros_(layer.bias)


def resolved(config: BridgeConfig, num_tokens: int) -> BridgeConfig:
    """A bridge's configuration with as many queries as a clip has tokens, where it says so by 0."""
    return config if config.num_queries else replace(config, num_queries=num_tokens)


def bridge_cost(config: BridgeConfig, token_width: int, word_width: int, num_tokens: int) -> Cost:
    """Parameters and FLOPs of a bridge for one clip of `num_tokens` tokens; nothing is computed.

    Others report 188 M parameters and 223 GFLOPs of SUGAR's. `config.BLIP_2` on 1,000 tokens of width 256, for words of
    width 4096, comes to 224 GFLOPs and 109 M parameters; the rest of 188 M is the text half of BLIP-2's
    Q-Former (57 M in its layers, 24 M in its word embeddings), which nothing reads here.
    """
    with torch.device("meta"):
        bridge = Bridge(config, token_width, word_width).eval()
        tokens = torch.empty(1, num_tokens, token_width)
    if config.kind != "tqp":
        return cost(bridge, lambda: bridge(tokens))
    # All segments cost the same, also the one that is filled up: one is counted.
    k, steps = config.num_queries, -(-num_tokens // config.num_queries)
    one = cost(bridge, lambda: bridge(tokens[:, :k]))
    query, segment = (torch.empty(1, k, w, device="meta") for w in (config.width, config.key_width or token_width))
    step = cost(bridge.reader, lambda: bridge.reader(query, segment, None))
    further_keys = 2 * (num_tokens - k) * token_width * config.key_width
    return Cost(one.parameters, one.flops + (steps - 1) * step.flops + further_keys)


def _import_transformers():
    mend_torchvision()
    try:
        import transformers
    except ImportError as error:
        raise RunError(
            f"SUGAR's Q-Former needs transformers ({one_line(error)}): pip install 'skag[lm]', "
            "or set bridge.kind to linear or cross_attention."
        ) from None
    return transformers
