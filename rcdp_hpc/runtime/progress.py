"""Progress that people can see: one bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import time
from types import TracebackType

from tqdm import tqdm

from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.streams import BarStream
from rcdp_hpc.runtime.text import Lines, plain_line, wrap_items

log = logging.getLogger(__name__)


class Progress:
    """A progress bar, or a line every few seconds where the output is no terminal.

    Parameters
    ----------
    title : str
        What is being done.
    total : int
        Units of work.
    unit : str
        Name of a unit, plural.
    enabled : bool
        False on ranks other than 0 and where the user switched progress off.
    interval : float
        Seconds between lines.
    unit_bytes : int
        Bytes of a unit, if a rate in bytes should be shown.
    delay : float
        Seconds before a bar is shown: work that is done earlier shows none.
    done : int
        Units that were done earlier, as by a run that is resumed.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str = "rows",
        enabled: bool = True,
        interval: float = 5.0,
        unit_bytes: int = 0,
        delay: float = 0.0,
        done: int = 0,
    ) -> None:
        self.title, self.total, self.unit, self.interval = plain_line(title), total, unit, interval
        self.unit_bytes = unit_bytes
        self.done = self.before = done
        self.enabled = enabled
        self.started = self.last = time.monotonic()
        # The first rank of a group of ranks logs its lines, and leaves the terminal to rank 0 of the job.
        on_terminal = enabled and _is_terminal() and not detect().rank
        self.bar = (
            tqdm(
                total=total,
                desc=self.title,
                unit=" " + unit,
                leave=False,
                delay=delay,
                initial=done,
                dynamic_ncols=True,
                file=BarStream(),
            )
            if on_terminal
            else None
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def advance(self, units: int = 1, note: str = "") -> None:
        """Count `units` more as done; `note` is shown beside the count."""
        self.done += units
        note = plain_line(note)
        if self.unit_bytes:
            rate = (self.done - self.before) * self.unit_bytes / 2**20 / max(time.monotonic() - self.started, 1e-9)
            note = note or f"{rate:.3g} MiB a second"
        if self.bar is not None:
            self.bar.update(units)
            if note:
                self.bar.set_postfix_str(note, refresh=False)
        elif self.enabled and time.monotonic() - self.last >= self.interval:
            self.last = time.monotonic()
            rate = (self.done - self.before) / max(self.last - self.started, 1e-9)
            parts = [f"{self.done} of {self.total} {self.unit}", f"{rate:.3g} a second"]
            lines = wrap_items(f"{self.title}: ", parts + (note.split(", ") if note else []))
            log.info("%s", Lines("\n".join(lines)))


def _is_terminal() -> bool:
    """Return whether stderr is a terminal: it may be missing or closed if a program without one calls a stage."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:
        return False


def time_left(seconds: float) -> str:
    """Return seconds in the unit that people read."""
    if not math.isfinite(seconds):
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s left"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min left"
    return f"{seconds / 3600:.1f} h left"
