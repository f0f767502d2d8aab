"""Logging: a story on the terminal from rank 0, and everything as JSON lines in the run directory.

What is shown is escaped here (see `rcdp_hpc.runtime.text`): a message has the line breaks of its template and of
arguments that are `Lines`, and those of a name or path are written out. The JSON lines hold the exact text.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Number
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from rcdp_hpc.config.regular_files import refuse_special
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.text import COLUMNS, Lines, message_lines, plain_line, plain_lines, wrap_message

PACKAGE = "rcdp_hpc"
# Of a message on the terminal: a name may have millions.
MOST_CHARACTERS = 20_000
_logged_once: set[tuple[str, str]] = set()


def shown_message(record: logging.LogRecord) -> str:
    """Return the message of a record as people see it: escaped, with the line breaks of its template only."""
    arguments, message = record.args, str(record.msg)
    if isinstance(arguments, Mapping):
        message %= {name: _shown(value) for name, value in arguments.items()}
    elif arguments:
        message %= tuple(map(_shown, arguments))
    message = message_lines(message)
    if len(message) <= MOST_CHARACTERS:
        return message
    return f"{message[: MOST_CHARACTERS // 2]} ... ({len(message)} characters) ... {message[-MOST_CHARACTERS // 2 :]}"


def _shown(argument: Any) -> Any:
    return argument if isinstance(argument, Number) else _Argument(argument)


@dataclass(frozen=True)
class _Argument:
    """An argument of a message, which is escaped when it is filled in.

    Attributes
    ----------
    value : object
    """

    value: Any

    def __str__(self) -> str:
        meant = isinstance(self.value, Lines) or getattr(self.value, "lines", False) is True
        return (plain_lines if meant else plain_line)(self.value)

    def __repr__(self) -> str:
        return repr(self.value)


class _LineFormatter(logging.Formatter):
    """Messages of libraries that have no handler of their own."""

    def format(self, record: logging.LogRecord) -> str:
        return shown_message(record)


class _TerminalHandler(logging.Handler):
    """Print messages without breaking a progress bar. `tolerant_streams` keeps writes from failing.

    Attributes
    ----------
    wraps : bool
        Whether messages are wrapped for a terminal. Those of several ranks are not: mpirun gives each rank a terminal
        of its own, and what it shows may go to a file.
    to_stderr : bool
        Whether all messages go to stderr, not only warnings and errors.
    """

    wraps = False
    to_stderr = False

    def emit(self, record: logging.LogRecord) -> None:
        troubled = record.levelno >= logging.WARNING
        stream = sys.stderr if troubled or self.to_stderr else sys.stdout
        prefix = f"rcdp: {record.levelname.lower()}: " if troubled else ""
        if stream is not None:  # closed when Python started
            text = prefix + shown_message(record)
            tqdm.write(_for_terminal(text, stream) if self.wraps else text, file=stream)
            stream.flush()


def _for_terminal(text: str, stream: TextIO) -> str:
    """Return a message wrapped to the width of a terminal; files and pipes get whole lines."""
    if not stream.isatty():
        return text
    return wrap_message(text, shutil.get_terminal_size((COLUMNS, 24)).columns)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        return json.dumps(entry)


def warn_once(logger: logging.Logger, kind: str, message: str) -> None:
    """Log a warning, unless this process has logged one of the same kind: a search builds thousands of reservoirs.

    Parameters
    ----------
    logger : logging.Logger
        The caller's.
    kind : str
        What the warning is about, without the numbers in it.
    message : str
    """
    if (logger.name, kind) not in _logged_once:
        _logged_once.add((logger.name, kind))
        logger.warning("%s", message)


def log_to_terminal(is_root: bool, quiet: bool = False, to_stderr: bool = False) -> None:
    """Show messages on rank 0; other ranks show errors only.

    Parameters
    ----------
    is_root : bool
        Whether this is rank 0.
    quiet : bool
        Show warnings and errors only.
    to_stderr : bool
        Show all messages on stderr: what the command prints on stdout is the content of a file.
    """
    logger = logging.getLogger(PACKAGE)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handler = _TerminalHandler()
    handler.wraps = detect().size == 1
    handler.to_stderr = to_stderr
    handler.setLevel((logging.WARNING if quiet else logging.INFO) if is_root else logging.ERROR)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_LineFormatter())


class _JsonFileHandler(logging.FileHandler):
    """Append JSON lines; if the disk is full, report it once and continue without: the work matters more."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed:
            self.failed = True
            print(f"rcdp: warning: {self.baseFilename} can no longer be written", file=sys.stderr, flush=True)

    def emit(self, record: logging.LogRecord) -> None:
        if not self.failed:
            super().emit(record)

    def close(self) -> None:
        # What is still buffered cannot be written either.
        with contextlib.suppress(OSError):
            super().close()


@contextmanager
def logging_to_file(path: Path) -> Iterator[None]:
    """Append every message of the block to `path` as a JSON line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_special(path)
    handler = _JsonFileHandler(path, encoding="utf-8")
    handler.setFormatter(_JsonFormatter())
    logger = logging.getLogger(PACKAGE)
    logger.addHandler(handler)
    # A program that calls the stages from Python may not have set a level.
    level = logger.level
    logger.setLevel(min(logging.INFO, level or logging.INFO))
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()
