"""Published methods by name; a folder each, loaded when it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import RunError
from ..suggestions import nearest_name

if TYPE_CHECKING:
    from .base import Method

METHODS = {"skeleton-agent": "skeleton_agent", "sugar": "sugar"}  # name -> module in this folder
DEFAULT = "skeleton-agent"  # of runs that name none: before version 0.2.0 there was no other


def method(name: str) -> Method:
    """What a method offers. Raises `RunError` with the nearest known name."""
    if name not in METHODS:
        raise RunError(f"no method {name!r}: {nearest_name(name, list(METHODS))}")
    module: Method = import_module(f".{METHODS[name]}", __name__)
    return module
