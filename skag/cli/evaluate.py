"""`skag eval` and `skag analyze-confusion`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..plural import counted
from .app import app
from .completion import run_folders
from .options import Device, DeviceOption, JsonOption, KinematicsOption, QuietOption, RunArgument, SeedOption
from .output import Output

RunsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="Run folders made by `skag train`.", autocompletion=run_folders),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Skeleton store, where it is no longer where training found it.")
]
SplitOption = Annotated[str | None, typer.Option("--split", help="Split to evaluate.  [default: the test split]")]

_MOST_ROWS = 40  # of a table of classes
_EXPLAINED = 3  # confused pairs whose sentences are printed
_NAME_LENGTH = 24  # of a class in a table of 80 columns


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
    kinematics: KinematicsOption = False,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="unseen|seen|all|FILE",
            help="Choose among these classes by their texts, also such as were never trained; of a file a line is a "
            "name, or a name and sentences with a tab before each.",
        ),
    ] = None,
    opinions: Annotated[
        str | None,
        typer.Option(
            "--opinions",
            help="With --classes: who is asked, of embedding, head, motion, discriminant and attributes, commas "
            "between.  "
            "[default: all, by the weights that the run's rehearsal says]",
        ),
    ] = None,
    stress: Annotated[
        bool,
        typer.Option("--stress", help="One run on the clips made worse: joints missing, noise, other camera."),
    ] = False,
    transductive: Annotated[
        bool,
        typer.Option(
            "--transductive",
            help="With --classes: let every answer depend on all tested clips, from whose mean scores are taken.",
        ),
    ] = False,
    data: DataOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips, or views of them, per step.")] = 64,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Accuracy on the test split, of every run and of their fusions.

    Several runs are fused by their probabilities: j and b, these with jm and bm, all six streams, and whatever else is
    given, with the published weights (2, motions 1). Reads run folders and their skeleton store. Writes
    RUN/predictions-SPLIT.npz, which analyze-confusion reads, without the measured motion of --kinematics, which is kept
    in RUN/kinematics.npz of the first run. Views are fixed, so --seed changes nothing but what --stress draws. --stress
    writes RUN/figures/stress.png.
    `skag analyze-confusion RUN --reference RUN0` compares two runs. With --classes a run is asked for classes by
    their texts, or several runs together that have learned the same classes. All classes together also give the
    harmonic mean of seen and unseen ones (docs/unseen.md).
    """
    from ..device import choose_device
    from ..inference.evaluate import evaluate_runs
    from ..runs import check_different
    from ..training.allocator import keep_freed_memory

    check_different(run_folders)
    if fit_weights and len(run_folders) == 1:
        raise typer.BadParameter("one run needs no weights: give several runs, or leave out --fit-weights.")
    output = Output(as_json, quiet)
    keep_freed_memory()
    if stress:
        if len(run_folders) > 1 or fit_weights or kinematics or classes is not None:
            raise typer.BadParameter(
                "--stress is of one run: leave out further runs, --fit-weights, --kinematics and --classes."
            )
        _stress(output, run_folders[0], split, num_clips, data, batch_size, seed, device.value)
        return
    if classes is not None:
        if fit_weights or kinematics:
            raise typer.BadParameter("--classes adds opinions up by itself: leave out --fit-weights and --kinematics.")
        from ..inference.zero_shot import evaluate_classes

        found = evaluate_classes(
            run_folders,
            classes,
            split=split,
            store=data,
            opinions=[name.strip() for name in opinions.split(",")] if opinions else [],
            transductive=transductive,
            num_views=num_clips,
            batch_size=batch_size,
            device=choose_device(device.value),
            note=output.note,
        )
        _print_classes_asked(output, found)
        output.document(found.to_dict())
        return
    if opinions is not None or transductive:
        raise typer.BadParameter("--opinions and --transductive belong to --classes.")
    result = evaluate_runs(
        run_folders,
        split=split,
        store=data,
        fit_weights=fit_weights,
        kinematics=kinematics,
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


def _stress(
    output: Output,
    run: Path,
    split: str | None,
    num_views: int | None,
    data: Path | None,
    batch_size: int,
    seed: int,
    device: str,
) -> None:
    """Evaluate a run on clips made worse; table, figure and document."""
    from ..device import choose_device
    from ..inference.stress import stress_run
    from ..results.figures import stress_figure

    with output.progress("Stress") as update:
        found = stress_run(
            run,
            split=split,
            store=data,
            num_views=num_views,
            batch_size=batch_size,
            seed=seed,
            device=choose_device(device),
            note=output.note,
            progress=update,
        )
    shown = [found.clean, *found.rows]
    rows = [
        [each.meaning, f"{each.top1:.2f}", _interval(each.low, each.high), f"{each.difference:+.1f}", each.mean_class]
        for each in shown
    ]
    columns = ["test clips", "top-1 %", "95 % interval", "points", "mean class %"]
    output.table(f"{found.run} on {counted(found.clips, 'clip')} of {found.split}, made worse", columns, rows)
    if found.left_out:
        output.note(f"Left out, since the layout does not allow it: {', '.join(found.left_out)}.")
    path = run / "figures" / "stress.png"
    try:
        path.parent.mkdir(exist_ok=True)
        stress_figure([(each.meaning, each.top1, each.low, each.high) for each in shown], path)
        output.note(f"Figure: {path}")
    except OSError as error:
        output.note(f"Note: the figure is not kept in {run} ({error.strerror}).")
    output.document(found.to_dict())


def _print_classes_asked(output: Output, found: Any) -> None:
    """What `evaluate_classes` found, with the rule, and how everything was chosen."""
    lowered = f"; seen classes lowered by {found.mixing.shift:.1f}" if found.mixing.shift else ""
    asked, many = ", ".join(map(str, found.runs)), counted(len(found.classes), "candidate")
    output.line(
        f"{asked}, {counted(found.clips, 'clip')} of {found.split}, {many}\n"
        f"Rule: {found.rule}.\nWeights and shift: {found.mixing.how}{lowered}. Network: {found.epoch}."
    )
    if found.transductive:
        output.line("Transductive: every answer depends on all tested clips; not to be compared with others' numbers.")
    rows = []
    for name, each in [*found.alone.items(), ("together", found.together)]:
        numbers = [each.top1, each.mean_class, each.seen, each.unseen, each.harmonic, each.harmonic_mean_class]
        weight = f"{found.mixing.weights[name]:.2f}" if name in found.alone else ""
        rows.append([name, weight, *("" if number is None else f"{number:.2f}" for number in numbers)])
    columns = ["opinion", "weight", "top-1 %", "mean class %", "S %", "U %", "H %", "H by class %"]
    output.table("Seen (S) and unseen (U) classes, and their harmonic mean (H)", columns, rows)
    spans = [f"{name} {_interval(*found.intervals[name])}" for name in found.intervals]
    output.line(f"95 % intervals, together: {', '.join(spans)}.")
    rows = [
        [
            number,
            _short(each.name),
            "seen" if each.seen else "unseen",
            each.clips,
            "" if each.top1 is None else f"{each.top1:.1f}",
            _interval(each.low, each.high) if each.clips else "",
            ", ".join(f"{_short(name)} {count}" for name, count in list(each.taken_for.items())[:3]),
        ]
        for number, each in enumerate(found.classes)
    ]
    columns = ["column", "class", "", "clips", "%", "95 % interval", "taken for"]
    output.table("Candidates, by their columns in the saved predictions", columns, rows)


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
    if result.kinematics is not None:
        measured = {"kinematics alone": result.kinematics.alone, "with kinematics": result.kinematics.together}
        rows += [[name, found.top1, found.top5, found.mean_class, ""] for name, found in measured.items()]
    title = f"{result.split}: {counted(result.num_clips, 'clip')}, {counted(result.num_views, 'view')} each"
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
            help="Run to compare with; it also sorts the classes by difficulty.",
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
    """What a run confuses, why, and what its dialogue changed.

    Hard, medium and easy classes, accuracy per class with intervals, the most confused pairs with what tells them apart
    and how they fared after a refresh, calibration; with --reference, what changed and whether that is more than
    noise. Reads the run folder and its skeleton store, and the predictions that `skag eval` saved, or makes them.
    Writes RUN/report.html, a page to look at all of it and at the clips, RUN/figures/*.png and RUN/analysis.json.
    """
    from ..device import choose_device
    from ..results.confusion import analyze_confusion as analyze
    from ..training.allocator import keep_freed_memory

    output = Output(as_json, quiet)
    keep_freed_memory()
    where = choose_device(device.value)
    result = analyze(run_folder, reference=reference, split=split, data=data, device=where, seed=seed, note=output.note)
    _print_analysis(output, result, top)
    for text in result["missing"]:
        output.note(f"Not shown: {text}.")
    output.note(f"Figures in {run_folder / 'figures'}: {', '.join(result['figures'])}.")
    output.note(f"Report: {result['report']}")
    output.document(result)


def _print_analysis(output: Output, result: dict[str, Any], top: int) -> None:
    output.line(
        f"{result['run']}, {counted(result['clips'], 'clip')} of {result['split']}:\n"
        f"top-1 {result['top1']:.2f} % ({_interval(result['top1_low'], result['top1_high'])}), "
        f"top-5 {result['top5']:.2f} %, mean class {result['mean_class']:.2f} %"
    )
    compared = result.get("comparison")
    if compared is not None:
        output.line(
            f"Against {result['compared_with']}, {compared['reference']:.2f} %:\n"
            f"{compared['difference']:+.2f} points "
            f"({_interval(compared['difference_low'], compared['difference_high'], '+.1f')}), "
            f"{counted(compared['gained'], 'clip')} gained, {compared['lost']} lost, p = {compared['p']:g}, "
            f"{'a clear difference' if compared['clear'] else 'within noise'}"
        )
    for remark in result["remarks"]:
        output.line(f"{remark}.")
    _print_sets(output, result["sets"], compared is not None)
    _print_classes(output, result["per_class"], compared is not None)
    _print_pairs(output, result["pairs"], top)
    _print_refreshes(output, result.get("refreshes", []), compared is not None)
    _print_calibration(output, result)


def _print_sets(output: Output, sets: dict[str, Any], compared: bool) -> None:
    rows = []
    for name, found in sets.items():
        means = [found["accuracy"], found["reference"]] if compared else [found["accuracy"]]
        means = ["" if mean is None else f"{mean:.2f}" for mean in means]
        rows.append([name, len(found["classes"]), *means, _listed(found["classes"])])
    title = "Classes by difficulty (below 70 %, 70 to 90 %, above 90 %)"
    if compared:
        title = f"{title[:-1]}, of the reference)"
    columns = ["set", "classes", "mean %", *(["reference %"] if compared else []), "which"]
    output.table(title, columns, rows)


def _print_classes(output: Output, classes: list[dict[str, Any]], compared: bool) -> None:
    found = [row for row in classes if row["n"]]
    found.sort(key=lambda row: (row["difference"] if compared else row["accuracy"], row["accuracy"]))
    shown = found[:_MOST_ROWS]
    columns = ["class", "clips", "%", "95 % interval"]
    rows = [[_short(row["class"]), row["n"], row["accuracy"], _interval(row["low"], row["high"])] for row in shown]
    title = "Accuracy per class, the worst first"
    if compared:
        columns = ["class", "clips", "%", "reference", "points", "95 % interval", "adj. p"]
        title = "Accuracy per class against the reference, the greatest loss first (* clear)"
        rows = [
            [
                _short(row["class"]),
                row["n"],
                f"{row['accuracy']:.1f}",
                f"{row['reference']:.1f}",
                f"{row['difference']:+.1f}{' *' if row['clear'] else ''}",
                _interval(row["difference_low"], row["difference_high"], "+.0f"),
                f"{row['p']:g}",
            ]
            for row in shown
        ]
    if len(found) > len(shown):
        title += f"; {len(shown)} of {len(found)}"
    output.table(title, columns, rows)


def _print_pairs(output: Output, pairs: list[dict[str, Any]], top: int) -> None:
    rows = []
    for pair in pairs[:top]:
        change = next((each for each in pair.get("refreshes", ()) if each["change"] is not None), None)
        trained = ""
        if change is not None:
            shares = [100 * change[n] / change[f"{n}_clips"] for n in ("before", "after")]
            trained = f"{shares[0]:.0f} to {shares[1]:.0f} ({change['epoch']}, {change['after_epoch']})"
        rows.append([_short(pair["true"]), _short(pair["predicted"]), pair["count"], f"{pair['rate']:.0f}", trained])
    columns = ["true class", "taken for", "clips", "%", "% in training (epochs)"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    output.table("Most confused pairs (% of the true class)", columns, rows)
    for pair in [pair for pair in pairs[:top] if pair.get("true_sentence")][:_EXPLAINED]:
        text = [f"{pair[side]}: {pair[f'{side}_sentence']}" for side in ("true", "predicted")]
        text.append(f"Critical in one of both alone: {', '.join(pair['joints_apart']) or 'no joint'}.")
        output.panel(f"{_short(pair['true'])}, taken for {_short(pair['predicted'])}", "\n".join(text))


def _print_refreshes(output: Output, refreshes: list[dict[str, Any]], compared: bool) -> None:
    asked = [row for row in refreshes if row["pairs"]]
    if not asked:
        return
    columns = ["after epoch", "classes", "pairs", "these pairs, %", "other pairs, %"]
    rows = [
        [str(row["epoch"]), row["classes"], row["pairs"], _course(row, "asked"), _course(row, "other")] for row in asked
    ]
    if compared:
        columns.append("reference, %")
        rows = [[*row, _course(of, "reference")] for row, of in zip(rows, asked, strict=True)]
    output.table("Refreshes: training clips confused before and after", columns, rows)
    if any("?" in cell for row in rows for cell in row[3:]):
        output.line("?: training ended before confusions were counted again.")
    if len(asked) < len(refreshes):
        output.line(f"{len(refreshes) - len(asked)} more asked about nothing new.")


def _print_calibration(output: Output, result: dict[str, Any]) -> None:
    rows = [
        [
            f"{part['low']:.0f} to {part['high']:.0f}",
            part["n"],
            part["confidence"],
            part["accuracy"],
            _interval(part["accuracy_low"], part["accuracy_high"]),
        ]
        for part in result["calibration"]
        if part["n"]
    ]
    output.table("Calibration", ["confidence %", "clips", "mean %", "right %", "95 % interval"], rows)
    verdict = "within chance"
    if result["ece"] > result["ece_by_chance"]:
        verdict = "too sure" if result["mean_confidence"] > result["top1"] else "not sure enough"
    output.line(
        f"Expected calibration error {result['ece']:.1f} %, {verdict} (calibrated: below "
        f"{result['ece_by_chance']:.1f} %).\n"
        f"On average {result['mean_confidence']:.1f} % sure and {result['top1']:.1f} % right."
    )


def _short(name: str, length: int = _NAME_LENGTH) -> str:
    from ..results.figures import shortened

    return shortened(name, length)


def _interval(low: float, high: float, form: str = ".1f") -> str:
    return f"{low:{form}} to {high:{form}}"


def _course(row: dict[str, Any], whose: str) -> str:
    before, after = row[f"{whose}_before"], row[f"{whose}_after"]
    return "" if before is None else f"{before:.1f} to {'?' if after is None else f'{after:.1f}'}"


def _listed(names: list[str], most: int = 8) -> str:
    return ", ".join(_short(name, 40) for name in names[:most]) + (
        f" and {len(names) - most} more" if len(names) > most else ""
    )
