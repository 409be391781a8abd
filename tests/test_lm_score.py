"""Prompts with vectors, and candidates scored after them, on a tiny random Llama."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skag.lm import score
from skag.lm.causal import CausalModel
from skag.lm.prompts import IGNORE, Inputs, answer_loss, assemble, compose, forward, matched
from skag.lm.score import Candidates, candidate_log_likelihoods, naive_log_likelihoods

from .helpers.language_models import NAMES, tiny

LENGTHS = (5, 0, 2)
SHORT = ("a", "the", "of", "in", "one", "two")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalModel:
    return tiny(tmp_path_factory.mktemp("tiny"))


def prompts(model: CausalModel, seed: int = 0) -> list[tuple]:
    drawn = torch.Generator().manual_seed(seed)
    return [
        compose("the action of {v} is", {"v": torch.randn(length, model.width, generator=drawn)}) for length in LENGTHS
    ]


# Prompts -------------------------------------------------------------------------------------------------------------


def test_a_template_becomes_parts_and_braces_stay() -> None:
    v = torch.zeros(3, 4)
    parts = compose("a {tokens} b {names}, {class}", {"tokens": v, "names": "{tokens} x"})
    assert parts[0] == "a " and parts[1] is v and parts[2] == " b {tokens} x, {class}"
    assert compose("{tokens}", {"tokens": v}) == (v,)


def test_text_enters_as_the_network_reads_it(model: CausalModel) -> None:
    inputs = assemble(model, [["the action is"]])
    tokens = torch.tensor([model.encode("the action is", first=True)])
    torch.testing.assert_close(forward(model, inputs), model.network(tokens).logits)


@pytest.mark.parametrize("answers", [None, ["sit down", "wave", "stand up"]])
def test_padding_on_either_side_gives_the_same_numbers(model: CausalModel, answers: list[str] | None) -> None:
    given = prompts(model)
    left, right = (assemble(model, given, answers, side=side) for side in ("left", "right"))
    for n, prompt in enumerate(given):
        alone = forward(model, assemble(model, [prompt], None if answers is None else [answers[n]]))[0]
        for batch in (left, right):
            found = forward(model, batch)[n, batch.mask[n].bool()]
            torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)
    if answers:
        losses = [answer_loss(model, batch) for batch in (left, right)]
        assert losses[0][0].item() == pytest.approx(losses[1][0].item(), abs=1e-4)
        assert losses[0][1] == losses[1][1] == 3 + 2 + 3  # words and the end


def test_the_loss_is_on_the_answers_tokens_alone(model: CausalModel) -> None:
    inputs = assemble(model, prompts(model), ["sit down", "wave", "stand up"], side="right")
    logits = forward(model, inputs).log_softmax(-1)
    by_hand = 0.0
    for n, answer in enumerate(("sit down", "wave", "stand up")):
        tokens = [*model.encode(answer), model.ends[0]]
        start = int(inputs.lengths[n]) - len(tokens)
        by_hand -= sum(float(logits[n, start + i - 1, token]) for i, token in enumerate(tokens))
    assert answer_loss(model, inputs)[0].item() == pytest.approx(by_hand, abs=1e-4)
    cut = assemble(model, prompts(model), ["sit down", "wave", "stand up"], until=["sit", "", "stand up"])
    assert answer_loss(model, cut)[1] == 2 + 2 + 1 and int((cut.targets != IGNORE).sum()) == 5


def test_gradients_reach_the_vectors_and_no_weight(model: CausalModel) -> None:
    vectors = torch.randn(4, model.width, requires_grad=True)
    answer_loss(model, assemble(model, [compose("{v} is", {"v": vectors})], ["wave"]))[0].backward()
    assert vectors.grad.abs().sum() > 0 and all(p.grad is None for p in model.network.parameters())


def test_a_model_that_begins_with_bos_gets_it_once(tmp_path: Path) -> None:
    model = tiny(tmp_path, bos=True)
    assert model.start == (2,) and model.encode("sit down", first=True)[0] == 2 and 2 not in model.encode("sit down")
    first, later = (
        assemble(model, [parts]) for parts in (["the action", torch.ones(1, 32)], [torch.ones(1, 32), "the action"])
    )
    for inputs in (first, later):
        torch.testing.assert_close(inputs.embeds[0, 0], model.words()[2])
        assert inputs.embeds.shape[1] == 4


def test_vectors_of_another_width_are_refused(model: CausalModel) -> None:
    with pytest.raises(ValueError, match="width 32"):
        assemble(model, [["a", torch.zeros(2, 31)]])


def test_free_answers_are_matched_by_what_they_say() -> None:
    for answer in ("sit down", " Sit  down.", "{Sit down}. The person bends the knees", "sit-down\nThat is it."):
        assert matched(answer, NAMES) == "sit down"
    for answer in ("sit", "sitting down", "", "the person sits down."):
        assert matched(answer, NAMES) is None


# Scores --------------------------------------------------------------------------------------------------------------


def both(model: CausalModel, inputs: Inputs, candidates: Candidates, **options: bool) -> tuple[torch.Tensor, ...]:
    with torch.inference_mode():
        return tuple(
            way(model, inputs, candidates, **options) for way in (candidate_log_likelihoods, naive_log_likelihoods)
        )


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("after", [None, " .", ""])
def test_scores_equal_those_of_each_name_by_itself(model: CausalModel, side: str, after: str | None) -> None:
    candidates = Candidates.of(model, NAMES, after=after)
    fast, slow = both(model, assemble(model, prompts(model), side=side), candidates)
    assert fast.shape == (3, len(NAMES)) and fast.std() > 0.1
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.lists(st.sampled_from(SHORT), min_size=1, max_size=5), min_size=1, max_size=9, unique_by=tuple),
    limit=st.sampled_from([1, 1 << 26]),
)
def test_any_names_in_any_parts(model: CausalModel, names: list[list[str]], limit: int) -> None:
    """Names that begin alike, are beginnings of others, or are cut into several trees."""
    candidates = Candidates.of(model, [" ".join(name) for name in names], after="")
    before, score.AT_ONCE = score.AT_ONCE, limit
    try:
        fast, slow = both(model, assemble(model, prompts(model)), candidates)
    finally:
        score.AT_ONCE = before
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=0)


def test_many_names_go_in_several_trees(model: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word for name in NAMES for word in name.split()]
    names = [f"{a} {b} {c}" for a in words[:6] for b in words[:5] for c in words[:4]]
    sizes = []
    tree_scores = score._tree_scores

    def counted(*arguments: object) -> torch.Tensor:
        sizes.append(len(arguments[-1].tokens))
        return tree_scores(*arguments)

    monkeypatch.setattr(score, "_tree_scores", counted)
    monkeypatch.setattr(score, "AT_ONCE", 3 * model.config.vocab_size * 40)
    fast, slow = both(model, assemble(model, prompts(model)), Candidates.of(model, names))
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=0)
    assert len(sizes) > 3 and max(sizes) <= 41
    assert sum(sizes) < 1.3 * (6 + 6 * 5 + 120)  # a shared beginning is computed once, but for the cuts


def test_scores_are_probabilities(model: CausalModel) -> None:
    """The first tokens of all words, each as a whole answer, add up to one."""
    every = tuple(range(model.config.vocab_size))
    candidates = Candidates(tuple(map(str, every)), tuple((token,) for token in every))
    fast, _ = both(model, assemble(model, prompts(model)), candidates)
    torch.testing.assert_close(fast.exp().sum(1), torch.ones(3))


def test_length_normalisation_divides_by_tokens(model: CausalModel) -> None:
    candidates = Candidates.of(model, NAMES)
    inputs = assemble(model, prompts(model))
    plain, _ = both(model, inputs, candidates)
    fast, slow = both(model, inputs, candidates, by_token=True)
    torch.testing.assert_close(fast, plain / torch.tensor([3, 3, 3, 3, 3, 3, 2]))
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=0)


def test_a_window_that_is_too_short_for_the_trie_takes_the_slow_way(tmp_path: Path) -> None:
    from .helpers.language_models import edit_config, tiny_folder

    folder = tiny_folder(tmp_path)
    edit_config(folder, model_type="mistral", sliding_window=6)
    from skag.lm.causal import load_causal

    short = load_causal(str(folder))
    candidates = Candidates.of(short, NAMES)
    inputs = assemble(short, prompts(short))
    assert not score._takes_tree(short, inputs, candidates)
    fast, slow = both(short, inputs, candidates)
    torch.testing.assert_close(fast, slow)
    short.network.config.sliding_window = 64
    assert score._takes_tree(short, inputs, candidates)


def test_scores_have_gradients_where_they_are_wanted(model: CausalModel) -> None:
    vectors = torch.randn(4, model.width, requires_grad=True)
    inputs = assemble(model, [compose("{v} is", {"v": vectors})])
    found = candidate_log_likelihoods(model, inputs, Candidates.of(model, NAMES))
    (gradient,) = torch.autograd.grad(found[0, 2], vectors)
    inputs = dataclasses.replace(inputs, embeds=inputs.embeds.detach())
    (slow,) = torch.autograd.grad(
        naive_log_likelihoods(model, assemble(model, [compose("{v} is", {"v": vectors})]), Candidates.of(model, NAMES))[
            0, 2
        ],
        vectors,
    )
    torch.testing.assert_close(gradient, slow, atol=1e-5, rtol=1e-4)


def test_candidates_have_to_differ(model: CausalModel) -> None:
    for names in ([], ["sit down", "sit  down"]):
        with pytest.raises(ValueError, match="differ"):
            Candidates.of(model, names)
