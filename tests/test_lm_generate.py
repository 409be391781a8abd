"""Answers of a tiny random Llama: greedy, drawn, held to candidates and to a JSON schema."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from skag.errors import ModelError
from skag.lm import generate as generation
from skag.lm.causal import CausalModel
from skag.lm.generate import ByCandidates, BySchema, answer_freely, choose, generate, guide
from skag.lm.prompts import Inputs, assemble, compose, forward
from skag.lm.score import Candidates, candidate_log_likelihoods

from .helpers.language_models import NAMES, needs_smollm2, smollm2, tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalModel:
    return tiny(tmp_path_factory.mktemp("tiny"))


def inputs(model: CausalModel, number: int = 3, seed: int = 0) -> Inputs:
    drawn = torch.Generator().manual_seed(seed)
    return assemble(
        model,
        [
            compose("the action of {v} is", {"v": torch.randn(1 + n % 4, model.width, generator=drawn)})
            for n in range(number)
        ],
    )


def test_greedy_is_the_likeliest_token_each_time(model: CausalModel) -> None:
    drawn = torch.Generator().manual_seed(1)
    vectors = torch.randn(3, model.width, generator=drawn)
    given: list = list(compose("the action of {v} is", {"v": vectors}))
    (answered,) = generate(model, assemble(model, [given]), max_tokens=6)
    tokens = []
    with torch.inference_mode():
        prefix = assemble(model, [given])
        for _ in range(6):
            embeds = torch.cat([prefix.embeds, model.embed(torch.tensor([tokens], dtype=torch.long))], 1)
            tokens.append(int(model.network(inputs_embeds=embeds).logits[0, -1].argmax()))
    until = tokens.index(3) if 3 in tokens else 6
    assert answered.tokens == tuple(tokens[:until]) and answered.finished == (3 in tokens)


def test_an_answer_does_not_depend_on_its_neighbours(model: CausalModel) -> None:
    together = inputs(model, 4)
    seeds = [7, 7, 8, 9]
    for temperature in (0.0, 1.0):
        answers = generate(model, together, max_tokens=5, temperature=temperature, seeds=seeds)
        for n in range(4):
            there = together.mask[n].bool()
            alone = Inputs(*(getattr(together, name)[n : n + 1, there]
                             for name in ("embeds", "mask", "positions", "targets")))  # fmt: skip
            assert generate(model, alone, max_tokens=5, temperature=temperature, seeds=[seeds[n]]) == [answers[n]]


def test_answers_are_those_of_transformers_own_loop(model: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix, rules = inputs(model, 4), [None, *[ByCandidates(Candidates.of(model, NAMES), 3)] * 3]
    for options in ({}, {"temperature": 1.0}, {"rules": rules}, {"max_tokens": [2, 6, 1, 4]}):
        own = generate(model, prefix, **({"max_tokens": 6} | options))
        with monkeypatch.context() as patched:
            patched.setattr(CausalModel, "attends", lambda *a: False)
            assert generate(model, prefix, **({"max_tokens": 6} | options)) == own


def test_draws_follow_the_softmax(model: CausalModel) -> None:
    one = inputs(model, 1)
    with torch.inference_mode():
        expected = (forward(model, one)[0, -1] / 0.7).softmax(-1)
    many = Inputs(*(getattr(one, name).expand(500, *getattr(one, name).shape[1:]) for name in
                    ("embeds", "mask", "positions", "targets")))  # fmt: skip
    answers = generate(model, many, max_tokens=1, temperature=0.7, seeds=range(500))
    found = Counter(answer.tokens[0] if answer.tokens else 3 for answer in answers)
    for token in expected.topk(4).indices.tolist():
        p = float(expected[token])
        assert abs(found[token] / 500 - p) < 4 * (p * (1 - p) / 500) ** 0.5


def test_the_trie_leads_to_the_best_wherever_the_greedy_path_does(model: CausalModel) -> None:
    prefix, candidates = inputs(model, 24), Candidates.of(model, NAMES[:-1])
    chosen = choose(model, prefix, candidates)
    with torch.inference_mode():
        best = candidate_log_likelihoods(model, prefix, candidates).argmax(1).tolist()
    agree = 0
    for n in range(24):
        one = Inputs(*(getattr(prefix, name)[n : n + 1] for name in ("embeds", "mask", "positions", "targets")))
        path = _greedy_path(model, one, candidates)
        assert chosen[n] == path
        agree += path == best[n]
    assert 0 < agree < 24  # both kinds are there


def _greedy_path(model: CausalModel, one: Inputs, candidates: Candidates) -> int:
    """The candidate to which the best allowed step leads each time, by scores of beginnings alone."""
    given: tuple[int, ...] = ()
    while allowed := candidates.allowed(given):
        beginnings = Candidates(tuple(map(str, allowed)), tuple((*given, token) for token in allowed))
        with torch.inference_mode():
            best = candidate_log_likelihoods(model, one, beginnings).argmax(1)
        given = (*given, allowed[int(best)])
    return candidates.tokens.index(given)


def test_free_answers_and_the_share_that_is_no_class(model: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    found, share = answer_freely(model, inputs(model, 4), NAMES)
    assert len(found) == 4 and share == found.count(None) / 4
    texts = iter(["sit down", "Wave.", "flying", "sit"])
    monkeypatch.setattr(
        generation, "generate", lambda *a, **k: [generation.Answered(next(texts), (), True) for _ in range(4)]
    )
    assert answer_freely(model, inputs(model, 4), NAMES) == (["sit down", "wave", None, None], 0.5)


def test_a_model_s_own_settings_do_not_change_the_answers(tmp_path: Path) -> None:
    plain = tiny(tmp_path)
    before = generate(plain, inputs(plain), max_tokens=5)
    plain.network.generation_config.repetition_penalty = 50.0
    plain.network.generation_config.suppress_tokens = list(range(20))
    assert generate(plain, inputs(plain), max_tokens=5) == before


SCHEMA = {
    "type": "object",
    "properties": {"joints": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 20},
                              "minItems": 1, "maxItems": 4}},
    "required": ["joints"], "additionalProperties": False,
}  # fmt: skip


@needs_smollm2()
@pytest.mark.long
def test_the_real_model_answers_by_a_schema() -> None:
    model = smollm2()
    question = "Which joints move most when a person waves? 1-hip 2-spine 3-left hand 4-right hand"
    prefix = assemble(model, [[model.chat(question)], ["zebra"]])
    rules = [BySchema(guide(model), SCHEMA), BySchema(guide(model), SCHEMA)]
    for answered in generate(model, prefix, max_tokens=40, rules=rules):
        assert answered.finished
        told = json.loads(answered.text)
        assert set(told) == {"joints"} and 1 <= len(told["joints"]) <= 4
        assert all(1 <= joint <= 20 for joint in told["joints"])


@needs_smollm2()
def test_a_schema_that_cannot_be_followed_is_one_line() -> None:
    with pytest.raises(ModelError, match="JSON schema") as caught:
        BySchema(guide(smollm2()), {"type": "nonsense"})
    assert "\n" not in str(caught.value)


def test_prompts_padded_on_the_right_are_a_mistake(model: CausalModel) -> None:
    right = assemble(model, [["the"], ["the action is"]], side="right")
    with pytest.raises(ValueError, match="left"):
        generate(model, right, max_tokens=2)
