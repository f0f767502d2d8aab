"""Recording of stop signals that arrive before the rest of the package is imported.

The command line calls `catch` first, so this module imports nothing else of the package.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)

received: list[int] = []


def catch() -> None:
    """Start to record stop signals. Does nothing outside the main thread, in which Python sets no handlers."""
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            signal.signal(number, _remember)


def release() -> None:
    """Restore the default actions of the stop signals that are still only recorded."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is _remember:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _remember(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT and received:
        raise KeyboardInterrupt
    received.append(number)
