"""Real time given back to the network: `data.timing`.

Every clip is stretched to one number of frames, so that walking and walking fast differ in little that the network
sees. Either of two things brings the difference back as further channels: how long the clip is, or how fast every joint
moves. Not in the paper.

Letters of this file: N clips, T frames of the network, M bodies, V joints, C channels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..config import DataConfig
from ..errors import DataError
from .kinematics import known_rates
from .layouts import Layout
from .preparation import found

COORDINATES = 3  # of prepared clips: x, y and z, or the confidence


def num_channels(config: DataConfig, layout: Layout) -> int:
    """C of the network: the coordinates, and what `timing` adds."""
    return COORDINATES + {"none": 0, "duration": 1, "speed": layout.dims}[config.timing]


def rates_of(rates: np.ndarray) -> np.ndarray:
    """Frames per second of all clips of a source `[n]`, float32; unknown ones (NaN) count as the usual one. Raises
    `DataError` where none is known."""
    known = known_rates(rates)
    if known is None:
        raise DataError(
            "the frames per second of the recordings are not known, and data.timing needs them: give them with --fps, "
            "to `skag convert` for training."
        )
    return known.astype(np.float32)


def with_timing(
    values: Tensor, joints: Tensor, frames_apart: Tensor, rates: Tensor, layout: Layout, config: DataConfig
) -> Tensor:
    """A stream `[N, T, M, V, 3]`, taken of `joints` of the same shape, with the channels of `config.timing` behind.

    `frames_apart` `[N]` is how many recorded frames lie between two of the network's, `rates` `[N]` how many were
    recorded in a second. duration: the natural logarithm of the seconds shown, 0 of a body that is not there. speed:
    the way of every joint to the next frame in coordinates of the network per second, 0 where it was not seen in one of
    the two; the last frame has that of the one before. The values of a motion stream, which are steps from one recorded
    frame to the next, are multiplied with the rate.
    """
    if config.timing == "duration":
        seconds = (frames_apart * (config.num_frames - 1)).clamp(min=1) / rates
        there = found(joints).any(-1).any(1)  # N M
        logarithm = there[:, None] * seconds.log()[:, None, None]
        return torch.cat([values, logarithm[..., None, None].expand(*values.shape[:-1], 1)], -1)
    places = values[..., : layout.dims]
    if config.stream.endswith("m"):
        return torch.cat([values, places * _each(rates)], -1)
    seen = found(joints)[..., None]  # N T M V 1
    way = torch.zeros_like(places)
    way[:, :-1] = (places[:, 1:] - places[:, :-1]) * (seen[:, 1:] & seen[:, :-1])
    if config.num_frames > 1:
        way[:, -1] = way[:, -2]
    per_second = torch.where(frames_apart > 0, rates / frames_apart.clamp(min=1e-6), torch.zeros_like(rates))
    return torch.cat([values, way * _each(per_second)], -1)


def _each(numbers: Tensor) -> Tensor:
    """Numbers `[N]` beside a stream."""
    return numbers[:, None, None, None, None]
