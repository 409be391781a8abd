"""A GGUF file as a folder of transformers: dequantised once, kept in the cache, found by its checksum.

The folder is made under another name and moved into place when it is whole. `skag.json`, written last, holds the
checksum of the weights, so that damage is noticed and mended.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from ..errors import ModelError, cause
from ..hub import CONFIG, Files, quiet
from ..weights import checksum, mend_torchvision, one_line
from .estimate import Shape, check_memory, of_loading

MANIFEST = "skag.json"
WEIGHTS = "model.safetensors"
VERSION = 1
LARGE = 1_000_000_000  # parameters; above it the folder holds float16, which loses less than any quantisation did


def config_of(path: Path) -> dict[str, Any]:
    """The values of a GGUF file as transformers' `config.json` has them. Raises `ModelError`."""
    return _read(path)["config"]


def dequantised(path: Path, cache: Path, tell: Callable[[str], None] | None = None) -> Files:
    """The folder of a GGUF file's weights and tokeniser below `cache`, made where it is not there or is damaged.

    Takes a minute or two the first time, of which `tell` is told. Processes wait for each other. Raises `ModelError`.
    """
    from filelock import FileLock

    folder = cache / f"{path.stem}-{checksum(path)[:16]}"
    if (files := _sound(folder)) is not None:
        return files
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock"):
            if (files := _sound(folder)) is not None:  # another process made it
                return files
            if tell:
                tell(f"{path.name} is made ready in {cache}: a minute or two, the first time only.")
            for left in cache.glob(f".{folder.name}.*.partial"):
                shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
            partial = cache / f".{folder.name}.{os.getpid()}.partial"
            try:
                _convert(path, partial)
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(partial, folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise ModelError(
            f"{cache} cannot be written ({cause(error)}): free the space, or work in another folder."
        ) from None
    files = _sound(folder)
    if files is None:
        raise ModelError(f"{folder} cannot be read back: delete it and try again.")
    return files


def begins_with_bos(folder: Path) -> bool | None:
    """Whether a text begins with the BOS token, which transformers does not read from GGUF; None for other folders."""
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["add_bos_token"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _sound(folder: Path) -> Files | None:
    """The files of a folder made here, None where it is missing, of another version or damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = manifest["version"] == VERSION and checksum(folder / WEIGHTS) == manifest["weights"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    tokeniser = tuple(sorted(path for path in folder.iterdir() if path.name not in (CONFIG, WEIGHTS, MANIFEST)))
    return Files(folder, (folder / WEIGHTS,), tokeniser) if whole else None


def _read(path: Path) -> dict[str, Any]:
    """What a GGUF file says of its model and tokeniser. Raises `ModelError`."""
    mend_torchvision()
    try:
        import gguf  # noqa: F401
        from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
    except ImportError as error:
        raise ModelError(
            f"{path.name} needs transformers and gguf ({one_line(error)}): pip install 'skag[lm]'."
        ) from None
    try:
        return load_gguf_checkpoint(str(path))
    except Exception as error:  # the readers of damaged and foreign files raise whatever they stumble over
        raise _unreadable(path, error) from None


def _convert(path: Path, folder: Path) -> None:
    """Write config, tokeniser, weights and at last the manifest. Raises `ModelError` and `OSError`."""
    import torch
    from safetensors.torch import save_file

    told = _read(path)
    import transformers

    options = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    try:
        with quiet(), redirect_stderr(io.StringIO()):  # transformers' bar for GGUF files heeds no setting
            config = transformers.CONFIG_MAPPING[told["config"]["model_type"]].from_dict(dict(told["config"]))
            with torch.device("meta"):
                empty = transformers.AutoModelForCausalLM.from_config(config)
            large = sum(parameter.numel() for parameter in empty.parameters()) > LARGE
            dtype = torch.float16 if large else torch.float32
            size = of_loading(Shape.of(config.to_dict()), "bfloat16" if large else "float32")
            check_memory(size, "cpu", f"reading {path.name}")
            tokeniser = transformers.AutoTokenizer.from_pretrained(path.parent, **options)
            model = type(empty).from_pretrained(path.parent, config=config, dtype=dtype, **options)
    except ModelError:
        raise
    except Exception as error:  # as above
        raise _unreadable(path, error) from None
    tied = model.config.tie_word_embeddings
    state = {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
    if bad := [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]:
        raise ModelError(f"{path} is damaged ({bad[0]} is not finite): download it again.")
    folder.mkdir()
    tokeniser.save_pretrained(folder)
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    manifest = {
        "version": VERSION,
        "source": checksum(path),
        "weights": checksum(folder / WEIGHTS),
        "add_bos_token": bool(told["tokenizer_config"].get("add_bos_token", False)),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    for written in folder.iterdir():
        with written.open("rb") as file:
            os.fsync(file.fileno())


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path} cannot be read ({one_line(error)}): it is damaged or of a kind transformers lacks.")
