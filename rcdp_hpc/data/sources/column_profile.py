"""Statistics of the columns of a table, collected while it is read: gaps, texts, counters, ranges."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources.cells import Numbers, OddText, is_time_text

# Most different texts that are held for a column.
MOST_TEXTS = 20_000
LARGEST = float(np.finfo(np.float32).max)


@dataclass(eq=False)
class TextColumn:
    """A column with texts that are not numbers.

    Attributes
    ----------
    odd : int
        Number of such texts.
    seen : int
        Number of values in `counts`.
    row : int
        Row of the first such text.
    text : str
        The first such text.
    times : bool
        Whether all such texts are dates or times.
    counts : dict of str to int
        Count of each different value, for at most `MOST_TEXTS` values.
    """

    row: int
    text: str
    odd: int = 0
    seen: int = 0
    times: bool = True
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, block: OddText) -> None:
        """Add the texts of a block."""
        import pyarrow as pa

        self.odd += int(np.count_nonzero(block.odd))
        if len(self.counts) >= MOST_TEXTS:
            return
        odd = set(block.texts.filter(pa.array(block.odd)).unique().to_pylist()) if self.times else set()
        self.times = self.times and all(is_time_text(text) for text in odd)
        for entry in block.texts.drop_null().value_counts():
            text, count = entry["values"].as_py(), entry["counts"].as_py()
            self.counts[text] = self.counts.get(text, 0) + count
            self.seen += count


class Profiles:
    """Statistics of columns, updated block by block.

    Parameters
    ----------
    columns : int
        Number of columns.

    Attributes
    ----------
    rows : int
    missing, first_missing : ndarray of int64, shape (columns,)
        Number of missing values, and the row of the first one; -1 if no value is missing.
    whole, counting, rising, climbing : ndarray of bool, shape (columns,)
        Whether all numbers are integers, each number is its predecessor plus 1, no number is smaller than its
        predecessor, each number is larger than its predecessor.
    low, high : ndarray of float64, shape (columns,)
        Smallest and largest number; NaN if there is no number.
    texts : dict of int to TextColumn
    inexact, booleans : set of int
        As in `Numbers`.
    too_large : dict of int to int
        By column, the row of the first number that is infinite or too large for float32.
    """

    def __init__(self, columns: int) -> None:
        self.rows = 0
        self.missing = np.zeros(columns, np.int64)
        self.first_missing = np.full(columns, -1)
        self.whole = np.ones(columns, bool)
        self.counting = np.ones(columns, bool)
        self.rising = np.ones(columns, bool)
        self.climbing = np.ones(columns, bool)
        self.low = np.full(columns, np.nan)
        self.high = np.full(columns, np.nan)
        self._last = np.full(columns, np.nan)
        self.texts: dict[int, TextColumn] = {}
        self.inexact: set[int] = set()
        self.booleans: set[int] = set()
        self.too_large: dict[int, int] = {}

    def add(self, numbers: Numbers) -> None:
        """Add a block of rows."""
        values = numbers.values
        if not len(values):
            return
        nan = np.isnan(values)
        self._count_missing(nan, numbers)
        self._follow(values, nan)
        for place, block in numbers.odd.items():
            first = int(np.argmax(block.odd))
            column = self.texts.setdefault(place, TextColumn(self.rows + first, block.texts[first].as_py()))
            column.add(block)
        self.inexact |= numbers.inexact
        self.booleans |= numbers.booleans
        self.rows += len(values)

    def present(self, place: int) -> int:
        """Return the number of values of a column that are not missing."""
        return self.rows - int(self.missing[place])

    def is_empty(self, place: int) -> bool:
        """Return whether all values of a column are missing."""
        return self.present(place) == 0

    def _count_missing(self, nan: NDArray[np.bool_], numbers: Numbers) -> None:
        if not nan.any():
            return
        missing = nan.copy()
        for place, block in numbers.odd.items():
            missing[:, place] &= ~block.odd
        begins = missing.any(axis=0) & (self.first_missing < 0)
        self.first_missing[begins] = self.rows + np.argmax(missing[:, begins], axis=0)
        self.missing += missing.sum(axis=0)

    def _follow(self, values: NDArray[np.float64], nan: NDArray[np.bool_]) -> None:
        with np.errstate(invalid="ignore"):
            self.whole &= ((values == np.floor(values)) | nan).all(axis=0)
            steps = np.diff(np.vstack([self._last[None], values]) if self.rows else values, axis=0)
            self.counting &= (steps == 1).all(axis=0) & ~nan.any(axis=0)
            self.rising &= (steps >= 0).all(axis=0)
            self.climbing &= (steps > 0).all(axis=0)
        self._last = values[-1].copy()
        self.low = np.fmin(self.low, np.fmin.reduce(values, axis=0))
        self.high = np.fmax(self.high, np.fmax.reduce(values, axis=0))
        large = np.abs(values) > LARGEST
        for place in np.flatnonzero(large.any(axis=0)).tolist():
            self.too_large.setdefault(place, self.rows + int(np.argmax(large[:, place])))
