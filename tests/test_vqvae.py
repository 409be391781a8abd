"""The action VQ-VAE: equal to the published form with a Euclidean codebook, and what bodies and codes are promised."""

from __future__ import annotations

import pytest
import torch

from skag.errors import RunError
from skag.methods.llm_ar.codebook import Codebook, code_use
from skag.methods.llm_ar.config import CodebookConfig, VqVaeConfig
from skag.methods.llm_ar.vqvae import ActionVqVae, encoder, joint_error

from .helpers import parity, parity_networks


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def off_the_nearest(codes: torch.Tensor, latents: torch.Tensor) -> float:
    """How far the worst of `codes` is from the nearest of `latents`."""
    return (codes.detach()[:, None] - latents.detach()).norm(dim=2).min(1).values.max().item()


def small(num_classes: int = 0, code_width: int = 12, codebook: dict | None = None, **changes: object) -> ActionVqVae:
    torch.manual_seed(0)
    config = VqVaeConfig(**({"width": 16, "depth": 2} | changes))
    codes = CodebookConfig(**({"num_codes": 8} | (codebook or {})))
    model = ActionVqVae(config, codes, 5, 2, 3, code_width, num_classes)
    model.standardise_by(clips(count=16))
    return model


def clips(*absent: tuple[int, int], count: int = 4, frames: int = 16) -> torch.Tensor:
    x = torch.randn(count, 2, frames, 5, 3, generator=seeded(1)).cumsum(2) + 2
    for place in absent:
        x[place] = 0
    return x


# ---------------------------------------------------------------- the published form


def test_encoder_codebook_and_decoder_equal_the_published_ones() -> None:
    rows = list(parity_networks.vqvae(parity.Reference("t2m_vqvae_small.npz")))
    assert len(rows) == 6 and not [row for row in rows if not row.holds]


def test_the_size_the_paper_would_have() -> None:
    with torch.device("meta"):
        size = sum(weight.numel() for weight in encoder(VqVaeConfig(), 150, 5120).parameters())
    assert size == pytest.approx(16.5e6, rel=0.01)


# ---------------------------------------------------------------- bodies


@pytest.mark.parametrize("bodies", ["folded", "joined"])
def test_shapes_and_masks(bodies: str) -> None:
    model = small(num_classes=3, bodies=bodies)
    out = model(clips((0, 1), (1, 0), (2, 0), (2, 1)))
    length = model.num_codes(16)
    assert length == {"folded": 8, "joined": 4}[bodies]
    assert out.codes.shape == out.mask.shape == (4, length) and out.distances.shape == (4, length, 8)
    assert out.vectors.shape == (4, length, 12) and out.class_logits.shape == (4, 3)
    assert out.reconstruction.shape == (4, 2, 16, 5, 3)
    assert ((out.codes >= 0) == out.mask).all()
    if bodies == "folded":  # of the third clip, in which nobody is, the first body is kept
        assert out.mask.view(4, 2, 4).all(2).tolist() == [[True, False], [False, True], [True, False], [True, True]]
    else:
        assert out.mask.all()
    present = torch.tensor([[True, False], [False, True], [False, False], [True, True]])
    assert (out.reconstruction.flatten(2).any(2) == present).all()


@pytest.mark.parametrize("bodies", ["folded", "joined"])
def test_absent_bodies_are_no_part_of_the_losses(bodies: str) -> None:
    model = small(bodies=bodies).double().eval()
    x = clips((0, 1), (1, 0), (2, 0), (2, 1)).double()
    out = model(x)
    present = x.flatten(2).any(2)
    standard = (x - model.mean) / model.deviation
    made = (out.reconstruction - model.mean) / model.deviation
    off = torch.nn.functional.smooth_l1_loss(made, standard, reduction="none").mean((2, 3, 4))
    moved = torch.nn.functional.smooth_l1_loss(made.diff(dim=2), standard.diff(dim=2), reduction="none").mean((2, 3, 4))
    assert out.reconstruction_loss.item() == pytest.approx(off[present].mean().item(), abs=1e-12)
    assert out.velocity_loss.item() == pytest.approx(moved[present].mean().item(), abs=1e-12)
    assert joint_error(x, out.reconstruction).item() == pytest.approx(
        (x - out.reconstruction).norm(dim=-1).mean((2, 3))[present].mean().item(), abs=1e-12
    )


