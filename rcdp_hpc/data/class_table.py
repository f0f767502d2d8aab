"""The classes in the log: their imbalance, the rows that are dropped, and the targets and results of balancing."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.choices import balancing_choice
from rcdp_hpc.data.rows import RowTable
from rcdp_hpc.data.split import RESERVE, Split
from rcdp_hpc.runtime.text import COLUMNS, display_width, pad, plain_name

log = logging.getLogger(__name__)

# From this ratio of the largest to the smallest class on, the log notes that classes stay uneven.
UNEVEN = 1.5

# Least width of a class name in the table, in characters.
LEAST_NAME = 8
TABLE_CLASSES = 20
NAMED_CLASSES = 10

Counts = dict[str, list[int]]


def named(items: Sequence[str], separator: str = ", ") -> str:
    """Return the first ten items as text, and the number of the others."""
    more = f" and {len(items) - NAMED_CLASSES} more" if len(items) > NAMED_CLASSES else ""
    return separator.join(items[:NAMED_CLASSES]) + more


def report_dropped(classes: Sequence[str], counts: Counts, data: DataSection) -> None:
    """Log a warning that names the training rows which ``data.class_keep_fractions`` or its counts drop."""
    dropped, kept = counts["dropped"], counts["before"]
    if not any(dropped):
        return
    parts = [
        f"class {name} {count} of {count + rest}"
        for name, count, rest in zip(classes, dropped, kept, strict=True)
        if count
    ]
    log.warning(
        "data.%s drops %d of %d training rows: %s. Set it to [] to keep them all",
        "class_keep_counts" if data.class_keep_counts else "class_keep_fractions",
        *(sum(dropped), sum(dropped) + sum(kept), named(parts)),
    )


def report_unevenness(classes: Sequence[str], before: Sequence[int], method: str) -> None:
    """Log the imbalance of the training rows before balancing: the largest class over the smallest."""
    largest, smallest = max(before), min(before)
    log.info(
        "training rows per class: %d (class %s) to %d (class %s), largest over smallest %s",
        *(smallest, classes[before.index(smallest)], largest, classes[before.index(largest)]),
        f"{largest / smallest:.3g}" if smallest else "infinite",
    )
    if method == "none" and largest >= UNEVEN * smallest:
        log.info("the classes stay uneven (data.balance = 'none'); 'smote' gives rare classes more rows")


def report_missed(classes: Sequence[str], method: str, counts: Counts, after: Sequence[int], exact: str) -> None:
    """Log a warning that names the classes whose rows differ from their targets after balancing.

    Parameters
    ----------
    classes : sequence of str
        Names of the classes.
    method : str
        ``data.balance``.
    counts : dict
        Per class: ``before`` and ``wanted``.
    after : sequence of int
        Rows of each class after balancing.
    exact : str
        A method that reaches the targets on these samples.
    """
    missed = [
        f"class {name} wanted {wanted}, got {got}" + (" (none made)" if got == before < wanted else "")
        for name, before, wanted, got in zip(classes, counts["before"], counts["wanted"], after, strict=True)
        if wanted != got
    ]
    choice = balancing_choice(method)
    if not missed or (choice.rows == "values" and list(counts["wanted"]) == list(counts["before"])):
        return
    remedy = f"data.balance = '{exact}' gives every class exactly the rows wanted"
    if list(after) == list(counts["before"]):
        log.warning(
            "data.balance = '%s' made no rows, so the class counts are unchanged: %s. Reason: %s. %s",
            *(method, named(missed, "; "), choice.missed, remedy),
        )
        return
    log.warning(
        "data.balance = '%s' missed its targets in %d of %d classes: %s. Reason: %s. %s",
        *(method, len(missed), len(classes), named(missed, "; "), choice.missed, remedy),
    )


def log_class_table(classes: Sequence[str], counts: Counts, tables: dict[Split, RowTable]) -> None:
    """Log the rows of each class; `counts` as `rcdp_hpc.data.prepare.plan_rows` returns them."""
    rows = {split: table.counts(len(classes)) for split, table in tables.items()}
    columns = {"samples": counts["source"]}
    if any(counts["dropped"]):
        columns["dropped"] = counts["dropped"]
    columns["training"] = counts["before"]
    if counts["wanted"] != rows["train"]:
        columns["wanted"] = counts["wanted"]
    columns |= {"balanced": rows["train"], "validation": rows["validation"], "test": rows["test"]}
    if RESERVE in rows:
        columns["reserve"] = rows[RESERVE]
    for line in table_lines(classes, columns):
        log.info("%s", line)


def table_lines(classes: Sequence[str], columns: dict[str, list[int]]) -> list[str]:
    """Return a table with a line for each class, at most 20, and a column for each entry of `columns`.

    It fits a terminal of 80 columns: long names are shortened, numbers are not.
    """
    shown = [plain_name(name) for name in classes[:TABLE_CLASSES]]
    widths = [
        max(len(title), 6, *(len(str(value)) for value in values[:TABLE_CLASSES])) for title, values in columns.items()
    ]
    gap = " " if LEAST_NAME + sum(widths) + 2 * len(widths) > COLUMNS else "  "
    room = max(LEAST_NAME, COLUMNS - sum(widths) - len(gap) * len(widths))
    width = max(5, min(room, max(map(display_width, shown))))
    rows: list[list[str | int]] = [list(columns)]
    rows += [[values[label] for values in columns.values()] for label in range(len(shown))]
    lines = [
        pad(name, width) + "".join(f"{gap}{value:>{size}}" for value, size in zip(row, widths, strict=True))
        for name, row in zip(["class", *shown], rows, strict=True)
    ]
    if len(classes) > TABLE_CLASSES:
        lines.append(f"... and {len(classes) - TABLE_CLASSES} more classes (index.json has them all)")
    return lines
