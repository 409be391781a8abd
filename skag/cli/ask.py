"""`skag describe`, and the options of everything that asks a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import Device, DeviceOption, JsonOption, QuietOption, app
from .output import Output

StoreOption = Annotated[Path, typer.Option("--store", help="The dialogue store.")]
PromptsOption = Annotated[
    Path | None, typer.Option("--prompts", help="Folder with prompts of your own.  [default: skag's]")
]
BaseUrlOption = Annotated[
    str | None, typer.Option("--base-url", help="Address of the server.  [default: the backend's own]")
]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, max=64, help="Questions to ask at the same time.")]


@app.command(epilog="Example: skag describe nw-ucla.h5 --llm ollama/llama3.2")
def describe(
    data: Annotated[Path, typer.Argument(metavar="DATA.h5", help="Skeleton store made by `skag convert`.")],
    llm: Annotated[
        str, typer.Option("--llm", help="Who answers: measured, ollama/MODEL or openai/MODEL.")
    ] = "measured",
    store: StoreOption = Path("cache/dialogues.h5"),
    prompts: PromptsOption = None,
    base_url: BaseUrlOption = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Which train/test split, where the store has several.")
    ] = None,
    jobs: JobsOption = 4,
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
    from ..dialogues import DialogueStore
    from ..errors import DialogueError
    from ..prompts import load_prompts
    from ..store import SkeletonStore

    output = Output(as_json, quiet)
    texts = load_prompts(prompts)
    with SkeletonStore(data) as clips, DialogueStore(store) as dialogues:
        backend = open_backend(llm, store=clips, protocol=protocol, base_url=base_url, seed=seed)
        with output.progress(f"Asking {llm}") as update:
            report = run_describe(backend, dialogues, clips.classes, clips.layout, texts, jobs=jobs, progress=update)
    output.line(
        f"{store}: rounds 1 to {report.rounds} for {report.classes} classes by {llm}; "
        f"{report.asked} questions asked, {report.cached} answered before"
    )
    if report.failed:
        output.table("Classes without a complete dialogue", ["class", "reason"], report.failed)
    output.document(
        {
            "classes": report.classes,
            "rounds": report.rounds,
            "asked": report.asked,
            "cached": report.cached,
            "failed": [{"class": name, "reason": reason} for name, reason in report.failed],
        }
    )
    if report.failed:
        raise DialogueError(
            f"{len(report.failed)} of {report.classes} classes have no complete dialogue ({report.failed[0][1]}). "
            "What was answered is kept: run the same command again when the server is back, or, for an answer that "
            "does not fit, with another --seed or model."
        )
