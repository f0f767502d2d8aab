"""Differences and names of measures as texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def interval_text(difference: Mapping[str, Any]) -> str:
    """Return a difference and its interval in points of a hundred, as "+2.1 (+0.3 to +4.0)"."""
    low, high = (f"{100 * end:+.1f}" for end in difference["interval"])
    return f"{100 * difference['value']:+.1f} ({low} to {high})"


def words(name: str) -> str:
    """Return the name of a measure as words."""
    return name.replace("_", " ")
