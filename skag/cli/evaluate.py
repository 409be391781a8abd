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
    from contextlib import ExitStack

    from .. import analysis
    from .. import evaluate as library
    from ..device import choose_device, keep_freed_memory

    if fit_weights and len(run_folders) == 1:
        raise typer.BadParameter("one run needs no weights: give several runs, or leave out --fit-weights.")
    output = Output(as_json, quiet)
    keep_freed_memory()
    where = choose_device(device.value)
    fitted_on = held_out = None
    with ExitStack() as stack:
        opened = [_open(folder, data, where, output, stack) for folder in run_folders]
        tested = [library.split_clips(run, store, _split(run, store, split)) for run, store in opened]
        library.check_same_clips(run_folders, tested)
        if fit_weights:
            kept = [library.held_out_clips(run, store) for run, store in opened]
            library.check_same_clips(run_folders, kept)
            fitted_on = len(kept[0].names)
            output.note(f"Fitting weights on {fitted_on} clips held out from training.")
            held_out = [
                library.predict_clips(run, store, clips, where, batch_size, num_clips)
                for (run, store), clips in zip(opened, kept, strict=True)
            ]
        predictions = []
        for (run, store), clips in zip(opened, tested, strict=True):
            output.note(f"Predicting {clips.split} with {run.folder} on {where}.")
            predictions.append(library.predict_clips(run, store, clips, where, batch_size, num_clips))
            library.save_predictions(run.folder, predictions[-1])
    streams = [run.config.data.stream for run, _ in opened]
    singles = [analysis.accuracy(found.labels, found.probabilities) for found in predictions]
    fusions = library.fuse_streams(streams, predictions, held_out)
    for stream in sorted({stream for stream in streams if streams.count(stream) > 1}):
        output.note(
            f"Note: {streams.count(stream)} runs of stream {stream}: published fusions take one run of each stream, "
            f"so those with {stream} are left out and all runs are fused."
        )
    _print_fusions(output, run_folders, streams, tested[0], num_clips, singles, fusions, fitted_on)
    weights, total = {0: library.stream_weight(streams[0])}, singles[0]
    if fusions:  # the last is that of all runs
        weights = dict(zip(fusions[-1].members, fusions[-1].weights, strict=True))
        total = fusions[-1].accuracy
    output.document(
        {
            "runs": [
                {"run": str(folder), "stream": streams[i], "weight": weights[i], **vars(singles[i])}
                for i, folder in enumerate(run_folders)
            ],
            "fusions": [
                {
                    "name": fusion.name,
                    "streams": [streams[i] for i in fusion.members],
                    "runs": [str(run_folders[i]) for i in fusion.members],
                    "weights": fusion.weights,
                    **vars(fusion.accuracy),
                }
                for fusion in fusions
            ],
            "weights": "published" if fitted_on is None else "fitted",
            "fitted_on": fitted_on,
            "split": tested[0].split,
            "clips": len(tested[0].names),
            **vars(total),
            "num_clips_per_sample": num_clips,
        }
    )


def _print_fusions(
    output: Output,
    folders: list[Path],
    streams: list[str],
    tested: Any,
    num_clips: int,
    singles: list[Any],
    fusions: list[Any],
    fitted_on: int | None,
) -> None:
    def numbers(found: Any) -> list[float]:
        return [found.top1, found.top5, found.mean_class]

    names = {
        "2-stream": "2 (j b)",
        "4-stream": "4 (+ jm bm)",
        "6-stream": "6 (+ k km)",
        "all": f"all ({' '.join(streams)})",
    }
    rows = [
        [stream, *numbers(found), str(folder)] for stream, found, folder in zip(streams, singles, folders, strict=True)
    ]
    for fusion in fusions:
        weights = " ".join(f"{weight:g}" if fitted_on is None else f"{weight:.2f}" for weight in fusion.weights)
        rows.append([names[fusion.name], *numbers(fusion.accuracy), weights])
    title = f"{tested.split}: {len(tested.names)} clips, {num_clips} view{'s' if num_clips > 1 else ''} each"
    if fitted_on is not None:
        title += f"; weights fitted on {fitted_on} held-out clips"
    columns = ["streams", "top-1 %", "top-5 %", "mean class %", "run, or weights" if fusions else "run"]
    output.table(title, columns, rows)


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


def _open(folder: Path, data: Path | None, where: Any, output: Output, stack: Any) -> tuple[Any, Any]:
    """A run and its skeleton store, which `stack` closes."""
    from .. import evaluate as library
    from ..errors import DataError
    from ..store import SkeletonStore

    run = library.load_run(folder, where)
    if data is None and not run.store_path.is_file():
        raise DataError(f"{run.store_path}, which {folder} was trained on, is gone: give the store with --data.")
    store = stack.enter_context(SkeletonStore(data or run.store_path))
    if store.fingerprint != run.fingerprint:
        output.note(f"Note: {store.path} is not the store {folder} was trained on (its fingerprint differs).")
    return run, store


def _split(run: Any, store: Any, split: str | None) -> str:
    from ..errors import DataError

    split = split or store.protocol(run.config.data.protocol)[1]
    if split not in store.splits:
        raise DataError(f"{store.path} has no split {split!r}: it has {', '.join(store.splits) or 'none'}.")
    return split


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
        run, store = _open(folder, data, where, output, stack)
        split = _split(run, store, split)
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
