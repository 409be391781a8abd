"""Class names: from a user's text file, and the published lists that skag knows (see `label_files/`)."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError

LABEL_FOLDER = Path(__file__).parent / "label_files"


def read_names(path: Path) -> list[str]:
    """Class names, one per line in the order of the labels; lines with # before the first name are comments.

    Raises `DataError` for a file that is missing or no text, an empty line between names, and a name given twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DataError(f"no class names in {path} ({reason}): give a text file with one name per line.") from None
    start = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    names = [line.strip() for line in lines[start:]]
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start + 1):
        if not name or not name.isprintable():
            raise DataError(f"{path}, line {number}: no class name; labels count the lines, so leave none out.")
        if name in seen:
            raise DataError(f"{path}, line {number}: {name!r} is on line {seen[name]} already; name every class once.")
        seen[name] = number
    if not names:
        raise DataError(f"{path} is empty: give a text file with one class name per line.")
    return names


def known_names(label_set: str) -> list[str]:
    """A published list of class names, such as "ntu120"."""
    return read_names(LABEL_FOLDER / f"{label_set}.txt")
