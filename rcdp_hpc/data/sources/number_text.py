"""Numbers as text. Python's float accepts more texts than are numbers in files of data."""

from __future__ import annotations

from collections.abc import Iterable


def is_odd(text: str) -> bool:
    """Return whether a text may be a number for Python but not in a table, as 1_000."""
    return "_" in text or not text.isascii()


def are_plain(cells: Iterable[str]) -> bool:
    """Return whether no cell is odd."""
    return not is_odd("".join(cells))


def number_of_text(text: str) -> float:
    """Return a number.

    Raises
    ------
    ValueError
        If the text is not a number in the notation of tables.
    """
    if is_odd(text):
        raise ValueError("not a number")
    return float(text)
