"""What in a skeleton store would spoil training, or make a test figure say less than it seems to.

A finding is an **error** where a network cannot be trained, learns nonsense, or is tested on what it was trained on; it
is a **remark** where training copes, published data sets have the like, or only the reader can judge. Errors:

    joint-count         the arrays are not those of the layout; nothing else is checked then
    unreadable          rows of a clip are not there or cannot be read: training stops at it
    not-finite          one NaN makes every weight NaN
    no-body             nobody is in the clip: its label is learned from nothing
    label-range         a label that is no class
    dead-joint          a joint that no clip has, or that never moves: the layout claims what the data lack. (The
                        layout's centre is let off: recordings centred on it have it at the origin.)
    unit                a 3-D body that is nobody's size in metres, centimetres or millimetres
    mixed-units         some 3-D clips have another unit than the rest
    sides               toes point to where the shoulders say the back is: left and right are exchanged
    up-axis             most bodies do not stand along the layout's up axis: heights and headings are nonsense
    image-size          2-D key points that are not pixels of the image they are said to lie in
    no-protocol         no training split with its test split: `skag train` has nothing to train on
    split-range         a split names clips that are not there
    one-class           fewer than two classes to tell apart
    class-untrained     a class is tested and never trained: training leaves it out, and evaluation its clips
    clip-in-both        the same clip, by number or name, is trained on and tested
    subject-overlap     (camera-overlap, setup-overlap) of a protocol that promises to keep them apart by its name
    duplicate-in-both   the same recording under two names is trained on and tested
    two-labels          the same recording has two labels
    changed-bytes       the file is no longer what was written: its checksum says so
    offsets             joints are offsets from their parent joint, not places

Remarks, those with * becoming errors where at least a tenth of the clips have them, since the conversion is then likely
at fault rather than some recordings:

    one-frame *, motionless *, frozen-frames *, unseen-frames *, upside-down *, no-confidence *
    missing-joints, stuck-joints         sensors and pose estimators lose joints
    missing-as-number                    joints that were not seen, written as a number (a store of an earlier skag)
    mixed-rates                          motion looks faster in clips of fewer frames a second
    unit, where the unit is plain        a recipe can scale (`unit_height`)
    name-twice, duplicate                clips of one side of a protocol
    near-duplicate                       a copy with noise, or a take very like another: the reader can tell
    class-empty                          training and describing leave it out
    class-tiny                           learns little

Memory: one clip at a time, and some 200 bytes a clip.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import DataError
from ..plural import counted
from .duplicates import COPY, copies, projections_of, signature
from .layouts import Layout
from .missing import missing_as_number
from .offsets import look_like_offsets
from .sides import Sides
from .store import SkeletonStore, is_as_written
from .timing import are_mixed, in_words

EXAMPLES = 3  # names that a finding gives
TINY_CLASS = 5  # training clips below which a class is called tiny
_NO_CONFIDENCE = 0.05  # of 1; estimators give what they are unsure of more
_WIDESPREAD = 0.1  # share of clips from which a blemish is no longer one
_MOST = 0.5  # of a clip's frames, or of all clips
_STILL = 1e-4  # of the body's radius; sensors' noise lies above it
_BODY_RADII = (0.2, 1.2)  # metres, median of clips; a standing adult has 0.5 in all layouts tried
_UNITS = {"metres": 1.0, "centimetres": 100.0, "millimetres": 1000.0}
_OTHER_UNIT = 8.0  # times the store's median radius; between children and tall people it is 2
_GROUPED_BY = {  # what a protocol's name promises to keep apart
    "xsub": "subject", "subject": "subject", "csv": "subject",
    "xview": "camera", "camera": "camera", "xset": "setup", "setup": "setup",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One kind of trouble: `what` says it in a sentence, `advice` what to do."""

    kind: str
    level: str  # "error" or "remark"
    what: str
    clips: int  # how many clips it concerns
    names: tuple[str, ...]  # up to three of them; of classes or joints where the finding is about those
    advice: str


@dataclass(frozen=True)
class Report:
    """What `check` found, errors first."""

    store: str
    clips: int
    frames: int
    classes: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not any(finding.level == "error" for finding in self.findings)


