"""Layouts: the shipped ones are sound, and agree with the published graphs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from skag.errors import DataError
from skag.skeleton.layouts import Layout, layout_names, load_layout

from .helpers.layouts import random_layouts

LAYOUTS = [load_layout(name) for name in layout_names()]
each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)


def joints_from_bones(parents: np.ndarray, bones: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Walk from every joint to its root, summing bones; only the roots are read from `points`."""
    joints = np.empty_like(bones)
    for v in range(len(parents)):
        total, at = np.zeros_like(points[0]), v
        for _ in parents:
            if parents[at] == at:
                break
            total, at = total + bones[at], parents[at]
        else:
            pytest.fail(f"joint {v} does not lead to a root")
        joints[v] = points[at] + total
    return joints


def check_sound(layout: Layout) -> None:
    points = np.random.default_rng(0).normal(size=(layout.num_joints, layout.dims))
    tree = np.array([layout.index[layout.bones.get(joint, joint)] for joint in layout.joints])
    for parents in (tree, layout.bone_parents):
        back = joints_from_bones(parents, points - points[parents], points)
        np.testing.assert_allclose(back, points, atol=1e-12)
    mirror = layout.mirror_index
    assert (mirror[mirror] == np.arange(layout.num_joints)).all()
    assert sorted(np.concatenate(list(layout.part_index.values()))) == list(range(layout.num_joints))
    assert Layout.from_dict(json.loads(layout.to_json())) == layout


@each_layout
def test_shipped_layouts_are_sound(layout: Layout) -> None:
    check_sound(layout)
    whole = {"trunk", "left arm", "right arm", "left leg", "right leg"}
    if not layout.name.startswith("mediapipe-hand"):
        assert set(layout.parts) - {"face"} == whole


@given(random_layouts())
def test_any_tree_is_sound(layout: Layout) -> None:
    check_sound(layout)


@each_layout
def test_the_mirror_swaps_sides_and_keeps_the_tree(layout: Layout) -> None:
    for v, w in enumerate(layout.mirror_index):
        one, other = layout.joints[v], layout.joints[w]
        assert (one == other) == (not one.startswith(("left ", "right ")))
        assert {one.split(" ")[0], other.split(" ")[0]} == {"left", "right"} or one == other
    mirror = layout.mirror_index
    if layout.name != "uav":  # whose published bone stream favours the right side
        assert (layout.bone_parents[mirror] == mirror[layout.bone_parents]).all()
    tree = np.array([layout.index[layout.bones.get(joint, joint)] for joint in layout.joints])
    assert (tree[mirror] == mirror[tree]).all()


@each_layout
def test_numbered_lists_joints_from_1(layout: Layout) -> None:
    lines = layout.numbered().split("\n")
    assert lines[0] == f"1-{layout.joints[0]}" and lines[-1] == f"{layout.num_joints}-{layout.joints[-1]}"
    assert len(lines) == layout.num_joints


@each_layout
def test_a_bone_is_critical_where_an_end_is(layout: Layout) -> None:
    mask = np.eye(layout.num_joints)
    assert (layout.stream_mask(mask, "j") == mask).all() and (layout.stream_mask(mask, "jm") == mask).all()
    for stream, parents in (("b", layout.bone_parents), ("km", layout.kbone_parents)):
        seen = layout.stream_mask(mask, stream)
        for v in range(layout.num_joints):
            assert set(np.flatnonzero(seen[:, v])) == {v, parents[v]}


def test_derived_joints_are_means_of_recorded_ones() -> None:
    layout = load_layout("coco-17+3")
    recorded = np.random.default_rng(0).normal(size=(2, 5, 17, 2)).astype(np.float32)
    full = layout.extend(recorded, 2)
    assert full.shape == (2, 5, 20, 2) and full.dtype == np.float32
    np.testing.assert_array_equal(full[:, :, :17], recorded)
    shoulders, hips = recorded[:, :, 5:7].mean(2), recorded[:, :, 11:13].mean(2)
    np.testing.assert_allclose(full[:, :, 17:], np.stack([hips, (hips + shoulders) / 2, shoulders], 2), atol=1e-6)
    assert layout.extend(recorded[..., 0], 2).shape == (2, 5, 20)


def test_a_layout_of_ones_own_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "stick.toml"
    path.write_text(
        'name = "stick"\ndims = 2\njoints = ["a", "left b", "right b"]\ncentre = "a"\n'
        '[bones]\n"left b" = "a"\n"right b" = "a"\n[parts]\nall = ["a", "left b", "right b"]\n'
    )
    layout = load_layout(path)
    assert layout.num_joints == 3 and layout.mirror_index.tolist() == [0, 2, 1]
    check_sound(layout)


