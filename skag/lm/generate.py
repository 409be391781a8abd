"""Answers of a base model: free, or held to candidates or to a JSON schema.

Chance is drawn for every prompt by itself, from its own seed: what a prompt is answered does not depend on which
others are answered with it, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError
from ..weights import one_line
from .causal import CausalModel
from .grammar import grammar
from .prompts import Inputs, assemble, matched
from .reuse import Begun, Kept, begin
from .score import Candidates


@dataclass(frozen=True)
class Answered:
    """One answer."""

    text: str
    tokens: tuple[int, ...]  # without the one that ends it
    finished: bool  # it ended by itself, before the limit


class Rule(Protocol):
    """What an answer is held to. One object an answer, which follows it token by token."""

    def allowed(self, given: Sequence[int]) -> np.ndarray | list[int]:
        """Numbers of the tokens that may follow the tokens `given`; those that end an answer among them."""


@dataclass(frozen=True)
class ByCandidates:
    """The answer is one of some candidates."""

    candidates: Candidates
    end: int

    def allowed(self, given: Sequence[int]) -> list[int]:
        return self.candidates.allowed(given) or [self.end]


class BySchema:
    """The answer is JSON by a schema, by llguidance. Raises `ModelError` where that is missing or knows better."""

    def __init__(self, tokeniser: Any, schema: dict) -> None:
        """`tokeniser` is llguidance's, of `guide`; keywords of `schema` are those of `skag.lm.grammar` too."""
        from llguidance import LLMatcher

        self._matcher = LLMatcher(tokeniser, grammar(schema), log_level=0)
        self._seen = 0
        self._check()

    def allowed(self, given: Sequence[int]) -> np.ndarray:
        for token in given[self._seen :]:
            self._matcher.consume_token(token)
        self._seen = len(given)
        self._check()
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        return np.flatnonzero(np.unpackbits(bits, bitorder="little"))

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ModelError(f"an answer cannot be held to this JSON schema ({one_line(self._matcher.get_error())}).")


def guide(model: CausalModel) -> Any:
    """llguidance's view of a model's tokeniser, for `BySchema`; takes a second. Raises `ModelError`."""
    try:
        from llguidance.hf import from_tokenizer
    except ImportError as error:
        raise ModelError(
            f"answers by a JSON schema need llguidance ({one_line(error)}): pip install 'skag[lm]'."
        ) from None
    try:
        return from_tokenizer(model.tokeniser, n_vocab=len(model.words()), eos_token=list(model.ends))
    except Exception as error:  # a tokeniser that is not one of the Rust library, or that llguidance cannot read
        raise ModelError(f"this model's answers cannot be held to a JSON schema ({one_line(error)}).") from None


