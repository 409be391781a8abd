"""Tables of numbers without a header: which layout and columns fit so many numbers a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..skeleton.layouts import Layout
from .joints import known_layouts
from .source import Unusable

AXES = "xyz"


def is_number(text: str) -> bool:
    """Whether a cell holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def header_of(cells: list[float], layout: Layout | None) -> list[str]:
    """A header for rows of numbers like `cells`, joint after joint: `x0, y0, z0, x1, ...` with `c` for a confidence,
    and a column `frame` before them where one number is over. `layout` is what the user named; else the known one
    that fits. Raises `Unusable`, saying what was found and what would help.
    """
    known = [one for one in known_layouts() if not one.derived] if layout is None else [layout]
    forms = [form for one in known for form in _forms(cells, one, named=layout is not None)]
    for wanted in (lambda form: form.plain, lambda form: not form.plain):  # without confidence and frame first
        fits = {(form.layout, form.per, form.over): form for form in filter(wanted, forms)}
        if len(fits) > 1:
            names = ", ".join(form.layout for form in fits.values())
            raise Unusable(
                f"has no header, and {len(cells)} numbers a row fit several layouts ({names}): name one with --layout"
            )
        for form in fits.values():
            axes = AXES[: form.dims] + ("c" if form.per > form.dims else "")
            return ["frame"] * form.over + [f"{axis}{joint}" for joint in range(form.joints) for axis in axes]
    raise Unusable(_nothing_fits(len(cells), layout))


@dataclass(frozen=True)
class _Form:
    layout: str
    dims: int
    joints: int
    per: int  # numbers of a joint
    over: int  # numbers before the joints

    @property
    def plain(self) -> bool:
        return self.per == self.dims and not self.over


def _forms(cells: list[float], layout: Layout, named: bool) -> Iterator[_Form]:
    """The ways in which a row can be a body of this layout. Of layouts that nobody `named`, a confidence lies in 0 to 1
    and a place in an image is not negative."""
    for per in (layout.dims, layout.dims + 1):
        for over in (0, 1):
            if over + per * layout.num_recorded != len(cells):
                continue
            scores = cells[over + layout.dims :: per] if per > layout.dims else []
            places = cells[over:] if layout.dims == 2 and not named else []
            if not any(score < 0 or score > 1 for score in scores) and not any(place < 0 for place in places):
                yield _Form(layout.name, layout.dims, layout.num_recorded, per, over)


def _nothing_fits(count: int, layout: Layout | None) -> str:
    said = f"has no header, and {count} numbers a row"
    if layout is not None:
        needs = layout.num_recorded * layout.dims
        return f"{said}, where layout {layout.name} needs {needs} ({layout.num_recorded} joints of {layout.dims})"
    guesses = [f"{count // dims} joints of {dims}" for dims in (3, 2) if count % dims == 0]
    guess = f" ({' or '.join(guesses)}?)" if guesses else ""
    return (
        f"{said}{guess}, as no known layout has: describe your joints in a TOML file and give it with --layout "
        "(docs/formats.md, Layouts of one's own), or write a header such as left_hand_x"
    )
