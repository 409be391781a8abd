"""From recordings as people have them to one skeleton store: `skag convert`.

Recordings are streamed, a few in memory at a time (a pickle alone has to be loaded whole), and read by several
processes where that takes time. One that cannot be used is left out with its name and the reason and never moves
another's label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .errors import DataError
from .parallel import Workers
from .plural import counted
from .readers import OWN, known_formats, read, reader
from .readers.archives import Files, printable
from .readers.chosen_classes import classes_from as read_classes_from
from .readers.chosen_classes import counted_from_0, with_classes
from .readers.counted import counted_reasons
from .readers.label_names import read_names
from .readers.label_tables import read_labels
from .readers.name_patterns import name_pattern
from .readers.source import Options, Skipped, Source, Unusable
from .readers.split_names import RULE, is_part, unknown_parts
from .skeleton import timing
from .skeleton.layouts import Layout, load_layout
from .skeleton.missing import Missing, mark_missing
from .skeleton.offsets import clip_of_offsets
from .skeleton.sides import Sides
from .skeleton.splitting import SPLIT_BY, SplitBy, SplitRecording, make_splits
from .skeleton.splitting import split_by as read_split_by
from .skeleton.store import Clip, StoreWriter, is_store, write_store
from .suggestions import no_recordings
from .targets import check_target

Progress = Callable[[int, int | None], None]  # recordings done, recordings in all where known


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion made."""

    clips: int
    classes: list[str]
    layout: str
    joints: int
    bodies: int  # most in one clip
    frames: int  # of all clips
    splits: dict[str, int]  # clips of every split
    skipped: list[tuple[str, str]]  # (name, reason)
    notes: list[str]  # what the user should know, a sentence each
    class_counts: dict[str, int] = field(default_factory=dict)  # clips of every class
    classes_from: str = ""  # what classes were taken from
    could_be: list[str] = field(default_factory=list)  # what else they could be, each with the option for it


def open_source(
    source: Path,
    *,
    format: str | None = None,
    layout: str | None = None,
    classes: Path | None = None,
    labels: Path | None = None,
    classes_from: str | None = None,
    label_from: str | None = None,
    split_column: str | None = None,
    workers: Workers | None = None,
) -> Source:
    """Find the reader of a file, folder or archive and open it. Raises `DataError`.

    `layout` is a layout's name or TOML file, `classes` a text file with a class name per line. For people's own
    formats, `labels` is a CSV file with the class of every recording, `classes_from` a column of tables, `folder` or
    `folder:N`, `label_from` a pattern of file names, `split_column` what is to be split by. `workers` read the files
    of formats that take time to read; without them it is done here.
    """
    if labels is not None and (classes_from is not None or label_from is not None):
        raise DataError("--labels says where classes come from: leave --classes-from and --label-from out.")
    options = Options(
        layout=load_layout(layout) if layout is not None else None,
        classes=read_names(classes) if classes is not None else None,
        labels=read_labels(labels) if labels is not None else None,
        workers=workers or Workers(),
        classes_from=read_classes_from(classes_from) if classes_from is not None else None,
        pattern=name_pattern(label_from) if label_from is not None else None,
        split_column=split_column,
    )
    files = Files(source, without=[path for path in (labels, classes) if path is not None])
    module = reader(files, format)
    if module in OWN:
        return read(files, format, options, module)
    given = {"--labels": labels, "--classes-from": classes_from, "--label-from": label_from}
    if option := next((name for name, value in given.items() if value is not None), None):
        raise DataError(f"{files.shown} brings its own labels: leave {option} out, or say --format for your own data.")
    if split_column is not None:
        raise DataError(
            f"no split by {split_column!r}: {files.shown} has no such column; use one of {', '.join(SPLIT_BY)}."
        )
    if options.classes is None:
        return counted_from_0(read(files, format, options, module))
    by_name = with_classes(read(files, format, replace(options, classes=None), module), options.classes)
    return by_name or read(files, format, options, module)