def test_folded_bodies_are_coded_as_if_alone() -> None:
    model = small().eval()
    x = clips()
    together, _ = model.tokenise(x)
    swapped, _ = model.tokenise(x.flip(1))
    x[:, 1] = 0
    alone, mask = model.tokenise(x)
    assert alone[:, :4].equal(together[:, :4]) and not mask[:, 4:].any() and (alone[:, 4:] == -1).all()
    assert swapped.equal(together.roll(4, 1))


def test_a_batch_of_nobody_has_finite_losses_of_zero() -> None:
    model = small()
    out = model(torch.zeros(2, 2, 8, 5, 3))
    losses = [out.reconstruction_loss, out.velocity_loss, out.embedding_loss, out.commitment_loss]
    assert [loss.item() for loss in losses] == [0, 0, 0, 0]
    sum(losses).backward()
    assert model.codebook.used.sum() == 0


def test_joints_are_standardised_by_bodies_that_are_there() -> None:
    model = small()
    x = clips((0, 1), (2, 0), count=6)
    x[:, :, :, 4] = torch.tensor([7.0, 8, 9])  # a joint that never moves
    x[0, 1] = x[2, 0] = 0
    model.standardise_by(x)
    found = x[x.flatten(2).any(2)].flatten(0, 1)
    torch.testing.assert_close(model.mean, found.mean(0))
    torch.testing.assert_close(model.deviation[:4], found.std(0, correction=0)[:4])
    assert model.deviation[4].tolist() == [1, 1, 1]
    with pytest.raises(RunError, match="nobody"):
        model.standardise_by(torch.zeros(2, 2, 8, 5, 3))


@pytest.mark.parametrize("bodies", ["folded", "joined"])
def test_the_middle_of_a_body_can_be_coded_apart(bodies: str) -> None:
    """Where it stands then changes nothing but the middle, and nothing is lost."""
    model, x = small(bodies=bodies, middle_apart=True), clips((1, 1))
    rows, moved = (model._rows(each)[0] for each in (x, torch.where(x != 0, x + 3, x)))
    off = (moved - rows).unflatten(1, (-1, 6, 3)).abs()  # rows, bodies, points and coordinates, frames
    assert off[:, :, :5].max() < 1e-4 and off[:, 0, 5].min() > 0.1
    back = model._coordinates(rows, model._rows(x)[1])
    torch.testing.assert_close(back * model.present(x)[:, :, None, None, None], x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("frames", "said"), [(3, "3 frames and a code stands for 4"), (10, "no multiple of the 4")])
def test_lengths_that_do_not_fit_are_named(frames: int, said: str) -> None:
    with pytest.raises(RunError, match=said):
        small()(clips(frames=frames))


