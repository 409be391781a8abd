"""What happens to body joints between the skeleton store and the network.

Letters of this file: N clips, M bodies, T frames, V joints, C coordinates. The functions of the first part
run once per clip in numpy and keep the number of coordinates; those of the second part run per batch in
torch, on the training device, with their random draws as arguments.

Streams are made once per clip, before the augmentations: taking a bone or a motion is linear, so rotating,
scaling and mirroring afterwards gives the same numbers.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .layouts import Layout

# ---------------------------------------------------------------- once per clip, numpy, [M, T, V, C]


def drop_empty_frames(keypoints: np.ndarray) -> np.ndarray:
    """Keep the frames in which the main body was seen, and put the main body first.

    With two bodies the one that is seen in more frames is the main one (published code's rule). A clip
    with nothing in it keeps its first frame.
    """
    seen = keypoints.any(axis=(2, 3))  # M T
    if len(keypoints) == 2 and seen[1].sum() > seen[0].sum():
        keypoints, seen = keypoints[::-1], seen[::-1]
    return keypoints[:, seen[0]] if seen[0].any() else keypoints[:, :1]


def centre_on_first_frame(keypoints: np.ndarray, layout: Layout) -> np.ndarray:
    """Move the centre joint of the main body in the first frame to the origin; missing joints stay zero."""
    present = keypoints.any(axis=-1, keepdims=True)
    return (keypoints - keypoints[0, 0, layout.index[layout.centre]]) * present


def face_forward(keypoints: np.ndarray, layout: Layout) -> np.ndarray:
    """Turn a 3-D clip about the vertical so that the main body's mean left-to-right line is one axis.

    The line runs from all joints named "right ..." to those named "left ..." where both were seen. A clip
    where it vanishes (or a layout without sides) is returned as it is.
    """
    up, _ = layout.up_axis
    across_axis, depth_axis = (axis for axis in range(3) if axis != up)
    left = np.array([layout.index[j] for j in layout.joints if j.startswith("left ")], dtype=int)
    right = layout.mirror_index[left]
    body = keypoints[0]
    both = body[:, left].any(-1) & body[:, right].any(-1)
    if not both.any():
        return keypoints
    x, z = (body[:, left] - body[:, right])[both].mean(0)[[across_axis, depth_axis]]
    length = math.hypot(x, z)
    if length < 1e-6:
        return keypoints
    cos, sin = x / length, z / length
    turned = keypoints.copy()
    turned[..., across_axis] = cos * keypoints[..., across_axis] + sin * keypoints[..., depth_axis]
    turned[..., depth_axis] = cos * keypoints[..., depth_axis] - sin * keypoints[..., across_axis]
    return turned


def stand_upright(keypoints: np.ndarray, layout: Layout) -> np.ndarray:
    """Turn a 3-D clip so that the main body stands along the up axis where it is most stretched.

    Undoes the tilt of the camera, which points in another direction of the body for every viewpoint. The body's
    line runs from the mean of the leg joints to the mean of the trunk's, over the tenth of the frames in which
    it is longest. A layout without parts "trunk" and "... leg", or a clip that lies down (more than 45 degrees),
    is returned as it is.
    """
    legs = [part for name, part in layout.part_index.items() if name.endswith("leg")]
    if not legs or "trunk" not in layout.part_index:
        return keypoints
    trunk, legs = layout.part_index["trunk"], np.concatenate(legs)
    body = keypoints[0]
    complete = body[:, trunk].any(-1).all(-1) & body[:, legs].any(-1).all(-1)
    if not complete.any():
        return keypoints
    lines = body[complete][:, trunk].mean(1) - body[complete][:, legs].mean(1)  # T C
    lengths = np.linalg.norm(lines, axis=1)
    longest = np.argsort(lengths)[-max(1, len(lines) // 10) :]
    axis, sign = layout.up_axis
    up = np.zeros(3)
    up[axis] = sign
    line = lines[longest].mean(0)
    line = line / max(float(np.linalg.norm(line)), 1e-9)
    cos = float(line @ up)
    if cos < math.cos(math.pi / 4):
        return keypoints
    # Rodrigues' rotation that takes `line` to `up`
    x, y, z = np.cross(line, up)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.eye(3) + cross + cross @ cross / (1 + cos)
    return (keypoints @ turn.T).astype(np.float32)


def unit_height(keypoints: np.ndarray, layout: Layout) -> np.ndarray:
    """Scale a clip so that the main body's bones, summed along its median frame, have length `num_joints` / 5.

    Bones instead of the bounding box: how far somebody reaches must not change how tall they are.
    """
    parent = layout.bone_parents
    present = keypoints[0].any(-1)  # T V
    bones = np.linalg.norm(keypoints[0] - keypoints[0][:, parent], axis=-1)
    total = np.median((bones * (present & present[:, parent])).sum(-1))
    return keypoints if total < 1e-6 else keypoints * np.float32(layout.num_joints / 5 / total)


def normalise_image(keypoints: np.ndarray, confidence: np.ndarray | None) -> np.ndarray:
    """Image coordinates `[M, T, V, 2]` to the clip's box, centred, longest side 2; confidence as third channel.

    For recordings without an image size. Joints that were not found (all zero) stay zero.
    """
    present = keypoints.any(axis=-1)
    result = np.zeros((*keypoints.shape[:3], 3), np.float32)
    if present.any():
        low, high = keypoints[present].min(0), keypoints[present].max(0)
        scale = max(float((high - low).max()), 1e-6) / 2
        result[..., :2] = (keypoints - (low + high) / 2) / scale * present[..., None]
    result[..., 2] = present if confidence is None else confidence
    return result


def to_stream(keypoints: np.ndarray, layout: Layout, stream: str) -> np.ndarray:
    """Joints `[M, T, V, C]` to a stream: j, b (bones), k (joint minus grandparent), or a motion jm, bm, km.

    A motion is the step to the next frame; the last frame has none. With two coordinates and a confidence
    the confidence is the mean of the two that were subtracted.
    """
    scored = layout.dims == 2 and keypoints.shape[-1] == 3
    values = keypoints
    if stream[0] != "j":
        parent = layout.bone_parents if stream[0] == "b" else layout.kbone_parents
        values = keypoints - keypoints[:, :, parent]
        if scored:
            values[..., 2] = (keypoints[..., 2] + keypoints[:, :, parent, 2]) / 2
    if stream.endswith("m"):
        motion = np.zeros_like(values)
        motion[:, :-1] = values[:, 1:] - values[:, :-1]
        if scored:
            motion[:, :-1, :, 2] = (values[:, 1:, :, 2] + values[:, :-1, :, 2]) / 2
        values = motion
    return values


# ---------------------------------------------------------------- per batch, torch, [N, T, M, V, C]


def stretch_positions(frames: Tensor, num_frames: int, start: Tensor, stop: Tensor) -> Tensor:
    """Frame positions `[N, num_frames]` (fractional) that spread a part of every clip evenly over num_frames.

    `frames` `[N]` is each clip's length; `start` and `stop` `[N]` bound the part, as fractions of the clip.
    """
    last = (frames - 1).to(start.dtype)
    steps = torch.linspace(0, 1, num_frames, dtype=start.dtype, device=start.device)
    return (last * start)[:, None] + (last * (stop - start))[:, None] * steps


def gather_frames(rows: Tensor, first_row: Tensor, frames: Tensor, positions: Tensor) -> Tensor:
    """Read clips at fractional frame positions, linearly between the two nearest frames.

    `rows` `[R, M, V, C]` holds all clips one after another; `first_row`, `frames` `[N]`; `positions`
    `[N, T]`. Returns `[N, T, M, V, C]`.
    """
    low = positions.floor().long()
    high = torch.minimum(low + 1, (frames - 1)[:, None])
    weight = (positions - low).to(rows.dtype)[:, :, None, None, None]
    return torch.lerp(rows[first_row[:, None] + low], rows[first_row[:, None] + high], weight)


def rotation_matrices(angles: Tensor) -> Tensor:
    """Rotations `[N, 3, 3]` about x, then y, then z by `angles` `[N, 3]` in radians."""
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(1), angles.sin().unbind(1)
    one, zero = torch.ones_like(cx), torch.zeros_like(cx)
    x = torch.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx], 1).view(-1, 3, 3)
    y = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], 1).view(-1, 3, 3)
    z = torch.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one], 1).view(-1, 3, 3)
    return z @ y @ x


def mirror(x: Tensor, layout: Layout) -> Tensor:
    """Left becomes right: joints change places and the first axis that is not up changes sign. `x` `[..., V, C]`."""
    x = x[..., torch.as_tensor(layout.mirror_index, device=x.device), :].clone()
    x[..., 1 if layout.up_axis[0] == 0 else 0] *= -1
    return x
