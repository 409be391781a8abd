"""Everything that the reference holds, array by array: see `parity.py`."""

from __future__ import annotations

from .helpers import parity
from .helpers.golden import golden


def test_skag_equals_the_reference_and_no_array_is_forgotten() -> None:
    # One test: tests of a file may run in several processes, and the second half needs all of the first.
    compared = set()
    for group, compare in parity.GROUPS.items():
        rows = list(compare())
        compared.update((row.file, row.array) for row in rows)
        assert rows, group
        wrong = [f"{row.array}: {row.difference:.2e} > {row.tolerance:.0e}" for row in rows if not row.holds]
        assert not wrong, "\n".join([group, *wrong])
    for file in parity.FILES:
        for array in golden(f"{file}.npz").files:
            assert (f"{file}.npz", array) in compared or parity.reason_not_compared(array), f"{file}: {array}"
