"""`skag train`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import Device, DeviceOption, JsonOption, QuietOption, SeedOption, Stream, app
from .ask import (
    DIALOGUES,
    BaseUrlOption,
    DryRunOption,
    FallbackOption,
    JobsOption,
    OfflineOption,
    PromptsOption,
    StoreOption,
    TimeoutOption,
)
from .completion import recipe_names, run_folders
from .interruption import resumable
from .output import Output, command, counted

if TYPE_CHECKING:
    import torch

    from ..config import Config
    from ..dialogue.replay import Question
    from ..methods.skeleton_agent.agents import Agents
    from ..skeleton.store import SkeletonStore


MOST_WAITING = 0.25  # share of an epoch that a run waits for a core before it says so

Streams = StrEnum("Streams", [*Stream.__members__, "all"])


class Faithful(StrEnum):
    paper = "paper"
    release = "release"


class Confusion(StrEnum):
    train = "train"
    val = "val"


class SelectOn(StrEnum):
    validation = "validation"
    test = "test"


RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Recipe by name (skag recipes).  [default: derived from the data]",
        autocompletion=recipe_names,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change one field of the recipe; may be given several times."),
]
FaithfulOption = Annotated[
    Faithful | None,
    typer.Option("--faithful-to", help="Set every option in which paper and published code differ as one has it."),
]


@app.command(epilog="Example: skag train nw-ucla.h5 --recipe nw-ucla-small --stream j --out runs/ucla-j")
def train(
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA.h5", help="Skeleton store made by `skag convert`.")
    ] = None,
    recipe: RecipeOption = None,
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
    gamma: Annotated[
        float | None,
        typer.Option("--gamma", min=0, help="Weight of the motion of critical joints.  [default: the recipe's]"),
    ] = None,
    confusion: Annotated[
        Confusion | None,
        typer.Option("--confusion", help="Clips whose confusions are asked about: the epoch's, or those held out."),
    ] = None,
    min_confusions: Annotated[
        int | None,
        typer.Option(
            "--min-confusions", min=1, help="Confused clips that make a class similar.  [default: the recipe's]"
        ),
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
    select_on: Annotated[
        SelectOn | None,
        typer.Option("--select-on", help="Clips that choose the epoch; test is no estimate.  [default: the recipe's]"),
    ] = None,
    faithful_to: FaithfulOption = None,
    assignments: SetOption = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            help="Go on with a run that was interrupted, as if it never had been.",
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
    dialogue store that `skag describe` filled; with --alpha 0 --beta 0 no
    dialogue is needed. Writes a run folder: config, checkpoints, metrics, refreshes and the dialogues used.
    The test split is not touched: part of the training split is held out to choose the best epoch.
    """
    from .. import recipes, runs
    from ..config import override
    from ..device import choose_device
    from ..dialogue.replay import missing_distinctions
    from ..errors import RunError
    from ..skeleton.layouts import STREAMS
    from ..skeleton.store import SkeletonStore
    from ..training import distributed
    from ..training.allocator import keep_freed_memory

    output = Output(as_json, quiet)
    asked = {
        "data.protocol": protocol,
        "train.epochs": epochs,
        "train.select_on": select_on,
        "agents.alpha": alpha,
        "agents.beta": beta,
        "agents.gamma": gamma,
        "agents.confusion": confusion,
        "agents.min_confusions": min_confusions,
        "agents.max_questions": max_questions,
        "agents.wait_for_answers": True if wait_for_answers else None,
        "agents.text_encoder": text_encoder,
    }
    changes = [f"{field}={value}" for field, value in asked.items() if value is not None] + (assignments or [])
    given = bool(changes or recipe or faithful_to or dry_run or seed or stream is not Streams.j)
    if resume is not None and repeat is not None:
        raise typer.BadParameter("give --resume RUN or --repeat RUN, not both.")
    if resume is None and repeat is None and data is None:
        raise typer.BadParameter("give DATA.h5, or --resume RUN to go on with a run.")
    if resume is not None and (given or out):
        raise typer.BadParameter("a run that is resumed keeps its recipe, stream and folder: leave these options out.")
    if repeat is not None and given:
        raise typer.BadParameter("a run that is repeated keeps its recipe, stream and seed: leave these options out.")
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # text encoders too
    keep_freed_memory()
    where = distributed.begin(choose_device(device.value))
    if not distributed.leads():
        output = Output(False, True)
    asking = {
        "llm": llm,
        "dialogues": store,
        "prompts": prompts,
        "fallback": fallback,
        "text_weights": text_weights,
        "offline": offline,
    }
    asking = {name: str(value.resolve()) if isinstance(value, Path) else value for name, value in asking.items()}
    server = {"base_url": base_url, "timeout": timeout, "jobs": jobs}
    if resume is not None or repeat is not None:
        earlier = resume or repeat
        config, (path, recorded) = runs.read_config(earlier), runs.read_source(earlier)
        moved = store != DIALOGUES or "dialogues" not in recorded
        changed = {name: value for name, value in asking.items() if value and (name != "dialogues" or moved)}
        asking = asking | recorded | changed
        if data is None and not path.is_file():
            option = "--resume" if resume else "--repeat"
            raise RunError(
                f"{path}, which {earlier} was trained on, is gone: give the store, DATA.h5 {option} {earlier}."
            )
        run = resume or _new_folder(out or earlier.with_name(f"{earlier.name}-again"))
        with SkeletonStore(data or path) as clips:
            runs.check_fingerprint(earlier, clips)
            output.note(f"Going on with {run} ({where})." if resume else f"Training {repeat} again in {run} ({where}).")
            if repeat is not None:
                asking |= {"repeat": str(repeat.resolve())}
            report, missing = _train_one(output, clips, config, run, where, asking, server, bool(resume))
        distributed.end()
        output.next("eval", run)
        output.document(report)
        if missing:
            raise missing_distinctions(missing)
        return
    folder = distributed.share(out or Path("runs") / f"{data.stem}-{stream.value}-{datetime.now():%Y%m%d-%H%M%S}")
    _new_folder(folder)
    changes.append(f"train.seed={seed}")
    streams = STREAMS if stream is Streams.all else (stream.value,)
    reports, missing = [], []
    with SkeletonStore(data) as clips:
        for number, one in enumerate(streams):
            if recipe is None:
                train_split, _ = clips.protocol(protocol)
                config, reasons = recipes.derived(clips, train_split, one, where.type)
            else:
                config = recipes.fitted(recipes.recipe(recipe, one), clips)
            if faithful_to is not None:
                config = recipes.faithful(config, faithful_to.value, clips.layout.dims)
            config = override(config, changes)
            if recipe is None and not number:
                if asked_for := [change for change in changes if not change.startswith("train.seed=")]:
                    reasons.append(f"but as asked for: {', '.join(asked_for)}")
                output.note("Recipe derived from the data:\n" + "\n".join(f"  {reason}" for reason in reasons))
            if dry_run:
                reports.append(_tell_plan(output, clips, config, asking, server))
                continue
            train_split, test_split = clips.protocol(config.data.protocol)
            run = folder / one if len(streams) > 1 else folder
            if config.train.select_on == "test":
                output.note(f"Warning: {test_split} chooses the epoch that is kept; its accuracy is then no estimate.")
            else:
                output.note(f"Training on {train_split} of {data} ({where}); {test_split} is left for `skag eval`.")
            report, unanswered = _train_one(output, clips, config, run, where, asking, server)
            reports.append(report)
            missing += unanswered
    distributed.end()
    if not dry_run:
        output.next("eval", *(report["run"] for report in reports))
    output.document(reports[0] if len(streams) == 1 else {"runs": reports})
    if missing:
        raise missing_distinctions(missing)


