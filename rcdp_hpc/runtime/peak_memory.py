"""The largest memory of this process during a piece of work."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType

log = logging.getLogger(__name__)

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Written to the file, it resets the peak to the present size (proc(5)).
_RESET_PEAK = "5"


class PeakMemory:
    """Measures the largest resident memory of this process within a ``with`` block, on Linux.

    Attributes
    ----------
    before : int
        Bytes at the beginning of the block, libraries included.
    peak : int
        Largest number of bytes within the block; 0 before its end. If the system does not allow to reset the peak, it
        is that of the process since its start, which is at least as large.
    """

    def __init__(self) -> None:
        self.before = 0
        self.peak = 0

    def __enter__(self) -> PeakMemory:
        try:
            _CLEAR.write_text(_RESET_PEAK)
        except OSError as error:
            log.warning("peak memory: counted since the start of the process, because it cannot be reset (%s)", error)
        self.before = _status("VmRSS")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.peak = _status("VmHWM")


def _status(name: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    lines = _STATUS.read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
