"""Standard streams that never end a stage: what cannot be written is escaped or dropped, and the work continues.

The reader of a pipe may leave (``rcdp train | head``), a terminal may be closed or know ASCII only, a disk may be full,
and a stream may be closed from the start (``>&-``). None of these is worth the loss of a training.
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
    """A text stream whose writes never fail, and through which no text reaches the terminal that it would obey.

    Control and format characters other than line breaks and tabs are escaped, whoever writes them.
    Characters outside the stream's encoding are escaped. A full disk loses what is written while it is full. After any
    other failure, such as a closed pipe, the rest is dropped, which is logged once.

    Parameters
    ----------
    stream : TextIO or None
        None for a stream that was closed when Python started.
    name : str
        Its name, for the message.

    Attributes
    ----------
    failure : OSError or None
        The first failure.
    """

    def __init__(self, stream: TextIO | None, name: str) -> None:
        self._stream = stream
        self._name = name
        self._gone = stream is None
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write `text`, escaped, as far as that is possible; return its length."""
        return self.write_raw(plain_lines(text))

    def write_raw(self, text: str) -> int:
        """Write `text` as it is: of a progress bar, which moves the cursor."""
        if not self._gone:
            with self._tolerated():
                self._write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what was written."""
        if not self._gone:
            with self._tolerated():
                cast(TextIO, self._stream).flush()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal that still takes text."""
        return not self._gone and cast(TextIO, self._stream).isatty()

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
                self._gone = True
                _point_to_nowhere(self._stream)
                # Reaches the log file of the run, if there is one.
                log.info("%s takes no more text (%s): further messages are in the log file only", self._name, error)
        except ValueError:  # closed by other code
            self._gone = True


class BarStream:
    """What a progress bar writes to: the standard error stream, without escapes.

    It is equal to the stream itself, so that tqdm clears the bar when a message is printed.
    """

    def __init__(self) -> None:
        self._stream: Any = sys.stderr

    def write(self, text: str) -> int:
        """Write `text` as it is."""
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
    """Replace sys.stdout and sys.stderr by streams whose writes never fail, for the time of the block."""
    _open_missing_descriptors()
    before = sys.stdout, sys.stderr
    streams = TolerantStream(sys.stdout, "stdout"), TolerantStream(sys.stderr, "stderr")
    sys.stdout, sys.stderr = cast(TextIO, streams[0]), cast(TextIO, streams[1])
    try:
        yield streams
    finally:
        sys.stdout, sys.stderr = before
        for stream in before:
            _forget_unwritten(stream)


def _open_missing_descriptors() -> None:
    """Let the descriptors 0, 1 and 2 be open: a file opened later must not get the number of a standard stream."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is taken, which is this one.
            os.open(os.devnull, os.O_RDWR)


def _forget_unwritten(stream: TextIO | None) -> None:
    """Forget what a stream still holds and cannot write: Python would exit with 120 for it."""
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        _point_to_nowhere(stream)


def _point_to_nowhere(stream: TextIO | None) -> None:
    """Send what is written to a stream's descriptor to nowhere, text of C libraries included."""
    try:
        descriptor = cast(TextIO, stream).fileno()
    except (OSError, ValueError, AttributeError):
        return
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), descriptor)


def is_closed_pipe(error: OSError | None) -> bool:
    """Return whether a write failed because the reader left."""
    return error is not None and error.errno in (errno.EPIPE, errno.ESHUTDOWN)
