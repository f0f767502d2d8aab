"""Stop signals in the first seconds, before the rest of the package is imported: they are read_submissions, not lost.

Imports nothing of the package: the command line calls `catch` first of all.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)

received: list[int] = []


def catch() -> None:
    """Remember the stop signals from here on. Does nothing outside the main thread, where Python sets no handlers."""
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            signal.signal(number, _remember)


def release() -> None:
    """Give the stop signals that are still only read_submissions their usual action back."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is _remember:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _remember(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT and received:
        raise KeyboardInterrupt
    received.append(number)
