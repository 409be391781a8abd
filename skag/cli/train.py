"""`skag train`."""

from __future__ import annotations

import dataclasses
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..plural import counted
from .app import app
from .completion import run_folders
from .interruption import resumable
from .options import (
    DIALOGUES,
    BaseUrlOption,
    ClassesOption,
    Device,
    DeviceOption,
    DryRunOption,
    FaithfulOption,
    FallbackOption,
    JobsOption,
    JsonOption,
    MethodOption,
    OfflineOption,
    PromptsOption,
    QuietOption,
    RecipeOption,
    SeedOption,
    SetOption,
    StoreOption,
    Streams,
    TimeoutOption,
)
from .output import Output, command
from .panels import InPanels

if TYPE_CHECKING:
    import torch

    from ..config import Config
    from ..dialogue.interview import Question
    from ..methods.base import KnowledgeSource
    from ..skeleton.store import SkeletonStore
    from ..training.start import Wanted
    from ..training.start_from import Start


@app.command(cls=InPanels, epilog="Example: skag train nw-ucla.h5 --recipe nw-ucla-small --stream j --out runs/ucla-j")
def train(
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA.h5", help="Skeleton store made by `skag convert`.")
    ] = None,
    recipe: RecipeOption = None,
    method: MethodOption = None,
    stream: Annotated[
        Streams, typer.Option("--stream", help="Joint, bone, k-bone, or their motions; all: the six in turn.")
    ] = Streams.j,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Run folder to make (of all: their folder).  [default: runs/DATA-STREAM-DATE]"),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Which train/test split, where the store has several.")
    ] = None,
    unseen: Annotated[
        str | None,
        typer.Option(
            "--unseen",
            metavar="NAMES|FILE|PROTOCOL|N",
            help="Classes to learn nothing from: names with commas, a file with a name a line, a published list such "
            "as ntu60-5 or nw-ucla-2, or a number to draw.",
        ),
    ] = None,
    rehearse: Annotated[
        int | None,
        typer.Option(
            "--rehearse",
            min=0,
            help="Seen classes that a second training leaves out, which weighs what `skag eval --classes` adds up.  "
            "[default: a fifth of them; 0: none]",
        ),
    ] = None,
    classes: ClassesOption = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs.  [default: the recipe's]")] = None,
    llm: Annotated[
        str | None,
        typer.Option("--llm", help="BACKEND/MODEL to ask.  [default: what the classes were described with]"),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option("--alpha", min=0, help="Weight of the joint constraint.  [default: the recipe's]")
    ] = None,
    beta: Annotated[
        float | None, typer.Option("--beta", min=0, help="Weight of the alignment.  [default: the recipe's]")
    ] = None,
    max_questions: Annotated[
        int | None,
        typer.Option("--max-questions", min=0, help="Most questions, stored answers included.  [default: no limit]"),
    ] = None,
    wait_for_answers: Annotated[
        bool,
        typer.Option(
            "--wait-for-answers", help="Train on with the answers only, so that the run can be repeated exactly."
        ),
    ] = False,
    text_encoder: Annotated[
        str | None,
        typer.Option(
            "--text-encoder",
            help="lexical, open_clip:ViT-B-32, hf:bert-base-uncased or hf:FOLDER.  [default: the recipe's]",
        ),
    ] = None,
    text_weights: Annotated[
        Path | None,
        typer.Option("--text-weights", help="Weights file or folder of the text encoder.  [default: hub's cache]"),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(
            "--base-model",
            help="Language model to be tuned, where the method tunes one: smollm2, a folder, a GGUF file or a name on "
            "the hub.  [default: the recipe's]",
        ),
    ] = None,
    faithful_to: FaithfulOption = None,
    assignments: SetOption = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            help="Resume a run that was interrupted, as if it never had been; with --epochs N, train on until N.",
            autocompletion=run_folders,
        ),
    ] = None,
    repeat: Annotated[
        Path | None,
        typer.Option(
            "--repeat",
            metavar="RUN",
            help="Train a finished run again: its answers when it had them, nobody is asked.",
            autocompletion=run_folders,
        ),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN|FILE.pth",
            help="Start from a run, or a published checkpoint, also of other classes or another layout.",
            autocompletion=run_folders,
        ),
    ] = None,
    store: StoreOption = DIALOGUES,
    prompts: PromptsOption = None,
    base_url: BaseUrlOption = None,
    fallback: FallbackOption = None,
    timeout: TimeoutOption = 600,
    jobs: JobsOption = 4,
    offline: OfflineOption = False,
    dry_run: DryRunOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a recogniser.

    While it trains, the language model is asked about the classes it confuses. Reads a skeleton store and the
    dialogue store that `skag describe` filled; where it holds nothing of the classes, `measured` describes them first.
    With --alpha 0 --beta 0 no dialogue is needed. Writes a run folder: config, checkpoints, metrics, refreshes and the
    dialogues used.
    The test split is not touched: part of the training split is held out to choose the best epoch.
    """
    from ..device import choose_device
    from ..dialogue.replay import missing_distinctions
    from ..methods.base import KnowledgeSource
    from ..training import distributed
    from ..training.allocator import keep_freed_memory
    from ..training.start import Wanted
    from ..training.start_from import open_start

    output = Output(as_json, quiet)
    asked = {
        "data.protocol": protocol,
        "train.epochs": epochs,
        "agents.alpha": alpha,
        "agents.beta": beta,
        "agents.max_questions": max_questions,
        "agents.wait_for_answers": True if wait_for_answers else None,
        "*.text_encoder": text_encoder,
        "lm.base_model": base_model,
    }
    longer = epochs if resume is not None else None
    if longer is not None:
        del asked["train.epochs"]
    changes = [f"{field}={value}" for field, value in asked.items() if value is not None] + (assignments or [])
    _check_usage(
        data,
        resume,
        repeat,
        bool(out),
        bool(
            changes
            or recipe
            or method
            or faithful_to
            or dry_run
            or seed
            or unseen
            or classes
            or stream is not Streams.j
        ),
    )
    if start_from is not None and (resume is not None or repeat is not None):
        raise typer.BadParameter("--from starts a new run: leave out --resume and --repeat.")
    if rehearse is not None and unseen is None:
        raise typer.BadParameter("--rehearse belongs to --unseen.")
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # text encoders too
    keep_freed_memory()
    where = distributed.begin(choose_device(device.value))
    if not distributed.leads():
        output = Output(False, True)
    source = KnowledgeSource(
        dialogues=store,
        llm=llm,
        fallback=fallback,
        prompts=prompts,
        text_weights=text_weights,
        offline=offline,
        base_url=base_url,
        timeout=timeout,
        jobs=jobs,
    )
    if resume is not None or repeat is not None:
        reports, missing = _train_earlier(output, data, resume, repeat, out, where, source, longer)
    else:
        assert data is not None
        folder = distributed.share(out or Path("runs") / f"{data.stem}-{stream.value}-{datetime.now():%Y%m%d-%H%M%S}")
        faithful = None if faithful_to is None else faithful_to.value
        start = None if start_from is None else open_start(start_from, method)
        all_changes = (*changes, f"train.seed={seed}")
        wanted = Wanted(recipe, method, protocol, faithful, all_changes, rehearse=rehearse, start=start)
        reports, missing = _train_new(
            output, data, wanted, stream, folder, where, source, dry_run, unseen, seed, classes
        )
    distributed.end()
    if not dry_run:
        of_classes = ("--classes", "all") if unseen is not None and len(reports) == 1 else ()
        output.next("eval", *(report["run"] for report in reports), *of_classes)
    output.document(reports[0] if stream is not Streams.all else {"runs": reports})
    if missing:
        raise missing_distinctions(missing)


def _check_usage(data: Path | None, resume: Path | None, repeat: Path | None, out: bool, changed: bool) -> None:
    """Raise `BadParameter` for options that do not go together; `changed`: some say what to train."""
    if resume is not None and repeat is not None:
        raise typer.BadParameter("give --resume RUN or --repeat RUN, not both.")
    if resume is None and repeat is None and data is None:
        raise typer.BadParameter("give DATA.h5, or --resume RUN to resume a run.")
    if resume is not None and (changed or out):
        raise typer.BadParameter("a run that is resumed keeps its recipe, stream and folder: leave these options out.")
    if repeat is not None and changed:
        raise typer.BadParameter("a run that is repeated keeps its recipe, stream and seed: leave these options out.")


def _train_earlier(
    output: Output,
    data: Path | None,
    resume: Path | None,
    repeat: Path | None,
    out: Path | None,
    where: torch.device,
    source: KnowledgeSource,
    longer: int | None,
) -> tuple[list[dict[str, Any]], list[Question]]:
    """Resume a run, until the epoch `longer` where that is asked for, or train a finished one again."""
    import dataclasses

    from .. import runs
    from ..errors import RunError
    from ..skeleton.class_choice import as_trained
    from ..skeleton.store import SkeletonStore
    from ..training.start import new_folder, prolonged, source_of

    earlier = resume or repeat
    assert earlier is not None
    config, (path, _) = runs.read_config(earlier), runs.read_source(earlier)
    source = source_of(earlier, source, DIALOGUES)
    if data is None and not path.is_file():
        option = "--resume" if resume else "--repeat"
        raise RunError(f"{path}, which {earlier} was trained on, is gone: give the store, DATA.h5 {option} {earlier}.")
    run = resume or new_folder(out or earlier.with_name(f"{earlier.name}-again"))
    if repeat is not None:
        source = dataclasses.replace(source, repeat=repeat)
    with SkeletonStore(data or path) as whole:
        clips = as_trained(whole, runs.classes_of(earlier))
        runs.check_fingerprint(earlier, clips)
        if longer is not None:
            config = prolonged(run, config, longer, output.note)
        output.note(f"Resuming {run} ({where})." if resume else f"Training {repeat} again in {run} ({where}).")
        report, missing = _train_one(output, clips, config, run, where, source, bool(resume))
    return [report], missing


def _train_new(
    output: Output,
    data: Path,
    wanted: Wanted,
    stream: Streams,
    folder: Path,
    where: torch.device,
    source: KnowledgeSource,
    dry_run: bool,
    unseen: str | None,
    seed: int,
    classes: str | None,
) -> tuple[list[dict[str, Any]], list[Question]]:
    """Train one stream or all six, or say what would be asked."""
    import dataclasses

    from ..skeleton.class_choice import matching, read_class_list
    from ..skeleton.layouts import STREAMS
    from ..skeleton.store import SkeletonStore
    from ..skeleton.unseen import unseen_classes
    from ..training.start import configure, new_folder, with_clips

    new_folder(folder)
    streams = STREAMS if stream is Streams.all else (stream.value,)
    reports: list[dict[str, Any]] = []
    missing: list[Question] = []
    names = None if classes is None else read_class_list(classes)
    with SkeletonStore(data) as whole:
        if unseen is not None:
            chosen = whole if names is None else whole.of_classes(matching(names, whole.classes, data))
            wanted = dataclasses.replace(wanted, unseen=unseen_classes(unseen, chosen, seed))
        clips = with_clips(whole, wanted, streams[0], where.type, output.note, names)
        for number, one in enumerate(streams):
            config, reasons = configure(clips, wanted, one, where.type)
            if reasons and not number:
                if asked_for := [change for change in wanted.changes if not change.startswith("train.seed=")]:
                    reasons.append(f"but as asked for: {', '.join(asked_for)}")
                output.note("Recipe derived from the data:\n" + "\n".join(f"  {reason}" for reason in reasons))
            if dry_run:
                reports.append(_tell_plan(output, clips, config, source))
                continue
            train_split, test_split = clips.protocol(config.data.protocol)
            if config.data.unseen and not number:
                _tell_unseen(output, clips, config, train_split)
            if config.train.select_on == "test":
                output.note(f"Warning: {test_split} chooses the epoch that is kept; its accuracy is then no estimate.")
            else:
                output.note(f"Training on {train_split} of {data} ({where}); {test_split} is left for `skag eval`.")
            run = folder / one if len(streams) > 1 else folder
            if wanted.start is not None and not number:
                _tell_start(output, wanted.start, config)
            report, unanswered = _train_one(output, clips, config, run, where, source, start=wanted.start)
            reports.append(report)
            missing += unanswered
    return reports, missing


def _tell_unseen(output: Output, clips: SkeletonStore, config: Config, train_split: str) -> None:
    """Which classes nothing is learned from, by which rule, and what the texts are read by."""
    import numpy as np

    from ..config import flat
    from ..skeleton.unseen import RULE
    from ..text import LEXICAL

    unseen = config.data.unseen
    numbers = [clips.classes.index(name) for name in unseen]
    left_out = int(np.isin(clips.labels[clips.splits[train_split]], numbers).sum())
    output.note(
        f"Unseen: {', '.join(unseen)} ({len(clips.classes) - len(unseen)} classes seen); "
        f"{counted(left_out, 'clip')} of {train_split} left out.\nRule: {RULE.format(what='unseen classes')}."
    )
    if LEXICAL in (value for name, value in flat(config).items() if name.endswith(".text_encoder")):
        output.note(
            "Note: the text encoder lexical compares wording and knows no meanings, so that it says little of unseen "
            "classes: give one that does, such as --text-encoder hf:FOLDER of all-MiniLM-L6-v2 (docs/unseen.md)."
        )


def _tell_start(output: Output, start: Start, config: Config) -> None:
    """What is unlike where the training starts from."""
    if start.config is not None and start.config.data.stream != config.data.stream:
        output.note(
            f"Note: {start.path} was trained on stream {start.config.data.stream} and this run is of "
            f"{config.data.stream}: --stream {start.config.data.stream} keeps it."
        )
    if known := [name for name in config.data.unseen if name in start.classes]:
        output.note(
            f"Warning: {start.path} has learned {known[0]!r}, which is to be unseen here: what this run says of it is "
            "no estimate for classes that nothing was seen of."
        )


def _train_one(
    output: Output,
    clips: SkeletonStore,
    config: Config,
    run: Path,
    where: torch.device,
    source: KnowledgeSource,
    resume: bool = False,
    start: Start | None = None,
) -> tuple[dict[str, Any], list[Question]]:
    """Train one run, or resume it; its report, and the questions that the store did not answer."""
    from ..training import distributed
    from ..training.start import train_run
    from .progress import Terminal

    with resumable(run), Terminal(output, where) as watcher:
        source = dataclasses.replace(source, progress=watcher.before)
        report, missing = train_run(clips, config, run, source, where, watcher, output.note, resume=resume, start=start)
    found = report.to_dict()
    if not distributed.leads():
        return found, []
    chosen_by = "held-out training clips"
    if config.data.unseen:
        chosen_by += f" of seen classes ({'the last epoch' if config.train.keep == 'last' else 'which chose it'})"
    if report.selected_on == "test":
        chosen_by = "the test split, which chose the epoch (no estimate for new clips)"
    output.line(
        f"{run}: kept epoch {report.best_epoch} of {report.epochs}, top-1 {report.val_top1:.2f} % on "
        f"{chosen_by}{_asked(found)}"
    )
    if report.val_top1 <= report.majority_top1:
        output.note(
            f"Note: that is no more than always naming the commonest class has there ({report.majority_top1:.2f} %). "
            f"See what `{command('check', clips.path)}` finds, or try --set train.lr={config.train.lr / 10:g} or more "
            "--epochs."
        )
    if found.get("too_late") is not None:
        output.note(
            f"Note: what was asked at the end of epoch {found['too_late']} was not answered before the last epoch."
        )
    return found, list(missing)


def _asked(report: dict[str, Any]) -> str:
    if "refreshes" not in report:
        return ""
    return f"; {counted(report['refreshes'], 'refresh')}, {counted(report['asked'], 'question')} asked"


def _tell_plan(output: Output, clips: SkeletonStore, config: Config, source: KnowledgeSource) -> dict[str, int]:
    """What `--dry-run` can know: whom the recogniser will confuse is not known before it trains."""
    import dataclasses

    from ..training.start import open_knowledge

    if source.llm in (None, "measured"):
        source = dataclasses.replace(source, offline=True)  # which would describe classes that nobody has yet
    with open_knowledge(clips, config, source, "cpu", output.note) as knowledge:
        refreshes, classes = knowledge.most_questions(config.train.epochs)
    most = refreshes * classes
    output.line(
        f"at most {most} questions would be asked: {refreshes} refreshes x {classes} classes, fewer for "
        "every class that is not confused and every question that the store answers"
    )
    return {"refreshes": refreshes, "classes": classes, "to_ask_at_most": most}
