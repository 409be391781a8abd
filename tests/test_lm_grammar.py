"""Schemas as grammars: a random network held to one cannot miss the format, whatever it would rather say."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skag.dialogue.formats import JOINT_MOVEMENTS, JOINT_NUMBERS, PARTS, SENTENCE, Format
from skag.lm.causal import CausalModel, load_causal
from skag.lm.generate import BySchema, generate, guide
from skag.lm.grammar import longest
from skag.lm.prompts import assemble
from skag.skeleton.layouts import load_layout

from .helpers.language_models import talking_folder

WHOLE = {"type": "integer", "minimum": 1, "maximum": 4}
LAYOUT = load_layout("kinect-v1")
# With how many members of a list at most: more of them are only more of the same, and take longer.
FORMATS = {
    "round 3": (JOINT_NUMBERS, 20),
    "round 4": (JOINT_MOVEMENTS, 3),
    "rounds 5 and 6": (SENTENCE, 0),
    "round 11": (PARTS, 0),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalModel:
    return load_causal(str(talking_folder(tmp_path_factory.mktemp("talking"))))


@pytest.fixture(scope="module")
def tokeniser(model: CausalModel) -> object:
    return guide(model)


def answers(model: CausalModel, tokeniser: object, schema: dict, num: int, temperature: float = 1.5) -> list[str]:
    """What a random network says by a schema, `num` times by chance; every answer ends."""
    found = generate(
        model,
        assemble(model, [["a person waves"]] * num),
        max_tokens=longest(schema) + 1,
        temperature=temperature,
        rules=[BySchema(tokeniser, schema) for _ in range(num)],
    )
    assert all(each.finished for each in found)
    return [each.text for each in found]


def shorter(schema: dict, most: int) -> dict:
    """A schema of at most `most` members of its list."""
    joints = schema["properties"].get("joints")
    if joints is None:
        return schema
    return schema | {"properties": {"joints": joints | {"maxItems": min(most, joints.get("maxItems", most))}}}


def check_all(model: CausalModel, tokeniser: object, form: Format, schema: dict, num: int) -> None:
    said = answers(model, tokeniser, schema, num)
    for text in said:
        assert len(text.encode()) <= longest(schema)
        form.check(form.as_text(text), LAYOUT)
    assert len(set(said)) > 1


@pytest.mark.parametrize(("form", "most"), FORMATS.values(), ids=FORMATS)
def test_a_random_network_held_to_a_format_never_misses_it(
    model: CausalModel, tokeniser: object, form: Format, most: int
) -> None:
    check_all(model, tokeniser, form, shorter(form.schema(LAYOUT, exact=True), most), 3)


@pytest.mark.long
@pytest.mark.parametrize("form", [form for form, _ in FORMATS.values()], ids=FORMATS)
def test_a_random_network_never_misses_a_format_in_many_draws(
    model: CausalModel, tokeniser: object, form: Format
) -> None:
    schema = form.schema(LAYOUT, exact=True)
    check_all(model, tokeniser, form, schema, 16)
    (likeliest,) = answers(model, tokeniser, schema, 1, temperature=0)
    form.check(form.as_text(likeliest), LAYOUT)


def test_members_of_a_list_differ_and_their_number_is_kept_to(model: CausalModel, tokeniser: object) -> None:
    line = {"type": "object", "additionalProperties": False, "required": ["n", "of"],
            "properties": {"n": {"type": "boolean"}, "of": {"enum": ["\u00e9 \"x\"", "b", "c"]}}}  # fmt: skip
    lists = {
        "all": {"items": WHOLE, "uniqueItems": True, "minItems": 4},
        "some": {"items": WHOLE, "uniqueItems": True, "minItems": 2, "maxItems": 3},
        "lines": {"items": line, "uniqueItems": True, "minItems": 3},
        "none": {"items": WHOLE, "uniqueItems": True, "maxItems": 1},
        "again": {"items": WHOLE, "minItems": 6, "maxItems": 6},
    }
    schema = {
        "type": "object", "required": list(lists), "additionalProperties": False,
        "properties": {name: {"type": "array", **each} for name, each in lists.items()},
    }  # fmt: skip
    sizes = set()
    for text in answers(model, tokeniser, schema, 8):
        told = json.loads(text)
        assert sorted(told["all"]) == [1, 2, 3, 4] and len(told["again"]) == 6
        assert len(set(told["some"])) == len(told["some"]) in (2, 3) and len(told["none"]) <= 1
        assert {each["of"] for each in told["lines"]} == set(line["properties"]["of"]["enum"])
        sizes |= {len(told["some"]), 10 + len(told["none"])}
    assert sizes == {2, 3, 10, 11}


def test_a_list_of_more_members_than_can_be_remembered_has_an_end(model: CausalModel, tokeniser: object) -> None:
    items = {"type": "integer", "minimum": 10, "maximum": 79}
    schema = {"type": "array", "items": items, "uniqueItems": True, "minItems": 70}
    (text,) = answers(model, tokeniser, schema, 1)
    assert len(json.loads(text)) == 70 and len(text.encode()) <= longest(schema)


@pytest.mark.parametrize(
    ("schema", "most"),
    [
        (WHOLE, 1),
        ({"type": "string", "maxLength": 3}, 20),
        ({"type": "string", "maxLength": 3, "pattern": "^a*$"}, 14),
        ({"type": "string"}, None),
        ({"enum": ["a", "bcd"]}, 5),
        ({"type": "array", "items": WHOLE, "maxItems": 2}, 8),
        ({"type": "array", "items": WHOLE, "uniqueItems": True}, 14),
        ({"type": "array", "items": WHOLE}, None),
        ({"type": "object", "properties": {"a": WHOLE}, "additionalProperties": False}, 10),
        ({"type": "object", "properties": {"a": WHOLE}}, None),
        ({"type": "number"}, None),
    ],
)
def test_how_long_an_answer_can_be(schema: dict, most: int | None) -> None:
    assert longest(schema) == most


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_what_a_schema_says_of_words_is_all_that_the_format_wants(data: st.DataObject) -> None:
    phrase = JOINT_MOVEMENTS.schema(LAYOUT, exact=True)["properties"]["joints"]["items"]["properties"]["movement"]
    words = data.draw(st.from_regex(re.compile(phrase["pattern"].removesuffix("$")), fullmatch=True))
    if len(words) <= phrase["maxLength"]:
        JOINT_MOVEMENTS.check(f"{LAYOUT.numbered().splitlines()[3]}: {words}", LAYOUT)
    pieces = SENTENCE.schema(LAYOUT, exact=True)["properties"]["sentence"]["x-pieces"]
    sentence, cost = data.draw(st.from_regex(pieces["first"], fullmatch=True)), 0
    while True:
        regex = data.draw(st.sampled_from(sorted(pieces["parts"])))
        cost += pieces["parts"][regex]
        if cost > pieces["most"] or data.draw(st.integers(0, 40)) == 0:
            break
        sentence += data.draw(st.from_regex(regex, fullmatch=True))
    SENTENCE.check(f"{sentence}.", LAYOUT)
