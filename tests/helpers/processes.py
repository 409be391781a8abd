"""Two processes on the CPU that talk by gloo."""

from __future__ import annotations

import os
import subprocess
import sys


def by_two(module: str, function: str, *arguments: str) -> None:
    """Let two processes call a function of a test module with words for arguments."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.helpers.processes", module, function, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    import importlib

    from torch import distributed

    distributed.init_process_group("gloo")
    try:
        getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(*sys.argv[3:])
    finally:
        distributed.destroy_process_group()
