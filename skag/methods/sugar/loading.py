"""A trained run of SUGAR, loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ... import text
from ...config import from_dict
from ...encoders.ctrgcn import CtrGcnConfig
from ...errors import RunError
from ...skeleton.layouts import Layout
from ...weights import listed
from .base_model import check_same, open_base
from .classifier import SugarClassifier
from .config import SugarConfig
from .network import Sugar
from .task import encoder_of, make_bridge


def load(folder: Path, config: SugarConfig, facts: Mapping[str, Any], weights: Mapping[str, Any]) -> SugarClassifier:
    """See `methods.base.Method.load`."""
    where = str(folder / "config.json")
    shape = from_dict(CtrGcnConfig, facts["model"], where)
    layout = Layout.from_dict(facts["layout"], where)
    classes = facts["classes"]
    asking = facts.get("asking") or {}

    def embed(texts: list[str]) -> np.ndarray:
        given = asking.get("text_weights")
        path = None if given is None else Path(given)
        return text.open_encoder(config.texts.text_encoder, weights=path).encode(texts)

    if not config.tunes:
        return SugarClassifier(encoder_of(config, shape, layout, weights), config, classes, embed)
    own = {name.removeprefix("encoder."): value for name, value in weights.items() if name.startswith("encoder.")}
    device = "cuda" if config.lm.quantisation == "4bit" and torch.cuda.is_available() else "cpu"
    lm = open_base(config, device, len(classes), trains=False)
    check_same(facts.get("base_model") or {}, lm, str(folder))
    model = Sugar(encoder_of(config, shape, layout, own), make_bridge(config, shape, lm.width), lm)
    found = model.load_state_dict(weights, strict=False)
    if wrong := [*found.missing_keys, *found.unexpected_keys]:
        raise RunError(f"{folder} was made with other settings of its adapter ({listed(wrong)}): train it again.")
    return SugarClassifier(model, config, classes, embed)