@np.errstate(all="ignore")  # a number that is too large becomes infinite on its way, and then a gap
def convert(
    source: Path,
    out: Path,
    *,
    format: str | None = None,
    layout: str | None = None,
    classes: Path | None = None,
    labels: Path | None = None,
    classes_from: str | None = None,
    label_from: str | None = None,
    split_by: str | None = None,
    strict: bool = False,
    fps: float | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> ConvertReport:
    """Convert a data set into the skeleton store `out`, which appears only when it is complete, and replaces nothing
    but a skeleton store.

    The format is guessed where it is not named; `open_source` says what the other options are. `split_by` adds splits
    by "subject", "camera" or "setup", at "random", or by any column of people's own recordings ("age", "age=child" to
    test on that); recordings that bring none are split at random. With `strict` the first recording that cannot be
    used stops the conversion. `fps` is the frame rate of recordings that do not say theirs. `jobs` processes read, and
    one writes: the store is the same with any number of them. (They are started anew, so a script that asks for several
    has to have its code under `if __name__ == "__main__":`.) Raises `DataError`.
    """
    source, out = Path(source), Path(out)
    wanted = read_split_by(split_by) if split_by is not None else None
    _check_target(source, out)
    if format is None and (other := no_recordings(source)):
        raise DataError(other)

    workers = Workers(jobs)
    data = open_source(
        source,
        format=format,
        layout=layout,
        classes=classes,
        labels=labels,
        classes_from=classes_from,
        label_from=label_from,
        split_column=wanted.column if wanted else None,
        workers=workers,
    )
    tally = _Tally(data, strict, fps)
    try:
        with workers, write_store(out, data.layout) as writer:
            for done, item in enumerate(data.clips, 1):
                tally.take(item, writer)
                if progress:
                    progress(done, data.total)
            if not tally.recordings:
                raise DataError(tally.nothing_usable(source))
            tally.check_splits(wanted)
            splits: dict[str, str] = {}
            if by := wanted or (None if data.has_splits else SplitBy("random")):
                splits, note = make_splits(tally.recordings.values(), by)
                if not data.has_splits:
                    note = f"The recordings bring no splits: {note[0].lower()}{note[1:]}"
                data.notes.append(note)
            writer.finish(data.classes, splits)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror or error}): check folder and space.") from None
    return tally.report(splits)


def _check_target(source: Path, out: Path) -> None:
    try:
        if out.is_dir():
            raise DataError(f"{out} is a folder: give the store a file name, such as {out / 'data.h5'}.")
        if out.exists() and source.exists() and out.samefile(source):
            raise DataError(f"{out} is the source itself: give the store another name.")
        check_target(out, is_store, "skeleton store", DataError)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror or error}): check the path.") from None


class _Tally:
    """Cleans clips on their way into the store and counts them."""

    def __init__(self, opened: Source, strict: bool, fps: float | None = None) -> None:
        self._opened, self._strict, self._fps = opened, strict, fps
        self._own_rates: list[float] = []  # of recordings that --fps is not for
        self._missing, self._times = Missing(), timing.Tally()
        self.recordings: dict[str, SplitRecording] = {}  # those that were written, by name
        self._skipped: list[tuple[str, str]] = []
        self._splits: dict[str, tuple[str, ...]] = {}  # that recordings bring, by name
        self._bodies = self._frames = self._mended = 0
        self._sides = Sides(opened.layout)
        self._offsets = 0  # recordings whose joints look like offsets from their parent joint
        self._nobody: list[str] = []  # recordings with frames in which nobody is, and how many

    def take(self, item: Clip | Skipped, writer: StoreWriter) -> None:
        """Write one clip, or note why it is left out."""
        name = printable(item.name, 255)
        try:
            if isinstance(item, Skipped):
                raise Unusable(item.reason)
            clip = self._checked(replace(item, name=name))
            writer.add(clip)
        except (Unusable, DataError) as problem:
            reason = printable(str(problem), 300)
            if self._strict and not (isinstance(item, Skipped) and item.expected):
                raise DataError(f"{name}: {reason} (stopped here because of --strict).") from None
            self._skipped.append((name, reason))
            return
        self._missing.count_zeros(clip)
        self._times.count_rate(clip)
        group = self._opened.groups.get(name, "")
        self.recordings[name] = SplitRecording(name, clip.label, clip.subject, clip.camera, clip.setup, group)
        self._splits[name] = clip.splits
        self._bodies = max(self._bodies, len(clip.keypoints))
        self._frames += clip.keypoints.shape[1]
        self._sides.add(clip.keypoints)
        self._offsets += self._opened.layout.dims == 3 and clip_of_offsets(clip.keypoints, self._opened.layout)
        if nobody := int((~clip.keypoints.any(axis=(0, 2, 3))).sum()):
            self._nobody.append(f"{name} {nobody} of {clip.keypoints.shape[1]}")

    def _checked(self, clip: Clip) -> Clip:
        if clip.name in self.recordings:
            raise Unusable("has the name of a recording before it")
        if clip.label < 0:
            raise Unusable("has no label")
        if clip.label >= len(self._opened.classes):
            raise Unusable(f"has the label {clip.label}, and there are {len(self._opened.classes)} classes (from 0)")
        clip, mended = without_gaps(clip)
        clip, counts = mark_missing(clip, self._opened.layout)
        clip, moved = timing.even(clip)
        clip = present_bodies(clip)
        self._mended += mended
        self._missing.add(counts)
        self._times.add(moved)
        known = clip.frame_rate or self._opened.frame_rate
        if self._fps is not None and known is not None and abs(known - self._fps) > 0.01:
            self._own_rates.append(known)
        return timing.with_rate(clip, self._opened.frame_rate or self._fps)

    def nothing_usable(self, source: Path) -> str:
        shown = printable(str(source), 400)
        if not self._skipped:
            return f"{shown} holds no recordings; known formats are {known_formats()}."
        name, reason = self._skipped[0]
        if len(self._skipped) == 1:
            return f"the only recording in {shown} cannot be used, {name}: {reason}."
        reasons = counted_reasons(self._skipped)
        return f"none of the {len(self._skipped)} recordings in {shown} can be used: {reasons}."

    def check_splits(self, made: SplitBy | None) -> None:
        """Refuse splits that no protocol can be made of. Raises `DataError`."""
        names = list(dict.fromkeys(split for splits in self._splits.values() for split in splits))
        odd = unknown_parts(names)
        if not odd:
            return
        shown = ", ".join(repr(printable(split, 60)) for split in odd[:5])
        if self._opened.where:  # people's own
            raise DataError(f"a split is called {shown}, which is no part of a protocol: {RULE}.")
        if made is None and not any(map(is_part, names)):
            raise DataError(
                f"the splits of the data, {shown}, are no parts of a protocol: {RULE}, or add --split-by random."
            )

    def report(self, made: dict[str, str]) -> ConvertReport:
        """What was converted; `made` are splits that were made of the recordings, by name."""
        layout, notes = self._opened.layout, list(self._opened.notes)
        splits = [{*own, *((made[name],) if name in made else ())} for name, own in self._splits.items()]
        count = Counter(split for each in splits for split in each)
        in_no_split = sum(not each for each in splits)
        if self._mended:
            notes.append(
                f"{counted(self._mended, 'recording', 'holds/hold')} NaN or infinite values; those joints are now 0 "
                "(missing)."
            )
        notes += self._missing.notes() + self._times.notes()
        if own := len(self._own_rates):
            whose = counted(own, "recording", "has its/have their")
            rates = timing.in_words(np.array(self._own_rates))
            notes.append(f"--fps {self._fps:g} is for recordings that say no rate: {whose} own, {rates}.")
        if self._nobody:
            notes.append(_nobody_note(self._nobody))
        if sides := self._sides.note():
            notes.append(sides)
        if self._offsets > len(self.recordings) / 2:
            notes.append(
                f"In {counted(self._offsets, 'recording')} joints look like offsets from their parent joint, not "
                "places: add to every joint the place of its parent, and convert again (`skag check` says more)."
            )
        if in_no_split and count:
            notes.append(f"{counted(in_no_split, 'recording', 'is/are')} in no split.")
        classes = self._opened.classes
        clips = Counter(classes[recording.label] for recording in self.recordings.values())
        return ConvertReport(
            class_counts={name: clips[name] for name in classes},
            classes_from=self._opened.where,
            could_be=list(self._opened.could_be),
            clips=len(self.recordings),
            classes=list(classes),
            layout=layout.name,
            joints=layout.num_joints,
            bodies=self._bodies,
            frames=self._frames,
            splits=dict(sorted(count.items())),
            skipped=self._skipped,
            notes=notes,
        )


