"""BERT, sentence encoders and their like through transformers: a folder of files to L2-normalised mean vectors.

The files come from a folder, from the hub's cache on this machine, or from a download. No code of theirs is run:
architecture and tokeniser are transformers' own, weights are read as safetensors or with torch's `weights_only`, and
random weights are never used. Apart from `text` because everything here needs torch and the extra `skag[hf]`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TextError
from .weights import REACH_SECONDS, checksum, listed, mend_torchvision, one_line

_BATCH = 32  # sentences at a time: bounds memory, not the result
_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # or either in shards, with an index beside them
_TEXT_FILES = ("*.json", "*.txt", "*.model", "*.codes")  # what tokenisers consist of
_NO_LIMIT = 1_000_000  # transformers writes "no limit" as a number beyond any text
_ELSEWHERE = "give its folder with --text-weights FOLDER, or use --text-encoder lexical"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Files:
    """The files of a model, all in one folder."""

    folder: Path
    weights: tuple[Path, ...]
    tokeniser: tuple[Path, ...]

    def identity(self) -> dict[str, str]:
        """All that shapes a vector but the sentence; where the files lie does not."""
        return {
            "encoder": "hf",
            "pooling": "mean over the attention mask, L2",
            "config": checksum(self.folder / _CONFIG),
            "weights": checksum(*self.weights),
            "tokeniser": checksum(*self.tokeniser),
        }


def open_sentence_encoder(
    name: str, weights: Path | None, device: str
) -> tuple[str, Callable[[list[str]], np.ndarray]]:
    """Identity (JSON) and encoding function of a model; it is loaded when first used.

    `name` is a model's name on the hub or a folder, `weights` a folder that is used in its place. Raises `TextError`.
    """
    _import_transformers()
    files = _files(_folder(name, weights))
    identity = json.dumps(files.identity(), sort_keys=True)

    def encode(sentences: list[str]) -> np.ndarray:
        tokeniser, limit = _load_tokeniser(files, identity)
        model = _load(files, identity, device)
        try:
            vectors = _encode(model, tokeniser, limit, sentences)
        except (IndexError, RuntimeError, ValueError, AttributeError) as error:
            raise TextError(
                f"the model in {files.folder} cannot read sentences ({one_line(error)}): use a BERT or another encoder."
            ) from None
        if not np.isfinite(vectors).all():
            raise TextError(f"the weights in {files.folder} are damaged (vectors are not finite): use other files.")
        return vectors

    return identity, encode


def open_tokeniser(name: str, weights: Path | None) -> tuple[Callable[[str], int], int | None]:
    """A function that counts a sentence's tokens, special ones included, and how many of them the model reads.

    None where the model has no limit. What lies past it is cut, the end token kept. Raises `TextError`.
    """
    _import_transformers()
    files = _files(_folder(name, weights))
    tokeniser, limit = _load_tokeniser(files, json.dumps(files.identity(), sort_keys=True))
    return lambda sentence: len(tokeniser(sentence, verbose=False)["input_ids"]), limit


def _encode(model, tokeniser, limit: int | None, sentences: list[str]) -> np.ndarray:
    """Means of the last hidden states over the tokens that are no padding, L2-normalised, float32 `[n, D]`."""
    import inspect

    import torch

    takes = set(inspect.signature(model.forward).parameters)
    found = [torch.zeros(0, model.config.hidden_size)]
    with torch.inference_mode():
        for start in range(0, len(sentences), _BATCH):
            part = sentences[start : start + _BATCH]
            tokens = tokeniser(part, padding=True, truncation=limit is not None, max_length=limit, return_tensors="pt")
            tokens = {key: value.to(model.device) for key, value in tokens.items() if key in takes}
            hidden_NLD = model(**tokens).last_hidden_state
            mask_NL1 = tokens["attention_mask"][..., None].to(hidden_NLD.dtype)
            mean_ND = (hidden_NLD * mask_NL1).sum(1) / mask_NL1.sum(1).clamp(min=1)
            found.append(torch.nn.functional.normalize(mean_ND, dim=1).cpu())
    return torch.cat(found).numpy()


def _import_transformers():
    mend_torchvision()
    try:
        import transformers
    except ImportError as error:
        raise TextError(
            f"text encoders hf:NAME need transformers ({one_line(error)}): pip install 'skag[hf]', "
            "or use another --text-encoder."
        ) from None
    return transformers


# Files ---------------------------------------------------------------------------------------------------------------


def _folder(name: str, weights: Path | None) -> Path:
    """The folder of a model: the one given, the one named, the hub's in the cache of this machine, or a download."""
    if weights is not None:
        if not weights.is_dir():
            raise TextError(f"no folder {weights}: for hf:NAME --text-weights takes the folder with config.json.")
        return weights
    local = Path(name).expanduser()
    if local.is_dir():
        return local
    if local.is_absolute() or name.startswith((".", "~")):
        raise TextError(f"no folder {local}: check --text-encoder hf:FOLDER.")
    return _from_hub(name)


