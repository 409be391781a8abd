"""`skag dialogues`: what the dialogue store holds, and how it gets in and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..plural import counted
from .app import app
from .options import DIALOGUES, JsonOption, MethodOption, QuietOption, StoreOption
from .output import Output
from .terminal import as_typed

if TYPE_CHECKING:
    from ..dialogue.exchanges import Exchange
    from ..dialogue.inventory import ToldClass
    from ..dialogue.script import Script

dialogues = typer.Typer(
    name="dialogues",
    help="What the dialogue store holds: list, show, export, import, verify; and forms for a person's knowledge.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(dialogues)

LlmOption = Annotated[
    str | None, typer.Option("--llm", help="Answers of this backend alone, as `list` calls it.  [default: of all]")
]


@dialogues.command("list", epilog="Example: skag dialogues list")
def list_(
    store: StoreOption = DIALOGUES, llm: LlmOption = None, as_json: JsonOption = False, quiet: QuietOption = False
) -> None:
    """Who has told what of which classes. Reads the dialogue store."""
    from ..dialogue.inventory import inventory, open_existing
    from ..methods import DEFAULT, script_of

    script = script_of(DEFAULT)

    output = Output(as_json, quiet)
    with open_existing(store) as kept:
        found = inventory(kept, script, llm)
    output.table(
        f"{store}: {counted(sum(by.exchanges for by in found), 'exchange')}",
        ["", "told by", "classes", "complete", "latest"],
        [[number, by, len(by.classes), by.complete, by.last[:10]] for number, by in enumerate(found, 1)],
    )
    output.table(
        "Classes",
        [
            "",
            "class",
            "rounds",
            f"of round {', '.join(str(each.number) for each in script.later)}",
            "did not fit",
            "critical joints",
        ],
        [
            [
                number,
                name,
                _span(told, script),
                told.distinctions,
                told.asked_again,
                ", ".join(told.joints),
            ]
            for number, by in enumerate(found, 1)
            for name, told in sorted(by.classes.items())
        ],
    )
    output.document(
        {
            "dialogues": [
                {
                    "llm": by.llm,
                    "identity": by.identity,
                    "exchanges": by.exchanges,
                    "complete": by.complete,
                    "first": by.first,
                    "last": by.last,
                    "classes": [
                        {
                            "class": name,
                            "rounds": sorted(told.rounds),
                            "distinctions": told.distinctions,
                            "asked_again": told.asked_again,
                            "repaired": told.repaired,
                            "critical_joints": list(told.joints),
                        }
                        for name, told in by.classes.items()
                    ],
                }
                for by in found
            ]
        }
    )


def _span(told: ToldClass, script: Script) -> str:
    whole = f"{script.first.number} to {script.last.number}"
    return whole if told.complete else ", ".join(map(str, sorted(told.rounds))) or "none"


@dialogues.command(epilog='Example: skag dialogues show "sit down" --llm measured')
def show(
    class_name: Annotated[str, typer.Argument(metavar="CLASS", help="Name of the class.")],
    store: StoreOption = DIALOGUES,
    llm: LlmOption = None,
    number: Annotated[int | None, typer.Option("--round", min=1, help="This round alone.")] = None,
    questions: Annotated[bool, typer.Option("--questions", help="The questions too.")] = False,
    everyone: Annotated[bool, typer.Option("--all", help="By all who told of it, not only the last.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """The dialogue about one class, by whoever told of it last. Reads the dialogue store."""
    from ..dialogue.inventory import exchanges_of, open_existing
    from ..methods import DEFAULT, script_of

    script = script_of(DEFAULT)

    if number is not None and script.find(number) is None:
        known = ", ".join(str(each.number) for each in script.all)
        raise typer.BadParameter(f"there is no round {number}: rounds are {known}.", param_hint="--round")
    output = Output(as_json, quiet)
    class_name = as_typed(class_name)
    with open_existing(store) as kept:
        found = exchanges_of(kept, class_name, llm)
    shown = found if everyone else found[:1]
    records = []
    for by, exchanges in shown:
        output.line(f"{class_name}, told by {by}")
        for exchange in exchanges:
            if number in (None, exchange.round):
                _show_exchange(output, exchange, script, questions)
                records.append(exchange.to_record())
    if len(found) > len(shown):
        output.note(f"{len(found) - 1} others told of it too, the latest of them {found[1][0]}: add --all.")
    output.document({"class": class_name, "exchanges": records})


def _show_exchange(output: Output, exchange: Exchange, script: Script, questions: bool) -> None:
    title, asked = f"Round {exchange.round}", script.find(exchange.round)
    if asked is not None:
        title += f": {asked.title}"
    if exchange.similar:
        title += f" from {', '.join(exchange.similar)}"
    parts = [exchange.answer]
    if questions:
        parts.insert(0, f"{exchange.messages[-1]['content']}\n\n->")
    if exchange.repaired:
        parts.append(f"\nUsed instead:\n{exchange.repaired}")
    parts += [f"\n({note})" for note in exchange.notes]
    output.panel(title, "\n".join(parts))


@dialogues.command(epilog="Example: skag dialogues export dialogues.jsonl")
def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    as_text: Annotated[bool, typer.Option("--text", help="Text for people, instead of JSON lines.")] = False,
    class_names: Annotated[list[str] | None, typer.Option("--class", help="This class alone; can be repeated.")] = None,
    llm: LlmOption = None,
    store: StoreOption = DIALOGUES,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write exchanges into a file.

    JSON lines hold everything, and `skag dialogues import` makes the same store of them; text is for people. Reads the
    dialogue store. Writes OUT when it is complete.
    """
    from ..dialogue import transfer
    from ..dialogue.exchanges import spec_of
    from ..dialogue.inventory import open_existing
    from ..errors import DialogueError

    names = set(map(as_typed, class_names or []))

    def wanted(exchange: Exchange) -> bool:
        return llm in (None, spec_of(exchange.identity)) and (not names or exchange.class_name in names)

    output = Output(as_json, quiet)
    with open_existing(store) as kept:
        if not any(map(wanted, kept)):
            raise DialogueError(f"{store} has no exchange of that kind: see `skag dialogues list --store {store}`.")
        count = transfer.export(kept, out, as_text=as_text, wanted=wanted)
    output.line(f"{out}: {counted(count, 'exchange')}")
    output.document({"out": str(out), "exchanges": count})


