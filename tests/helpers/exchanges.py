"""Exchanges that no language model made."""

from __future__ import annotations

from dataclasses import replace

from skag.dialogue.exchanges import Exchange, exchange_key


def exchange(name: str, number: int, answer: str, notes: tuple[str, ...] = (), at: int = 0) -> Exchange:
    messages = ({"role": "user", "content": f"{name}, round {number}, {at}"},)
    identity = {"backend": "measured"}
    key = exchange_key(identity, messages)
    return Exchange(key, "set", name, number, identity, messages, "", answer, notes=notes)


def numbered_exchange(number: int, answer: str = "", **values: object) -> Exchange:
    identity = {"backend": "test", "model": "m", "options": {"seed": 0}}
    history = [{"role": "system", "content": "You describe."}]
    for turn in range(number % 3):
        history += [
            {"role": "user", "content": f"q{turn}"},
            {"role": "assistant", "content": f"a{turn} é\n{number % 7}"},
        ]
    messages = (*history, {"role": "user", "content": f"What is {number}?"})
    made = Exchange(
        key=exchange_key(identity, messages),
        label_set="set",
        class_name=f"class {number % 5}",
        round=number % 6 + 1,
        identity=identity,
        messages=messages,
        prompt_hash="hash",
        answer=answer or f"Answer {number} with a \x00, a 手 and a {{brace}}.",
        tokens_in=number if number % 2 else None,
        created="2026-01-01T00:00:00+00:00",
    )
    return replace(made, **values)
