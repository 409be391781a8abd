"""`skag simulate` and `skag convert`: getting recordings into a skeleton store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..plural import counted
from .app import app
from .completion import layout_names, recipe_names
from .options import Device, DeviceOption, JsonOption, QuietOption, SeedOption, Stream
from .output import Output

if TYPE_CHECKING:
    from ..convert import ConvertReport

_LEFT_OUT = 20  # recordings that are named at most
_REASONS = 5  # of these
_CLASSES = 12  # that are counted out


@app.command(epilog="Example: skag convert nw-ucla-raw.tar.gz nw-ucla.h5")
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Recordings: a file, folder or archive.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.h5", help="The skeleton store to write.")],
    format: Annotated[
        str | None, typer.Option("--format", help="Name of the format, see docs/formats.md.  [default: guessed]")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            help="Layout by name, or a TOML file of your own joints (docs/formats.md).  [default: guessed]",
            autocompletion=layout_names,
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", help="Text file with a class name per line: in label order, or those to keep."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Own recordings: CSV with columns file, label and maybe subject, camera, split."),
    ] = None,
    classes_from: Annotated[
        str | None,
        typer.Option(
            "--classes-from",
            metavar="COLUMN|folder[:N]",
            help="Own recordings: the column of a table, or the level of folders (1 is the outermost), with the class.",
        ),
    ] = None,
    label_from: Annotated[
        str | None,
        typer.Option(
            "--label-from",
            metavar="PATTERN",
            help="Own recordings: file names with {label}, {subject}, {camera} or {split}, * for the rest.",
        ),
    ] = None,
    split_by: Annotated[
        str | None,
        typer.Option(
            "--split-by",
            metavar="COLUMN[=VALUE]",
            help="Add training and test splits by subject, camera, setup, random or any column; VALUE is what tests.",
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option("--fps", min=1, max=2000, help="Frames per second of recordings that do not say theirs."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first recording that cannot be used.")] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Processes that read.  [default: one per core]")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="Of a published checkpoint: the recipe it was trained with.",
            autocompletion=recipe_names,
        ),
    ] = None,
    stream: Annotated[Stream, typer.Option("--stream", help="Of a published checkpoint: its stream.")] = Stream.j,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Turn recordings into a skeleton store.

    Reads the published data sets of the field and your own recordings, from a file, a folder, or a zip or tar
    archive; nothing in them is executed. The formats are in docs/formats.md. Your own recordings take their classes
    from --labels, a labels.csv beside them, file names by --label-from, a column of a table, or the folders they lie
    in; what was taken is said. A table is cut into clips where its label changes. Writes OUT.h5 when it is complete.
    With --recipe, SOURCE is a checkpoint of the published SkeletonAgent code and OUT the run folder to make of it,
    ready for `skag eval OUT --data DATA.h5`; --classes may then be a skeleton store. What is split at random is so
    by a hash of the names: --seed and --device are taken for uniformity.
    """
    output = Output(as_json, quiet)
    if recipe is not None or source.suffix in (".pth", ".pt"):
        _import_checkpoint(output, source, out, recipe, stream.value, layout, classes)
        return
    from ..convert import convert as run_convert
    from ..parallel import usable_cores
    from ..readers.counted import by_reason

    with output.progress(f"Converting {source.name}") as update:
        report = run_convert(
            source,
            out,
            format=format,
            layout=layout,
            classes=classes,
            labels=labels,
            classes_from=classes_from,
            label_from=label_from,
            split_by=split_by,
            strict=strict,
            fps=fps,
            jobs=jobs or usable_cores(),
            progress=update,
        )
    for note in report.notes:
        output.note(f"Note: {note}")
    if report.skipped:
        output.table("Left out", ["recording", "reason"], report.skipped[:_LEFT_OUT])
        count = len(report.skipped)
        if count > _LEFT_OUT:
            output.line(f" ... and {count - _LEFT_OUT} more; --json lists all")
        output.line(f"{count} recording{' was' if count == 1 else 's were'} left out.")
        if len(kinds := by_reason(report.skipped)) > 1:
            output.line("Reasons: " + "; ".join(f"{len(names)} x {reason}" for reason, names in kinds[:_REASONS]))
    _tell_classes(output, report)
    splits = ", ".join(f"{name} {count}" for name, count in report.splits.items()) or "none"
    bodies = "1 body" if report.bodies == 1 else f"{report.bodies} bodies"
    output.line(
        f"{out}: {counted(report.clips, 'clip')} of {counted(len(report.classes), 'class')}, layout {report.layout} "
        f"({counted(report.joints, 'joint')}), {counted(report.frames, 'frame')}, at most {bodies}; splits: {splits}"
    )
    output.document(asdict(report))


def _tell_classes(output: Output, report: ConvertReport) -> None:
    """Where the classes came from, how many clips each has, and what else they could be."""
    from ..readers.counted import listed

    there = {name: count for name, count in report.class_counts.items() if count}
    where = f", from {report.classes_from}" if report.classes_from else ""
    empty = len(report.class_counts) - len(there)
    without = f"; {counted(empty, 'class')} without a clip" if empty else ""
    output.line(f"Classes{where}: {listed(there, _CLASSES)}{without}")
    for other in report.could_be:
        output.line(f"  They could also be {other}")


def _import_checkpoint(
    output: Output, source: Path, out: Path, recipe: str | None, stream: str, layout: str | None, classes: Path | None
) -> None:
    from ..errors import RunError
    from ..methods import method
    from ..readers.label_names import known_names, read_names
    from ..recipes import cards
    from ..recipes import recipe as find_recipe
    from ..skeleton.layouts import load_layout
    from ..skeleton.store import SkeletonStore

    if recipe is None:
        raise RunError(f"{source} looks like a checkpoint: name the recipe it was trained with, --recipe ntu60-xsub.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is there already: choose another folder, or remove it.")
    config = find_recipe(recipe, stream)
    published = {name: card for name, (_, card) in cards().items() if card.accuracy}
    if recipe not in published:
        raise RunError(f"no checkpoints are published for recipe {recipe}: name one of {', '.join(published)}.")
    facts = published[recipe]
    if classes is not None and classes.suffix == ".h5":
        with SkeletonStore(classes) as clips:
            names = clips.classes
    elif classes is not None:
        names = read_names(classes)
    elif recipe.startswith("ntu"):
        names = known_names("ntu120")[: facts.classes]
    else:
        raise RunError(f"name the {facts.classes} classes of {source}: --classes FILE, a name per line, or DATA.h5.")
    shape = method(config.method).import_checkpoint(source, out, config, names, load_layout(layout or facts.layout))
    output.line(
        f"{out}: stream {stream} of {recipe}, {shape['classes']} classes, {shape['joints']} joints, "
        f"{shape['blocks']} blocks, from {source}"
    )
    output.next("eval", out, "--data", "DATA.h5")
    output.document({"run": str(out), "recipe": recipe, "stream": stream, "classes": names})


@app.command(epilog="Example: skag simulate demo/recordings")
def simulate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write recordings.pkl and classes.txt.")],
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make the demo's recordings.

    Ten actions, look-alike pairs among them, by twelve simulated people. Writes a PYSKL-style pickle and the class
    names into FOLDER.
    """
    from ..skeleton.simulate import ACTIONS, write_recordings

    output = Output(as_json, quiet)
    path = write_recordings(folder, seed)
    output.line(f"{path}: recordings of {len(ACTIONS)} actions; class names in {folder / 'classes.txt'}")
    output.document({"recordings": str(path), "classes": list(ACTIONS)})
