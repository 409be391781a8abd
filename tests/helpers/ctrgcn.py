"""The names of the published CTR-GCN's weights, and where they are in skag's."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from skag.encoders.ctrgcn import DILATIONS, NUM_SUBSETS, CtrGcnConfig

NORM = ("weight", "bias", "running_mean", "running_var")
AFFINE = ("weight", "bias")


def weight_table(config: CtrGcnConfig) -> Iterator[tuple[str, str, object]]:
    """(published name, skag's name, part of skag's tensor) of every weight of the encoder."""
    yield from _all("data_bn", "data_bn", NORM)
    before = config.in_channels
    for number, (width, stride) in enumerate(zip(config.channels, config.strides, strict=True)):
        theirs, ours = f"l{number + 1}", f"blocks.{number}"
        yield from _graph(f"{theirs}.gcn1", f"{ours}.gcn", before, width)
        yield from _time(f"{theirs}.tcn1.branches", f"{ours}.tcn", width // 4)
        if number and (before != width or stride != 1):
            yield from _all(f"{theirs}.residual.conv", f"{ours}.residual.0", AFFINE)
            yield from _all(f"{theirs}.residual.bn", f"{ours}.residual.1", NORM)
        before = width


def _all(theirs: str, ours: str, parts: tuple[str, ...], rows: object = ...) -> Iterator[tuple[str, str, object]]:
    for part in parts:
        yield f"{theirs}.{part}", f"{ours}.{part}", rows


def _graph(theirs: str, ours: str, before: int, width: int) -> Iterator[tuple[str, str, object]]:
    yield f"{theirs}.PA", f"{ours}.A", ...
    yield f"{theirs}.alpha", f"{ours}.alpha", ...
    yield from _all(f"{theirs}.bn", f"{ours}.bn", NORM)
    for subset in range(NUM_SUBSETS):
        convs = f"{theirs}.convs.{subset}"
        for name, size in (("conv1", max(8, before // 8)), ("conv2", max(8, before // 8)), ("conv3", width)):
            rows = slice(subset * size, (subset + 1) * size)
            yield from _all(f"{convs}.{name}", f"{ours}.{name}", AFFINE, rows)
        yield f"{convs}.conv4.weight", f"{ours}.refine", subset
        yield f"{convs}.conv4.bias", f"{ours}.refine_bias", subset
    if before != width:
        yield from _all(f"{theirs}.down.0", f"{ours}.down.0", AFFINE)
        yield from _all(f"{theirs}.down.1", f"{ours}.down.1", NORM)


def _time(theirs: str, ours: str, width: int) -> Iterator[tuple[str, str, object]]:
    for branch in range(len(DILATIONS) + 2):
        rows = slice(branch * width, (branch + 1) * width)
        if branch == len(DILATIONS) + 1:
            yield from _all(f"{theirs}.{branch}.0", f"{ours}.plain", AFFINE)
            yield from _all(f"{theirs}.{branch}.1", f"{ours}.bn", NORM, rows)
            continue
        yield from _all(f"{theirs}.{branch}.0", f"{ours}.split", AFFINE, rows)
        yield from _all(f"{theirs}.{branch}.1", f"{ours}.split_bn", NORM, rows)
        if branch < len(DILATIONS):
            yield from _all(f"{theirs}.{branch}.3.conv", f"{ours}.dilated.{branch}", AFFINE)
            yield from _all(f"{theirs}.{branch}.3.bn", f"{ours}.bn", NORM, rows)
        else:
            yield from _all(f"{theirs}.{branch}.4", f"{ours}.bn", NORM, rows)


def load_published(model: torch.nn.Module, state: dict[str, Tensor]) -> set[str]:
    """Copy published weights into skag's encoder; the names of those that were used."""
    own, used = model.state_dict(), set()
    for theirs, ours, part in weight_table(model.config):
        own[ours][part] = state[theirs].to(own[ours].dtype).reshape(own[ours][part].shape)
        used.add(theirs)
    model.load_state_dict(own)
    return used
