"""Every reference array against what skag computes: for the tests, and `python -m tests.helpers.parity docs/parity.md`.

A comparison is a row: the array's file and name, the largest absolute difference, and what is tolerated. Random draws
are inputs of skag's functions; here they are made as the reference's seeds made them, with the legacy generators of
numpy and Python.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from skag.config import AugmentConfig, DataConfig
from skag.encoders import graph
from skag.encoders.protogcn import noise_graphs
from skag.methods.skeleton_agent.losses import add_confusions, alignment_loss
from skag.methods.skeleton_agent.network import ModelConfig, Recogniser
from skag.methods.skeleton_agent.published import from_published, weight_table
from skag.methods.skeleton_agent.questioner import release_similar_classes
from skag.readers.kinetics import decompress
from skag.skeleton import clips as data
from skag.skeleton import preparation, transforms
from skag.skeleton.layouts import STREAMS, Layout, load_layout

from . import parity_networks
from .golden import golden, published_state

LAYOUTS = {"nturgb+d": "nturgb+d", "coco": "coco", "coco_new": "coco-17+3", "uav": "uav", "openpose": "openpose-18"}
EXACT = 0.0
# The published code centres 16-bit recordings in 16 bits, skag in 32: a step of 16 bits is 0.002 between 2 and 4 m.
HALF = 6e-3


@dataclass(frozen=True)
class Row:
    """One reference array and how far skag is from it."""

    file: str
    array: str
    difference: float
    tolerance: float
    relative: bool = False  # difference is divided by the largest number of the array

    @property
    def holds(self) -> bool:
        return self.difference <= self.tolerance


class Reference:
    """One file of reference arrays; notes every array that is compared."""

    def __init__(self, file: str) -> None:
        self.file, self.arrays = file, golden(file)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def row(self, array: str, ours: object, tolerance: float, *, relative: bool = False, cut: bool = False) -> Row:
        """Compare, `relative` to the array's largest number; `cut` drops what follows the numbers that act."""
        ours = np.asarray(ours.detach() if isinstance(ours, torch.Tensor) else ours, np.float64)
        theirs = np.asarray(self.arrays[array], np.float64)
        if cut:
            theirs = theirs.reshape(-1)[: ours.size].reshape(ours.shape)
        if ours.shape != theirs.shape:
            return Row(self.file, array, float("inf"), tolerance)
        scale = max(float(np.abs(theirs).max()), 1e-12) if relative else 1.0
        return Row(self.file, array, float(np.abs(ours - theirs).max()) / scale, tolerance, relative)


# ---------------------------------------------------------------- network, losses, gradients, optimiser

HEADS = (("class_logits", "cls_score"), ("constraint_logits", "x_1"), ("embedding", "x_2"))


