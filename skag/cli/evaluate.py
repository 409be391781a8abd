"""`skag eval` and `skag analyze-confusion`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .app import Device, DeviceOption, JsonOption, QuietOption, SeedOption, app
from .output import Output

RunsArgument = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders made by `skag train`.")]
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
        int, typer.Option("--num-clips", min=1, max=100, help="Views per clip whose probabilities are averaged.")
    ] = 1,
    data: DataOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips per step.")] = 64,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Accuracy on the test split.

    Several runs are fused. Reads run folders and their skeleton store. Writes RUN/predictions-SPLIT.npz, which
    analyze-confusion reads. Views are fixed, so --seed changes nothing; it is taken for uniformity.
    """
    from .. import analysis
    from .. import evaluate as library

    output = Output(as_json, quiet)
    results = [_predict(folder, split, num_clips, data, batch_size, device, output) for folder in run_folders]
    weights = [library.stream_weight(run.config.data.stream) for run, _ in results]
    fused = library.fuse([predictions for _, predictions in results], weights)
    rows = []
    for (run, predictions), weight in zip(results, weights, strict=True):
        found = analysis.accuracy(predictions.labels, predictions.probabilities)
        rows.append([str(run.folder), run.config.data.stream, weight, found.top1, found.top5, found.mean_class])
    total = analysis.accuracy(fused.labels, fused.probabilities)
    if len(rows) > 1:
        rows.append(["fused", "", sum(weights), total.top1, total.top5, total.mean_class])
    title = f"{fused.split}: {len(fused.labels)} clips, {num_clips} view{'s' if num_clips > 1 else ''} each"
    output.table(title, ["run", "stream", "weight", "top-1 %", "top-5 %", "mean class %"], rows)
    output.document(
        {
            "runs": [
                {
                    "run": row[0],
                    "stream": row[1],
                    "weight": row[2],
                    "top1": row[3],
                    "top5": row[4],
                    "mean_class": row[5],
                }
                for row in rows[: len(results)]
            ],
            "split": fused.split,
            "clips": len(fused.labels),
            "top1": total.top1,
            "top5": total.top5,
            "mean_class": total.mean_class,
            "num_clips_per_sample": num_clips,
        }
    )


@app.command(
    "analyze-confusion",
    epilog="Example: skag analyze-confusion runs/ucla-j --reference runs/ucla-baseline",
)
def analyze_confusion(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder made by `skag train`.")],
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Run that sorts the classes into hard, medium and easy.")
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
    run, predictions = _predict(run_folder, split, 1, data, 64, device, output, saved=True)
    other = None
    if reference is not None:
        _, other = _predict(reference, predictions.split, 1, data, 64, device, output, saved=True)
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


def _predict(
    folder: Path,
    split: str | None,
    num_clips: int,
    data: Path | None,
    batch_size: int,
    device: Device,
    output: Output,
    saved: bool = False,
) -> tuple[Any, Any]:
    """The run and its predictions: those saved by an earlier evaluation where asked for, else fresh ones."""
    from .. import evaluate as library
    from ..device import choose_device, keep_freed_memory
    from ..errors import DataError
    from ..store import SkeletonStore

    keep_freed_memory()
    where = choose_device(device.value)
    run = library.load_run(folder, where)
    if data is None and run.store_path is None:
        raise DataError(f"{folder} holds imported weights: give the recordings with --data DATA.h5.")
    if data is None and not run.store_path.is_file():
        raise DataError(f"{run.store_path}, which {folder} was trained on, is gone: give the store with --data.")
    with SkeletonStore(data or run.store_path) as store:
        split = split or store.protocol(run.config.data.protocol)[1]
        if split not in store.splits:
            raise DataError(f"{store.path} has no split {split!r}: it has {', '.join(store.splits) or 'none'}.")
        if run.fingerprint is not None and store.fingerprint != run.fingerprint:
            output.note(f"Note: {store.path} is not the store {folder} was trained on (its fingerprint differs).")
        if saved:
            earlier = library.load_predictions(folder, split)
            if earlier is not None and earlier.fingerprint == store.fingerprint:
                return run, earlier
        output.note(f"Predicting {split} with {folder} on {where}.")
        predictions = library.predict_split(run, store, split, where, batch_size, num_clips)
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
