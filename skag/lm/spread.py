"""Training a language model by several processes, or in several parts: gradients as if all were one batch.

Small models are copied to every process (`DistributedDataParallel`). Of models that do not fit one card, `shard` keeps
a part of every layer on each (PyTorch's FSDP2); adapters and word vectors stay whole, they are small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from .causal import CausalModel

Batch = TypeVar("Batch")


def accumulate(
    step: Callable[[Batch], tuple[Tensor, int]],
    batches: Sequence[Batch],
    parameters: Iterable[nn.Parameter],
    module: nn.Module | None = None,
) -> float:
    """Gradients of the mean loss over all batches of all processes, left in `parameters`; returns that mean.

    `step` gives a batch's summed loss and the number of things summed, as `prompts.answer_loss` does. The mean is over
    tokens, not over means of batches, so that it does not matter how clips are spread. `module` is the
    `DistributedDataParallel` that `step` calls, where there is one; it then talks once, after the last batch.
    Every process gives at least one batch. Gradients are set, not added to.
    """
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in parameters:
        parameter.grad = None
    totals = torch.zeros(2, dtype=torch.float64)
    no_sync = getattr(module, "no_sync", None)
    for number, batch in enumerate(batches, 1):
        with no_sync() if no_sync is not None and number < len(batches) else nullcontext():
            loss, count = step(batch)
            loss.backward()
        totals += torch.tensor([loss.item(), count], dtype=torch.float64)
    num = 1
    if distributed.is_initialized():
        num = distributed.get_world_size()
        totals = _added_up(totals, parameters)
        if module is None or not isinstance(module, nn.parallel.DistributedDataParallel):
            _average(parameters, num)
    for parameter in parameters:
        if parameter.grad is not None:  # the processes' mean of sums becomes the sum of all over the count of all
            parameter.grad.mul_(num / float(totals[1]))
    return float(totals[0] / totals[1])


def accumulated(
    step: Callable[[Batch], tuple[Tensor, int]], batches: Sequence[Batch], parameters: Iterable[nn.Parameter]
) -> Tensor:
    """The mean loss of `accumulate` as a tensor whose `backward` leaves the gradients that were found: for a loop that
    calls it itself. Only one batch's activations are held at a time."""
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    before = [parameter.grad for parameter in wanted]
    mean = accumulate(step, batches, wanted)
    found = [torch.zeros_like(each) if each.grad is None else each.grad for each in wanted]
    for parameter, gradient in zip(wanted, before, strict=True):
        parameter.grad = gradient
    return _Found.apply(mean, found, *wanted)


class _Found(torch.autograd.Function):
    """A number whose gradients are known already."""

    @staticmethod
    def forward(context: Any, mean: float, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        context.gradients = gradients
        return parameters[0].new_tensor(mean)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        return (None, None, *(gradient * each for each in context.gradients))


def _added_up(totals: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    device = parameters[0].device if parameters and distributed.get_backend() == "nccl" else torch.device("cpu")
    there = totals.to(device)
    distributed.all_reduce(there)
    return there.cpu()


def _average(parameters: list[nn.Parameter], num: int) -> None:
    """The processes' mean of gradients that nobody has averaged: of whole tensors; FSDP2 sees to its own."""
    from torch.distributed.tensor import DTensor

    for parameter in parameters:
        if isinstance(parameter, DTensor):
            continue
        if parameter.grad is None:  # not used by this process's clips
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)
        parameter.grad.div_(num)


def shard(model: CausalModel, mesh: Any = None) -> None:
    """Keep only a part of the model's layers in each process, in place; they are gathered layer by layer when used.

    Call it after `lora.add_lora`, and before an optimiser is made, with the process group begun. Whatever goes through
    the network, answers and scores too, has to be asked by all processes at the same time.
    """
    from torch.distributed.fsdp import fully_shard

    decoder = model.base.get_decoder()
    words = model.base.get_input_embeddings().weight
    whole = {words, *(p for name, p in decoder.named_parameters() if "lora_" in name)}
    for layer in decoder.layers:
        fully_shard(layer, mesh=mesh, ignored_params={p for p in layer.parameters() if p in whole})
    fully_shard(decoder, mesh=mesh, ignored_params=whole)


def gathered(module: nn.Module) -> dict[str, Tensor]:
    """A module's weights, whole and on the CPU, in the first process; nothing in the others. For saving."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(module, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
