"""The image tower of a CLIP model through open_clip: pictures to vectors.

Weights are found as for the text tower (`text.open_clip`). Pictures are scaled and cut as CLIP's own code does
(bicubic, the shorter side to the tower's size, the middle), without torchvision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import TextError
from ..weights import one_line
from . import open_clip as towers

if TYPE_CHECKING:
    from PIL.Image import Image

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's, of its training data
_BATCH = 64  # pictures at a time


def open_image_tower(
    model: str, tag: str | None, weights: Path | None, device: str
) -> Callable[[Sequence[Image]], np.ndarray]:
    """A function from n pictures to L2-normalised vectors, float32 `[n, D]`. Raises `TextError`."""
    import torch

    model, config, path = towers.located(model, tag, weights)
    open_clip = towers.import_open_clip()
    try:
        tower = open_clip.create_model(
            model, pretrained=str(path), force_quick_gelu=config["quick_gelu"], require_pretrained=True
        )
    except Exception as error:  # the readers of damaged and foreign files raise whatever they stumble over
        raise TextError(f"the weights {path} do not fit {model} ({one_line(error)}): use another file.") from None
    tower = tower.eval().requires_grad_(False).to(device)
    size = int(config["vision_cfg"].get("image_size", 224))

    def encode(pictures: Sequence[Image]) -> np.ndarray:
        found = [np.zeros((0, config["embed_dim"]), np.float32)]
        for start in range(0, len(pictures), _BATCH):
            batch = np.stack([prepared(picture, size) for picture in pictures[start : start + _BATCH]])
            with torch.inference_mode():
                vectors = tower.encode_image(torch.from_numpy(batch).to(device), normalize=True)
            found.append(vectors.float().cpu().numpy())
        return np.concatenate(found)

    return encode


def prepared(picture: Image, size: int) -> np.ndarray:
    """A picture as CLIP's image tower takes it, float32 `[3, size, size]`."""
    from PIL.Image import Resampling

    picture = picture.convert("RGB")
    width, height = picture.size
    scale = size / min(width, height)
    picture = picture.resize((max(size, round(width * scale)), max(size, round(height * scale))), Resampling.BICUBIC)
    left, top = (picture.size[0] - size) // 2, (picture.size[1] - size) // 2
    pixels = np.asarray(picture.crop((left, top, left + size, top + size)), np.float32) / 255
    return ((pixels - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)).transpose(2, 0, 1)
