"""`skag add`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..plural import counted
from .app import app
from .options import Device, DeviceOption, JsonOption, QuietOption, RunArgument, SeedOption
from .output import Output


@app.command(epilog="Example: skag add runs/ucla-j runs/ucla-wave --class wave wave-1.json wave-2.json")
def add(
    run_folder: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Run folder to make.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES...", help="Recordings of the class, one or a few: whatever `skag predict` reads."
        ),
    ],
    name: Annotated[str, typer.Option("--class", metavar="NAME", help="What the recordings show.")],
    description: Annotated[
        str | None, typer.Option("--description", help="A sentence on how the body moves.  [default: none]")
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="Name of the format, see docs/formats.md.  [default: guessed]")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Of a skeleton store: this split alone.")] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Skeleton store of the training, where it is no longer where training found it."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips per step.")] = 64,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Add a class to a run by a few recordings, without training.

    The recordings' mean place in the network's embedding stands for the class; a description pulls it towards where
    clips of such a description should lie. How far, and when a clip is the new class's, is fitted on the clips held out
    from training, each trained class left out in turn as if it were new. Reads a run folder, its skeleton store and
    recordings. Writes OUT, a run folder with one class more, for eval, predict and analyze-confusion. What the trained
    classes have among themselves does not change. --seed draws which held-out clips stand for recordings.
    """
    from contextlib import ExitStack

    from ..device import choose_device
    from ..inference.adding import add_class
    from ..inference.loaded import open_run
    from ..training.start import new_folder

    output = Output(as_json, quiet)
    new_folder(out)
    where = choose_device(device.value)
    with ExitStack() as stack:
        run, store = open_run(run_folder, data, where, stack, output.note)
        found = add_class(
            run,
            store,
            out,
            name,
            files,
            description=description,
            format=format,
            split=split,
            device=where,
            seed=seed,
            batch_size=batch_size,
            note=output.note,
        )
    output.line(
        f"{out}: {found.classes} classes, {found.added!r} from {counted(found.recordings, 'recording')}"
        + (f", pulled {100 * found.pull:.0f} % towards its description" if description else "")
        + f".\n{counted(found.left_out, 'trained class')} left out in turn, by {found.fitted_on} clips: "
        f"{found.new_found:.1f} % of the left-out class found, {found.old_kept:.1f} % of the others kept."
    )
    output.next("eval", out)
    output.document(found.to_dict())