def generate(
    model: CausalModel,
    prefix: Inputs,
    *,
    max_tokens: int | Sequence[int],
    temperature: float = 0.0,
    seeds: Sequence[int] | None = None,
    rules: Sequence[Rule | None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> list[Answered]:
    """An answer to each prompt, whose padding is on the left; greedy at temperature 0.

    `seeds` and `rules` are those of each prompt, `max_tokens` of all or of each. `stopped` is asked between tokens
    whether to leave off.
    """
    num = len(prefix.mask)
    if num > 1 and not bool(prefix.mask[:, -1].all()):
        raise ValueError("prompts to be answered are padded on the left")
    limits = [max_tokens] * num if isinstance(max_tokens, int) else max_tokens
    choose_next = _Choice(rules or [None] * num, temperature, seeds or range(num))
    with torch.inference_mode():
        if not model.attends():
            return _by_transformers(model, prefix, limits, choose_next, stopped)
        return _continue(model, begin(model, prefix), limits, choose_next, stopped)


def reply(
    model: CausalModel,
    prompts: Sequence[Sequence[int]],
    kept: Kept,
    *,
    max_tokens: Sequence[int],
    temperature: float = 0.0,
    seeds: Sequence[int] | None = None,
    rules: Sequence[Rule | None] | None = None,
) -> list[Answered]:
    """As `generate`, for prompts that are tokens: what `kept` has read of them is not read again, and it keeps what is
    read now."""
    longest = max(len(tokens) + limit for tokens, limit in zip(prompts, max_tokens, strict=True))
    if not model.attends(longest):
        prefix = assemble(model, [[list(tokens)] for tokens in prompts])
        return generate(model, prefix, max_tokens=max_tokens, temperature=temperature, seeds=seeds, rules=rules)
    choose_next = _Choice(rules or [None] * len(prompts), temperature, seeds or range(len(prompts)))
    with torch.inference_mode():
        return _continue(model, kept.begin(model, prompts), max_tokens, choose_next, keep=(kept, prompts))


def choose(model: CausalModel, prefix: Inputs, candidates: Candidates) -> list[int]:
    """The candidate `[N]` that greedy generation arrives at, held to their trie.

    The best by `candidate_log_likelihoods` wherever the greedy path is the best one.
    """
    longest = max(map(len, candidates.tokens))
    rules = [ByCandidates(candidates, model.ends[0])] * len(prefix.mask)
    whole = {_before_end(model, tokens): k for k, tokens in enumerate(candidates.tokens)}
    return [whole[answer.tokens] for answer in generate(model, prefix, max_tokens=longest + 1, rules=rules)]


def answer_freely(
    model: CausalModel, prefix: Inputs, names: Sequence[str], max_tokens: int = 32
) -> tuple[list[str | None], float]:
    """What each prompt is answered with no rule, as one of `names`, None where it is none; and the share of None."""
    found = [matched(answer.text, names) for answer in generate(model, prefix, max_tokens=max_tokens)]
    return found, found.count(None) / len(found)


def _continue(
    model: CausalModel,
    begun: Begun,
    limits: Sequence[int],
    choose_next: _Choice,
    stopped: Callable[[], bool] | None = None,
    keep: tuple[Kept, Sequence[Sequence[int]]] | None = None,
) -> list[Answered]:
    """Token after token; a row that has ended takes no further part, and is kept."""
    given: list[list[int]] = [[] for _ in limits]
    rows = list(range(len(limits)))
    while rows:
        tokens = choose_next(rows, [given[n] for n in rows], begun.logits).argmax(-1)
        over = stopped is not None and stopped()
        going = []
        for place, (n, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
            if not over and token not in model.ends and len(given[n]) + 1 < limits[n]:
                going.append(place)
            elif keep is not None:
                keep[0].add([*keep[1][n], *given[n]], begun.row(place))
            given[n].append(token)
        rows = [rows[place] for place in going]
        if not rows:
            break
        if len(going) < len(tokens):
            begun.keep(going)
        begun.advance(model, tokens[torch.tensor(going, device=tokens.device)])
    return [_answered(model, tokens) for tokens in given]


def _by_transformers(
    model: CausalModel,
    prefix: Inputs,
    limits: Sequence[int],
    choose_next: _Choice,
    stopped: Callable[[], bool] | None,
) -> list[Answered]:
    """The same by transformers' own loop, for networks that remember more than keys and values."""
    from transformers import LogitsProcessorList, StoppingCriteriaList

    def process(tokens: Tensor, logits: Tensor) -> Tensor:
        given = [_before_end(model, row) for row in tokens.tolist()]
        return choose_next(range(len(given)), given, logits)

    criteria = StoppingCriteriaList()
    if stopped is not None:
        criteria.append(lambda tokens, logits, **_: torch.full((len(tokens),), bool(stopped()), device=tokens.device))
    with _greedy(model):
        found = model.base.generate(
            inputs_embeds=prefix.embeds,
            attention_mask=prefix.mask,
            max_new_tokens=max(limits),
            logits_processor=LogitsProcessorList([process]),
            stopping_criteria=criteria,
        )
    return [_answered(model, row[:limit]) for row, limit in zip(found.tolist(), limits, strict=True)]


@contextmanager
def _greedy(model: CausalModel) -> Iterator[None]:
    """Without a model's own settings for generation, which would change what is likeliest.

    transformers takes from them whatever a given configuration leaves open, so they are put aside.
    """
    from transformers import GenerationConfig

    own, pad = model.base.generation_config, model.tokeniser.pad_token_id
    model.base.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        eos_token_id=list(model.ends),
        pad_token_id=model.ends[0] if pad is None else pad,
        use_cache=True,
    )
    try:
        yield
    finally:
        model.base.generation_config = own


def _answered(model: CausalModel, row: list[int]) -> Answered:
    tokens = _before_end(model, row)
    return Answered(model.decode(tokens), tokens, len(tokens) < len(row))


def _before_end(model: CausalModel, row: Sequence[int]) -> tuple[int, ...]:
    row = tuple(row)
    return row[: next((number for number, token in enumerate(row) if token in model.ends), None)]


class _Choice:
    """Logits of which the largest is the next token: those that a row's rule forbids are out, and where chance has a
    say, the largest of logits / temperature + Gumbel noise is a draw from the softmax."""

    def __init__(self, rules: Sequence[Rule | None], temperature: float, seeds: Sequence[int]) -> None:
        self._rules, self._temperature = rules, temperature
        self._chances = [torch.Generator().manual_seed(seed) for seed in seeds]  # on the CPU: the same on any device

    def __call__(self, rows: Sequence[int], given: Sequence[Sequence[int]], logits_NV: Tensor) -> Tensor:
        """`rows` are the numbers of the prompts that are left, `given` their tokens so far."""
        if any(self._rules[n] is not None for n in rows):
            logits_NV = torch.stack([self._held(n, *each) for n, *each in zip(rows, given, logits_NV, strict=True)])
        if self._temperature <= 0:
            return logits_NV
        size = logits_NV.shape[1]
        noise = [torch.empty(size).exponential_(generator=self._chances[n]) for n in rows]
        return logits_NV.float() / self._temperature - torch.stack(noise).log().to(logits_NV.device)

    def _held(self, n: int, given: Sequence[int], logits_V: Tensor) -> Tensor:
        rule = self._rules[n]
        if rule is None:
            return logits_V
        allowed = torch.as_tensor(np.asarray(rule.allowed(given)), device=logits_V.device)
        return torch.full_like(logits_V, -torch.inf).index_copy(0, allowed, logits_V[allowed])
