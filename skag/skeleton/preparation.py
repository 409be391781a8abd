"""What happens once to every recording before clips are sampled from it: one form, for the batches of a run and for
the exported graph.

Letters of this file: N recordings, M bodies, T frames, V joints, C coordinates. Recordings `[N, M, T, V, C]` are padded
with zeros, which stand for what was not found; `frames` `[N]` says how many frames of each count, and `valid` `[N, T]`
which. No step depends on values in its shapes or its course, so that the steps can be exported. Where floats are added
up, the order is written out: it decides the last bit, and trained weights are to be the same from version to version.
Only a graph's runtime has its own order.
"""

from __future__ import annotations

import math
from functools import reduce
from operator import add, or_

import numpy as np
import torch
from torch import Tensor

from ..config import DataConfig
from ..device import is_traced
from ..errors import DataError
from .layouts import Layout
from .transforms import indices


def prepared(x: Tensor, frames: Tensor, layout: Layout, config: DataConfig) -> tuple[Tensor, Tensor]:
    """Recordings `[N, M, T, V, C]` of so many frames `[N]` as the configuration wants them, and the frames left.

    The result is `[N, at most config.num_bodies, T, V, 3]`; what lies behind a recording's frames means nothing.
    Recordings may bring their confidence as last coordinate; in the image plane it is the third one, which is 1 where a
    joint was found without it, and in space it is left out.
    """
    if layout.dims == 2:
        x = with_confidence(x) if config.pixels else in_box(with_confidence(x))
        return x[:, : config.num_bodies], frames
    dtype = x.dtype
    x, frames = seen_frames_first(x[..., :3])  # without a confidence
    valid = torch.arange(x.shape[2], device=x.device) < frames[:, None]
    x = centre_on_first_frame(x, layout)
    if config.align_spine:
        x = align_spine(x, layout)
    if config.stand_upright:
        x = stand_upright(x, valid, layout)
    if config.face_forward:
        x = face_forward(x, valid, layout)
    if config.unit_height:
        x = unit_height(x, valid, layout)
    return x[:, : config.num_bodies].to(dtype), frames


# ---------------------------------------------------------------- in space


def seen_frames_first(x: Tensor) -> tuple[Tensor, Tensor]:
    """The frames in which the main body was seen, moved to the front in their order, and how many they are `[N]`.

    Of two bodies the one that is seen in more frames is the main one (published code's rule) and comes first. A
    recording with nothing in it keeps one frame.
    """
    recordings, bodies, length = x.shape[:3]
    seen = found(x).any(3)  # N M T
    body = torch.arange(bodies, device=x.device).expand(recordings, -1)  # N M
    if bodies > 1:
        counts = seen.long().sum(2)
        swap = counts[:, 1] > counts[:, 0]
        if bodies > 2:  # the rule is for two bodies
            swap = swap & (counts[:, 2:].sum(1) == 0)
        body = torch.where(swap[:, None] & (body < 2), 1 - body, body)
        main = (seen[:, 1] & swap[:, None]) | (seen[:, 0] & ~swap[:, None])  # ONNX Runtime selects no booleans
    else:
        main = seen[:, 0]
    frame = torch.arange(length, device=x.device)
    order = (frame + (~main).long() * length).argsort(1)  # N T
    first = torch.arange(recordings, device=x.device)[:, None] * bodies
    row = ((first + body) * length)[:, :, None] + order[:, None]  # N M T
    return x.flatten(0, 2).index_select(0, row.flatten()).unflatten(0, x.shape[:3]), main.long().sum(1).clamp(min=1)


def centre_on_first_frame(x: Tensor, layout: Layout) -> Tensor:
    """Move the centre joint of the main body in the first frame to the origin; missing joints stay zero."""
    centre = x[:, :1, :1, layout.index[layout.centre], None]
    return (x - centre) * found(x)[..., None].to(x.dtype)


def align_spine(x: Tensor, layout: Layout) -> Tensor:
    """Turn 3-D recordings by the main body's first frame: the layout's spine to the z axis, then the line from the left
    to the right shoulder to the x axis (the full pre-normalisation of 2s-AGCN and PYSKL; SkeletonAgent leaves it out).

    Returns double precision. Raises `DataError` where the layout names no spine or no shoulders.
    """
    if not layout.spine or not {"left shoulder", "right shoulder"} <= set(layout.joints):
        raise DataError(f"layout {layout.name!r} names no spine or no left and right shoulder: leave out align_spine.")
    for (start, end), axis in ((layout.spine, 2), (("left shoulder", "right shoulder"), 0)):
        line = x[:, 0, 0, layout.index[end]] - x[:, 0, 0, layout.index[start]]
        x = _turned(x, _turning(line, axis))
    return x


