"""`skag describe`, and the options of everything that asks a language model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import Device, DeviceOption, JsonOption, QuietOption, app
from .output import Output

if TYPE_CHECKING:
    from ..describe import DescribeReport

StoreOption = Annotated[Path, typer.Option("--store", help="The dialogue store.")]
PromptsOption = Annotated[
    Path | None, typer.Option("--prompts", help="Folder with prompts of your own.  [default: skag's]")
]
BaseUrlOption = Annotated[
    str | None, typer.Option("--base-url", help="Address of the server.  [default: the backend's own]")
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Ask nobody: take answers from the dialogue store, and name what it lacks.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say how many questions would be asked and how many are answered, and leave.")
]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, max=64, help="Questions to ask at the same time.")]


@app.command(epilog="Example: skag describe nw-ucla.h5 --llm ollama/llama3.2")
def describe(
    data: Annotated[Path, typer.Argument(metavar="DATA.h5", help="Skeleton store made by `skag convert`.")],
    llm: Annotated[
        str, typer.Option("--llm", help="Who answers: measured, ollama/MODEL, openai/MODEL or file:KNOWLEDGE.toml.")
    ] = "measured",
    store: StoreOption = Path("cache/dialogues.h5"),
    prompts: PromptsOption = None,
    base_url: BaseUrlOption = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Which train/test split, where the store has several.")
    ] = None,
    jobs: JobsOption = 4,
    offline: OfflineOption = False,
    dry_run: DryRunOption = False,
    show: Annotated[bool, typer.Option("--show", help="With --dry-run: print what would be sent.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed given to the language model.")] = None,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Ask a language model about every class.

    Rounds 1 to 5, one conversation per class, all answers kept. Reads class names, layout and prompts; `measured`
    also reads the training clips. Writes the dialogue
    store. What has been answered once is not asked again. Nothing is computed on a device here.
    """
    from ..backends import open_backend
    from ..describe import describe as run_describe
    from ..describe import described_with
    from ..dialogues import DialogueStore
    from ..errors import BackendError, DialogueError
    from ..prompts import load_prompts
    from ..replay import identities_of, replay
    from ..store import SkeletonStore

    if show and not dry_run:
        raise typer.BadParameter("--show belongs to --dry-run.")
    output = Output(as_json, quiet)
    texts = load_prompts(prompts)
    with SkeletonStore(data) as clips, DialogueStore(store) as dialogues:
        backend = None
        if not offline:
            backend = open_backend(llm, store=clips, protocol=protocol, base_url=base_url, seed=seed)
        if backend is not None and not dry_run:
            with output.progress(f"Asking {llm}") as update:
                report = run_describe(
                    backend, dialogues, clips.classes, clips.layout, texts, jobs=jobs, progress=update
                )
        else:
            options = {} if seed is None else {"seed": seed}
            try:
                identities = None if backend is None else [backend.identity()]
            except BackendError as error:
                output.note(f"Note: {error} Counted by what the store holds of {llm}.")
                identities = None
            if identities is None:
                identities = identities_of(llm, dialogues, store=clips, protocol=protocol, options=options)
            report = replay(identities, dialogues, clips.classes, clips.layout, texts)
        known = described_with(dialogues, clips.classes, clips.layout) if report.missing else []
    if dry_run:
        _tell_plan(output, store, llm, report, show)
        return
    output.line(
        f"{store}: rounds 1 to {report.rounds} for {report.classes} classes by {llm}; "
        f"{report.asked} questions asked, {report.cached} answered before"
    )
    if report.failed:
        output.table("Classes without a complete dialogue", ["class", "reason"], report.reasons())
    output.document(
        {
            "classes": report.classes,
            "rounds": report.rounds,
            "asked": report.asked,
            "cached": report.cached,
            "failed": [{"class": name, "reason": reason} for name, reason in report.reasons()],
        }
    )
    if report.missing:
        others = f" complete dialogues, perhaps by other prompts, are there of {', '.join(known)};" if known else ""
        raise DialogueError(
            f"{store} lacks answers of {llm} for {len(report.missing)} of {report.classes} classes, "
            f"{sum(len(question.rounds_left) for question in report.missing)} questions in all;{others} "
            "describe them without --offline, or bring a store with `skag dialogues import`."
        )
    if report.failed:
        raise DialogueError(
            f"{len(report.failed)} of {report.classes} classes have no complete dialogue ({report.failed[0][1]}). "
            "What was answered is kept: run the same command again when the server is back, or, for an answer that "
            "does not fit, with another --seed or model."
        )


def _tell_plan(output: Output, store: Path, llm: str, report: DescribeReport, show: bool) -> None:
    """What `--dry-run` found: how much would be asked, and with `--show` what."""
    to_ask = sum(len(question.rounds_left) for question in report.missing)
    unusable = len(report.failed) - len(report.missing)
    output.line(
        f"{llm} would be asked {to_ask} questions about {len(report.missing)} of {report.classes} classes, and up to "
        f"twice more where an answer does not fit; {report.cached} questions are answered in {store}"
    )
    if unusable:
        output.line(f"{unusable} classes have answers that cannot be used; they would not be asked again.")
    document = {"llm": llm, "classes": report.classes, "to_ask": to_ask, "cached": report.cached, "unusable": unusable}
    if show:
        for question in report.missing:
            output.line(f"\n=== {question.class_name}, round {question.round}")
            for message in question.messages:
                output.line(f"[{message['role']}]\n{message['content']}")
            if later := question.rounds_left[1:]:
                output.line(f"=== {question.class_name}: rounds {later[0]} to 5 also hold the answers before them")
        document["questions"] = [
            {
                "class": each.class_name,
                "round": each.round,
                "messages": list(each.messages),
                "then": each.rounds_left[1:],
            }
            for each in report.missing
        ]
    output.document(document)