@dataclass
class _Facts:
    """What one pass over the clips collects: clip numbers by kind of finding, and a few numbers per clip."""

    joints_seen: np.ndarray  # clips with the joint, [V]
    joints_moving: np.ndarray
    sides: Sides
    numbers: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    usable: list[int] = field(default_factory=list)  # clips that the lists below are about
    radii: list[float] = field(default_factory=list)
    upright: list[tuple[int, int]] = field(default_factory=list)  # axis and sign; (-1, 0) where no part says
    digests: list[int] = field(default_factory=list)
    signatures: list[np.ndarray] = field(default_factory=list)
    offsets: list[bool] = field(default_factory=list)  # whether joints look like offsets from their parent joint
    moving: int = 0  # clips in which anything moves


def check(store: SkeletonStore, progress: Callable[[int, int | None], None] = lambda done, total: None) -> Report:
    """Look at every clip of a store once; `progress(done, total)` counts them. Raises `DataError` where its clips'
    names cannot be read."""
    names = _names(store)
    found = _shape_findings(store)
    if not found:
        splits, found = _splits(store)
        protocols = {name: (splits[train], splits[test]) for name, (train, test) in store.protocols().items()}
        facts = _look_at_clips(store, progress)
        found += _clip_findings(store, facts, names)
        found += _body_findings(store, facts, names)
        found += _class_findings(store, protocols, names)
        found += _protocol_findings(store, protocols, names)
        found += _rate_findings(store, names)
        found += _duplicate_findings(store, facts, protocols, names)
    if is_as_written(store.path) is False:
        found.append(_changed_bytes(store))
    found.sort(key=lambda finding: finding.level != "error")
    return Report(str(store.path), len(store), int(store.frames.sum()), len(store.classes), tuple(found))


def _names(store: SkeletonStore) -> list[str]:
    try:
        names = store.names
    except (KeyError, ValueError, OSError) as error:
        raise DataError(f"{store.path} is damaged (names of clips: {error}): convert it again.") from None
    if len(names) != len(store):
        raise DataError(f"{store.path} is damaged ({len(names)} names for {len(store)} clips): convert it again.")
    return names


def _finding(
    kind: str,
    numbers: Iterable[int],
    names: Sequence[str] | Mapping[int, str],
    what: str,
    advice: str,
    level: str = "error",
) -> list[Finding]:
    """A finding about these clips, or none where there are none; `{n}` in `what` is their number."""
    numbers = list(numbers)
    if not numbers:
        return []
    count = f"{len(numbers)} clip" + ("" if len(numbers) == 1 else "s")
    examples = tuple(names[number] for number in numbers[:EXAMPLES])
    return [Finding(kind, level, f"{count}: {what}", len(numbers), examples, advice)]


# ---------------------------------------------------------------- the store as a whole


def _shape_findings(store: SkeletonStore) -> list[Finding]:
    if not len(store):
        advice = "Convert recordings again and look at what was left out."
        return [Finding("one-class", "error", "The store holds no clip.", 0, (), advice)]
    try:
        shape = store.keypoints(0).shape[2:]
    except (ValueError, OSError):
        return []  # found again, and counted, when all clips are read
    layout = store.layout
    if shape == (layout.num_joints, layout.dims):
        return []
    held = " x ".join(map(str, shape))
    what = f"A frame holds {held} numbers; layout {layout.name} has {layout.num_joints} joints x {layout.dims}."
    advice = "Convert again with --layout, a layout's name or a TOML file that lists the joints recorded."
    return [Finding("joint-count", "error", what, len(store), tuple(store.names[:EXAMPLES]), advice)]


def _splits(store: SkeletonStore) -> tuple[dict[str, np.ndarray], list[Finding]]:
    """The splits without clip numbers that are not there, and what is wrong with them."""
    found = []
    splits = {}
    for name, numbers in store.splits.items():
        inside = (numbers >= 0) & (numbers < len(store))
        splits[name] = numbers[inside]
        if not inside.all():
            absent = int(np.sum(~inside))
            those = counted(absent, "clip", "that is/that are")
            what = f"Split {name} names {those} not there (the store has {len(store)})."
            found.append(Finding("split-range", "error", what, absent, (name,), "Convert again."))
    if not store.protocols():
        what = f"No training split with its test split; the store has {', '.join(store.splits) or 'no splits'}."
        advice = "Convert again with --split-by subject, camera or random, or name splits with --labels."
        found.append(Finding("no-protocol", "error", what, len(store), (), advice))
    return splits, found


