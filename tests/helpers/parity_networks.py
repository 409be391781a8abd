"""CTR-GCN and the VQ-VAE of T2M-GPT against the reference: the networks that SUGAR and LLM-AR begin with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from skag.encoders.ctrgcn import CtrGcn, CtrGcnConfig, spatial_graphs
from skag.methods.llm_ar.codebook import Codebook, code_use
from skag.methods.llm_ar.config import CodebookConfig, VqVaeConfig
from skag.methods.llm_ar.vqvae import decoder, encoder
from skag.skeleton.layouts import load_layout

from .ctrgcn import load_published, weight_table
from .golden import published_state

EUCLIDEAN = CodebookConfig(
    num_codes=64, geometry="euclidean", latent_scale="none", max_norm=0, code_loss="mean_square", begin="normal"
)


def published_ctrgcn(state: dict[str, torch.Tensor]) -> tuple[CtrGcn, torch.nn.Linear]:
    """skag's encoder and a linear layer in float64 with the published weights."""
    model = CtrGcn(CtrGcnConfig(num_joints=25, num_bodies=2), spatial_graphs(load_layout("nturgb+d"))).double()
    used = load_published(model, state)
    left = {name for name in set(state) - used if not name.endswith("num_batches_tracked")}
    assert left == {"fc.weight", "fc.bias"}, left
    head = torch.nn.Linear(256, 60).double()
    head.load_state_dict({"weight": state["fc.weight"], "bias": state["fc.bias"]})
    return model, head


def _bodies_first(x: np.ndarray) -> torch.Tensor:
    """`[N, C, T, V, M]` as published to `[N, M, T, V, C]`, float64."""
    return torch.from_numpy(x).double().permute(0, 4, 2, 3, 1)


def ctrgcn(reference: Any) -> Iterator[Any]:
    """Rows of a `parity.Reference`: the graph, three blocks and the logits; a training step's loss and gradients."""
    yield reference.row("graph/A", spatial_graphs(load_layout("nturgb+d")), 1e-7)
    model, head = published_ctrgcn(published_state(reference.arrays))
    seen: dict[int, torch.Tensor] = {}
    hooks = [
        model.blocks[n].register_forward_hook(lambda _module, _given, out, n=n: seen.update({n: out.clone()}))
        for n in (0, 4, 9)
    ]
    with torch.no_grad():
        logits = head(model.eval().pooled(_bodies_first(reference["eval/x"])))
    for hook in hooks:
        hook.remove()
    found = {"logits": logits, "l1_row0": seen[0][0], "l5_row0": seen[4][0], "l10": seen[9][:1]}
    for name, ours in found.items():
        yield reference.row(f"eval/{name}_f64", ours, 1e-9)
    logits = head(model.train().pooled(_bodies_first(reference["train/x"])))
    loss = F.cross_entropy(logits, torch.from_numpy(reference["train/label"]))
    loss.backward()
    yield reference.row("train/logits_f64", logits, 1e-9)
    yield reference.row("train/loss_f64", loss, 1e-9)
    gradients = {name: value.grad for name, value in model.named_parameters()}
    table = [row for row in weight_table(model.config) if row[1] in gradients]
    norms = {theirs: gradients[ours][part].norm().item() for theirs, ours, part in table}
    norms |= {f"fc.{name}": value.grad.norm().item() for name, value in head.named_parameters()}
    names = reference["train/grad_names"].tolist()
    assert set(names) == set(norms)
    yield reference.row("train/grad_norm", [norms[name] for name in names], 1e-9, relative=True)


def _part(arrays: np.lib.npyio.NpzFile, part: str) -> dict[str, torch.Tensor]:
    """Weights of the encoder or decoder, whose modules have one more level of names in the published code."""
    start = f"state/{part}."
    names = [name for name in arrays.files if name.startswith(start)]
    return {name.removeprefix(start).replace("model.", ""): torch.from_numpy(arrays[name]) for name in names}


def vqvae(reference: Any) -> Iterator[Any]:
    """Rows of a `parity.Reference`: encoder, Euclidean codebook and decoder."""
    config, arrays = VqVaeConfig(width=32), reference.arrays
    there, back, codebook = encoder(config, 60, 48), decoder(config, 60, 48), Codebook(EUCLIDEAN, 48)
    there.load_state_dict(_part(arrays, "encoder"))
    back.load_state_dict(_part(arrays, "decoder"))
    codebook.load_state_dict({"tangent": torch.from_numpy(reference["state/quantizer.embedding.weight"])}, strict=False)
    with torch.no_grad():
        latent = there.double()(torch.from_numpy(reference["x"]).double())
        found = codebook.double()(latent.transpose(1, 2).flatten(0, 1))
        quantised = found.vectors.unflatten(0, (3, 16)).transpose(1, 2)
        reconstruction = back.double()(quantised)
    yield reference.row("latent_f64", latent, 1e-9)
    yield reference.row("indices", found.codes.view(3, 16), 0.0)
    yield reference.row("quantised_f64", quantised, 1e-9)
    yield reference.row("quantizer_loss_f64", found.embedding + found.commitment, 1e-9)
    yield reference.row("perplexity", code_use(torch.bincount(found.codes, minlength=64)).perplexity, 1e-9)
    yield reference.row("reconstruction_f64", reconstruction, 1e-9)
