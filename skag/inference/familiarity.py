"""What a run was trained on, in plain numbers, and what is odd about a new recording beside it."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from .. import runs
from ..errors import RunError
from ..skeleton.profile import VERSION, profile_of
from ..skeleton.store import SkeletonStore

FILE = "profile.json"


def profile_of_run(folder: Path, store: SkeletonStore | None = None) -> dict[str, Any] | None:
    """The profile of a run's training clips: as it is kept in the run folder, else of the clips in `store` or in the
    store that training found, and kept. None where these are not at hand. Raises `RunError` for a damaged run."""
    source = runs.read_json(folder, runs.DATA)
    wanted, numbers = source.get("fingerprint"), source.get("training")
    if (folder / FILE).exists():
        with suppress(RunError):  # damaged: it is made anew
            kept = runs.read_json(folder, FILE)
            if kept.get("version") == VERSION and kept.get("fingerprint") == wanted:
                return kept
    with ExitStack() as stack:
        if (store is None or store.fingerprint != wanted) and Path(source.get("store") or "").is_file():
            store = stack.enter_context(SkeletonStore(Path(source["store"])))
        if store is None or store.fingerprint != wanted or not isinstance(numbers, list) or not numbers:
            return None
        found = {**profile_of(store, np.array(numbers, np.int64)), "fingerprint": wanted}
    with suppress(OSError):  # a folder that cannot be written: it is made anew next time
        runs.write_json(folder / FILE, found)
    return found
