"""Adjacency matrices: equal to the published ones, and sound for any layout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from skag import graph
from skag.layouts import Layout, load_layout

from .golden import golden
from .test_layouts import PUBLISHED, random_layouts


@pytest.mark.parametrize("name", PUBLISHED)
def test_graphs_equal_the_published_ones(name: str) -> None:
    arrays, layout = golden("graphs.npz"), load_layout(PUBLISHED[name])
    centre = "right shoulder" if name == "uav" else None
    np.testing.assert_allclose(graph.binary(layout), arrays[f"{name}/binary_adj"], atol=1e-12)
    np.testing.assert_allclose(graph.spatial(layout), arrays[f"{name}/spatial"], atol=1e-12)
    np.testing.assert_allclose(graph.stgcn_spatial(layout, centre), arrays[f"{name}/stgcn_spatial"], atol=1e-12)


@given(random_layouts())
def test_partitions_hold_every_edge_once(layout: Layout) -> None:
    edges = graph.binary(layout)[0] + np.eye(layout.num_joints)
    for partition in (graph.spatial(layout), graph.stgcn_spatial(layout)):
        np.testing.assert_array_equal((partition > 0).sum(0), edges)
    np.testing.assert_allclose(graph.stgcn_spatial(layout).sum((0, 1)), 1)
