"""The command line ``rcdp``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from rcdp_hpc.runtime import early_signals

__all__ = ["main"]

ENDED = b"rcdp: error: ended at once by Ctrl-C, before the command began.\n"
EXIT_INTERRUPTED = 130  # as in rcdp_hpc.errors, which is not imported yet


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1, 2, 3, 75, or 128 and the number of a signal."""
    # Imports take a second or more: a signal that comes meanwhile is answered by the command.
    early_signals.catch()
    try:
        from rcdp_hpc.cli.main import main as run

        return run(arguments)
    except KeyboardInterrupt:
        os.write(2, ENDED)
        return EXIT_INTERRUPTED
    finally:
        early_signals.release()


class _Package(ModuleType):
    """Keeps the function `main` when the module of the same name is imported, which Python puts in its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "main" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
