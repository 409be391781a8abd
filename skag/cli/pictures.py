"""What `skag describe --frames` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..plural import counted
from .output import Output

if TYPE_CHECKING:
    from ..backends.base import Picture
    from ..dialogue.interview import Interview


def choose_pictures(
    output: Output,
    interview: Interview,
    classes: Sequence[str],
    folder: Path,
    count: int,
    encoder_name: str,
    device: str,
) -> dict[str, list[Picture]]:
    """Of every class the `count` pictures that are least alike. Raises `DialogueError` before anything is asked."""
    from ..dialogue import frames
    from ..errors import DialogueError

    script = interview.prompts.script
    if script.of("seen") is None:
        raise DialogueError(f"{script.name} asks nothing about pictures: leave --frames out.")
    files = frames.files_of(folder, classes)
    encode = frames.encoder(encoder_name, device=device)
    found = {}
    with output.progress("Choosing frames") as update:
        for number, name in enumerate(classes, 1):
            all_frames = frames.frames_of(files[name])
            chosen = frames.least_alike(encode(all_frames), count)
            found[name] = [frames.as_sent(all_frames[place]) for place in chosen]
            update(number, len(classes))
    return found


def describe_pictures(
    output: Output, interview: Interview, classes: Sequence[str], pictures: dict[str, list[Picture]]
) -> None:
    """Ask a model that sees about them. Raises `DialogueError` where a class is left without a description."""
    from ..dialogue import frames
    from ..errors import DialogueError

    asked, spec = interview.prompts.script.of("seen"), interview.first.spec
    assert asked is not None  # see `choose_pictures`
    with output.progress(f"Asking {spec}") as update:
        report = frames.describe_frames(interview, asked, classes, pictures, update)
    output.line(
        f"{interview.store.path}: {counted(len(report.exchanges), 'picture')} of {counted(len(classes), 'class')} "
        f"described by {spec}; {counted(report.asked, 'question')} asked, {report.cached} answered before"
    )
    output.document(
        {
            "classes": len(classes),
            "pictures": len(report.exchanges),
            "asked": report.asked,
            "cached": report.cached,
            "failed": [{"class": name, "reason": reason} for name, reason in report.failed],
        }
    )
    for name, reason in report.failed:
        output.note(f"Note: a picture of {name!r} has no description: {reason}")
    described = {each.class_name for each in report.exchanges}
    if lacking := [name for name in classes if name not in described]:
        reason = next(reason for name, reason in report.failed if name == lacking[0])
        raise DialogueError(
            f"{len(lacking)} of {len(classes)} classes have no description of a picture ({lacking[0]!r}: "
            f"{reason.rstrip('.')}); what was answered is kept: run the same command again, or with another model."
        )
