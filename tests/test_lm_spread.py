"""A training step of several batches, processes or shards is the step of one batch. Two gloo processes on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from skag.lm.causal import CausalModel, load_causal
from skag.lm.config import LoraSettings
from skag.lm.lora import adapter_state, add_lora, trained
from skag.lm.prompts import answer_loss, assemble, compose
from skag.lm.score import Candidates, candidate_log_likelihoods
from skag.lm.spread import accumulate, gathered, shard

from .helpers.language_models import NAMES, tiny_folder
from .helpers.processes import by_two

SETTINGS = LoraSettings(rank=4, alpha=8, dropout=0.0)


class Learner(nn.Module):
    """A method in small: its own layer before the language model."""

    def __init__(self, model: CausalModel) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.own = nn.Linear(32, 32)
        self.network = model.network
        self.model = model

    def forward(self, batch: tuple[torch.Tensor, list[str]]) -> tuple[torch.Tensor, int]:
        prompts = [compose("the action of {v} is", {"v": vectors}) for vectors in self.own(batch[0])]
        return answer_loss(self.model, assemble(self.model, prompts, batch[1]))


def learner(folder: str) -> Learner:
    return Learner(add_lora(load_causal(folder), SETTINGS, seed=1))


def clips() -> tuple[torch.Tensor, list[str]]:
    """Six clips; their answers have different lengths, so that a mean of means is another number."""
    vectors = torch.randn(6, 3, 32, generator=torch.Generator().manual_seed(0))
    return vectors, [NAMES[n] for n in (0, 6, 6, 1, 2, 6)]


def part(start: int, stop: int) -> tuple[torch.Tensor, list[str]]:
    vectors, answers = clips()
    return vectors[start:stop], answers[start:stop]


def in_one(folder: str) -> tuple[Learner, float]:
    """The step by one process with one batch, and its loss."""
    whole = learner(folder)
    return whole, accumulate(whole, [clips()], whole.parameters())


def same_gradients(one: nn.Module, other: nn.Module) -> None:
    compared = 0
    for p, q in zip(trained(one), trained(other), strict=True):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-6, rtol=1e-4)
        compared += float(q.grad.abs().max()) > 0
    assert compared >= 4  # B's gradients and those of the method's own layer; A's are zero at the first step


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tiny_folder(tmp_path))


def test_small_batches_add_up_to_a_large_one(folder: str) -> None:
    whole, loss = in_one(folder)
    assert loss == pytest.approx(float(whole(clips())[0].detach()) / 15)  # 3 x 3 words with ends, 3 x 2
    several = learner(folder)
    assert accumulate(several, [part(0, 1), part(1, 4), part(4, 6)], several.parameters()) == pytest.approx(loss)
    same_gradients(several, whole)


@pytest.mark.long
def test_two_processes_do_the_step_of_one_copied_or_in_shards(folder: str) -> None:
    """Once for all three: to import everything is most of the time."""
    by_two(__name__, "three_ways", folder)


def three_ways(folder: str) -> None:
    copied(folder)
    sharded(folder)
    all_sharded(folder)


def copied(folder: str) -> None:
    """Each process has half of the clips, in two batches."""
    mine = [(0, 1), (1, 2)] if distributed.get_rank() == 0 else [(2, 5), (5, 6)]
    here = learner(folder)
    together = nn.parallel.DistributedDataParallel(here)
    loss = accumulate(together, [part(*span) for span in mine], here.parameters(), together)
    whole = learner(folder)
    optimiser = torch.optim.AdamW(here.parameters(), lr=0.01)
    optimiser.step()
    again = accumulate(together, [part(*span) for span in mine], here.parameters(), together)
    expected, expected_again = alone(whole)
    assert loss == pytest.approx(expected, abs=1e-6) and again == pytest.approx(expected_again, abs=1e-5)
    same_gradients(here, whole)


def alone(whole: Learner) -> tuple[float, float]:
    """Losses before and after a step by one process, which also leaves the gradients of the second one."""
    vectors, answers = clips()
    optimiser = torch.optim.AdamW(whole.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        optimiser.zero_grad()
        loss, count = whole((vectors, answers))
        (loss / count).backward()
        losses.append(loss.item() / count)
        if len(losses) == 1:
            optimiser.step()
    return losses[0], losses[1]


def sharded(folder: str) -> None:
    """The layers are spread and gathered again; the adapter is whole in both processes."""
    here = learner(folder)
    whole = learner(folder)
    base = {name: tensor.clone() for name, tensor in whole.network.state_dict().items()}
    shard(here.model)
    kept = sum(p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in here.network.parameters())
    assert kept < 0.75 * sum(p.numel() for p in whole.network.parameters())
    mine = part(0, 2) if distributed.get_rank() == 0 else part(2, 6)
    loss = accumulate(here, [mine], here.parameters())
    optimiser = torch.optim.AdamW(trained(here), lr=0.01)
    optimiser.step()
    again = accumulate(here, [mine], here.parameters())
    expected, expected_again = alone(whole)
    assert loss == pytest.approx(expected, abs=1e-6) and again == pytest.approx(expected_again, abs=1e-5)
    same_gradients(here, whole)
    found = gathered(here.network)
    if distributed.get_rank() == 0:
        assert found.keys() == base.keys()
        for name, tensor in found.items():
            if "lora_" not in name:
                assert torch.equal(tensor, base[name]), name
    for name, tensor in adapter_state(here.model).items():
        torch.testing.assert_close(tensor, adapter_state(whole.model)[name], atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        scores = []
        for each in (here, whole):
            each.network.eval()
            prompts = [compose("the action of {v} is", {"v": vectors}) for vectors in each.own(clips()[0])]
            model = each.model
            scores.append(candidate_log_likelihoods(model, assemble(model, prompts), Candidates.of(model, NAMES)))
    torch.testing.assert_close(*scores, atol=1e-4, rtol=1e-4)


def all_sharded(folder: str) -> None:
    """The comparison without LoRA: every weight is trained."""
    here, whole = (Learner(load_causal(folder)) for _ in range(2))
    for each in (here, whole):
        each.requires_grad_(True)
    shard(here.model)
    accumulate(here, [part(0, 2) if distributed.get_rank() == 0 else part(2, 6)], here.parameters())
    torch.optim.SGD(here.parameters(), lr=0.1).step()
    loss, count = whole(clips())
    (loss / count).backward()
    torch.optim.SGD(whole.parameters(), lr=0.1).step()
    found = gathered(here.network)
    if distributed.get_rank() == 0:
        for name, tensor in whole.network.state_dict().items():
            torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-4)