GOOD = {"dims": 2, "joints": ("a", "b"), "bones": {"b": "a"}, "centre": "a", "parts": {"all": ("a", "b")}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dims": 4}, "dims is 4"),
        ({"joints": ("a", "b", "b")}, "listed twice"),
        ({"centre": "c"}, "'c' is no joint"),
        ({"bones": {}}, "2 joints have no parent"),
        ({"bones": {"a": "b", "b": "a"}}, "0 joints have no parent"),
        ({"parts": {"all": ("a",)}}, "exactly one of `parts`"),
        ({"up": "w"}, "up is 'w'"),
    ],
)
def test_unsound_layouts_are_refused_with_the_field(change: dict, said: str) -> None:
    assert Layout("good", **GOOD).root == "a"
    with pytest.raises(DataError, match=said):
        Layout("bad", **{**GOOD, **change})


def test_a_ring_is_refused() -> None:
    with pytest.raises(DataError, match="ring"):
        Layout("bad", 2, ("a", "b", "c"), {"b": "c", "c": "b"}, "a", {"all": ("a", "b", "c")})


@pytest.mark.parametrize(
    ("text", "said"),
    [("name = ", "no valid TOML"), ('name = "x"', "is missing"), ("nome = 1", "unknown field 'nome'")],
)
def test_bad_layout_files_are_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        load_layout(path)
    assert "bad.toml" in str(caught.value)


def test_an_unknown_name_is_answered_with_the_known() -> None:
    with pytest.raises(DataError, match=r"no layout 'cocoa': use one of body-25, coco, .*nturgb\+d"):
        load_layout("cocoa")


WRONG_TYPES = {
    "joints": 'joints = 5\nname = "x"\ndims = 2\ncentre = "a"\n[bones]\n[parts]\nall = ["a"]\n',
    "bones": 'bones = ["a"]\nname = "x"\ndims = 2\ncentre = "a"\njoints = ["a"]\n[parts]\nall = ["a"]\n',
    "parts": 'parts = 1\nname = "x"\ndims = 2\ncentre = "a"\njoints = ["a"]\n[bones]\n',
    "up": 'up = 1\nname = "x"\ndims = 2\ncentre = "a"\njoints = ["a"]\n[bones]\n[parts]\nall = ["a"]\n',
    "centre": 'centre = ["a"]\nname = "x"\ndims = 2\njoints = ["a"]\n[bones]\n[parts]\nall = ["a"]\n',
}


@pytest.mark.parametrize("field", WRONG_TYPES)
def test_a_field_of_the_wrong_type_is_refused(tmp_path: Path, field: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(WRONG_TYPES[field])
    with pytest.raises(DataError):
        load_layout(path)


def test_layouts_compare_by_value() -> None:
    assert replace(LAYOUTS[0]) == LAYOUTS[0]


def test_the_published_form_of_masks_of_bones() -> None:
    """A slow copy of what tools/text/cls_matrix.py does: a bone's number is its place in the published list."""
    ntu = load_layout("nturgb+d")
    order = [*range(20), 21, 20, 22, 23, 24]  # the list's: (21, 22) stands before (20, 20)
    rng = np.random.default_rng(0)
    mask = (rng.random((50, 25)) < 0.2).astype(np.uint8)
    for stream, parents in (("b", ntu.bone_parents), ("k", ntu.kbone_parents)):
        wanted = np.zeros_like(mask)
        for row, critical in zip(wanted, mask, strict=True):
            for place, joint in enumerate(order):
                row[place] = critical[joint] or critical[parents[joint]]
        assert (ntu.stream_mask(mask, stream, published=True) == wanted).all()
        assert (ntu.stream_mask(mask, stream) != wanted).any(axis=1).mean() > 0.3
        assert (ntu.stream_mask(mask, stream)[:, order] == wanted).all(), "nothing else differs"
    coco = load_layout("coco-17+3")
    mask = mask[:, :20]
    assert (coco.stream_mask(mask, "b", published=True) == coco.stream_mask(mask, "b")).all()


def test_a_run_takes_the_published_bone_masks_where_it_is_asked_to() -> None:
    from skag.config import override
    from skag.methods.skeleton_agent.agents import Agents
    from skag.recipes import recipe

    ntu = load_layout("nturgb+d")
    config = override(recipe("ntu60-xsub", "b"), ["agents.bone_masks=release"])
    for agents, published in ((config.agents, True), (recipe("ntu60-xsub", "b").agents, False)):
        found = Agents(agents, ntu, 2)
        found.joints = np.eye(25, dtype=np.uint8)[[20, 3]]
        assert (found.mask("b") == ntu.stream_mask(found.joints, "b", published)).all()
