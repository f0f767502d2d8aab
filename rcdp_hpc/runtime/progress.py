"""Progress display: a bar on a terminal, log lines elsewhere."""

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
    """A progress bar on a terminal and in a notebook, or a log line every few seconds elsewhere.

    Parameters
    ----------
    title : str
        Name of the work.
    total : int
        Number of units of work.
    unit : str
        Name of the units, plural.
    enabled : bool
        False on ranks other than 0, and if the user has switched progress off.
    interval : float
        Seconds between log lines.
    unit_bytes : int
        Bytes per unit, to show a rate in bytes; 0 for none.
    delay : float
        Seconds before the bar appears; shorter work shows no bar.
    done : int
        Units that were done before, in a resumed run.
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
        self.title = plain_line(title)
        self.total = total
        self.unit = unit
        self.interval = interval
        self.unit_bytes = unit_bytes
        self.done = done
        self.done_before = done
        self.enabled = enabled
        self.started = time.monotonic()
        self.last_line = self.started
        # Rank 0 of a group of ranks logs lines; only rank 0 of the job shows a bar.
        on_terminal = enabled and (_is_terminal() or _is_notebook()) and not detect().rank
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
        """Add `units` to the units done; show `note` next to their number."""
        self.done += units
        note = plain_line(note)
        if self.unit_bytes:
            rate = (self.done - self.done_before) * self.unit_bytes / 2**20 / max(time.monotonic() - self.started, 1e-9)
            note = note or f"{rate:.3g} MiB per second"
        if self.bar is not None:
            self.bar.update(units)
            if note:
                self.bar.set_postfix_str(note, refresh=False)
        elif self.enabled and time.monotonic() - self.last_line >= self.interval:
            self.last_line = time.monotonic()
            rate = (self.done - self.done_before) / max(self.last_line - self.started, 1e-9)
            parts = [f"{self.done} of {self.total} {self.unit}", f"{rate:.3g} per second"]
            lines = wrap_items(f"{self.title}: ", parts + (note.split(", ") if note else []))
            log.info("%s", Lines("\n".join(lines)))


def _is_terminal() -> bool:
    """Return whether stderr is a terminal. It may be missing or closed in a program that calls a stage."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:
        return False


def _is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, which shows stderr below the cell."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def time_left(seconds: float) -> str:
    """Return the remaining time as a text, in seconds, minutes or hours; empty if it is not finite."""
    if not math.isfinite(seconds):
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s left"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min left"
    return f"{seconds / 3600:.1f} h left"
