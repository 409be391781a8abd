"""What a figure shows."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.text import Text


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in visible(figure)]


def visible(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