def _class_findings(
    store: SkeletonStore, protocols: dict[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str]
) -> list[Finding]:
    num_classes = len(store.classes)
    inside = (store.labels >= 0) & (store.labels < num_classes)
    found = _finding(
        "label-range",
        np.flatnonzero(~inside).tolist(),
        names,
        f"the label is none of 0 to {num_classes - 1}, the numbers of the {num_classes} classes",
        "Give --classes all class names in label order, or mend the labels.",
    )

    def per_class(numbers: np.ndarray) -> np.ndarray:
        labels = store.labels[numbers]
        return np.bincount(labels[inside[numbers]], minlength=num_classes)

    def about(kind: str, level: str, classes: np.ndarray, clips: int, what: str, advice: str) -> None:
        if len(classes):
            listed = tuple(store.classes[k] for k in classes[:EXAMPLES])
            count = counted(len(classes), "class")
            found.append(Finding(kind, level, f"{count} {what}", clips, listed, advice))

    overall = per_class(np.arange(len(store)))
    about(
        "class-empty", "remark", np.flatnonzero(overall == 0), 0, "without any clip.",
        "Nothing to do: training and describing leave them out. A name that is spelt in two ways looks like this, too.",
    )  # fmt: skip
    sides = protocols or {"": (np.arange(len(store)), np.array([], int))}
    for protocol, (train, test) in sides.items():
        of = f" of protocol {protocol}" if len(sides) > 1 else ""
        trained, tested = per_class(train), per_class(test)
        if np.sum(trained > 0) < 2:
            what = f"The training clips{of} are of {np.sum(trained > 0)} class: there is nothing to tell apart."
            advice = "Convert recordings of at least two classes, or mend the splits."
            found.append(Finding("one-class", "error", what, len(train), (), advice))
        untrained = np.flatnonzero((tested > 0) & (trained == 0))
        about(
            "class-untrained", "error", untrained, int(tested[untrained].sum()), f"in the test split{of} only.",
            "Split again (--split-by random takes from every class): training leaves these classes out, and the test "
            "their clips.",
        )  # fmt: skip
        tiny = np.flatnonzero((trained > 0) & (trained < TINY_CLASS))
        about(
            "class-tiny", "remark", tiny, int(trained[tiny].sum()), f"with fewer than {TINY_CLASS} training clips{of}.",
            "Record more, or join classes; what is learned of so few is mostly their people.",
        )  # fmt: skip
    return found


def _protocol_findings(
    store: SkeletonStore, protocols: dict[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str]
) -> list[Finding]:
    groups = {"subject": store.subjects, "camera": store.cameras, "setup": store.setups}
    number_of: dict[str, int] = {}
    first = np.array([number_of.setdefault(name, number) for number, name in enumerate(names)])
    again = np.flatnonzero(first != np.arange(len(first)))
    both: dict[int, None] = {}
    overlaps: list[Finding] = []
    for protocol, (train, test) in protocols.items():
        shared = test[np.isin(first[test], first[train])]
        both.update(dict.fromkeys(shared.tolist()))
        for word, group in _GROUPED_BY.items():
            if word in protocol:
                values = groups[group]
                known = values[train][values[train] >= 0]
                overlap = test[np.isin(values[test], known)]
                listed = ", ".join(map(str, np.unique(values[overlap])[:EXAMPLES]))
                overlaps += _finding(
                    f"{group}-overlap",
                    overlap.tolist(),
                    names,
                    f"tested by protocol {protocol}, which trains on the same {group}s ({listed})",
                    f"Put every {group} on one side, or give the protocol a name that does not promise it.",
                )
                break
    found = _finding(
        "clip-in-both",
        both,
        names,
        "in the training and in the test split",
        "Take them out of one of the two; accuracy on them is no test.",
    )
    once = [number for number in again.tolist() if number not in both]
    twice = _finding(
        "name-twice", once, names, "a name that another clip has already", "Give every clip its own name.", "remark"
    )
    return found + overlaps + twice


