"""The errors a user can meet, each with the exit code that it ends in.

Anything that is not one of these is a defect of the package and leaves with code 1 and a traceback.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_DAMAGED = 3
EXIT_STOPPED = 75
EXIT_INTERRUPTED = 130  # by Ctrl-C, at once


class RcdpError(Exception):
    """Base of every error that is explained to the user in one message.

    The message names the file, key or rank, what was expected, and what to do.

    Attributes
    ----------
    exit_code : int
        What the process leaves with.
    agreed : bool
        Whether all ranks hold this error, so that rank 0 alone prints it and all leave in order.
    lines : bool
        Whether the line breaks of the message are meant: others, as of a file's name, are escaped when it is shown.
    """

    exit_code = EXIT_FAILED
    agreed = False
    lines = False


class InputError(RcdpError):
    """The user's input or configuration is wrong (exit code 2)."""

    exit_code = EXIT_INPUT


class DataDamagedError(RcdpError):
    """A file that this package wrote is missing, cut short or altered (exit code 3)."""

    exit_code = EXIT_DAMAGED


class StageFailedError(RcdpError):
    """A stage cannot go on for a reason outside the input: a full disk, a lost rank (exit code 1)."""


class StoppedError(RcdpError):
    """A signal asked for a stop and a checkpoint is written (exit code 75: start again to go on)."""

    exit_code = EXIT_STOPPED


class CandidateError(RcdpError):
    """A reservoir cannot be built or driven: in a search a candidate that counts as the worst possible.

    Outside a search it is the configured reservoir, so the configuration is wrong (exit code 2).
    """

    exit_code = EXIT_INPUT