def named_as_published(config: ModelConfig, values: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """skag's weights, or their gradients, under the published names."""
    found = {}
    for weight in weight_table(config):
        if (value := values.get(weight.ours)) is not None:
            found[weight.theirs] = weight.part_of(value).detach().numpy().copy()
    return found


def published_loss(model: Recogniser, reference: Reference) -> dict[str, torch.Tensor]:
    """All outputs of the unmixed half and all loss terms of the published training step, in float64."""
    x = torch.cat([torch.from_numpy(reference[f"train/{name}"]) for name in ("keypoint", "mix_data")]).double()
    labels = torch.from_numpy(reference["train/label"])
    text = torch.from_numpy(reference["train/text_embedding"]).double()
    out = model(x)
    half = len(labels)
    found = {key: getattr(out, ours)[:half] for ours, key in HEADS}
    found["loss_ce"] = F.cross_entropy(found["cls_score"], labels)
    found["loss_mix"] = F.cross_entropy(
        out.class_logits[half:], torch.from_numpy(reference["train/mix_label"]).double()
    )
    found["loss_con"] = F.cross_entropy(found["x_1"], labels)
    found["loss_align"] = alignment_loss(found["x_2"], text, labels, model.alignment_scale, "softmax")
    alpha, beta = reference["train/weights"]
    found["loss_total"] = found["loss_ce"] + found["loss_mix"] + alpha * found["loss_con"] + beta * found["loss_align"]
    return found


def network(file: str) -> Iterator[Row]:
    """One published network: evaluation, a training step with its gradients, and two optimiser steps."""
    reference = Reference(file)
    config, state = from_published(published_state(reference.arrays))
    model = Recogniser(config)
    model.load_state_dict(state)
    model.double().eval()
    clips = torch.from_numpy(reference["eval/keypoint"]).flatten(0, 1)
    with torch.no_grad():
        exact, features = model(clips.double()), model.features(clips[:1].double())
        single = model.float()(clips)
        model.double()
    for ours, key in HEADS:
        yield reference.row(f"eval/{key}_f64", getattr(exact, ours), 1e-9)
        yield reference.row(f"eval/{key}", getattr(single, ours), 1e-5)
    mean = exact.class_logits.softmax(1).view(2, 2, -1).mean(1)
    yield reference.row("eval/prob_mean_over_clips_f64", mean, 1e-9)
    yield reference.row("eval/prob_mean_over_clips", mean, 1e-5)
    yield reference.row("eval/feat_sample0_person0", features[0, 0], 1e-5, relative=True)
    if config.joint_embedding:
        seen = {}
        block = model.blocks[0]
        block.register_forward_hook(lambda _, given, out: seen.update(given=given[0], out=out))
        with torch.no_grad():
            model(clips[:1].double())
        yield reference.row("eval/gcn0_in_sample0_person0", seen["given"][0], 1e-5, relative=True)
        yield reference.row("eval/gcn0_out_sample0_person0", seen["out"][0], 1e-5, relative=True)
    yield from _training(reference, config, model.train())


def _training(reference: Reference, config: ModelConfig, model: Recogniser) -> Iterator[Row]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4, nesterov=True)
    for step in (1, 2):
        found = published_loss(model, reference)
        optimizer.zero_grad()
        found["loss_total"].backward()
        if step == 2:
            yield reference.row("train/loss_total_step2_f64", found["loss_total"], 1e-7, relative=True)
            optimizer.step()
            break
        for key, value in found.items():
            yield reference.row(f"train/{key}_f64", value, 1e-9)
        statistics = named_as_published(config, dict(model.named_buffers()))
        for array in _beginning(reference, "train/after1/", "_f64"):
            yield reference.row(array, statistics[_bare(array, "train/after1/")], 1e-6, relative=True)
        gradients = named_as_published(config, {name: value.grad for name, value in model.named_parameters()})
        norms = [np.linalg.norm(gradients[name]) for name in reference["train/grad_names"].tolist()]
        yield reference.row("train/grad_norm_f64", norms, 1e-7, relative=True)
        largest = float(reference["train/grad_norm_f64"].max())
        for array in _beginning(reference, "train/grad/", "_f64"):
            ours = gradients[_bare(array, "train/grad/")]
            row = reference.row(array, ours, 1e-7, relative=True, cut=True)
            if np.abs(reference[array]).max() < 1e-9 * largest:  # zero in theory, rounding alone in both
                row = reference.row(array, ours, 1e-9 * largest, cut=True)
            yield row
        optimizer.step()
    after = named_as_published(config, dict(model.named_parameters()))
    for array in _beginning(reference, "train/after2/", "_f64"):
        yield reference.row(array, after[_bare(array, "train/after2/")], 1e-7, relative=True, cut=True)


def _beginning(reference: Reference, prefix: str, suffix: str) -> list[str]:
    return [name for name in reference.arrays.files if name.startswith(prefix) and name.endswith(suffix)]


def _bare(array: str, prefix: str) -> str:
    return array.removeprefix(prefix).removesuffix("_f64")