def _files(folder: Path) -> _Files:
    """What a folder holds. Raises `TextError` where that is no whole model."""
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        cause = "missing" if isinstance(error, FileNotFoundError) else one_line(error)
        raise TextError(
            f"{folder} holds no model ({_CONFIG}: {cause}): give a folder with config, weights and tokeniser."
        ) from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise TextError(f"{folder} holds no model of transformers ({_CONFIG} names no model_type): give another.")
    weights = _weights(folder)
    missing = [path.name for path in weights if not path.is_file()]
    if missing or not weights:
        raise TextError(
            f"{folder} lacks weights ({listed(missing or _WEIGHTS)}): give a folder with one of these, or all shards."
        )
    indices = {f"{name}.index.json" for name in _WEIGHTS}
    small = [path for pattern in _TEXT_FILES for path in folder.glob(pattern) if path.is_file()]
    tokeniser = sorted({path for path in small if path.name != _CONFIG and path.name not in indices})
    if not tokeniser:
        raise TextError(f"{folder} lacks a tokeniser (tokenizer.json or vocab.txt): give a folder that holds it too.")
    return _Files(folder, tuple(weights), tuple(tokeniser))


def _weights(folder: Path) -> list[Path]:
    """The weights file or its shards, which need not all be there; safetensors first."""
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
                if not shards or any(Path(shard).name != shard for shard in shards):
                    raise ValueError("it names no files of its folder")
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise TextError(f"{index} is damaged ({one_line(error)}): get the model again.") from None
            return [folder / shard for shard in shards]
    return []


def _from_hub(name: str) -> Path:
    """The folder of a published model. Where the hub is out of reach, a `TextError` soon."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        cached = huggingface_hub.try_to_load_from_cache(name, _CONFIG)
    except HFValidationError:
        raise TextError(f"{name!r} is no name on the hub and no folder: use hf:NAME or hf:FOLDER.") from None
    if isinstance(cached, str):
        folder = Path(cached).parent
        try:
            return _files(folder).folder
        except TextError as error:
            partial = f" (in the cache: {error})"
    else:
        partial = ""
    if huggingface_hub.constants.is_offline_mode():
        raise TextError(f"{name} is not on this machine{partial} and HF_HUB_OFFLINE is set: unset it, {_ELSEWHERE}.")
    try:  # one question with a short limit first, for what is missing or cannot be reached
        told = huggingface_hub.HfApi().model_info(name, timeout=REACH_SECONDS)
        files = _wanted([file.rfilename for file in told.siblings or []])
        _log.info("Downloading %s from the hub (%s).", name, ", ".join(files))
        return Path(huggingface_hub.snapshot_download(name, revision=told.sha, allow_patterns=files))
    except RepositoryNotFoundError:
        raise TextError(f"the hub has no model {name} that is open to you: check the name, or {_ELSEWHERE}.") from None
    except Exception as error:  # of whichever HTTP client the hub's package uses
        raise TextError(
            f"{name} is not on this machine{partial} and the hub does not give it ({one_line(error)}): {_ELSEWHERE}."
        ) from None


def _wanted(files: list[str]) -> list[str]:
    """Of a repository's files those that are needed: config, tokeniser, and one form of the weights."""
    wanted = [file for file in files if "/" not in file and any(fnmatch(file, pattern) for pattern in _TEXT_FILES)]
    for name in _WEIGHTS:
        stem, suffix = name.split(".")
        if found := [file for file in files if fnmatch(file, name) or fnmatch(file, f"{stem}-*-of-*.{suffix}")]:
            return wanted + found
    return wanted


