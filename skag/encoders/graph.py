"""Adjacency matrices of a layout, as they are known in the field: what the network's learned graphs may begin as."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..skeleton.layouts import Layout


def binary(layout: Layout) -> np.ndarray:
    """`[1, V, V]`, 1 where two joints are neighbours (PYSKL's "binary_adj")."""
    A = np.zeros((1, layout.num_joints, layout.num_joints))
    outer, inner = layout.edge_index.T
    A[0, outer, inner] = A[0, inner, outer] = 1
    return A


def spatial(layout: Layout, edges: np.ndarray | None = None) -> np.ndarray:
    """`[3, V, V]`: every joint itself, edges inward, edges outward; columns of the latter two sum to 1 (2s-AGCN).

    `edges` `[E, 2]`, each from the outer joint to the inner one, take the place of the layout's where they are given.
    """
    outer, inner = (layout.edge_index if edges is None else edges).T
    inward = np.zeros((layout.num_joints, layout.num_joints))
    inward[inner, outer] = 1
    return np.stack([np.eye(layout.num_joints), _normalised(inward), _normalised(inward.T)])


def stgcn_spatial(layout: Layout, centre: str | None = None) -> np.ndarray:
    """`[3, V, V]`: ST-GCN's spatial partition (Yan et al., AAAI 2018, section 3.3) as PYSKL computes it.

    Subsets: the joint itself; its neighbours where it is at least as far from `centre` (by default the root of the
    bones) as they are; the others. All distances beyond one hop count as equal.
    """
    V, middle = layout.num_joints, layout.index[centre or layout.root]
    neighbours = binary(layout)[0] + np.eye(V)
    from_centre = np.where(neighbours[middle] > 0, 1, 2)
    from_centre[middle] = 0
    adjacency = _normalised(neighbours)
    close = from_centre[:, None] >= from_centre[None, :]
    apart = ~np.eye(V, dtype=bool)
    return np.stack([adjacency * ~apart, adjacency * (close & apart), adjacency * (~close & apart)])


def _normalised(A: np.ndarray) -> np.ndarray:
    """Columns divided by their sums; columns of zeros stay."""
    return A / np.maximum(A.sum(0, keepdims=True), 1)


GRAPHS: dict[str, Callable[[Layout], np.ndarray]] = {
    "binary": binary,
    "spatial": spatial,
    "stgcn_spatial": stgcn_spatial,
}