def stand_upright(x: Tensor, valid: Tensor, layout: Layout) -> Tensor:
    """Turn 3-D recordings so that the main body stands along the up axis where it is most stretched.

    Undoes the tilt of the camera, which points in another direction of the body for every viewpoint. The body's
    line runs from the mean of the leg joints to the mean of the trunk's, over the tenth of the `valid` frames in which
    it is longest. A layout without parts "trunk" and "... leg", or a recording that lies down (more than 45 degrees),
    is returned as it is.
    """
    legs = [part for name, part in layout.part_index.items() if name.endswith("leg")]
    if not legs or "trunk" not in layout.part_index:
        return x
    trunk, leg = indices(layout.part_index["trunk"], x.device), indices(np.concatenate(legs), x.device)
    body = x[:, 0]  # N T V C
    there = found(body)
    whole = valid & there[..., trunk].all(-1) & there[..., leg].all(-1)  # N T
    lines = _mean(body[:, :, trunk]) - _mean(body[:, :, leg])  # N T C
    lengths = torch.where(whole, _norm(lines), -torch.ones_like(lines[..., 0]))
    taken = (whole.long().sum(1) // 10).clamp(min=1)[:, None]  # N 1
    is_longest = torch.arange(x.shape[2], device=x.device) >= x.shape[2] - taken
    lines = lines.gather(1, lengths.argsort(1)[..., None].expand_as(lines))
    line = _sum(lines * is_longest[..., None]) / taken
    axis, sign = layout.up_axis
    stands = sign * line[:, axis].double() >= math.cos(math.pi / 4) * _norm_of_one(line).double()
    stands = stands & whole.any(1) & found(line)
    return torch.where(stands[:, None, None, None, None], _turned(x, _turning(line, axis, sign)).float(), x)


def face_forward(x: Tensor, valid: Tensor, layout: Layout) -> Tensor:
    """Turn 3-D recordings about the vertical so that the main body's mean left-to-right line is one axis.

    The line runs from all joints named "right ..." to those named "left ..." where both were seen in `valid` frames. A
    recording where it vanishes (or a layout without sides) is returned as it is.
    """
    up, _ = layout.up_axis
    across_axis, depth_axis = (axis for axis in range(3) if axis != up)
    numbers = np.array([layout.index[joint] for joint in layout.joints if joint.startswith("left ")], dtype=int)
    if not len(numbers):
        return x
    left, right = indices(numbers, x.device), indices(layout.mirror_index[numbers], x.device)
    body = x[:, 0]
    there = found(body)
    both = there[..., left] & there[..., right] & valid[..., None]  # N T pairs
    count = both.long().sum((1, 2))
    lines = (body[:, :, left] - body[:, :, right]) * both[..., None]
    line = _sum(lines.flatten(1, 2)) / count.clamp(min=1)[:, None]
    across, depth = line[:, across_axis], line[:, depth_axis]
    length = (across.double().square() + depth.double().square()).sqrt()
    known = (count > 0) & (length >= 1e-6)
    length = length.clamp(min=1e-6).to(x.dtype)
    cos = torch.where(known, across / length, torch.ones_like(length))[:, None, None, None]
    sin = torch.where(known, depth / length, torch.zeros_like(length))[:, None, None, None]
    turned = list(x.unbind(-1))
    turned[across_axis] = cos * x[..., across_axis] + sin * x[..., depth_axis]
    turned[depth_axis] = cos * x[..., depth_axis] - sin * x[..., across_axis]
    return torch.stack(turned, -1)


def unit_height(x: Tensor, valid: Tensor, layout: Layout) -> Tensor:
    """Scale recordings so that the main body's bones, summed along its median frame, have length `num_joints` / 5.

    Bones instead of the bounding box: how far somebody reaches must not change how tall they are.
    """
    parent = indices(layout.bone_parents, x.device)
    body = x[:, 0]
    there = found(body)
    bones = _norm(body - body[:, :, parent]) * (there & there[..., parent])  # N T V
    totals = torch.where(valid, _sum_of_eight(bones), torch.inf).sort(1).values
    frames = valid.long().sum(1, keepdim=True)
    total = (totals.gather(1, (frames - 1) // 2) + totals.gather(1, frames // 2))[:, 0] / 2
    scale = torch.full_like(total, layout.num_joints / 5) / total.clamp(min=1e-6)
    scale = torch.where(total < 1e-6, torch.ones_like(total), scale).float()
    return x * scale[:, None, None, None, None]


# ---------------------------------------------------------------- in the image plane


def with_confidence(x: Tensor) -> Tensor:
    """Image coordinates `[N, M, T, V, 2]` with a confidence of 1 where a joint was found; with one, as they are."""
    return x if x.shape[-1] == 3 else torch.cat([x, found(x)[..., None].to(x.dtype)], -1)


def in_box(x: Tensor) -> Tensor:
    """Image coordinates and confidence `[N, M, T, V, 3]` with each recording's box centred, its longest side 2.

    For recordings without an image size. Joints that were not found (both coordinates zero) stay zero.
    """
    points, confidence = x[..., :2], x[..., 2:]
    present = found(points)[..., None]
    endless = torch.full_like(points, torch.inf)
    low = torch.where(present, points, endless).amin((1, 2, 3), keepdim=True)
    high = torch.where(present, points, -endless).amax((1, 2, 3), keepdim=True)
    scale = (high - low).amax(-1, keepdim=True).clamp(min=1e-6) / 2
    boxed = torch.where(present, (points - (low + high) / 2) / scale, torch.zeros_like(points))
    return torch.cat([boxed, confidence], -1)


# ---------------------------------------------------------------- arithmetic


def found(x: Tensor) -> Tensor:
    """Where any of the coordinates of `x` `[..., C]` is not zero."""
    return reduce(or_, (values != 0 for values in x.unbind(-1)))


def _norm(x: Tensor) -> Tensor:
    """Lengths of `x` `[..., C]`, squares added from first to last."""
    return _root(reduce(add, (values.square() for values in x.unbind(-1))), x.dtype)


def _norm_of_one(line: Tensor) -> Tensor:
    """Lengths of `line` `[N, C]`, squares added in double precision (BLAS does)."""
    return _root(reduce(add, line.square().double().unbind(-1)).to(line.dtype), line.dtype)


def _root(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Square roots as precise as `dtype`: in single precision, PyTorch's are often off by the last bit."""
    return x.double().sqrt().to(dtype)


def _mean(x: Tensor) -> Tensor:
    """Mean of a few joints `[N, T, V, C]` over V, added from first to last."""
    if is_traced():
        return x.mean(2)
    return reduce(add, x.unbind(2)) / x.shape[2]


def _sum(x: Tensor) -> Tensor:
    """Sum of `x` `[N, L, C]` over L, added from first to last."""
    if is_traced():
        return x.sum(1)
    return torch.zeros_like(x[:, :1]).scatter_add(1, torch.zeros(x.shape, dtype=torch.long, device=x.device), x)[:, 0]


def _sum_of_eight(x: Tensor) -> Tensor:
    """Sum of `x` `[..., V]` over V in eight columns, these in pairs, then what is left over (NumPy's order)."""
    if is_traced():
        return x.sum(-1)
    whole = x.shape[-1] // 8 * 8
    rest = list(x[..., whole:].unbind(-1))
    if whole:
        columns = reduce(add, x[..., :whole].unflatten(-1, (-1, 8)).unbind(-2))
        for _ in range(3):
            columns = columns[..., ::2] + columns[..., 1::2]
        rest.insert(0, columns[..., 0])
    return reduce(add, rest)


def _turning(line: Tensor, axis: int, sign: int = 1) -> Tensor:
    """The smallest rotations `[N, 3, 3]`, in double precision, that take the directions of `line` `[N, 3]` to an axis
    (Rodrigues), or to its other end where `sign` is -1.

    The identity where a line vanishes or points the opposite way, in which case no single rotation is smallest.
    """
    length = _norm_of_one(line)
    line = (line / length.clamp(min=1e-12)[:, None]).double()
    onto = torch.zeros(3, dtype=line.dtype, device=line.device)
    onto = torch.where(torch.arange(3, device=line.device) == axis, float(sign), onto)
    cos = sign * line[:, axis]
    x, y, z = torch.linalg.cross(line, onto.expand_as(line)).unbind(1)
    zero, eye = torch.zeros_like(x), torch.eye(3, dtype=line.dtype, device=line.device)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).unflatten(1, (3, 3))
    turning = eye + cross + cross @ cross / (1 + cos).clamp(min=1e-9)[:, None, None]
    none = (length < 1e-9) | (cos < -1 + 1e-9)
    return torch.where(none[:, None, None], eye, turning)


def _turned(x: Tensor, turning: Tensor) -> Tensor:
    """`x` `[N, M, T, V, 3]` turned by `[N, 3, 3]`, in double precision."""
    return (x.double().flatten(1, 3) @ turning.transpose(1, 2)).unflatten(1, x.shape[1:4])
