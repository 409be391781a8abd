"""Everything that the reference holds, array by array: see `parity.py`."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from .helpers import parity
from .helpers.golden import golden

NETWORKS = {  # whole networks in float64, trained for two steps
    "network, 9 blocks": "model_nturgb+d_60",
    "network, 10 blocks": "model_coco_new_400_K400",
}


def compare(groups: Iterable[str], files: Iterable[str]) -> None:
    """Check all rows of the groups, and that no array of the files is forgotten."""
    compared = set()
    for group in groups:
        rows = list(parity.GROUPS[group]())
        compared.update((row.file, row.array) for row in rows)
        assert rows, group
        wrong = [f"{row.array}: {row.difference:.2e} > {row.tolerance:.0e}" for row in rows if not row.holds]
        assert not wrong, "\n".join([group, *wrong])
    for file in files:
        for array in golden(f"{file}.npz").files:
            assert (f"{file}.npz", array) in compared or parity.reason_not_compared(array), f"{file}: {array}"


@pytest.mark.long
def test_skag_equals_the_reference_and_no_array_is_forgotten() -> None:
    # One test: tests of a file may run in several processes, and the second half needs all of the first.
    compare(parity.GROUPS.keys() - NETWORKS.keys(), set(parity.FILES) - set(NETWORKS.values()))


@pytest.mark.long
@pytest.mark.parametrize("group", NETWORKS)
def test_the_published_networks_are_equal_and_no_array_is_forgotten(group: str) -> None:
    compare([group], [NETWORKS[group]])
