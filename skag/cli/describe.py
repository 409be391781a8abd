"""`skag describe`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..plural import counted
from .app import app
from .completion import layout_names
from .options import (
    DIALOGUES,
    BaseUrlOption,
    ClassesOption,
    Device,
    DeviceOption,
    DryRunOption,
    FallbackOption,
    JobsOption,
    JsonOption,
    MethodOption,
    OfflineOption,
    PromptsOption,
    QuietOption,
    StoreOption,
    TimeoutOption,
)
from .output import Output
from .panels import InPanels
from .pictures import choose_pictures, describe_pictures

if TYPE_CHECKING:
    from ..dialogue.describe import DescribeReport
    from ..dialogue.exchanges import Usage
    from ..skeleton.layouts import Layout
    from ..skeleton.store import SkeletonStore

_UNFIT = re.compile(r"round \d+: ")  # how the reason of an answer that cannot be used begins


@app.command(cls=InPanels, epilog="Example: skag describe nw-ucla.h5 --llm ollama/llama3.2")
def describe(
    data: Annotated[
        Path | None,
        typer.Argument(metavar="DATA.h5", help="Skeleton store made by `skag convert`; not needed with --classes."),
    ] = None,
    llm: Annotated[
        str,
        typer.Option(
            "--llm",
            help="Who answers: measured, file:KNOWLEDGE.toml, local/NAME (a model inside skag, such as "
            "local/smollm2), or PROVIDER/MODEL; providers are ollama, openai, deepseek, qwen, gemini, claude, vllm, "
            "llama.cpp and lmstudio.",
        ),
    ] = "measured",
    method: MethodOption = None,
    store: StoreOption = DIALOGUES,
    prompts: PromptsOption = None,
    base_url: BaseUrlOption = None,
    classes: ClassesOption = None,
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            help="Without DATA.h5: whose joints are asked about, by the layout's name or a file.  [default: nturgb+d]",
            autocompletion=layout_names,
        ),
    ] = None,
    unseen: Annotated[
        str | None,
        typer.Option(
            "--unseen",
            metavar="NAMES|FILE|PROTOCOL|N",
            help="Classes to leave out, as `skag train --unseen` does: `measured` then measures the others alone.",
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Which train/test split, where the store has several.")
    ] = None,
    jobs: JobsOption = 4,
    offline: OfflineOption = False,
    dry_run: DryRunOption = False,
    show: Annotated[bool, typer.Option("--show", help="With --dry-run: print what would be sent.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed given to the language model.")] = None,
    fallback: FallbackOption = None,
    timeout: TimeoutOption = 600,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, help="Sampling temperature.  [default: the server's]")
    ] = None,
    think: Annotated[bool, typer.Option("--think", help="Let a thinking model think before it answers.")] = False,
    structured: Annotated[
        bool | None,
        typer.Option(
            "--structured/--no-structured",
            help="Have the model held to a JSON schema, where it can be.  [default: with local/NAME]",
            show_default=False,
        ),
    ] = None,
    pull: Annotated[bool, typer.Option("--pull", help="Have Ollama fetch the model, if it lacks it.")] = False,
    price_in: Annotated[
        float | None, typer.Option("--price-in", min=0, help="Price of a million tokens sent, to sum up the cost.")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option("--price-out", min=0, help="Price of a million tokens answered.")
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            "--frames", help="Ask what is seen in pictures instead: a folder of frames or videos for every class."
        ),
    ] = None,
    per_class: Annotated[
        int, typer.Option("--frames-per-class", min=1, help="Pictures asked about, those least alike.")
    ] = 4,
    frame_encoder: Annotated[
        str, typer.Option("--frames-by", help="What tells how alike pictures are: open_clip:NAME, or pixels.")
    ] = "open_clip:ViT-B-32",
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Ask a language model about every class.

    Rounds 1 to 5, one conversation per class, all answers kept. Reads class names, layout and prompts; `measured`
    also reads the training clips. Writes the dialogue
    store. What has been answered once is not asked again. Without DATA.h5 the names of --classes are asked about,
    of which no recordings need be there. With --frames a model that sees is asked about pictures, for methods that ask
    that. Only `local/NAME` and the comparison of pictures compute on --device.
    """
    from contextlib import ExitStack
    from dataclasses import asdict

    from ..backends import Price, open_backend, open_fallback, pull_model
    from ..device import choose_device
    from ..dialogue.describe import describe as run_describe
    from ..dialogue.describe import described_with
    from ..dialogue.exchanges import label_set_id
    from ..dialogue.interview import MAX_ANEW, Interview, Respondent
    from ..dialogue.prompts import load_prompts
    from ..dialogue.replay import identities_of, replay
    from ..dialogue.store import DialogueStore, check_apart
    from ..errors import BackendError, DialogueError
    from ..methods import DEFAULT, script_of
    from ..skeleton.store import SkeletonStore
    from ..skeleton.unseen import seen_part, unseen_classes

    if frames is not None and (dry_run or offline):
        raise typer.BadParameter("--frames asks, and what was asked before is not asked again: leave the rest out.")
    if show and not dry_run:
        raise typer.BadParameter("--show belongs to --dry-run.")
    if data is None and classes is None:
        raise typer.BadParameter("give DATA.h5, or names by --classes.")
    if data is not None and layout is not None:
        raise typer.BadParameter("--layout is for names without DATA.h5, which has a layout: leave one of them out.")
    if data is None and (unseen is not None or protocol is not None):
        raise typer.BadParameter("--unseen and --protocol are of DATA.h5: give it, or leave them out.")
    output = Output(as_json, quiet)
    if data is not None:
        check_apart(store, data)
    script = script_of(method or DEFAULT)
    texts = load_prompts(script, prompts)
    with ExitStack() as stack:
        dialogues = stack.enter_context(DialogueStore(store))
        clips, named = None, None
        if data is None:
            assert classes is not None
            named = _names_alone(output, classes, layout)
        else:
            whole = stack.enter_context(SkeletonStore(data))
            if unseen is not None:
                whole = seen_part(whole, unseen_classes(unseen, whole, seed or 0))
            clips = _to_describe(output, whole, llm, protocol, classes)
            named = (clips.classes, clips.layout)
        names, joints = named
        options = {"seed": seed, "temperature": temperature}
        price = None if price_in is None and price_out is None else Price(price_in or 0.0, price_out or 0.0)
        second = open_fallback(
            fallback,
            llm,
            store=clips,
            protocol=protocol,
            seed=seed,
            temperature=temperature,
            timeout=timeout,
            tell=output.note,
        )
        backend = None
        if not offline:
            backend = open_backend(
                llm,
                store=clips,
                protocol=protocol,
                names=names,
                layout=joints,
                base_url=base_url,
                seed=seed,
                temperature=temperature,
                think=think,
                timeout=timeout,
                price=price,
                tell=output.note,
                device=device.value,
            )
        if backend is not None and not dry_run and pull:
            with output.progress(f"Pulling {llm}") as update:
                pull_model(backend, update)
        if backend is not None and frames is not None:
            label_set = label_set_id(names, joints)
            interview = Interview(Respondent(backend), dialogues, texts, joints, label_set, jobs=jobs, anew=MAX_ANEW)
            pictures = choose_pictures(
                output, interview, names, frames, per_class, frame_encoder, choose_device(device.value).type
            )
            describe_pictures(output, interview, names, pictures)
            return
        if backend is not None and not dry_run:
            with output.progress(f"Asking {llm}") as update:
                report = run_describe(
                    backend,
                    dialogues,
                    names,
                    joints,
                    texts,
                    jobs=jobs,
                    progress=update,
                    fallback=None if second is None else Respondent(second),
                    structured=structured,
                )
        else:

            def stored(spec: str) -> list[dict]:
                wanted = {name: value for name, value in options.items() if value is not None}
                return identities_of(spec, dialogues, store=clips, protocol=protocol, options=wanted)

            try:
                identities = None if backend is None else [backend.identity()]
            except BackendError as error:
                output.note(f"Note: {error} Counted by what the store holds of {llm}.")
                identities = None
            report = replay(
                stored(llm) if identities is None else identities,
                dialogues,
                names,
                joints,
                texts,
                fallback=None if fallback is None else Respondent(None, stored(fallback)),
                structured=structured,
            )
        known = described_with(dialogues, names, joints, script) if report.missing else []
    if dry_run:
        _tell_plan(output, store, llm, report, show)
        return
    output.line(
        f"{store}: {script.span} for {counted(report.classes, 'class')} by {llm}; "
        f"{counted(report.asked, 'question')} asked, {report.cached} answered before"
    )
    if report.by_fallback:
        output.line(
            f"{report.by_fallback} of the rounds answered by {fallback}, since {llm} refused or missed the format"
        )
    for when, usage in (("asked now", report.usage), ("answered before", report.usage_before)):
        if usage.tokens_in or usage.tokens_out or usage.cost:
            output.line(f"{when}: {_in_words(usage)}")
    reasons = _by_reason(report.reasons())
    if len(reasons) > 1:
        output.table("Classes without a complete dialogue", ["classes", "reason"], reasons)
    output.document(
        {
            "classes": report.classes,
            "rounds": report.rounds,
            "asked": report.asked,
            "cached": report.cached,
            "failed": [{"class": name, "reason": reason} for name, reason in report.reasons()],
            "by_fallback": report.by_fallback,
            "usage": asdict(report.usage),
            "usage_before": asdict(report.usage_before),
        }
    )
    if report.missing:
        others = f" complete dialogues, perhaps by other prompts, are there of {', '.join(known)};" if known else ""
        raise DialogueError(
            f"{store} lacks answers of {llm} for {len(report.missing)} of {counted(report.classes, 'class')}, "
            f"{counted(sum(len(question.rounds_left) for question in report.missing), 'question')} in all;{others} "
            "describe them without --offline, or bring a store with `skag dialogues import`."
        )
    if report.failed:
        raise DialogueError(_incomplete(report, reasons))


