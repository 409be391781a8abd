"""Seen and unseen classes of a store: what may be learned from, and who is asked for afterwards.

Everything that learns is given `seen_part` of a store, in which there is no clip of an unseen class and no name of one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..suggestions import nearest_name
from .class_choice import matching, read_class_list
from .store import SkeletonStore
from .unseen_protocols import PROTOCOLS, REFUSED, UnseenProtocol

RULE = "learns from: seen classes of the training split; tested on: {what} of the test split"
_CLASSES_OF = {"ntu60": 60, "ntu120": 120, "pku-mmd": 51, "nw-ucla": 10, "kinder-gator": 48}


def unseen_classes(text: str, store: SkeletonStore, seed: int = 0) -> tuple[str, ...]:
    """The unseen classes that `--unseen` names, as the store writes them and in its order: NAMES with commas between
    them, a FILE with a name a line, a PROTOCOL of `unseen_protocols`, or N to be drawn by `seed`.

    Raises `DataError` for what is none of these, and as `check_unseen`.
    """
    text = text.strip()
    if re.fullmatch(r"\d+", text):
        found = drawn(store.classes, int(text), seed)
    elif text in REFUSED:
        raise DataError(f"--unseen {text}: {REFUSED[text]}.")
    elif text in PROTOCOLS:
        found = _published(text, PROTOCOLS[text], store)
    else:
        if re.fullmatch(r"[a-z0-9-]+-\d+[a-z-]*", text) and not Path(text).exists() and text not in store.classes:
            raise DataError(f"no protocol {text!r} of unseen classes: {nearest_name(text, [*PROTOCOLS, *REFUSED])}")
        found = matching(read_class_list(text), store.classes, store.path)
    check_unseen(store, found)
    return tuple(found)


def drawn(classes: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` of the classes at random, in their order; the same for a seed."""
    rng = np.random.default_rng([seed, 0x0DE5])
    chosen = rng.permutation(len(classes))[:count]
    return [classes[number] for number in sorted(chosen)]


def _published(name: str, protocol: UnseenProtocol, store: SkeletonStore) -> list[str]:
    """A published list as the store writes it: by the names of the published classes, else by their numbers where the
    store has as many classes and none of those names."""
    from ..readers.label_names import known_names

    count = _CLASSES_OF[protocol.classes]
    wanted, known = list(protocol.unseen), []
    if protocol.classes not in ("nw-ucla", "kinder-gator"):
        known = known_names("ntu120" if protocol.classes.startswith("ntu") else protocol.classes)[:count]
        wanted = [known[number] for number in protocol.unseen if isinstance(number, int)]
    plain = {_plain(each): each for each in store.classes}
    found = [plain[_plain(str(each))] for each in wanted if _plain(str(each)) in plain]
    if len(found) < len(wanted) and known and len(store.classes) == count and not {*map(_plain, known)} & plain.keys():
        found = [store.classes[number] for number in protocol.unseen if isinstance(number, int)]
    if len(found) < len(wanted):
        lacks = next(str(each) for each in wanted if _plain(str(each)) not in plain)
        raise DataError(
            f"--unseen {name} is of the {count} classes of {protocol.classes}, and {store.path} has no class {lacks!r} "
            f"among its {len(store.classes)}: give NAMES or a FILE with a name a line."
        )
    return [each for each in store.classes if each in found]


def _plain(name: str) -> str:
    return " ".join(re.findall(r"\w+", name.casefold().replace("_", " ")))


def check_unseen(store: SkeletonStore, unseen: Sequence[str]) -> None:
    """Raise `DataError` unless the store has all of these classes, and at least two others to learn from."""
    if unknown := [name for name in unseen if name not in store.classes]:
        raise DataError(f"{store.path} has no class {unknown[0]!r}: {nearest_name(unknown[0], store.classes)}")
    if not unseen:
        raise DataError(f"no unseen class among the {len(store.classes)} of {store.path}: name at least one.")
    seen = [name for name in store.classes if name not in unseen]
    if not seen:
        raise DataError(f"all {len(unseen)} classes of {store.path} would be unseen, and none learned: name fewer.")
    if len(seen) == 1:
        raise DataError(f"one class would be seen, {seen[0]!r}, which is told from nothing: leave at least two seen.")


def seen_part(store: SkeletonStore, unseen: Sequence[str]) -> SkeletonStore:
    """The store as if it held the seen classes' clips alone; itself where there are no unseen ones. Of a part those
    that it does not have are left out already. Raises `DataError` as `check_unseen`."""
    if store.is_part:
        unseen = [name for name in unseen if name in store.classes]
    if not unseen:
        return store
    check_unseen(store, unseen)
    return store.of_classes([name for name in store.classes if name not in unseen])
