"""`skag eval` and `skag analyze-confusion`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .app import Device, DeviceOption, JsonOption, QuietOption, RunArgument, SeedOption, app
from .completion import run_folders
from .output import Output

RunsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="Run folders made by `skag train`.", autocompletion=run_folders),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Skeleton store, where it is no longer where training found it.")
]
SplitOption = Annotated[str | None, typer.Option("--split", help="Split to evaluate.  [default: the test split]")]


@app.command(
    "eval",
    epilog="Example: skag eval runs/ucla-j runs/ucla-b --num-clips 10",
)
def evaluate(
    run_folders: RunsArgument,
    split: SplitOption = None,
    num_clips: Annotated[
        int | None,
        typer.Option(
            "--num-clips", min=1, max=100, help="Views per clip, averaged.  [default: the recipe's, 10 as published]"
        ),
    ] = None,
    fit_weights: Annotated[
        bool,
        typer.Option("--fit-weights", help="Fuse with weights fitted on the clips held out from training."),
    ] = False,
    data: DataOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips per step.")] = 64,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Accuracy on the test split, of every run and of their fusions.

    Several runs are fused by their probabilities: j and b, these with jm and bm, all six streams, and whatever else is
    given, with the published weights (2, motions 1). Reads run folders and their skeleton store. Writes
    RUN/predictions-SPLIT.npz, which analyze-confusion reads. Views are fixed, so --seed changes nothing; it is taken
    for uniformity.
    """
    from ..device import choose_device, keep_freed_memory
    from ..evaluate import evaluate_runs

    if fit_weights and len(run_folders) == 1:
        raise typer.BadParameter("one run needs no weights: give several runs, or leave out --fit-weights.")
    output = Output(as_json, quiet)
    keep_freed_memory()
    result = evaluate_runs(
        run_folders,
        split=split,
        store=data,
        fit_weights=fit_weights,
        num_views=num_clips,
        batch_size=batch_size,
        device=choose_device(device.value),
        note=output.note,
    )
    for stream in sorted({stream for stream in result.streams if result.streams.count(stream) > 1}):
        output.note(
            f"Note: {result.streams.count(stream)} runs of stream {stream}: published fusions take one run of each "
            f"stream, so those with {stream} are left out and all runs are fused."
        )
    for folder, selected_on in zip(result.folders, result.selected_on, strict=True):
        if selected_on == "test":
            output.line(f"{folder}: the test split chose the epoch, so its accuracy is no estimate for new clips.")
    _print_evaluation(output, result)
    output.document(result.to_dict())


def _print_evaluation(output: Output, result: Any) -> None:
    names = {
        "2-stream": "2 (j b)",
        "4-stream": "4 (+ jm bm)",
        "6-stream": "6 (+ k km)",
        "all": f"all ({' '.join(result.streams)})",
    }
    rows = [
        [stream, found.top1, found.top5, found.mean_class, str(folder)]
        for stream, found, folder in zip(result.streams, result.accuracies, result.folders, strict=True)
    ]
    number = "{:g}" if result.fitted_on is None else "{:.2f}"  # six of them fit beside the rest in 80 columns
    for fusion in result.fusions:
        found = fusion.accuracy
        weights = " ".join(number.format(weight).lstrip("0") for weight in fusion.weights)
        rows.append([names[fusion.name], found.top1, found.top5, found.mean_class, weights])
    title = (
        f"{result.split}: {result.num_clips} clips, {result.num_views} view{'s' if result.num_views > 1 else ''} each"
    )
    if result.fitted_on is not None:
        title += f"; weights fitted on {result.fitted_on} held-out clips"
    last = "run, or weights" if result.fusions else "run"
    output.table(title, ["streams", "top-1 %", "top-5 %", "mean class %", last], rows)


@app.command(
    "analyze-confusion",
    epilog="Example: skag analyze-confusion runs/ucla-j --reference runs/ucla-baseline",
)
def analyze_confusion(
    run_folder: RunArgument,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            help="Run that sorts the classes into hard, medium and easy.",
            autocompletion=run_folders,
        ),
    ] = None,
    split: SplitOption = None,
    data: DataOption = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Confused pairs to print.")] = 10,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """What a run confuses, and how badly.

    Hard, medium and easy classes, accuracy per class, the most confused pairs. Reads the predictions that `skag
    eval` saved, or makes them. Writes RUN/figures/*.png and
    RUN/analysis.json.
    """
    from .. import analysis, figures, runs

    output = Output(as_json, quiet)
    run, predictions = _saved_or_predicted(run_folder, split, data, device, output)
    other = None
    if reference is not None:
        _, other = _saved_or_predicted(reference, predictions.split, data, device, output)
    reference_classes = None
    if other is not None:
        reference_classes = analysis.per_class(other.labels, other.probabilities.argmax(1), other.classes)
    result = analysis.analyse(predictions.labels, predictions.probabilities, predictions.classes, reference_classes)
    per_class = analysis.per_class(predictions.labels, predictions.probabilities.argmax(1), predictions.classes)
    folder = run_folder / "figures"
    folder.mkdir(exist_ok=True)
    matrix = analysis.confusion_matrix(
        predictions.labels, predictions.probabilities.argmax(1), len(predictions.classes)
    )
    figures.confusion_figure(matrix, predictions.classes, folder / "confusion.png")
    figures.class_accuracy_figure(per_class, folder / "class-accuracy.png", reference_classes)
    runs.write_json(run_folder / "analysis.json", result)
    _print_analysis(output, run, result, top)
    output.note(f"Figures: {folder / 'confusion.png'}, {folder / 'class-accuracy.png'}")
    output.document(result)


def _saved_or_predicted(
    folder: Path, split: str | None, data: Path | None, device: Device, output: Output
) -> tuple[Any, Any]:
    """The run and its predictions: those saved by an earlier evaluation, else fresh ones."""
    from contextlib import ExitStack

    from .. import evaluate as library
    from ..device import choose_device, keep_freed_memory

    keep_freed_memory()
    where = choose_device(device.value)
    with ExitStack() as stack:
        run, store = library.open_run(folder, data, where, stack, output.note)
        split = library.choose_split(run, store, split)
        earlier = library.load_predictions(folder, split)
        if earlier is not None and earlier.fingerprint == store.fingerprint:
            return run, earlier
        output.note(f"Predicting {split} with {folder} on {where}.")
        predictions = library.predict_split(run, store, split, where)
    library.save_predictions(folder, predictions)
    return run, predictions


def _print_analysis(output: Output, run: Any, result: dict[str, Any], top: int) -> None:
    output.line(f"{run.folder}: top-1 {result['top1']:.2f} %")
    sets = [
        [
            name,
            len(found["classes"]),
            "" if found["accuracy"] is None else f"{found['accuracy']:.2f}",
            _listed(found["classes"]),
        ]
        for name, found in result["sets"].items()
    ]
    output.table(
        "Classes by difficulty (below 70 %, 70 to 90 %, above 90 %)", ["set", "classes", "mean %", "which"], sets
    )
    rows = [[row["class"], row["n"], row["accuracy"]] for row in result["per_class"]]
    output.table(
        "Accuracy per class, the worst first", ["class", "clips", "%"], sorted(rows, key=lambda row: row[2] or 0)[:40]
    )
    pairs = [[p["true"], p["predicted"], p["count"], p["rate"]] for p in result["pairs"][:top]]
    output.table("Most confused pairs", ["true class", "taken for", "clips", "% of true class"], pairs)


def _listed(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
