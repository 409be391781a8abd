"""The version of skag."""

__version__ = "0.2.0"
