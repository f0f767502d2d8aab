"""Durations, times, counts and commands as texts of a report."""

from __future__ import annotations

import math
import time
from numbers import Real
from pathlib import Path
from typing import Any

from rcdp_hpc.evaluation.report.html import NOTHING
from rcdp_hpc.runtime.text import plain_name, shell_word, shorten

# A table has at most this many rows, and a name at most this many columns.
MOST_ROWS = 1000
NAME_COLUMNS = 60
STAGE_NAMES = {"prepare": "preparation", "search": "search", "train": "training", "evaluate": "evaluation"}


def duration(seconds: Any) -> str:
    """Return a duration in a suitable unit; "-" if it is unknown."""
    if not isinstance(seconds, Real) or not math.isfinite(seconds):
        return NOTHING
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"), (math.inf, 86_400, "days")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return NOTHING


def moment(seconds: Any) -> str:
    """Return a time since 1970 as date and time in UTC; "-" if it is unknown."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(float(seconds)))
    except (TypeError, ValueError, OverflowError, OSError):
        return NOTHING


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 class", "3 classes"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def class_name(name: str) -> str:
    """Return the name of a class for a table, escaped and of limited length."""
    return shorten(plain_name(name), NAME_COLUMNS, "…")


def command(*words: str | Path) -> str:
    """Return a command with its words quoted for a shell."""
    return " ".join(map(shell_word, words))


def listed(words: list[str], most: int = 8) -> str:
    """Return words separated by commas; of many, the first ones and the number of the others."""
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1] if words else ""
