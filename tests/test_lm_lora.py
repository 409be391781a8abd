"""LoRA on a tiny random Llama: the base stays, the adapter starts as nothing, learns, is saved and merged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from skag.errors import ModelError
from skag.lm import lora
from skag.lm.causal import CausalModel, load_causal
from skag.lm.config import LoraSettings
from skag.lm.lora import add_lora, load_adapter, merge, save_adapter, trained
from skag.lm.prompts import answer_loss, assemble, compose
from skag.lm.score import Candidates, candidate_log_likelihoods

from .helpers.language_models import NAMES, tiny, tiny_folder

SETTINGS = LoraSettings(rank=4, alpha=8, dropout=0.0)
CLASSES = NAMES[:4]


@pytest.fixture
def model(tmp_path: Path) -> CausalModel:
    return tiny(tmp_path / "tiny")


def prompts(vectors_NlD: torch.Tensor) -> list[tuple]:
    return [compose("the action of {v} is", {"v": vectors}) for vectors in vectors_NlD]


def toy(seed: int = 0, width: int = 32) -> tuple[torch.Tensor, list[int]]:
    """Vectors `[16, 3, D]` around one direction for each of four classes, and the classes."""
    drawn = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, 3, width, generator=torch.Generator().manual_seed(99))
    labels = [n % 4 for n in range(16)]
    return centres[labels] + 0.2 * torch.randn(16, 3, width, generator=drawn), labels


def scores(model: CausalModel, vectors: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return candidate_log_likelihoods(model, assemble(model, prompts(vectors)), Candidates.of(model, CLASSES))


def learn(model: CausalModel, own: nn.Module, steps: int, vectors: torch.Tensor, labels: list[int]) -> list[float]:
    parameters = [*trained(model.network), *own.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=0.02)
    losses = []
    for _ in range(steps):
        inputs = assemble(model, prompts(own(vectors)), [CLASSES[label] for label in labels])
        loss, tokens = answer_loss(model, inputs)
        optimiser.zero_grad()
        (loss / tokens).backward()
        optimiser.step()
        losses.append(loss.item() / tokens)
    return losses


def test_an_untrained_adapter_changes_nothing(model: CausalModel) -> None:
    vectors, _ = toy()
    before = scores(model, vectors)
    adapted = add_lora(model, dataclasses.replace(SETTINGS, dropout=0.5))
    assert not adapted.network.training
    torch.testing.assert_close(scores(adapted, vectors), before, atol=0, rtol=0)
    assert sum(p.numel() for p in trained(adapted.network)) == 2 * 4 * (32 + 32 + 32 + 16)


def test_lora_and_own_weights_learn_four_classes_and_the_base_stays(model: CausalModel, tmp_path: Path) -> None:
    vectors, labels = toy()
    base = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    adapted = add_lora(model, SETTINGS)
    own = nn.Linear(32, 32)
    losses = learn(adapted, own, 30, vectors, labels)
    assert losses[-1] < 0.2 * losses[0]
    new, new_labels = toy(seed=1)
    found = scores(adapted, own(new).detach())
    assert found.argmax(1).tolist() == new_labels
    kept = {name.replace(".base_layer", ""): tensor for name, tensor in adapted.base.state_dict().items()}
    assert all(torch.equal(kept[name], tensor) for name, tensor in base.items())

    save_adapter(tmp_path / "adapter.safetensors", adapted, SETTINGS, own.state_dict())
    assert (tmp_path / "adapter.safetensors").stat().st_size < 30_000
    again, own_state = load_adapter(tmp_path / "adapter.safetensors", load_causal(str(tmp_path / "tiny")))
    own_again = nn.Linear(32, 32)
    own_again.load_state_dict(own_state)
    torch.testing.assert_close(scores(again, own_again(new).detach()), found, atol=0, rtol=0)
    merged = merge(again)
    assert merged.network is merged.base
    torch.testing.assert_close(scores(merged, own(new).detach()), found, atol=1e-4, rtol=0)


def test_targets_layers_rank_and_scale(model: CausalModel) -> None:
    adapted = add_lora(model, LoraSettings(rank=2, alpha=6, targets=("o_proj", "gate_proj"), layers=(1,)))
    names = {name for name, p in adapted.network.named_parameters() if p.requires_grad}
    assert len(names) == 4 and all("layers.1." in name for name in names)
    assert {name.split(".")[-4] for name in names} == {"o_proj", "gate_proj"}
    scales = [m.scaling for m in adapted.network.modules() if isinstance(getattr(m, "scaling", None), dict)]
    assert scales == [{"default": 3.0}] * 2


def test_all_linear_matrices_but_the_head(model: CausalModel) -> None:
    adapted = add_lora(model, dataclasses.replace(SETTINGS, targets=(lora.ALL_LINEAR,)))
    targets = {name.split(".lora_")[0].split(".")[-1] for name, p in adapted.network.named_parameters()
               if p.requires_grad}  # fmt: skip
    assert targets == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_the_seed_decides_and_nothing_else_is_drawn(tmp_path: Path) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(5)
        adapted = add_lora(tiny(tmp_path / str(len(states))), SETTINGS, seed)
        states.append(lora.adapter_state(adapted))
    first, same, other = (next(t for n, t in sorted(state.items()) if "lora_A" in n) for state in states)
    assert torch.equal(first, same) and not torch.equal(first, other)
    torch.manual_seed(5)
    add_lora(tiny(tmp_path / "last", seed=5), SETTINGS)  # `tiny` sets torch's seed itself; the adapter must not
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    add_lora(load_causal(str(tmp_path / "last")), SETTINGS)
    assert torch.equal(torch.rand(1), expected)


def test_checkpointed_activations_give_the_same_gradients(tmp_path: Path) -> None:
    vectors, labels = toy()
    gradients = []
    for checkpointing in (False, True):
        adapted = add_lora(tiny(tmp_path / str(checkpointing)), SETTINGS, seed=3)
        adapted.network.train()
        lora.checkpoint_activations(adapted, checkpointing)
        given = vectors.clone().requires_grad_()
        loss, _ = answer_loss(adapted, assemble(adapted, prompts(given), [CLASSES[label] for label in labels]))
        loss.backward()
        gradients.append([given.grad, *(p.grad for p in trained(adapted.network))])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_bfloat16_base_with_a_float32_adapter_learns(tmp_path: Path) -> None:
    model = load_causal(str(tiny_folder(tmp_path)), precision="bfloat16")
    assert model.words().dtype == torch.bfloat16
    adapted = add_lora(model, SETTINGS)
    assert {p.dtype for p in trained(adapted.network)} == {torch.float32}
    vectors, labels = toy()
    losses = learn(adapted, nn.Linear(32, 32), 20, vectors, labels)
    assert losses[-1] < 0.5 * losses[0]


def test_an_adapter_of_another_base_or_shape_is_refused(model: CausalModel, tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, add_lora(model, SETTINGS), SETTINGS)
    with pytest.raises(ModelError, match="adapter of .*other.*, not of|other weights") as caught:
        load_adapter(path, tiny(tmp_path / "another", seed=1))
    assert "\n" not in str(caught.value)
    bigger = add_lora(load_causal(str(tmp_path / "tiny")), dataclasses.replace(SETTINGS, rank=8))
    with pytest.raises(ModelError, match="do not fit"):
        lora.load_adapter_state(bigger, lora.adapter_state(add_lora(load_causal(str(tmp_path / "tiny")), SETTINGS)))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match="no readable adapter"):
        load_adapter(path, model)
    with pytest.raises(ModelError, match="no readable adapter"):
        load_adapter(tmp_path / "nowhere", model)


def test_wrong_targets_and_layers_are_one_line(model: CausalModel) -> None:
    with pytest.raises(ModelError, match="layers 0 to 1, not 7"):
        add_lora(model, dataclasses.replace(SETTINGS, layers=(7,)))
    with pytest.raises(ModelError, match="LoRA finds no query_key_value") as caught:
        add_lora(model, dataclasses.replace(SETTINGS, targets=("query_key_value",)))
    assert "\n" not in str(caught.value)
