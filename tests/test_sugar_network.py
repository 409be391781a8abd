"""SUGAR's encoder with its heads, and the bridges: segments, masks, shared weights, and what they cost."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from skag.encoders.cost import Cost, cost
from skag.encoders.ctrgcn import CtrGcn, CtrGcnConfig, spatial_graphs
from skag.errors import RunError
from skag.methods.sugar.config import BLIP_2, BridgeConfig, EncoderConfig
from skag.methods.sugar.network import Aligner, Bridge, bridge_cost, positions, shape
from skag.skeleton.layouts import load_layout

KINDS = ("tqp", "qformer", "cross_attention", "linear")
WITH_QUERY = KINDS[:3]


@pytest.fixture(scope="module", autouse=True)
def _transformers() -> None:
    Bridge(BridgeConfig(width=4, heads=1, layers=1), 4, 4)  # imported once, with what it warns of at import


def small(kind: str = "tqp", **changes: object) -> Bridge:
    torch.manual_seed(0)
    values = {"kind": kind, "num_queries": 4, "layers": 2, "width": 16, "heads": 2, "dropout": 0.0}
    bridge = Bridge(BridgeConfig(**(values | changes)), 12, 20)
    for weight in bridge.parameters():  # beginning at 0.02, attention would hide what is wrong
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return bridge.double().eval()


def tokens(length: int = 10, count: int = 3) -> torch.Tensor:
    return torch.randn(count, length, 12, dtype=torch.double, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------- bridges


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_gradients(kind: str) -> None:
    bridge = small(kind)
    mask = torch.arange(10).expand(3, 10) < torch.tensor([[10], [7], [3]])
    vectors, counts = bridge(tokens(), mask)
    assert vectors.shape == (3, 10 if kind == "linear" else 4, 20) and counts.shape == vectors.shape[:2]
    assert counts.equal(mask) if kind == "linear" else counts.all()
    vectors.sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in bridge.parameters())


@pytest.mark.parametrize("kind", WITH_QUERY)
@pytest.mark.parametrize("length", [8, 10])
def test_what_is_masked_is_not_read(kind: str, length: int) -> None:
    bridge, x = small(kind), tokens(length)
    mask = torch.ones(3, length, dtype=torch.bool)
    mask[1, 5:] = mask[2, :6] = False
    other = torch.where(mask[..., None], x, 100.0)
    with torch.no_grad():
        assert (bridge(x, mask)[0] - bridge(other, mask)[0]).abs().max() < 1e-12
        assert (bridge(x)[0][1:] - bridge(x, mask)[0][1:]).abs().max() > 1e-3
        assert (bridge(x)[0] - bridge(x, torch.ones_like(mask))[0]).abs().max() < 1e-12


def test_the_projection_is_a_chain_through_one_q_former() -> None:
    bridge, x = small(), tokens(10)
    calls = []
    bridge.reader.register_forward_hook(lambda _module, given, out: calls.append((given, out)))
    with torch.no_grad():
        vectors, _ = bridge(x)
        normed = bridge.token_norm(x) + positions(10, 12, x)
    assert len(calls) == 3  # 4, 4 and 2 tokens
    (first, one), (second, two), (third, three) = calls
    assert first[0].equal(bridge.query.expand(3, -1, -1)) and second[0].equal(one) and third[0].equal(two)
    for given, start in ((first, 0), (second, 4)):
        torch.testing.assert_close(given[1], normed[:, start : start + 4])
    torch.testing.assert_close(third[1][:, :2], normed[:, 8:])
    assert third[2].view(3, 4).tolist() == [[True, True, False, False]] * 3
    torch.testing.assert_close(vectors, bridge.to_words(three))


def test_a_short_last_segment_equals_its_tokens_alone() -> None:
    bridge, x = small(positions="none"), tokens(10)
    with torch.no_grad():
        chained, _ = bridge(x)
        query = bridge.query.expand(3, -1, -1)
        for part in bridge.token_norm(x).split(4, dim=1):
            query = bridge.reader(query, part, None)  # the last of 2 tokens, without filling
        assert (bridge.to_words(query) - chained).abs().max() < 1e-12


def test_one_segment_is_one_q_former() -> None:
    ours, theirs = small("tqp", num_queries=10), small("qformer", num_queries=10)
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        assert (ours(tokens())[0] - theirs(tokens())[0]).abs().max() < 1e-12


def test_a_clip_without_tokens_in_a_segment_keeps_its_query() -> None:
    bridge, x = small(positions="none"), tokens(8)
    mask = torch.ones(3, 8, dtype=torch.bool)
    mask[0, 4:] = False
    mask[1] = False
    with torch.no_grad():
        vectors, _ = bridge(x, mask)
        assert vectors.isfinite().all()
        assert (vectors[0] - bridge(x[:1, :4])[0][0]).abs().max() < 1e-12
        assert (vectors[1] - bridge.to_words(bridge.query)).abs().max() < 1e-12
    bridge(x, mask)[0].sum().backward()
    assert all(weight.grad.isfinite().all() for weight in bridge.parameters())


@pytest.mark.parametrize("kind", WITH_QUERY)
def test_the_order_of_tokens_counts_by_their_positions(kind: str) -> None:
    x = tokens(4)
    with torch.no_grad():
        without, given = small(kind, positions="none"), small(kind)
        assert (without(x)[0] - without(x.flip(1))[0]).abs().max() < 1e-12
        assert (given(x)[0] - given(x.flip(1))[0]).abs().max() > 1e-3


def test_positions_tell_places_apart() -> None:
    table = positions(1000, 7, torch.empty(0))
    assert table.shape == (1000, 7) and table.abs().max() <= 1
    assert torch.cdist(table, table).fill_diagonal_(9).min() > 1e-3


@pytest.mark.parametrize("kind", WITH_QUERY)
def test_queries_begin_different_and_say_different_things(kind: str) -> None:
    torch.manual_seed(0)
    bridge = Bridge(BridgeConfig(kind=kind, num_queries=4, layers=2, width=16, heads=2), 12, 20).double().eval()
    with torch.no_grad():
        vectors = bridge(tokens())[0]
    apart = torch.cdist(vectors[0], vectors[0]) + torch.eye(4) * 9
    assert apart.min() > 1e-3


def test_misfits_are_named() -> None:
    with pytest.raises(RunError, match="length 12 and clips have 10 tokens: set bridge.num_queries to 10"):
        small(num_queries=12)(tokens())
    with pytest.raises(RunError, match="query is 48 wide and the base model's words 20: set bridge.width to 18"):
        small(width=48, heads=3)
    assert small("linear", width=48, heads=3)(tokens())[0].shape == (3, 10, 20)  # has no query


def test_without_transformers_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RunError, match="needs transformers.*bridge.kind"):
        small()
    small("cross_attention")


def test_configurations_and_networks_are_light() -> None:
    """The configuration imports no torch, and the networks no transformers."""
    light = "import sys, skag.methods.sugar.config, skag.methods.llm_ar.config; assert 'torch' not in sys.modules"
    networks = "; import skag.methods.sugar.network; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", light + networks], check=True)


def test_an_overfit_tells_classes_apart() -> None:
    """The chain learns what only the first segment tells: four clips, the sign of their first token."""
    torch.manual_seed(0)
    bridge = Bridge(BridgeConfig(num_queries=4, layers=1, width=16, heads=2, dropout=0.0), 12, 20)
    x = tokens(12, 4).float()
    x[:, 0] = torch.tensor([4.0, 4, -4, -4])[:, None] * torch.linspace(-1, 1, 12)
    labels = torch.tensor([0, 0, 1, 1])
    head = torch.nn.Linear(20, 2)
    optimizer = torch.optim.AdamW([*bridge.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(head(bridge(x)[0].mean(1)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


# ---------------------------------------------------------------- costs


def test_costs_by_hand() -> None:
    linear = bridge_cost(BridgeConfig(kind="linear"), 12, 20, 10)
    assert linear == Cost(12 * 20 + 20, 2 * 10 * 12 * 20)
    attention = bridge_cost(BridgeConfig(kind="cross_attention", num_queries=4, width=16, heads=2), 12, 20, 10)
    products = 2 * 4 * 16 * 16 + 2 * 10 * 12 * 16 + 2 * 4 * 10 * 16 + 4 * 16 * 20
    assert attention.flops == 2 * products
    assert attention.parameters == 4 * 16 + 24 + 32 + 2 * 272 + 2 * 208 + 340
    assert str(linear) == "260 parameters, 4.8 thousand FLOPs"


def test_a_masked_segment_costs_as_much_as_a_whole_one() -> None:
    config = BridgeConfig(num_queries=4, layers=2, width=16, heads=2)
    assert bridge_cost(config, 12, 20, 10).flops == bridge_cost(config, 12, 20, 12).flops
    bridge = Bridge(config, 12, 20).eval()
    bridge.token_norm.requires_grad_(False)
    assert cost(bridge, lambda: bridge(torch.zeros(1, 10, 12))) == bridge_cost(config, 12, 20, 10)
    assert bridge.query.requires_grad and not bridge.token_norm.weight.requires_grad  # as it was


def test_the_size_that_is_reported_of_sugar() -> None:
    found = bridge_cost(BLIP_2, 256, 4096, 1000)
    assert found.flops == pytest.approx(223e9, rel=0.01)
    assert found.parameters == pytest.approx(109e6, rel=0.01)
    with_text = found.parameters + 12 * (2 * 768 * 3072 + 3072 + 3 * 768) + (30522 + 512) * 768 + 2 * 768
    assert with_text == pytest.approx(188e6, rel=0.02)
    assert bridge_cost(BridgeConfig(), 256, 4096, 1000).parameters < 40e6


def test_the_encoders_cost() -> None:
    with torch.device("meta"):
        model = CtrGcn(CtrGcnConfig(num_joints=25, num_bodies=2), torch.empty(3, 25, 25)).eval()
        found = cost(model, lambda: model.pooled(torch.empty(1, 2, 64, 25, 3)))
    assert found.parameters == pytest.approx(1.45e6, rel=0.02)
    # Multiplications of two people; 1.97 G are reported, with means over time taken after the convolutions.
    assert 1.7e9 < found.flops / 2 < 1.97e9


# ---------------------------------------------------------------- the encoder with its heads


def aligner(**changes: object) -> Aligner:
    torch.manual_seed(0)
    layout = load_layout("kinect-v1")
    config = EncoderConfig(**({"channels": (8, 16), "strides": (1, 2)} | changes))
    return Aligner(shape(config, layout.num_joints, 2, 3), spatial_graphs(layout), 5, 7)


def test_the_heads_read_the_pooled_features() -> None:
    model = aligner().eval()
    x = torch.randn(3, 2, 8, 20, 3)
    with torch.no_grad():
        out, pooled = model(x), model.pooled(x)
        assert out.class_logits.shape == (3, 5) and out.embedding.shape == (3, 7)
        torch.testing.assert_close(out.embedding, model.embedding_head(pooled))
        torch.testing.assert_close(pooled, model.features(x).mean((1, 3, 4)))


@pytest.mark.parametrize("changes", [{}, {"token_by": "time"}, {"token_bodies": "each"}, {"max_pool": True}])
def test_tokens_of_the_encoder_fit_the_bridge(changes: dict) -> None:
    model = aligner(**changes)
    x = torch.randn(2, 2, 16, 20, 3)
    x[1, 1] = 0
    bridge = Bridge(BridgeConfig(num_queries=3, layers=1, width=8, heads=2), model.config.width, 9)
    vectors, counts = bridge(model.tokens(x), model.token_mask(x))
    assert vectors.shape == (2, 3, 9) and vectors.isfinite().all() and counts.all()
    assert model.config.max_pool == changes.get("max_pool", False)