def losses() -> Iterator[Row]:
    """The published alignment loss and its counting of confusions."""
    reference = Reference("losses_stats_text.npz")
    x, t, labels = (torch.from_numpy(reference[f"align/{name}"]) for name in ("x", "t", "label"))
    for name, scale in (("scale2.659", np.log(1 / 0.07)), ("scale10.000", 10.0)):
        both = (reference[f"align/{name}/skeleton"] + reference[f"align/{name}/text"]) / 2
        loss = alignment_loss(x.double(), t.double(), labels, scale, "softmax")
        difference = abs(float(loss) - float(both))
        yield Row(reference.file, f"align/{name} (mean of skeleton and text)", difference, 1e-6)
    counts = torch.zeros(60, 60, dtype=torch.long)
    logits, labels = torch.from_numpy(reference["stats/logits"]), torch.from_numpy(reference["stats/labels"])
    for start in (0, 16, 32):
        batch = slice(start, start + 16)
        add_confusions(counts, labels[batch], logits[batch], "release")
    yield reference.row("stats/H_after_3_batches_of_16", counts, EXACT)
    similar = release_similar_classes(counts.numpy(), 10)
    yield reference.row("stats/class_list", [similar[index] for index in range(60)], EXACT)


# ---------------------------------------------------------------- layouts


def graphs() -> Iterator[Row]:
    """Adjacency, bones and parts of every layout."""
    reference = Reference("graphs.npz")
    for name, ours in LAYOUTS.items():
        layout = load_layout(ours)
        V = layout.num_joints
        yield reference.row(f"{name}/num_node", V, EXACT)
        draw = torch.from_numpy(np.random.RandomState(1234).randn(8, V, V))
        yield reference.row(f"{name}/random", noise_graphs(draw), 1e-12)
        centre = "right shoulder" if name == "uav" else layout.root
        yield reference.row(f"{name}/center", layout.index[centre], EXACT)
        yield reference.row(f"{name}/binary_adj", graph.binary(layout), 1e-12)
        yield reference.row(f"{name}/spatial", graph.spatial(layout), 1e-12)
        yield reference.row(f"{name}/stgcn_spatial", graph.stgcn_spatial(layout, centre), 1e-12)
        edges = layout.edge_index[_order(layout.edge_index, reference[f"{name}/inward"])]
        yield reference.row(f"{name}/inward", edges, EXACT)
        for key, parents in (("bone_pairs", layout.bone_parents), ("kbone_pairs", layout.kbone_parents)):
            if f"{name}/{key}" in reference.arrays:
                children = reference[f"{name}/{key}"][:, 0]
                yield reference.row(f"{name}/{key}", np.stack([children, parents[children]], 1), EXACT)
        for number in range(5):
            if f"{name}/mix_part{number}" in reference.arrays:
                theirs = reference[f"{name}/mix_part{number}"]
                part = next(part for part in layout.part_index.values() if set(theirs) & set(part))
                ordered = [joint for joint in theirs if joint in part] + sorted(set(part) - set(theirs))
                yield reference.row(f"{name}/mix_part{number}", ordered, EXACT)


def _order(ours: np.ndarray, theirs: np.ndarray) -> list[int]:
    """Positions in `ours` of the rows of `theirs` (rows of `theirs` that are missing come out as the first row)."""
    rows = [tuple(row) for row in ours.tolist()]
    return [rows.index(tuple(row)) if tuple(row) in rows else 0 for row in theirs.tolist()]


# ---------------------------------------------------------------- transforms


def joints_first(clip: np.ndarray) -> torch.Tensor:
    """One recording `[M, T, V, C]` as the batch `[1, T, M, V, C]` of skag's transforms."""
    return torch.from_numpy(np.ascontiguousarray(clip.swapaxes(0, 1)))[None]


def bodies_first(x: torch.Tensor) -> np.ndarray:
    """The inverse of `joints_first`."""
    return x[0].numpy().swapaxes(0, 1)


