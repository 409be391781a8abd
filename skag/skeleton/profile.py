"""What the clips are like that a network is trained on, and what is odd about a recording beside them.

A network answers whatever it is shown. A recording in pixels where it learned metres, or upside down, gets a sure and
wrong answer, so it is compared in a few plain numbers before anybody believes the answer: which axis is up, how large
the body is, how its bones stand to each other, how much of it is missing, how much it moves, how long it lasts.

    profile = profile_of(store, numbers)               a small dict that JSON can hold
    remarks = compare(profile, clip, layout)           a sentence each; none for a recording like the training clips

The limits are wide on purpose: what the training clips show from the first to the last, and a margin for other people,
cameras and rooms. Of honest recordings of the same set 98 % and more have no remark.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from .check import main_body, moves_at_all, radius_of, standing_along
from .layouts import Layout
from .store import Clip, SkeletonStore

VERSION = 1
MOST_CLIPS = 1000  # that are looked at, evenly chosen
_LOW, _HIGH = 0.005, 0.995  # quantiles that stand for the range of the training clips, strays left out
_SIZE = 2.0  # times beyond the range of sizes; a child is half as tall as a tall person
_LENGTH = 3.0  # times beyond the range of frames or seconds
_MOTION = 10.0  # times less motion than the stillest training clips
_MISSING = 0.05  # of all joints, more than training clips lack
_PROPORTION = 2.0  # times beyond how far training clips are from their usual bones
_LEAST_PROPORTION = 0.2  # of a bone's length, on average, which is no oddity
_RARE = 0.005  # share of training clips below which a direction of the body is odd
_RATE = 1.5  # times faster or slower
_NORMALISED = 4.0  # coordinates up to here are shares of an image or metres and no pixels
_FEWEST_FRAMES = 2


def profile_of(store: SkeletonStore, numbers: np.ndarray) -> dict[str, Any]:
    """What the clips of these numbers are like: plain numbers, lists and texts. Clips without a body are left out."""
    chosen = numbers[np.linspace(0, len(numbers) - 1, min(len(numbers), MOST_CLIPS)).astype(int)]
    found = [
        facts
        for number in chosen.tolist()
        if (facts := _facts(store.keypoints(number), store.layout, store.frame_rate(number))) is not None
    ]
    if not found:
        return {"version": VERSION, "clips": 0}
    bones = np.array([facts["bones"] for facts in found])
    known = ~np.isnan(bones)
    usual = [float(np.median(bones[known[:, v], v])) if known[:, v].any() else None for v in range(bones.shape[1])]
    off = [_off(row, usual) for row in bones]
    seconds = [facts["seconds"] for facts in found if facts["seconds"] is not None]
    rates = [facts["rate"] for facts in found if facts["rate"] is not None]
    up = Counter(facts["up"] for facts in found if facts["up"])
    return {
        "version": VERSION,
        "clips": len(found),
        "up": {axis: count / up.total() for axis, count in up.most_common()},
        "bones": usual,
        "rate": float(np.median(rates)) if rates else None,
        "seconds": _range(seconds) if len(seconds) == len(found) else None,
        "off": _range([value for value in off if value is not None]),
        **{name: _range([facts[name] for facts in found]) for name in ("size", "reach", "frames", "missing", "motion")},
    }


def compare(profile: dict[str, Any], clip: Clip, layout: Layout) -> list[str]:
    """What is odd about a recording (cleaned as a conversion cleans it) beside the training clips: sentences that go on
    from its name, such as "has one frame, so that no motion can be seen"."""
    if not profile.get("clips"):
        return []
    facts = _facts(clip.keypoints, layout, clip.frame_rate)
    if facts is None:
        return ["has no joint in any frame"]
    remarks = [_length(profile, facts), _motion(profile, facts), _size(profile, facts), _up(profile, facts)]
    remarks += [_missing(profile, facts), _proportions(profile, facts), _rate(profile, facts)]
    return [remark for remark in remarks if remark]


def shows_no_action(clip: Clip, layout: Layout) -> bool:
    """Whether a recording has no frame, one alone, or no motion: nothing in it can be an action."""
    facts = _facts(clip.keypoints, layout, clip.frame_rate)
    return facts is None or facts["frames"] < _FEWEST_FRAMES or facts["still"]


def _facts(keypoints: np.ndarray, layout: Layout, rate: float | None) -> dict[str, Any] | None:
    present = np.any(keypoints, axis=-1)
    seen = np.any(present, axis=-1)
    if not seen.any():
        return None
    main = seen.sum(axis=1).argmax()
    body, there = main_body(keypoints, seen), present[main][seen[main]]
    size = radius_of(body, there)
    axis, sign = standing_along(body, there, layout)
    spread = np.where(there.all(axis=0), body.std(axis=0).max(axis=-1), np.nan)
    in_most = there.mean(axis=0) > 0.5
    moved = (
        np.nanmax(np.where(in_most, spread, np.nan)) if not np.isnan(np.where(in_most, spread, np.nan)).all() else 0.0
    )
    frames = int(seen[main].sum())
    return {
        "frames": frames,
        "seconds": None if rate is None else frames / rate,
        "rate": rate,
        "size": size,
        "reach": float(np.abs(body[there]).max()),
        "up": "" if axis < 0 else ("-" if sign < 0 else "") + "xyz"[axis],
        "missing": float(1 - present[main].mean()),
        "motion": float(moved) / max(size, 1e-12),
        "still": not moves_at_all(body, size),
        "bones": _bones(body, there, layout),
    }


def _bones(body: np.ndarray, there: np.ndarray, layout: Layout) -> np.ndarray:
    """`[V]` usual length of the bone to every joint's parent, as a share of all of them; NaN where it is not seen."""
    parent = np.array([layout.index[layout.bones.get(joint, joint)] for joint in layout.joints])
    both = there & there[:, parent]
    lengths = np.where(both, np.linalg.norm(body - body[:, parent], axis=-1), np.nan)
    found = np.full(len(parent), np.nan)
    some = both.any(axis=0) & (parent != np.arange(len(parent)))
    found[some] = np.nanmedian(lengths[:, some], axis=0)
    total = np.nansum(found)
    return found / total if total > 0 else found


