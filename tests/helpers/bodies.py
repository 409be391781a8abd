"""Bodies of random joints whose sides can be told apart."""

from __future__ import annotations

import numpy as np

from skag.skeleton.layouts import Layout


def person(layout: Layout, rng: np.random.Generator, frames: int = 6) -> np.ndarray:
    """A recording `[1, T, V, 3]` whose right side has smaller x than its left: the body faces the camera."""
    clip = rng.normal(0, 0.1, (1, frames, layout.num_joints, 3))
    for joint, number in layout.index.items():
        clip[:, :, number, 0] += 0.3 if joint.startswith("left") else -0.3 if joint.startswith("right") else 0
    return clip.astype(np.float32)
