"""Pictures of actions: which frames of a class's videos are asked about, and asking.

    FOLDER/CLASS/*.jpg, *.png          frames of the class, in any depth
    FOLDER/CLASS/*.mp4, *.avi, *.mkv   videos of it, of which frames are taken evenly

Of all frames of a class those few are kept that are least alike (SUGAR, step 1: "the most dissimilar set"; how they
are found is not stated): greedily, the farthest from all that were chosen, by the cosine of their vectors.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..backends import Topic
from ..backends.base import Picture
from ..errors import BackendError, DialogueError
from ..weights import one_line
from .exchanges import Exchange
from .formats import FormatProblem
from .interview import Interview, in_parallel
from .script import Round

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES, VIDEOS = (".jpg", ".jpeg", ".png"), (".mp4", ".avi", ".mkv", ".mov", ".webm")
PIXELS = "pixels"  # instead of an encoder's name
_THUMBNAIL = 16  # pixels of a side
_LONGEST_SIDE = 768  # pixels of a picture that is sent
_FRAMES_PER_VIDEO = 16  # taken of a video, evenly
_MOST_FRAMES = 400  # of a class that are compared
Encode = Callable[[Sequence["Image"]], np.ndarray]  # n pictures -> float32 [n, D]


@dataclass(frozen=True)
class Described:
    """What asking about frames came to."""

    exchanges: list[Exchange]
    failed: list[tuple[str, str]]  # (class, reason)
    asked: int
    cached: int


def files_of(folder: Path, classes: Sequence[str]) -> dict[str, list[Path]]:
    """Frames and videos of every class, in the order of their names. Raises `DialogueError` naming every class without
    any."""
    if not folder.is_dir():
        raise DialogueError(f"{folder} is no folder: give one with a folder of frames or videos for each class.")
    named = {_plain(path.name): path for path in sorted(folder.iterdir()) if path.is_dir()}
    found = {}
    for name in classes:
        below = named.get(_plain(name))
        files = [] if below is None else sorted(path for path in below.rglob("*") if path.is_file())
        found[name] = [path for path in files if path.suffix.casefold() in (*PICTURES, *VIDEOS)]
    if missing := [name for name, files in found.items() if not files]:
        named_classes = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise DialogueError(
            f"{folder} has no frames of {len(missing)} of {len(classes)} classes ({named_classes}): add a folder of "
            "each one's name, with pictures or videos."
        )
    return found


def frames_of(files: Sequence[Path]) -> list[Image]:
    """The pictures of a class's files, at most `_MOST_FRAMES`, evenly chosen. Raises `DialogueError` for a file that
    cannot be read."""
    step = max(1, -(-len(files) // _MOST_FRAMES))
    frames: list[Image] = []
    for path in files[::step]:
        frames += _of_video(path) if path.suffix.casefold() in VIDEOS else [_picture(path)]
    return frames[:: max(1, -(-len(frames) // _MOST_FRAMES))]


def encoder(name: str, weights: Path | None = None, device: str = "cpu") -> Encode:
    """What makes vectors of pictures: `open_clip:MODEL[:TAG]` (paper: CLIP), or `pixels`, which compares them pixel by
    pixel. Raises `DialogueError`, `TextError`."""
    if name == PIXELS:
        return _thumbnails
    kind, _, model = name.partition(":")
    if kind != "open_clip" or not model:
        raise DialogueError(f"no encoder of pictures {name!r}: use open_clip:ViT-B-32, or {PIXELS}.")
    from ..text.open_clip_images import open_image_tower

    model, _, tag = model.partition(":")
    return open_image_tower(model, tag or None, weights, device)


def least_alike(vectors: np.ndarray, count: int) -> list[int]:
    """The numbers of `count` of the vectors `[n, D]`, in their order: first the two with the smallest cosine, then
    always the one whose greatest cosine with those chosen is the smallest."""
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    alike = units @ units.T
    if count >= len(vectors):
        return list(range(len(vectors)))
    chosen = list(np.unravel_index(alike.argmin(), alike.shape))[: max(1, count)]
    while len(chosen) < count:
        nearest = alike[:, chosen].max(1)
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
    return sorted(map(int, chosen))


def as_sent(frame: Image) -> Picture:
    """A frame as a JPEG of bounded size."""
    frame = frame.convert("RGB")
    frame.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    file = io.BytesIO()
    frame.save(file, "JPEG", quality=90)
    return Picture(file.getvalue())


def describe_frames(
    interview: Interview,
    asked: Round,
    classes: Sequence[str],
    pictures: dict[str, list[Picture]],
    progress: Callable[[int, int], None] | None = None,
) -> Described:
    """Ask about every picture of every class; what was asked before comes from the store. A picture that the model
    declines, or answers unusably, does not stop the others."""
    todo = [(k, name, picture) for k, name in enumerate(classes) for picture in pictures[name]]
    done = iter(range(1, len(todo) + 1))
    system = {"role": "system", "content": interview.prompts.system()}

    def one(item: tuple[int, str, Picture]) -> Exchange | str:
        k, name, picture = item
        try:
            return interview.ask(Topic(k, name, asked.number, asked.kind, pictures=(picture,)), [system])
        except (BackendError, FormatProblem) as error:
            return str(error)
        finally:
            if progress:
                progress(next(done), len(todo))

    found = in_parallel(one, todo, interview.jobs)
    failed = [(name, each) for (_, name, _), each in zip(todo, found, strict=True) if isinstance(each, str)]
    return Described([each for each in found if isinstance(each, Exchange)], failed, interview.asked, interview.cached)


def _thumbnails(pictures: Sequence[Image]) -> np.ndarray:
    small = [np.asarray(each.convert("L").resize((_THUMBNAIL, _THUMBNAIL)), np.float32).ravel() for each in pictures]
    found = np.stack(small) if small else np.zeros((0, _THUMBNAIL**2), np.float32)
    return found - found.mean(1, keepdims=True)


def _picture(path: Path) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise DialogueError(f"{path} cannot be read as a picture ({one_line(error)}): remove it.") from None


def _of_video(path: Path) -> list[Image]:
    """Frames of a video, evenly chosen. Raises `DialogueError`."""
    try:
        import av
    except ImportError:
        raise DialogueError(f"{path} is a video, which needs PyAV: pip install av, or give frames.") from None
    try:
        with av.open(str(path)) as video:
            stream = video.streams.video[0]
            frames = [frame.to_image() for frame in video.decode(stream)]
    except Exception as error:  # of a damaged file, whatever FFmpeg stumbles over
        raise DialogueError(f"{path} cannot be decoded ({one_line(error)}): remove it, or give frames.") from None
    if not frames:
        raise DialogueError(f"{path} has no frames: remove it, or give frames.")
    places = np.linspace(0, len(frames) - 1, min(len(frames), _FRAMES_PER_VIDEO)).round().astype(int)
    return [frames[place] for place in places]


def _plain(name: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", name.casefold()))
