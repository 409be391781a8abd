"""Clips ready for the network: read once from the store, kept in memory or a file, sampled in batches on the device."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..config import AugmentConfig, DataConfig
from ..device import send
from ..errors import DataError
from ..parallel import usable_memory
from . import mapped, preparation, tempo, transforms
from .layouts import Layout
from .sided_names import mirrored_classes, tells_sides
from .store import SkeletonStore

_READ_AT_A_TIME, _FRAMES_AT_A_TIME = 128, 2048  # clips read, padded frames normalised
TEST_PART = 0.85  # share of the clip that each of several test views sees
_NOT_OF_THE_FRAMES = {  # fields that say which clips, or what becomes of prepared ones; new fields count as the others
    "protocol", "stream", "num_frames", "sampling", "bone_confidence", "test_views", "mirror_views", "val_fraction",
    "unseen", "rehearse", "prepared", "timing",
}  # fmt: skip


@dataclass(frozen=True)
class Clips:
    """Normalised clips, frames one after another, on the device or, where they do not fit there, in the host's memory.

    Of clips in the host's memory, the frames of a batch are read there, and pinned, while the device computes.
    """

    rows: Tensor  # [R, M, V, C] joints; streams are taken per batch
    first_row: Tensor  # [n], beside the rows
    frames: Tensor  # [n], beside the rows
    labels: Tensor  # [n], on the device
    widths: Tensor | None  # [n] of the images, where joints lie in pixels; on the device
    layout: Layout
    file: mapped.ClipFile | None = None  # that the rows lie in, where they are not in memory
    rates: Tensor | None = None  # [n] recorded frames per second, where `data.timing` wants them; beside the rows
    # [n] the labels of their mirror images, -1 for those that are never mirrored, where class names tell left from
    # right (`sided_names`) and test clips are not mirrored too; on the device.
    mirrored: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where batches arrive."""
        return self.labels.device

    def read_ahead(self, chosen: Tensor) -> None:
        """Have clips `[N]` read that are wanted next, where they lie in a file; returns at once."""
        if self.file is not None:
            self.file.read_ahead(self.first_row[chosen], self.frames[chosen])

    def at(self, places: np.ndarray) -> Clips:
        """Some of the clips; the frames are shared."""
        chosen = torch.from_numpy(places)
        return replace(
            self,
            first_row=self.first_row[chosen.to(self.first_row.device)],
            frames=self.frames[chosen.to(self.frames.device)],
            labels=self.labels[chosen.to(self.labels.device)],
            widths=None if self.widths is None else self.widths[chosen.to(self.widths.device)],
            rates=None if self.rates is None else self.rates[chosen.to(self.rates.device)],
            mirrored=None if self.mirrored is None else self.mirrored[chosen.to(self.mirrored.device)],
        )

    def flipped(self, chosen: Tensor, augment: AugmentConfig, draw: Tensor) -> Tensor:
        """Which of the clips `chosen` `[N]` are shown mirrored under the numbers `draw` `[N, num_draws]`, on the
        device."""
        flip = draw[:, 2] < augment.mirror
        return flip if self.mirrored is None else flip & (self.mirrored[chosen] >= 0)

    def shown(self, chosen: Tensor, augment: AugmentConfig, draw: Tensor) -> Tensor:
        """The labels `[N]` of clips as `augmented` shows them: of a mirrored one what its mirror image is."""
        chosen = send(chosen, self.device)
        if self.mirrored is None or not augment.mirror:
            return self.labels[chosen]
        flip = self.flipped(chosen, augment, send(draw, self.device))
        return torch.where(flip, self.mirrored[chosen], self.labels[chosen])


def fits(num_bytes: int, device: torch.device) -> bool:
    """Whether clips of that size are to be kept on the device: on a GPU in at most half of its free memory, the rest is
    the network's."""
    return device.type != "cuda" or num_bytes <= torch.cuda.mem_get_info(device)[0] // 2


