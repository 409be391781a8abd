"""Devices are chosen by name, and a wrong or absent one is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from skag.device import choose_device, seconds_kept_waiting
from skag.errors import RunError


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cuda", "mps", "cpu")
    with pytest.raises(RunError, match="unknown device 'gpu'"):
        choose_device("gpu")


def test_waiting_for_a_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "schedstat"
    for content, seconds in ((None, 0), ("70 2500000000 7\n", 2.5), ("0 0 0\n", 0), ("", 0), ("none of these\n", 0)):
        if content is not None:
            path.write_text(content)
        monkeypatch.setattr("skag.device._SCHEDULER", path)
        assert seconds_kept_waiting() == seconds


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not tell who waits for a core")
@pytest.mark.long
def test_two_programs_on_one_core_wait_for_one_another() -> None:
    busy = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from skag.device import seconds_kept_waiting\n"
        "sum(range(10**7)); print(seconds_kept_waiting())"
    )
    both = [subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert max(float(one.communicate()[0]) for one in both) > 0.2
