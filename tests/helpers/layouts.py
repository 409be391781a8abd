"""Joint layouts that nobody has."""

from __future__ import annotations

from hypothesis import strategies as st

from skag.skeleton.layouts import Layout


@st.composite
def random_layouts(draw: st.DrawFn) -> Layout:
    """A random tree in random joint order, some joints in left and right pairs."""
    pairs, middles = draw(st.integers(0, 5)), draw(st.integers(1, 5))
    joints = [f"{side} j{i}" for i in range(pairs) for side in ("left", "right")] + [f"m{i}" for i in range(middles)]
    joints = draw(st.permutations(joints))
    bones = {joint: joints[draw(st.integers(0, i - 1))] for i, joint in enumerate(joints) if i}
    return Layout("random", 3, tuple(draw(st.permutations(joints))), bones, joints[0], {"all": tuple(joints)})
