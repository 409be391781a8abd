"""What can be said of a motion in plain sentences and be measured too.

"The hips go down" resembles "sit down" more than it resembles "wave", and how far the hips of a clip go down is
measured. So the likeness of sentences to a class's text says what to expect of its clips. Nothing is learned but how
large measures usually are. Sentences and temperature were compared on held-out seen classes (docs/unseen.md).

Letters of this file: n clips, V joints, K classes, A attributes, D width of a text's vector.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..skeleton.kinematics import JOINT_FEATURES, Anatomy
from ..skeleton.layouts import Layout

_TEMPERATURE = 0.05  # of the softmax over sentences
_FARTHEST = 3.0  # standard deviations from the mean, at most, that a measure counts as
How = Literal["mean", "highest", "one side"]


@dataclass(frozen=True)
class Attribute:
    """A sentence and its measure: a feature (`kinematics.JOINT_FEATURES`) of a body part's joints."""

    sentence: str
    part: str  # as `Anatomy.parts` has them
    feature: str
    sign: int = 1  # -1: it is true where the feature is small
    how: How = "mean"  # over the part's joints; "one side": how unequal the sides are


ATTRIBUTES = (
    Attribute("the hands move a lot", "hand", "range"),
    Attribute("the hands move fast", "hand", "speed"),
    Attribute("the hands are raised", "hand", "up"),
    Attribute("the hands are lowered", "hand", "up", -1),
    Attribute("the hands go up and come down again", "hand", "rise"),
    Attribute("the hands reach down to the ground", "hand", "dip"),
    Attribute("the hands reach forward", "hand", "reach"),
    Attribute("the hands move apart to the sides", "hand", "outward"),
    Attribute("the hands are above the head", "hand", "top"),
    Attribute("the hands hang low", "hand", "bottom", -1),
    Attribute("the hands are held in front of the body", "hand", "ahead"),
    Attribute("the hands touch the head", "hand", "near head", -1),
    Attribute("the hands wave back and forth repeatedly", "hand", "swings"),
    Attribute("one hand moves", "hand", "range", 1, "one side"),
    Attribute("both hands move together", "hand", "range", -1, "one side"),
    Attribute("the head moves a lot", "head", "range"),
    Attribute("the head goes down", "head", "up", -1),
    Attribute("the head goes up", "head", "up"),
    Attribute("the person bends down and straightens again", "head", "dip"),
    Attribute("the person jumps", "head", "rise"),
    Attribute("the person leans forward", "head", "ahead"),
    Attribute("the hips go down, the person sits", "hip", "up", -1),
    Attribute("the hips go up, the person stands up", "hip", "up"),
    Attribute("the hips move a lot", "hip", "range"),
    Attribute("the person squats", "hip", "dip"),
    Attribute("the person jumps into the air", "hip", "rise"),
    Attribute("the knees bend", "leg", "range"),
    Attribute("a knee is raised", "leg", "top"),
    Attribute("one leg is lifted", "foot", "top", 1, "highest"),
    Attribute("the feet step", "foot", "range"),
    Attribute("the legs move fast", "foot", "speed"),
    Attribute("the feet step again and again", "foot", "swings"),
    Attribute("the person kicks", "foot", "reach", 1, "highest"),
    Attribute("one leg moves", "foot", "range", 1, "one side"),
    Attribute("the elbows are lifted", "arm", "top"),
    Attribute("the elbows bend", "arm", "range"),
    Attribute("the arms swing", "arm", "swings"),
)


def measured(motion: np.ndarray, layout: Layout, attributes: Sequence[Attribute] = ATTRIBUTES) -> np.ndarray:
    """How far each attribute is true of clips, `[n, A]`, of their `kinematics.joint_motion` in one row each,
    `[n, V * 17]`; NaN where the layout or the clip lacks the joints."""
    features = motion.reshape(len(motion), layout.num_joints, len(JOINT_FEATURES))
    parts, found = Anatomy(layout).parts, np.full((len(motion), len(attributes)), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of clips without such a joint, which stay NaN
        for number, each in enumerate(attributes):
            joints = parts.get(each.part, ())
            if not len(joints):
                continue
            values = features[:, joints, JOINT_FEATURES.index(each.feature)]
            if each.how == "one side":
                if len(joints) < 2:
                    continue
                high, low = np.nanmax(values, 1), np.nanmin(values, 1)
                value = (high - low) / (np.abs(high) + np.abs(low) + 1e-6)
            else:
                value = np.nanmax(values, 1) if each.how == "highest" else np.nanmean(values, 1)
            found[:, number] = each.sign * value
    return found


def likeness(text: np.ndarray, sentences: np.ndarray) -> np.ndarray:
    """Which of the sentences `[A, D]` each text `[K, D]` resembles, all of length 1: softmax of cosines, `[K, A]`."""
    cosines = text @ sentences.T / _TEMPERATURE
    weights = np.exp(cosines - cosines.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def fit(
    motion: np.ndarray, trained: np.ndarray, sentences: np.ndarray, layout: Layout
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """What scores clips among texts, (motion `[n, V * 17]`, text `[K, D]`) -> `[n, K]`: the standardised measures of
    what the text resembles more than the texts of the `trained` classes `[K, D]` do. `motion` is of training clips."""
    values = measured(motion, layout)
    there = np.isfinite(values).any(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        centre, spread = np.nanmean(values, 0), np.maximum(np.nanstd(values, 0), 1e-6)
    usual = likeness(trained, sentences).mean(0)

    def scores(motion: np.ndarray, text: np.ndarray) -> np.ndarray:
        standard = np.nan_to_num((measured(motion, layout) - centre) / spread).clip(-_FARTHEST, _FARTHEST)
        return standard[:, there] @ (likeness(text, sentences) - usual).T[there]

    return scores
