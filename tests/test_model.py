"""The network: equal to the published one, and what it promises beside that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skag.losses import alignment_loss
from skag.model import ModelConfig, Recogniser, SpatialGraph, TemporalBranches
from skag.published import weight_table

from .golden import golden, published_network

FORMS = ["model_nturgb+d_60.npz", "model_coco_new_400_K400.npz"]


def small(**changes: object) -> Recogniser:
    torch.manual_seed(0)
    values = {"num_classes": 4, "num_joints": 5, "num_bodies": 2, "channels": (16, 24), "strides": (1, 2)}
    return Recogniser(ModelConfig(**(values | {"embedding_dim": 6} | changes)))


HEADS = (("class_logits", "cls_score"), ("constraint_logits", "x_1"), ("embedding", "x_2"))


@pytest.mark.parametrize("name", FORMS)
def test_evaluation_equals_the_reference(name: str) -> None:
    arrays = golden(name)
    _, model = published_network(arrays)
    model.eval()
    clips = torch.from_numpy(arrays["eval/keypoint"]).flatten(0, 1)
    with torch.no_grad():
        exact = model(clips.double())
        features = model.features(clips[:1].double())
        single = model.float()(clips)
    for ours, key in HEADS:
        truth = torch.from_numpy(arrays[f"eval/{key}_f64"])
        assert (getattr(exact, ours) - truth).abs().max() < 1e-9
        assert (getattr(single, ours) - truth).abs().max() < 1e-5
    mean = exact.class_logits.softmax(1).view(2, 2, -1).mean(1)
    assert (mean - torch.from_numpy(arrays["eval/prob_mean_over_clips_f64"])).abs().max() < 1e-9
    last = torch.from_numpy(arrays["eval/feat_sample0_person0"])
    torch.testing.assert_close(features[0, 0].float(), last, atol=1e-4, rtol=1e-4)


def published_loss(model: Recogniser, arrays: np.lib.npyio.NpzFile) -> dict[str, torch.Tensor]:
    """All outputs of the unmixed half and all loss terms of the published training step, in float64."""
    x = torch.cat([torch.from_numpy(arrays["train/keypoint"]), torch.from_numpy(arrays["train/mix_data"])]).double()
    labels, text = torch.from_numpy(arrays["train/label"]), torch.from_numpy(arrays["train/text_embedding"]).double()
    out = model(x)
    half = len(labels)
    found = {key: getattr(out, ours)[:half] for ours, key in HEADS}
    found["loss_ce"] = F.cross_entropy(found["cls_score"], labels)
    found["loss_mix"] = F.cross_entropy(out.class_logits[half:], torch.from_numpy(arrays["train/mix_label"]).double())
    found["loss_con"] = F.cross_entropy(found["x_1"], labels)
    found["loss_align"] = alignment_loss(found["x_2"], text, labels, model.alignment_scale, "softmax")
    alpha, beta = arrays["train/weights"]
    found["loss_total"] = found["loss_ce"] + found["loss_mix"] + alpha * found["loss_con"] + beta * found["loss_align"]
    return found


def named_as_published(config: ModelConfig, values: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """skag's weights, or their gradients, under the published names."""
    found = {}
    for weight in weight_table(config):
        if (value := values.get(weight.ours)) is not None:
            found[weight.theirs] = weight.part_of(value).detach().numpy().copy()
    return found


def beginning_as(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """`theirs` without what does not act (further alphas, betas and joints), in the shape of `ours`."""
    return theirs.reshape(-1)[: ours.size].reshape(ours.shape)


@pytest.mark.parametrize("name", FORMS)
def test_training_equals_the_reference(name: str) -> None:
    """Outputs, losses, gradients, batch statistics and two optimiser steps of the published training step."""
    arrays = golden(name)
    config, model = published_network(arrays)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4, nesterov=True)
    for step in (1, 2):
        found = published_loss(model, arrays)
        if step == 2:
            assert found["loss_total"].item() == pytest.approx(float(arrays["train/loss_total_step2_f64"]), abs=1e-7)
        else:
            for key, value in found.items():
                np.testing.assert_allclose(value.detach(), arrays[f"train/{key}_f64"], rtol=0, atol=1e-9, err_msg=key)
            statistics = named_as_published(config, dict(model.named_buffers()))
            for key in [key for key in arrays.files if key.startswith("train/after1/")]:
                if not key.endswith("_f64"):
                    ours = statistics[key.removeprefix("train/after1/")]
                    np.testing.assert_allclose(ours, arrays[key], rtol=1e-5, atol=1e-5, err_msg=key)
        optimizer.zero_grad()
        found["loss_total"].backward()
        if step == 1:
            compare_gradients(config, model, arrays)
        optimizer.step()
    after = named_as_published(config, dict(model.named_parameters()))
    compared = 0
    for key in [key for key in arrays.files if key.startswith("train/after2/") and key.endswith("_f64")]:
        ours = after[key.removeprefix("train/after2/").removesuffix("_f64")]
        np.testing.assert_allclose(ours, beginning_as(ours, arrays[key]), rtol=1e-7, atol=1e-7, err_msg=key)
        compared += 1
    assert compared >= 10


def compare_gradients(config: ModelConfig, model: Recogniser, arrays: np.lib.npyio.NpzFile) -> None:
    """Norms of all gradients and the few that are there whole, within 1e-7 of their scale."""
    ours = named_as_published(config, {name: value.grad for name, value in model.named_parameters()})
    norms = dict(zip(arrays["train/grad_names"].tolist(), arrays["train/grad_norm_f64"], strict=True))
    largest = max(norms.values())
    assert set(norms) == set(ours)
    for key, value in ours.items():
        assert np.linalg.norm(value) == pytest.approx(norms[key], rel=1e-7, abs=1e-10 * largest), key
        if f"train/grad/{key}_f64" in arrays:
            theirs = beginning_as(value, arrays[f"train/grad/{key}_f64"])
            np.testing.assert_allclose(value, theirs, rtol=0, atol=1e-7 * np.abs(theirs).max() + 1e-10, err_msg=key)


def test_a_graph_convolution_equals_its_plain_form() -> None:
    torch.manual_seed(1)
    layer = SpatialGraph(8, 16, 5).double().eval()
    torch.nn.init.normal_(layer.alpha)
    torch.nn.init.normal_(layer.beta)
    x = torch.randn(3, 8, 7, 5, dtype=torch.double)
    with torch.no_grad():
        fast = layer(x)
        pre = layer.pre(x).view(3, 8, 2, 7, 5)
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
        fast = layer(x)
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
