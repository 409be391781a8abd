"""What a configuration that is derived from the data is derived from, for any method's `derived`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..config import DataConfig, StreamName
from ..plural import counted
from ..skeleton.sided_names import tells_sides
from ..skeleton.store import SkeletonStore


@dataclass(frozen=True)
class FromData:
    """What matters of the clips of a training split."""

    clips: int
    bodies: int  # the most in a clip, up to 2
    median: float  # frames of a clip
    upright: bool  # 3-D: people can be turned and scaled
    sided: bool  # class names tell left from right, see `skeleton.sided_names`

    @classmethod
    def of(cls, store: SkeletonStore, train_split: str) -> FromData:
        numbers = store.splits[train_split]
        return cls(
            clips=len(numbers),
            bodies=min(2, int(store.bodies[numbers].max())),
            median=float(np.median(store.frames[numbers])),
            upright=store.layout.dims == 3,
            sided=tells_sides(store.classes),
        )

    def num_frames(self, most: int) -> int:
        """Frames that the network sees: a multiple of 16 near the median, from 32 to `most`."""
        return int(np.clip(round(self.median / 16) * 16, 32, most))

    def config(self, stream: StreamName, num_frames: int) -> DataConfig:
        """People turned to stand and face one way and scaled to one size, as far as the recordings allow it."""
        return DataConfig(
            stream=stream,
            num_frames=num_frames,
            num_bodies=self.bodies,
            stand_upright=self.upright,
            face_forward=self.upright,
            unit_height=self.upright and self.bodies == 1,
        )

    def reasons(self, num_frames: int) -> list[str]:
        """Those of `num_frames` and `bodies`."""
        return [
            f"{counted(num_frames, 'frame')}: training clips have {self.median:.0f} in the middle",
            f"{self.bodies} bod{'y' if self.bodies == 1 else 'ies'}: the most in a training clip, up to 2",
            *(["no mirroring: class names tell left from right"] if self.sided else []),
        ]
