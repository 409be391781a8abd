"""What the estimator says, against what transformers and PyTorch have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from skag.errors import ModelError
from skag.lm import estimate
from skag.lm.causal import CausalModel, import_transformers
from skag.lm.config import LoraSettings
from skag.lm.estimate import Job, Shape, of_answering, of_loading, of_training, step_seconds
from skag.lm.lora import add_lora, checkpoint_activations, trained
from skag.lm.prompts import answer_loss, assemble, compose

from .helpers.base_model_table import table
from .helpers.language_models import tiny

SMOLLM2 = {
    "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True,
}  # fmt: skip
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 50}  # fmt: skip


def test_parameters_of_known_models() -> None:
    assert Shape.of(SMOLLM2).parameters == 134_515_008  # as transformers counts the loaded model
    llama = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 11008,
             "vocab_size": 32000, "tie_word_embeddings": False}  # fmt: skip
    assert Shape.of(llama).parameters == 6_738_415_616  # Llama-2-7B
    assert Shape.of(llama).lora(64) == 32 * 2 * 64 * 8192


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3", "Mistral"])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_of_architectures(kind: str, tied: bool) -> None:
    transformers = import_transformers()
    config = getattr(transformers, f"{kind}Config")(**SIZES, head_dim=16, tie_word_embeddings=tied)
    with torch.device("meta"):
        network = transformers.AutoModelForCausalLM.from_config(config)
    there = sum(p.numel() for p in network.parameters())
    assert Shape.of(config.to_dict()).parameters == pytest.approx(there, rel=0.01)


def kept_bytes(model: CausalModel, batch: int, length: int) -> int:
    """Bytes of all tensors that a step keeps for its way back, weights apart, each counted once."""
    weights = {p.untyped_storage().data_ptr() for p in model.network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.device.type != "meta":
            kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)  # so that no address is used twice
        return tensor

    alive: list[torch.Tensor] = []
    prompts = [compose("{v}", {"v": torch.randn(length - 2, model.width)})] * batch
    inputs = assemble(model, prompts, ["wave"] * batch)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = answer_loss(model, inputs)
    assert loss.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("width", "hidden", "layers"), [(64, 160, 3), (128, 256, 6)])
def test_activations_are_what_pytorch_keeps(
    tmp_path: Path, width: int, hidden: int, layers: int, checkpointing: bool
) -> None:
    model = tiny(tmp_path, hidden_size=width, intermediate_size=hidden, num_hidden_layers=layers)
    model = add_lora(model, LoraSettings(rank=8, dropout=0.05))
    model.network.train()
    checkpoint_activations(model, checkpointing)
    job = Job(batch=4, length=64, answer=2, rank=8, checkpointing=checkpointing)
    needed = of_training(Shape.of(model.config.to_dict()), "float32", job)
    counted = needed.activations + needed.logits
    if checkpointing:  # the hooks see the layers' inputs; what a layer keeps while it is computed again comes on top
        counted -= of_training(Shape.of(model.config.to_dict()), "float32", Job(4, 64, 2, 8)).activations / layers
    assert counted == pytest.approx(kept_bytes(model, 4, 64), rel=0.25)
    assert needed.trained == 16 * sum(p.numel() for p in trained(model.network))


def test_keys_and_values_are_what_the_cache_holds(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    found = model.network(torch.ones(3, 20, dtype=torch.long), use_cache=True).past_key_values
    there = sum(layer.keys.nbytes + layer.values.nbytes for layer in found.layers)
    assert of_answering(Shape.of(model.config.to_dict()), "float32", batch=3, length=20).cache == there


def test_four_bits_checkpointing_and_precision_save_what_they_should() -> None:
    shape, job = Shape.of(SMOLLM2), Job(batch=8, length=256)
    assert of_loading(shape, "bfloat16").weights == 2 * shape.parameters
    assert of_loading(shape, "bfloat16", "4bit").weights < 0.55 * of_loading(shape, "bfloat16").weights
    full, spared = (of_training(shape, "bfloat16", Job(8, 256, checkpointing=on)) for on in (False, True))
    assert spared.activations < 0.2 * full.activations
    assert step_seconds(shape, Job(8, 256, checkpointing=True), 1e14) > 1.3 * step_seconds(shape, job, 1e14)


def test_too_little_memory_is_one_line_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "available", lambda device: 0.4e9)
    with pytest.raises(ModelError, match=r"smollm2 needs about 0.6 GB and there are 0.4 GB free") as caught:
        estimate.check_memory(of_loading(Shape.of(SMOLLM2), "float32"), "cpu", "smollm2")
    assert "\n" not in str(caught.value)
    estimate.check_memory(of_loading(Shape.of(SMOLLM2), "bfloat16"), "cpu", "smollm2")
    assert 1e8 < (monkeypatch.undo() or estimate.available("cpu") or 1e9) < 1e14


def test_the_table_in_the_docs_is_what_the_estimator_says() -> None:
    page = (Path(__file__).parents[1] / "docs" / "base-models.md").read_text(encoding="utf-8")
    assert table() in page


def test_a_config_without_sizes_is_refused() -> None:
    with pytest.raises(ModelError, match="names no num_hidden_layers"):
        Shape.of({"hidden_size": 4, "num_attention_heads": 1})
