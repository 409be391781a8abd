"""skag: skeleton-based action recognition that uses what language knows about actions.

    recordings -> readers -> skeleton store -> training -> run folder -> inference -> results
                                                 ^   |
                      dialogue store, text, lm --+   +-- methods: a folder each, behind the protocols of methods.base

Imports run one way: cli, ablation, methods, results, inference and training, dialogue and encoders, skeleton, ground.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .inference.recogniser import TrainedRecogniser


__all__ = ["__version__", "load"]


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
