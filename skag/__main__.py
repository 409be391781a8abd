"""`skag` and `python -m skag`."""

from __future__ import annotations

import sys

from .errors import INTERRUPTED, INTERRUPTED_CODE


def main() -> None:
    """Run the command line. Importing it takes a moment, in which Ctrl-C ends in one line too."""
    try:
        from .cli import main as run
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(INTERRUPTED_CODE)
    run()


if __name__ == "__main__":
    main()
