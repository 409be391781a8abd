"""`skag predict`: new recordings, and long ones in segments."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..plural import counted
from .app import app
from .options import Device, DeviceOption, KinematicsOption, QuietOption, SeedOption
from .output import Output, command, printable
from .panels import InPanels

if TYPE_CHECKING:
    from ..inference.evidence import Evidence
    from ..inference.predict import Predicted, Predictor
    from ..inference.recordings import Failure
    from ..inference.segmentation import Segmented


Shown = TypeVar("Shown")
_FEW = 3  # recordings that are named each where all fail alike


@app.command(cls=InPanels, epilog="Example: skag predict runs/ucla-j tomorrow/*.json --with runs/ucla-b --abstain 0.05")
def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder made by `skag train`.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES...", help="Recordings: files, folders, archives of any format that convert reads, or stores."
        ),
    ],
    others: Annotated[
        list[Path] | None, typer.Option("--with", metavar="RUN", help="A further run, of another stream, to fuse with.")
    ] = None,
    abstain: Annotated[
        float | None,
        typer.Option(
            "--abstain",
            min=0,
            max=0.5,
            help="Answer `none of these` where a recording is less sure than all but this share of the clips held out "
            "from training.  [default: always name a class]",
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option("--window", help="Long recordings: find the actions in windows this long, such as 3s or 90f."),
    ] = None,
    stride: Annotated[
        str | None, typer.Option("--stride", help="From one window to the next.  [default: a sixth of the window]")
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option("--fps", min=0.1, max=10_000, help="Frames per second.  [default: the format's, where known]"),
    ] = None,
    reasons: Annotated[
        bool, typer.Option("--reasons/--no-reasons", help="Measure which joints carried each decision.")
    ] = True,
    every_joint: Annotated[
        bool, typer.Option("--every-joint", help="Measure each joint alone: as many passes as there are joints.")
    ] = False,
    format: Annotated[
        str | None, typer.Option("--format", help="Name of the format, see docs/formats.md.  [default: guessed]")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Of a skeleton store: this split alone.")] = None,
    kinematics: KinematicsOption = False,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="NAMES|FILE",
            help="Choose among these classes, also such as the run was never trained on: names with commas, or a file "
            "whose lines are a name, or a name and sentences with a tab before each.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Skeleton store of the training, where it is no longer where training found it."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips, or views of them, per step.")] = 64,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line for every recording, and nothing else there.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Say what new recordings show.

    One answer per recording: the likeliest classes with calibrated probabilities, the sentence that the run's dialogue
    has for the class, and the joints without whose movement the answer would be another. With --window, where one
    action follows another: segments with start, end and class. Reads a run folder and recordings. Writes
    RUN/calibration.json, fitted once on the clips that training held out. A recording that cannot be used is named on
    stderr, the others go on, and the exit code is 1. Nothing is drawn at random, so --seed changes nothing.
    """
    from ..device import choose_device
    from ..errors import DataError
    from ..inference.candidates import read_candidates
    from ..inference.predict import open_predictor, predict_recordings
    from ..inference.recordings import each_recording
    from ..inference.segmentation import Duration, segment_recordings
    from ..suggestions import what_is
    from ..training.allocator import keep_freed_memory

    try:
        span = None if window is None else Duration.parse(window)
        step = None if stride is None else Duration.parse(stride)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None
    if window is None and stride is not None:
        raise typer.BadParameter("--stride belongs to --window.")
    if every_joint and not (reasons and window is None):
        raise typer.BadParameter("--every-joint measures reasons: leave out --no-reasons and --window.")
    if classes is not None and kinematics:
        raise typer.BadParameter("--kinematics knows the trained classes alone: leave it out with --classes.")
    if len(files) == 1 and what_is(files[0]) == "run" and what_is(run_folder) != "run":
        raise DataError(f"the run comes first: `{command('predict', files[0], run_folder)}`.")
    output = Output(as_json, quiet)
    keep_freed_memory()
    where = choose_device(device.value)
    predictor = open_predictor(
        [run_folder, *(others or [])],
        store=data,
        device=where,
        batch_size=batch_size,
        kinematics=kinematics,
        candidates=None if classes is None else read_candidates(classes),
        note=output.note,
    )
    recordings = each_recording(files, predictor.layout, format=format, split=split)
    answers, segments = _Answers(output, predictor, len(files) > 1), _Segments(output, predictor, len(files) > 1)
    shown, failures = answers if span is None else segments, _Failures(output)
    began = time.perf_counter()
    try:
        with output.progress("Predicting") as update:
            if span is None:
                found = predict_recordings(
                    predictor,
                    recordings,
                    abstain=abstain,
                    evidence=reasons,
                    every_joint=every_joint,
                    frame_rate=fps,
                )
                for _ in failures.left_out(found, answers.add):
                    update(answers.count, None)
            else:
                windows = segment_recordings(
                    predictor, recordings, span, step, frame_rate=fps, abstain=abstain, progress=update
                )
                for _ in failures.left_out(windows, segments.add):
                    pass
    finally:
        failures.close()
        shown.close()
    seconds = time.perf_counter() - began
    if shown.count:
        output.note(shown.throughput(seconds, where.type))
    if failures.count:
        raise DataError(
            f"recordings or files that could not be used: {failures.count}, predicted: {shown.count}; "
            "the reasons are above."
        )
    if not shown.count:
        raise DataError("there were no recordings in the files given: see docs/formats.md for what is read.")


