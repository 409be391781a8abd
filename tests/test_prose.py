"""The pages are short to read: no long sentence, a README of a thousand words, every page in the index."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

from .helpers import prose
from .helpers.recordings import ROOT

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_sentence_is_long(page: Path) -> None:
    """30 words are aimed at; a listing of names may take a few more."""
    found = prose.sentences(page.read_text(encoding="utf-8"))
    assert len(found) > 3
    long = [sentence for sentence in found if len(sentence.split()) > 35]
    assert not long, "\n".join(long)


def test_sentences_are_told_apart() -> None:
    """Code, addresses of links and marks count for nothing; cells, items and headings end a sentence."""
    text = """# A title

One two `three four` [five six](https://example.org/a. B)
seven. **Eight** nine (eq. 3 of the paper). `ten` eleven! skag is twelve.

- an item
  that goes on
- another

| head | two |
|---|---|
| a cell. With two | sentences |

```
not. A. sentence
```

    indented. Code

    more of it. And

1. an item:

       code. In an item
"""
    assert prose.sentences(text) == [
        "A title",
        "One two CODE five six seven.",
        "Eight nine (eq. 3 of the paper).",
        "CODE eleven!",
        "skag is twelve.",
        "an item that goes on",
        "another",
        "head",
        "two",
        "a cell.",
        "With two",
        "sentences",
        "an item:",
    ]


def test_the_readme_has_at_most_a_thousand_words() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= 1000


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([\w.-]+\.md)\)", index))
    assert linked == {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_links_of_the_pages_beside_the_readme_lead_somewhere() -> None:
    for page in (ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https:") or (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_words_are_the_usual_ones(page: Path) -> None:
    """pending, resumed, continues, asked; not a private turn of phrase for the same."""
    text = " ".join(prose.sentences(page.read_text(encoding="utf-8")))
    retired = r"gone on with|go(?:es)? on with|on (?:its|their) way|(?:is|are|was|were) told|hears?|put again"
    assert not re.findall(rf"\b(?:{retired})\b", text)


def test_names_of_the_package_in_the_pages_exist() -> None:
    found = set()
    for page in PAGES:
        if page.stem != "CHANGELOG":  # it names what was
            text = page.read_text(encoding="utf-8")
            found |= set(re.findall(r"\bskag(?:\.[a-z_]+)+\b", text))
            for module, names in re.findall(r"^from (skag[\w.]*) import (.+)$", text, re.MULTILINE):
                found |= {f"{module}.{name}" for name in names.split(", ")}
    assert "skag.load" in found
    for name in sorted(found):
        assert pkgutil.resolve_name(name), name


def test_paths_in_the_guide_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"(?<![\w/])(?:skag|benchmarks|tests|docs|prompts|\.ci)/[\w./-]*", text))
    assert len(paths) > 15
    assert not [path for path in paths if not (ROOT / path).exists()]
