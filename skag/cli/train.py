"""`skag train`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import Device, DeviceOption, JsonOption, QuietOption, SeedOption, Stream, app
from .ask import (
    BaseUrlOption,
    DryRunOption,
    FallbackOption,
    JobsOption,
    OfflineOption,
    PromptsOption,
    StoreOption,
    TimeoutOption,
)
from .output import Output

if TYPE_CHECKING:
    from ..agents import Agents
    from ..config import Config


Streams = StrEnum("Streams", [*Stream.__members__, "all"])


class Faithful(StrEnum):
    paper = "paper"
    release = "release"


class SelectOn(StrEnum):
    validation = "validation"
    test = "test"


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
    data: Annotated[Path, typer.Argument(metavar="DATA.h5", help="Skeleton store made by `skag convert`.")],
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Recipe by name (skag recipes).  [default: derived from the data]")
    ] = None,
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
    store: StoreOption = Path("cache/dialogues.h5"),
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
    from .. import recipes
    from ..agents import open_agents
    from ..config import override
    from ..device import choose_device, keep_freed_memory
    from ..errors import RunError
    from ..layouts import STREAMS
    from ..replay import missing_distinctions
    from ..store import SkeletonStore
    from ..train import train as run_train

    output = Output(as_json, quiet)
    keep_freed_memory()
    where = choose_device(device.value)
    folder = out or Path("runs") / f"{data.stem}-{stream.value}-{datetime.now():%Y%m%d-%H%M%S}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is there already: choose another folder with --out, or remove it.")
    asked = {
        "data.protocol": protocol,
        "train.epochs": epochs,
        "train.select_on": select_on,
        "agents.alpha": alpha,
        "agents.beta": beta,
        "agents.text_encoder": text_encoder,
    }
    changes = [f"{field}={value}" for field, value in asked.items() if value is not None]
    changes += [f"train.seed={seed}", *(assignments or [])]
    streams = STREAMS if stream is Streams.all else (stream.value,)
    reports, missing = [], []
    with SkeletonStore(data) as clips:
        for number, one in enumerate(streams):
            if recipe is None:
                train_split, _ = clips.protocol(protocol)
                config, reasons = recipes.derived(clips, train_split, one, where.type)
                if not number:
                    output.note("Recipe derived from the data:\n" + "\n".join(f"  {reason}" for reason in reasons))
            else:
                config = recipes.fitted(recipes.recipe(recipe, one), clips)
            if faithful_to is not None:
                config = recipes.faithful(config, faithful_to.value, clips.layout.dims)
            config = override(config, changes)
            train_split, test_split = clips.protocol(config.data.protocol)
            run = folder / one if len(streams) > 1 else folder
            note = f"Training on {train_split} of {data} ({where}); {test_split} is left for `skag eval`."
            if config.train.select_on == "test":
                note = f"Warning: {test_split} chooses the epoch that is kept; its accuracy is then no estimate."
            if not dry_run:
                output.note(note)
            with (
                open_agents(
                    config.agents,
                    clips,
                    llm=llm,
                    protocol=config.data.protocol,
                    dialogues=store,
                    prompts=prompts,
                    base_url=base_url,
                    fallback=fallback,
                    timeout=timeout,
                    jobs=jobs,
                    text_weights=text_weights,
                    device=where.type,
                    offline=offline,
                    note=output.note,
                ) as agents,
                _Terminal(output) as watcher,
            ):
                if dry_run:
                    reports.append(_tell_plan(output, config, agents))
                    continue
                if agents.active:
                    fixed = ", which answers no further questions" if agents.llm.startswith("imported/") else ""
                    output.note(f"Dialogues by {agents.llm}{fixed}{', from the store alone' if offline else ''}.")
                report = run_train(clips, config, run, agents, where, watcher)
            chosen_by = "held-out training clips"
            if report.selected_on == "test":
                chosen_by = "the test split, which chose the epoch (no estimate for new clips)"
            output.line(
                f"{run}: kept epoch {report.best_epoch} of {report.epochs}, top-1 {report.val_top1:.2f} % on "
                f"{chosen_by}; {report.refreshes} refreshes, {report.asked} questions asked"
            )
            reports.append(vars(report))
            missing += agents.missing
    if not dry_run:
        output.note(f"Next: skag eval {' '.join(report['run'] for report in reports)}")
    output.document(reports[0] if len(streams) == 1 else {"runs": reports})
    if missing:
        raise missing_distinctions(missing)


def _tell_plan(output: Output, config: Config, agents: Agents) -> dict[str, int]:
    """What `--dry-run` can know: whom the recogniser will confuse is not known before it trains."""
    refreshes = (config.train.epochs - 1) // config.agents.query_period if agents.active else 0
    most = refreshes * agents.num_classes
    output.line(
        f"at most {most} questions would be asked: {refreshes} refreshes x {agents.num_classes} classes, fewer for "
        "every class that is not confused and every question that the store answers"
    )
    return {"refreshes": refreshes, "classes": agents.num_classes, "to_ask_at_most": most}


class _Terminal:
    """Progress on stderr: a bar per epoch, a line per epoch, a line per refresh."""

    def __init__(self, output: Output) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        hidden = output.quiet or not console.is_terminal
        self._output = output
        self._bar = Progress(*columns, console=console, disable=hidden, transient=True, redirect_stdout=False)
        self._task: Any = None

    def __enter__(self) -> _Terminal:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        self._epochs = epochs
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(f"epoch {epoch}/{epochs}", total=steps)

    def step_done(self) -> None:
        self._bar.advance(self._task)

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        names = [name for name in ("cls", "con", "align", "mix") if metrics[f"loss_{name}"]]
        terms = " ".join(f"{name} {metrics[f'loss_{name}']:.3f}" for name in names)
        self._say(
            f"epoch {metrics['epoch']:>3}/{self._epochs}  loss {metrics['loss']:.3f} ({terms})  "
            f"train {metrics['train_top1']:.1f} %  val {metrics['val_top1']:.1f} %  {metrics['seconds']:.1f} s"
        )

    def refreshed(self, record: dict[str, Any]) -> None:
        self._say(
            f"  refresh: {len(record['similar'])} of {record['num_classes']} classes confused, "
            f"{record['asked']} asked, {record['cached']} from the store, {len(record['failed'])} failed"
        )

    def _say(self, text: str) -> None:
        if not self._output.quiet:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
