"""`skag export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..plural import counted
from .app import app
from .options import JsonOption, QuietOption, RunArgument, SeedOption
from .output import Output

# endings of what programs would take for a checkpoint, a store or another exchange format
_OTHERS = {".pt", ".pth", ".ckpt", ".h5", ".pb", ".tflite", ".mlmodel", ".safetensors", ".engine", ".trt", ".json"}


@app.command(epilog="Example: skag export runs/ucla-j ucla.onnx")
def export(
    run_folder: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The model to write.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write OUT.int8.onnx with 8-bit weights, and compare the two.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Skeleton store to compare on, where it is no longer where training found it."),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Split to compare on.  [default: the test split]")
    ] = None,
    num_clips: Annotated[
        int | None,
        typer.Option("--num-clips", min=1, max=100, help="Views per clip, averaged.  [default: the recipe's]"),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a run as one ONNX graph.

    From recorded joints to probabilities: the preparation of recordings, the views and the network are inside;
    class names, joints in their order, fingerprints and what is left outside are in the metadata. Needs no skag,
    no PyTorch and no language model to run. Reads a run folder and clips of its skeleton store: what ONNX Runtime
    makes of them must equal what PyTorch does, within 0.0001. Writes OUT.onnx, and OUT.int8.onnx. Needs `pip
    install 'skag[onnx]'`. --seed draws the synthetic clips to compare on where the skeleton store is gone.
    """
    from ..errors import RunError
    from ..inference.export import export as run_export

    if out.suffix.lower() in _OTHERS:
        raise RunError(
            f"{out} is named like a file of another format: exports are ONNX, name it {out.with_suffix('.onnx')}; "
            f"the weights for PyTorch are in {run_folder / 'best.pt'}."
        )
    output = Output(as_json, quiet)
    report = run_export(
        run_folder, out, store=data, split=split, num_views=num_clips, int8=int8, seed=seed, note=output.note
    )
    views = f"{report.views} view{'' if report.views == 1 else 's'}"
    output.line(
        f"{report.model}: input joints [{', '.join(map(str, report.input))}], {views}, {report.bytes / 1e6:.1f} MB, "
        f"{report.milliseconds:.1f} ms a clip on one CPU thread"
    )
    output.line(
        f"equals PyTorch within {report.largest_difference:.0e} on {counted(report.checked_clips, 'clip')} "
        f"({report.checked_on})"
    )
    if report.int8 is not None:
        found = report.int8
        top1 = "" if found.top1 is None else f"top-1 {found.top1:.2f} % instead of {found.top1_float:.2f} %, "
        output.line(
            f"{found.model}: {top1}the same answer for {found.same_answer:.2f} % of {counted(found.clips, 'clip')} "
            f"({report.checked_on}), {found.bytes / 1e6:.1f} MB, {found.milliseconds:.1f} ms a clip"
        )
    for remark in report.outside:
        output.note(f"Outside: {remark}.")
    output.document(asdict(report))