class ClipSource(Protocol):
    """Clips by number: a skeleton store, or recordings that are not in one."""

    @property
    def layout(self) -> Layout: ...
    @property
    def frames(self) -> np.ndarray: ...  # [n]
    @property
    def labels(self) -> np.ndarray: ...  # [n]
    @property
    def widths(self) -> np.ndarray: ...  # [n] of the images; 0 or less where they are not known
    @property
    def frame_rates(self) -> np.ndarray: ...  # [n] per second; NaN where they are not known
    def keypoints(self, number: int) -> np.ndarray: ...  # [M, T, V, C]
    def confidence(self, number: int) -> np.ndarray | None: ...  # [M, T, V]


def prepare(store: ClipSource, numbers: np.ndarray, config: DataConfig, device: torch.device) -> Clips:
    """Read and normalise the given clips, once for the whole run; they are kept on the device if they fit there.

    As `config.prepared` says, the frames of a store's clips wait in memory or in a file, with the same values. Raises
    `DataError` where there is no room for them, and where `config.timing` needs frame rates and none is known.
    """
    rates = None if config.timing == "none" else torch.from_numpy(tempo.rates_of(store.frame_rates)[numbers])
    shape, file = _shape(store, numbers, config), None
    if isinstance(store, SkeletonStore) and belongs_in_a_file(4 * math.prod(shape), config):
        file = _file_of(store, config)
        places, every = store.in_file(numbers), file.frames
        rows, lengths = file.rows, torch.from_numpy(every[places])
        first_row = torch.from_numpy((every.cumsum() - every)[places])
        widths = None if file.widths is None else file.widths[places].tolist()
    else:
        rows, lengths, widths = _in_memory(shape, _made(store, numbers, config))
        first_row = lengths.cumsum(0) - lengths
    home, labels = device if fits(rows.nbytes, device) else torch.device("cpu"), store.labels[numbers].astype(np.int64)
    names, mirrored = getattr(store, "classes", ()), None
    if tells_sides(names) and not config.mirror_views:  # else both sides are to get one answer
        mirrored = torch.from_numpy(np.array(mirrored_classes(names))[labels]).to(device)
    if home.type != "cpu":
        rows, file = rows.to(home), None
    return Clips(
        rows=rows,
        first_row=first_row.to(home),
        frames=lengths.to(home),
        labels=torch.from_numpy(labels).to(device),
        widths=torch.tensor(widths, device=device) if widths is not None else None,
        layout=store.layout,
        file=file,
        rates=None if rates is None else rates.to(home),
        mirrored=mirrored,
    )


def belongs_in_a_file(num_bytes: int, config: DataConfig) -> bool:
    """Whether prepared clips of that size are to lie in a file. By themselves they do where those of all processes
    that torchrun started on this machine would take more than a quarter of the memory."""
    if config.prepared != "auto":
        return config.prepared == "file"
    total = usable_memory()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return total is not None and num_bytes * processes > total // 4


def _file_of(store: SkeletonStore, config: DataConfig) -> mapped.ClipFile:
    """All clips of a store's file, also of those of which it is a part: runs of any split, seed and choice of classes
    share them. What comes of a clip does not depend on others."""

    def make() -> tuple[tuple[int, ...], Iterator[tuple[np.ndarray, float | None]]]:
        every = np.arange(len(whole))
        return _shape(whole, every, config), _made(whole, every, config)

    with SkeletonStore(store.path) as whole:
        return mapped.opened(mapped.PREPARED / f"{key(store, config)}.clips", make)


