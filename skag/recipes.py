"""The recipes of all methods by name: complete configurations for a data set and a stream."""

from __future__ import annotations

import dataclasses
import difflib
from typing import TYPE_CHECKING

from .config import AnyConfig, Config, stream_named
from .errors import RunError
from .methods import DEFAULT, METHODS, method
from .methods.base import Card
from .skeleton.layouts import load_layout

if TYPE_CHECKING:
    from .skeleton.store import SkeletonStore


def cards() -> dict[str, tuple[str, Card]]:
    """All recipes by name, each with its method's name."""
    return {name: (of, card) for of in METHODS for name, card in method(of).RECIPES.items()}


def recipe(name: str, stream: str) -> Config:
    """A recipe by name. Raises `RunError` with the nearest known name, and for a stream that there is not."""
    known = cards()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
        raise RunError(f"no recipe {name!r}: {hint} Without --recipe one is derived from the data.")
    return known[name][1].make(stream_named(stream))


def method_of(recipe: str | None, wanted: str | None) -> str:
    """The name of a recipe's method, or of the one `wanted`; the default one where nothing is named."""
    known = cards()
    return known[recipe][0] if recipe in known else wanted or DEFAULT


def fitted(config: AnyConfig, store: SkeletonStore) -> AnyConfig:
    """A recipe as it can be used on `store`: its protocol is left out where the store names its only one otherwise.

    Raises `RunError` where a published recipe is for another layout.
    """
    _, card = cards()[config.recipe]
    if card.layout_fixed and store.layout.name != card.layout:
        layout = load_layout(card.layout)
        from_these = layout.derived and layout.joints[: layout.num_recorded] == store.layout.joints
        hint = "leave out --recipe, or use another"
        if from_these:
            hint = f"convert the recordings with --layout {card.layout}"
        raise RunError(
            f"recipe {config.recipe} is for layout {card.layout} and {store.path} has {store.layout.name}: {hint}."
        )
    known = store.protocols()
    if config.data.protocol is not None and config.data.protocol not in known and len(known) == 1:
        return dataclasses.replace(config, data=dataclasses.replace(config.data, protocol=None))
    return config
