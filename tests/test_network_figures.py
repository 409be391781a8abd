"""Figures of networks: learned graphs, embeddings beside sentences, critical joints."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

from skag.methods.skeleton_agent import network_figures
from skag.methods.skeleton_agent.network_figures import critical_joints_figure, embedding_figure, topology_figure
from skag.methods.skeleton_agent.refreshes import Snapshot
from skag.results import figures
from skag.skeleton.layouts import load_layout

from .helpers.figures import texts


def snapshot(epoch: int, pull: float, num_classes: int = 3, count: int = 30, text: float = 1.0) -> Snapshot:
    """Clips that lie around their class's sentence, the nearer the stronger the pull."""
    rng = np.random.default_rng(0)
    sentences = text * np.eye(num_classes, 16, dtype=np.float32)
    labels = np.arange(count) % num_classes
    embeddings = (pull * sentences[labels] + 0.1 * rng.normal(size=(count, 16))).astype(np.float16)
    joints = np.zeros((num_classes, 20), np.uint8)
    return Snapshot(epoch, sentences, sentences, joints, joints, embeddings, labels, np.arange(count))


def test_the_learned_graph_is_named_on_both_axes_with_its_blocks(tmp_path, drawn):
    layout = load_layout("nturgb+d")
    graphs = np.random.default_rng(0).normal(size=(9, 25, 25))
    topology_figure(graphs, layout.joints, tmp_path / "topology.png")
    found = texts(drawn[0])
    assert [found.count(joint) for joint in layout.joints] == [2] * 25
    assert {f"block {number}" for number in range(1, 10)} <= set(found)
    np.testing.assert_allclose(drawn[0].axes[0].images[0].get_array(), graphs.mean(axis=0))
    low, high = drawn[0].axes[0].images[0].get_clim()
    assert low + high == pytest.approx(2 * graphs.mean())  # the mean has the colour in the middle


def test_a_graph_of_nothing_and_of_many_joints_is_drawn(tmp_path, drawn):
    topology_figure(np.zeros((1, 3, 3)), ["a", "b", "c"], tmp_path / "nothing.png")
    topology_figure(np.ones((2, 133, 133)), [f"joint {v}" for v in range(133)], tmp_path / "many.png")
    assert "joint 5" not in texts(drawn[1]) and "101" in texts(drawn[1])  # numbers, every fifth


def test_embeddings_of_epochs_stand_beside_their_sentences(tmp_path, drawn):
    snapshots = [snapshot(0, 0.0), snapshot(5, 1.0)]
    embedding_figure(snapshots, ["walk", "sit down", "$x$"], [0, 1], tmp_path / "embeddings.png")
    found = texts(drawn[0])
    assert any(text.startswith("before training") for text in found)
    assert any(text.startswith("epoch 5: 100 % of clips") for text in found)
    assert {"1 walk", "2 sit down", "other classes", "sentence of a class"} <= set(found)
    first, second = drawn[0].axes
    assert len(first.collections) == len(second.collections) == 1 + 2 + 2  # others, two classes, two sentences


def test_clips_of_the_classes_shown_are_never_left_out(tmp_path, drawn):
    many = snapshot(5, 1.0, num_classes=200, count=2000)
    many = Snapshot(**{**vars(many), "text": np.ones((200, 16)), "text_before": np.random.rand(200, 16)})
    embedding_figure([many], [str(k) for k in range(200)], [3, 7], tmp_path / "embeddings.png")
    others, first, second, *_ = drawn[0].axes[0].collections
    assert (len(first.get_offsets()), len(second.get_offsets())) == (10, 10)
    assert len(others.get_offsets()) == network_figures._MOST_POINTS - 20


def test_embeddings_of_a_handful_of_equal_clips_are_drawn(tmp_path):
    embedding_figure([snapshot(0, 1.0, count=2, text=0.0)], ["a", "b", "c"], [0, 1, 2], tmp_path / "embeddings.png")
    assert (tmp_path / "embeddings.png").stat().st_size


def test_critical_joints_are_marked_and_up_is_up(tmp_path, drawn):
    layout = load_layout("kinect-v1")
    mask = np.zeros((2, 20))
    mask[0, [layout.index["head"], layout.index["right hand"]]] = 1
    poses = np.zeros((2, 20, 3))
    poses[:, layout.index["head"], 1] = 1
    critical_joints_figure(layout, ["throw", "wait"], mask, poses, tmp_path / "joints.png")
    key, throw, wait = drawn[0].axes
    names = [text.get_text() for text in key.texts]
    assert sorted(names) == sorted(f"{number} {joint}" for number, joint in enumerate(layout.joints, 1))
    assert (throw.get_title(), wait.get_title()) == ("throw", "wait")
    head, hand = sorted(throw.collections[2].get_offsets(), key=lambda point: -point[1])
    assert head[1] > hand[1]
    assert len(wait.collections[2].get_offsets()) == 0


def test_up_follows_the_layout_of_image_coordinates(tmp_path, drawn):
    layout = load_layout("coco")
    assert layout.up == "-y"
    pose = np.zeros((1, 17, 2))
    pose[0, 0] = [0, -1]  # a smaller row of the image lies higher
    critical_joints_figure(layout, ["a"], np.eye(17)[[0]] + np.eye(17)[[9]], pose, tmp_path / "joints.png")
    nose, wrist = drawn[0].axes[1].collections[2].get_offsets()
    assert nose[1] > wrist[1]


@pytest.mark.parametrize("fill", [np.nan, 0.0])
def test_a_pose_with_nothing_in_it_is_still_drawn(fill, tmp_path):
    critical_joints_figure(
        load_layout("coco"), ["a"], np.ones((1, 17)), np.full((1, 17, 2), fill), tmp_path / "joints.png"
    )
    assert (tmp_path / "joints.png").stat().st_size


@pytest.mark.long
def test_of_many_classes_sixty_bodies_are_drawn_and_said_to_be(tmp_path, drawn):
    layout, poses = load_layout("coco"), np.random.default_rng(0).random((70, 17, 2))
    names = [f"class {k}" for k in range(70)]
    critical_joints_figure(layout, names, np.ones((70, 17)), poses, tmp_path / "joints.png", total=400)
    assert len(drawn[0].axes) == 61
    assert any("60 most confused of 400" in text for text in texts(drawn[0]))
    height, width = imread(tmp_path / "joints.png").shape[:2]
    assert max(height, width) < 4000


@pytest.mark.parametrize("heights", [[1.0, 1.0, 1.0], [0.9, 0.88, 0.1, 0.09], [0.5]])
def test_spread_names_keep_their_distance_and_order(heights):
    spread = figures._spread(heights, 0.1)
    assert np.all(-np.diff(spread) >= 0.1 - 1e-12)
    assert np.mean(spread) == pytest.approx(np.mean(heights))