def key(store: SkeletonStore, config: DataConfig) -> str:
    """A hash of all that the prepared clips of a store come from: the recordings, what the configuration does to them,
    and the code and the kind of processor that do it."""
    made_of = {name: value for name, value in dataclasses.asdict(config).items() if name not in _NOT_OF_THE_FRAMES}
    folder = Path(__file__).parent
    code = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("clips.py", "preparation.py")]
    machine = [torch.__version__, torch.backends.cpu.get_cpu_capability(), sys.byteorder]
    facts = [store.fingerprint, store.layout.to_json(), made_of, code, machine]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _shape(store: ClipSource, numbers: np.ndarray, config: DataConfig) -> tuple[int, ...]:
    """Of the rows `[R, M, V, C]` of some clips; there may be fewer, since empty frames are left out."""
    return int(store.frames[numbers].sum()), config.num_bodies, store.layout.num_joints, 3


def _in_memory(
    shape: tuple[int, ...], clips: Iterator[tuple[np.ndarray, float | None]]
) -> tuple[Tensor, Tensor, list[float] | None]:
    """Rows, frames and widths of all clips, as `mapped.opened` has them in a file."""
    try:
        rows, end = np.empty(shape, np.float32), 0
    except MemoryError:
        needed = f"{4 * math.prod(shape) / 1e9:.1f} GB"
        raise DataError(f"no memory for {needed} of clips: keep them in a file by --set data.prepared=file.") from None
    frames, widths = [], []
    for clip, width in clips:
        rows[end : end + len(clip)] = clip
        end += len(clip)
        frames.append(len(clip))
        widths += [] if width is None else [width]
    return torch.from_numpy(rows[:end]), torch.tensor(frames), widths or None


def _made(store: ClipSource, numbers: np.ndarray, config: DataConfig) -> Iterator[tuple[np.ndarray, float | None]]:
    """The normalised frames `[T, num_bodies, V, 3]` of the clips, one after another; where joints lie in pixels, with
    the width of their image."""
    in_pixels = store.layout.dims == 2 and config.pixels
    for start in range(0, len(numbers), _READ_AT_A_TIME):
        some = numbers[start : start + _READ_AT_A_TIME]
        recordings = [(store.keypoints(number), store.confidence(number)) for number in some]
        for number, clip in zip(some, _prepared(recordings, store.layout, config), strict=True):
            whole = _with_absent_bodies(clip, config)
            yield whole, _width(whole, int(store.widths[number])) if in_pixels else None


