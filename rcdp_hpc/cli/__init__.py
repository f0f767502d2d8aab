"""The command line ``rcdp``."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rcdp_hpc.runtime import early_signals

__all__ = ["main"]

ENDED = b"rcdp: error: ended at once by Ctrl-C, before the command began.\n"
EXIT_INTERRUPTED = 130  # as in rcdp_hpc.errors, which is not imported yet


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1, 2, 3, 75, or 128 and the number of a signal."""
    # Imports take a second or more: a signal that comes meanwhile is answered by the command.
    early_signals.catch()
    try:
        from rcdp_hpc.cli.commands import main as run

        return run(arguments)
    except KeyboardInterrupt:
        os.write(2, ENDED)
        return EXIT_INTERRUPTED
    finally:
        early_signals.release()
