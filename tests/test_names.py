"""Names of language models: taken apart in one way, and put together again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import skag
from skag.backends.names import LanguageModel


@pytest.mark.parametrize(
    ("spec", "provider", "model", "kind"),
    [
        ("measured", "measured", "", "is_measured"),
        ("file:nw-ucla", "file", "nw-ucla", "is_file"),
        ("file:forms/mine.toml", "file", "forms/mine.toml", "is_file"),
        ("imported/gpt4o", "imported", "gpt4o", "is_imported"),
        ("ollama/llama3.2:1b", "ollama", "llama3.2:1b", "is_server"),
        ("openai/org/model", "openai", "org/model", "is_server"),
        ("ollama", "ollama", "", None),
        ("imported/", "imported", "", None),
        ("file", "file", "", None),
        ("", "", "", None),
    ],
)
def test_a_name_is_of_one_kind(spec: str, provider: str, model: str, kind: str | None) -> None:
    name = LanguageModel.parse(spec)
    assert (name.spec, name.provider, name.model) == (spec, provider, model)
    kinds = ("is_measured", "is_file", "is_imported", "is_server")
    assert [each for each in kinds if getattr(name, each)] == ([] if kind is None else [kind])


@pytest.mark.parametrize("spec", ["measured", "file:nw-ucla", "file:a/b", "imported/gpt4o", "openai/org/model"])
def test_an_identity_says_whose_it_is(spec: str) -> None:
    name = LanguageModel.parse(spec)
    assert LanguageModel.of({**name.identity, "seed": 1, "options": {}}) == name


def test_names_are_taken_apart_in_one_file_of_dialogues_and_backends() -> None:
    folder = Path(skag.__file__).parent
    files = [path for part in ("dialogue", "backends") for path in (folder / part).glob("*.py")]
    found = [
        path.name
        for path in files
        if re.search(r'(?:startswith|removeprefix)\("(?:file:|imported/)|(?:spec|llm)\.r?partition\(', path.read_text())
    ]
    assert len(files) > 20 and found == ["names.py"]