# Loading -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _load_tokeniser(files: _Files, identity: str):
    """The tokeniser and the number of tokens that the model reads. Raises `TextError` where it does not load."""
    transformers = _import_transformers()
    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        with _quiet():
            tokeniser = transformers.AutoTokenizer.from_pretrained(files.folder, **options)
            config = transformers.AutoConfig.from_pretrained(files.folder, **options)
    except Exception as error:  # the readers of damaged and foreign files raise whatever they stumble over
        raise TextError(
            f"the tokeniser in {files.folder} does not load ({one_line(error)}): use one that transformers knows."
        ) from None
    if tokeniser.pad_token is None:
        raise TextError(f"{files.folder} holds no encoder of sentences (no padding token): use a BERT or its like.")
    return tokeniser, _limit(files.folder, tokeniser, config)


def _limit(folder: Path, tokeniser, config) -> int | None:
    """The smallest of what tokeniser, positions and sentence-transformers' own file allow; None where none does."""
    positions = getattr(config, "max_position_embeddings", None) or _NO_LIMIT
    if any(kind in config.model_type for kind in ("roberta", "camembert", "mpnet")):
        positions -= config.pad_token_id + 1  # these count positions from behind the padding token's number
    limits = [tokeniser.model_max_length, positions]
    own = folder / "sentence_bert_config.json"
    if own.is_file():
        try:
            limits.append(json.loads(own.read_text(encoding="utf-8")).get("max_seq_length") or _NO_LIMIT)
        except (ValueError, AttributeError):
            raise TextError(f"{own} is damaged: get the model again.") from None
    limit = min(limits)
    return int(limit) if limit < _NO_LIMIT else None


@lru_cache(maxsize=1)  # one model a process: distinctions are embedded again and again during training
def _load(files: _Files, identity: str, device: str):
    """The frozen model in float32. Raises `TextError` where weights and architecture do not fit.

    transformers is given the weights, not the folder: a folder can name an adapter, another weights file, or
    attention code that is fetched from elsewhere.
    """
    transformers = _import_transformers()
    import torch

    attention = "eager"
    try:
        with _quiet():
            config = transformers.AutoConfig.from_pretrained(
                files.folder, trust_remote_code=False, local_files_only=True
            )
            with torch.device("meta"):
                empty = transformers.AutoModel.from_config(
                    config, trust_remote_code=False, attn_implementation=attention
                )
            model, found = type(empty).from_pretrained(
                None,
                config=config,
                state_dict=_state(files.weights),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, in one line
                dtype=torch.float32,
                attn_implementation=attention,
            )
    except Exception as error:  # as above
        raise _unfit(files, one_line(error)) from None
    if wrong := sorted(name for name, *_ in found["mismatched_keys"]):
        raise _unfit(files, f"another shape: {listed(wrong)}")
    if missing := sorted(name for name in found["missing_keys"] if "pooler" not in name):  # nobody asks the pooler
        raise _unfit(files, f"missing: {listed(missing)}")
    return model.eval().requires_grad_(False).to(device)


def _unfit(files: _Files, cause: str) -> TextError:
    return TextError(f"the weights in {files.folder} do not fit its {_CONFIG} ({cause}): get the model again.")


def _state(weights: tuple[Path, ...]) -> dict:
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
def _quiet() -> Iterator[None]:
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
