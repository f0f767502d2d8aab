"""Resident memory of a function on Linux, with the standard library only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_mb() -> float:
    """Return the largest resident memory of this process since its start or the last `reset_peak`, in MB."""
    return _field("VmHWM")


def reset_peak() -> float:
    """Reset the peak and return the current resident memory, in MB."""
    CLEAR.write_text("5")
    return _field("VmRSS")


def extra_mb(work: Callable[[], T]) -> tuple[T, float]:
    """Return the result of a function and its peak memory in MB, minus the resident memory before."""
    before = reset_peak()
    result = work()
    return result, peak_mb() - before


def _field(name: str) -> float:
    lines = STATUS.read_text().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024 / 1e6
