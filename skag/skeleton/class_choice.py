"""Which classes of a store a command works with: those that a person names, and those that have clips at all.

A store may name classes that none of its recordings shows: four of NTU's 60, say, or labels that count from 1. A
network gets no outputs for them, and nobody is asked about them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import DataError
from ..plural import counted
from ..suggestions import nearest_name
from .splitting import occurring_classes
from .store import SkeletonStore

_MOST_BYTES = 1_000_000  # of a list of names
_NAMED = 3  # classes that a note names
_SHOWN = 60  # characters of a name that is none


def read_class_list(text_or_path: str | Path, *, tabs: bool = False) -> list[str]:
    """The class names of a `--classes` option, in their order, each once.

    Commas separate names; of a file every line is a name, without blanks around it,
    and lines that are empty or begin with # are skipped; what follows a tab is no part of the name, and is left in with
    `tabs`. Raises `DataError` where there is no name, or the file cannot be read.
    """
    text = str(text_or_path)
    path = Path(text)
    names = _lines(path, tabs) if _is_file(path) else [name.strip() for name in text.split(",")]
    if found := [name for name in names if name.strip()] if tabs else list(dict.fromkeys(filter(None, names))):
        return found
    raise DataError(f"no class names in {text!r}: give NAME,NAME,... or a file with a name a line.")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for a path, or with a zero byte
        return False


def _lines(path: Path, tabs: bool) -> list[str]:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no list of classes that can be read ({error}): write a name a line.") from None
    if len(text) > _MOST_BYTES:
        raise DataError(f"{path} is too large for a list of class names: write a name a line.")
    lines = [line for line in text.splitlines() if not line.strip().startswith("#")]
    return lines if tabs else [line.partition("\t")[0].strip() for line in lines]


def matching(names: Sequence[str], classes: Sequence[str], where: str | Path) -> list[str]:
    """The names as `classes` write them, in the order of `classes`; case and _ for a blank do not matter.

    Raises `DataError` for a name that is none of them; `where` says whose they are.
    """
    folded = {_folded(name): name for name in reversed(classes)}
    if unknown := [name for name in names if name not in classes and _folded(name) not in folded]:
        shown = unknown[0] if len(unknown[0]) <= _SHOWN else f"{unknown[0][:_SHOWN]}..."
        raise DataError(f"{where} has no class {shown!r}: {nearest_name(unknown[0], classes)}")
    wanted = {name if name in classes else folded[_folded(name)] for name in names}
    return [name for name in classes if name in wanted]


def _folded(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def occurring(
    store: SkeletonStore,
    split: str | None = None,
    note: Callable[[str], None] = lambda text: None,
    names: Sequence[str] | None = None,
) -> SkeletonStore:
    """The store as if it had only the classes that have a clip in a split (anywhere, without one).

    With `names`, only those of them. The store itself where that leaves nothing out; `note` is told what it does.
    Raises `DataError` for a split or class that is not there, and where fewer than two classes are left.
    """
    there = [store.classes[number] for number in occurring_classes(store, split)]
    wanted = store.classes if names is None else matching(names, store.classes, store.path)
    kept = [name for name in wanted if name in there]
    where = "clip" if split is None else f"clip in {split}"
    if len(kept) < 2:
        only = f"only {kept[0]!r} has" if kept else "none has"
        chosen = "" if names is None else f" of the {len(names)} chosen"
        raise DataError(
            f"{store.path}: {only} a {where}{chosen}, and two classes are needed to tell apart: convert recordings of "
            "more, split them again, or choose others."
        )
    if absent := [name for name in wanted if name not in there]:
        named = ", ".join(absent[:_NAMED]) + (", ..." if len(absent) > _NAMED else ".")
        count = counted(len(absent), "class")
        note(f"Note: {count} without a {where} left out: {named}")
    return store if len(kept) == len(store.classes) else store.of_classes(kept)


def as_trained(store: SkeletonStore, classes: Sequence[str]) -> SkeletonStore:
    """The store as a run sees it that was trained on `classes`: matched by name, without clips where the store lacks
    one of them, and without the clips of all others. The store itself where it has these classes.

    Raises `DataError` where the store has none of them.
    """
    if list(classes) == store.classes:
        return store
    if not set(classes) & set(store.classes):
        raise DataError(
            f"{store.path} has none of the {len(classes)} classes of the run ({', '.join(classes[:_NAMED])}"
            f"{', ...' if len(classes) > _NAMED else ''}); it has {', '.join(store.classes[:_NAMED])}"
            f"{', ...' if len(store.classes) > _NAMED else ''}: give the run's own store."
        )
    return store.of_classes(classes, absent=True)