def _names_alone(output: Output, classes: str, layout: str | None) -> tuple[list[str], Layout]:
    """Names that need no recordings, and the joints that are asked about. What has a person's own sentences is not
    asked about: these are used as they are."""
    from ..errors import DataError
    from ..inference.candidates import read_candidates
    from ..skeleton.layouts import load_layout

    given = read_candidates(classes)
    names = [each.name for each in given if not each.descriptions]
    if own := len(given) - len(names):
        output.note(
            f"Note: {counted(own, 'class')} with sentences of a person's own: used as they are, nobody is asked."
        )
    if not names:
        raise DataError(f"{classes}: all classes have sentences of a person's own, so that there is nothing to ask.")
    found = load_layout(layout or "nturgb+d")
    if layout is None:
        output.note(f"Note: asked about the {found.num_joints} joints of nturgb+d; --layout names those of your runs.")
    return names, found


def _to_describe(
    output: Output, store: SkeletonStore, llm: str, protocol: str | None, classes: str | None
) -> SkeletonStore:
    """The store with the classes that have a clip; where answers are measured, in the training split."""
    from ..skeleton.class_choice import occurring, read_class_list

    split = store.protocol(protocol)[0] if llm == "measured" and (protocol or store.protocols()) else None
    return occurring(store, split, output.note, None if classes is None else read_class_list(classes))