def uniform_draw(
    frames: int, num_frames: int, draws: np.random.RandomState, ratio: tuple[float, float] = (1, 1)
) -> tuple[int, int, torch.Tensor]:
    """(part, offset, draw) that give `uniform_positions` the frames that the published code draws from `draws`."""
    part = int((draws.rand() * (ratio[1] - ratio[0]) + ratio[0]) * frames)
    offset = draws.randint(frames - part + 1)
    draw = np.full(num_frames + 1, 0.5)
    if part < num_frames:
        draw[0] = (draws.randint(0, part) + 0.5) / part
    elif part < 2 * num_frames:
        draw[:] = 1 + np.arange(num_frames + 1)
        draw[draws.choice(num_frames + 1, part - num_frames, replace=False)] -= 1000
    else:
        size = np.diff(np.arange(num_frames + 1) * part // num_frames)
        draw[:-1] = (draws.randint(size) + 0.5) / size
    return part, offset, torch.from_numpy(draw)[None]


def sampled(frames: int, seed: int, ratio: tuple[float, float] = (1, 1)) -> np.ndarray:
    part, offset, draw = uniform_draw(frames, 100, np.random.RandomState(seed), ratio)
    return offset + transforms.uniform_positions(torch.tensor([part]), 100, draw)[0].numpy()


def sampling() -> Iterator[Row]:
    """Frame numbers of training and testing."""
    reference = Reference("transforms_2d_and_sampling.npz")
    for array in reference.arrays.files:
        if found := re.fullmatch(r"UniformSample\w+/train(_pinterval)?/T(\d+)/seed(\d)", array):
            ratio = (0.5, 1) if found[1] else (1, 1)
            yield reference.row(array, sampled(int(found[2]), int(found[3]), ratio), EXACT)
        elif found := re.fullmatch(r"UniformSample(\w+)/test/T(\d+)/clips(\d+)", array):
            options = (int(found[2]), 100, int(found[3]), f"uniform-{found[1].lower()}")
            yield reference.row(array, transforms.test_positions(*options).reshape(-1), EXACT)
        elif found := re.fullmatch(r"\w+/T(\d+)/UniformSampleFrames_train_seed(\d)", array):
            yield reference.row(array, sampled(int(found[1]), int(found[2])), EXACT)
        elif found := re.fullmatch(r"\w+/T(\d+)/UniformSampleFrames_test_clips(\d+)", array):
            positions = transforms.test_positions(int(found[1]), 100, int(found[2]), "uniform-frames")
            yield reference.row(array, positions.reshape(-1), EXACT)


NTU_CASES = ("ntu_a", "ntu_b", "ntu_c", "ntu_swap")
PUBLISHED_LIMBS = ("left arm", "left leg", "right arm", "right leg")  # in the order of the published choice


def centred(raw: np.ndarray, layout: Layout) -> np.ndarray:
    """A recording `[M, T, V, 3]` without its empty frames, the centre of the first one at the origin."""
    x, frames = preparation.seen_frames_first(torch.from_numpy(raw)[None])
    return preparation.centre_on_first_frame(x, layout)[0, :, : int(frames)].numpy()


def transforms_3d() -> Iterator[Row]:
    """Pre-normalisation, streams, rotation, flip and part drop of NTU RGB+D recordings."""
    reference, layout = Reference("transforms_ntu.npz"), load_layout("nturgb+d")
    limbs = [name for name in layout.parts if name != "trunk"]
    for case in NTU_CASES:
        for dtype in ("float16", "float32"):
            prefix, half = f"{case}/{dtype}", dtype == "float16"
            raw = reference[f"{prefix}/raw"].astype(np.float32)
            clip = centred(raw, layout)
            yield reference.row(f"{prefix}/PreNormalize3D_spine0", clip, HALF if half else 1e-6)
            yield reference.row(f"{prefix}/PreNormalize3D_spine0_T", clip.shape[1], EXACT)
            aligned = preparation.align_spine(torch.from_numpy(clip).double()[None], layout)[0].numpy()
            yield reference.row(f"{prefix}/PreNormalize3D_spine1", aligned, 2 * HALF if half else 1e-5)
            yield reference.row(f"{prefix}/PreNormalize3D_spine1_T", aligned.shape[1], EXACT)
            joints = joints_first(reference[f"{prefix}/PreNormalize3D_spine0"].astype(np.float64))  # as they go on
            for stream in STREAMS:
                ours = transforms.to_stream(joints, layout, stream)
                yield reference.row(f"{prefix}/feat_{stream}", bodies_first(ours), HALF if half else 1e-6)
            angles = np.random.RandomState(5).uniform(-0.2, 0.2, size=3)
            turn = transforms.rotation_matrices(-torch.from_numpy(angles)[None])
            turned = bodies_first(torch.einsum("nij,ntmvj->ntmvi", turn, joints))
            yield reference.row(f"{prefix}/RandomRot_theta.2_seed5", turned, 1e-9)
            for seed in range(4):
                flipped = random.Random(seed).random() < 0.5
                ours = transforms.mirror(joints, layout, "swap") if flipped else joints
                yield reference.row(f"{prefix}/Spatial_Flip_seed{seed}", bodies_first(ours), EXACT)
            for name, seed, share in [(f"p1_seed{s}", s, 1.0) for s in (0, 1, 2, 3, 5, 9)] + [("p.2_seed4", 4, 0.2)]:
                choices = random.Random(seed)
                drops = choices.random() < share
                limb = limbs.index(PUBLISHED_LIMBS[choices.randint(0, 3)]) if drops else -1
                ours = transforms.drop_parts(joints, layout, torch.tensor([limb]))
                yield reference.row(f"{prefix}/Part_Drop_{name}", bodies_first(ours), EXACT)
            prepared = data.prepare_clip(raw, None, layout, DataConfig()).swapaxes(0, 1)
            yield reference.row(f"{prefix}/FormatGCNInput", prepared[None], HALF if half else 1e-6)


def transforms_2d() -> Iterator[Row]:
    """Three more joints, flip and streams of recordings in the image plane."""
    reference = Reference("transforms_2d_and_sampling.npz")
    for name, frames in [(name, frames) for name in ("coco_new", "uav") for frames in (30, 140, 230)]:
        layout, prefix = load_layout(LAYOUTS[name]), f"{name}/T{frames}"
        positions = sampled(frames, 0)
        points = layout.extend(reference[f"{prefix}/keypoint"].astype(np.float32), 2)
        score = layout.extend(reference[f"{prefix}/keypoint_score"].astype(np.float32), 2)
        config = DataConfig(pixels=True, num_bodies=len(points))
        clip = data.prepare_clip(points, score, layout, config).swapaxes(0, 1)[:, positions]
        if name == "uav":
            yield reference.row(f"{prefix}/PoseDecode_keypoint", clip[..., :2], EXACT)
            yield reference.row(f"{prefix}/PoseDecode_score", clip[..., 2], EXACT)
        else:
            yield reference.row(f"{prefix}/Kinetics_Transform", clip, 1e-6, relative=True)
            recorded = joints_first(clip[:, :, : layout.num_recorded])
            flipped = bodies_first(transforms.mirror(recorded, load_layout("coco"), widths=torch.tensor([640.0])))
            yield reference.row(f"{prefix}/Flip_ratio1_keypoint", flipped[..., :2], 1e-6, relative=True)
            yield reference.row(f"{prefix}/Flip_ratio1_score", flipped[..., 2], EXACT)
        for stream in STREAMS:
            ours = transforms.to_stream(joints_first(clip), layout, stream, bone_confidence="difference")
            yield reference.row(f"{prefix}/feat_{stream}", bodies_first(ours), 1e-6, relative=True)


def decompression() -> Iterator[Row]:
    """Skeletons by frame to bodies, as Kinetics files have them."""
    reference = Reference("transforms_2d_and_sampling.npz")
    for case, options in (("a", {}), ("b", {"max_person": 2}), ("c", {"squeeze": False})):
        prefix = f"DecompressPose/{case}"
        total = int(reference[f"{prefix}/total_frames"])
        given = (reference[f"{prefix}/{name}"] for name in ("frame_inds", "keypoint_in"))
        for name, ours in zip(
            ("keypoint", "keypoint_score", "total_frames"), decompress(*given, total, **options), strict=True
        ):
            yield reference.row(f"{prefix}/{name}", ours, EXACT)


def mix_draw(seed: int, layout: Layout, published_parts: list, share: float | None) -> transforms.MixDraw:
    """What the published mixing draws for a batch of four clips of 100 frames after these seeds."""
    draws = random.Random(seed)
    partner = (torch.arange(4) + int(torch.randint(1, 3, (1,), generator=torch.Generator().manual_seed(seed)))) % 4
    sets = [frozenset(part.tolist()) for part in layout.part_index.values()]
    ours_of = [sets.index(frozenset(part.tolist())) for part in published_parts]
    count = draws.randint(2, 3)
    parts = tuple(ours_of[part] for part in draws.sample(range(5), count))
    length = draws.randint(13, 20)
    start = draws.randint(0, 25 - length)
    if (draws.random() if share is None else share) <= 0.25:
        return transforms.MixDraw(partner, weight=draws.random())
    source_length = draws.randint(length, 25)
    source_start = draws.randint(0, 25 - source_length)
    return transforms.MixDraw(partner, parts, 4 * start, 4 * length, 4 * source_start, 4 * source_length)


def mixing() -> Iterator[Row]:
    """Mixed batches."""
    reference, parts = Reference("mix.npz"), golden("graphs.npz")
    for name in ("nturgb+d", "coco_new", "uav"):
        layout, x = load_layout(LAYOUTS[name]), torch.from_numpy(reference[f"{name}/x"])
        published = [parts[f"{name}/mix_part{number}"] for number in range(5)]
        forced = [("p0.1_seed42", 42, 0.1), ("p0.9_seed42", 42, 0.9)]
        for case, seed, share in [(f"seed{seed}", seed, None) for seed in range(6)] + forced:
            draw = mix_draw(seed, layout, published, share)
            mixed, weight = transforms.mix(x, layout, draw)
            yield reference.row(f"{name}/{case}/randidx", draw.partner, EXACT)
            yield reference.row(f"{name}/{case}/mix", mixed, 1e-6)
            yield reference.row(f"{name}/{case}/lam", weight, 1e-6)
    partner = transforms.draw_mix(2, 5, 100, torch.Generator().manual_seed(0)).partner
    yield reference.row("N2/randidx", partner, EXACT)


# ---------------------------------------------------------------- whole pipelines

AUGMENTS = {
    ("ntu60_xsub", "j"): {},
    ("ntu60_xsub", "bm"): {"mirror": 0.5, "mirror_kind": "swap"},
    ("ntu60_xview", "k"): {"part_drop": 0.2},
    ("ntu120_xsub", "b"): {"mirror": 0.5, "mirror_kind": "swap"},
}


def one_recording(
    layout: Layout, keypoints: np.ndarray, confidence: np.ndarray | None, config: DataConfig
) -> data.Clips:
    """A recording as `data.prepare` would have it, in float64."""
    rows = torch.from_numpy(data.prepare_clip(keypoints.astype(np.float32), confidence, layout, config)).double()
    widths = torch.tensor([640.0]) if config.pixels else None
    return data.Clips(rows, torch.tensor([0]), torch.tensor([len(rows)]), torch.tensor([0]), widths, layout)


def pipelines_3d() -> Iterator[Row]:
    """From a 16-bit recording to what the network is given, in training and testing."""
    reference, layout = Reference("transforms_ntu.npz"), load_layout("nturgb+d")
    for array in reference.arrays.files:
        if not (found := re.fullmatch(r"(\w+)/(train|val|test)_pipeline(?:10)?/(\w+)/(\w+)", array)):
            continue
        case, mode, recipe, stream = found.groups()
        config = DataConfig(stream=stream, sampling="uniform-decode")
        clips = one_recording(layout, reference[f"{case}/float16/raw"], None, config)
        if mode != "train":
            views = 10 if mode == "test" else 1
            yield reference.row(array, next(data.test_batches(clips, config, 1, num_views=views))[0], HALF)
            continue
        augment = AugmentConfig(heading=0.2, tilt=0.2, **AUGMENTS[recipe, stream])
        draws, choices = np.random.RandomState(21), random.Random(21)
        draw = np.zeros(9)
        draw[3:6] = 0.5 - draws.uniform(-0.2, 0.2, size=3) / 0.4  # the published angles turn the other way
        if augment.mirror:
            draw[2] = choices.random()
        if augment.part_drop:
            draw[7] = choices.random()
            if draw[7] < augment.part_drop:
                limbs = [name for name in layout.parts if name != "trunk"]
                draw[8] = (limbs.index(PUBLISHED_LIMBS[choices.randint(0, 3)]) + 0.5) / 4
        _, _, frames = uniform_draw(int(clips.frames[0]), 100, draws)
        draw = torch.cat([torch.from_numpy(draw)[None], frames], 1)
        yield reference.row(array, data.augmented(clips, torch.tensor([0]), config, augment, draw), HALF)


def pipelines_2d() -> Iterator[Row]:
    """From a recording in the image plane to what the network is given, in training and validation."""
    reference = Reference("transforms_2d_and_sampling.npz")
    for array in reference.arrays.files:
        if not (found := re.fullmatch(r"(\w+)/T(\d+)/(train|val)_pipeline/(\w+)/(\w+)", array)):
            continue
        name, frames, mode, recipe, stream = found.groups()
        layout = load_layout(LAYOUTS[name])
        config = DataConfig(stream=stream, sampling="uniform-frames", pixels=True, bone_confidence="difference")
        points, score = (
            layout.extend(reference[f"{name}/T{frames}/{what}"].astype(np.float32), 2)
            for what in ("keypoint", "keypoint_score")
        )
        clips = one_recording(layout, points, score, config)
        if mode == "val":
            yield reference.row(array, next(data.test_batches(clips, config, 1))[0], 1e-6, relative=True)
            continue
        draws = np.random.RandomState(21)
        _, _, chosen = uniform_draw(int(frames), 100, draws)
        draw = torch.zeros(1, 9, dtype=torch.double)
        draw[0, 2] = draws.random_sample()  # the published flip draws after the frames
        augment = AugmentConfig(mirror=0.5 if recipe == "finegym" else 0.0)
        draw = torch.cat([draw, chosen], 1)
        ours = data.augmented(clips, torch.tensor([0]), config, augment, draw)
        yield reference.row(array, ours, 1e-6, relative=True)


GROUPS: dict[str, Callable[[], Iterator[Row]]] = {
    "network, 9 blocks": lambda: network("model_nturgb+d_60.npz"),
    "network, 10 blocks": lambda: network("model_coco_new_400_K400.npz"),
    "losses": losses,
    "graphs": graphs,
    "frame sampling": sampling,
    "3-D transforms": transforms_3d,
    "2-D transforms": transforms_2d,
    "Kinetics files": decompression,
    "mixing": mixing,
    "3-D pipelines": pipelines_3d,
    "2-D pipelines": pipelines_2d,
    "CTR-GCN (Uason-Chen/CTR-GCN), the encoder of SUGAR": lambda: parity_networks.ctrgcn(
        Reference("ctrgcn_ntu_60.npz")
    ),
    "action VQ-VAE (Mael-zys/T2M-GPT), the form that LLM-AR follows": lambda: parity_networks.vqvae(
        Reference("t2m_vqvae_small.npz")
    ),
}

# Arrays that are not outputs, or are compared elsewhere: pattern -> why.
NOT_COMPARED = {
    r"state/.*": "weights, read by `skag.methods.skeleton_agent.published`",
    r".*/(raw|keypoint|keypoint_score|frame_inds|keypoint_in)|.*/x|stats/(logits|labels)|align/(x|t|label)": "inputs",
    r"eval/logit_scale|train/(mix_data|label|mix_label|text_embedding|weights|grad_names)|tokens": "inputs",
    r"train/(?!.*_f64).*": "single-precision twin of a double-precision array",
    r"train/(loss_align_skeleton|loss_align_text|align_target|logits_per_skeleton)_f64": "parts of loss_align",
    r"align/.*/(skeleton|text)": "compared as their mean, which is the loss",
    r"openpose_new/.*": "a layout that no recipe uses",
    r"text/.*|text_features": "compared in tests/test_text.py",
    r"x": "input of the action VQ-VAE",
}
FILES = (
    "model_nturgb+d_60",
    "model_coco_new_400_K400",
    "graphs",
    "transforms_ntu",
    "transforms_2d_and_sampling",
    "mix",
    "losses_stats_text",
    "clip_text_tiny",
    "ctrgcn_ntu_60",
    "t2m_vqvae_small",
)


def reason_not_compared(array: str) -> str | None:
    return next((why for pattern, why in NOT_COMPARED.items() if re.fullmatch(pattern, array)), None)


def family(array: str) -> str:
    """The name under which arrays that differ in seed, length or case alone share a line of the table."""
    array = re.sub(r"ntu_(a|b|c|swap)\b", "ntu_*", array)
    array = re.sub(r"(seed|clips|/T|mix_part)\d+", r"\1*", array)
    return re.sub(r"\b(nturgb\+d|coco_new|coco|uav|openpose)/", "LAYOUT/", array)


def table() -> str:
    """The page `docs/parity.md`."""
    torch.set_num_threads(1)
    lines = [
        "# Parity with the published code",
        "",
        "Written by `python -m tests.helpers.parity docs/parity.md`; the tests make the same comparisons.",
        "The published code (github.com/firework8/SkeletonAgent) ran on a CPU, and every array that it computed is",
        "compared with skag's. A row has the number of arrays of that name (over layouts, seeds, lengths and cases),",
        "the largest difference, and what is tolerated.",
        "",
        'Differences are absolute; with "of scale" they are divided by the largest number of the array. Frame numbers,',
        "partners and counts are equal exactly. `_f64` arrays were computed in double precision.",
    ]
    for group, compare in GROUPS.items():
        families: dict[tuple[str, str], list[Row]] = {}
        for row in compare():
            families.setdefault((row.file, family(row.array)), []).append(row)
        lines += [
            "",
            f"## {group[0].upper()}{group[1:]}",
            "",
            "| array | arrays | largest difference | tolerated |",
            "|---|---|---|---|",
        ]
        for (file, name), rows in families.items():
            worst, tolerated = max(row.difference for row in rows), max(row.tolerance for row in rows)
            scale = " of scale" if rows[0].relative else ""
            lines.append(
                f"| `{file.removesuffix('.npz')}: {name}` | {len(rows)} | {worst:.1e}{scale} | {tolerated:.0e} |"
            )
    lines += ["", "## Not compared here", "", "| arrays | why |", "|---|---|"]
    lines += [f"| `{pattern.replace('|', ' or ')}` | {why} |" for pattern, why in NOT_COMPARED.items()]
    lines += [
        "",
        "## Where skag is not equal, and means not to be",
        "",
        "- 16-bit recordings are centred and subtracted in 32 bits; the published code does both in 16 bits, whose",
        "  steps are 0.002 between 2 and 4 m. Rows of `float16` arrays and of the 3-D pipelines show it.",
        "- `skag train` holds clips out of training; `train.select_on=test` does what the published code does.",
        "- Masks of critical joints in the bone streams of NTU RGB+D: the published code numbers bones by their",
        "  place in a list (`tools/text/cls_matrix.py`), its bone stream by their joint. In that list (20, 20)",
        "  stands after (21, 22). Elements 20 and 21 (joints 21 and 22) of its masks are exchanged;",
        "  `--set agents.bone_masks=release` takes them so, and `tests/test_layouts.py` compares both.",
        "  Joint masks have all joints of an imported dialogue.",
        "- Random numbers are drawn in skag's own order; a seed of the published code does not give the same run.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(table(), encoding="utf-8")
