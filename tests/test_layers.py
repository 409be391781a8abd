"""Layers computed otherwise than torch computes them: equal values, gradients and running statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skag.encoders.layers import BatchNorm, Pointwise, add_mean_joint, norm_relu, refined_graph, with_mean_joint
from skag.methods.skeleton_agent.network import ModelConfig, Recogniser


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pointwise_convolution_equals_torchs(stride: int) -> None:
    torch.manual_seed(0)
    ours = Pointwise(6, 8, stride).double()
    theirs = nn.Conv2d(6, 8, 1, stride=(stride, 1)).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 6, 7, 5, dtype=torch.float64)
    _assert_equal_with_gradients(ours, theirs, x)


def test_a_batch_norm_equals_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm(6).double(), nn.BatchNorm2d(6).double()
    for values in (ours.weight, ours.bias):
        nn.init.uniform_(values, 0.5, 2)
    theirs.load_state_dict(ours.state_dict())
    for number in range(3):
        x = torch.randn(3, 6, 7, 5, dtype=torch.float64) * (number + 1) + number
        _assert_equal_with_gradients(ours, theirs, x)
        for name, buffer in theirs.named_buffers():
            torch.testing.assert_close(ours.get_buffer(name), buffer, rtol=1e-12, atol=1e-12)
    _assert_equal_with_gradients(ours.eval(), theirs.eval(), x)


def test_a_batch_norm_takes_part_of_a_tensor_and_means_far_from_zero() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm(4), nn.BatchNorm2d(4).double()
    x = torch.randn(5, 6, 40, 25) * 1e-2 + 100
    part = x.split([4, 2], dim=1)[0]  # not contiguous
    assert not part.is_contiguous()
    torch.testing.assert_close(ours(part).double(), theirs(part.double()), rtol=0, atol=5e-3)
    torch.testing.assert_close(ours.running_var.double(), theirs.running_var, rtol=1e-5, atol=0)


@pytest.mark.parametrize("with_residual", [False, True])
def test_what_is_forgotten_is_made_again(with_residual: bool) -> None:
    torch.manual_seed(0)
    norm, after = BatchNorm(6).double(), Pointwise(6, 4).double()
    x, residual = (torch.randn(3, 6, 7, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    inputs = [x, norm.weight, norm.bias, after.weight, *([residual] if with_residual else [])]
    weight = torch.randn(3, 4, 7, 5, dtype=torch.float64)

    def found(forgets: bool) -> tuple[torch.Tensor, ...]:
        if forgets:
            y, forgotten = norm_relu(norm, x, residual if with_residual else None)
            with forgotten:
                z = after(y)
        else:
            z = after(torch.relu(norm(x) + residual if with_residual else norm(x)))
        loss = (z * weight).sum()
        return z, *torch.autograd.grad(loss, inputs)

    for ours, plain in zip(found(True), found(False), strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=0)


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_a_graph_is_refined_by_tanh(spread: float) -> None:
    torch.manual_seed(0)
    x1, x2 = (torch.randn(3, 5, 16, dtype=torch.float64).transpose(1, 2).unflatten(1, (8, 2)) * spread for _ in "12")
    inputs = [torch.randn(3, 8, 5, 5, dtype=torch.float64), x1, x2, torch.tensor([0.3], dtype=torch.float64)]
    inputs = [value.requires_grad_() for value in inputs]
    weight = torch.randn(3, 8, 2, 5, 5, dtype=torch.float64)

    def plain(graph: torch.Tensor, x1: torch.Tensor, x2: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        return graph.unsqueeze(2) + alpha * torch.tanh(x1.unsqueeze(-1) - x2.unsqueeze(-2))

    found = [(y := made(*inputs), *torch.autograd.grad(y, inputs, weight)) for made in (refined_graph, plain)]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_a_training_step_keeps_less_and_comes_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Recogniser(ModelConfig(4, 5, 2, channels=(24, 24, 48), strides=(1, 1, 2), embedding_dim=6)).double()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(3, 2, 16, 5, 3, dtype=torch.float64)

    def step() -> tuple[int, dict[str, torch.Tensor]]:
        model.load_state_dict(start)
        model.zero_grad()
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model(x)
        (output.class_logits.square().sum() + output.embedding.sum() + output.constraint_logits.sum()).backward()
        gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        return sum(kept.values()), gradients | dict(model.named_buffers())

    memory, found = step()
    found = {name: value.clone() for name, value in found.items()}
    monkeypatch.setattr(BatchNorm, "is_ours", lambda self, x: False)
    memory_of_torch, wanted = step()
    assert memory < 0.7 * memory_of_torch
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


def test_a_step_goes_backward_once() -> None:
    norm, after = BatchNorm(2), Pointwise(2, 2)
    y, forgotten = norm_relu(norm, torch.randn(2, 2, 3, 4))
    with forgotten:
        loss = after(y).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward once"):
        loss.backward()


def _assert_equal_with_gradients(ours: nn.Module, theirs: nn.Module, x: torch.Tensor) -> None:
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, z = ours(a), theirs(b)
    torch.testing.assert_close(y, z, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(z)
    (y * weight).sum().backward()
    (z * weight).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-12)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, rtol=1e-11, atol=1e-11)
    ours.zero_grad()
    theirs.zero_grad()


@pytest.mark.parametrize("stride", [1, 2])
def test_layers_in_bf16_are_near_torchs_in_float64(stride: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 6, 20, 25, dtype=torch.float64) + 3
    pointwise, norm = Pointwise(6, 8, stride), BatchNorm(6)
    theirs = nn.Conv2d(6, 8, 1, stride=(stride, 1)).double(), nn.BatchNorm2d(6).double()
    for ours, exact in zip((pointwise, norm), theirs, strict=True):
        with torch.no_grad():
            for values in ours.parameters():
                values.copy_(torch.randn_like(values).bfloat16())
        exact.load_state_dict(ours.state_dict())
        found, wanted = x.bfloat16().requires_grad_(), x.bfloat16().double().requires_grad_()
        y, exact_y = ours(found), exact(wanted)
        weight = torch.randn_like(exact_y).bfloat16()
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(y.double(), exact_y, rtol=0.02, atol=0.02)  # 8 bits: 0.4 % a rounding, a few times
        gradients = torch.autograd.grad(y, (found, *ours.parameters()), weight)
        exact_gradients = torch.autograd.grad(exact_y, (wanted, *exact.parameters()), weight.double())
        for number, (one, exact_one) in enumerate(zip(gradients, exact_gradients, strict=True)):
            assert one.dtype == (torch.float32 if number else torch.bfloat16)
            torch.testing.assert_close(one.double(), exact_one, rtol=0.02, atol=0.02 * exact_one.abs().max().item())
    for name, buffer in theirs[1].named_buffers():  # the statistics themselves are not rounded
        torch.testing.assert_close(norm.get_buffer(name).double(), buffer.double(), rtol=1e-5, atol=1e-6)


def test_sums_over_joints_in_bf16_are_those_of_float32() -> None:
    torch.manual_seed(0)
    shapes = (3, 8, 5, 25), (3, 8, 5, 26), (25,)
    exact = [torch.randn(*shape).bfloat16().double().requires_grad_() for shape in shapes]
    x, mixed, coefficients = (value.detach().bfloat16().requires_grad_() for value in exact)
    coefficients = coefficients.detach().float().requires_grad_()

    def found(x: torch.Tensor, mixed: torch.Tensor, coefficients: torch.Tensor) -> list[torch.Tensor]:
        torch.manual_seed(1)
        longer, shorter = with_mean_joint(x), add_mean_joint(mixed, coefficients)
        loss = (longer * torch.randn(longer.shape)).sum() + (shorter * torch.randn(shorter.shape)).sum()
        return [longer, shorter, *torch.autograd.grad(loss, (x, mixed, coefficients))]

    ours, wanted = found(x, mixed, coefficients), found(*exact)
    assert [one.dtype for one in ours] == [torch.bfloat16] * 4 + [torch.float32]
    for one, exact_one in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one.double(), exact_one, rtol=0.02, atol=0.02 * exact_one.abs().max().item())
    assert torch.equal(ours[0][..., :25], x)  # a joint times one, and the others times zero


def test_a_graph_is_refined_in_bf16_as_in_float32() -> None:
    torch.manual_seed(0)
    graph, alpha = torch.randn(3, 8, 5, 5, requires_grad=True), torch.tensor([0.3], requires_grad=True)
    x1, x2 = (torch.randn(3, 8, 2, 5).bfloat16().requires_grad_() for _ in range(2))
    exact1, exact2 = (value.detach().float().requires_grad_() for value in (x1, x2))
    y, wanted = refined_graph(graph, x1, x2, alpha), refined_graph(graph, exact1, exact2, alpha)
    weight = torch.randn_like(y)
    assert y.dtype == torch.bfloat16 and torch.equal(y, wanted.bfloat16())
    ours = torch.autograd.grad(y, (graph, x1, x2, alpha), weight)
    theirs = torch.autograd.grad(wanted, (graph, exact1, exact2, alpha), weight.float())
    for one, exact_one in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.float(), exact_one, rtol=0.01, atol=1e-5)
