"""Which of some names fits a prompt best: their log-likelihoods after it.

The prompt is computed once; its keys and values serve all names. The names form a trie whose nodes go through the
network together, as one sequence in which a node sees the prompt and the nodes above it. So a beginning that names
share is computed once, and nothing is padded. N prompts, L their positions, K names, M nodes, V words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from .causal import CausalModel
from .prompts import Inputs
from .reuse import read

AT_ONCE = 1 << 26  # logits that are held at the same time: 256 MB in float32


@dataclass(frozen=True)
class Candidates:
    """The answers that may be given, as tokens."""

    texts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]  # of each, with what ends it

    @staticmethod
    def of(model: CausalModel, texts: Sequence[str], *, before: str = " ", after: str | None = None) -> Candidates:
        """Candidates as they continue a prompt: each with `before` and `after` around it.

        Without `after` the token that ends an answer follows. Raises `ValueError` for none, or for two that are the
        same tokens.
        """
        end = [model.ends[0]] if after is None else []
        tokens = [(*model.encode(before + text + (after or "")), *end) for text in texts]
        if not texts or len(set(tokens)) < len(texts):
            raise ValueError("candidates have to be there, and to differ")
        return Candidates(tuple(texts), tuple(tokens))

    def allowed(self, given: Sequence[int]) -> list[int]:
        """The tokens that may follow `given`; none after a whole candidate."""
        step = self._trie
        for token in given:
            step = step.get(token, {})
        return list(step)

    @cached_property
    def _trie(self) -> dict[int, dict]:
        trie: dict[int, dict] = {}
        for tokens in self.tokens:
            step = trie
            for token in tokens:
                step = step.setdefault(token, {})
        return trie


def candidate_log_likelihoods(
    model: CausalModel, prefix: Inputs, candidates: Candidates, *, by_token: bool = False
) -> Tensor:
    """Log-likelihoods of the candidates after each prompt, natural logarithm, float32 `[N, K]`.

    `by_token` divides by the number of tokens, the end included (length normalisation). Call it in evaluation mode and
    under `torch.inference_mode`, unless gradients are wanted.
    """
    if not _takes_tree(model, prefix, candidates):
        return naive_log_likelihoods(model, prefix, candidates, by_token=by_token)
    past, first_NV = _prefix(model, prefix)
    first_NV = first_NV.log_softmax(-1)
    order = sorted(range(len(candidates.tokens)), key=lambda k: candidates.tokens[k])
    limit = max(16, AT_ONCE // (first_NV.shape[1] * len(first_NV)))
    scores: dict[int, Tensor] = {}
    for part in _parts([candidates.tokens[k] for k in order], limit):
        tree = _Tree.of([candidates.tokens[k] for k in order[part]])
        found_NK = _tree_scores(model, prefix, past, first_NV, tree)
        for column, k in enumerate(order[part]):
            scores[k] = found_NK[:, column]
    return _normalised(torch.stack([scores[k] for k in range(len(order))], 1), candidates, by_token)


def naive_log_likelihoods(
    model: CausalModel, prefix: Inputs, candidates: Candidates, *, by_token: bool = False
) -> Tensor:
    """The same the slow way, every name after every prompt by itself: what the fast way has to equal."""
    rows = []
    for tokens in candidates.tokens:
        row = []
        for n in range(len(prefix.embeds)):
            there = prefix.mask[n].bool()
            name = torch.tensor(tokens, device=model.device)
            embeds = torch.cat([prefix.embeds[n, there], model.embed(name)])[None]
            keep = torch.arange(embeds.shape[1] - len(tokens) - 1, embeds.shape[1] - 1, device=model.device)
            logits_LV = model.network(inputs_embeds=embeds, use_cache=False, logits_to_keep=keep).logits[0].float()
            row.append(logits_LV.log_softmax(-1).gather(1, name[:, None]).sum())
        rows.append(torch.stack(row))
    return _normalised(torch.stack(rows, 1), candidates, by_token)


def _normalised(scores_NK: Tensor, candidates: Candidates, by_token: bool) -> Tensor:
    if not by_token:
        return scores_NK
    return scores_NK / torch.tensor([len(tokens) for tokens in candidates.tokens], device=scores_NK.device)


def _takes_tree(model: CausalModel, prefix: Inputs, candidates: Candidates) -> bool:
    """Whether the network sees all that a mask lets it see."""
    longest = prefix.embeds.shape[1] + max(map(len, candidates.tokens))
    return model.attends(longest) and model.config._attn_implementation in ("sdpa", "eager")


def _prefix(model: CausalModel, prefix: Inputs) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Keys and values `[N, heads, L, width]` of every layer, and the logits `[N, V]` after the last position."""
    columns = torch.arange(prefix.mask.shape[1], device=model.device)
    last_N = (prefix.mask * (columns + 1)).argmax(1)
    keep, where_N = last_N.unique(return_inverse=True)
    found = read(model, prefix, keep)
    past = [(layer.keys, layer.values) for layer in found.past_key_values.layers]
    return past, found.logits[torch.arange(len(where_N)), where_N].float()


