"""The errors a user can meet, each one line that names the cause and the next step.

    SkagError              exit code 1, printed without a traceback
    ├── DataError          recordings, skeleton stores and layouts that cannot be used
    ├── DialogueError      prompts, dialogue stores and answers that cannot be used
    │   └── BackendError   a language model that cannot be reached or refuses (BackendDown: nor would any question)
    ├── TextError          text encoders and their weights
    ├── ModelError         base models, their weights and adapters
    └── RunError           run folders, checkpoints and recipes that cannot be used

`ValueError` and `AssertionError` stay what they are: a programmer's mistake, shown with a traceback.
"""

from __future__ import annotations

import os
import re

INTERRUPTED = "skag: interrupted; what was finished is kept."
INTERRUPTED_CODE = 130  # as shells count a program that Ctrl-C ended


def cause(error: Exception) -> str:
    """What went wrong, by the system's own words where an error has them, as HDF5's many lines do."""
    if number := getattr(error, "errno", None):
        return os.strerror(number)
    systems = re.search(r"error message = '([^']+)'", str(error))
    return systems[1] if systems else " ".join(str(error).split())


class SkagError(Exception):
    """Something the user can mend. `str(error)` is the line to print."""


class DataError(SkagError):
    """A recording, skeleton store, split or layout is missing, damaged or does not fit."""


class DialogueError(SkagError):
    """A prompt, dialogue store or answer is missing, damaged or does not fit."""


class BackendError(DialogueError):
    """A language model could not be reached, refused, or answered with nothing usable."""


class TextError(SkagError):
    """A text encoder or its weights cannot be loaded."""


class ModelError(SkagError):
    """A language model inside the process cannot be loaded, or its adapter does not fit it."""


class RunError(SkagError):
    """A run folder, checkpoint or recipe is missing, damaged or does not fit."""
