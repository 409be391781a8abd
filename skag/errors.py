"""The errors a user can meet, each one line that names the cause and the next step.

    SkagError              exit code 1, printed without a traceback
    ├── DataError          recordings, skeleton stores and layouts that cannot be used
    ├── DialogueError      prompts, dialogue stores and answers that cannot be used
    │   └── BackendError   a language model that cannot be reached or refuses (BackendDown: nor would any question)
    ├── TextError          text encoders and their weights
    └── RunError           run folders, checkpoints and recipes that cannot be used

`ValueError` and `AssertionError` stay what they are: a programmer's mistake, shown with a traceback.
"""


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


class RunError(SkagError):
    """A run folder, checkpoint or recipe is missing, damaged or does not fit."""