def _off(bones: np.ndarray, usual: list[float | None]) -> float | None:
    """How far bones are from the usual ones: the sum of what they differ by, as a share of all bones."""
    expected = np.array([np.nan if value is None else value for value in usual])
    both = ~np.isnan(bones) & ~np.isnan(expected)
    if not both.any():
        return None
    mine, theirs = bones[both], expected[both]
    if mine.sum() <= 0 or theirs.sum() <= 0:
        return None
    return float(np.abs(mine / mine.sum() - theirs / theirs.sum()).sum())


def _range(values: list[float]) -> list[float] | None:
    """Low, middle and high."""
    return [float(value) for value in np.quantile(values, [_LOW, 0.5, _HIGH])] if values else None


# ---------------------------------------------------------------- remarks


def _length(profile: dict[str, Any], facts: dict[str, Any]) -> str:
    frames = facts["frames"]
    if frames < _FEWEST_FRAMES <= profile["frames"][0]:
        return "has one frame, so that no motion can be seen"
    unit = "seconds" if profile["seconds"] and facts["seconds"] else "frames"
    low, _, high = profile[unit]
    if not low / _LENGTH <= facts[unit] <= high * _LENGTH:
        return f"lasts {facts[unit]:.3g} {unit}; the training clips last {low:.3g} to {high:.3g}"
    return ""


def _motion(profile: dict[str, Any], facts: dict[str, Any]) -> str:
    if facts["frames"] < _FEWEST_FRAMES:
        return ""
    low = profile["motion"][0]
    if facts["still"] or facts["motion"] < low / _MOTION:
        return "hardly moves: no training clip is as still" if low > 0 else ""
    return ""


def _size(profile: dict[str, Any], facts: dict[str, Any]) -> str:
    low, usual, high = profile["size"]
    times = facts["size"] / max(usual, 1e-12)
    if low / _SIZE <= facts["size"] <= high * _SIZE:
        return ""
    if times > 1 and profile["reach"][2] <= _NORMALISED < facts["reach"]:
        why = "in pixels or another unit, where they are normalised or in metres"
    elif times < 1 and facts["reach"] <= _NORMALISED < profile["reach"][0]:
        why = "normalised or in another unit, where they are in pixels or a smaller unit"
    else:
        why = "perhaps in another unit"
    how = f"{times:.3g} times as large as" if times > 1 else f"{1 / max(times, 1e-12):.3g} times smaller than"
    return f"shows a body {how} those of the training clips: {why}"


def _up(profile: dict[str, Any], facts: dict[str, Any]) -> str:
    if not facts["up"] or not profile["up"] or profile["up"].get(facts["up"], 0.0) >= _RARE:
        return ""
    usual = next(iter(profile["up"]))
    what = "is upside down" if facts["up"].strip("-") == usual.strip("-") else "stands along another axis"
    return f"{what}: its body stands along {facts['up']}, those of the training clips along {usual}"


def _missing(profile: dict[str, Any], facts: dict[str, Any]) -> str:
    high = profile["missing"][2]
    if facts["missing"] <= high + _MISSING:
        return ""
    return f"lacks {100 * facts['missing']:.0f} % of its joints; the training clips lack {100 * high:.0f} % at most"


def _proportions(profile: dict[str, Any], facts: dict[str, Any]) -> str:
    off = _off(facts["bones"], profile["bones"])
    if off is None or profile["off"] is None or off <= max(_PROPORTION * profile["off"][2], _LEAST_PROPORTION):
        return ""
    return f"shows a body of other proportions: its bones differ by {100 * off:.0f} % from the usual ones"


def _rate(profile: dict[str, Any], facts: dict[str, Any]) -> str:
    if not profile["rate"] or not facts["rate"]:
        return ""
    times = facts["rate"] / profile["rate"]
    if 1 / _RATE <= times <= _RATE:
        return ""
    return f"has {facts['rate']:.3g} frames a second; the training clips have {profile['rate']:.3g}"
