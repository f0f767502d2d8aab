"""What makes a table unreadable, of all columns at once: texts that are no numbers, missing values, odd types."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources.column_choice import NAMED, quoted, set_line
from rcdp_hpc.data.sources.column_profile import Profiles, TextColumn

FEW_TEXTS = 50
MISSING_ADVICE = (
    "Complete them, leave these rows out with --set data.missing=drop, or fill them with the training rows' mean with "
    "--set data.missing=fill"
)


def text_problems(
    names: Sequence[str], profiles: Profiles, data: DataSection, place_of: Callable[[int], str], training: bool
) -> list[str]:
    """Return sentences about the columns, of those named, that hold texts."""
    found = {name: profiles.texts[place] for place, name in enumerate(names) if name and place in profiles.texts}
    if not found:
        return []
    described = [_described(name, column, profiles.rows, place_of) for name, column in found.items()]
    said = f"{_counted(len(found), 'column holds', 'columns hold')} texts, numbers expected: " + _listed(described)
    if not training:
        return [said + ". Training had numbers there: correct these values"]
    categories = [name for name, column in found.items() if _is_category(column, profiles.rows)]
    others = [name for name in found if name not in categories]
    advice = []
    if categories:
        advice.append(
            f"{set_line('category_columns', [*data.category_columns, *categories])} turns each text into a number"
        )
    if others:
        advice.append(f"{set_line('drop_columns', [*data.drop_columns, *others])} does not read {quoted(others)}")
    return [said + ". Correct these values, or: " + "; ".join(advice)]


def missing_problem(names: Sequence[str], profiles: Profiles, data: DataSection, place_of: Callable[[int], str]) -> str:
    """Return a sentence about the missing values of the columns that are named; empty if there are none."""
    said = missing_values(names, profiles, place_of)
    if not said:
        return ""
    worst = [name for place, name in enumerate(names) if name and 2 * profiles.missing[place] > profiles.rows]
    drop = f"; or do not read a column: {set_line('drop_columns', [*data.drop_columns, *worst])}" if worst else ""
    return f"{said}. {MISSING_ADVICE}{drop}"


def missing_values(names: Sequence[str], profiles: Profiles, place_of: Callable[[int], str]) -> str:
    """Return how many values are missing in each column that is named."""
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
    """Return a sentence about infinite numbers; empty if there are none."""
    found = {place: row for place, row in profiles.too_large.items() if names[place]}
    if not found:
        return ""
    described = [f"{names[place]!r} in {place_of(row)}" for place, row in sorted(found.items())]
    return f"infinity, or a number too large for float32, in column {_listed(described)}. Correct these values"


def inexact_problem(names: Sequence[str], profiles: Profiles, training: bool) -> str:
    """Return a sentence about whole numbers that float64 cannot tell apart; empty if there are none."""
    found = [names[place] for place in sorted(profiles.inexact) if names[place]]
    if not found:
        return ""
    said = f"whole numbers beyond 2**53, of which different ones become equal, in column {quoted(found)}"
    if not training:
        return f"{said}. Training had smaller numbers there: correct these values"
    return f"{said}. Remove them from data.keep_columns, or name them in data.category_columns, which keeps each value"


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


def group_rows(gone: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Return which rows go if some do: all of their group, where rows form groups."""
    if groups is None or not gone.any():
        return gone
    return np.isin(groups, np.unique(groups[gone]))
