"""The text tower of a CLIP model through open_clip: find its weights, check them, encode.

Weights come from a file or folder, from the hub's cache on this machine, or from a download. Random weights are
never used. Apart from `text` because everything here needs torch.
"""

from __future__ import annotations

import copy
import difflib
import json
import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import TextError
from ..weights import REACH_SECONDS, checksum, mend_torchvision, one_line

_BATCH = 128  # sentences at a time: bounds memory, not the result
_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
_HUB_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # where a hub entry names no file
_log = logging.getLogger(__name__)


def open_text_tower(
    model: str, tag: str | None, weights: Path | None, device: str
) -> tuple[str, Callable[[list[str]], np.ndarray]]:
    """Identity (JSON) and encoding function of a model's text tower; the tower is loaded when first used.

    `tag` names one of the published weights of `model`; by default OpenAI's, else the first that open_clip lists. It
    also decides the activation: OpenAI's weights need QuickGELU, which no weights file tells (a folder's
    `open_clip_config.json` does, and is believed). Raises `TextError`.
    """
    model, config, path = located(model, tag, weights)
    quick_gelu, weights_sum = config["quick_gelu"], checksum(path)
    identity = {
        "encoder": f"open_clip:{model}",
        "weights": weights_sum,
        "tokeniser": checksum(_vocabulary()),
        "config": {name: config[name] for name in ("embed_dim", "quick_gelu", "text_cfg")},
    }

    def encode(sentences: list[str]) -> np.ndarray:
        if not sentences:
            return np.zeros((0, config["embed_dim"]), np.float32)
        tower = _load(model, quick_gelu, path, weights_sum, device)
        vectors = encode_tokens(tower, _tokenizer(model)(sentences))
        if not np.isfinite(vectors).all():
            raise TextError(f"the weights {path} do not fit {model} (its vectors are not finite): use another file.")
        return vectors

    return json.dumps(identity, sort_keys=True), encode


def open_trainable(model: str, tag: str | None, weights: Path | None, device: str):
    """The text tower of `open_text_tower` with gradients, and a function from n sentences to token numbers `[n, L]`.

    A copy of the frozen tower: training it changes no cached vector. Raises `TextError`.
    """
    model, config, path = located(model, tag, weights)
    tower = copy.deepcopy(_load(model, config["quick_gelu"], path, checksum(path), device)).requires_grad_(True)
    for name in ("logit_scale", "logit_bias"):  # of CLIP's own loss: no sentence's vector has to do with them
        if (unused := getattr(tower, name, None)) is not None:
            unused.requires_grad_(False)
    return tower, _tokenizer(model)


def located(model: str, tag: str | None, weights: Path | None) -> tuple[str, dict, Path]:
    """A model's name, its description with the activation its weights need, and their file. Raises `TextError`."""
    config = _config(model)
    model = model.replace("/", "-")
    published = _published(model, tag)
    trained_with = published.get("quick_gelu")
    if weights is None:
        path = _find(model, published)
    elif weights.is_dir():
        path, described = _in_folder(weights, model, config["text_cfg"])
        trained_with = trained_with if described is None else described
    else:
        path = _given(weights)
    config["quick_gelu"] = bool(config.get("quick_gelu") or trained_with)
    return model, config, path


def encode_tokens(tower, tokens_NL) -> np.ndarray:
    """Token numbers `[N, L]`, padded behind the end token, to L2-normalised vectors, float32 `[N, D]`."""
    import torch

    device = tower.logit_scale.device
    with torch.inference_mode():
        vectors = [tower.encode_text(part.to(device), normalize=True).float().cpu() for part in tokens_NL.split(_BATCH)]
    return torch.cat(vectors).numpy()


def open_tokeniser(model: str) -> tuple[Callable[[str], int], int]:
    """A function that counts a sentence's tokens, start and end included, and how many of them the model reads.

    What lies past that limit is cut and the end token kept.
    """
    _config(model)
    tokeniser = _tokenizer(model.replace("/", "-"))
    return lambda sentence: len(tokeniser.encode(sentence)) + 2, tokeniser.context_length


@lru_cache(maxsize=1)
def _tokenizer(model: str):
    return import_open_clip().get_tokenizer(model)


def _vocabulary() -> Path:
    """The byte pairs of CLIP's tokeniser, which open_clip carries."""
    import_open_clip()
    from open_clip.tokenizer import default_bpe

    return Path(default_bpe())


def import_open_clip():
    mend_torchvision()
    try:
        import open_clip
    except ImportError as error:
        raise TextError(
            f"open_clip cannot be imported ({error}): pip install open_clip_torch, or use lexical."
        ) from None
    return open_clip


