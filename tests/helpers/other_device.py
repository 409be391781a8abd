"""A device that is not the CPU, made of the CPU: what mixes tensors of the two fails, as it would on a GPU.

`python -m tests.helpers.other_device COMMAND ...` runs skag commands, each one word with blanks between its arguments,
on such a device; from the word `too-large` on, clips do not fit it and stay in the host's memory. It needs a process
of its own, since a device stays registered. What asks for the CPU by name is passed over, so that the path runs which
a GPU takes, but for autocast.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import torch
import torch.distributed.tensor  # before the generator is replaced: its type is named there
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

HERE = "elsewhere"
MAY_MIX = {"aten::_to_copy", "aten::copy_", "aten::index", "aten::index_put_", "aten::_index_put_impl_"}


class There(Tensor):
    """A tensor on the other device, whose numbers are in `inner`, on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> There:
        shape, options = inner.shape, {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        return Tensor._make_wrapper_subclass(cls, shape, dtype=inner.dtype, device=torch.device(HERE, 0), **options)

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(function, args, kwargs or {})

    def tolist(self) -> Any:
        return self.inner.tolist()


class OtherDevice(TorchDispatchMode):
    """In this context tensors can be made on the other device and moved to it."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(function, args, kwargs or {})


def run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, by the CPU. Raises `RuntimeError` where its tensors, numbers aside, lie on two devices."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = any(isinstance(one, There) for one in tensors)
    name = function._schema.name
    if there and name not in MAY_MIX and not all(isinstance(one, There) for one in tensors if one.dim()):
        raise RuntimeError(f"{name}: tensors on two devices, {[(str(one.device), *one.shape) for one in tensors]}")
    if name in MAY_MIX:
        there = isinstance(args[0], There)
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == HERE
        kwargs = kwargs | {"device": torch.device("cpu"), "pin_memory": None}
    inner_args, inner_kwargs = tree_map(lambda one: one.inner if isinstance(one, There) else one, (args, kwargs))
    found = function(*inner_args, **inner_kwargs)
    if function._schema.is_mutable and isinstance(found, Tensor):
        return kwargs.get("out", args[0])
    return tree_map(lambda one: There(one) if isinstance(one, Tensor) else one, found) if there else found


def main() -> None:
    from skag import cli, device
    from skag.skeleton import clips as data

    _setup_privateuseone_for_python_backend(HERE)
    real_generator, real_as_tensor = torch.Generator, torch.as_tensor
    torch.Generator = lambda device="cpu": real_generator("cpu")
    torch.as_tensor = lambda values, device="cpu": real_as_tensor(values).to(device)  # moves it where no mode looks
    torch.autocast = lambda *_, **__: contextlib.nullcontext()
    device.choose_device = lambda name: torch.device(HERE, 0)
    with OtherDevice():
        for command in sys.argv[1:]:
            if command == "too-large":
                data.fits = lambda num_bytes, device: False
                continue
            cli.app(command.split(), standalone_mode=False)


if __name__ == "__main__":
    main()
