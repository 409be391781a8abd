"""Published methods by name; a folder each, loaded when it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import RunError
from ..suggestions import nearest_name

if TYPE_CHECKING:
    from ..dialogue.script import Script
    from .base import Method

METHODS = {"skeleton-agent": "skeleton_agent", "sugar": "sugar", "llm-ar": "llm_ar"}  # name -> module in this folder
DEFAULT = "skeleton-agent"  # of runs that name none: before version 0.2.0 there was no other


def method(name: str) -> Method:
    """What a method offers. Raises `RunError` with the nearest known name."""
    if name not in METHODS:
        raise RunError(f"no method {name!r}: {nearest_name(name, list(METHODS))}")
    module: Method = import_module(f".{METHODS[name]}", __name__)
    return module


def script_of(name: str) -> Script:
    """What a method asks about the classes. Raises `RunError` for one that asks nothing."""
    script = method(name).SCRIPT
    if script is None:
        raise RunError(f"method {name} asks nothing about the classes: leave `skag describe` out, and train.")
    return script
