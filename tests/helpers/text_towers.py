"""Small CLIP models that open_clip can build."""

from __future__ import annotations

import json
from pathlib import Path


def add_model(folder: Path, name: str, *, quick_gelu: bool = False, **text_cfg: int) -> None:
    """Make a tiny model known to open_clip."""
    from skag.text.open_clip import import_open_clip

    config = {
        "embed_dim": 16,
        "quick_gelu": quick_gelu,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2} | text_cfg,
    }
    if "embed_dim" in text_cfg:
        config["embed_dim"] = config["text_cfg"].pop("embed_dim")
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    import_open_clip().add_model_config(path)
