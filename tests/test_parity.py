"""Everything that the reference holds, array by array: see `parity.py`."""

from __future__ import annotations

import pytest

from . import parity
from .golden import golden

_compared: set[tuple[str, str]] = set()


@pytest.mark.parametrize("group", parity.GROUPS)
def test_skag_equals_the_reference(group: str) -> None:
    rows = list(parity.GROUPS[group]())
    _compared.update((row.file, row.array) for row in rows)
    assert rows
    wrong = [f"{row.array}: {row.difference:.2e} > {row.tolerance:.0e}" for row in rows if not row.holds]
    assert not wrong, "\n".join(wrong)


def test_no_reference_array_is_forgotten() -> None:
    if not _compared:
        pytest.skip("the comparisons did not run before this")
    for file in parity.FILES:
        for array in golden(f"{file}.npz").files:
            assert (f"{file}.npz", array) in _compared or parity.reason_not_compared(array), f"{file}: {array}"
