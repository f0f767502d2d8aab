"""The command line ``rcdp``."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rcdp_hpc.runtime import early_signals

__all__ = ["main"]

INTERRUPTED = b"rcdp: error: interrupted by Ctrl-C before the command began.\n"
EXIT_INTERRUPTED = 130  # as in rcdp_hpc.errors, which is imported later


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1, 2, 3, 75, or 128 plus the number of a signal."""
    # Imports take a second or more. The command handles a signal that arrives during the imports.
    early_signals.catch()
    try:
        from rcdp_hpc.cli.commands import main as run

        return run(arguments)
    except KeyboardInterrupt:
        os.write(2, INTERRUPTED)
        return EXIT_INTERRUPTED
    finally:
        early_signals.release()
