"""CTR-GCN: equal to the published network, and what SUGAR's changes and the tokens promise."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from skag.encoders.ctrgcn import CtrGcn, CtrGcnConfig, spatial_graphs
from skag.skeleton.layouts import layout_names, load_layout

from .helpers import parity, parity_networks


def small(**changes: object) -> CtrGcn:
    torch.manual_seed(0)
    values = {"num_joints": 5, "num_bodies": 2, "channels": (8, 16), "strides": (1, 2), "max_pool": False}
    graphs = torch.rand(3, 5, 5)
    model = CtrGcn(CtrGcnConfig(**(values | changes)), graphs).double()
    for block in model.blocks:  # as little as they begin with, graphs would hide what is wrong
        torch.nn.init.normal_(block.gcn.bn.weight)
        torch.nn.init.normal_(block.gcn.alpha)
    return model


def clips(*absent: tuple[int, int]) -> torch.Tensor:
    x = torch.randn(4, 2, 9, 5, 3, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    for place in absent:
        x[place] = 0
    return x


def test_graph_blocks_logits_loss_and_gradients_equal_the_published_ones() -> None:
    rows = list(parity_networks.ctrgcn(parity.Reference("ctrgcn_ntu_60.npz")))
    assert len(rows) == 8 and not [row for row in rows if not row.holds]


@pytest.mark.parametrize("name", layout_names())
def test_every_layout_has_a_network(name: str) -> None:
    layout = load_layout(name)
    config = CtrGcnConfig(layout.num_joints, 1, layout.dims, channels=(8, 8), strides=(1, 2))
    model = CtrGcn(config, spatial_graphs(layout))
    assert model.pooled(torch.randn(2, 1, 6, layout.num_joints, layout.dims)).shape == (2, 8)


def test_the_published_size() -> None:
    model = CtrGcn(CtrGcnConfig(num_joints=25, num_bodies=2), torch.zeros(3, 25, 25))
    assert sum(p.numel() for p in model.parameters()) + 60 * 257 == pytest.approx(1.447e6, rel=1e-3)


def test_the_refinement_equals_its_plain_form() -> None:
    layer = small().eval().blocks[1].gcn
    x = torch.randn(3, 8, 7, 5, dtype=torch.double)
    with torch.no_grad():
        y = torch.zeros(3, 16, 7, 5, dtype=torch.double)
        for s in range(3):
            rows, wide = slice(8 * s, 8 * s + 8), slice(16 * s, 16 * s + 16)
            x1 = (torch.einsum("rc,nctv->nrtv", layer.conv1.weight[rows], x) + layer.conv1.bias[rows, None, None]).mean(
                2
            )
            x2 = (torch.einsum("rc,nctv->nrtv", layer.conv2.weight[rows], x) + layer.conv2.bias[rows, None, None]).mean(
                2
            )
            x3 = F.conv2d(x, layer.conv3.weight[wide], layer.conv3.bias[wide])
            for v in range(5):
                for w in range(5):
                    q = layer.refine[s] @ torch.tanh(x1[:, :, v] - x2[:, :, w]).T + layer.refine_bias[s][:, None]
                    weight = layer.A[s, v, w] + layer.alpha * q.T  # of channel, N C'
                    y[:, :, :, v] += weight[:, :, None] * x3[:, :, :, w]
        plain = F.relu(layer.bn(y) + layer.down(x))
        assert (layer(x)[0] - plain).abs().max() < 1e-12


@pytest.mark.parametrize("token_by", ["time", "time_joint"])
@pytest.mark.parametrize("token_bodies", ["mean", "each"])
@pytest.mark.parametrize("present_bodies_only", [False, True])
def test_tokens_are_features_by_time_and_leave_absent_bodies_out(
    token_by: str, token_bodies: str, present_bodies_only: bool
) -> None:
    model = small(token_by=token_by, token_bodies=token_bodies, present_bodies_only=present_bodies_only).eval()
    x = clips((0, 1), (1, 0))
    with torch.no_grad():
        tokens, mask, features = model.tokens(x), model.token_mask(x), model.features(x)
    assert tokens.shape == (4, model.config.num_tokens(9), 16) and mask.shape == tokens.shape[:2]
    by_time = features.permute(0, 3, 1, 4, 2)  # N T' M V C'
    if token_by == "time":
        by_time = by_time.mean(3, keepdim=True)
    if token_bodies == "mean":
        wanted = torch.stack([by_time[0, :, 0], by_time[1, :, 1], by_time[2].mean(1), by_time[3].mean(1)])
        assert mask.all()
    else:
        wanted = by_time.clone()
        wanted[0, :, 1] = wanted[1, :, 0] = 0
        per_step = mask.view(4, 5, 2, -1)
        assert not per_step[0, :, 1].any() and not per_step[1, :, 0].any() and per_step[2:].all()
        assert per_step[0, :, 0].all() and per_step[1, :, 1].all()
    assert (tokens - wanted.reshape(tokens.shape)).abs().max() < 1e-12


def test_what_an_absent_body_would_say_does_not_reach_the_tokens() -> None:
    model = small().eval()
    x = clips((0, 1))
    with torch.no_grad():
        before = model.tokens(x)
        model.data_bn.bias[15:] += 3  # the second place
        after = model.tokens(x)
    assert (before[0] - after[0]).abs().max() < 1e-12
    assert (before[1] - after[1]).abs().max() > 0.01


def test_with_present_bodies_only_others_leave_no_trace() -> None:
    """Clips of one person give, in training too, what a network for one body gives."""
    model, alone = small(present_bodies_only=True), small(num_bodies=1)
    alone.load_state_dict(model.state_dict())
    x = clips((0, 1), (1, 0), (2, 1), (3, 0))
    single = x[[0, 1, 2, 3], [0, 1, 0, 1]].unsqueeze(1)
    for out in ("tokens", "pooled"):
        ours, theirs = getattr(model, out)(x), getattr(alone, out)(single)
        assert (ours - theirs).abs().max() < 1e-12
    assert (model.data_bn.running_var - alone.data_bn.running_var).abs().max() < 1e-12


@pytest.mark.parametrize("changes", [{}, {"present_bodies_only": True}, {"max_pool": True}, {"token_bodies": "each"}])
def test_a_single_frame_and_a_clip_of_zeros_work(changes: dict) -> None:
    model = small(**changes)
    for clip in (torch.randn(2, 2, 1, 5, 3), torch.zeros(2, 2, 8, 5, 3)):
        tokens = model.tokens(clip.double())
        assert tokens.shape[1] == model.config.num_tokens(clip.shape[2]) and tokens.isfinite().all()
        assert model.pooled(clip.double()).isfinite().all()
        assert model.token_mask(clip.double())[:, :1].all()  # the first body is kept


def test_bf16_trains_near_float32() -> None:
    model = small().float()
    x = clips().float()
    model.train()
    plain = model.pooled(x)
    model.bf16 = True
    rough = model.pooled(x)
    assert rough.dtype == torch.float32 and (rough - plain).abs().max() < 0.1 * plain.abs().max()
    rough.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="V=6"):
        small().pooled(torch.zeros(1, 2, 8, 6, 3).double())
    with pytest.raises(ValueError, match="1 bodies"):
        small().pooled(torch.zeros(1, 1, 8, 5, 3).double())
    with pytest.raises(ValueError, match="no multiple of 4"):
        small(channels=(8, 18))
    with pytest.raises(ValueError, match="2 channels but 1 strides"):
        small(strides=(1,))
    with pytest.raises(ValueError, match="5 joints"):
        CtrGcn(small().config, torch.zeros(3, 4, 4))
