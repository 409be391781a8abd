"""The sentences of a Markdown page; `python -m tests.helpers.prose PAGE...` prints the longest ones.

A sentence is what a reader reads in one breath: paragraphs, list items, headings and cells of tables end it, code
blocks have none, and inline code counts as one word.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_ITEM = re.compile(r"\s*([-*]|\d+\.)\s+")
_END = re.compile(r"""(?<=[.!?])(?:[)"'*]*)\s+(?=["'(\[]?(?:[A-Z]|skag\b|[a-z-]+\.md\b))""")


def sentences(text: str) -> list[str]:
    """The sentences of a page in Markdown, without its marks."""
    text = re.sub(r"`[^`]+`", "CODE", _FENCE.sub("\n\n", text))
    text = re.sub(r"\*\*|__", "", _LINK.sub(r"\1", text))
    return [sentence for block in _blocks(text) for sentence in _END.split(block)]


def _blocks(text: str) -> list[str]:
    """Paragraphs, list items, headings and cells, each on one line."""
    blocks: list[list[str]] = [[]]
    code = False  # an indented code block: from an empty line to the next line that is not indented
    for line in text.split("\n"):
        code = line.startswith("    ") and (code or not blocks[-1]) or code and not line.strip()
        if code:
            continue
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            blocks += [[cell] for cell in cells if not re.fullmatch(r":?-*:?", cell)] + [[]]
        elif line.startswith("#"):
            blocks += [[line.lstrip("# ")], []]
        elif match := _ITEM.match(line):
            blocks.append([line[match.end() :]])
        elif line.strip():
            blocks[-1].append(line.strip())
        else:
            blocks.append([])
    return [" ".join(" ".join(block).split()) for block in blocks if block]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name).read_text(encoding="utf-8")
        found = sorted(sentences(page), key=lambda sentence: -len(sentence.split()))
        print(f"{name}: {len(page.split())} words, longest sentence {len(found[0].split())}")
        for sentence in found:
            if len(sentence.split()) > 30:
                print(f"  {len(sentence.split())}: {sentence}")
