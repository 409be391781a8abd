"""Recordings to be predicted: whatever `skag convert` reads, and skeleton stores, one recording at a time.

They are cleaned as a conversion cleans them, so that a network sees the same of a recording whichever way it comes.
Classes are not needed, and are not looked at where they are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..convert import at_even_time, present_bodies, without_gaps
from ..errors import DataError
from ..readers import OWN, read, reader
from ..readers.archives import Files, printable
from ..readers.arrays import MAX_ROW
from ..readers.labels import UNLABELLED
from ..readers.own_arrays import is_confidence
from ..readers.source import Options, Skipped, Unusable
from ..skeleton.layouts import Layout, layout_names
from ..skeleton.missing import mark_missing
from ..skeleton.store import UNKNOWN, Clip, SkeletonStore
from ..suggestions import no_recordings, what_is


@dataclass(frozen=True)
class InputRecording:
    """One recording as it comes; `cleaned` makes its clip ready. The label in it means nothing."""

    path: Path  # of the source that it lies in
    clip: Clip
    frame_rate: float | None = None  # frames per second, where the recording or its format says so


@dataclass(frozen=True)
class Failure:
    """A recording, or a whole source, that cannot be used; `expected` where that is known of the data set."""

    path: Path
    name: str | None  # None: the whole source
    reason: str
    expected: bool = False

    def __str__(self) -> str:
        shown = printable(str(self.path), 400)
        return f"{shown}: {self.reason}" if self.name is None else f"{shown}: {self.name} {self.reason}"


def each_recording(
    paths: Iterable[Path], layout: Layout, *, format: str | None = None, split: str | None = None
) -> Iterator[InputRecording | Failure]:
    """The recordings of several sources, one in memory at a time; see `open_recordings`. Nothing is raised for one
    that cannot be used: it is a `Failure`, and the others follow."""
    for path in paths:
        try:
            with open_recordings(path, layout, format=format, split=split) as recordings:
                for item in _without_warnings(recordings):
                    if isinstance(item, Skipped):
                        yield Failure(path, printable(item.name, 255), printable(item.reason, 300), item.expected)
                    else:
                        yield item
        except DataError as error:
            reason = str(error).removeprefix(f"{printable(str(path), 400)} ").removeprefix(f"{path} ")
            yield Failure(path, None, printable(reason, 600))
        except OSError as error:  # a store with a damaged part in the middle
            yield Failure(path, None, printable(f"cannot be read any further ({error}); convert it again.", 600))


def _without_warnings(items: Iterator[Any]) -> Iterator[Any]:
    """The items; a number that is too large becomes infinite on its way, and then a gap."""
    while True:
        with np.errstate(all="ignore"):
            item = next(items, None)
        if item is None:
            return
        yield item


@contextmanager
def open_recordings(
    path: Path, layout: Layout, *, format: str | None = None, split: str | None = None
) -> Iterator[Iterator[InputRecording | Skipped]]:
    """The recordings of a file, folder or archive, or of a skeleton store (of one `split` of it), in `layout`.

    Raises `DataError` where nothing can be read at all, or where the joints are not those of `layout`.
    """
    with ExitStack() as stack:
        if _is_hdf5(path) and what_is(path) != "dialogues":
            store = stack.enter_context(SkeletonStore(path))
            _check_layout(printable(str(path), 400), store.layout, layout)
            yield (InputRecording(path, clip, clip.frame_rate) for clip in _of_store(store, split))
            return
        if split is not None:
            raise DataError(f"{printable(str(path), 400)} is no skeleton store and has no splits: leave --split out.")
        if path.suffix.lower() == ".npy" and path.is_file() and path.stat().st_size > MAX_ROW:
            yield iter([InputRecording(path, _mapped(path, layout))])
            return
        if format is None and (other := no_recordings(path)):
            raise DataError(other)
        files = Files(path)
        module = reader(files, format)
        own = module in OWN
        # A published format brings its layout with it; a layout of one's own was given by name in the conversion too.
        wanted = layout if own or layout.name not in layout_names() else None
        options = Options(layout=wanted, labels=UNLABELLED if own else None, to_predict=True)
        source = read(files, format, options, module)
        _check_layout(files.shown, source.layout, layout)
        rate = source.frame_rate
        yield (item if isinstance(item, Skipped) else _timed(path, item, layout, rate) for item in source.clips)


def _timed(path: Path, clip: Clip, layout: Layout, usual: float | None) -> InputRecording:
    clip = at_even_time(clip, layout)
    return InputRecording(path, clip, clip.frame_rate or usual)


def _is_hdf5(path: Path) -> bool:
    try:
        return path.is_file() and h5py.is_hdf5(path)
    except OSError:
        return False


def _check_layout(shown: str, found: Layout, wanted: Layout) -> None:
    if found.joints != wanted.joints or found.dims != wanted.dims:
        raise DataError(
            f"{shown} has layout {found.name} ({found.num_joints} joints, {found.dims}-D) and the run was trained on "
            f"{wanted.name} ({wanted.num_joints} joints, {wanted.dims}-D): use a run of that layout."
        )


def _of_store(store: SkeletonStore, split: str | None) -> Iterator[Clip]:
    if split is not None and split not in store.splits:
        raise DataError(f"{store.path} has no split {split!r}: it has {', '.join(store.splits) or 'none'}.")
    for number in range(len(store)) if split is None else store.splits[split].tolist():
        yield Clip(
            store.names[number],
            UNKNOWN,
            store.keypoints(number),
            store.confidence(number),
            width=int(store.widths[number]),
            height=int(store.heights[number]),
            frame_rate=store.frame_rate(number),
        )


def _mapped(path: Path, layout: Layout) -> Clip:
    """The recording of a .npy file that is too long for the reader; frames stay on the disk until they are wanted."""
    try:
        keypoints = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError):  # numpy's: no array, an array of objects, or shorter than it claims
        raise DataError(f"{path} is a damaged .npy file, or holds no numbers: write it anew.") from None
    return replace(of_array(keypoints, None, layout), name=path.stem)


def of_array(keypoints: np.ndarray, confidence: np.ndarray | None, layout: Layout) -> Clip:
    """A recording from an array `[T, V, C]` or `[M, T, V, C]` of numbers; the confidence is `[T, V]` or `[M, T, V]`, or
    the last of one coordinate more than the layout has. Raises `DataError`."""
    keypoints = np.asanyarray(keypoints)
    if keypoints.ndim not in (3, 4) or keypoints.dtype.kind not in "fiu":
        raise DataError(
            f"the array has the shape {keypoints.shape} and type {keypoints.dtype}: give numbers [T, V, C] or "
            f"[M, T, V, C] for {layout.num_joints} joints (layout {layout.name})."
        )
    keypoints = keypoints[None] if keypoints.ndim == 3 else keypoints
    if confidence is not None:
        confidence = np.asanyarray(confidence)
        confidence = confidence[None] if confidence.ndim == 2 else confidence
    elif keypoints.shape[-1] == layout.dims + 1:
        keypoints, confidence = keypoints[..., :-1], keypoints[..., -1]
        if not is_confidence(confidence):
            raise DataError(
                f"the array has {layout.dims + 1} numbers a joint, layout {layout.name} has {layout.dims} coordinates, "
                "and the last is no confidence within 0 to 1: leave it out, or name a layout that has it."
            )
    return Clip("the array", UNKNOWN, keypoints, confidence)


def check_shape(clip: Clip, layout: Layout) -> None:
    """Raise `Unusable` with the reason where a recording's arrays do not fit the layout, or have no frames."""
    shape, wanted = clip.keypoints.shape, (layout.num_recorded, layout.dims)
    if len(shape) != 4 or shape[2:] not in (wanted, (layout.num_joints, layout.dims)):
        raise Unusable(
            f"has the shape {list(shape)}, not [bodies, frames, {wanted[0]}, {wanted[1]}] of layout {layout.name}"
        )
    if 0 in shape:
        raise Unusable("has no frames")
    if clip.confidence is not None and clip.confidence.shape != shape[:3]:
        raise Unusable("has a confidence that does not fit its key points")


def cleaned(clip: Clip, layout: Layout) -> Clip:
    """A recording as a conversion would have put it into a store: float32, what was not seen 0, without bodies that are
    never there, with the joints that the layout derives. Raises `Unusable` with the reason where it cannot be used."""
    check_shape(clip, layout)
    with np.errstate(over="ignore"):  # beyond float32 is infinite here, and then a gap
        keypoints = np.array(clip.keypoints, np.float32)  # a copy: the caller's array stays as it is
        confidence = None if clip.confidence is None else np.array(clip.confidence, np.float32)
    clip = replace(clip, name=printable(clip.name, 255), keypoints=keypoints, confidence=confidence)
    clip = present_bodies(mark_missing(without_gaps(clip)[0], layout)[0])
    if clip.keypoints.shape[2] == layout.num_joints:
        return clip
    confidence = None if clip.confidence is None else layout.extend(clip.confidence, 2)
    return replace(clip, keypoints=layout.extend(clip.keypoints, 2), confidence=confidence)
