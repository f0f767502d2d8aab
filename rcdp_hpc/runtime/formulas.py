"""Names that a spreadsheet runs as formulas when it opens a CSV file."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from rcdp_hpc.runtime.text import shorten

# Of East Asian width too: some programs take them for the same.
_BEGINS_FORMULA = re.compile(r"[=+\-@\t\r＝＋－＠].", re.DOTALL)
_NUMBER = re.compile(r"[-+]?[\d.,]+([eE][-+]?\d+)?%?", re.ASCII)
SHOWN = 40


def is_formula(text: str) -> bool:
    """Return whether a spreadsheet may take a text for a formula; a number with a sign is none."""
    return bool(_BEGINS_FORMULA.match(text)) and not _NUMBER.fullmatch(text)


def warn_of_formulas(logger: logging.Logger, path: Path, columns: Mapping[str, Iterable[str]]) -> None:
    """Log a warning for each column of a CSV file with names that begin as formulas do: they are written as they are.

    Parameters
    ----------
    logger : logging.Logger
        The caller's.
    path : Path
        The file.
    columns : mapping of str to iterable of str
        Its names, by what they are names of: "column id".
    """
    for what, names in columns.items():
        found = [name for name in names if is_formula(name)]
        if found:
            logger.warning(
                "%s, %s: %d %s as a spreadsheet formula does (first %r). They are written as they are: import the "
                "column as text, or have another program read the file",
                *(path, what, len(found), "name begins" if len(found) == 1 else "names begin"),
                shorten(found[0], SHOWN),
            )