def _config(model: str) -> dict:
    """open_clip's description of a model. Raises `TextError` for one it does not know or skag cannot tokenise for."""
    open_clip = import_open_clip()
    name = model.replace("/", "-")  # ViT-B/32, as papers write it
    config = open_clip.get_model_config(name)
    if config is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.5)
        hint = f": nearest are {', '.join(near)}." if near else ": use a name such as ViT-B-32, ViT-B-16 or RN101."
        raise TextError(f"open_clip knows no model {model!r}{hint}")
    text = config["text_cfg"]
    if text.get("hf_tokenizer_name") or text.get("hf_model_name") or "siglip" in name.lower():
        raise TextError(f"{model} needs a tokeniser that open_clip does not carry: use a model such as ViT-B-32.")
    return config


def _published(model: str, tag: str | None) -> dict:
    """open_clip's entry for published weights; empty where a model has none. Raises `TextError` for an unknown tag."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tags = list_pretrained_tags_by_model(model)
    if tag is not None and tag not in tags:
        raise TextError(f"open_clip lists no weights {tag!r} for {model}: it has {', '.join(tags) or 'none'}.")
    if tag is None:
        tag = "openai" if "openai" in tags else next(iter(tags), "")
    return dict(get_pretrained_cfg(model, tag), tag=tag)


def _given(weights: Path) -> Path:
    if not weights.is_file():
        raise TextError(f"no weights file {weights}: check --text-weights.")
    if weights.suffix not in _SUFFIXES:
        raise TextError(f"{weights} is no weights file: --text-weights takes {', '.join(_SUFFIXES)}.")
    return weights


def _in_folder(folder: Path, model: str, text_cfg: dict) -> tuple[Path, bool | None]:
    """The weights file of a folder such as the hub's, and whether it needs QuickGELU; None where it does not say."""
    path = next((folder / name for name in _HUB_NAMES if (folder / name).is_file()), None)
    if path is None:
        raise TextError(f"{folder} has none of {', '.join(_HUB_NAMES)}: give the weights file with --text-weights.")
    described = folder / "open_clip_config.json"
    if not described.is_file():
        return path, None
    try:
        config = json.loads(described.read_text(encoding="utf-8"))["model_cfg"]
        differing = sorted(name for name, value in config["text_cfg"].items() if text_cfg.get(name, value) != value)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TextError(f"{described} is damaged: give the weights file itself with --text-weights.") from None
    if differing:
        raise TextError(f"{described} tells of another text tower than {model} ({', '.join(differing)} differ).")
    return path, bool(config.get("quick_gelu"))


def _find(model: str, published: dict) -> Path:
    """Published weights from the hub's cache, else downloaded. Where the hub is out of reach, a `TextError` soon."""
    import huggingface_hub

    elsewhere = "give a file with --text-weights FILE, or use --text-encoder lexical"
    repository, _, file = published.get("hf_hub", "").rpartition("/")
    if not repository:
        where = f" (they are at {published['url']})" if published.get("url") else ""
        raise TextError(f"there are no weights for {model} on the hub{where}: {elsewhere}.")
    names = (file,) if file else _HUB_NAMES
    for name in names:
        cached = huggingface_hub.try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    what = f"the weights {published['tag']} of {model}"
    if huggingface_hub.constants.is_offline_mode():
        raise TextError(f"{what} are not on this machine and HF_HUB_OFFLINE is set: unset it, {elsewhere}.")
    why: object = "no such file there"
    for name in names:
        try:  # one question with a short limit first, for what is missing or cannot be reached
            url = huggingface_hub.hf_hub_url(repository, name)
            huggingface_hub.get_hf_file_metadata(url, timeout=REACH_SECONDS)
            _log.info("Downloading %s from the hub (%s/%s).", what, repository, name)
            return Path(huggingface_hub.hf_hub_download(repository, name))
        except huggingface_hub.errors.EntryNotFoundError:
            continue
        except Exception as error:  # of whichever HTTP client the hub's package uses
            why = error
            break
    raise TextError(f"{what} are not on this machine and the hub gives none ({one_line(why)}): {elsewhere}.")


@lru_cache(maxsize=1)  # one tower a process: distinctions are embedded again and again during training
def _load(model: str, quick_gelu: bool, path: Path, checksum: str, device: str):
    """The frozen text tower with the weights of `path`. Raises `TextError` where they do not fit."""
    open_clip = import_open_clip()
    from open_clip.factory import load_state_dict

    context = open_clip.get_model_config(model)["text_cfg"].get("context_length", 77)
    try:
        state = load_state_dict(str(path))  # weights_only: nothing in the file runs
        positions = state.get("positional_embedding", state.get("text.positional_embedding"))
        if positions is not None and len(positions) != context:  # open_clip would stretch them without a word
            raise ValueError(f"{len(positions)} text positions, {context} needed")
        del state
        tower = open_clip.create_model(
            model, pretrained=str(path), force_quick_gelu=quick_gelu, require_pretrained=True
        )
    except Exception as error:  # the readers of damaged and foreign files raise whatever they stumble over
        if "TorchScript" in str(error):
            cause = "it is a TorchScript program, which skag does not run; save its state dict"
        else:
            cause = one_line(error)
        raise TextError(
            f"the weights {path} do not fit {model} ({cause}): check --text-weights and the model."
        ) from None
    del tower.visual
    return tower.eval().requires_grad_(False).to(device)
