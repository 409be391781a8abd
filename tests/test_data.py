"""Held-out validation, and batches that are what their clips are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skag.config import AugmentConfig, DataConfig
from skag.errors import DataError
from skag.methods.skeleton_agent.network import ModelConfig, Recogniser
from skag.skeleton import clips as data
from skag.skeleton import transforms
from skag.skeleton.layouts import STREAMS, Layout, load_layout
from skag.skeleton.sided_names import mirrored_classes, tells_sides
from skag.skeleton.store import Clip, SkeletonStore, write_store
from skag.training.batches import epoch_order, hold_out, training_batches

from .helpers.layouts import random_layouts

CPU = torch.device("cpu")
CONFIG = DataConfig(num_frames=8, num_bodies=1)


def test_whole_subjects_are_held_out(tiny_store: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        numbers = store.splits["xsub_train"]
        seen = set()
        for seed in range(6):
            training, validation = hold_out(store, numbers, 0.25, seed)
            held = set(store.subjects[validation])
            assert sorted([*training, *validation]) == sorted(numbers)
            assert len(held) == 1 and not held & set(store.subjects[training])
            seen |= held
            again = hold_out(store, numbers, 0.25, seed)
            assert np.array_equal(again[1], validation)
        assert len(seen) > 1


def store_of(path: Path, labels: list[int], subjects: list[int]) -> SkeletonStore:
    rng = np.random.default_rng(0)
    with write_store(path, load_layout("coco")) as writer:
        for number, (label, subject) in enumerate(zip(labels, subjects, strict=True)):
            clip = rng.uniform(1, 2, (1, 3, 17, 2)).astype(np.float32)
            writer.add(Clip(str(number), label, clip, subject=subject, splits=("train",)))
        writer.finish([str(label) for label in range(max(labels) + 1)])
    return SkeletonStore(path)


def test_without_subjects_every_class_gives_its_share(tmp_path: Path) -> None:
    with store_of(tmp_path / "a.h5", [0] * 20 + [1] * 10 + [2], [-1] * 31) as store:
        training, validation = hold_out(store, np.arange(31), 0.1, 0)
    assert np.bincount(store.labels[validation], minlength=3).tolist() == [2, 1, 0]
    assert len(training) == 28


def test_a_subject_who_alone_shows_a_class_is_not_held_out(tmp_path: Path) -> None:
    with store_of(tmp_path / "a.h5", [0, 1, 0, 1, 0, 2], [1, 1, 2, 2, 3, 3]) as store:
        for seed in range(5):
            training, _ = hold_out(store, np.arange(6), 0.3, seed)
            assert set(store.labels[training]) == {0, 1, 2}


def test_too_few_clips_are_refused(tmp_path: Path) -> None:
    with store_of(tmp_path / "a.h5", [0, 1], [-1, -1]) as store, pytest.raises(DataError, match="too small"):
        hold_out(store, np.arange(2), 0.1, 0)


def test_absent_and_surplus_bodies(tmp_path: Path) -> None:
    layout = load_layout("kinect-v1")
    clip = np.random.default_rng(0).normal(size=(3, 4, 20, 3)).astype(np.float32)
    two = data.prepare_clip(clip, None, layout, DataConfig(num_bodies=2))
    assert two.shape == (4, 2, 20, 3) and two[:, 1].any()
    alone = data.prepare_clip(clip[:1], None, layout, DataConfig(num_bodies=2))
    assert not alone[:, 1].any()
    np.testing.assert_array_equal(alone[:, 0], two[:, 0])


def test_every_training_clip_is_shown_as_often_as_asked(tiny_store: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        clips = data.prepare(store, store.splits["xsub_train"], CONFIG, CPU)
        generator = torch.Generator().manual_seed(0)
        batches = list(training_batches(clips, CONFIG, AugmentConfig(), 10, 3, generator))
    labels = torch.cat([batch.labels for batch in batches])
    assert torch.equal(labels.bincount(), 3 * clips.labels.bincount())
    assert batches[0].x.shape == (10, 1, 8, 20, 3)


def test_batches_repeat_for_a_generator_state_and_differ_between_epochs(tiny_store: Path) -> None:
    augment = AugmentConfig(heading=1, tilt=0.1, scale=0.1, mirror=0.5, shortest_part=0.5)
    with SkeletonStore(tiny_store) as store:
        clips = data.prepare(store, store.splits["xsub_train"], CONFIG, CPU)
        first, again = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)

        def epoch(generator: torch.Generator) -> torch.Tensor:
            batches = training_batches(clips, CONFIG, augment, 16, 1, generator)
            return torch.cat([batch.x for batch in batches])

        one = epoch(first)
        assert torch.equal(one, epoch(again))
        assert not torch.equal(one, epoch(first))


def test_names_are_mirrored_with_clips() -> None:
    names = ["raise left hand", "Raise Right Hand", "jump", "LEFT_kick", "right_kick", "bright lefty", "step right"]
    assert mirrored_classes(names) == [1, 0, 2, 4, 3, 5, -1]
    assert tells_sides(names) and not tells_sides(["bright lefty", "jump"])


def test_a_mirrored_clip_of_the_left_is_one_of_the_right(tmp_path: Path) -> None:
    """Every clip is to be mirrored: those of sides get the other's label, those without a counterpart stay as they
    are, and joints say the same as labels."""
    augment = AugmentConfig(mirror=1.0)
    with store_of(tmp_path / "a.h5", [0, 1, 2, 3], [1, 2, 3, 4]) as store:
        store.classes = ["raise left hand", "raise right hand", "jump", "kick left"]
        clips = data.prepare(store, np.arange(4), CONFIG, CPU)
        (batch,) = training_batches(clips, CONFIG, augment, 4, 1, torch.Generator().manual_seed(0))
        order = torch.randperm(4, generator=torch.Generator().manual_seed(0))
        assert batch.labels.tolist() == [{0: 1, 1: 0, 2: 2, 3: 3}[k] for k in order.tolist()]
        plain = torch.cat(list(data.test_batches(clips, CONFIG, 4)))[:, 0]
        as_recorded = [bool(torch.allclose(x, plain[k])) for x, k in zip(batch.x, order, strict=True)]
        assert as_recorded == [k == 3 for k in order.tolist()]
        assert clips.at(np.array([3, 0])).mirrored.tolist() == [-1, 1]


def test_without_augmentation_training_sees_what_testing_sees(tiny_store: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        clips = data.prepare(store, store.splits["xsub_test"], CONFIG, CPU)
        chosen = torch.arange(len(clips))
        draw = torch.rand(len(clips), data.num_draws(CONFIG, AugmentConfig(), clips.layout))
        plain = data.augmented(clips, chosen, CONFIG, AugmentConfig(), draw)
    tested = torch.cat(list(data.test_batches(clips, CONFIG, 5)))
    assert tested.shape == (16, 1, 1, 8, 20, 3)
    torch.testing.assert_close(tested[:, 0], plain)


def test_views_are_different_parts_of_the_clip(tiny_store: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        clips = data.prepare(store, store.splits["xsub_test"], CONFIG, CPU)
    views = torch.cat(list(data.test_batches(clips, CONFIG, 7, num_views=3)))
    assert views.shape == (16, 3, 1, 8, 20, 3)
    assert not torch.allclose(views[:, 0], views[:, 2])


def test_mirror_views_follow_the_views(tiny_store: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        clips = data.prepare(store, store.splits["xsub_test"], CONFIG, CPU)
    config = dataclasses.replace(CONFIG, mirror_views=True)
    views = torch.cat(list(data.test_batches(clips, config, 7, num_views=2)))
    assert views.shape == (16, 4, 1, 8, 20, 3)
    assert torch.equal(transforms.mirror(views[:, :2], clips.layout), views[:, 2:])


# ---------------------------------------------------------------- any layout, any clip


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Layout, np.ndarray]:
    """A random layout, flat or not, and a recording of up to five bodies in it, some joints or all of them missing."""
    layout = dataclasses.replace(draw(random_layouts()), dims=draw(st.sampled_from([2, 3])))
    shape = draw(st.integers(1, 5)), draw(st.integers(1, 12)), layout.num_joints, layout.dims
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    clip = rng.normal(size=shape) * draw(st.sampled_from([0, 1, 1, 1]))
    return layout, (clip * (rng.random(shape[:3]) < draw(st.sampled_from([0.5, 1])))[..., None]).astype(np.float32)


def as_clips(layout: Layout, clip: np.ndarray, config: DataConfig) -> data.Clips:
    rows = torch.from_numpy(data.prepare_clip(clip, None, layout, config))
    widths = torch.tensor([640.0]) if config.pixels else None
    return data.Clips(rows, torch.tensor([0]), torch.tensor([len(rows)]), torch.tensor([0]), widths, layout)


@settings(deadline=None, max_examples=60)
@given(
    recordings(),
    st.sampled_from(STREAMS),
    st.sampled_from(["stretch", "uniform-decode", "uniform-frames"]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_any_recording_reaches_the_network(
    recording: tuple[Layout, np.ndarray], stream: str, sampling: str, pixels: bool, seed: int
) -> None:
    """Clips of one frame, of zeros, of five bodies: everything in between is finite and has the promised shape."""
    layout, clip = recording
    config = DataConfig(
        stream=stream, num_frames=6, num_bodies=2, sampling=sampling, pixels=pixels, stand_upright=True,
        face_forward=True, unit_height=True, mirror_views=True,
    )  # fmt: skip
    clips = as_clips(layout, clip, config)
    augment = AugmentConfig(heading=3, tilt=0.3, scale=0.3, mirror=0.5, part_drop=0.5, shortest_part=0.5)
    draw = torch.rand(1, data.num_draws(config, augment, layout), generator=torch.Generator().manual_seed(seed))
    trained = data.augmented(clips, torch.tensor([0]), config, augment, draw)
    tested = next(data.test_batches(clips, config, 4, num_views=3))
    assert trained.shape == (1, 2, 6, layout.num_joints, 3) and trained.isfinite().all()
    assert tested.shape == (1, 6, 2, 6, layout.num_joints, 3) and tested.isfinite().all()
    torch.manual_seed(0)
    shape = ModelConfig(3, layout.num_joints, 2, channels=(8,), strides=(1,), embedding_dim=4)
    with torch.inference_mode():
        assert Recogniser(shape).eval()(trained).class_logits.isfinite().all()


@settings(deadline=None, max_examples=60)
@given(recordings(), st.sampled_from(STREAMS), st.floats(-3, 3))
def test_rotation_keeps_bone_lengths(recording: tuple[Layout, np.ndarray], stream: str, angle: float) -> None:
    layout, clip = recording
    layout, clip = dataclasses.replace(layout, dims=3), np.resize(clip, (*clip.shape[:3], 3))
    joints = torch.from_numpy(clip.swapaxes(0, 1).copy())[None]
    turn = transforms.rotation_matrices(torch.tensor([[angle, -angle / 2, 0.7]]))
    turned = torch.einsum("nij,ntmvj->ntmvi", turn, joints)
    before, after = (transforms.to_stream(x, layout, stream).norm(dim=-1) for x in (joints, turned))
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)


@settings(deadline=None, max_examples=60)
@given(recordings(), st.sampled_from(["reflect", "swap"]), st.booleans())
def test_mirroring_twice_changes_nothing(recording: tuple[Layout, np.ndarray], kind: str, pixels: bool) -> None:
    layout, clip = recording
    joints = torch.from_numpy(clip.swapaxes(0, 1).copy())[None].double()
    joints = (joints * 256).round() + 300 * (joints != 0)  # whole pixels within the image, missing ones at 0
    widths = torch.tensor([5000.0]) if pixels else None
    once = transforms.mirror(joints, layout, kind, widths)
    assert torch.equal(transforms.mirror(once, layout, kind, widths), joints)


@settings(deadline=None, max_examples=30)
@given(recordings(), st.booleans())
def test_the_order_of_bodies_does_not_change_the_logits(recording: tuple[Layout, np.ndarray], joint: bool) -> None:
    """As long as the first norm's statistics are alike for all bodies, as they are in a new network."""
    layout, clip = recording
    config = DataConfig(num_frames=6, num_bodies=5)
    x = next(data.test_batches(as_clips(layout, clip, config), config, 1))[:, 0]
    torch.manual_seed(0)
    shape = ModelConfig(3, layout.num_joints, 5, channels=(8,), strides=(1,), joint_embedding=joint, embedding_dim=4)
    model = Recogniser(shape).double().eval()
    with torch.inference_mode():
        one, other = model(x.double()), model(x.double()[:, [3, 0, 4, 1, 2]])
    for name in ("class_logits", "constraint_logits", "embedding"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=1e-9, rtol=0)


