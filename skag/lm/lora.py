"""LoRA (Hu et al., ICLR 2022) by peft: small trained matrices beside frozen ones.

What is trained is saved in one safetensors file with the identity of its base model, so that it is never put on
another one. The base model itself is never written.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..weights import listed, one_line
from .causal import CausalModel, fits
from .config import LoraSettings

FORMAT = "skag adapter 1"
ALL_LINEAR = "all-linear"
_OWN = "own."  # before the names of a method's own weights in the file


def add_lora(model: CausalModel, settings: LoraSettings, seed: int = 0) -> CausalModel:
    """The model with an untrained adapter, which changes nothing yet: B is zero. Its weights are float32.

    The given model's network is wrapped, not copied: use the returned one. Raises `ModelError` for targets or layers
    that the network has not.
    """
    peft = _import_peft()
    layers = model.config.num_hidden_layers
    if unknown := [number for number in settings.layers if not 0 <= number < layers]:
        raise ModelError(f"the base model has layers 0 to {layers - 1}, not {unknown[0]}: change the adapter's layers.")
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=ALL_LINEAR if settings.targets == (ALL_LINEAR,) else list(settings.targets),
        layers_to_transform=list(settings.layers) or None,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is to go
        torch.manual_seed(seed)
        try:
            network = peft.get_peft_model(model.base, config)
        except ValueError as error:
            raise ModelError(
                f"LoRA finds no {listed(settings.targets)} in the base model ({one_line(error)}): name its matrices."
            ) from None
    for parameter in trained(network):
        parameter.data = parameter.data.float()
    network.train(model.network.training)
    return _with_network(model, network)


def trained(module: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that are trained: the adapter's, and those of a method's own modules."""
    return (parameter for parameter in module.parameters() if parameter.requires_grad)


def checkpoint_activations(model: CausalModel, on: bool = True) -> None:
    """Keep only the layers' inputs for the way back and compute the rest again: less memory, a third more time."""
    name = "activation" if hasattr(model.base, "activation_checkpointing_enable") else "gradient"  # before 5.20
    if on:
        getattr(model.base, f"{name}_checkpointing_enable")({"use_reentrant": False})
    else:
        getattr(model.base, f"{name}_checkpointing_disable")()


def adapter_state(model: CausalModel) -> dict[str, Tensor]:
    """The adapter's weights, detached; not copied. Empty for a model without one."""
    if model.network is model.base:
        return {}
    from peft import get_peft_model_state_dict

    return {
        name: tensor.detach()
        for name, tensor in get_peft_model_state_dict(model.network, save_embedding_layers=False).items()
    }


def load_adapter_state(model: CausalModel, state: Mapping[str, Tensor]) -> None:
    """Put weights into a model's adapter. Raises `ModelError` where names or shapes differ."""
    from peft import set_peft_model_state_dict

    here = adapter_state(model)
    wrong = sorted(here.keys() ^ state.keys()) or sorted(name for name in here if here[name].shape != state[name].shape)
    if wrong:
        raise ModelError(f"the adapter's weights do not fit this model ({listed(wrong)}): use its own settings.")
    set_peft_model_state_dict(model.network, dict(state))


def merge(model: CausalModel) -> CausalModel:
    """The model with the adapter added into its weights: the same answers, no slower than the base. For good."""
    return model if model.network is model.base else _with_network(model, model.network.merge_and_unload())


# Files ---------------------------------------------------------------------------------------------------------------


def save_adapter(
    path: Path, model: CausalModel, settings: LoraSettings, own: Mapping[str, Tensor] | None = None
) -> None:
    """Write the adapter, a method's own weights and the base model's identity to one safetensors file, atomically.

    Raises `OSError`.
    """
    from safetensors.torch import save_file

    state = {**adapter_state(model), **{_OWN + name: tensor.detach() for name, tensor in (own or {}).items()}}
    state = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    about = {"format": FORMAT, "settings": json.dumps(asdict(settings)), "base_model": json.dumps(model.identity)}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(state, partial, metadata=about)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_adapter(path: Path, model: CausalModel) -> tuple[CausalModel, dict[str, Tensor]]:
    """The base model with the adapter of a file, and the method's own weights. Raises `ModelError`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        if about.get("format") != FORMAT:
            raise ValueError("no adapter of skag")
        made_for = json.loads(about["base_model"])
        told = json.loads(about["settings"])
        settings = LoraSettings(**(told | {name: tuple(told[name]) for name in ("targets", "layers")}))
    except (OSError, SafetensorError, ValueError, TypeError, LookupError) as error:
        raise ModelError(f"{path} is no readable adapter ({one_line(error)}): train it again.") from None
    check_base(made_for, model, str(path))
    own = {name.removeprefix(_OWN): tensor for name, tensor in state.items() if name.startswith(_OWN)}
    adapter = {name: tensor for name, tensor in state.items() if not name.startswith(_OWN)}
    if adapter:
        model = add_lora(model, settings)
        load_adapter_state(model, adapter)
    return model, own


def check_base(made_for: dict[str, Any], model: CausalModel, what: str) -> None:
    """Raise `ModelError` where something was trained on another base model than this one, by checksums."""
    if not fits(made_for, model.identity):
        names = made_for.get("base_model"), model.identity.get("base_model")
        other = f"{names[0]}, not of {names[1]}" if names[0] != names[1] else f"other weights of {names[0]}"
        raise ModelError(f"{what} is an adapter of {other}: name the base model it was trained with.")


def _with_network(model: CausalModel, network: nn.Module) -> CausalModel:
    return CausalModel(network, model.tokeniser, model.identity, model.start, model.ends)


def _import_peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ModelError(f"LoRA needs peft ({one_line(error)}): pip install 'skag[lm]'.") from None
    return peft
