"""`skag check` and `skag show`: looking at a skeleton store before training on it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..plural import counted
from .app import app
from .completion import run_folders
from .options import Device, DeviceOption, JsonOption, QuietOption, SeedOption
from .output import Output
from .terminal import as_typed

DataArgument = Annotated[Path, typer.Argument(metavar="DATA.h5", help="Skeleton store made by `skag convert`.")]


@app.command(epilog="Example: skag check nw-ucla.h5")
def check(
    data: DataArgument,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Tell what would spoil training.

    NaN, missing, motionless and dead joints, frozen frames, units and axes, labels and classes, clips or subjects in
    both splits, the same recording twice. Reads DATA.h5 and writes nothing. Exit code 1 where something is wrong;
    remarks alone leave it 0. docs/check.md lists all findings. --seed and --device are taken for uniformity.
    """
    from ..skeleton.check import check as run_check
    from ..skeleton.store import SkeletonStore

    output = Output(as_json, quiet)
    with SkeletonStore(data) as store, output.progress(f"Checking {data.name}") as update:
        report = run_check(store, update)
    for finding in report.findings:
        named = f" ({', '.join(finding.names)})" if finding.names else ""
        output.line(f"{finding.level}: {finding.what}{named}\n  {finding.advice}  [{finding.kind}]")
    errors = sum(finding.level == "error" for finding in report.findings)
    remarks = len(report.findings) - errors
    output.line(
        f"{report.store}: {counted(report.clips, 'clip')}, {counted(report.frames, 'frame')}, "
        f"{counted(report.classes, 'class')}; "
        f"{counted(errors or 'no', 'error')}, {counted(remarks or 'no', 'remark')}"
    )
    output.document({**asdict(report), "ok": report.ok})
    if not report.ok:
        raise typer.Exit(1)


@app.command(epilog="Example: skag show nw-ucla.h5 a04_s01_e01_v01 --out sit.html")
def show(
    data: DataArgument,
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="A clip's name, or its number from 0.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Picture to write: .png, .gif or .html.  [default: DATA-NUMBER.png]"),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", help="Run that rebuilds clips: its reconstruction is drawn beside.", autocompletion=run_folders
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw a clip with its joint names.

    As a strip of frames (.png), moving (.gif), or as a page on which it plays and can be turned (.html; it needs no
    network). Reads DATA.h5 and writes the picture. --run draws a network's reconstruction beside the clip, on
    --device. --seed is taken for uniformity.
    """
    from ..results.drawing import clip_number, draw_clip, draw_view
    from ..skeleton.store import SkeletonStore

    output = Output(as_json, quiet)
    with SkeletonStore(data) as store:
        number = clip_number(store, as_typed(clip))
        path = Path(f"{data.stem}-{number}.png") if out is None else out
        if run is None:
            draw_clip(store, number, path)
        else:
            from ..device import choose_device
            from ..inference.loaded import load_run
            from ..results.reconstruction import beside

            loaded = load_run(run, choose_device(device.value))
            draw_view(lambda: beside(loaded, store, number), path)
        name, label, frames = store.names[number], int(store.labels[number]), int(store.frames[number])
        action = store.classes[label] if 0 <= label < len(store.classes) else None
    output.line(f"{path}: clip {number}, {name}, {counted(frames, 'frame')}, {action or f'label {label}'}")
    output.document(
        {"picture": str(path), "clip": number, "name": name, "label": label, "class": action, "frames": frames}
    )
