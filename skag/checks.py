"""Checks of values that a person can set."""

from __future__ import annotations

from typing import Any

from .errors import RunError

MANY = float("inf")


def within(config: Any, low: float, high: float, *names: str) -> None:
    """Raise `RunError` where one of these fields of a configuration is not between `low` and `high`."""
    for name in names:
        value = getattr(config, name)
        if not low <= value <= high:
            limits = f"at least {low:g}" if high == MANY else f"between {low:g} and {high:g}"
            raise RunError(f"{name} is {value:g}; it must be {limits}.")
