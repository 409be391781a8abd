"""The classes that may be answered, and what stands for each in words: its own sentences, a dialogue's, or its name.

A file of candidates has a line a class: its name, or its name and sentences of a person's own with a tab before each.

    wave your hand
    touch your toes<TAB>The person bends forward and reaches for the feet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from ..methods import method
from ..methods.base import Candidate, Classifier
from ..skeleton.class_choice import read_class_list
from ..text import words_of

if TYPE_CHECKING:
    import torch

    from .loaded import Run


def read_candidates(text_or_path: str | Path) -> list[Candidate]:
    """Candidates with what a person says of them, of names with commas or of a file (see the module's docstring).

    Raises `DataError` for a file that cannot be read, a class named twice, and a tab without a sentence after it.
    """
    found: dict[str, Candidate] = {}
    for line in read_class_list(text_or_path, tabs=True):
        name, *said = (part.strip() for part in line.split("\t"))
        if not name:
            raise DataError(f"{text_or_path}: a line begins with a tab: write NAME, or NAME, a tab and a sentence.")
        if name in found:
            raise DataError(f"{text_or_path}: {name!r} is there twice: name every class once, its sentences in a line.")
        if not all(said):
            raise DataError(f"{text_or_path}: {name!r} has a tab without a sentence after it: write one, or no tab.")
        found[name] = Candidate(name, tuple(said))
    return list(found.values())


def make_candidates(
    names: Sequence[str],
    classifier: Classifier,
    own: Mapping[str, Sequence[str]] | None = None,
    dialogue: Mapping[str, str] | None = None,
) -> list[Candidate]:
    """Candidates of these names with everything that stands for them: a person's `own` sentences; else, where the
    method compares descriptions rather than names, what the `dialogue` says; else the name in words.

    Raises `DataError` where two have the same text, which nothing could tell apart.
    """
    own, dialogue = own or {}, dialogue or {}
    reads = getattr(classifier, "reads_descriptions", False)
    found = []
    for name in names:
        said = tuple(own.get(name, ()))
        if not said and reads and dialogue.get(name):
            said = (dialogue[name],)
        found.append(Candidate(name, said or (words_of(name),)))
    check_different(found)
    return found


def check_different(candidates: Sequence[Candidate]) -> None:
    """Raise `DataError` where there are fewer than two candidates, or two of one text."""
    if len(candidates) < 2:
        raise DataError(f"{len(candidates)} class to choose among: give at least two.")
    texts: dict[tuple[str, ...], str] = {}
    for each in candidates:
        text = tuple(sorted(" ".join(said.casefold().split()) for said in each.descriptions or (each.name,)))
        if text in texts:
            raise DataError(
                f"{texts[text]!r} and {each.name!r} have one text, {text[0]!r}: say of each what the other has not."
            )
        texts[text] = each.name


def said_of(run: Run, names: Sequence[str]) -> dict[str, str]:
    """What the run's dialogue, and its dialogue store, say of classes; empty where the method compares names."""
    if not getattr(run.classifier, "reads_descriptions", False):
        return {}
    of_method = method(run.config.method)
    return {**of_method.describe_others(run, names), **of_method.sentences(run)}


def check_answers(run: Run, candidates: Sequence[Candidate], device: torch.device) -> None:
    """Raise what the run's method raises for candidates that it cannot answer."""
    import torch

    from ..skeleton.tempo import num_channels

    data = run.config.data
    shape = (2, data.num_bodies, data.num_frames, run.layout.num_joints, num_channels(data, run.layout))
    with torch.no_grad():
        run.classifier.log_scores(torch.zeros(shape, device=device), candidates)


def without_descriptions(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The same classes by name alone: of classes that were all trained a network's own head is asked for these."""
    return [dataclasses.replace(each, descriptions=()) for each in candidates]
