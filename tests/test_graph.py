"""Adjacency matrices: equal to the published ones, and sound for any layout."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from skag.encoders import graph
from skag.skeleton.layouts import Layout

from .helpers.layouts import random_layouts


@given(random_layouts())
def test_partitions_hold_every_edge_once(layout: Layout) -> None:
    edges = graph.binary(layout)[0] + np.eye(layout.num_joints)
    for partition in (graph.spatial(layout), graph.stgcn_spatial(layout)):
        np.testing.assert_array_equal((partition > 0).sum(0), edges)
    np.testing.assert_allclose(graph.stgcn_spatial(layout).sum((0, 1)), 1)
