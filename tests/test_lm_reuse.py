"""What was read of a conversation is not read again, and nothing else changes."""

from __future__ import annotations

import pytest

from skag.lm.causal import CausalModel, load_causal
from skag.lm.generate import Answered, reply
from skag.lm.reuse import Kept

from .helpers.language_models import talking_folder

BEGINNING = "You describe human actions as a recording of a moving skeleton shows them, without picture or sound."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalModel:
    return load_causal(str(talking_folder(tmp_path_factory.mktemp("talking"))))


def dialogue(
    model: CausalModel, kept: Kept, names: list[str], first: int = 0, **options: object
) -> list[list[Answered]]:
    """Three rounds of every class, as one batch each; of every round the answers."""
    histories, rounds = [f"{BEGINNING} The action is {name}." for name in names], []
    for question in ("Describe it.", "Which joints move the most while it is done? Name them all.", "Sum it up."):
        prompts = [model.encode(f"{history} {question}", first=True) for history in histories]
        limits = [12 + 3 * (first + n) for n in range(len(names))]  # so that they end at different times
        rounds.append(reply(model, prompts, kept, max_tokens=limits, **options))
        histories = [f"{h} {question} {a.text}" for h, a in zip(histories, rounds[-1], strict=True)]
    return rounds


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_depend_on_neither_the_batch_nor_what_is_kept(model: CausalModel, temperature: float) -> None:
    names = ["wave", "sit down", "drink water", "brush teeth with the left hand"]
    options = {"temperature": temperature, "seeds": [5] * len(names)}
    kept = Kept()
    together = dialogue(model, kept, names, **options)
    assert kept.reused > 8 * len(model.encode(BEGINNING))
    nothing = Kept(limit=0)
    assert dialogue(model, nothing, names, **options) == together and nothing.reused == 0
    alone = Kept(limit=0)
    for n, name in enumerate(names):
        found = dialogue(model, alone, [name], n, **{**options, "seeds": [5]})
        assert [each[0] for each in found] == [each[n] for each in together]


def test_a_question_that_was_read_before_is_answered_the_same(model: CausalModel) -> None:
    kept, prompt = Kept(), model.encode(f"{BEGINNING} wave", first=True)
    first = reply(model, [prompt], kept, max_tokens=[8])
    assert reply(model, [prompt], kept, max_tokens=[8]) == first
    assert kept.reused == len(prompt) - 1  # the last token is read again, since what follows it is wanted


def test_the_oldest_is_dropped_first(model: CausalModel) -> None:
    prompt = model.encode(BEGINNING, first=True)
    others = [[*prompt, *model.encode(f" {word}")] for word in ("wave", "sit", "stand")]
    measure = Kept()
    reply(model, [others[0]], measure, max_tokens=[1])
    kept = Kept(limit=int(2.5 * measure._read[0].size))
    for tokens in others:
        reply(model, [tokens], kept, max_tokens=[1])
    assert [read.tokens[: len(prompt) + 1] for read in kept._read] == [
        tuple(tokens[: len(prompt) + 1]) for tokens in reversed(others[1:])
    ]
    kept.forget()
    assert kept._read == []


def test_a_network_that_remembers_more_than_keys_reads_all(model: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    usual = dialogue(model, Kept(), ["wave", "sit down"])
    monkeypatch.setattr(CausalModel, "attends", lambda *a: False)
    assert dialogue(model, kept, ["wave", "sit down"]) == usual and kept.reused == 0
