"""A clip beside what a network makes of it that writes clips down and draws them again."""

from __future__ import annotations

import numpy as np
import torch

from ..errors import RunError
from ..inference.loaded import Run
from ..methods.base import Reconstructs
from ..skeleton.clips import prepare, test_batches
from ..skeleton.store import SkeletonStore
from .drawing import View, view_of

_APART = 1.4  # widths of the clip from it to its reconstruction


def beside(run: Run, store: SkeletonStore, number: int) -> View:
    """A clip as the run's network sees it, and its reconstruction to the right. Raises `RunError` for a network that
    makes none, or of another layout."""
    if not isinstance(run.classifier, Reconstructs):
        raise RunError(f"{run.folder} is of a method that rebuilds no clips: leave out --run.")
    layout = run.layout
    if store.layout.joints != layout.joints:
        raise RunError(f"{store.path} has layout {store.layout.name} and {run.folder} was trained on {layout.name}.")
    device = next(run.model.parameters()).device
    (x,) = test_batches(prepare(store, np.array([number]), run.config.data, device), run.config.data, 1)
    with torch.inference_mode():
        made = run.classifier.reconstructed(x[:, 0])
    clip, rebuilt = (bodies[0].float().cpu().numpy() for bodies in (x[:, 0], made))
    there = rebuilt.any(-1)
    across = next(axis for axis in range(layout.dims) if axis != layout.up_axis[0])
    seen = clip[clip.any(-1)][:, across]
    width = float(seen.max() - seen.min()) if len(seen) else 1.0
    rebuilt[..., across] += _APART * max(width, 0.5) * there
    name = store.names[number]
    facts = f"{clip.shape[1]} frames; left as the network sees it, right as it is rebuilt"
    return view_of(np.concatenate([clip, rebuilt]), layout, f"{name}, and its reconstruction", facts)
