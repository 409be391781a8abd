"""Layers computed otherwise than torch computes them: equal values, gradients and running statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skag.layers import BatchNorm, Pointwise


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
