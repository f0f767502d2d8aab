"""Standard streams whose failures never end a stage: text that cannot be written is escaped or dropped.

The reader of a pipe may exit (``rcdp train | head``), a terminal may be closed or limited to ASCII, a disk may be full,
and a stream may be closed from the start (``>&-``). A training continues in all of these cases.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from rcdp_hpc.runtime.files import NO_ROOM
from rcdp_hpc.runtime.text import plain_lines

log = logging.getLogger(__name__)


class TolerantStream:
    """A text stream whose writes never fail, and which passes no control sequences to the terminal.

    Control and format characters other than line breaks and tabs, and characters outside the stream's encoding, are
    escaped. While a disk is full, text is lost. After any other failure, such as a closed pipe, all further text is
    dropped, which is logged once.

    Parameters
    ----------
    stream : TextIO or None
        None for a stream that was closed when Python started.
    name : str
        Name of the stream, for the log message.

    Attributes
    ----------
    failure : OSError or None
        The first failure.
    """

    def __init__(self, stream: TextIO | None, name: str) -> None:
        self._stream = stream
        self._name = name
        self._is_closed = stream is None
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write `text`, escaped, if possible; return its length."""
        return self.write_raw(plain_lines(text))

    def write_raw(self, text: str) -> int:
        """Write `text` without escaping, for progress bars, which move the cursor."""
        if not self._is_closed:
            with self._tolerated():
                self._write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        if not self._is_closed:
            with self._tolerated():
                cast(TextIO, self._stream).flush()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal and not closed."""
        return not self._is_closed and cast(TextIO, self._stream).isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _write(self, text: str) -> None:
        stream = cast(TextIO, self._stream)
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    @contextlib.contextmanager
    def _tolerated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
            if error.errno not in NO_ROOM:
                self._is_closed = True
                _redirect_to_null(self._stream)
                # The log file of the run, if there is one, receives this message.
                log.info("%s cannot be written (%s): further messages are only in the log file", self._name, error)
        except ValueError:  # closed by other code
            self._is_closed = True


class BarStream:
    """The standard error stream without escaping, for progress bars.

    It compares equal to the stream itself, so that tqdm clears the bar when a message is printed.
    """

    def __init__(self) -> None:
        self._stream: Any = sys.stderr

    def write(self, text: str) -> int:
        """Write `text` without escaping."""
        write: Any = getattr(self._stream, "write_raw", None) or self._stream.write
        return int(write(text))

    def __eq__(self, other: object) -> bool:
        return other is self or other is self._stream

    def __hash__(self) -> int:
        return hash(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def tolerant_streams() -> Iterator[tuple[TolerantStream, TolerantStream]]:
    """Replace sys.stdout and sys.stderr with streams whose writes never fail, within a block."""
    _open_missing_descriptors()
    originals = sys.stdout, sys.stderr
    streams = TolerantStream(sys.stdout, "stdout"), TolerantStream(sys.stderr, "stderr")
    sys.stdout, sys.stderr = cast(TextIO, streams[0]), cast(TextIO, streams[1])
    try:
        yield streams
    finally:
        sys.stdout, sys.stderr = originals
        for stream in originals:
            _discard_unwritten(stream)


def _open_missing_descriptors() -> None:
    """Open the descriptors 0, 1 and 2 if they are closed: no file may get the number of a standard stream."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # open() returns the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)


def _discard_unwritten(stream: TextIO | None) -> None:
    """Discard buffered text that cannot be written, because Python would exit with code 120."""
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        _redirect_to_null(stream)


def _redirect_to_null(stream: TextIO | None) -> None:
    """Redirect the descriptor of a stream to the null device, also for C libraries."""
    try:
        descriptor = cast(TextIO, stream).fileno()
    except (OSError, ValueError, AttributeError):
        return
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), descriptor)


def is_closed_pipe(error: OSError | None) -> bool:
    """Return whether a write failed because the reader closed the pipe."""
    return error is not None and error.errno in (errno.EPIPE, errno.ESHUTDOWN)
