"""Sentences about everything that makes a table unreadable: texts instead of numbers, missing and invalid values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources.column_profile import Profiles, TextColumn
from rcdp_hpc.data.sources.column_selection import NAMED, quoted, set_line

FEW_TEXTS = 50
MISSING_ADVICE = (
    "Complete them, leave these rows out with --set data.missing=drop, or fill them with --set data.missing=median "
    "(or mean, or constant)"
)


def text_problems(
    names: Sequence[str], profiles: Profiles, data: DataSection, place_of: Callable[[int], str], training: bool
) -> list[str]:
    """Return sentences about the columns with texts; columns whose name is empty are ignored."""
    columns = {name: profiles.texts[place] for place, name in enumerate(names) if name and place in profiles.texts}
    if not columns:
        return []
    described = [_described(name, column, profiles.rows, place_of) for name, column in columns.items()]
    sentence = f"{_counted(len(columns), 'column holds', 'columns hold')} texts, numbers expected: " + _listed(
        described
    )
    if not training:
        return [sentence + ". Training had numbers there: correct these values"]
    categories = [name for name, column in columns.items() if _is_category(column, profiles.rows)]
    others = [name for name in columns if name not in categories]
    advice = []
    if categories:
        advice.append(
            f"{set_line('category_columns', [*data.category_columns, *categories])} turns each text into a number"
        )
    if others:
        advice.append(f"{set_line('drop_columns', [*data.drop_columns, *others])} does not read {quoted(others)}")
    return [sentence + ". Correct these values, or: " + "; ".join(advice)]


def missing_problem(names: Sequence[str], profiles: Profiles, data: DataSection, place_of: Callable[[int], str]) -> str:
    """Return a sentence about missing values, with advice; empty if there are none."""
    sentence = missing_values(names, profiles, place_of)
    if not sentence:
        return ""
    worst = [name for place, name in enumerate(names) if name and 2 * profiles.missing[place] > profiles.rows]
    drop = f"; or do not read a column: {set_line('drop_columns', [*data.drop_columns, *worst])}" if worst else ""
    return f"{sentence}. {MISSING_ADVICE}{drop}"


def missing_values(names: Sequence[str], profiles: Profiles, place_of: Callable[[int], str]) -> str:
    """Return a sentence with the number of missing values of each column; empty if there are none."""
    counts = {
        place: int(profiles.missing[place]) for place, name in enumerate(names) if name and profiles.missing[place]
    }
    if not counts:
        return ""
    first = min(counts, key=lambda place: int(profiles.first_missing[place]))
    listed = _listed([f"{names[place]!r}: {count}" for place, count in counts.items()])
    total = sum(counts.values())
    return (
        f"{total} missing {'value' if total == 1 else 'values'} (empty, NA, NaN, ...), first in "
        f"{place_of(int(profiles.first_missing[first]))}, column {names[first]!r}; values by column: {listed}"
    )


def too_large_problem(names: Sequence[str], profiles: Profiles, place_of: Callable[[int], str]) -> str:
    """Return a sentence about infinite or too large numbers; empty if there are none."""
    first_rows = {place: row for place, row in profiles.too_large.items() if names[place]}
    if not first_rows:
        return ""
    described = [f"{names[place]!r} in {place_of(row)}" for place, row in sorted(first_rows.items())]
    return f"infinity, or a number too large for float32, in column {_listed(described)}. Correct these values"


def inexact_problem(names: Sequence[str], profiles: Profiles, training: bool) -> str:
    """Return a sentence about integers that float64 does not represent exactly; empty if there are none."""
    columns = [names[place] for place in sorted(profiles.inexact) if names[place]]
    if not columns:
        return ""
    sentence = f"whole numbers beyond 2**53, some of which become equal, in column {quoted(columns)}"
    if not training:
        return f"{sentence}. Training had smaller numbers there: correct these values"
    return (
        f"{sentence}. Remove them from data.keep_columns, or name them in data.category_columns, which keeps each value"
    )


def _described(name: str, column: TextColumn, rows: int, place_of: Callable[[int], str]) -> str:
    text = column.text if len(column.text) <= 40 else column.text[:40] + "..."
    if column.odd < rows:
        many = f"{column.odd} of {rows} values"
    else:
        many = _counted(len(column.counts), "distinct text", "distinct texts")
    formula = ", a spreadsheet formula: save its value" if text.startswith("=") else ""
    return f"{name!r} ({many}, first {text!r} in {place_of(column.row)}{formula})"


def _is_category(column: TextColumn, rows: int) -> bool:
    return len(column.counts) <= min(FEW_TEXTS, max(2, rows // 2)) and 2 * column.odd > column.seen


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _listed(parts: Sequence[str]) -> str:
    more = f", ... ({len(parts) - NAMED} more)" if len(parts) > NAMED else ""
    return ", ".join(parts[:NAMED]) + more


def sequence_rows(excluded: np.ndarray, sequences: np.ndarray | None) -> np.ndarray:
    """Return the rows to leave out: with sequences, all rows of each sequence that has a row to leave out."""
    if sequences is None or not excluded.any():
        return excluded
    return np.isin(sequences, np.unique(sequences[excluded]))
