"""What a reader assumed, left out and warns about: collected while reading, logged once."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

NAMED = 5


@dataclass
class Findings:
    """Everything about a source that its user should know and did not ask for.

    Attributes
    ----------
    assumed : list of str
        Sentences about what was decided without being asked, as in "channels come first: (3, 32, 32)".
    left_out : Counter of str
        How many files, rows, columns or values were not read, by their kind and reason, as in "hidden files".
    examples : dict of str to list of str
        Names of the first that were left out, by the same keys.
    warnings : list of str
        Sentences about what is likely a mistake, with what to do.
    """

    assumed: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def leave_out(self, what: str, count: int = 1, example: str = "") -> None:
        """Count something that is not read.

        Parameters
        ----------
        what : str
            Plural, with the reason: "rows with missing values (data.missing = 'drop')".
        count : int
            How many.
        example : str
            Name of one of them.
        """
        self.left_out[what] += count
        named = self.examples.setdefault(what, [])
        if example and len(named) < NAMED:
            named.append(example)

    def report(self, logger: logging.Logger) -> None:
        """Log what was assumed as information, and the rest as warnings."""
        for sentence in self.assumed:
            logger.info("assumed: %s", sentence)
        for what, count in self.left_out.items():
            named = self.examples.get(what, [])
            more = ", ..." if named and count > len(named) else ""
            logger.warning("left out: %d %s%s", count, what, f" ({', '.join(named)}{more})" if named else "")
        for sentence in self.warnings:
            logger.warning("%s", sentence)
