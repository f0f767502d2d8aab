"""Assumptions, omissions and warnings of a reader: collected while it reads, logged once."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

NAMED = 5


@dataclass
class Findings:
    """Facts about a source that its user should know.

    Attributes
    ----------
    assumed : list of str
        Sentences about decisions of the reader, as in "channels come first: (3, 32, 32)".
    left_out : Counter of str
        Number of files, rows, columns or values that were not read, by kind and reason, as in "hidden files".
    examples : dict of str to list of str
        Names of the first ones, by the same keys.
    warnings : list of str
        Sentences about likely mistakes, with advice.
    """

    assumed: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def leave_out(self, what: str, count: int = 1, example: str = "") -> None:
        """Count items that are not read.

        Parameters
        ----------
        what : str
            The items in plural, with the reason: "rows with missing values (data.missing = 'drop')".
        count : int
            Number of items.
        example : str
            Name of one of them.
        """
        self.left_out[what] += count
        named = self.examples.setdefault(what, [])
        if example and len(named) < NAMED:
            named.append(example)

    def report(self, logger: logging.Logger) -> None:
        """Log assumptions as information, omissions and warnings as warnings."""
        for sentence in self.assumed:
            logger.info("assumed: %s", sentence)
        for what, count in self.left_out.items():
            named = self.examples.get(what, [])
            more = ", ..." if named and count > len(named) else ""
            logger.warning("left out: %d %s%s", count, what, f" ({', '.join(named)}{more})" if named else "")
        for sentence in self.warnings:
            logger.warning("%s", sentence)
