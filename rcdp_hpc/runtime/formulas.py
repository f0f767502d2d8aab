"""Detection of names that spreadsheets run as formulas when they open a CSV file."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from rcdp_hpc.runtime.text import shorten

# Includes the full-width forms, which some programs treat in the same way.
_BEGINS_FORMULA = re.compile(r"[=+\-@\t\r＝＋－＠].", re.DOTALL)
_NUMBER = re.compile(r"[-+]?[\d.,]+([eE][-+]?\d+)?%?", re.ASCII)
SHOWN = 40


def is_formula(text: str) -> bool:
    """Return whether a spreadsheet may run a text as a formula. Signed numbers are not formulas."""
    return bool(_BEGINS_FORMULA.match(text)) and not _NUMBER.fullmatch(text)


def warn_of_formulas(logger: logging.Logger, path: Path, columns: Mapping[str, Iterable[str]]) -> None:
    """Log a warning for each column of a CSV file with names that look like formulas. The names are not changed.

    Parameters
    ----------
    logger : logging.Logger
        Logger of the caller.
    path : Path
        The CSV file.
    columns : mapping of str to iterable of str
        Names by column; a key is a description such as "column id".
    """
    for what, names in columns.items():
        formulas = [name for name in names if is_formula(name)]
        if formulas:
            logger.warning(
                "%s, %s: %d %s like a spreadsheet formula (first %r) and written unchanged. Import the column as text, "
                "or read the file with another program",
                *(path, what, len(formulas), "name looks" if len(formulas) == 1 else "names look"),
                shorten(formulas[0], SHOWN),
            )
