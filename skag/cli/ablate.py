"""`skag ablate`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..plural import counted
from .app import app
from .options import (
    DIALOGUES,
    BaseUrlOption,
    Device,
    DeviceOption,
    JsonOption,
    MethodOption,
    OfflineOption,
    QuietOption,
    RecipeOption,
    SeedOption,
    SetOption,
    StoreOption,
    Stream,
)
from .output import Output
from .panels import InPanels

if TYPE_CHECKING:
    from ..ablation import CellResult


@app.command(
    cls=InPanels, epilog="Example: skag ablate nw-ucla.h5 --recipe nw-ucla-small --seeds 3 --out runs/ablation-ucla"
)
def ablate(
    data: Annotated[Path, typer.Argument(metavar="DATA.h5", help="Skeleton store made by `skag convert`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the runs, one per row and seed.")],
    recipe: RecipeOption = None,
    method_name: MethodOption = None,
    stream: Annotated[Stream, typer.Option("--stream", help="Joint, bone, k-bone, or their motions.")] = Stream.j,
    llm: Annotated[
        str, typer.Option("--llm", help="Who answers: measured, file:KNOWLEDGE.toml, imported/NAME or PROVIDER/MODEL.")
    ] = "measured",
    protocol: Annotated[
        list[str] | None,
        typer.Option("--protocol", help="Train/test split, where the store has several; repeatable, or all."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds, from --seed on.")] = 3,
    rows: Annotated[
        str | None,
        typer.Option(
            "--rows",
            help="Rows by name, comma between; skeleton-agent has baseline, stage-1, constraint, alignment, all and "
            "shuffled.  [default: all of the method's]",
        ),
    ] = None,
    own_rows: Annotated[
        list[str] | None,
        typer.Option(
            "--row", metavar="NAME:FIELD=VALUE", help="A row more: as all, with these fields changed; repeatable."
        ),
    ] = None,
    against: Annotated[str, typer.Option("--against", help="Row that the others are compared with.")] = "baseline",
    kinematics: Annotated[
        bool, typer.Option("--kinematics", help="Every row once more, with --kinematics of `skag eval`.")
    ] = False,
    assignments: SetOption = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Runs at a time, of one thread each.")] = 1,
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            metavar="I/N",
            help="Train the I-th of N parts of the runs alone: one of a cluster's array of jobs.",
        ),
    ] = None,
    only_finished: Annotated[
        bool, typer.Option("--only-finished", help="Train nothing: the table of the runs that are there.")
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Also write the table as a section of FILE.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of that section.  [default: data, llm]")] = None,
    store: StoreOption = DIALOGUES,
    base_url: BaseUrlOption = None,
    offline: OfflineOption = False,
    seed: SeedOption = 1,
    device: DeviceOption = Device.cpu,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure what each part of the loop is worth.

    Trains the recipe with parts of the loop taken out, as Table 4 of the paper does, every row with the same seeds, and
    evaluates each run once on the test split by the epoch that held-out training clips chose. Reads a skeleton store;
    rounds 1 to 5 are asked where the dialogue store lacks them. Writes OUT/ROW-seedN, a run folder each. What is
    finished is kept: the same command goes on where it was stopped. With --part, several machines that share OUT train
    each run exactly once, and --only-finished then prints the table of all.

    Prints mean and sample standard deviation over seeds, and the difference to the baseline, paired by seed and
    protocol, with its standard error.
    """
    from .. import ablation
    from ..device import choose_device
    from ..methods import method, script_of
    from ..methods.base import KnowledgeSource
    from ..recipes import method_of
    from ..skeleton.store import SkeletonStore

    output = Output(as_json, quiet)
    names = [name.strip() for name in rows.split(",")] if rows else []
    of_method = method(method_of(recipe, method_name))
    chosen = ablation.choose_rows(of_method.ROWS, names, own_rows or [])
    if against not in [row.name for row in chosen]:
        raise typer.BadParameter(f"--against {against} is none of the rows: {', '.join(row.name for row in chosen)}.")
    where = choose_device(device.value).type
    source = KnowledgeSource(store, llm, base_url=base_url, offline=offline)
    with SkeletonStore(data) as clips:
        protocols = ablation.choose_protocols(clips, protocol or [])
        cells = ablation.plan(
            clips,
            chosen,
            protocols,
            range(seed, seed + seeds),
            out,
            recipe=recipe,
            method_name=method_name,
            stream=stream.value,
            changes=assignments or [],
            device=where,
        )
        if not names and (left_out := getattr(of_method, "rows_left_out", None)):
            reasons = left_out(cells[0].config, source)
            for reason in dict.fromkeys(reasons.values()):
                output.note(f"Without {', '.join(row for row in reasons if reasons[row] == reason)}: {reason}.")
            chosen = [row for row in chosen if row.name not in reasons]
            cells = [cell for cell in cells if cell.row.name not in reasons]
        own = cells if part is None else ablation.part_of(cells, part)
        for cell in cells:
            ablation.check_cell(cell, clips, llm)
        if not only_finished and any(method(cell.config.method).uses_knowledge(cell.config) for cell in cells):
            ablation.describe_classes(clips, script_of(cells[0].config.method), protocols, source, output.note)
        fingerprint, num_classes = clips.fingerprint, len(clips.classes)
    if part is not None:
        output.note(f"Part {part}: {len(own)} of {len(cells)} runs.")
    if only_finished:
        results = [result for cell in cells if (result := ablation.finished(cell)) is not None]
    else:
        with output.progress(f"{len(own)} runs, epochs") as update:
            ablation.run_cells(
                data, own, source, jobs=jobs, device=where, progress=update, tell=lambda cell: _tell(output, cell)
            )
        results = [result for cell in cells if (result := ablation.finished(cell)) is not None]
    meanings, made = {row.name: row.meaning for row in chosen}, list(results)
    if kinematics:
        output.note("Measuring how joints move.")
        with SkeletonStore(data) as clips:
            found = ((cell, ablation.finished(cell)) for cell in cells)
            results += [ablation.with_kinematics(cell, result, clips) for cell, result in found if result is not None]
        meanings |= {name + ablation.WITH_KINEMATICS: f"{name}, and measured motion asked" for name in meanings}
    table = ablation.summarise(results, list(meanings), against)
    output.table(
        f"{data.name}: {len(made)} of {len(cells)} runs finished",
        ablation.columns(against),
        [ablation.in_words(row, meanings[row.row]) for row in table],
    )
    document = {
        "command": shlex.join(["skag", *sys.argv[1:]]),
        "data": data.name,
        "fingerprint": fingerprint,
        "classes": num_classes,
        "recipe": cells[0].config.recipe,
        "llm": llm,
        "changes": assignments or [],
        "against": against,
        "rows": [{**vars(row), "meaning": meanings[row.row]} for row in table],
        "cells": [vars(result) for result in results],
    }
    if markdown is not None:
        facts = [f"`{document['command']}`", "", _facts(document, made)]
        name = title or f"{data.stem}, {llm}"
        ablation.write_section(markdown, name, ablation.markdown(name, facts, table, meanings, against))
        output.note(f"Table: {markdown}, section {name!r}")
    output.document(document)


def _tell(output: Output, result: CellResult) -> None:
    where = f"{result.row}, {result.protocol}" if result.protocol else result.row
    output.note(f"{where}, seed {result.seed}: top-1 {result.top1:.2f} %, {result.minutes:.1f} minutes")


def _facts(document: dict[str, Any], results: list[CellResult]) -> str:
    tests = {result.protocol: result.clips for result in results}
    minutes = [result.minutes for result in results]
    took = f", {min(minutes):.1f} to {max(minutes):.1f} minutes a run" if minutes else ""
    return (
        f"{document['classes']} classes, {' + '.join(map(str, tests.values()))} test clips, recipe "
        f"{document['recipe']}, answers by {document['llm']}; {counted(len(results), 'run')}{took}."
    )