def _prepared(
    recordings: list[tuple[np.ndarray, np.ndarray | None]], layout: Layout, config: DataConfig
) -> list[np.ndarray]:
    """Key points `[M, T, V, C]` and confidences `[M, T, V]` to normalised frames `[T', at most num_bodies, V, 3]`.

    Recordings of about one length are normalised together, padded; what comes of each is what comes of it alone.
    """
    lengths = np.array([keypoints.shape[1] for keypoints, _ in recordings])
    order, clips = lengths.argsort(kind="stable")[::-1], {}
    while len(order):
        batch = order[: max(1, _FRAMES_AT_A_TIME // lengths[order[0]])]
        order = order[len(batch) :]
        padded = _padded([recordings[number] for number in batch], layout)
        prepared, frames = preparation.prepared(padded, torch.from_numpy(lengths[batch]), layout, config)
        for number, clip, length in zip(batch, prepared.transpose(1, 2).numpy(), frames.tolist(), strict=True):
            clips[number] = clip[:length]
    return [clips[number] for number in range(len(recordings))]


def _padded(recordings: list[tuple[np.ndarray, np.ndarray | None]], layout: Layout) -> Tensor:
    """Recordings as `[N, M, T, V, C]`, the confidence as one coordinate more."""
    shapes = [keypoints.shape for keypoints, _ in recordings]
    most_bodies, most_frames = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    with_confidence = recordings[0][1] is not None
    sizes = (len(shapes), most_bodies, most_frames, layout.num_joints, layout.dims + with_confidence)
    padded = np.zeros(sizes, np.float32)
    for place, (bodies, frames, *_), (keypoints, confidence) in zip(padded, shapes, recordings, strict=True):
        place[:bodies, :frames, :, : layout.dims] = keypoints
        if confidence is not None:
            place[:bodies, :frames, :, layout.dims] = confidence
    return torch.from_numpy(padded)


def _width(clip: np.ndarray, known: int) -> float:
    """The image's width; where it is unknown, twice the middle of the joints that were seen."""
    if known > 0:
        return float(known)
    across = clip[..., 0][clip[..., 0] != 0]
    return float(across.min() + across.max()) if across.size else 0.0


def prepare_clip(
    keypoints: np.ndarray, confidence: np.ndarray | None, layout: Layout, config: DataConfig
) -> np.ndarray:
    """One recording `[M, T, V, C]` to normalised frames `[T', num_bodies, V, 3]`, as `prepare` makes them.

    2-D recordings get their confidence as third coordinate.
    """
    (clip,) = _prepared([(keypoints, confidence)], layout, config)
    return _with_absent_bodies(clip, config)


def _with_absent_bodies(clip: np.ndarray, config: DataConfig) -> np.ndarray:
    """Frames `[T, at most num_bodies, V, 3]` with as many bodies as the network has, the absent ones zero."""
    bodies = np.zeros((len(clip), config.num_bodies, *clip.shape[2:]), np.float32)
    bodies[:, : clip.shape[1]] = clip
    return bodies


def num_draws(config: DataConfig, augment: AugmentConfig, layout: Layout) -> int:
    """Random numbers that `augmented` needs per clip."""
    joints = transforms.num_dropout_draws(config.num_frames, layout) if augment.joint_dropout else 0
    if config.sampling != "stretch":
        return 9 + config.num_frames + 1 + joints
    return (9 if augment.part_drop else 7) + joints


def augmented(
    clips: Clips,
    chosen: Tensor,
    config: DataConfig,
    augment: AugmentConfig,
    draw: Tensor,
) -> Tensor:
    """Training clips `[N, M, T, V, C]` under the random numbers `draw` `[N, num_draws]`, uniform in [0, 1)."""
    device, home, layout = clips.device, clips.rows.device, clips.layout
    chosen, draw = send(chosen, home), send(draw, home)
    share = augment.shortest_part + (1 - augment.shortest_part) * draw[:, 0]
    frames = clips.frames[chosen]
    if config.sampling == "stretch":
        start = (1 - share) * draw[:, 1]
        positions = transforms.stretch_positions(frames, config.num_frames, start, start + share)
    else:
        part = (share * frames).long().clamp(min=1)
        start = (draw[:, 1] * (frames - part + 1)).long()
        positions = start[:, None] + transforms.uniform_positions(
            part, config.num_frames, draw[:, 9 : 9 + config.num_frames + 1]
        )
    x, pace = _joints(clips, chosen, positions, config), _pace(clips, chosen, share, config)
    chosen, draw = send(chosen, device), send(draw, device)
    up = layout.up_axis[0]
    if augment.mirror:
        flip = clips.flipped(chosen, augment, draw)
        widths = None if clips.widths is None else clips.widths[chosen]
        mirrored = transforms.mirror(x, layout, augment.mirror_kind, widths)
        x = torch.where(flip[:, None, None, None, None], mirrored, x)
    if layout.dims == 3 and (augment.heading or augment.tilt):
        limits = torch.full((3,), augment.tilt, device=device)
        limits[up] = augment.heading
        turn = transforms.rotation_matrices((draw[:, 3:6] * 2 - 1) * limits)
        x = torch.einsum("nij,ntmvj->ntmvi", turn, x)
    if augment.scale:
        size = 1 + augment.scale * (draw[:, 6] * 2 - 1)
        x = torch.cat([x[..., : layout.dims] * size[:, None, None, None, None], x[..., layout.dims :]], -1)
    if augment.part_drop:
        limb = (draw[:, 8] * len(transforms.limbs(layout))).long()
        x = transforms.drop_parts(x, layout, torch.where(draw[:, 7] < augment.part_drop, limb, -1))
    if augment.joint_dropout:
        own = draw[:, -transforms.num_dropout_draws(config.num_frames, layout) :]
        x = transforms.drop_joints(x, layout, augment.joint_dropout, own, config.num_frames)
    return _stream(x, layout, config, pace)


def _pace(clips: Clips, chosen: Tensor, share: Tensor | float, config: DataConfig) -> tuple[Tensor, Tensor] | None:
    """Recorded frames between two of the network's, of the `share` of each clip that it sees, and how many are in a
    second: `[N]` each, on the device; None where the network is not told."""
    if clips.rates is None or config.timing == "none":
        return None
    apart = share * (clips.frames[chosen] - 1) / max(1, config.num_frames - 1)
    return send(apart, clips.device), send(clips.rates[chosen], clips.device)


def _joints(clips: Clips, chosen: Tensor, positions: Tensor, config: DataConfig) -> Tensor:
    """Joints `[N, T, M, V, C]` at `positions`, on the device; for motions within the recording, `[N, 2 T, ...]` with
    the frames that follow those behind them, so that both are augmented alike."""
    first, frames = clips.first_row[chosen], clips.frames[chosen]
    x = transforms.gather_frames(clips.rows, first, frames, positions)
    if _follows_recording(config):
        x = torch.cat([x, transforms.gather_frames(clips.rows, first, frames, positions, ahead=1)], 1)
    if clips.file is not None:
        clips.file.was_read(frames)
    return send(x, clips.device)


def _follows_recording(config: DataConfig) -> bool:
    return config.stream.endswith("m") and config.sampling != "uniform-frames"


def _stream(x: Tensor, layout: Layout, config: DataConfig, pace: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """What `_joints` read, perhaps augmented, as the configured stream `[N, M, T, V, C]`, with real time at `pace`."""
    following = None
    if _follows_recording(config):
        x, following = x.chunk(2, 1)
    confidence, joints = config.bone_confidence, x
    x = transforms.to_stream(x, layout, config.stream, following=following, bone_confidence=confidence)
    if pace is not None:
        x = tempo.with_timing(x, joints, *pace, layout, config)
    return x.transpose(1, 2).contiguous()


def test_batches(clips: Clips, config: DataConfig, batch_size: int, num_views: int = 1) -> Iterator[Tensor]:
    """All clips in order as `[N, views, M, T, V, C]`: the whole clip once, or several overlapping parts of it; with
    the published samplings, so many choices of frames.

    With `config.mirror_views` their mirror images follow, as many again.
    """
    device = clips.rows.device
    share = 1.0 if num_views == 1 else TEST_PART
    starts = torch.linspace(0, 1 - share, num_views, device=device)
    parts = torch.arange(len(clips), device=device).split(batch_size)
    for chosen, following in zip(parts, [*parts[1:], parts[0][:0]], strict=True):
        frames = clips.frames[chosen]
        if config.sampling == "stretch":
            bounds = [(start.expand(len(chosen)), start.expand(len(chosen)) + share) for start in starts]
            positions = [transforms.stretch_positions(frames, config.num_frames, *bound) for bound in bounds]
        else:
            lengths = frames.tolist()
            options = (config.num_frames, num_views, config.sampling)
            every = np.stack([transforms.test_positions(length, *options) for length in lengths], 1)
            positions = list(torch.from_numpy(every).to(device))
        views = [_joints(clips, chosen, position, config) for position in positions]
        clips.read_ahead(following)
        if config.mirror_views:
            widths = None if clips.widths is None else clips.widths[chosen.to(clips.device)]
            views += [transforms.mirror(view, clips.layout, widths=widths) for view in views]
        pace = _pace(clips, chosen, share, config)
        yield torch.stack([_stream(view, clips.layout, config, pace) for view in views], 1)
