"""Logging: messages of rank 0 on the terminal, and all messages as JSON lines in the run directory.

Messages on the terminal are escaped (see `rcdp_hpc.runtime.text`). Line breaks of the template and of `Lines` arguments
are kept; line breaks in other arguments, such as names and paths, are escaped. The JSON lines have the exact text.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
import threading
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
# Limit of a message on the terminal, because a name may have millions of characters.
MOST_CHARACTERS = 20_000
_logged_once: set[tuple[str, str]] = set()


def shown_message(record: logging.LogRecord) -> str:
    """Return the escaped message of a record, with only the line breaks of its template."""
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
    """An argument of a message, which is escaped when it is formatted.

    Attributes
    ----------
    value : object
    """

    value: Any

    def __str__(self) -> str:
        keeps_lines = isinstance(self.value, Lines) or getattr(self.value, "lines", False) is True
        return (plain_lines if keeps_lines else plain_line)(self.value)

    def __repr__(self) -> str:
        return repr(self.value)


class _LineFormatter(logging.Formatter):
    """Formatter of messages from libraries without a handler."""

    def format(self, record: logging.LogRecord) -> str:
        return shown_message(record)


class _TerminalHandler(logging.Handler):
    """Prints messages without breaking a progress bar. `tolerant_streams` keeps writes from failing.

    Attributes
    ----------
    wraps : bool
        Whether messages are wrapped to the width of a terminal. With several ranks they are not, because mpirun gives
        each rank a pseudo-terminal, whose output may go to a file.
    to_stderr : bool
        Whether all messages go to stderr, not only warnings and errors.
    """

    wraps = False
    to_stderr = False

    def emit(self, record: logging.LogRecord) -> None:
        is_warning = record.levelno >= logging.WARNING
        stream = sys.stderr if is_warning or self.to_stderr else sys.stdout
        prefix = f"rcdp: {record.levelname.lower()}: " if is_warning else ""
        if stream is not None:  # closed when Python started
            text = prefix + shown_message(record)
            tqdm.write(_for_terminal(text, stream) if self.wraps else text, file=stream)
            stream.flush()


def _for_terminal(text: str, stream: TextIO) -> str:
    """Return a message wrapped to the width of the terminal; unchanged for files and pipes."""
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
    """Log a warning once per process, because a search builds thousands of reservoirs.

    Parameters
    ----------
    logger : logging.Logger
        Logger of the caller.
    kind : str
        Subject of the warning. Warnings of the same logger and kind are logged once.
    message : str
    """
    if (logger.name, kind) not in _logged_once:
        _logged_once.add((logger.name, kind))
        logger.warning("%s", message)


def log_to_terminal(is_root: bool, quiet: bool = False, to_stderr: bool = False) -> None:
    """Show all messages of rank 0 and the errors of other ranks.

    Parameters
    ----------
    is_root : bool
        Whether this is rank 0.
    quiet : bool
        Show only warnings and errors.
    to_stderr : bool
        Show all messages on stderr, for commands that print the content of a file on stdout.
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


@contextmanager
def terminal_shows(package: str) -> Iterator[None]:
    """Within a block, show messages of level INFO on the terminal only if a package logs them; files get all.

    Parameters
    ----------
    package : str
        Dotted name. Warnings and errors of all packages are shown.
    """

    def shows(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or f"{record.name}.".startswith(f"{package}.")

    handlers = [one for one in logging.getLogger(PACKAGE).handlers if isinstance(one, _TerminalHandler)]
    for handler in handlers:
        handler.addFilter(shows)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(shows)


class _JsonFileHandler(logging.FileHandler):
    """Appends JSON lines. If the file cannot be written, reports it once and continues without."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed:
            self.failed = True
            # Set before: the message comes back to this handler.
            logging.getLogger(PACKAGE).warning("%s can no longer be written", self.baseFilename)

    def emit(self, record: logging.LogRecord) -> None:
        if not self.failed:
            super().emit(record)

    def close(self) -> None:
        # If the disk is full, the buffered text cannot be written either.
        with contextlib.suppress(OSError):
            super().close()


@contextmanager
def logging_to_file(path: Path) -> Iterator[None]:
    """Append all messages of a block to `path` as JSON lines.

    Other handlers get the messages that they would get without the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_special(path)
    handler = _JsonFileHandler(path, encoding="utf-8")
    handler.setFormatter(_JsonFormatter())
    logger = logging.getLogger(PACKAGE)
    with _FILES.open():
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            handler.close()


class _Forward(logging.Handler):
    """Passes messages on to the handlers of the parent logger, as propagation does, but only from a level on.

    A record that propagates meets no level of the parent logger: a program that set its level to WARNING would get the
    messages for the file.
    """

    def emit(self, record: logging.LogRecord) -> None:
        parent = logging.getLogger(PACKAGE).parent
        if parent is not None and parent.hasHandlers():
            parent.callHandlers(record)


class _OpenFiles:
    """Makes the package's logger pass messages of level INFO while a log file is open, in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._level = logging.NOTSET
        self._forward: _Forward | None = None

    @contextmanager
    def open(self) -> Iterator[None]:
        """Count one more open file within the block; the last one to close restores the logger."""
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._begin(logging.getLogger(PACKAGE))
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                if not self._count:
                    self._end(logging.getLogger(PACKAGE))

    def _begin(self, logger: logging.Logger) -> None:
        self._level = logger.level
        wanted = logger.getEffectiveLevel()
        if wanted <= logging.INFO:
            return
        logger.setLevel(logging.INFO)
        if logger.propagate:
            self._forward = _Forward(wanted)
            logger.propagate = False
            logger.addHandler(self._forward)

    def _end(self, logger: logging.Logger) -> None:
        logger.setLevel(self._level)
        if self._forward is not None:
            logger.removeHandler(self._forward)
            logger.propagate = True
            self._forward = None


_FILES = _OpenFiles()