# ---------------------------------------------------------------- clip by clip


def _look_at_clips(store: SkeletonStore, progress: Callable[[int, int | None], None]) -> _Facts:
    layout = store.layout
    none = np.zeros(layout.num_joints, int)
    facts = _Facts(joints_seen=none, joints_moving=none.copy(), sides=Sides(layout))
    projections = projections_of(layout.num_joints * layout.dims)
    for number in range(len(store)):
        if number % 50 == 0:
            progress(number, len(store))
        try:
            keypoints, confidence = store.keypoints(number), store.confidence(number)
        except (ValueError, OSError):
            facts.numbers["unreadable"].append(number)
            continue
        if not np.isfinite(keypoints).all() or not (confidence is None or np.isfinite(confidence).all()):
            facts.numbers["not-finite"].append(number)
            continue
        if confidence is not None and confidence.max(initial=0) < _NO_CONFIDENCE:
            facts.numbers["no-confidence"].append(number)
        as_number = missing_as_number(keypoints, confidence, layout)
        if as_number:
            facts.numbers["missing-as-number"].append(number)
        held = np.any(as_number.get("constant", np.zeros(keypoints.shape[:3], bool)), axis=(0, 1))
        _look_at_clip(facts, store, number, keypoints, projections, held)
    progress(len(store), len(store))
    return facts


def _look_at_clip(
    facts: _Facts,
    store: SkeletonStore,
    number: int,
    keypoints: np.ndarray,
    projections: np.ndarray,
    held: np.ndarray,
) -> None:
    """`held` `[V]` are joints that are told of as missing, and not as stuck."""
    present = np.any(keypoints, axis=-1)  # M T V
    seen = np.any(present, axis=-1)  # M T
    if not seen.any():
        facts.numbers["no-body"].append(number)
        return
    body, there = main_body(keypoints, seen), present[seen.sum(1).argmax()]
    there = there[there.any(axis=-1)]
    centred, radius = _centred(body, there)
    frames = seen.any(axis=0)
    spread = np.ptp(body, axis=0).max(axis=-1)  # V
    still = float(spread.max()) <= _STILL * radius
    if frames.sum() == 1:
        facts.numbers["one-frame"].append(number)
    elif still and len(keypoints) == 1:
        facts.numbers["motionless"].append(number)
    elif len(body) > 1:
        repeated = (body[1:] == body[:-1]).all(axis=(1, 2)).mean()
        if repeated > _MOST:
            facts.numbers["frozen-frames"].append(number)
        moves = (spread > _STILL * radius) | ~there.any(axis=0) | held
        facts.moving += not still
        facts.joints_moving += spread > 0
        if not still and not moves[np.arange(len(moves)) != store.layout.index[store.layout.centre]].all():
            facts.numbers["stuck-joints"].append(number)
    if frames.mean() < _MOST:
        facts.numbers["unseen-frames"].append(number)
    missing = 1 - there.mean(axis=0)
    missing[store.layout.index[store.layout.centre]] = 0
    if missing.max() > (0 if store.layout.dims == 3 else _MOST):
        facts.numbers["missing-joints"].append(number)
    if store.layout.dims == 2 and not _fits_image(body[there], int(store.widths[number]), int(store.heights[number])):
        facts.numbers["image-size"].append(number)
    facts.sides.add(keypoints)
    facts.joints_seen += there.any(axis=0)
    facts.usable.append(number)
    facts.radii.append(radius)
    facts.upright.append(standing_along(body, there, store.layout))
    facts.digests.append(int.from_bytes(hashlib.blake2b(keypoints[:, frames].tobytes(), digest_size=8).digest()))
    facts.signatures.append(signature(centred, projections))
    facts.offsets.append(store.layout.dims == 3 and look_like_offsets(body, there, store.layout))