def _new_folder(folder: Path) -> Path:
    """`folder`, for a new run. Raises `RunError` where something is there already."""
    from .. import runs
    from ..errors import RunError
    from ..training import distributed

    if distributed.leads() and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        hint = f"go on with it by --resume {folder}" if (folder / runs.CONFIG).exists() else "remove it"
        raise RunError(f"{folder} is there already: choose another folder with --out, or {hint}.")
    return folder


@contextmanager
def _agents(
    clips: SkeletonStore, config: Config, asking: dict[str, Any], server: dict[str, Any], **options: Any
) -> Iterator[Agents]:
    """The agents of a run, as `asking` and `server` name them."""
    from ..methods.skeleton_agent.agents import open_agents

    paths = {name: asking[name] and Path(asking[name]) for name in ("dialogues", "prompts", "text_weights")}
    with open_agents(
        config.agents, clips, protocol=config.data.protocol, **(asking | paths), **server, **options
    ) as agents:
        yield agents


def _train_one(
    output: Output,
    clips: SkeletonStore,
    config: Config,
    run: Path,
    where: torch.device,
    asking: dict[str, Any],
    server: dict[str, Any],
    resume: bool = False,
) -> tuple[dict[str, Any], list[Question]]:
    """Train one run, or go on with it; its report, and the questions that the store did not answer."""
    from ..device import multiplies_bf16
    from ..methods.skeleton_agent.agents import Agents, recorded_agents
    from ..training import distributed
    from ..training.loop import train as run_train

    asking = dict(asking)
    repeat = asking.pop("repeat", None)
    if not resume and where.type == "cpu" and config.train.precision == "bf16" and multiplies_bf16() is False:
        output.note("Note: this processor has no instructions for bf16: --set train.precision=float32 is faster.")
    with ExitStack() as stack:
        stack.enter_context(resumable(run))
        if not distributed.leads():
            agents = Agents(config.agents, clips.layout, len(clips.classes))
        elif repeat is None:
            agents = stack.enter_context(_agents(clips, config, asking, server, device=where.type, note=output.note))
        else:
            weights, store = asking["text_weights"] and Path(asking["text_weights"]), Path(asking["dialogues"])
            options = {"dialogues": store, "text_weights": weights, "device": where.type, "note": output.note}
            agents = recorded_agents(Path(repeat), clips, **options)
        watcher = stack.enter_context(_Terminal(output, where))
        if agents.active and repeat is None:
            fixed = ", which answers no further questions" if agents.llm.startswith("imported/") else ""
            alone = ", from the store alone" if asking["offline"] else ""
            output.note(f"Dialogues by {agents.llm}{fixed}{alone}.")
            asking = asking | {"llm": agents.llm}
        noted = asking if repeat is None else asking | {"repeat": repeat}
        report = run_train(clips, config, run, agents, where, watcher, asking=noted, resume=resume)
    chosen_by = "held-out training clips"
    if report.selected_on == "test":
        chosen_by = "the test split, which chose the epoch (no estimate for new clips)"
    if not distributed.leads():
        return vars(report), []
    output.line(
        f"{run}: kept epoch {report.best_epoch} of {report.epochs}, top-1 {report.val_top1:.2f} % on "
        f"{chosen_by}; {counted(report.refreshes, 'refresh')}, {counted(report.asked, 'question')} asked"
    )
    if report.val_top1 <= report.majority_top1:
        output.note(
            f"Note: that is no more than always naming the commonest class has there ({report.majority_top1:.2f} %). "
            f"See what `{command('check', clips.path)}` finds, or try --set train.lr={config.train.lr / 10:g} or more "
            "--epochs."
        )
    if report.too_late is not None:
        output.note(
            f"Note: what was asked at the end of epoch {report.too_late} was not answered before the last epoch."
        )
    return vars(report), agents.missing