@dataclass
class _Tree:
    """The nodes of names that go through the network: all tokens but the last of each name."""

    tokens: list[int] = field(default_factory=list)  # of the nodes
    parents: list[int] = field(default_factory=list)  # -1: the prompt
    depths: list[int] = field(default_factory=list)
    steps: list[list[tuple[int, int]]] = field(default_factory=list)  # of each name: (node before, token)

    @staticmethod
    def of(names: Sequence[tuple[int, ...]]) -> _Tree:
        tree = _Tree()
        known: dict[tuple[int, int], int] = {}
        for name in names:
            node, steps = -1, []
            for depth, token in enumerate(name):
                steps.append((node, token))
                if depth == len(name) - 1:
                    break
                if (node, token) not in known:
                    known[node, token] = len(tree.tokens)
                    tree.tokens.append(token)
                    tree.parents.append(node)
                    tree.depths.append(depth)
                node = known[node, token]
            tree.steps.append(steps)
        return tree

    def sees(self) -> Tensor:
        """Whether node i sees node j: j is i, or above it. Bool `[M, M]`."""
        size = len(self.tokens)
        sees = torch.zeros(size, size, dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees[node] = sees[parent]
            sees[node, node] = True
        return sees


def _parts(names: Sequence[tuple[int, ...]], limit: int) -> Iterator[slice]:
    """Runs of sorted names whose trees have at most about `limit` nodes; what two runs share is computed twice."""
    start, nodes = 0, len(names[0])
    for number, (before, name) in enumerate(pairwise(names), 1):
        shared = next((i for i, pair in enumerate(zip(before, name, strict=False)) if pair[0] != pair[1]), len(before))
        new = len(name) - min(shared, len(name))
        if nodes + new > limit:
            yield slice(start, number)
            start, nodes = number, len(name)
        else:
            nodes += new
    yield slice(start, len(names))


def _tree_scores(
    model: CausalModel, prefix: Inputs, past: list[tuple[Tensor, Tensor]], first_NV: Tensor, tree: _Tree
) -> Tensor:
    """Log-likelihoods of the tree's names `[N, K]`."""
    num = len(first_NV)
    steps = [step for name in tree.steps for step in name]
    nodes = torch.tensor([node for node, _ in steps], device=model.device)
    tokens = torch.tensor([token for _, token in steps], device=model.device)
    told = first_NV[:, tokens]  # right where the node before is the prompt
    if tree.tokens:
        logits_NMV = _tree_logits(model, prefix, past, tree)
        norm_NM = logits_NMV.logsumexp(-1)
        inner = nodes >= 0
        told = torch.where(
            inner,
            logits_NMV[:, nodes.clamp(min=0), tokens] - norm_NM[:, nodes.clamp(min=0)],
            told,
        )
    name_of_step = torch.tensor([k for k, name in enumerate(tree.steps) for _ in name], device=model.device)
    return told.new_zeros(num, len(tree.steps)).index_add(1, name_of_step, told)


def _tree_logits(model: CausalModel, prefix: Inputs, past: list[tuple[Tensor, Tensor]], tree: _Tree) -> Tensor:
    """Logits after every node, float32 `[N, M, V]`."""
    from transformers import DynamicCache

    num, size = len(prefix.embeds), len(tree.tokens)
    dtype = prefix.embeds.dtype
    tokens = torch.tensor(tree.tokens, device=model.device)
    seen_prefix = prefix.mask.bool()[:, None, :].expand(num, size, -1)
    seen_nodes = tree.sees().to(model.device)[None].expand(num, -1, -1)
    seen = torch.cat([seen_prefix, seen_nodes], -1)[:, None]  # [N, 1, M, L + M]
    mask = torch.zeros(seen.shape, dtype=dtype, device=model.device).masked_fill(~seen, torch.finfo(dtype).min)
    return model.network(
        inputs_embeds=model.embed(tokens)[None].expand(num, -1, -1),
        attention_mask=mask,
        position_ids=prefix.lengths[:, None] + torch.tensor(tree.depths, device=model.device),
        past_key_values=DynamicCache(past),  # its update makes new tensors: the prompt's stay as they are
        use_cache=True,
    ).logits.float()