def _nobody_note(counts: list[str], most: int = 5) -> str:
    """A note on frames in which nobody is; `counts` are like "walk/001 3 of 40", of every recording that has some."""
    some = counted(len(counts), "recording", "has/have")
    more = f" and {len(counts) - most} more" if len(counts) > most else ""
    return f"{some} frames without anybody ({', '.join(counts[:most])}{more}); they stay where they are, as missing."


def without_gaps(clip: Clip) -> tuple[Clip, bool]:
    """The clip as float32 with joints that are NaN or infinite set to 0, and whether there were any.

    0 is the field's sign for a joint that was not seen. A joint with one bad coordinate is missing altogether: its
    other coordinates are no place where it was. Arrays that are float32 already and can be written are changed.
    """
    with np.errstate(over="ignore"):  # beyond float32 is infinite here
        keypoints = np.asarray(clip.keypoints, np.float32)
        confidence = None if clip.confidence is None else np.asarray(clip.confidence, np.float32)
    fits = confidence if confidence is not None and confidence.shape == keypoints.shape[:-1] else None
    mended = not (np.isfinite(keypoints).all() and (fits is None or np.isfinite(fits).all()))
    if mended:
        good = np.all(np.isfinite(keypoints), axis=-1)
        if fits is not None:  # a confidence of another shape: the store says so
            good &= np.isfinite(fits)
            confidence = _without(fits, good)
        keypoints = _without(keypoints, good)
        if keypoints.size and not keypoints.any():
            raise Unusable("has NaN or infinite values wherever it is not 0, so no joint in any frame")
    return replace(clip, keypoints=keypoints, confidence=confidence), mended


def _without(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    values = values if values.flags.writeable else values.copy()
    values[~good] = 0
    return values


def at_even_time(clip: Clip, layout: Layout) -> Clip:
    """A recording as it comes, with frames an even time apart and its rate, as a conversion makes it of time stamps."""
    return clip if clip.times is None else timing.even(mark_missing(without_gaps(clip)[0], layout)[0])[0]


def present_bodies(clip: Clip) -> Clip:
    """The clip without bodies that are zero in every frame (an absent second person in published files)."""
    there = clip.keypoints.any(axis=(1, 2, 3))
    if there.all() or not clip.keypoints.size:  # without frames or joints: the store says what is wrong
        return clip
    if not there.any():
        raise Unusable("has no joint other than 0 in any frame")
    confidence = None if clip.confidence is None else clip.confidence[there]
    return replace(clip, keypoints=clip.keypoints[there], confidence=confidence)
