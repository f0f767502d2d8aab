"""Numbers as text: what Python's float takes beyond them is not a number in a file of data."""

from __future__ import annotations

from collections.abc import Iterable


def is_odd(text: str) -> bool:
    """Return whether a text may hold what Python reads as a number and no table means, as 1_000."""
    return "_" in text or not text.isascii()


def are_plain(cells: Iterable[str]) -> bool:
    """Return whether no cell is odd."""
    return not is_odd("".join(cells))


def number_of_text(text: str) -> float:
    """Return a number.

    Raises
    ------
    ValueError
        If the text is not a number as tables write it.
    """
    if is_odd(text):
        raise ValueError("not a number")
    return float(text)
