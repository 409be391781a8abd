"""`skag runs`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .options import JsonOption, QuietOption
from .output import Output, command


@app.command(epilog="Example: skag runs")
def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with run folders in it.")] = Path("runs"),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List runs with their results.

    Reads all run folders in and below FOLDER and writes nothing; the run that was written to last is at the end.
    "running" is a run that is being trained, "interrupted" one that `skag train --resume RUN` goes on with, "damaged"
    one that cannot be read.
    "val %" is top-1 of the kept epoch on the clips that chose it; "test %" is there once `skag eval` has run.
    `skag analyze-confusion RUN --reference RUN0` compares two runs.
    """
    from ..runs import list_runs

    output = Output(as_json, quiet)
    found = list_runs(folder)
    rows = []
    for run in found:
        rows.append(
            [
                str(Path(run.run).relative_to(folder)) if Path(run.run) != folder else run.run,
                run.recipe or "",
                run.stream or "",
                Path(run.data).name if run.data else "",
                "" if run.seed is None else run.seed,
                f"{run.epochs}/{run.planned}" if run.planned else "",
                run.state,
                _percent(run.val_top1) + ("*" if run.selected_on == "test" and run.val_top1 is not None else ""),
                _percent(run.test_top1),
                run.date[5:16].replace("T", " ") if run.date else "",
            ]
        )
    columns = ["run", "recipe", "stream", "data", "seed", "epochs", "state", "val %", "test %", "written"]
    if rows:
        output.table(f"Runs in {folder}", columns, rows, spare=("data", "written", "recipe"))
    else:
        output.line(f"no runs in {folder}")
    if any(str(row[7]).endswith("*") for row in rows):
        output.note("* of the test split, which chose the epoch: no estimate for new clips.")
    if names := [run.run for run in found if run.state == "interrupted"]:
        output.note(f"interrupted: go on with `{command('train', '--resume', names[-1])}`.")
    for run in found:
        if run.reason:
            output.note(f"Damaged: {run.reason}")
    output.document({"runs": [asdict(run) for run in found]})


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
