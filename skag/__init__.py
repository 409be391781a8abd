"""skag: skeleton-based action recognition that asks a language model what tells look-alike actions apart.

    convert -> skeleton store -> transforms -> model -> losses -> train -> run folder -> evaluate -> analysis
                                                  ^                |
    selector (mask), text encoder (embeddings) ---+                v  every query period
             ^                                                 questioner
             |                                                     |
    dialogue store <- backends (Ollama, OpenAI-compatible, measured) <- prompts

Imports run one way: cli -> train, evaluate, analysis -> model and dialogue -> data -> layouts, errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .inference.recogniser import TrainedRecogniser

__version__ = "0.1.0"


def load(run: str | Path, device: str = "cpu") -> TrainedRecogniser:
    """A run folder's network, ready to be used: made by `skag train`, or from a published checkpoint.

    `load(run).predict(array)` says what a recording `[T, V, C]` or `[M, T, V, C]` shows, with calibrated probabilities
    and the joints that carried the decision, and `.segments(array, window=90)` which actions follow one another in a
    long one; see docs/predict.md.

    `load(run).model` takes clips `x [N, M, T, V, C]` of the run's stream (`skag.skeleton.clips.prepare` makes them as
    training did) and returns a `NetworkOutput` with `class_logits [N, K]`, `constraint_logits [N, K]`
    and `embedding [N, D]`; `.classes`, `.layout` and `.config` say what they mean. Raises `skag.errors.RunError`.
    """
    import torch

    from .inference.recogniser import load as load_run

    return load_run(Path(run), torch.device(device))