@pytest.mark.parametrize("balance, wanted", [(0.0, [80, 16, 4]), (0.5, [60, 27, 13]), (1.0, [33, 33, 33])])
def test_rare_classes_are_shown_as_often_as_the_balance_says(balance: float, wanted: list[int]) -> None:
    labels = torch.tensor([0] * 80 + [1] * 16 + [2] * 4)
    orders = [epoch_order(labels, 3, balance, torch.Generator().manual_seed(seed)) for seed in range(4)]
    for order in orders:
        assert len(order) == 300
        shown = order.bincount(minlength=100)
        for label, percent in enumerate(wanted):
            own = shown[labels == label]
            assert int(own.sum()) == pytest.approx(3 * percent, abs=6)
            assert own.max() - own.min() <= 1  # every clip of a class as often as the next, but for rounding
    assert not torch.equal(orders[0], orders[1])
    again = epoch_order(labels, 3, balance, torch.Generator().manual_seed(0))
    assert torch.equal(orders[0], again)


def test_clips_that_do_not_fit_stay_in_host_memory(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device "meta" holds no values: what arrives there was read elsewhere."""
    with SkeletonStore(tiny_store) as store:
        numbers = store.splits["xsub_train"]
        monkeypatch.setattr("skag.skeleton.clips.fits", lambda num_bytes, device: False)
        clips = data.prepare(store, numbers, DataConfig(num_frames=8, stream="jm"), torch.device("meta"))
    assert clips.rows.device.type == "cpu" and clips.device.type == "meta"
    config = DataConfig(num_frames=8, stream="jm", mirror_views=True)
    augment = AugmentConfig(heading=0.3, scale=0.1, mirror=0.5, part_drop=0.2)
    chosen, draw = torch.arange(4), torch.rand(4, data.num_draws(config, augment, clips.layout))
    x = data.augmented(clips, chosen, config, augment, draw)
    assert x.device.type == "meta" and x.shape == (4, 2, 8, 20, 3)
    assert next(iter(data.test_batches(clips, config, 5, 2))).shape == (5, 4, 2, 8, 20, 3)


def test_on_a_gpu_clips_may_take_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 4000))
    assert data.fits(500, torch.device("cuda")) and not data.fits(501, torch.device("cuda"))
    assert data.fits(10**15, torch.device("cpu"))