@pytest.mark.parametrize("bodies", ["folded", "joined"])
def test_codes_can_be_shown_as_moving_bodies(bodies: str) -> None:
    model = small(bodies=bodies).eval()
    x = clips()
    out = model(x)
    rows = out.codes.view(-1, 4)  # of bodies where they are folded, else of clips
    shown = model.moving(rows).reshape(out.reconstruction.shape)
    torch.testing.assert_close(shown, out.reconstruction, atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------- the codebook


@pytest.mark.parametrize("geometry", ["hyperbolic", "euclidean"])
@pytest.mark.parametrize("straight_through", ["tangent", "ball"])
def test_the_gradient_passes_the_codes(geometry: str, straight_through: str) -> None:
    model = small(codebook={"geometry": geometry, "straight_through": straight_through, "num_codes": 4})
    model.codebook.begin(model.latents(clips(count=16)).flatten(0, 1), seeded())
    out = model(clips())
    chosen = model.codebook.vectors()[out.codes] / model.codebook.scale
    torch.testing.assert_close(out.vectors, chosen, atol=1e-4, rtol=1e-4)
    out.reconstruction_loss.backward()
    assert model.encoder[0].weight.grad.abs().sum() > 0
    assert model.codebook.tangent.grad is None or model.codebook.tangent.grad.abs().sum() == 0
    model(clips()).embedding_loss.backward()
    used = torch.zeros(4).index_fill_(0, out.codes.unique(), 1).bool()
    assert (model.codebook.tangent.grad.abs().sum(1) > 0).equal(used)


@pytest.mark.parametrize("geometry", ["hyperbolic", "euclidean"])
def test_every_latent_has_its_nearest_code(geometry: str) -> None:
    codebook = Codebook(CodebookConfig(num_codes=20, geometry=geometry), 6).double()
    torch.nn.init.normal_(codebook.tangent, std=0.6)
    latents = torch.randn(50, 6, generator=seeded(), dtype=torch.double)
    found = codebook(latents)
    placed = codebook.placed(latents)
    if geometry == "euclidean":
        plain = torch.cdist(placed, codebook.tangent)
    else:
        x, y = (
            v / v.norm(dim=1, keepdim=True) * v.norm(dim=1, keepdim=True).tanh() for v in (placed, codebook.tangent)
        )
        room = (1 - x.square().sum(1))[:, None] * (1 - y.square().sum(1))
        plain = torch.acosh(1 + 2 * torch.cdist(x, y).square() / room)
        torch.testing.assert_close(found.distances, plain, atol=1e-6, rtol=1e-6)
    assert found.codes.equal(plain.argmin(1))


def test_losses_are_squared_distances_or_mean_squares() -> None:
    latents = torch.randn(30, 6, generator=seeded())
    squared = Codebook(CodebookConfig(num_codes=4, code_loss="squared_distance"), 6)
    mean = Codebook(CodebookConfig(num_codes=4, code_loss="mean_square"), 6)
    mean.load_state_dict(squared.state_dict())
    mask = torch.arange(30) < 20
    ours, theirs = squared(latents, mask), mean(latents, mask)
    assert ours.commitment.item() == pytest.approx(6 * theirs.commitment.item(), rel=1e-5)
    off = squared.placed(latents) - squared.vectors()[ours.codes]
    assert ours.embedding.item() == pytest.approx(off[:20].square().sum(1).mean().item(), rel=1e-5)
    assert squared.used.sum() == 20


def test_the_rim_share_counts_latents_that_were_cut() -> None:
    codebook = Codebook(CodebookConfig(num_codes=4), 4)  # latents are halved, and cut at 2.3
    latents = torch.nn.functional.normalize(torch.randn(10, 4, generator=seeded())) * 4
    latents[:3] *= 2
    found = codebook(latents)
    assert found.rim.item() == pytest.approx(0.3)
    assert codebook.placed(latents).norm(dim=1).max().item() == pytest.approx(2.3, rel=1e-5)
    unscaled = Codebook(CodebookConfig(num_codes=4, latent_scale="none", max_norm=0), 4)
    assert unscaled(latents).rim.item() == 1  # 4 is beyond 3.8
    assert unscaled(latents).distances.isfinite().all()
    far = Codebook(CodebookConfig(num_codes=4, geometry="euclidean", max_norm=0), 4)
    assert far(latents * 100).rim.item() == 0


@pytest.mark.parametrize("space", ["tangent", "ball"])
def test_codes_never_leave_the_ball(space: str) -> None:
    codebook = Codebook(CodebookConfig(num_codes=4, curvature=2.0), 4)
    codebook.tangent.data.mul_(1e6)
    codes = codebook.vectors(space)
    assert codes.isfinite().all()
    if space == "ball":
        assert (2 * codes.square().sum(1) < 1).all()


def test_codes_begin_as_latents() -> None:
    codebook = Codebook(CodebookConfig(num_codes=8), 6)
    latents = torch.randn(30, 6, generator=seeded())
    codebook.begin(latents, seeded(1))
    placed = codebook.placed(latents)
    assert len({int((placed - code).square().sum(1).argmin()) for code in codebook.tangent}) == 8
    assert off_the_nearest(codebook.tangent, placed) < 1e-6
    few = Codebook(CodebookConfig(num_codes=8), 6)
    few.begin(latents[:3], seeded(1))
    assert len(few.tangent.unique(dim=0)) == 8  # those drawn again differ a little
    assert off_the_nearest(few.tangent, few.placed(latents[:3])) < 0.05
    with pytest.raises(RunError, match="nobody"):
        codebook.begin(latents[:0])


def test_dead_codes_are_revived_and_the_others_are_left() -> None:
    codebook = Codebook(CodebookConfig(num_codes=6), 4).train()
    codebook.tangent.data.fill_(50.0)
    codebook.tangent.data[:2] = torch.randn(2, 4, generator=seeded()) * 0.1
    latents = torch.randn(40, 4, generator=seeded(1)) * 0.2
    codebook(latents)
    before = codebook.tangent.clone()
    dead = codebook.revive(latents, seeded(2))
    assert dead.tolist() == [2, 3, 4, 5] and codebook.tangent[:2].equal(before[:2])
    assert off_the_nearest(codebook.tangent[2:], codebook.placed(latents)) < 1e-6
    assert codebook.used.sum() == 0
    codebook(latents)
    assert (codebook.used > 0).sum() > 2
    again = Codebook(CodebookConfig(num_codes=6), 4)
    again.load_state_dict({"tangent": before, "used": torch.tensor([1.0, 1, 0, 0, 0, 0])})
    again.revive(latents, seeded(2))
    assert again.tangent.equal(codebook.tangent)  # a seed repeats it


def test_when_codes_are_revived() -> None:
    config = CodebookConfig(revive_every=200, revive_until=0.7)
    assert [step for step in range(1, 1501) if config.revives(step, 1500)] == [200, 400, 600, 800, 1000]
    assert not CodebookConfig(revive_every=0).revives(200, 1500)


def test_evaluation_counts_nothing() -> None:
    model = small()
    model.eval()(clips())
    assert model.codebook.used.sum() == 0
    model.train().tokenise(clips())
    assert model.codebook.used.sum() == 0 and model.codebook.training
    model(clips())
    assert model.codebook.used.sum() == 4 * 2 * 4


def test_code_use() -> None:
    use = code_use(torch.tensor([5, 5, 0, 0]))
    assert (use.share, use.most) == (0.5, 0.5) and use.perplexity == pytest.approx(2)
    assert code_use(torch.zeros(4)).share == 0


def test_settings_that_cannot_be_are_refused() -> None:
    for config, changes, said in (
        (CodebookConfig, {"num_codes": 7}, "pairs"), (CodebookConfig, {"curvature": 0}, "curvature"),
        (CodebookConfig, {"revive_until": 2}, "revive_until"), (VqVaeConfig, {"halvings": 0}, "halvings"),
    ):  # fmt: skip
        with pytest.raises(RunError, match=said):
            config(**changes)
    CodebookConfig(num_codes=512).check(512)
    with pytest.raises(RunError, match="300 tokens: set it to 150 or less"):
        CodebookConfig(num_codes=512).check(300)


def test_a_small_codebook_learns_and_lives() -> None:
    """Twenty clips of four movements: after some steps the error has fallen and most codes are in use."""
    torch.manual_seed(0)
    time = torch.linspace(0, 6.28, 16)
    waves = torch.stack([torch.sin(time * speed) for speed in (0.5, 1, 2, 3)]).repeat(5, 1)  # 20 T
    x = waves[:, None, :, None, None] * torch.randn(5, 3, generator=seeded()) + torch.randn(20, 1, 16, 5, 3) * 0.05
    model = ActionVqVae(VqVaeConfig(width=16, depth=1), CodebookConfig(num_codes=8), 5, 1, 3, 24)
    model.standardise_by(x)
    model.codebook.begin(model.latents(x).flatten(0, 1), seeded())
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    first = None
    for step in range(1, 51):
        out = model(x)
        loss = out.reconstruction_loss + out.embedding_loss + 0.25 * out.commitment_loss
        first = first or out.reconstruction_loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (12, 25):
            model.codebook.revive(model.latents(x).flatten(0, 1), seeded(step))
    use = code_use(torch.bincount(model.tokenise(x)[0].flatten(), minlength=8))
    assert out.reconstruction_loss.item() < 0.5 * first and use.share > 0.6
