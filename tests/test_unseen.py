"""Seen and unseen classes: which they are, and that nothing is learned from the unseen ones."""

from __future__ import annotations