def _incomplete(report: DescribeReport, reasons: Sequence[tuple[str, str]]) -> str:
    """Why classes have no complete dialogue, and what to do."""
    (names, reason), others = reasons[0], len(reasons) - 1
    which = f" ({names})" if len(report.failed) < report.classes and not others else ""
    first = f", for {others + 1} reasons, first: " if others else ": "
    step = "Then run the same command again"
    if _UNFIT.match(reason):
        step = "Run the same command again, which puts only these anew, or with another model or a --fallback"
    kept = "; what was answered is kept" if report.asked or report.cached else ""
    return (
        f"{len(report.failed)} of {report.classes} classes have no complete dialogue{which}{first}"
        f"{reason.rstrip('.')}. {step}{kept}."
    )


def _by_reason(failed: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """`(class, reason)` as `(classes, reason)`: a server that is down fails them all alike."""
    classes: dict[str, list[str]] = {}
    for name, reason in failed:
        classes.setdefault(reason, []).append(name)
    return [
        (", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more", reason)
        for reason, names in classes.items()
    ]


def _in_words(usage: Usage) -> str:
    """`1,200 tokens in, 300 out, 12 s of answering, cost 0.0123`."""
    words = f"{usage.tokens_in:,} tokens in, {usage.tokens_out:,} out, {usage.seconds:,.0f} s of answering"
    if usage.cost is None:
        return words
    unpriced = f", not counting {counted(usage.unpriced, 'answer')} without a price" if usage.unpriced else ""
    return f"{words}, cost {usage.cost:.4f}{unpriced}"


def _tell_plan(output: Output, store: Path, llm: str, report: DescribeReport, show: bool) -> None:
    """What `--dry-run` found: how much would be asked, and with `--show` what."""
    to_ask = sum(len(question.rounds_left) for question in report.missing)
    unusable = len(report.failed) - len(report.missing)
    more = ", and up to twice more where an answer does not fit" if to_ask else ""
    output.line(
        f"{llm} would be asked {counted(to_ask, 'question')} about {len(report.missing)} of "
        f"{counted(report.classes, 'class')}{more}; "
        f"{counted(report.cached, 'question')} answered in {store}"
    )
    if unusable:
        output.line(f"{counted(unusable, 'class')} with answers that cannot be used, which would not be asked again.")
    document = {"llm": llm, "classes": report.classes, "to_ask": to_ask, "cached": report.cached, "unusable": unusable}
    if show:
        for question in report.missing:
            output.line(f"\n=== {question.class_name}, round {question.round}")
            for message in question.messages:
                output.line(f"[{message['role']}]\n{message['content']}")
            if later := question.rounds_left[1:]:
                output.line(
                    f"=== {question.class_name}: rounds {later[0]} to {later[-1]} also hold the answers before them"
                )
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
