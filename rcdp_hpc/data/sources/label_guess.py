"""Find the columns of a table that are likely the label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcdp_hpc.data.sources.cells import is_time_text, kind_of_type, texts_of
from rcdp_hpc.data.sources.column_selection import CAMEL_ID, ID_NAME, UNNAMED
from rcdp_hpc.data.sources.labels import MISSING_TEXTS
from rcdp_hpc.data.sources.table_files import TableFile

EXAMINED_ROWS = 100_000
MOST_CLASSES = 100
LABEL_NAMES = (
    "label", "labels", "class", "classes", "target", "y", "category", "species", "outcome", "diagnosis", "survived",
    "variety", "type", "quality", "result", "status", "response", "churn", "default", "group", "kind",
)  # fmt: skip
FRACTION = re.compile(r"[-+]?\d*[.,]\d*[1-9]\d*([eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+", re.ASCII)
WHOLE = re.compile(r"[-+]?\d+([.,]0*)?", re.ASCII)


@dataclass(frozen=True)
class ColumnStatistics:
    """Statistics of a column from the first rows.

    Attributes
    ----------
    name : str
    distinct : int
        Number of different values.
    values : list of str
        The first different values.
    present : int
        Number of values that are not missing.
    rows : int
        Number of rows.
    """

    name: str
    distinct: int
    values: list[str]
    present: int
    rows: int

    @property
    def is_text(self) -> bool:
        """Whether some values are not numbers."""
        return not all(WHOLE.fullmatch(value) or FRACTION.fullmatch(value) for value in self.values)

    @property
    def is_fraction(self) -> bool:
        """Whether the values are numbers, some of them with fractions."""
        return not self.is_text and any(FRACTION.fullmatch(value) for value in self.values)

    @property
    def is_boolean(self) -> bool:
        """Whether all values are True or False."""
        return {value.lower() for value in self.values} <= {"true", "false"}

    @property
    def is_time(self) -> bool:
        """Whether all values are dates or times."""
        return bool(self.values) and all(is_time_text(value) for value in self.values)

    @property
    def is_measured(self) -> bool:
        """Whether the values are numbers and too many for classes."""
        return not self.is_text and (self.is_fraction or self.distinct > MOST_CLASSES)

    @property
    def is_id_by_name(self) -> bool:
        """Whether the name is that of an id or an index."""
        patterns = (ID_NAME, CAMEL_ID, UNNAMED)
        return any(pattern.fullmatch(self.name) for pattern in patterns)

    @property
    def can_be_label(self) -> bool:
        """Whether the values can be a few classes with several samples each."""
        few = 2 <= self.distinct <= min(MOST_CLASSES, max(2, self.present // 2))
        return few and not self.is_fraction and not self.is_id_by_name and not self.is_time


def examine(files: Sequence[TableFile], names: Sequence[str] | None = None) -> list[ColumnStatistics]:
    """Return statistics of some columns from the first rows of a table."""
    first = files[0]
    kinds = dict(zip(first.names, (kind_of_type(one) for one in first.types()), strict=True))
    names = [name for name in (names or first.names) if kinds[name] in ("number", "text")]
    counts: dict[str, dict[str, int]] = {name: {} for name in names}
    present = dict.fromkeys(names, 0)
    rows = 0
    for file in files:
        for columns in file.batches(names) if names else ():
            for name, column in zip(names, columns, strict=True):
                _count(column, counts[name], present, name)
            rows += len(columns[0])
            if rows >= EXAMINED_ROWS:
                break
        if rows >= EXAMINED_ROWS:
            break
    return [ColumnStatistics(name, len(counts[name]), list(counts[name])[:1000], present[name], rows) for name in names]


def likely_labels(files: Sequence[TableFile]) -> list[str]:
    """Return the columns that can be the label, the most likely first."""
    # In a wide table, only the first and the last columns are examined.
    names = files[0].names
    names = names if len(names) <= 2000 else [*names[:100], *names[-100:]]
    return [column.name for column in ranked(examine(files, names), files[0].names)]


def ranked(columns: Sequence[ColumnStatistics], names: Sequence[str]) -> list[ColumnStatistics]:
    """Return the columns that can be the label, the most likely first."""
    fitting = [column for column in columns if column.can_be_label]
    return sorted(fitting, key=lambda column: -_score(column, names))


def label_like(name: str) -> bool:
    """Return whether a name is common for columns of labels."""
    words = re.split(r"[_\s.-]+", name.strip().lower())
    return name.strip().lower() in LABEL_NAMES or words[-1] in LABEL_NAMES


def _score(column: ColumnStatistics, names: Sequence[str]) -> float:
    words = re.split(r"[_\s.-]+", column.name.strip().lower())
    score = 0.0
    if column.name.strip().lower() in LABEL_NAMES:
        score += 10 - 0.1 * LABEL_NAMES.index(column.name.strip().lower())
    elif words[-1] in LABEL_NAMES:
        score += 6
    score += 4 if column.name == names[-1] else 1.5 if column.name == names[0] else 0
    score += 1 if column.is_text else 0
    score += 1 if column.distinct <= 20 else 0
    return score - 2 * (column.present < column.rows)


def _count(column: Any, counted: dict[str, int], present: dict[str, int], name: str) -> None:
    texts, places = texts_of(column)
    counts = np.bincount(places[places >= 0], minlength=len(texts))
    for text, count in zip(texts, counts.tolist(), strict=True):
        if text in MISSING_TEXTS:
            continue
        present[name] += count
        # Counts of values are kept to count the different ones.
        counted[text] = counted.get(text, 0) + count
