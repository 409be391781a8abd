"""Whether left and right are what the layout says: toes point to where the shoulders say the front is.

Of a person who stands, up and the line from the left shoulder to the right one give the front: up x (right - left), in
right-handed coordinates (every sensor and pose estimator whose layout comes with skag has such: MediaPipe's y is down
and its z away from the camera). Toes point there, whatever the person does. In honest recordings they do in nearly
every frame; where left and right are exchanged, or the picture is a mirror's, in next to none.

Only layouts with three coordinates, both shoulders and feet can tell, and only frames in which the body agrees with
itself: both feet have a length, and both of them and the face, where there is one, point the same way. The depth of a
pose estimator that saw no feet is noise, and says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .layouts import Layout

FEWEST_FRAMES = 30  # with which a data set is judged
_FEWEST_AGREE = 0.3  # of the frames with shoulders and feet; in honest sets 60 % and more, in noise a quarter at most
EXCHANGED, HONEST = 0.25, 0.75  # shares of frames; between them nothing is said
_FEET = (("heel", "foot index"), ("heel", "big toe"), ("heel", "toes"), ("ankle", "toes"), ("ankle", "foot"))
_SHORTEST = {"heel": 0.2, "ankle": 0.1}  # of the shoulders' width: a foot seen from above that is shorter says nothing
_FACE = ("left ear", "right ear", "nose")  # the nose is before the ears


@dataclass
class Sides:
    """Counts frames over the clips of a data set."""

    layout: Layout
    seen: int = 0  # frames with shoulders and feet
    frames: int = 0  # in which it can be told
    forward: int = 0  # toes point to the front

    def add(self, keypoints: np.ndarray) -> None:
        """Take in a clip `[M, T, V, C]`, missing joints 0."""
        told, seen = _told(keypoints, self.layout)
        self.seen += seen
        self.frames += len(told)
        self.forward += int(told.sum())

    @property
    def share(self) -> float | None:
        """Of the frames, those in which toes point to the front; None where there are too few."""
        enough = self.frames >= max(FEWEST_FRAMES, _FEWEST_AGREE * self.seen)
        return self.forward / self.frames if enough else None

    @property
    def exchanged(self) -> bool:
        """Whether left and right are most likely exchanged."""
        return self.share is not None and self.share < EXCHANGED

    def note(self) -> str:
        """A sentence for people where left and right look exchanged, else ""."""
        if not self.exchanged or self.share is None:
            return ""
        return (
            f"Left and right look exchanged: toes point to where the shoulders say the back is in "
            f"{1 - self.share:.0%} of {self.frames} frames; check the order of the joints in layout "
            f"{self.layout.name}, or whether the recordings are mirrored."
        )


def toes_forward(keypoints: np.ndarray, layout: Layout) -> np.ndarray:
    """Of the frames of all bodies of a clip `[M, T, V, C]` in which it can be told, whether the toes point to the front
    (bool `[n]`); empty where the layout has no feet, no shoulders or two coordinates."""
    return _told(keypoints, layout)[0]


def _told(keypoints: np.ndarray, layout: Layout) -> tuple[np.ndarray, int]:
    """`toes_forward`, and the number of frames that have all of the joints it looks at."""
    feet = _feet(layout)
    if feet is None or layout.dims != 3:
        return np.empty(0, bool), 0
    shoulders = [layout.index["left shoulder"], layout.index["right shoulder"]]
    face = [layout.index[joint] for joint in _FACE] if set(_FACE) <= set(layout.joints) else []
    points = np.asarray(keypoints, np.float64)
    there = (points != 0).any(-1) & np.isfinite(points).all(-1)
    used = there[..., [*shoulders, *feet.ravel(), *face]].all(-1)  # [M, T]
    body = points[used]
    axis, sign = layout.up_axis
    up = np.zeros(3)
    up[axis] = sign
    right = body[:, shoulders[1]] - body[:, shoulders[0]]
    front = np.cross(up, right)
    ahead = [body[:, toes] - body[:, heel] for heel, toes in feet.tolist()]
    if face:
        ahead.append(body[:, face[2]] - (body[:, face[0]] + body[:, face[1]]) / 2)
    lines = np.stack(ahead)  # [2 or 3, n, 3]
    lines[..., axis] = 0
    width = np.linalg.norm(front, axis=1)
    shortest = _SHORTEST[layout.joints[feet[0, 0]].split()[-1]] * np.maximum(width, np.finfo(float).tiny)
    long = (np.linalg.norm(lines[:2], axis=-1) > shortest).all(0)
    forward = (lines * front).sum(-1) > 0
    agreed = forward.all(0) | ~forward.any(0)
    return forward[0, long & agreed & (width > 0)], len(body)


def _feet(layout: Layout) -> np.ndarray | None:
    """`[2, 2]` heel (or ankle) and toe of both feet, by joint number; None where the layout lacks them."""
    if not {"left shoulder", "right shoulder"} <= set(layout.joints):
        return None
    for heel, toe in _FEET:
        names = [[f"{side} {joint}" for joint in (heel, toe)] for side in ("left", "right")]
        if all(name in layout.index for foot in names for name in foot):
            return np.array([[layout.index[name] for name in foot] for foot in names])
    return None
