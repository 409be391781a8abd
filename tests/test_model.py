"""The network: equal to the published one, and what it promises beside that."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from skag.encoders.protogcn import SpatialGraph, TemporalBranches
from skag.methods.skeleton_agent.network import ModelConfig, Recogniser


def small(**changes: object) -> Recogniser:
    torch.manual_seed(0)
    values = {"num_classes": 4, "num_joints": 5, "num_bodies": 2, "channels": (16, 24), "strides": (1, 2)}
    return Recogniser(ModelConfig(**(values | {"embedding_dim": 6} | changes)))


def test_a_graph_convolution_equals_its_plain_form() -> None:
    torch.manual_seed(1)
    layer = SpatialGraph(8, 16, 5).double().eval()
    torch.nn.init.normal_(layer.alpha)
    torch.nn.init.normal_(layer.beta)
    x = torch.randn(3, 8, 7, 5, dtype=torch.double)
    with torch.no_grad():
        fast, _ = layer(x)
        pre = torch.relu(layer.pre(x)).view(3, 8, 2, 7, 5)
        # plain: project every frame, then take the mean over time
        x1 = torch.einsum("oc,nctv->notv", layer.conv1.weight, x) + layer.conv1.bias[:, None, None]
        x2 = torch.einsum("oc,nctv->notv", layer.conv2.weight, x) + layer.conv2.bias[:, None, None]
        x1, x2 = x1.mean(2).view(3, 8, 2, 5), x2.mean(2).view(3, 8, 2, 5)
        y = torch.zeros_like(pre)
        for s in range(8):
            intra = torch.softmax(torch.einsum("ncv,ncw->nvw", x1[:, s], x2[:, s]), dim=1) * layer.beta
            for r in range(2):
                inter = torch.tanh(x1[:, s, r, :, None] - x2[:, s, r, None, :]) * layer.alpha
                y[:, s, r] = torch.einsum("ntv,nvw->ntw", pre[:, s, r], layer.A[s] + inter + intra)
        plain = torch.relu(layer.bn(layer.post(y.flatten(1, 2))) + layer.down(x))
    assert (fast - plain).abs().max() < 1e-9


@pytest.mark.parametrize("stride", [1, 2])
def test_temporal_branches_equal_separate_convolutions(stride: int) -> None:
    torch.manual_seed(2)
    layer = TemporalBranches(16, 5, stride).double().eval()
    torch.nn.init.normal_(layer.add_coeff)
    x = torch.randn(2, 16, 9, 5, dtype=torch.double)
    functional = torch.nn.functional
    with torch.no_grad():
        fast = layer(x, nullcontext())
        with_mean = torch.cat([x, x.mean(-1, keepdim=True)], -1)
        branches, start = [], 0
        for number, width in enumerate(layer.widths):
            rows = slice(start, start + width)
            weight, bias = layer.split.weight[rows], layer.split.bias[rows]
            if number == 5:
                branches.append(functional.conv2d(with_mean, weight, bias, stride=(stride, 1)))
                break
            norm = layer.split_bn
            part = functional.conv2d(with_mean, weight, bias)
            statistics = norm.running_mean[rows], norm.running_var[rows]
            part = functional.relu(functional.batch_norm(part, *statistics, norm.weight[rows], norm.bias[rows]))
            if number < 4:
                branches.append(layer.dilated[number](part))
            else:
                branches.append(functional.max_pool2d(part, (3, 1), (stride, 1), (1, 0)))
            start += width
        out = torch.cat(branches, 1)
        out = out[..., :5] + out[..., 5:] * layer.add_coeff
        plain = layer.bn(layer.transform(torch.relu(layer.transform_bn(out))))
    assert (fast - plain).abs().max() < 1e-9


def test_the_constraint_branch_equals_its_matrix_form() -> None:
    model = small().double().eval()
    mask = (torch.rand(4, 5) < 0.5).double()
    model.critical_joints.copy_(mask)
    x = torch.randn(3, 2, 8, 5, 3, dtype=torch.double)
    with torch.no_grad():
        x_pre = model.features(x).mean(3)  # N M C V
        plain = torch.empty(3, 4, dtype=torch.double)
        for k in range(4):
            K = mask[k][:, None].expand(5, 5)  # row v all ones where joint v is critical
            projected = model.constraint_head((x_pre @ K).transpose(2, 3))  # N M V 1
            plain[:, k] = projected.mean((1, 2, 3))
        assert (model(x).constraint_logits - plain).abs().max() < 1e-9


def test_classes_are_told_apart_by_their_critical_joints_only() -> None:
    model = small().eval()
    model.critical_joints.copy_(torch.tensor([[1, 0, 0, 0, 0]] * 2 + [[0, 0, 0, 0, 1]] * 2))
    logits = model(torch.randn(2, 2, 8, 5, 3)).constraint_logits
    assert torch.equal(logits[:, 0], logits[:, 1])
    assert not torch.allclose(logits[:, 0], logits[:, 2])


@pytest.mark.parametrize("joint_embedding", [True, False])
def test_a_single_frame_and_a_clip_of_zeros_work(joint_embedding: bool) -> None:
    model = small(joint_embedding=joint_embedding).eval()
    for clip in (torch.randn(1, 2, 1, 5, 3), torch.zeros(1, 2, 8, 5, 3)):
        out = model(clip)
        assert out.class_logits.shape == out.constraint_logits.shape == (1, 4)
        assert out.embedding.shape == (1, 6)
        assert out.class_logits.isfinite().all()


def test_clips_of_the_wrong_shape_are_named() -> None:
    with pytest.raises(ValueError, match="V=6"):
        small()(torch.zeros(1, 2, 8, 6, 3))
    with pytest.raises(ValueError, match="1 bodies"):
        small()(torch.zeros(1, 1, 8, 5, 3))


def test_the_published_size() -> None:
    model = Recogniser(ModelConfig(num_classes=60, num_joints=25, num_bodies=2))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(3.90e6, rel=0.01)


def _with_absent_bodies(kind: str) -> torch.Tensor:
    """Seven clips of two bodies in float64 of which some are zero everywhere."""
    x = torch.randn(7, 2, 8, 5, 3, dtype=torch.double)
    missing = {
        "none": [],
        "second": [(n, 1) for n in range(6)],
        "either": [(0, 0), (1, 1), (2, 0), (2, 1), (5, 1), (6, 0)],
        "all": [(n, m) for n in range(7) for m in range(2)],
    }
    for n, m in missing[kind]:
        x[n, m] = 0
    return x


@pytest.mark.parametrize("joint_embedding", [True, False])
@pytest.mark.parametrize("kind", ["none", "second", "either", "all"])
def test_absent_bodies_are_computed_once_and_change_nothing(kind: str, joint_embedding: bool) -> None:
    model = small(joint_embedding=joint_embedding, dropout=0.5).double()
    x = _with_absent_bodies(kind)
    for _ in range(3):  # running statistics that differ from place to place
        model(x + torch.randn_like(x) + torch.arange(2.0)[:, None, None, None])
    model.eval()
    rows = []
    model.blocks[0].register_forward_hook(lambda _module, inputs, _output: rows.append(len(inputs[0])))
    with torch.no_grad():
        packed = model(x)
        x_pre = model.features(x).mean(3)
        pooled = x_pre.mean((1, 3))
        constraint = model.constraint_head(x_pre.sum(3)).mean((1, 2))[:, None]  # every joint is critical
    assert (packed.class_logits - model.class_head(pooled)).abs().max() < 1e-12
    assert (packed.embedding - model.embedding_head(pooled)).abs().max() < 1e-12
    assert (packed.constraint_logits - constraint).abs().max() < 1e-12
    assert rows[0] == {"none": 14, "second": 9, "either": 10, "all": 2}[kind]
    assert rows[1] == 14


@pytest.mark.parametrize("only", [False, True])
def test_a_traced_network_computes_every_body(only: bool) -> None:
    class ClassLogits(torch.nn.Module):
        def __init__(self, model: Recogniser) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x).class_logits

    network = ClassLogits(small(present_bodies_only=only).double()).eval()
    x = _with_absent_bodies("either")
    traced = torch.export.export(network, (x,)).module()
    with torch.no_grad():
        for clips in (x, torch.randn_like(x)):
            assert (traced(clips) - network(clips)).abs().max() < 1e-12


@pytest.mark.parametrize("joint_embedding", [True, False])
def test_with_present_bodies_only_others_leave_no_trace(joint_embedding: bool) -> None:
    """Clips of one person give, in training too, what a network for one body gives: statistics, outputs, gradients."""
    model = small(present_bodies_only=True, joint_embedding=joint_embedding).double()
    alone = small(num_bodies=1, joint_embedding=joint_embedding).double()
    alone.load_state_dict(model.state_dict())
    x = torch.randn(4, 2, 8, 5, 3, dtype=torch.double)
    x[[0, 2], 1] = 0
    x[[1, 3], 0] = 0  # who is alone need not be first
    single = x[[0, 1, 2, 3], [0, 1, 0, 1]].unsqueeze(1)
    out, expected = model(x), alone(single)
    for name in ("class_logits", "constraint_logits", "embedding"):
        assert (getattr(out, name) - getattr(expected, name)).abs().max() < 1e-12
    for network, result in ((model, out), (alone, expected)):
        (result.class_logits.square().sum() + result.constraint_logits.sum() + result.embedding.sum()).backward()
        assert network.data_bn.weight.grad.abs().max() > 0
    for (name, ours), theirs in zip(model.named_parameters(), alone.parameters(), strict=True):
        assert (ours.grad - theirs.grad).abs().max() < 1e-10, name
    for (name, ours), theirs in zip(model.named_buffers(), alone.buffers(), strict=True):
        assert (ours.double() - theirs.double()).abs().max() < 1e-12, name


def test_with_present_bodies_only_a_clip_is_the_mean_of_its_own_people() -> None:
    model = small(present_bodies_only=True).double().eval()
    x = torch.randn(3, 2, 8, 5, 3, dtype=torch.double)
    x[1, 1] = 0
    x[2] = 0
    with torch.no_grad():
        every = model.features(x).mean((3, 4))  # N M C
        wanted = model.class_head(torch.stack([every[0].mean(0), every[1, 0], every[2, 0]]))
        assert (model(x).class_logits - wanted).abs().max() < 1e-12
    model.train()
    out = model(x)
    (out.class_logits.square().sum() + out.embedding.sum() + out.constraint_logits.sum()).backward()
    assert out.class_logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