def _tell_plan(
    output: Output, clips: SkeletonStore, config: Config, asking: dict[str, Any], server: dict[str, Any]
) -> dict[str, int]:
    """What `--dry-run` can know: whom the recogniser will confuse is not known before it trains."""
    with _agents(clips, config, asking, server, note=output.note) as agents:
        refreshes = (config.train.epochs - 1) // config.agents.query_period if agents.active else 0
        most = refreshes * agents.num_classes
    output.line(
        f"at most {most} questions would be asked: {refreshes} refreshes x {agents.num_classes} classes, fewer for "
        "every class that is not confused and every question that the store answers"
    )
    return {"refreshes": refreshes, "classes": agents.num_classes, "to_ask_at_most": most}


def _losses(means: dict[str, float]) -> str:
    """The loss with those of its terms that there are."""
    names = [name for name in ("cls", "con", "align", "motion", "mix") if means[f"loss_{name}"]]
    terms = " ".join(f"{name} {means[f'loss_{name}']:.3f}" for name in names)
    return f"loss {means['loss']:.3f} ({terms})"


class _Terminal:
    """Progress on stderr: a bar per epoch with the losses so far and what is being asked, a line per epoch, a line per
    refresh."""

    def __init__(self, output: Output, device: torch.device) -> None:
        import torch
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from ..device import seconds_kept_waiting

        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        hidden = output.quiet or not console.is_terminal
        self._output = output
        self._bar = Progress(*columns, console=console, disable=hidden, transient=True, redirect_stdout=False)
        self._task: Any = None
        self._state, self._best, self._next_look = "", 0.0, 0.0
        self._seconds_waited = seconds_kept_waiting
        self._threads = torch.get_num_threads() if device.type == "cpu" else 1

    def __enter__(self) -> _Terminal:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        self._began, self._waited = time.monotonic(), self._seconds_waited()
        self._epochs, self._epoch = epochs, f"epoch {epoch}/{epochs}"
        if self._best:
            self._epoch += f"  best val {self._best:.1f} %"
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(self._epoch + self._state, total=steps)

    def step_done(self, means: Callable[[], dict[str, float]]) -> None:
        self._bar.advance(self._task)
        if not self._bar.disable and (now := time.monotonic()) >= self._next_look:
            self._next_look = now + 0.5  # reading the losses waits for the device
            self._bar.update(self._task, description=f"{self._epoch}  {_losses(means())}{self._state}")

    def asking(self, epoch: int, classes: int) -> None:
        if not self._state:
            self._say(f"  refresh: asking about {classes} classes while training goes on")
        self._state = f"  asking about {classes} classes since epoch {epoch}"

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        self._best = max(self._best, metrics["val_top1"])
        self._say(
            f"epoch {metrics['epoch']:>3}/{self._epochs}  {_losses(metrics)}  "
            f"train {metrics['train_top1']:.1f} %  val {metrics['val_top1']:.1f} %  {metrics['seconds']:.1f} s"
        )
        share = (self._seconds_waited() - self._waited) / (time.monotonic() - self._began)
        if self._threads > 1 and share > MOST_WAITING:
            self._say(
                f"Note: for {share:.0%} of this epoch other programs had the cores that it was ready to "
                "use. Runs side by side are many times as fast with a thread each: OMP_NUM_THREADS=1 (docs/faq.md)."
            )
            self._threads = 1  # said once

    def refreshed(self, record: dict[str, Any]) -> None:
        self._state = ""
        counts = [f"{len(record['similar'])} of {record['num_classes']} classes confused", f"{record['asked']} asked"]
        counts.append(f"{record['cached']} from the store")
        if record["over_budget"]:
            counts.append(f"{len(record['over_budget'])} not asked, since the budget of --max-questions is spent")
        if record["failed"]:
            counts.append(f"{len(record['failed'])} failed and kept what they had ({record['failed'][0][1]})")
        since = f" of epoch {record['epoch']}" if record["effective"] > record["epoch"] + 1 else ""
        self._say(f"  refresh{since}: {', '.join(counts)}")

    def _say(self, text: str) -> None:
        if not self._output.quiet:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
