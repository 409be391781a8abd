"""What happens to every batch of prepared clips (`preparation.py`) before the network.

Letters of this file: N clips, M bodies, T frames, V joints, C coordinates. All of it runs on the training device, with
random draws as arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..device import is_traced, send
from .layouts import Layout

# ---------------------------------------------------------------- sampling and changing, [N, T, M, V, C]


def stretch_positions(frames: Tensor, num_frames: int, start: Tensor, stop: Tensor) -> Tensor:
    """Frame positions `[N, num_frames]` (fractional) that spread a part of every clip evenly over num_frames.

    `frames` `[N]` is each clip's length; `start` and `stop` `[N]` bound the part, as fractions of the clip.
    """
    last = (frames - 1).to(start.dtype)
    steps = torch.linspace(0, 1, num_frames, dtype=start.dtype, device=start.device)
    return (last * start)[:, None] + (last * (stop - start))[:, None] * steps


def uniform_positions(frames: Tensor, num_frames: int, draw: Tensor) -> Tensor:
    """Frame numbers `[N, num_frames]` by the published training sampling ("uniform sampling" of PYSKL).

    A clip of at least twice `num_frames` gives one random frame of each of `num_frames` equal parts; a shorter one
    all its frames in order but a random choice that is left out; one with fewer than `num_frames` all of them from a
    random one on, wrapped around. `frames` `[N]` is each clip's length; `draw` `[N, num_frames + 1]` is uniform in
    [0, 1): its first column is the start, its order the frames left out, its values the places in the parts.
    """
    length, steps = frames[:, None], torch.arange(num_frames, device=frames.device)
    start = (draw[:, :1] * length).long().minimum(length - 1)
    wrapped = (start + steps) % length
    left_out = draw.argsort(1).argsort(1) < length - num_frames
    chosen = steps + left_out.long().cumsum(1)[:, :-1]
    edges = torch.arange(num_frames + 1, device=frames.device) * length // num_frames
    size = edges.diff(dim=1)
    spread = edges[:, :-1] + (draw[:, :-1] * size).long().minimum(size - 1)
    positions = torch.where(length < 2 * num_frames, chosen, spread)
    return torch.where(length < num_frames, wrapped, positions)


@lru_cache(maxsize=4096)
def test_positions(frames: int, num_frames: int, num_views: int, sampling: str) -> np.ndarray:
    """Frame numbers `[num_views, num_frames]` by the published test sampling, the same for all clips of a length.

    The published code seeds numpy's generator with 255 for every clip and draws as in training; only with
    "uniform-frames" do the views of a clip shorter than `num_frames` begin at evenly spread frames instead.
    """
    draws = np.random.RandomState(255)
    views = []
    for view in range(num_views):
        draws.rand()  # the share of the clip that is sampled, always all of it
        if frames < num_frames:
            if sampling == "uniform-decode":
                start = draws.randint(0, frames)
            else:
                start = view if frames < num_views else view * frames // num_views
            views.append((start + np.arange(num_frames)) % frames)
        elif frames < 2 * num_frames:
            left_out = np.zeros(num_frames + 1, np.int64)
            left_out[draws.choice(num_frames + 1, frames - num_frames, replace=False)] = 1
            views.append(np.arange(num_frames) + left_out.cumsum()[:-1])
        else:
            edges = np.arange(num_frames + 1) * frames // num_frames
            views.append(edges[:-1] + draws.randint(np.diff(edges)))
    return np.stack(views)


def gather_frames(rows: Tensor, first_row: Tensor, frames: Tensor, positions: Tensor, ahead: int = 0) -> Tensor:
    """Read clips at frame positions; fractional ones are taken linearly between the two nearest frames.

    `rows` `[R, M, V, C]` holds all clips one after another; `first_row`, `frames` `[N]`; `positions` `[N, T]`, moved
    `ahead` frames, though never beyond a clip's last frame. Returns `[N, T, M, V, C]`.
    """
    last = (frames - 1)[:, None]
    if not positions.is_floating_point():
        return rows[first_row[:, None] + torch.minimum(positions + ahead, last)]
    low = positions.floor().long()
    weight = (positions - low).to(rows.dtype)[:, :, None, None, None]
    below, above = (torch.minimum(low + step, last) for step in (ahead, ahead + 1))
    return torch.lerp(rows[first_row[:, None] + below], rows[first_row[:, None] + above], weight)


def to_stream(
    x: Tensor, layout: Layout, stream: str, *, following: Tensor | None = None, bone_confidence: str = "mean"
) -> Tensor:
    """Joints `[N, T, M, V, C]` to a stream: j, b (bones), k (joint minus grandparent), or a motion jm, bm, km.

    A motion is the step from every frame to `following`, by default to the next one of `x`; the last has none. With
    two coordinates and a confidence, the confidence of what was subtracted is the mean of the two, or their difference
    as in the published code for COCO 17+3 and UAV-Human.
    """
    mean = layout.dims == 2 and x.shape[-1] == 3 and bone_confidence == "mean"

    def step(to: Tensor, since: Tensor) -> Tensor:
        between = to - since
        if mean:
            between[..., 2] = (to[..., 2] + since[..., 2]) / 2
        return between

    def bones(joints: Tensor) -> Tensor:
        if stream[0] == "j":
            return joints
        parents = layout.bone_parents if stream[0] == "b" else layout.kbone_parents
        return step(joints, joints[..., indices(parents, joints.device), :])

    values = bones(x)
    if not stream.endswith("m"):
        return values
    if following is not None:
        return step(bones(following), values)
    motion = torch.zeros_like(values)
    motion[:, :-1] = step(values[:, 1:], values[:, :-1])
    return motion


def indices(numbers: Iterable[int], device: torch.device) -> Tensor:
    """Joint numbers as a tensor there, brought once: a GPU would be waited for each time."""
    joints = tuple(map(int, numbers))
    return torch.as_tensor(joints, device=device) if is_traced() else _indices(joints, device)


@lru_cache(maxsize=256)
def _indices(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it outlives the caller's mode
        return torch.as_tensor(numbers, device=device)


def rotation_matrices(angles: Tensor) -> Tensor:
    """Rotations `[N, 3, 3]` about x, then y, then z by `angles` `[N, 3]` in radians."""
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(1), angles.sin().unbind(1)
    one, zero = torch.ones_like(cx), torch.zeros_like(cx)
    x = torch.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx], 1).view(-1, 3, 3)
    y = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], 1).view(-1, 3, 3)
    z = torch.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one], 1).view(-1, 3, 3)
    return z @ y @ x


def mirror(x: Tensor, layout: Layout, kind: str = "reflect", widths: Tensor | None = None) -> Tensor:
    """Left becomes right in `x` `[N, T, M, V, C]`: joints change places and, unless `kind` is "swap", the first axis
    that is not up is reflected: about 0, or about half of the image `widths` `[N]`, where joints at 0 were not seen.

    The published code swaps 3-D joints and leaves their coordinates ("swap"), which no body can do.
    """
    x = x[..., indices(layout.mirror_index, x.device), :]
    if kind == "swap":
        return x
    axis = 1 if layout.up_axis[0] == 0 else 0
    across = x[..., axis]
    if widths is None:
        x[..., axis] = -across
    else:
        x[..., axis] = torch.where(across != 0, widths[:, None, None, None] - across, across)
    return x


def drop_parts(x: Tensor, layout: Layout, limb: Tensor) -> Tensor:
    """Set one arm or leg of each clip of `x` `[N, T, M, V, C]` to zero: the `limb`-th of them `[N]`, none where -1."""
    kept = torch.ones(len(limbs(layout)) + 1, layout.num_joints, dtype=x.dtype, device=x.device)
    for number, joints in enumerate(limbs(layout)):
        kept[number, joints] = 0
    return x * kept[limb][:, None, None, :, None]


MOST_JOINTS_DROPPED = 0.3  # of a clip's joints


def num_dropout_draws(num_frames: int, layout: Layout) -> int:
    """Random numbers that `drop_joints` needs per clip."""
    return 4 + num_frames * layout.num_joints


def drop_joints(x: Tensor, layout: Layout, share: float, draw: Tensor, num_frames: int) -> Tensor:
    """Set joints of a `share` of the clips of `x` `[N, T, M, V, C]` to zero, as joints that were not seen are: of half
    of these clips one arm or leg, of the others up to `MOST_JOINTS_DROPPED` of all joints, frame by frame.

    `draw` `[N, num_dropout_draws]` is uniform in [0, 1). T is `num_frames`, or twice as many, whose second half loses
    the joints of the first.
    """
    chosen, by_limb = draw[:, 0] < share, draw[:, 1] < 0.5
    if parts := len(limbs(layout)):
        x = drop_parts(x, layout, torch.where(chosen & by_limb, (draw[:, 2] * parts).long(), -1))
        chosen = chosen & ~by_limb
    each = draw[:, 4:].unflatten(1, (num_frames, layout.num_joints))
    lost = (each < (MOST_JOINTS_DROPPED * draw[:, 3])[:, None, None]) & chosen[:, None, None]  # N T V
    lost = lost.repeat(1, x.shape[1] // num_frames, 1)
    return x * ~lost[:, :, None, :, None]


def limbs(layout: Layout) -> list[np.ndarray]:
    """Joint indices of the parts that are arms or legs, in the layout's order."""
    return [joints for name, joints in layout.part_index.items() if name.endswith(("arm", "leg"))]


