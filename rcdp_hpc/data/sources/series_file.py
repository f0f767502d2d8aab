"""Read a file with one series: a small table of numbers, or an .npy array."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.csv_dialect import COMMA_NUMBER, ONE_COMMA
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.npy import load_array, read_form
from rcdp_hpc.data.sources.number_text import are_plain, number_of_text
from rcdp_hpc.data.sources.text_files import open_text
from rcdp_hpc.errors import InputError

TEXTS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
SUFFIXES = (*TEXTS, ".npy")
DELIMITERS = ("\t", ";", ",")
# Bytes per value of a series with working copies: in an array, and as text, where each cell is a Python object.
VALUE_BYTES = 32
CELL_BYTES = 112
# Cells between two checks of the memory.
CHECKED_CELLS = 2**12
MISSING = {"", "?", "nan", "na", "n/a", "null", "none"}
# The names that pandas gives a column of row numbers.
INDEX_NAMES = ("", "unnamed: 0")
TIME_NAMES = ("time", "timestamp", "t", "date", "datetime", "index", "step", "frame")


@dataclass(frozen=True, eq=False)
class SeriesFile:
    """The content of a file with one series.

    Attributes
    ----------
    values : ndarray of float64, shape (steps, features)
    names : tuple of str or None
        Names of the features; None if the file has no header.
    """

    values: NDArray[np.float64]
    names: tuple[str, ...] | None = None


def has_series(file: Path) -> bool:
    """Return whether the suffix of a file is one of the formats of series."""
    return file.name.lower().endswith(SUFFIXES)


def read_series(file: Path, data: DataSection, findings: Findings) -> SeriesFile:
    """Read a series.

    Parameters
    ----------
    file : Path
        A table with one line per step, with or without a header, or an .npy array of shape (steps, features) or
        (steps,).
    data : DataSection
        ``delimiter``, ``decimal``, ``encoding``, ``time_column`` (orders the rows and is not a feature),
        ``drop_columns`` and ``keep_columns``.
    findings : Findings
        Receives assumptions about the file.

    Raises
    ------
    InputError
        If the file is not a table of numbers.
    """
    if file.suffix.lower() == ".npy":
        return SeriesFile(_array(file, Budget.of(data)))
    rows = _cells(file, data, findings)
    data = _with_decimal(file, rows, data, findings)
    names = _header(file, rows[0], data)
    table = _numbers(file, rows[1:] if names else rows, data, 0 if names is None else 1)
    if names is None:
        return SeriesFile(table)
    return _features(file, table, names, data, findings)


def _array(file: Path, budget: Budget) -> NDArray[np.float64]:
    form = read_form(file)
    _refuse_long(file, math.prod(form.shape), VALUE_BYTES, budget)
    array = load_array(file)
    if array.dtype.kind not in "buif" or array.ndim not in (1, 2) or not array.size:
        raise InputError(
            f"{file}: holds {array.dtype} of shape {array.shape}, expected numbers of shape (steps, features)."
        )
    return array.reshape(len(array), -1).astype(np.float64)  # type: ignore[no-any-return]


def _refuse_long(file: Path, values: int, value_bytes: int, budget: Budget) -> None:
    what = f"{file}: a series of {values} values is held in one piece"
    budget.refuse_work(what, value_bytes * values, "cut it into several series")


def _cells(file: Path, data: DataSection, findings: Findings) -> list[list[str]]:
    budget = Budget.of(data)
    count = 0
    checked = 0
    delimiter: str | None = data.delimiter or None
    rows: list[list[str]] = []
    with open_text(file, data.encoding, findings, budget) as text:
        for line in text:
            line = line.rstrip("\r\n")
            if not line.strip() or line.startswith("#"):
                continue
            if not rows and delimiter is None:
                delimiter = next((sign for sign in DELIMITERS if sign in line), None)
            rows.append([_unquoted(cell.strip()) for cell in line.split(delimiter)])
            count += len(rows[-1])
            if count - checked > CHECKED_CELLS:
                checked = count
                _refuse_long(file, count, CELL_BYTES, budget)
    if not rows:
        raise InputError(f"{file}: holds no numbers.")
    return rows


def _unquoted(cell: str) -> str:
    return cell[1:-1].strip() if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _with_decimal(file: Path, rows: list[list[str]], data: DataSection, findings: Findings) -> DataSection:
    """Return the settings with the decimal mark of the cells; refuse ambiguous numbers."""
    if data.decimal != "auto":
        return data
    commas = [cell for row in rows for cell in row if "," in cell]
    marks = [cell for cell in commas if COMMA_NUMBER.fullmatch(cell)]
    unclear = [cell for cell in marks if ONE_COMMA.fullmatch(cell)]
    if unclear and len(unclear) == len(marks):
        raise InputError(
            f"{file}: {unclear[0]!r} is either {unclear[0].replace(',', '')} or {unclear[0].replace(',', '.')}: set "
            "data.decimal = ',' if commas are decimal marks, or '.' if they separate thousands."
        )
    if marks:
        sentence = "the decimal mark in files of series is a comma"
        findings.assumed += [] if sentence in findings.assumed else [sentence]
    return data.model_copy(update={"decimal": "," if marks else "."})


def _header(file: Path, first: list[str], data: DataSection) -> tuple[str, ...] | None:
    """Return the names of the columns if the first line has texts that are not numbers; None otherwise."""
    texts = [cell for cell in first if cell.lower() not in MISSING and _number(cell, data) is None]
    if not texts:
        return None
    if len(texts) < len(first) and 2 * len(texts) <= len(first):
        raise InputError(
            f"{file}: its first line has numbers and texts, as {texts[0][:40]!r}: correct what should be a number, or "
            "put a line of names before it."
        )
    twice = next((cell for place, cell in enumerate(first) if cell in first[:place]), None)
    if twice is not None:
        raise InputError(f"{file}: several columns have the name {twice[:40]!r}. Rename or remove them.")
    return tuple(first)


def _number(cell: str, data: DataSection) -> float | None:
    if data.decimal == ",":
        # With a decimal comma, a point that does not separate thousands makes the text invalid.
        cell = cell.replace(".", "!").replace(",", ".")
    try:
        return number_of_text(cell)
    except ValueError:
        return None


def _numbers(file: Path, rows: list[list[str]], data: DataSection, skipped: int) -> NDArray[np.float64]:
    """Return the cells as numbers; missing ones are NaN."""
    if not rows:
        raise InputError(f"{file}: a header and no numbers.")
    width = len(rows[0])
    for number, row in enumerate(rows, 1 + skipped):
        if len(row) != width:
            raise InputError(f"{file}, line {number}: {len(row)} values, {width} in the first line of numbers.")
    try:
        if data.decimal == "," or not all(map(are_plain, rows)):
            raise ValueError("not plain")
        return np.array(rows, np.float64)
    except ValueError:
        return np.array(
            [[_cell(file, number, row, column, data) for column in range(width)] for number, row in enumerate(rows)]
        )


def _cell(file: Path, number: int, row: list[str], column: int, data: DataSection) -> float:
    cell = row[column]
    value = np.nan if cell.lower() in MISSING else _number(cell, data)
    if value is None:
        raise InputError(f"{file}: {cell!r} in row {number} (from 0) of the numbers, column {column}, is not a number.")
    return value


def _features(
    file: Path, table: NDArray[np.float64], names: tuple[str, ...], data: DataSection, findings: Findings
) -> SeriesFile:
    """Return the columns that are features, with the rows in the order of time."""
    if len(names) != table.shape[1]:
        raise InputError(f"{file}: {len(names)} names in the header, {table.shape[1]} values in a row.")
    left = {name for name in names if name in data.drop_columns}
    if data.time_column:
        if data.time_column not in names:
            raise InputError(f"{file}: no column {data.time_column!r} (data.time_column); it has {', '.join(names)}.")
        left.add(data.time_column)
    for column, name in enumerate(names):
        counts = bool((np.diff(table[:, column]) == 1).all())
        if name.lower() in INDEX_NAMES and counts and name not in data.keep_columns:
            left.add(name)
            findings.leave_out(
                "columns of row numbers in files of series", example=f"{name or 'unnamed'} of {file.name}"
            )
    features = [column for column, name in enumerate(names) if name not in left]
    if not features:
        raise InputError(f"{file}: no column is left as a feature; it has {', '.join(names)}.")
    if data.time_column:
        table = table[np.argsort(table[:, names.index(data.time_column)], kind="stable")]
    return SeriesFile(table[:, features], tuple(names[column] for column in features))


def looks_like_time(names: tuple[str, ...], data: DataSection) -> list[str]:
    """Return the names of features that are likely times."""
    return [name for name in names if name.lower() in TIME_NAMES and name not in data.keep_columns]
