"""Which column of a table is likely the label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcdp_hpc.data.sources.cells import is_time_text, kind_of_type, texts_of
from rcdp_hpc.data.sources.column_choice import CAMEL_ID, ID_NAME, UNNAMED
from rcdp_hpc.data.sources.labels import MISSING_TEXTS
from rcdp_hpc.data.sources.table_files import TableFile

LOOKED_AT = 100_000
MOST_CLASSES = 100
LABEL_NAMES = (
    "label", "labels", "class", "classes", "target", "y", "category", "species", "outcome", "diagnosis", "survived",
    "variety", "type", "quality", "result", "status", "response", "churn", "default", "group", "kind",
)  # fmt: skip
FRACTION = re.compile(r"[-+]?\d*[.,]\d*[1-9]\d*([eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+", re.ASCII)
WHOLE = re.compile(r"[-+]?\d+([.,]0*)?", re.ASCII)


@dataclass(frozen=True)
class Seen:
    """What was seen of a column.

    Attributes
    ----------
    name : str
    distinct : int
        Different values.
    values : list of str
        The first of them.
    present : int
        Values that are not missing.
    rows : int
    """

    name: str
    distinct: int
    values: list[str]
    present: int
    rows: int

    @property
    def is_text(self) -> bool:
        """Whether some values are no numbers."""
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
        """Whether the values are numbers, too many for classes."""
        return not self.is_text and (self.is_fraction or self.distinct > MOST_CLASSES)

    @property
    def is_id_by_name(self) -> bool:
        """Whether the name is that of an id or an index."""
        patterns = (ID_NAME, CAMEL_ID, UNNAMED)
        return any(pattern.fullmatch(self.name) for pattern in patterns)

    @property
    def could_be_label(self) -> bool:
        """Whether there are a few classes, each with samples."""
        few = 2 <= self.distinct <= min(MOST_CLASSES, max(2, self.present // 2))
        return few and not self.is_fraction and not self.is_id_by_name and not self.is_time


def look(files: Sequence[TableFile], names: Sequence[str] | None = None) -> list[Seen]:
    """Look at some columns in the first rows of a table."""
    first = files[0]
    kinds = dict(zip(first.names, (kind_of_type(found) for found in first.types()), strict=True))
    names = [name for name in (names or first.names) if kinds[name] in ("number", "text")]
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    present = dict.fromkeys(names, 0)
    rows = 0
    for file in files:
        for columns in file.batches(names) if names else ():
            for name, column in zip(names, columns, strict=True):
                _count(column, found[name], present, name)
            rows += len(columns[0])
            if rows >= LOOKED_AT:
                break
        if rows >= LOOKED_AT:
            break
    return [Seen(name, len(found[name]), list(found[name])[:1000], present[name], rows) for name in names]


def likely_labels(files: Sequence[TableFile]) -> list[str]:
    """Return columns that are likely the label, the most likely first."""
    # Of a wide table the first and the last columns are enough.
    names = files[0].names
    names = names if len(names) <= 2000 else [*names[:100], *names[-100:]]
    return [seen.name for seen in ranked(look(files, names), files[0].names)]


def ranked(columns: Sequence[Seen], names: Sequence[str]) -> list[Seen]:
    """Return the columns that could be the label, the most likely first."""
    fitting = [seen for seen in columns if seen.could_be_label]
    return sorted(fitting, key=lambda seen: -_score(seen, names))


def label_like(name: str) -> bool:
    """Tell whether columns of labels are often called so."""
    words = re.split(r"[_\s.-]+", name.strip().lower())
    return name.strip().lower() in LABEL_NAMES or words[-1] in LABEL_NAMES


def _score(seen: Seen, names: Sequence[str]) -> float:
    words = re.split(r"[_\s.-]+", seen.name.strip().lower())
    score = 0.0
    if seen.name.strip().lower() in LABEL_NAMES:
        score += 10 - 0.1 * LABEL_NAMES.index(seen.name.strip().lower())
    elif words[-1] in LABEL_NAMES:
        score += 6
    score += 4 if seen.name == names[-1] else 1.5 if seen.name == names[0] else 0
    score += 1 if seen.is_text else 0
    score += 1 if seen.distinct <= 20 else 0
    return score - 2 * (seen.present < seen.rows)


def _count(column: Any, found: dict[str, int], present: dict[str, int], name: str) -> None:
    texts, places = texts_of(column)
    counts = np.bincount(places[places >= 0], minlength=len(texts))
    for text, count in zip(texts, counts.tolist(), strict=True):
        if text in MISSING_TEXTS:
            continue
        present[name] += count
        # Of many different values only their number counts.
        found[text] = found.get(text, 0) + count