def main_body(keypoints: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """`[T, V, C]` of the body that is in most frames, those frames only."""
    main = seen.sum(axis=1).argmax()
    return keypoints[main, seen[main]].astype(np.float64)


def _centred(body: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, float]:
    """A body around the middle of its joints in every frame, missing joints zero, and its radius: the root mean
    square distance of a joint from there, in the median frame."""
    count = there.sum(axis=1)[:, None]
    centred = (body - (body.sum(axis=1) / count)[:, None]) * there[..., None]
    return centred, float(np.median(np.sqrt((centred**2).sum(axis=(1, 2)) / count[:, 0])))


def radius_of(body: np.ndarray, there: np.ndarray) -> float:
    """The root mean square distance of a body's joints from their middle, in the median frame."""
    return _centred(body, there)[1]


def moves_at_all(body: np.ndarray, radius: float) -> bool:
    """Whether any joint of a body `[T, V, C]` leaves its place by more than rounding."""
    return float(np.ptp(body, axis=0).max()) > _STILL * radius


def standing_along(body: np.ndarray, there: np.ndarray, layout: Layout) -> tuple[int, int]:
    """Axis and sign that lead from the legs to the trunk; (-1, 0) where the layout or the clip lacks either."""
    lines = layout.standing_lines(body, there)
    if not len(lines):
        return -1, 0
    line = lines.mean(axis=0)
    axis = int(np.abs(line).argmax())
    return axis, int(np.sign(line[axis]))


def _fits_image(points: np.ndarray, width: int, height: int) -> bool:
    """Whether points `[n, 2]` can be pixels: most lie in or near the image, and they are not all in one pixel's
    neighbourhood, as coordinates from 0 to 1 or -1 to 1 are."""
    if width <= 0 or height <= 0:
        return True
    size = np.array([width, height])
    near = ((points > -size / 2) & (points < 1.5 * size)).all(axis=1)
    return near.mean() >= _MOST and (size.max() < 16 or float(np.abs(points).max()) > 2)


def _clip_findings(store: SkeletonStore, facts: _Facts, names: Sequence[str]) -> list[Finding]:
    blemish = "error-if-widespread"
    lost = "joints that are missing" + ("" if store.layout.dims == 3 else " in more than half of the frames")
    worded = {
        "unreadable": ("error", "cannot be read from the file", "The store is damaged: convert again."),
        "not-finite": ("error", "NaN or infinite values", "Leave them out, or write 0 for joints that were not found."),
        "no-body": ("error", "no joint in any frame", "Leave them out of the recordings."),
        "image-size": (
            "error", "key points that are not pixels of an image of the size given",
            "Give pixels, not shares of the image; look at width and height.",
        ),
        "one-frame": (blemish, "a single frame, so no motion", "Leave them out where motion matters."),
        "motionless": (blemish, "nothing moves in any frame", "Look at them (skag show) and leave them out."),
        "frozen-frames": (
            blemish, "more than half of the frames repeat the one before",
            "Cut off repeated frames that fill up clips to one length.",
        ),
        "unseen-frames": (
            blemish, "nobody is seen in more than half of the frames",
            "Such frames are skipped; cut the clips to when people are there.",
        ),
        "missing-joints": (
            "remark", lost,
            "Look at them (skag show); missing joints count as zero.",
        ),
        "no-confidence": (
            blemish, f"no joint with a confidence of {_NO_CONFIDENCE} or more",
            "Convert again without the confidence; a network takes it for joints that were not seen.",
        ),
        "missing-as-number": (
            "remark", "joints that were not seen written as a number (such as -1, or one place for many frames)",
            "Convert again: such joints become 0, which counts as missing.",
        ),
        "stuck-joints": (
            "remark", "some joints never move while others do",
            "Look at them (skag show); such joints were most likely not seen.",
        ),
    }  # fmt: skip
    found = []
    for kind, (level, what, advice) in worded.items():
        numbers = facts.numbers[kind]
        if level == blemish:
            level = _widespread(len(numbers), len(store))
        found += _finding(kind, numbers, names, what, advice, level)
    return found


def _widespread(count: int, clips: int) -> str:
    return "error" if count >= _WIDESPREAD * clips and count > 1 else "remark"


def _body_findings(store: SkeletonStore, facts: _Facts, names: Sequence[str]) -> list[Finding]:
    if not facts.usable:
        return []
    layout = store.layout
    found = []
    dead = facts.joints_seen == 0
    if facts.moving > 1:
        dead |= facts.joints_moving == 0
    dead[layout.index[layout.centre]] = False
    if dead.any():
        joints = [layout.joints[v] for v in np.flatnonzero(dead)]
        what = f"{len(joints)} of {len(layout.joints)} joints are missing or never move in any clip."
        advice = "Convert again with --layout, a layout without them; a network cannot tell anything by them."
        found.append(Finding("dead-joint", "error", what, len(facts.usable), tuple(joints[:EXAMPLES]), advice))
    radii, usable = np.array(facts.radii), np.array(facts.usable)
    offsets = np.array(facts.offsets)
    if offsets.mean() >= _MOST:
        found += _finding(
            "offsets", usable[offsets].tolist(), names,
            "joints look like offsets from their parent joint: they hug the origin and keep their distance from it",
            "Add to every joint the place of its parent, turned by the angles where the recordings have them, and "
            "convert again.",
        )  # fmt: skip
    if layout.dims == 3:
        found += _size_findings(radii, usable, names)
    standing = np.array(facts.upright)
    axis, sign = layout.up_axis
    known = standing[:, 0] >= 0
    right = (standing == (axis, sign)).all(axis=1)
    flipped = (standing == (axis, -sign)).all(axis=1)
    if known.any() and right.sum() < _MOST * known.sum():
        axes, counts = np.unique(standing[known], axis=0, return_counts=True)
        usual_axis, usual_sign = axes[counts.argmax()]
        usual = ("-" if usual_sign < 0 else "") + "xyz"[usual_axis]
        found += _finding(
            "up-axis", usable[known & ~right].tolist(), names,
            f"the body does not stand along the layout's up axis {layout.up}; most stand along {usual}",
            f"Convert again with --layout FILE.toml, a copy of {layout.name} with the up axis of your recordings, "
            "or turn them.",
        )  # fmt: skip
    else:
        found += _finding(
            "upside-down", usable[flipped].tolist(), names, f"upside down (the layout's up axis is {layout.up})",
            "Look at them (skag show) and turn them, or leave them out.", _widespread(int(flipped.sum()), len(store)),
        )  # fmt: skip
        if facts.sides.exchanged:  # without knowing what is up nobody can tell
            advice = (
                "Convert again with --layout FILE.toml that lists the joints as they were recorded, or mirror them."
            )
            found.append(Finding("sides", "error", facts.sides.note(), len(facts.usable), (), advice))
    return found


def _size_findings(radii: np.ndarray, usable: np.ndarray, names: Sequence[str]) -> list[Finding]:
    radii = np.maximum(radii, np.finfo(float).tiny)
    middle = float(np.median(radii))
    found = []
    low, high = _BODY_RADII
    unit = next((unit for unit, size in _UNITS.items() if low <= middle / size <= high), None)
    if unit != "metres":
        size = f"Bodies are {middle / 0.5:.3g} times as large as people in metres"
        level, what, advice = (
            ("error", f"{size}, which fits no unit.", "Write coordinates in metres.")
            if unit is None
            else (
                "remark",
                f"{size}: coordinates are likely {unit}.",
                "Write metres, or train with --set data.unit_height=true; published recipes expect metres.",
            )
        )
        found.append(Finding("unit", level, what, len(usable), tuple(names[n] for n in usable[:EXAMPLES]), advice))
    factor = np.maximum(radii / middle, middle / radii)
    return found + _finding(
        "mixed-units", usable[factor > _OTHER_UNIT].tolist(), names,
        f"the body is over {_OTHER_UNIT:.0f} times larger or smaller than that of most clips",
        "Bring all recordings to one unit before converting.",
    )  # fmt: skip


def _rate_findings(store: SkeletonStore, names: Sequence[str]) -> list[Finding]:
    rates = store.frame_rates
    if not are_mixed(rates):
        return []
    known = rates[~np.isnan(rates)]
    usual = np.median(known)
    other = np.flatnonzero(~np.isnan(rates) & (np.abs(np.log(rates / usual)) > np.log(1.1)))
    return _finding(
        "mixed-rates", other.tolist(), names,
        f"another frame rate than most; the store has {in_words(rates)}",
        "Bring all recordings to one rate before converting, or see that no class has its own.", "remark",
    )  # fmt: skip


def _changed_bytes(store: SkeletonStore) -> Finding:
    what = "The bytes of the store are not those that were written when it was made (its checksum differs)."
    advice = "Convert again, or copy the store anew; nothing trained on it can be trusted."
    return Finding("changed-bytes", "error", what, len(store), (), advice)


# ---------------------------------------------------------------- the same recording twice


def _duplicate_findings(
    store: SkeletonStore,
    facts: _Facts,
    protocols: dict[str, tuple[np.ndarray, np.ndarray]],
    names: Sequence[str],
) -> list[Finding]:
    if not facts.usable:
        return []
    usable = np.array(facts.usable)
    trains = np.zeros((len(protocols), len(store)), bool)
    tests = np.zeros_like(trains)
    for row, (train, test) in enumerate(protocols.values()):
        trains[row, train] = tests[row, test] = True
    digests = np.array(facts.digests, np.uint64)
    pairs = {
        pair
        for group in _equal_groups(digests, usable)
        for pair in _linked(group, trains, tests)
    }  # fmt: skip
    moving = ~np.isin(usable, [*facts.numbers["one-frame"], *facts.numbers["motionless"]])
    scale = float(np.median(facts.radii)) or 1.0
    signatures = np.array(facts.signatures)[moving] / np.float32(scale)
    differ = copies(store.keypoints, usable[moving], signatures, digests[moving])
    pairs |= {pair for pair, difference in differ.items() if difference <= COPY}
    near = {pair: difference for pair, difference in differ.items() if pair not in pairs}

    across: dict[int, str] = {}
    labels: dict[int, str] = {}
    within: dict[int, str] = {}
    for one, other in sorted(pairs):
        forth, back = (trains[:, one] & tests[:, other]).any(), (trains[:, other] & tests[:, one]).any()
        if names[one] == names[other] and (forth or back):
            continue  # found as a clip in both splits
        tested, its_copy = (one, other) if back and not forth else (other, one)
        text = f"{names[tested]} = {names[its_copy]}"
        if forth or back:
            across.setdefault(tested, text)
        elif store.labels[one] == store.labels[other]:
            within.setdefault(tested, text)
        if store.labels[one] != store.labels[other]:
            labels.setdefault(tested, text)
    equal = f"(they differ by {100 * COPY:g} % of the body at most)"
    worded = (
        ("duplicate-in-both", "error", across,
         f"tested, and the same recording is trained on under another name {equal}",
         "Take one of each pair out; accuracy on them is no test."),
        ("two-labels", "error", labels, f"the same recording as another clip {equal}, with another label",
         "Look at both (skag show) and keep the right label."),
        ("duplicate", "remark", within, f"the same recording as another clip {equal}",
         "Keep one of each pair; a repeated clip counts twice."),
        ("near-duplicate", "remark", _near_in_words(near, names),
         "nearly the same as another clip, after the shift in time and place that fits best",
         "Look at both (skag show): a noisy copy is to be taken out, another take is not."),
    )  # fmt: skip
    return [
        finding
        for kind, level, texts, what, advice in worded
        for finding in _finding(kind, texts, texts, what, advice, level)
    ]


def _near_in_words(near: dict[tuple[int, int], float], names: Sequence[str]) -> dict[int, str]:
    """Clip -> "its name ~ the other's (1.2 % of the body)"."""
    texts: dict[int, str] = {}
    for (one, other), difference in sorted(near.items(), key=lambda item: item[1]):
        texts.setdefault(other, f"{names[other]} ~ {names[one]} ({100 * difference:.1f} % of the body)")
    return texts


def _equal_groups(digests: np.ndarray, numbers: np.ndarray) -> list[np.ndarray]:
    """Clip numbers of every two or more clips with the same digest."""
    order = np.argsort(digests, kind="stable")
    ends = np.flatnonzero(np.diff(digests[order])) + 1
    return [group for group in np.split(numbers[order], ends) if len(group) > 1]


def _linked(group: np.ndarray, trains: np.ndarray, tests: np.ndarray) -> Iterable[tuple[int, int]]:
    """Pairs that link a group, among them one with a training clip for every member that some protocol tests."""
    anchors = {int(group[0])}
    for row in range(len(trains)):
        trained = group[trains[row, group]]
        if len(trained) and tests[row, group].any():
            anchors.add(int(trained[0]))
    return {(min(a, n), max(a, n)) for a in anchors for n in group.tolist() if a != n}
