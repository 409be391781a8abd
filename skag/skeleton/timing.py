"""When frames were taken: from time stamps to a frame rate, and to frames an even time apart where they are not.

Sensors leave frames out when they are busy, and a recording stored without its stamps then runs fast and slow. Such
frames are moved to even time by straight lines between the two frames around each moment.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from ..plural import counted
from .store import Clip

_EVEN = 0.5  # of the median step, by which others may differ; one left out makes a step of two
_SAME_RATE = 0.03  # of a rate, as which stamps rounded to a millisecond count
_LONGEST_GAP = 1.0  # seconds that are bridged; joints in longer gaps are missing
_MOST_FRAMES = 4  # times as many as there were, and no more
_PLAUSIBLE = (1.0, 2000.0)  # frames per second: from a slow time lapse to the fastest motion capture
_CAMERA = (4.0, 1000.0)  # frames per second, where the unit is to be found by it
_UNITS = (1, 1e3, 1e6, 1e9)
_ON_THE_LAST = 0.05  # steps that the last moment may lie after the last frame, which then stands for it
_NAMED = 4  # rates in a sentence
RATES_DIFFER = 1.1  # from this factor between two rates on, motion looks faster in one than in the other


def rate_of(times: np.ndarray) -> float | None:
    """Frames per second of stamps `[T]` in seconds: the inverse of the mean of the steps that are about the median one.
    None where stamps do not rise, are fewer than two, or give a rate that no camera has."""
    times = np.asarray(times, np.float64)
    if len(times) < 2 or not np.isfinite(times).all():
        return None
    steps = np.diff(times)
    if not (steps > 0).all():
        return None
    middle = np.median(steps)
    rate = 1 / float(steps[np.abs(steps - middle) <= _EVEN * middle].mean())
    low, high = _PLAUSIBLE
    return round(float(rate), 3) if low <= rate <= high else None


def in_seconds(stamps: np.ndarray, unit: float = 0) -> np.ndarray:
    """Stamps `[T]` in seconds; `unit` is how many are in a second, 0 where that is not known: then the smallest of 1, a
    thousand, a million and a thousand million with which the frames come as often as a camera's."""
    steps = np.diff(stamps)
    step = float(np.median(steps)) if len(steps) else 0.0
    if not unit:
        unit = next((unit for unit in _UNITS if step > 0 and _CAMERA[0] <= unit / step <= _CAMERA[1]), 1)
    return (stamps - stamps[:1]) / unit


def is_even(times: np.ndarray) -> bool:
    """Whether every step of stamps `[T]` that rise is about the median one, so that no frame was left out."""
    steps = np.diff(np.asarray(times, np.float64))
    middle = np.median(steps)
    return bool((np.abs(steps - middle) <= _EVEN * middle).all())


def even(clip: Clip) -> tuple[Clip, str]:
    """The clip with the frame rate that its `times` say, frames moved to even time where they are not, and what was
    done: "" (nothing), "moved", or "unusable" where the stamps cannot be right and are left out.

    A rate that the clip has already is the one its frames are brought to; it stays where there are no stamps.
    """
    if clip.times is None:
        return clip, ""
    times = np.asarray(clip.times, np.float64)
    plain = replace(clip, times=None)
    if len(times) != clip.keypoints.shape[1]:
        return plain, "unusable"
    if len(times) < 2:
        return plain, ""
    found = rate_of(times)
    if found is None:
        return plain, "unusable"
    rate = clip.frame_rate or found
    plain = replace(plain, frame_rate=rate)
    if is_even(times) and abs(found / rate - 1) < _SAME_RATE:
        return plain, ""
    count = int((times[-1] - times[0]) * rate + _ON_THE_LAST) + 1
    if count > _MOST_FRAMES * len(times):
        return replace(plain, frame_rate=clip.frame_rate), "unusable"
    moments = times[0] + np.arange(count) / rate
    return _at(plain, times, moments), "moved"


def _at(clip: Clip, times: np.ndarray, moments: np.ndarray) -> Clip:
    """A clip at other moments.

    A joint is missing where the nearest frame lacks it, or the frames around a moment lie too far apart; where only the
    other one lacks it, it stands where the nearest has it.
    """
    after = np.clip(np.searchsorted(times, moments), 1, len(times) - 1)
    before = after - 1
    share = np.clip((moments - times[before]) / (times[after] - times[before]), 0, 1)[:, None]
    there = np.any(clip.keypoints, axis=-1)  # M T V
    first, last = there[:, before], there[:, after]
    weight = np.where(first & last, share, share > 0.5)[..., None].astype(np.float32)
    keypoints = (1 - weight) * clip.keypoints[:, before] + weight * clip.keypoints[:, after]
    inside = (times[after] - times[before] <= _LONGEST_GAP)[:, None] | (share < 1e-6) | (share > 1 - 1e-6)
    inside = inside & np.where(share > 0.5, last, first)
    keypoints = keypoints * inside[..., None]
    confidence = clip.confidence
    if confidence is not None:
        weight = weight[..., 0]
        confidence = ((1 - weight) * confidence[:, before] + weight * confidence[:, after]) * inside
        confidence = confidence.astype(np.float32)
    return replace(clip, keypoints=keypoints.astype(np.float32), confidence=confidence)


def with_rate(clip: Clip, frame_rate: float | None) -> Clip:
    """The clip with this rate where it has none of its own."""
    return clip if clip.frame_rate is not None or frame_rate is None else replace(clip, frame_rate=float(frame_rate))


def are_mixed(rates: np.ndarray) -> bool:
    """Whether known frame rates (NaN: unknown) differ so far that motion looks faster in some clips than in others."""
    known = rates[~np.isnan(rates)]
    return bool(len(known)) and float(known.max()) > RATES_DIFFER * float(known.min())


def in_words(rates: np.ndarray) -> str:
    """Known frame rates, rounded, the commonest first: "30 Hz (900), 120 Hz (12) and unknown (3)"."""
    known = np.round(rates[~np.isnan(rates)])
    values, counts = np.unique(known, return_counts=True)
    told = [f"{values[n]:g} Hz ({counts[n]})" for n in np.argsort(-counts, kind="stable")[:_NAMED]]
    if len(values) > _NAMED:
        told.append(f"{len(values) - _NAMED} more rates up to {values.max():g} Hz")
    if len(known) < len(rates):
        told.append(f"unknown ({len(rates) - len(known)})")
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"


class Tally:
    """What a conversion did about time, for its notes."""

    def __init__(self) -> None:
        self._done: Counter[str] = Counter()
        self._rates: list[float] = []

    def add(self, done: str) -> None:
        """Count what `even` did to one clip."""
        self._done[done] += 1

    def count_rate(self, clip: Clip) -> None:
        self._rates.append(np.nan if clip.frame_rate is None else clip.frame_rate)

    def notes(self) -> list[str]:
        """Sentences on frames that were moved, stamps that cannot be right, and rates that differ."""
        notes = []
        if moved := self._done["moved"]:
            whose = counted(moved, "recording", "lie/lie")
            notes.append(f"The frames of {whose} at uneven times; they are now an even time apart.")
        if unusable := self._done["unusable"]:
            whose = counted(unusable, "recording")
            notes.append(f"The time stamps of {whose} do not rise evenly enough to be right and are left out.")
        if are_mixed(np.array(self._rates)):
            notes.append(f"Frame rates differ: {in_words(np.array(self._rates))}.")
        return notes