class _Failures:
    """A line on stderr for every recording that cannot be used, or one for all where there are no others and the reason
    is the same; in JSON one each, so that every recording has its line there."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._same: list[Failure] | None = []  # all until now, not told yet; None: they differ, or others came between
        self.count = 0

    def left_out(self, found: Iterator[Shown | Failure], show: Callable[[Shown], None]) -> Iterator[None]:
        """Keep the failures among what is `found` and show the rest; stops after each that is shown."""
        from ..inference.recordings import Failure

        for item in found:
            if isinstance(item, Failure):
                self.add(item)
                continue
            self.tell()
            show(item)
            yield

    def add(self, failure: Failure) -> None:
        if failure.expected:
            self._output.note(f"Note: {failure}")
            return
        self.count += 1
        if self._output.as_json:
            _json_line({"file": str(failure.path), "recording": failure.name, "error": failure.reason})
        if self._same is None or (self._same and self._same[0].reason != failure.reason):
            self.tell()
            _error_line(str(failure))
        else:
            self._same.append(failure)

    def tell(self) -> None:
        """Tell of those that wait, and of further ones at once."""
        for failure in self._same or ():
            _error_line(str(failure))
        self._same = None

    def close(self) -> None:
        """Tell of those that wait: once, where they are more than a few."""
        if self._same and len(self._same) > _FEW:
            first = self._same[0]
            _error_line(f"all {len(self._same)} recordings fail for the same reason; the first, {first}")
        else:
            self.tell()


def _error_line(text: str) -> None:
    print(printable(f"skag: {text}"), file=sys.stderr)


def _json_line(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


class _Answers:
    """Prints one answer per recording: JSON at once, the table at the end."""

    def __init__(self, output: Output, predictor: Predictor, several: bool) -> None:
        self._output, self._predictor, self._several = output, predictor, several
        self._rows: list[list[Any]] = []
        self._said: dict[str, str] = {}
        self.count = 0

    def add(self, item: Predicted) -> None:
        self.count += 1
        found = item.prediction
        if found.odd:
            self._output.note(f"Odd: {_name(item, True)} {'; '.join(found.odd)}.")
        if self._output.as_json:
            facts = {"file": str(item.path), "recording": item.name, "frames": item.frames}
            _json_line(facts | found.to_dict() | {"calibrated": self._predictor.calibration is not None})
            return
        from ..inference.predict import NONE_OF_THESE

        next_best = [f"{name} {100 * probability:.1f}" for name, probability in found.top(3)]
        answer, rest = (found.likeliest, next_best[1:]) if found.label else (NONE_OF_THESE, next_best)
        percent = f"{100 * found.probability:.1f}" if found.label else ""
        row = [_name(item, self._several), answer, percent, ", ".join(rest)]
        if found.evidence:
            row.append(_because(found.evidence) if found.label else "")
        self._rows.append(row)
        if found.label and found.sentence:
            self._said[found.label] = found.sentence

    def close(self) -> None:
        if not self._rows:
            return
        calibrated = self._predictor.calibration
        title = f"{counted(self.count, 'recording')}, probabilities in percent"
        title += f", calibrated on {counted(calibrated.fitted_on, 'clip')}" if calibrated else ", not calibrated"
        columns = ["recording", "class", "%", "next", "carried by (held still together: what it would be)"]
        self._output.table(title, columns[: len(self._rows[0])], self._rows)
        if self._said:
            self._output.line("What the dialogue says of these classes:")
        for name, sentence in self._said.items():
            self._output.line(f"  {name}: {sentence}")

    def throughput(self, seconds: float, device: str) -> str:
        many, rate = counted(self.count, "recording"), self.count / seconds
        return f"{many} in {seconds:.1f} s on {device}: {rate:.1f} per second, reading included."


class _Segments:
    """Prints the segments of each recording as they come."""

    def __init__(self, output: Output, predictor: Predictor, several: bool) -> None:
        self._output, self._several = output, several
        self.count = self._windows = 0

    def add(self, item: Segmented) -> None:
        from ..inference.predict import NONE_OF_THESE

        self.count += 1
        self._windows += item.num_windows
        if self._output.as_json:
            found = [segment.to_dict(item.frame_rate) for segment in item.segments]
            facts = {"file": str(item.path), "recording": item.name, "frames": item.frames, "fps": item.frame_rate}
            _json_line(facts | {"windows": item.num_windows, "segments": found})
            return
        rows = []
        for segment in item.segments:
            span: list[float] = [segment.start, segment.stop - 1]
            if item.frame_rate:
                span = [segment.start / item.frame_rate, segment.stop / item.frame_rate]
            answer = segment.label or ("nobody" if segment.nobody else NONE_OF_THESE)
            percent = "" if segment.probability is None else f"{100 * segment.probability:.1f}"
            rows.append([*span, answer, percent])
        unit = "s" if item.frame_rate else "frame"
        title = f"{_name(item, self._several)}: {counted(item.frames, 'frame')}, {counted(item.num_windows, 'window')}"
        self._output.table(title, [f"from {unit}", f"to {unit}", "class", "%"], rows)

    def close(self) -> None:
        """Everything is printed already."""

    def throughput(self, seconds: float, device: str) -> str:
        return (
            f"{counted(self._windows, 'window')} of {counted(self.count, 'recording')} in {seconds:.1f} s on {device}: "
            f"{self._windows / seconds:.0f} clips per second, reading included."
        )


def _name(item: Predicted | Segmented, several: bool) -> str:
    return f"{item.path.name}: {item.name}" if several and item.name != item.path.stem else item.name


def _because(evidence: Evidence) -> str:
    """`right hand, right wrist (clap hands 56 %)`, or what the first joint takes where no few of them decide."""
    from ..inference.evidence import MOST_CARRIERS

    if evidence.instead is not None:
        name, probability = evidence.instead
        return f"{', '.join(evidence.carried_by)} ({name} {100 * probability:.0f} %)"
    strongest = evidence.joints[0]
    alone = f", of these {strongest.joint} {100 * strongest.drop:.0f} points" if strongest.drop >= 0.01 else ""
    return f"more than {MOST_CARRIERS} joints{alone}"
