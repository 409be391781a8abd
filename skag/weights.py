"""What the text encoders with weights share: checksums of files, reach of the hub, an import that has to be mended."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

REACH_SECONDS = 5.0  # the hub's own retries take most of a minute before they give up
_torchvision_stub = None  # keeps the definitions of `mend_torchvision` alive


def checksum(*paths: Path) -> str:
    """SHA-256 of one file, or of the names and contents of several. Raises `OSError`."""
    digests = [_digest(path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths]
    if len(digests) == 1:
        return digests[0]
    listed = "".join(f"{path.name}\0{digest}\n" for path, digest in zip(paths, digests, strict=True))
    return hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()


@lru_cache(maxsize=64)
def _digest(path: Path, changed: int, size: int) -> str:
    """SHA-256 of a file; `changed` and `size` are there to notice another file under the same name."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def one_line(error: object) -> str:
    """The gist of a foreign message, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:159] + "…"


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def mend_torchvision() -> None:
    """Let torchvision be imported beside a torch that its binary was not built for.

    open_clip and transformers import torchvision for images, which no text needs. With a CPU torch and the package
    registry's CUDA build of torchvision that import fails ("operator torchvision::nms does not exist"), because
    torchvision registers shape functions for two operators that its binary would have defined. So where the binary
    does not load, their schemas are defined here, with nothing behind them; nothing that reads text calls them. It
    must happen before the first import of torchvision: a failed one leaves it half imported.
    """
    global _torchvision_stub
    import sys

    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or "torchvision" in sys.modules or _torchvision_stub is not None:
        return
    folder = Path(spec.origin).parent
    for binary in sorted(path for path in folder.glob("_C*") if path.suffix in (".so", ".pyd", ".dylib")):
        try:
            torch.ops.load_library(str(binary))
            return
        except OSError:
            continue
    _torchvision_stub = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        _torchvision_stub.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