@dialogues.command("import", epilog="Example: skag dialogues import gpt4o/nturgbd_60 --data ntu60.h5 --name gpt-4o")
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="JSON lines (`export`, or a run's dialogues.jsonl), a folder, or with --data a file of texts.",
        ),
    ],
    store: StoreOption = DIALOGUES,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="For a folder or texts: the skeleton store whose classes they tell of."),
    ] = None,
    method_name: MethodOption = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="For a folder or texts: train with --llm imported/NAME.  [default: the file's]"),
    ] = None,
    by_number: Annotated[
        bool, typer.Option("--by-number", help="For a folder: take files by number where names are worded differently.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Bring exchanges into the dialogue store.

    Reads JSON lines, or a folder of text files as the published code ships them (NNN_class_name.txt, rounds ended by
    a line of 80 =), which `skag train --llm imported/NAME` then uses. With --data a file can hold what head, hand, arm,
    hip, leg and foot do in each class, for methods that ask no more (docs/sugar.md). Writes the dialogue store:
    everything, or nothing where a part cannot be used. An answer that is there already stays.
    """
    from ..dialogue import transfer
    from ..dialogue.class_texts import read_texts
    from ..dialogue.store import DialogueStore
    from ..dialogue.text_folders import SAME_QUESTION, read_folder
    from ..methods import DEFAULT, script_of
    from ..skeleton.store import SkeletonStore

    script = script_of(method_name or DEFAULT)

    output = Output(as_json, quiet)
    llm, missing = None, []
    if source.is_dir():
        if data is None:
            raise typer.BadParameter("a folder needs --data DATA.h5, whose classes and joints it is matched with.")
        name = name or source.resolve().name
        with SkeletonStore(data) as clips:
            exchanges = read_folder(source, name, clips.classes, clips.layout, script, by_number=by_number)
        llm = f"imported/{name}"
    elif data is not None and not by_number:
        name = name or source.stem
        with SkeletonStore(data) as clips:
            read = read_texts(source, name, clips.classes, clips.layout, script)
        exchanges, missing, llm = read.exchanges, read.missing, f"imported/{name}"
    elif data or name or by_number or method_name:
        raise typer.BadParameter("--data, --method, --name and --by-number belong to a folder or a file of texts.")
    with DialogueStore(store) as kept:
        report = transfer.add_all(kept, (lambda: transfer.read_lines(source)) if llm is None else (lambda: exchanges))
    output.line(
        f"{store}: {counted(report.exchanges, 'exchange')} read, {report.added} added, {report.present} there already"
        + (f", {report.kept} there with another answer, which stays" if report.kept else "")
    )
    if llm is not None:
        repaired = sum(bool(exchange.repaired) for exchange in exchanges)
        if repaired:
            were = "answer was" if repaired == 1 else "answers were"
            output.note(f"{repaired} {were} mended to fit; `skag dialogues verify --llm {llm}` says how.")
        for exchange in exchanges:
            for told in exchange.notes:
                if told.startswith(SAME_QUESTION):
                    output.note(f"Note: {exchange.class_name!r} {told}.")
        if missing:
            named = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
            output.note(
                f"{counted(len(missing), 'class')} without a text: {named}; name who tells of them by --fallback."
            )
        of_method = () if method_name is None else ("--method", method_name)
        output.next("train", data, *of_method, "--llm", llm, "--store", store)
    output.document({**vars(report), "llm": llm})


@dialogues.command(epilog="Example: skag dialogues verify --data nw-ucla.h5 --llm ollama/llama3.2")
def verify(
    store: StoreOption = DIALOGUES,
    data: Annotated[
        Path | None, typer.Option("--data", help="Skeleton store: all of its classes, and no others, must be told of.")
    ] = None,
    llm: LlmOption = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="DATA.h5",
            help="Skeleton store whose training clips are held against what is said: claims that they contradict.",
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Which train/test split of --against, where it has several.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check every exchange: hashes, missing rounds, formats, equal critical joints.

    With --against also what the recordings contradict. Reads the dialogue store. Exits with 1 for a broken hash and a
    missing or malformed answer; the rest is there to be known.
    """
    from ..backends.class_statistics import measure
    from ..backends.contradictions import Witness
    from ..dialogue.inventory import open_existing
    from ..dialogue.verify import contradicted
    from ..dialogue.verify import verify as run_verify
    from ..errors import DialogueError
    from ..methods import DEFAULT, script_of
    from ..skeleton.class_choice import occurring
    from ..skeleton.store import SkeletonStore

    script = script_of(DEFAULT)

    output = Output(as_json, quiet)
    classes, layout = None, None
    if data is not None:
        with SkeletonStore(data) as clips:
            classes, layout = occurring(clips, None, output.note).classes, clips.layout
    witness = None
    if against is not None:
        with SkeletonStore(against) as clips:
            witness = Witness(measure(clips, clips.protocol(protocol)[0]), clips.classes)
    with open_existing(store) as kept, output.progress("Checking") as update:
        count, findings = run_verify(kept, script, llm=llm, progress=update, classes=classes, layout=layout)
        claims = [] if witness is None else contradicted(kept, script, witness, llm)
    problems = [finding for finding in findings if finding.is_problem]
    for title, group in (
        ("Problems", problems),
        ("To be known", [finding for finding in findings if not finding.is_problem]),
    ):
        if group:
            rows = [[f.kind, f.llm, f.class_name, f.round, f.text] for f in group]
            output.table(title, ["kind", "llm", "class", "round", "what"], rows)
    if claims:
        shown = [
            [each.llm, each.class_name, each.round, f"{each.found.joint}: {each.found.claim}", each.found.shown]
            for each in claims
        ]
        output.table(f"Contradicted by {against}", ["llm", "class", "round", "claim", "the joint"], shown)
    if witness is not None:
        output.line(f"{against}: {counted(len(claims), 'claim')} contradicted")
    output.line(
        f"{store}: {counted(count, 'exchange')} checked, {counted(len(problems), 'problem')}, "
        f"{counted(len(findings) - len(problems), 'remark')}"
    )
    told = [{"llm": each.llm, "class": each.class_name, "round": each.round, **vars(each.found)} for each in claims]
    output.document(
        {
            "exchanges": count,
            "problems": len(problems),
            "findings": [
                {
                    "kind": f.kind,
                    "problem": f.is_problem,
                    "llm": f.llm,
                    "class": f.class_name,
                    "round": f.round,
                    "text": f.text,
                }
                for f in findings
            ],
        }
        | ({} if witness is None else {"contradicted": told})
    )
    if problems:
        first = problems[0]
        raise DialogueError(
            f"{store} has {counted(len(problems), 'problem')}, the first one: {first.kind}, "
            f"class {first.class_name!r}, round {first.round}, {first.text}. "
            "Describe what is missing again; take what is broken from a backup."
        )


@dialogues.command(epilog="Example: skag dialogues template nw-ucla.h5 knowledge.toml")
def template(
    data: Annotated[Path, typer.Argument(metavar="DATA.h5", help="Skeleton store made by `skag convert`.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.toml", help="The form to write.")],
    llm: Annotated[
        str | None,
        typer.Option("--llm", help="Fill it with this backend's answers, as `list` calls it.  [default: empty]"),
    ] = None,
    store: Annotated[Path, typer.Option("--store", help="With --llm: the dialogue store.")] = DIALOGUES,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a form for a person's knowledge.

    Reads class and joint names, and with --llm rounds 1 to 5 of the dialogue store. Writes OUT.toml, for a coach or
    clinician to fill in or to correct; then it answers with --llm file:OUT.toml like a language model. Filled ones
    come with skag: file:nw-ucla, file:kinder-gator and file:demo.
    """
    from ..backends.knowledge import as_told
    from ..backends.knowledge import template as form
    from ..dialogue.describe import load
    from ..dialogue.exchanges import named
    from ..dialogue.inventory import open_existing
    from ..errors import DialogueError
    from ..methods import DEFAULT, script_of
    from ..skeleton.store import SkeletonStore

    script = script_of(DEFAULT)

    output = Output(as_json, quiet)
    with SkeletonStore(data) as clips:
        classes, layout = clips.classes, clips.layout
    told = []
    if llm is not None:
        with open_existing(store) as kept:
            conversations = load(kept, classes, layout, script, identity=named(llm))
        told = [as_told(conversation, layout, script) for conversation in conversations]
    try:
        with out.open("x", encoding="utf-8", newline="\n") as file:
            file.write(form(classes, layout, told))
    except FileExistsError:
        raise DialogueError(f"{out} is there already: choose another name, or remove it.") from None
    except OSError as error:
        raise DialogueError(f"{out} cannot be written ({error.strerror}): choose another place.") from None
    empty = sum(not field for entry in told for field in (*entry.parts.values(), entry.joints))
    if told:
        rest = f", {empty} of its fields are empty" if empty else ""
        output.line(
            f"{out}: what {llm} said of {counted(len(classes), 'class')}{rest}; correct it with any text editor"
        )
    else:
        output.line(f"{out}: an empty form for {counted(len(classes), 'class')}; fill it in with any text editor")
    output.next("describe", data, "--llm", f"file:{out}", *([] if store == DIALOGUES else ["--store", store]))
    output.document({"out": str(out), "classes": len(classes)} | ({"empty": empty} if told else {}))
