"""Resident memory of a piece of work, as Linux counts it; NumPy and the standard library only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_mb() -> float:
    """Return the largest resident memory of this process since it began or since `forget_peak`, in MB."""
    return _field("VmHWM")


def forget_peak() -> float:
    """Let the peak begin anew, and return what is resident now, in MB."""
    CLEAR.write_text("5")
    return _field("VmRSS")


def extra_mb(work: Callable[[], T]) -> tuple[T, float]:
    """Return what the work returns, and the MB it needed at its peak beyond what was resident before."""
    before = forget_peak()
    result = work()
    return result, peak_mb() - before


def _field(name: str) -> float:
    lines = STATUS.read_text().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024 / 1e6
