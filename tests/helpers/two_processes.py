"""Two processes that train together, as torchrun starts them, but forked from one that has imported everything.

Every process of torchrun imports torch first, which takes longer than what the tests do with them.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

from skag.training.allocator import without_small_caches

from .recordings import ROOT

LONGEST = 300  # seconds


@dataclass
class Done:
    """How two processes ended, and what they wrote together."""

    codes: list[int]
    stdout: str
    stderr: str


class Pair:
    """Lets two processes at a time call a function; to be closed."""

    def __init__(self) -> None:
        environment = without_small_caches(dict(os.environ)) | {"OMP_NUM_THREADS": "1"}  # else `train` starts again
        self.server = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=ROOT, env=environment, stdin=-1, stdout=-1, text=True
        )

    def call(self, module: str, function: str, *arguments: str, folder: Path = ROOT) -> Done:
        """What becomes of `module.function(*arguments)`, called in `folder` by both at the same time."""
        print(json.dumps([module, function, arguments, str(folder)]), file=self.server.stdin, flush=True)
        return Done(**json.loads(self.server.stdout.readline()))

    def skag(self, *arguments: object, folder: Path) -> Done:
        """What becomes of a command."""
        return self.call("skag.cli", "main", *map(str, arguments), folder=folder)

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait(LONGEST)
        self.server.stdout.close()


def run(rank: int, port: int, module: str, function: str, arguments: list[str], folder: str) -> None:
    """Be one of two processes: call the function, with the environment that torchrun would give."""
    signal.alarm(LONGEST)
    os.chdir(folder)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    called = getattr(importlib.import_module(module), function)
    if module == "skag.cli":
        sys.argv = ["skag", *arguments]
        called()
    else:
        called(*arguments)


def both(request: list) -> Done:
    """Fork two processes, and wait for them; one that waits for another in vain ends after `LONGEST`."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        port = _free_port()
        children: dict[int, int] = {}
        for rank in range(2):
            child = os.fork()
            if child == 0:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                _be_a_child(rank, port, request)
            children[child] = rank
        codes = [0, 0]
        while children:
            child, status = os.wait()
            codes[children.pop(child)] = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return Done(codes, *texts)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _be_a_child(rank: int, port: int, request: list) -> None:
    code = 1
    try:
        run(rank, port, *request)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Answer one request a line, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed here is no answer
    for module in ("skag.cli.train", "skag.training.loop", "torch._dynamo", "tests.test_distributed"):
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(vars(both(json.loads(line)))), file=answers, flush=True)


if __name__ == "__main__":
    main()