# ---------------------------------------------------------------- mixing a batch, [N, M, T, V, C]


@dataclass(frozen=True)
class MixDraw:
    """What was drawn for one batch: whose clips are mixed in, and how."""

    partner: Tensor  # [N] number of the other clip
    parts: tuple[int, ...] = ()  # parts of the layout taken from the partner; none: the clips are averaged
    start: int = 0  # first frame that is replaced
    length: int = 0  # frames that are replaced
    source_start: int = 0  # first frame taken from the partner
    source_length: int = 0  # frames taken from it, then stretched or shortened to `length`
    weight: float = 0.0  # of the partner, where the clips are averaged


def draw_mix(num_clips: int, num_parts: int, num_frames: int, generator: torch.Generator) -> MixDraw:
    """Draw as the published code does: three times out of four 2 or 3 parts over 52 to 80 % of the frames are taken
    from 52 to 100 % of the partner's, otherwise the two clips are averaged with a random weight.

    The partner is the clip some places on; two clips or one have no partner but themselves.
    """

    def whole(low: int, high: int) -> int:  # both included
        return int(torch.randint(low, high + 1, (), generator=generator))

    partner = torch.arange(num_clips)
    if num_clips > 2:
        partner = (partner + whole(1, num_clips - 2)) % num_clips
    if float(torch.rand((), generator=generator)) <= 0.25:
        return MixDraw(partner, weight=float(torch.rand((), generator=generator)))
    units = max(1, num_frames // 4)  # spans are counted in steps of four frames
    parts = torch.randperm(num_parts, generator=generator)[: whole(min(2, num_parts), min(3, num_parts))]
    length = whole(max(1, round(0.52 * units)), max(1, round(0.8 * units)))
    start = whole(0, units - length)
    source_length = whole(length, units)
    source_start = whole(0, units - source_length)
    spans = [min(4 * span, num_frames) for span in (start, length, source_start, source_length)]
    return MixDraw(partner, tuple(sorted(parts.tolist())), *spans)


def mix(x: Tensor, layout: Layout, draw: MixDraw) -> tuple[Tensor, float]:
    """Mixed clips, shaped as `x` `[N, M, T, V, C]`, and the partners' weight in their labels.

    That weight is the share of frames and joints that were replaced, or the weight of the average.
    """
    partner = send(draw.partner, x.device)
    if not draw.parts:
        return x * (1 - draw.weight) + x[partner] * draw.weight, draw.weight
    joints = np.sort(np.concatenate([list(layout.part_index.values())[part] for part in draw.parts]))
    # Nearest frame as `torch.nn.functional.interpolate` finds it: by a scale in single precision.
    scale = np.float32(draw.source_length) / np.float32(draw.length)
    nearest = np.floor(np.arange(draw.length, dtype=np.float32) * scale).astype(np.int64)
    frames = send(torch.from_numpy(draw.source_start + nearest.clip(max=draw.source_length - 1)), x.device)
    mixed, places = x.clone(), indices(joints, x.device)
    taken = x[partner][:, :, frames]
    mixed[:, :, draw.start : draw.start + draw.length, places] = taken[..., places, :]
    return mixed, draw.length * len(joints) / (x.shape[2] * x.shape[3])
