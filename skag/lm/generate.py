"""Answers of a base model: free, or held to candidates or to a JSON schema. Built on transformers' `generate`.

Chance is drawn for every prompt by itself, from its own seed: what a prompt is answered does not depend on which
others are answered with it, but for rounding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError
from ..weights import one_line
from .causal import CausalModel
from .prompts import Inputs, matched
from .score import Candidates

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions


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
        """`tokeniser` is llguidance's, of `guide`."""
        from llguidance import LLMatcher

        style: JsonCompileOptions = {
            "whitespace_flexible": False,
            "item_separator": ", ",
            "key_separator": ": ",
        }  # as Python writes it
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(_ending(schema)), overrides=style)
        self._matcher = LLMatcher(tokeniser, grammar, log_level=0)
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


def _ending(schema: Any) -> Any:
    """The schema with an end to its lists of whole numbers from a range, which a small model would go on and on with:
    they hold no more than there are numbers in the range."""
    if isinstance(schema, list):
        return [_ending(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: _ending(part) for name, part in schema.items()}
    items = schema.get("items")
    if schema.get("type") == "array" and isinstance(items, dict) and {"minimum", "maximum"} <= items.keys():
        schema.setdefault("maxItems", items["maximum"] - items["minimum"] + 1)
    return schema


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
    max_tokens: int,
    temperature: float = 0.0,
    seeds: Sequence[int] | None = None,
    rules: Sequence[Rule | None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> list[Answered]:
    """An answer to each prompt, whose padding is on the left; greedy at temperature 0.

    `seeds` and `rules` are those of each prompt. `stopped` is asked between tokens whether to leave off.
    """
    from transformers import LogitsProcessorList, StoppingCriteriaList

    if len(prefix.mask) > 1 and not bool(prefix.mask[:, -1].all()):
        raise ValueError("prompts to be answered are padded on the left")
    processors = LogitsProcessorList()
    if rules is not None:
        processors.append(_Hold(rules))
    if temperature > 0:
        processors.append(_Draw(temperature, seeds or range(len(prefix.mask)), model.device))
    criteria = StoppingCriteriaList()
    if stopped is not None:
        criteria.append(lambda tokens, logits, **_: torch.full((len(tokens),), bool(stopped()), device=tokens.device))
    with torch.inference_mode(), _greedy(model):
        found = model.base.generate(
            inputs_embeds=prefix.embeds,
            attention_mask=prefix.mask,
            max_new_tokens=max_tokens,
            logits_processor=processors,
            stopping_criteria=criteria,
        )
    return [_answered(model, row) for row in found.tolist()]


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
    end = next((number for number, token in enumerate(row) if token in model.ends), None)
    tokens = tuple(row[:end])
    return Answered(model.decode(tokens), tokens, end is not None)


def _before_end(model: CausalModel, tokens: tuple[int, ...]) -> tuple[int, ...]:
    return tokens[:-1] if tokens[-1] in model.ends else tokens


class _Hold:
    """A logits processor: tokens that a prompt's rule does not allow are out."""

    def __init__(self, rules: Sequence[Rule | None]) -> None:
        self._rules = rules
        self._over = [False] * len(rules)

    def __call__(self, tokens: Tensor, logits_NV: Tensor) -> Tensor:
        out = torch.full_like(logits_NV, -torch.inf)
        for n, (rule, given) in enumerate(zip(self._rules, tokens.tolist(), strict=True)):
            if rule is None or self._over[n]:
                out[n] = logits_NV[n]
                continue
            allowed = torch.as_tensor(np.asarray(rule.allowed(given)), device=logits_NV.device)
            out[n, allowed] = logits_NV[n, allowed]
        return out


class _Draw:
    """A logits processor: the largest of logits / temperature + Gumbel noise is a draw from the softmax."""

    def __init__(self, temperature: float, seeds: Sequence[int], device: torch.device) -> None:
        self._temperature = temperature
        self._chances = [torch.Generator().manual_seed(seed) for seed in seeds]  # on the CPU: the same on any device

    def __call__(self, tokens: Tensor, logits_NV: Tensor) -> Tensor:
        noise = [torch.empty(logits_NV.shape[1]).exponential_(generator=chance) for chance in self._chances]
        return logits_NV.float() / self._temperature - torch.stack(noise).log().to(logits_NV.device)
