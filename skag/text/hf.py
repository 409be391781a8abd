"""BERT, sentence encoders and their like through transformers: a folder of files to L2-normalised mean vectors.

The files come from a folder, from the hub's cache on this machine, or from a download. No code of theirs is run:
architecture and tokeniser are transformers' own, weights are read as safetensors or with torch's `weights_only`, and
random weights are never used. Apart from `text` because everything here needs torch and the extra `skag[hf]`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import TextError
from ..hub import CONFIG, Files, Finder, quiet, read_weights
from ..weights import checksum, listed, mend_torchvision, one_line

_BATCH = 32  # sentences at a time: bounds memory, not the result
_NO_LIMIT = 1_000_000  # transformers writes "no limit" as a number beyond any text
_FINDER = Finder(
    TextError,
    use="use hf:NAME or hf:FOLDER",
    elsewhere="give its folder with --text-weights FOLDER, or use --text-encoder lexical",
)


def _identity(files: Files) -> dict[str, str]:
    """All that shapes a vector but the sentence; where the files lie does not."""
    return {
        "encoder": "hf",
        "pooling": "mean over the attention mask, L2",
        "config": checksum(files.folder / CONFIG),
        "weights": checksum(*files.weights),
        "tokeniser": checksum(*files.tokeniser),
    }


def open_sentence_encoder(
    name: str, weights: Path | None, device: str
) -> tuple[str, Callable[[list[str]], np.ndarray]]:
    """Identity (JSON) and encoding function of a model; it is loaded when first used.

    `name` is a model's name on the hub or a folder, `weights` a folder that is used in its place. Raises `TextError`.
    """
    _import_transformers()
    files = _found(name, weights)
    identity = json.dumps(_identity(files), sort_keys=True)

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
    files = _found(name, weights)
    tokeniser, limit = _load_tokeniser(files, json.dumps(_identity(files), sort_keys=True))
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


def _found(name: str, weights: Path | None) -> Files:
    """The files of a model: in the folder given or named, in the hub's cache of this machine, or downloaded."""
    if weights is not None:
        if not weights.is_dir():
            raise TextError(f"no folder {weights}: for hf:NAME --text-weights takes the folder with config.json.")
        return _FINDER.files(weights)
    local = Path(name).expanduser()
    if local.is_dir():
        return _FINDER.files(local)
    if local.is_absolute() or name.startswith((".", "~")):
        raise TextError(f"no folder {local}: check --text-encoder hf:FOLDER.")
    return _FINDER.from_hub(name)


# Loading -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _load_tokeniser(files: Files, identity: str):
    """The tokeniser and the number of tokens that the model reads. Raises `TextError` where it does not load."""
    transformers = _import_transformers()
    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        with quiet():
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
def _load(files: Files, identity: str, device: str):
    """The frozen model in float32. Raises `TextError` where weights and architecture do not fit.

    transformers is given the weights, not the folder: a folder can name an adapter, another weights file, or
    attention code that is fetched from elsewhere.
    """
    transformers = _import_transformers()
    import torch

    attention = "eager"
    try:
        with quiet():
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
                state_dict=read_weights(files.weights),
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


def _unfit(files: Files, cause: str) -> TextError:
    return TextError(f"the weights in {files.folder} do not fit its {CONFIG} ({cause}): get the model again.")
