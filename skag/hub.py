"""The files of a transformers model: found in a folder, in the hub's cache on this machine, or downloaded.

Shared by the text encoders and the base models, which say in their own words what to do about what is missing. No
code of a folder is run: weights are safetensors, or torch files read with `weights_only`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from .errors import SkagError
from .weights import REACH_SECONDS, listed, one_line

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # or either in shards, with an index beside them
TEXT_FILES = ("*.json", "*.txt", "*.model", "*.codes")  # what tokenisers consist of
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """The files of a model, all in one folder."""

    folder: Path
    weights: tuple[Path, ...]
    tokeniser: tuple[Path, ...]


@dataclass(frozen=True)
class Finder:
    """How one kind of model is looked for, and what is said where it is not found."""

    error: type[SkagError]
    use: str  # how such a model is named: "use hf:NAME or hf:FOLDER"
    elsewhere: str  # what else can be done
    texts: tuple[str, ...] = TEXT_FILES  # patterns of the small files that are needed

    def files(self, folder: Path) -> Files:
        """What a folder holds. Raises `error` where that is no whole model."""
        self.config(folder)
        weights = self._weights(folder)
        missing = [path.name for path in weights if not path.is_file()]
        if missing or not weights:
            raise self.error(
                f"{folder} lacks weights ({listed(missing or WEIGHTS)}): give a folder with one of them, or all shards."
            )
        indices = {f"{name}.index.json" for name in WEIGHTS}
        small = [path for pattern in self.texts for path in folder.glob(pattern) if path.is_file()]
        tokeniser = sorted({path for path in small if path.name != CONFIG and path.name not in indices})
        if not tokeniser:
            raise self.error(
                f"{folder} lacks a tokeniser (tokenizer.json or vocab.txt): give a folder that holds it too."
            )
        return Files(folder, tuple(weights), tuple(tokeniser))

    def config(self, folder: Path) -> dict[str, Any]:
        """`config.json` of a folder. Raises `error` where it is none of transformers."""
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            cause = "missing" if isinstance(error, FileNotFoundError) else one_line(error)
            raise self.error(
                f"{folder} holds no model ({CONFIG}: {cause}): give a folder with config, weights and tokeniser."
            ) from None
        if not isinstance(config, dict) or "model_type" not in config:
            raise self.error(f"{folder} holds no model of transformers ({CONFIG} names no model_type): give another.")
        return config

    def _weights(self, folder: Path) -> list[Path]:
        """The weights file or its shards, which need not all be there; safetensors first."""
        for name in WEIGHTS:
            if (folder / name).is_file():
                return [folder / name]
            index = folder / f"{name}.index.json"
            if index.is_file():
                try:
                    shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
                    if not shards or any(Path(shard).name != shard for shard in shards):
                        raise ValueError("it names no files of its folder")
                except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                    raise self.error(f"{index} is damaged ({one_line(error)}): get the model again.") from None
                return [folder / shard for shard in shards]
        return []

    def from_hub(self, name: str) -> Files:
        """The files of a published model. Where the hub is out of reach, an `error` soon."""
        import huggingface_hub
        from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

        try:
            cached = huggingface_hub.try_to_load_from_cache(name, CONFIG)
        except HFValidationError:
            raise self.error(f"{name!r} is no name on the hub and no folder: {self.use}.") from None
        partial = ""
        if isinstance(cached, str):
            try:
                return self.files(Path(cached).parent)
            except self.error as error:
                partial = f" (in the cache: {error})"
        if huggingface_hub.constants.is_offline_mode():
            raise self.error(
                f"{name} is not on this machine{partial} and HF_HUB_OFFLINE is set: unset it, {self.elsewhere}."
            )
        try:  # one question with a short limit first, for what is missing or cannot be reached
            told = huggingface_hub.HfApi().model_info(name, timeout=REACH_SECONDS)
            files = wanted([file.rfilename for file in told.siblings or []], self.texts)
            _log.info("Downloading %s from the hub (%s).", name, ", ".join(files))
            folder = Path(huggingface_hub.snapshot_download(name, revision=told.sha, allow_patterns=files))
        except GatedRepoError:  # a kind of RepositoryNotFoundError
            raise self.error(
                f"{name} is gated: accept its terms at https://huggingface.co/{name} and set HF_TOKEN, "
                f"or {self.elsewhere}."
            ) from None
        except RepositoryNotFoundError:
            raise self.error(
                f"the hub has no model {name} that is open to you: check the name, or {self.elsewhere}."
            ) from None
        except Exception as error:  # of whichever HTTP client the hub's package uses
            raise self.error(
                f"{name} is not on this machine{partial} and the hub does not give it ({one_line(error)}): "
                f"{self.elsewhere}."
            ) from None
        return self.files(folder)


def wanted(files: list[str], texts: tuple[str, ...] = TEXT_FILES) -> list[str]:
    """Of a repository's files those that are needed: config, tokeniser, and one form of the weights."""
    small = [file for file in files if "/" not in file and any(fnmatch(file, pattern) for pattern in texts)]
    for name in WEIGHTS:
        stem, suffix = name.split(".")
        if found := [file for file in files if fnmatch(file, name) or fnmatch(file, f"{stem}-*-of-*.{suffix}")]:
            return small + found
    return small


def revision(folder: Path) -> str | None:
    """The commit of a folder in the hub's cache, None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def read_weights(weights: tuple[Path, ...]) -> dict[str, Any]:
    """All tensors of a model's weights files, on the CPU; nothing in a file runs."""
    import torch

    state: dict[str, Any] = {}
    for path in weights:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state |= load_file(path)
        else:
            state |= torch.load(path, map_location="cpu", weights_only=True)
    return state


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and reports of transformers: what matters in them is said in our own errors."""
    from transformers.utils import logging as chatter

    verbosity, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(verbosity)
        if bars:
            chatter.enable_progress_bar()
