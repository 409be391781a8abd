"""A run as one ONNX graph, from recorded joints to probabilities.

The graph is put together of the functions that `skag eval` prepares recordings and takes views with. A test holds what
comes of it against `clips.prepare` and `clips.test_batches`, and every export holds the graph against the network.

Letters of this file: N recordings, M bodies, T frames, V joints, C coordinates, K classes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import runs
from ..config import DataConfig
from ..errors import DataError, RunError
from ..methods.base import Classifier
from ..skeleton import clips as data
from ..skeleton import preparation, transforms
from ..skeleton.class_choice import as_trained
from ..skeleton.layouts import Layout
from ..skeleton.store import Clip, SkeletonStore, write_store
from ..targets import check_target, start_of
from ..version import __version__
from ..weights import one_line
from .loaded import Run, choose_split, load_run, open_run, split_clips
from .scores import predict_prepared

INPUT, OUTPUT = "joints", "probabilities"
TOLERANCE = 1e-4  # of a probability, between PyTorch and ONNX Runtime
_OPSET = 18
_CHECKED_CLIPS, _COMPARED_CLIPS = 32, 500  # with PyTorch; with 8-bit weights
_LONGEST = 300  # frames up to which a published sampling is tabulated, or the longest recording of the store
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Int8Report:
    """What quantising came to, on at most 500 clips of the split; percent, and milliseconds on one CPU thread."""

    model: str
    bytes: int
    clips: int
    top1: float | None  # None for synthetic clips, whose labels mean nothing
    top1_float: float | None
    same_answer: float  # clips that both give the same class
    milliseconds: float


@dataclass(frozen=True)
class ExportReport:
    """What an export came to."""

    model: str
    bytes: int
    input: tuple[int | str, ...]  # sizes of the input; those that are open by name
    views: int  # per recording, mirror images not counted; averaged in the graph
    checked_on: str  # the split, or "synthetic" where the recordings were not there
    checked_clips: int
    largest_difference: float  # of a probability, to PyTorch
    milliseconds: float  # a clip, on one CPU thread
    outside: tuple[str, ...]  # what is to be done to recordings before the graph
    int8: Int8Report | None


def export(
    folder: Path,
    out: Path,
    *,
    store: Path | None = None,
    split: str | None = None,
    num_views: int | None = None,
    int8: bool = False,
    seed: int = 0,
    note: Callable[[str], None] = lambda text: None,
) -> ExportReport:
    """Write a run's best network with everything before it as `out`, and with `int8` also quantised, beside it.

    The graph takes recorded joints, float32 `[recordings, bodies, frames, joints, coordinates]`, and gives
    probabilities `[recordings, classes]`; what it holds and what is left outside stands in its metadata. Before
    anything is written it is run with ONNX Runtime on clips of `split` (by default the test split) of the run's
    skeleton store, or of `store`, and compared with what `skag eval` computes; where the store is gone, on synthetic
    clips drawn with `seed`. Raises `RunError` where packages are missing, the two differ, or `out` is there and no ONNX
    graph, `DataError` for stores that do not fit.
    """
    _require_packages()
    if out.is_dir():
        raise RunError(f"{out} is a folder: name the file to write, {out / 'model.onnx'}.")
    for target in (out, *([_beside(out)] if int8 else [])):
        check_target(target, _is_graph, "ONNX graph", RunError)
    with ExitStack() as stack:
        run, clips, split = _run_and_clips(folder, store, split, seed, stack, note)
        if reason := getattr(run.classifier, "not_exportable", ""):
            raise RunError(f"{folder} cannot be exported: {reason}.")
        if run.config.data.timing != "none":
            raise RunError(f"{folder} cannot be exported: the graph knows no frame rate, which data.timing needs.")
        config, outside = run.config.data, []
        if config.pixels and config.mirror_views:
            config = replace(config, mirror_views=False)
            outside.append("mirror images of the views, which need the width of the image in pixels")
        numbers, num_views = clips.splits[split], num_views or config.test_views
        num_bodies = max(2, config.num_bodies, int(clips.bodies.max()))
        longest = max(_LONGEST, int(clips.frames.max()))
        note(f"Exporting {folder}; this takes half a minute or more.")
        sizes = recorded_joints(clips, int(numbers[0]), run.layout, num_bodies).shape
        model = _to_onnx(Pipeline(run.classifier, run.layout, config, num_views, longest), sizes)
        outside += _describe(model, run, config, num_views, sizes, longest)
        content = model.SerializeToString()
        chosen = _spread(numbers, _CHECKED_CLIPS)
        expected = predict_prepared(run.classifier, data.prepare(clips, chosen, config, _CPU), config, 16, num_views)
        found, milliseconds = _predict(content, clips, chosen, run.layout, num_bodies)
        difference = float(np.abs(found - expected).max())
        if not difference <= TOLERANCE:  # also where it is not a number
            raise RunError(
                f"the graph of {folder} differs from PyTorch by {difference:.1e} on {split} ({TOLERANCE:.0e} is "
                "allowed), so nothing was written: please report it, with the versions that `skag doctor` shows."
            )
        quantised = None
        if int8:
            compared = _spread(numbers, _COMPARED_CLIPS)
            note(f"Comparing 8-bit weights on {len(compared)} of {len(numbers)} clips of {split}.")
            quantised = _export_int8(model, out, clips, compared, run.layout, num_bodies, split)
    out.parent.mkdir(parents=True, exist_ok=True)
    runs.write_whole(out, lambda file: file.write(content))
    return ExportReport(
        model=str(out),
        bytes=len(content),
        input=("recordings", num_bodies, "frames", *sizes[3:]),
        views=num_views,
        checked_on=split,
        checked_clips=len(chosen),
        largest_difference=difference,
        milliseconds=milliseconds,
        outside=tuple(outside),
        int8=quantised,
    )


def _beside(out: Path) -> Path:
    """The name of the graph with 8-bit weights."""
    return out.with_name(f"{out.stem}.int8{out.suffix}")


def _is_graph(path: Path) -> bool:
    """Whether a file begins as ONNX graphs do: with their version, and the tag of the next field after it."""
    return re.match(rb"\x08[\x01-\x7f][\x12\x1a\x22\x28\x32\x3a\x42]", start_of(path, 3)) is not None


def _spread(numbers: np.ndarray, most: int) -> np.ndarray:
    """At most so many clip numbers, evenly spread."""
    return numbers[np.linspace(0, len(numbers) - 1, min(len(numbers), most)).astype(int)]


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise RunError(
            f"export needs onnx, onnxruntime and onnxscript ({one_line(error)}): pip install 'skag[onnx]'."
        ) from None


def _run_and_clips(
    folder: Path, store: Path | None, split: str | None, seed: int, stack: ExitStack, note: Callable[[str], None]
) -> tuple[Run, SkeletonStore, str]:
    """The run, a store with clips to compare on, and their split."""
    run = load_run(folder, _CPU)
    if store is not None or (run.store_path is not None and run.store_path.is_file()):
        run, clips = open_run(folder, store, _CPU, stack, note)
        clips = as_trained(clips, run.classes)
        split = choose_split(run, clips, split)
        if not len(split_clips(run, clips, split).numbers):
            raise DataError(f"split {split} of {clips.path} has no clips: name another with --split.")
        return run, clips, split
    why = "holds imported weights" if run.store_path is None else f"was trained on {run.store_path}, which is gone"
    note(f"Note: {folder} {why}: the graph is compared on synthetic clips. --data DATA.h5 takes real ones.")
    path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "synthetic.h5"
    _write_synthetic(path, run.layout, run.classes, seed)
    return run, stack.enter_context(SkeletonStore(path)), "synthetic"


def _write_synthetic(path: Path, layout: Layout, classes: list[str], seed: int) -> None:
    """A store of bodies that jitter and walk, some joints and frames missing, one or two of them."""
    draws = np.random.default_rng(seed)
    with write_store(path, layout) as writer:
        for number in range(_CHECKED_CLIPS):
            bodies, frames = int(draws.integers(1, 3)), int(draws.integers(5, 120))
            pose = draws.normal(0, 0.3, (bodies, 1, layout.num_recorded, layout.dims)) + 1
            walk = draws.normal(0, 0.05, (bodies, frames, 1, layout.dims)).cumsum(1)
            joints = pose + walk + draws.normal(0, 0.02, (bodies, frames, layout.num_recorded, layout.dims))
            joints[draws.random((bodies, frames, layout.num_recorded)) < 0.02] = 0
            joints[draws.random((bodies, frames)) < 0.05] = 0
            seen = joints.any(-1)
            confidence = (seen * draws.random(seen.shape)).astype(np.float32) if layout.dims == 2 else None
            name, label = f"synthetic-{number}", number % len(classes)
            writer.add(Clip(name, label, joints.astype(np.float32), confidence, splits=("synthetic",)))
        writer.finish(classes)


class Pipeline(nn.Module):
    """Recorded joints `[N, M, T, V, C]` to probabilities `[N, K]`: the preparation, the views and the network of a run.

    V are the joints that recordings hold (derived ones are added); C are the layout's coordinates, and in the image
    plane the confidence too, where recordings have it. A joint, or a body, that was not found is zero.
    """

    extension: Tensor
    positions: Tensor

    def __init__(
        self, classifier: Classifier, layout: Layout, config: DataConfig, num_views: int, longest: int
    ) -> None:
        super().__init__()
        self.network, self.classifier = classifier.model, classifier
        self.layout, self.config, self.num_views = layout, config, num_views
        if layout.derived:
            eye = np.eye(layout.num_recorded, dtype=np.float32)
            self.register_buffer("extension", torch.from_numpy(layout.extend(eye, 0)))  # V x recorded
        if config.sampling != "stretch":
            options = (config.num_frames, num_views, config.sampling)
            table = np.stack([transforms.test_positions(length, *options) for length in range(1, longest + 1)])
            self.register_buffer("positions", torch.from_numpy(table.astype(np.int16)))  # longest, views, num_frames

    def forward(self, joints: Tensor) -> Tensor:
        clips = self.clips(joints)
        probabilities = self.classifier.log_scores(clips.flatten(0, 1)).softmax(1)
        return probabilities.unflatten(0, clips.shape[:2]).mean(1)

    def clips(self, joints: Tensor) -> Tensor:
        """Recorded joints to the network's clips `[N, views, M, T', V, C']`, as `data.prepare` and
        `data.test_batches` make them."""
        x = self.extension @ joints if self.layout.derived else joints
        frames = torch.ones_like(x[:, 0, 0, 0, 0], dtype=torch.long) * x.shape[2]
        return self._views(*preparation.prepared(x, frames, self.layout, self.config))

    def _views(self, x: Tensor, frames: Tensor) -> Tensor:
        """Normalised recordings `[N, M, T, V, C]` of so many frames `[N]` to clips `[N, views, M, T', V, C]`."""
        config, layout = self.config, self.layout
        rows = x.transpose(1, 2).flatten(0, 1)  # NT M V C
        first = torch.arange(x.shape[0], device=x.device) * x.shape[2]
        follows = config.stream.endswith("m") and config.sampling != "uniform-frames"
        views = []
        for positions in self._view_positions(frames, x.dtype):
            view = transforms.gather_frames(rows, first, frames, positions)
            if follows:
                view = torch.cat([view, transforms.gather_frames(rows, first, frames, positions, ahead=1)], 1)
            views.append(view)
        if config.mirror_views:
            views += [transforms.mirror(view, layout) for view in views]
        clips = []
        for view in views:
            view, following = view.chunk(2, 1) if follows else (view, None)
            confidence = config.bone_confidence
            view = transforms.to_stream(
                view, layout, config.stream, following=following, bone_confidence=confidence
            )  # N T M V C
            clips.append(view.transpose(1, 2))
        return torch.stack(clips, 1)

    def _view_positions(self, frames: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Frame positions `[N, T']` of every view."""
        num_frames = self.config.num_frames
        if self.config.sampling == "stretch":
            share = 1.0 if self.num_views == 1 else data.TEST_PART
            starts = torch.linspace(0, 1 - share, self.num_views, dtype=dtype, device=frames.device)
            whole = torch.ones_like(frames, dtype=dtype)
            return [
                transforms.stretch_positions(frames, num_frames, whole * start, whole * start + share)
                for start in starts
            ]
        known = frames.clamp(max=len(self.positions))
        chosen = self.positions[known - 1].long()  # N views T'
        return list((chosen * frames[:, None, None] // known[:, None, None]).unbind(1))


# ---------------------------------------------------------------- ONNX and ONNX Runtime


def _to_onnx(pipeline: Pipeline, sizes: tuple[int, ...]) -> Any:
    """The pipeline as an ONNX model (`onnx.ModelProto`) for inputs of these sizes `N M T V C`, N and T left open."""
    example = torch.zeros(2, sizes[1], 7, *sizes[3:])  # sizes of 0 and 1 would be taken for fixed ones
    open_sizes = {0: torch.export.Dim("recordings"), 2: torch.export.Dim("frames")}
    with _silence(), torch.no_grad():
        program = torch.onnx.export(
            pipeline.eval(),
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(open_sizes,),
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None  # with `dynamo=True`
    model = program.model_proto
    # Every node says where in which Python file it came from, which is a quarter of a small model and nobody's
    # business; shapes in between are wrong once a weight is stored transposed, and quantising trips over them.
    for node in model.graph.node:
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.value_info[:]
    return model


@contextmanager
def _silence() -> Iterator[None]:
    """No remarks of the exporters, which are for their developers."""
    logger_levels = {name: logging.getLogger(name).level for name in (None, "torch.onnx", "onnxscript", "onnx_ir")}
    try:
        for name in logger_levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in logger_levels.items():
            logging.getLogger(name).setLevel(level)


def _describe(
    model: Any, run: Run, config: DataConfig, num_views: int, sizes: tuple[int, ...], longest: int
) -> list[str]:
    """Put into the model's metadata what it is, what it does, and what is left to do before it; returns the last."""
    import onnx

    layout, num_bodies = run.layout, sizes[1]
    unit = "pixels" if layout.dims == 2 else "the unit of the training recordings"
    outside = [
        f"joints in the order of the metadata's joints, in {unit}, axes as in training ({layout.up} up); "
        "joints that were not found are zero",
        f"{num_bodies} bodies a recording: absent ones are zero, further ones are left out",
    ]
    if layout.dims == 2:
        outside.append("the third coordinate is the confidence; without one, 1 where a joint was found and 0 elsewhere")
    if config.sampling != "stretch":
        outside.append(f"frames of recordings longer than {longest} are not chosen as in `skag eval`, but spread alike")
    three_d = layout.dims == 3
    inside = {
        "derived joints added": bool(layout.derived),
        "frames without the main body left out, the body seen in more frames first": three_d,
        f"{layout.centre} of the first frame moved to the origin": three_d,
        "spine turned to z and shoulders to x by the first frame": three_d and config.align_spine,
        "body turned upright": three_d and config.stand_upright,
        "body turned to face one way": three_d and config.face_forward,
        "scaled to one body size": three_d and config.unit_height,
        "confidence added: 1 where a joint was found": sizes[4] == 2,
        "scaled to the box of the recording": not three_d and not config.pixels,
        f"first {config.num_bodies} of the bodies taken": config.num_bodies < num_bodies,
        f"{config.num_frames} frames chosen ({config.sampling}), {num_views} views": True,
        "mirror image of every view added": config.mirror_views,
        f"stream {config.stream} taken": True,
        "network, softmax, mean of the views": True,
    }
    facts = {
        "skag": __version__,
        "classes": run.classes,
        "layout": layout.name,
        "joints": list(layout.joints[: layout.num_recorded]),
        "layout_definition": layout.to_dict(),
        "stream": config.stream,
        "frames": config.num_frames,
        "bodies": num_bodies,
        "views": num_views,
        "recipe": run.config.recipe,
        "weights_sha256": hashlib.sha256((run.folder / "best.pt").read_bytes()).hexdigest(),
        "data_fingerprint": run.fingerprint,
        "inside": [step for step, is_done in inside.items() if is_done],
        "outside": outside,
    }
    onnx.helper.set_model_props(model, {key: json.dumps(value, ensure_ascii=False) for key, value in facts.items()})
    model.producer_name, model.producer_version = "skag", __version__
    return outside


def _predict(
    model: bytes, clips: SkeletonStore, numbers: np.ndarray, layout: Layout, num_bodies: int
) -> tuple[np.ndarray, float]:
    """Probabilities `[n, K]` by ONNX Runtime, a clip at a time, and milliseconds per clip."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    recordings = [recorded_joints(clips, number, layout, num_bodies) for number in numbers]
    session.run(None, {INPUT: recordings[0]})  # the first run of a session also plans it
    started = time.perf_counter()
    found = [session.run(None, {INPUT: joints})[0] for joints in recordings]
    return np.concatenate(found), 1000 * (time.perf_counter() - started) / len(recordings)


def recorded_joints(clips: SkeletonStore, number: int, layout: Layout, num_bodies: int) -> np.ndarray:
    """A clip of a store as the graph takes it: float32 `[1, bodies, frames, recorded joints, coordinates]`."""
    joints, confidence = clips.keypoints(number), clips.confidence(number)
    if layout.dims == 2 and confidence is not None:
        joints = np.concatenate([joints, confidence[..., None]], -1)
    joints = joints[:num_bodies, :, : layout.num_recorded]
    result = np.zeros((1, num_bodies, *joints.shape[1:]), np.float32)
    result[0, : len(joints)] = joints
    return result


def _export_int8(
    model: Any,
    out: Path,
    clips: SkeletonStore,
    numbers: np.ndarray,
    layout: Layout,
    num_bodies: int,
    split: str,
) -> Int8Report:
    """Write the model with 8-bit weights beside `out`, and compare the two on some clips of a split.

    Weights are quantised in advance and activations as they come ("dynamic"). The layers that read coordinates stay as
    they are, and weights are unsigned: with both, probabilities of UTKinect's test clips moved by at most 0.011; with
    the first layer quantised too by 0.019, and with signed weights by 0.33, in twice the time.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    weights = {initializer.name: initializer.dims for initializer in model.graph.initializer}
    chosen = []
    for node in model.graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm") and node.input[1] in weights:
            dims = weights[node.input[1]]
            width = dims[0] if node.op_type == "MatMul" else dims[1]
            if width != 3:  # coordinates
                chosen.append(node.name)
    path = _beside(out)
    float_probabilities, _ = _predict(model.SerializeToString(), clips, numbers, layout, num_bodies)
    with tempfile.TemporaryDirectory() as folder, _silence():
        partial = Path(folder) / "int8.onnx"
        quantize_dynamic(model, partial, weight_type=QuantType.QUInt8, nodes_to_quantize=chosen)
        content = partial.read_bytes()
    probabilities, milliseconds = _predict(content, clips, numbers, layout, num_bodies)
    out.parent.mkdir(parents=True, exist_ok=True)
    runs.write_whole(path, lambda file: file.write(content))
    answers, float_answers, labels = probabilities.argmax(1), float_probabilities.argmax(1), clips.labels[numbers]
    known = split != "synthetic"
    return Int8Report(
        model=str(path),
        bytes=len(content),
        clips=len(numbers),
        top1=_percent(answers == labels) if known else None,
        top1_float=_percent(float_answers == labels) if known else None,
        same_answer=_percent(answers == float_answers),
        milliseconds=milliseconds,
    )


def _percent(right: np.ndarray) -> float:
    return round(100 * float(right.mean()), 2)
