"""Numbers out of text: tables in blocks, and JSON in pieces."""

from __future__ import annotations

import json

import numpy as np
import pytest

from skag.readers import text
from skag.readers.bodies import busiest, by_place
from skag.readers.source import Unusable
from skag.readers.text import json_items, number_blocks


@pytest.mark.parametrize("block", [1, 1000, 1 << 18])
def test_a_table_is_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(text, "_BLOCK", block)
    table = np.random.default_rng(0).normal(size=(50, 7))
    lines = [",".join(map(repr, row)) for row in table.tolist()]
    data = "\n\n \r\n".join(lines).encode()
    blocks = list(number_blocks(data, 7, b","))
    assert np.array_equal(np.vstack(blocks), table) and (len(blocks) == 50) == (block == 1)
    with pytest.raises(Unusable, match="8 values on line 149, not 7"):
        list(number_blocks(data + b"\n" + lines[0].encode() + b",1", 7, b","))


def test_an_element_may_be_a_share_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON takes thirty times its length in memory: an element as long as a long file is none of a recording."""
    monkeypatch.setattr(text, "_WINDOW", 100)
    monkeypatch.setattr(text, "_MIN_ELEMENT", 1000)
    sound = json.dumps({"frames": [[0] * 300] * 20}).encode()
    assert [len(value) for _, value in json_items(sound, ("frames",))] == [300] * 20
    with pytest.raises(Unusable, match="damaged"):
        list(json_items(json.dumps({"frames": [[0] * 600] * 2}).encode(), ("frames",)))


def test_bodies_by_their_place_in_a_frame() -> None:
    """The second comes and goes and moves more; a third is over the number, and an empty frame counts."""
    a, b = np.ones((4, 2, 1), "f4"), np.arange(8, dtype="f4").reshape(4, 2, 1)
    bodies, frames = by_place([[a[0]], [a[1], b[1], b[1]], [], [a[2]], [a[3], b[3]]], (2, 1), 2)
    assert frames == 5 and [body.frames.tolist() for body in bodies] == [[0, 1, 3, 4], [1, 4]]
    both = busiest(bodies, frames, 2)
    assert both[..., 0].tolist() == [[[0, 0], [2, 3], [0, 0], [0, 0], [6, 7]], [[1, 1], [1, 1], [0, 0], [1, 1], [1, 1]]]
    assert np.array_equal(busiest(bodies[:1], 5, 1)[0, [0, 1, 3, 4]], a)
