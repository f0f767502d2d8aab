"""Find the columns of a table that are not features: row names, counters, time stamps, columns without values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources.base import Samples, blocks
from rcdp_hpc.data.sources.column_profile import Profiles, TextColumn
from rcdp_hpc.data.sources.findings import Findings

# With fewer rows, a counter or a column of different texts can be a coincidence.
FEW_ROWS = 10
NAMED = 20
UNNAMED = re.compile(r"Unnamed: \d+(\.\d+)?|__index_level_\d+__")
ID_WORDS = "id|ids|uuid|guid|index|idx|row|rows|rownum|rowid|rownames|nr|no|key|serial"
ID_NAME = re.compile(rf"(.*[_\s.-])?({ID_WORDS})|({ID_WORDS})[_\s.-](no|nr|num|number|id|index)|#", re.IGNORECASE)
CAMEL_ID = re.compile(r".*[a-z](I[dD]|Index|Nr|No|UUID)")
TIME_WORDS = "when|time|date|datetime|timestamp|ts|epoch|day|created|updated|modified"
TIME_NAME = re.compile(rf"(.*[_\s.-])?({TIME_WORDS})([_\s.-].*)?|.*_at|.*(timestamp|datetime|date)", re.IGNORECASE)
# Numbers in another notation or with a unit are not names of rows.
NUMBER_LIKE = re.compile(r"\d+[^\W\d_]{0,3}")
MARKS = re.compile(r"[\s()$€£%.,'’<>~=+\-−–]")
EXAMINED = 1000
INEXACT = "whole numbers beyond 2**53, which are likely ids and would lose their last digits"
# Seconds since 1970 of the years 2000 to 2040.
EPOCH = (946_684_800, 2_208_988_800)
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


@dataclass
class ColumnSelection:
    """The columns that are left out although they could be features.

    Attributes
    ----------
    reasons : dict of str to str
        Reason for leaving out a column, by its name.
    names : list of str
        Columns that are left out and name the rows: each value occurs once.
    """

    reasons: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def report(self, where: str, empty: list[str], index: list[str], findings: Findings) -> None:
        """Record each column that is left out, the reason, and the setting that keeps it."""
        for name in index:
            findings.leave_out("columns that are the index of pandas (data.keep_columns keeps one)", example=repr(name))
        for name in empty:
            findings.leave_out("columns without any value", example=repr(name))
        for reason in dict.fromkeys(self.reasons.values()):
            same = [name for name, own_reason in self.reasons.items() if own_reason == reason]
            findings.leave_out(f"columns that do not look like features ({reason})", len(same))
            key = "category_columns" if reason == INEXACT else "keep_columns"
            findings.warnings.append(
                f"{where}: {quoted(same)} {'is' if len(same) == 1 else 'are'} left out: {reason}. "
                f"To keep {'it' if len(same) == 1 else 'them'}: {set_line(key, same)}"
            )


def select_columns(
    names: Sequence[str], profiles: Profiles, x: Samples, keep: set[str], findings: Findings
) -> ColumnSelection:
    """Find the columns that do not look like features.

    Parameters
    ----------
    names : sequence of str
        Names of the columns of `profiles` and `x`.
    profiles : Profiles
        Statistics of the columns.
    x : Samples, shape (N, columns)
        Numbers of the columns.
    keep : set of str
        Names of columns that are features in any case.
    findings : Findings
        Receives warnings about columns that are kept but may not be features.
    """
    choice = ColumnSelection()
    suspects: dict[int, str] = {}
    doubts: dict[str, list[str]] = {}
    for place, name in enumerate(names):
        if name in keep or profiles.is_empty(place):
            continue
        if place in profiles.texts:
            _judge_text(name, profiles, place, choice)
        elif reason := _time_reason(name, profiles, place):
            choice.reasons[name] = reason
        elif place in profiles.inexact:
            choice.reasons[name] = INEXACT
        elif reason := _id_reason(name, profiles, place):
            suspects[place] = reason
        elif reason := _doubt(profiles, place):
            doubts.setdefault(reason, []).append(name)
    distinct = _distinct(x, list(suspects))
    for place, reason in suspects.items():
        name = names[place]
        if distinct[place] == profiles.present(place) or UNNAMED.fullmatch(name):
            choice.reasons[name] = reason
            if distinct[place] == profiles.rows:
                choice.names.append(name)
        elif ID_NAME.fullmatch(name) or CAMEL_ID.fullmatch(name):
            findings.warnings.append(
                f"column {name!r} is a feature although its name is that of an id; it has {distinct[place]} distinct "
                f"values. If it is not a feature: {set_line('drop_columns', [name])}; if it is the same for all "
                "rows of one series, set data.sequence_column; if it names patients or sites, data.group_column"
            )
    for reason, same in doubts.items():
        findings.warnings.append(
            f"columns that may not be features: {quoted(same)}: {reason}. To leave out: "
            f"{set_line('drop_columns', same)}"
        )
    return choice


def _doubt(profiles: Profiles, place: int) -> str:
    """Return why a column may be a time stamp or an index in spite of its name; empty if it is neither."""
    low, high = profiles.low[place], profiles.high[place]
    if not profiles.whole[place] or low == high or profiles.present(place) < FEW_ROWS:
        return ""
    for unit, factor in UNITS.items():
        if EPOCH[0] * factor <= low and high <= EPOCH[1] * factor:
            return f"whole numbers in the range of time stamps in {unit} since 1970"
    # The index of filtered rows has gaps, but it still increases.
    if profiles.climbing[place] and not profiles.missing[place]:
        return "whole numbers that increase in each row, like an index"
    return ""


def _judge_text(name: str, profiles: Profiles, place: int, choice: ColumnSelection) -> None:
    column = profiles.texts[place]
    present = profiles.present(place)
    if column.times and column.odd == present:
        choice.reasons[name] = "dates or times"
    elif _are_names(column, present):
        choice.reasons[name] = "texts that are all different, like names of rows"
        if present == profiles.rows:
            choice.names.append(name)


def _are_names(column: TextColumn, present: int) -> bool:
    if present < FEW_ROWS or 2 * column.odd <= present or column.seen > len(column.counts):
        return False
    texts = list(column.counts)[:EXAMINED]
    return 2 * sum(NUMBER_LIKE.fullmatch(MARKS.sub("", text)) is not None for text in texts) < len(texts)


def _time_reason(name: str, profiles: Profiles, place: int) -> str:
    """Return why a column of whole numbers looks like time stamps; empty if it does not."""
    low, high = profiles.low[place], profiles.high[place]
    if not profiles.whole[place] or low == high:
        return ""
    timely = TIME_NAME.fullmatch(name) is not None or bool(profiles.rising[place])
    for unit, factor in UNITS.items():
        if EPOCH[0] * factor <= low and high <= EPOCH[1] * factor and timely:
            return f"time stamps in {unit} since 1970"
    if low >= 19000101 and high <= 21001231 and TIME_NAME.fullmatch(name):
        return "dates written as numbers"
    return ""


def _id_reason(name: str, profiles: Profiles, place: int) -> str:
    """Return why a column may name or count the rows if its values are all different; empty if it cannot."""
    if not profiles.whole[place] or profiles.low[place] == profiles.high[place]:
        return ""
    present = profiles.present(place)
    if UNNAMED.fullmatch(name):
        return "whole numbers without a column name, like an index"
    if ID_NAME.fullmatch(name) or CAMEL_ID.fullmatch(name):
        return "an id by its name, with a different whole number in each row" if present > 1 else ""
    if profiles.high[place] - profiles.low[place] == present - 1 and present >= FEW_ROWS:
        return "it counts the rows"
    return ""


def step_counters(
    names: Sequence[str], profiles: Profiles, x: Samples, sequences: NDArray[np.int64], keep: set[str]
) -> list[str]:
    """Return the columns that count the rows of each sequence, in the order of the file.

    Parameters
    ----------
    names, profiles, x, keep
        As in `select_columns`.
    sequences : ndarray of int64, shape (N,)
        The sequence of each row.
    """
    order = np.argsort(sequences, kind="stable")
    begins = np.diff(sequences[order], prepend=-1) != 0
    places = [
        place
        for place, name in enumerate(names)
        if name not in keep and profiles.whole[place] and not profiles.missing[place] and place not in profiles.texts
    ]
    if len(order) - np.count_nonzero(begins) < FEW_ROWS or not places:
        return []
    # A few rows exclude most columns.
    first_rows = order[:EXAMINED]
    places = [place for place in places if _counts_steps(x[first_rows][:, place], begins[:EXAMINED])]
    if not places:
        return []
    held = np.concatenate([block[:, places] for block in blocks(x)])[order]
    return [names[place] for number, place in enumerate(places) if _counts_steps(held[:, number], begins)]


def _counts_steps(values: NDArray[np.float64], begins: NDArray[np.bool_]) -> bool:
    """Return whether values increase by 1 in each sequence, and all begin with 0 or all with another number."""
    steps = np.diff(values, prepend=values[:1])
    return bool((steps[~begins] == 1).all() and len(set(values[begins].tolist()) - {0.0}) < 2)


def _distinct(x: Samples, places: list[int]) -> dict[int, int]:
    """Return the number of different values of each of some columns."""
    if not places:
        return {}
    held: NDArray[np.float64] = np.concatenate([block[:, places] for block in blocks(x)])
    counts = {}
    for number, place in enumerate(places):
        column = held[:, number]
        counts[place] = len(np.unique(column[~np.isnan(column)]))
    return counts


def quoted(names: Sequence[str], most: int = NAMED) -> str:
    """Return names in quotation marks; of more than `most`, the first ones and the count."""
    return ", ".join(repr(name) for name in names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")


def set_line(key: str, names: Sequence[str]) -> str:
    """Return the command-line option that sets a list of columns, quoted for a shell."""
    listed = ", ".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names[:NAMED])
    listed += ", ..." if len(names) > NAMED else ""
    return "--set 'data." + key + "=[" + listed.replace("'", "'\\''") + "]'"
