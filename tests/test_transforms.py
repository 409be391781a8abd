"""Transforms of batches: the properties that they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skag.skeleton import transforms
from skag.skeleton.layouts import STREAMS, Layout, load_layout

from .helpers.bodies import person

NTU = load_layout("nturgb+d")


def stream_of(clip: np.ndarray, layout: Layout, stream: str, **options: object) -> np.ndarray:
    """A stream of one recording `[M, T, V, C]`."""
    frames = torch.from_numpy(np.ascontiguousarray(clip.swapaxes(0, 1)))[None]
    return transforms.to_stream(frames, layout, stream, **options)[0].numpy().swapaxes(0, 1)


def test_bones_add_up_to_joints() -> None:
    clip = person(NTU, np.random.default_rng(2))
    bones = clip - clip[:, :, NTU.bone_parents]
    np.testing.assert_array_equal(stream_of(clip, NTU, "b"), bones)
    for joint in range(NTU.num_joints):
        total, at = np.zeros_like(clip[:, :, 0]), joint
        while NTU.bone_parents[at] != at:
            total, at = total + bones[:, :, at], NTU.bone_parents[at]
        np.testing.assert_allclose(total + clip[:, :, at], clip[:, :, joint], atol=1e-5)


def test_gathering_reads_between_frames_and_never_a_neighbour() -> None:
    rows = torch.arange(9.0).view(9, 1, 1, 1)  # clips of 4, 1 and 4 frames
    frames = torch.tensor([4, 1, 4])
    first = torch.tensor([0, 4, 5])
    whole = transforms.stretch_positions(frames, 7, torch.zeros(3), torch.ones(3))
    read = transforms.gather_frames(rows, first, frames, whole)[:, :, 0, 0, 0]
    expected = [[0, 0.5, 1, 1.5, 2, 2.5, 3], [4] * 7, [5, 5.5, 6, 6.5, 7, 7.5, 8]]
    np.testing.assert_allclose(read, expected, atol=1e-5)
    part = transforms.stretch_positions(frames, 3, torch.full((3,), 1 / 3), torch.full((3,), 1.0))
    assert transforms.gather_frames(rows, first, frames, part)[0, :, 0, 0, 0].tolist() == pytest.approx([1, 2, 3])


def test_rotations_keep_lengths_and_turn_the_right_way() -> None:
    turn = transforms.rotation_matrices(torch.tensor([[0.0, math.pi / 2, 0.0], [0.3, -1.0, 2.0]]))
    np.testing.assert_allclose(turn @ turn.transpose(1, 2), np.eye(3)[None].repeat(2, 0), atol=1e-6)
    np.testing.assert_allclose(turn[0] @ torch.tensor([0.0, 0.0, 1.0]), [1, 0, 0], atol=1e-6)
    assert torch.linalg.det(turn).tolist() == pytest.approx([1, 1])


def test_mirroring_twice_changes_nothing_and_once_swaps_sides() -> None:
    x = torch.from_numpy(person(NTU, np.random.default_rng(4)))
    once = transforms.mirror(x, NTU)
    assert torch.equal(transforms.mirror(once, NTU), x)
    left, right = NTU.index["left hand"], NTU.index["right hand"]
    assert torch.equal(once[..., left, 0], -x[..., right, 0])
    assert torch.equal(once[..., left, 1:], x[..., right, 1:])


@pytest.mark.parametrize("stream", STREAMS)
def test_streams_commute_with_the_mirror(stream: str) -> None:
    """Mirrored joints and mirrored bones are the same."""
    layout = load_layout("kinect-v1")
    clip = np.random.default_rng(5).normal(size=(1, 6, 20, 3)).astype(np.float32)
    mirrored = transforms.mirror(torch.from_numpy(clip), layout).numpy()
    before = stream_of(mirrored, layout, stream)
    after = transforms.mirror(torch.from_numpy(stream_of(clip, layout, stream)), layout).numpy()
    np.testing.assert_allclose(before, after, atol=1e-6)


@given(st.integers(1, 400), st.integers(1, 120), st.integers(0, 2**31))
def test_sampled_frames_are_in_range_and_in_order_until_they_wrap(frames: int, num_frames: int, seed: int) -> None:
    draw = torch.rand(3, num_frames + 1, generator=torch.Generator().manual_seed(seed))
    positions = transforms.uniform_positions(torch.tensor([frames, 1, 2 * num_frames]), num_frames, draw)
    assert positions.shape == (3, num_frames)
    for length, row in zip((frames, 1, 2 * num_frames), positions.tolist(), strict=True):
        assert min(row) >= 0 and max(row) < length
        steps = np.diff(row)
        if length >= num_frames:
            assert (steps > 0).all()
        else:
            assert (steps[steps <= 0] == 1 - length).all()


@pytest.mark.parametrize("num_frames", [1, 3, 32, 100])
@pytest.mark.parametrize("num_clips", [1, 2, 3, 8])
def test_any_drawn_mixture_fits_its_batch(num_clips: int, num_frames: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.arange(num_clips, dtype=torch.float).view(-1, 1, 1, 1, 1).expand(-1, 2, num_frames, 25, 3)
    averaged = 0
    for _ in range(60):
        draw = transforms.draw_mix(num_clips, 5, num_frames, generator)
        averaged += not draw.parts
        mixed, weight = transforms.mix(x, NTU, draw)
        assert 0 <= weight <= 1
        assert num_clips < 3 or (draw.partner != torch.arange(num_clips)).all()
        share = x * (1 - weight) + x[draw.partner] * weight  # every joint counts the same, as in the labels
        torch.testing.assert_close(mixed.mean((1, 2, 3, 4)), share.mean((1, 2, 3, 4)))
    assert 5 <= averaged <= 30


@given(st.integers(1, 100), st.integers(1, 100))
def test_stretching_takes_the_frames_that_interpolation_takes(source: int, length: int) -> None:
    x = torch.arange(100.0).view(1, 1, 100, 1, 1).expand(2, 1, 100, 25, 3)
    draw = transforms.MixDraw(torch.tensor([1, 0]), (0,), 0, length, 100 - source, source)
    mixed, _ = transforms.mix(x, NTU, draw)
    expected = torch.nn.functional.interpolate(x[:1, 0, 100 - source :, 0, 0].unsqueeze(0), size=length)
    assert torch.equal(mixed[0, 0, :length, 0, 0], expected[0, 0])
