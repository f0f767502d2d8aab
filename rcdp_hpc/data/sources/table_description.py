"""Propose the settings of ``[data]`` for a table from its first rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources.column_selection import FEW_ROWS, quoted
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.label_guess import ColumnStatistics, examine, label_like, ranked
from rcdp_hpc.data.sources.table_files import open_files
from rcdp_hpc.errors import InputError

FEW_TEXTS = 50
# A column of texts with fewer values than this share of the rows is left out.
MOSTLY_MISSING = 0.5
# Columns that name what several rows come from, by their whole name; fewer different values do not divide evenly.
GROUP_NAME = re.compile(
    r"(patient|subject|participant|proband|person|donor|animal|speaker|user|household|pupil|student|site|hospital)s?"
    r"[ _-]?(id|nr|no|num|number|name|code|key)?",
    re.IGNORECASE,
)
FEWEST_GROUPS = 10


def propose_columns(path: Path, data: DataSection) -> tuple[dict[str, Any], list[str]]:
    """Propose settings for a table.

    Parameters
    ----------
    path : Path
        A csv or parquet file, or a folder of them.
    data : DataSection
        Settings that are not proposed: the dialect of the file, ``id_column``, ``sequence_column``, ``time_column``,
        ``category_columns``, ``drop_columns`` and, unless it is the default, ``label_column``.

    Returns
    -------
    settings : dict
        ``label_column``, and ``id_column``, ``group_column``, ``category_columns``, ``drop_columns`` and ``missing`` if
        the table needs them.
    sentences : list of str
        The reasons.

    Raises
    ------
    InputError
        If the table cannot be read, or no column looks like labels.
    """
    expected = {data.label_column, data.sequence_column, data.time_column, data.group_column, data.id_column}
    expected |= {*data.category_columns}
    # The reader reports its assumptions later.
    files = open_files(path, data, [*filter(None, expected)], Findings())
    index = set(files[0].index_columns)
    columns = [column for column in examine(files) if column.name not in {*data.drop_columns, *index}]
    if not columns or not columns[0].rows:
        raise InputError(f"{path}: holds no row.")
    roles = {data.sequence_column, data.time_column, data.group_column, data.id_column}
    label, why = _label(path, [column for column in columns if column.name not in roles], files[0].names, data)
    settings: dict[str, Any] = {"label_column": label.name}
    sentences = [f"label_column = {label.name!r}: {why}"]
    others = [column for column in columns if column.name not in {*roles, label.name}]
    _propose_id(others, data, settings, sentences)
    _propose_groups(others, data, settings, sentences)
    named = {settings.get("id_column"), settings.get("group_column")}
    _propose_texts([column for column in others if column.name not in named], data, settings, sentences)
    excluded = {*settings.get("drop_columns", ()), *named}
    _propose_missing([column for column in others if column.name not in excluded], label, settings, sentences)
    return settings, sentences


def _label(
    path: Path, columns: Sequence[ColumnStatistics], names: Sequence[str], data: DataSection
) -> tuple[ColumnStatistics, str]:
    """Return the column of the labels, and the reason."""
    set_by_user = "label_column" in data.model_fields_set
    named = [column for column in columns if column.name == data.label_column]
    if named and (set_by_user or named[0].can_be_label):
        return named[0], "its name" if not set_by_user else "as set"
    if set_by_user:
        raise InputError(f"{path}: no column {data.label_column!r}; it has {quoted(names)}.")
    measured = [column for column in columns if label_like(column.name) and column.is_measured]
    candidates = ranked(columns, names)
    if measured and not any(label_like(column.name) for column in candidates):
        column = measured[0]
        raise InputError(
            f"{path}: the column {column.name!r} looks like a measured quantity ({column.distinct} distinct values in "
            f"{column.rows} rows). This package classifies: group its values into a few classes, or name the column of "
            f"the labels in data.label_column; the table has {quoted(names)}."
        )
    last = next((column for column in reversed(columns) if column.name == names[-1]), None)
    doubtful = (
        candidates
        and not label_like(candidates[0].name)
        and not candidates[0].is_text
        and candidates[0].name != names[-1]
    )
    if not candidates or (doubtful and last is not None and last.is_measured):
        raise InputError(
            f"{path}: no column looks like labels: a few different values, each in several rows. Name it in "
            f"data.label_column; the table has {quoted(names)}."
        )
    return candidates[0], _reason(candidates[0], names)


def _reason(column: ColumnStatistics, names: Sequence[str]) -> str:
    reasons = [f"{column.distinct} distinct values"]
    if label_like(column.name):
        reasons.append("a usual name of labels")
    if column.name == names[-1]:
        reasons.append("the last column")
    elif column.name == names[0]:
        reasons.append("the first column")
    return " and ".join([", ".join(reasons[:-1]), reasons[-1]] if len(reasons) > 1 else reasons)


def _propose_id(
    columns: Sequence[ColumnStatistics], data: DataSection, settings: dict[str, Any], sentences: list[str]
) -> None:
    if data.id_column or data.sequence_column:
        return
    for column in columns:
        if column.distinct == column.rows and column.is_id_by_name and column.rows >= 2 and not column.is_fraction:
            settings["id_column"] = column.name
            sentences.append(f"column {column.name!r} names the rows")
            return


def _propose_groups(
    columns: Sequence[ColumnStatistics], data: DataSection, settings: dict[str, Any], sentences: list[str]
) -> None:
    if data.names_groups:
        return
    for column in columns:
        repeats = FEWEST_GROUPS <= column.distinct <= column.rows // 2 and column.present == column.rows
        if repeats and GROUP_NAME.fullmatch(column.name) and column.name != settings.get("id_column"):
            settings["group_column"] = column.name
            sentences.append(f"column {column.name!r} names groups of rows, which stay on one side of every split")
            return


def _propose_texts(
    columns: Sequence[ColumnStatistics], data: DataSection, settings: dict[str, Any], sentences: list[str]
) -> None:
    categories: list[str] = []
    dropped: list[str] = []
    for column in columns:
        if column.name in data.category_columns or not column.is_text or column.is_boolean or not column.present:
            continue
        if column.is_time or (column.distinct == column.present and column.present >= FEW_ROWS):
            continue  # the reader leaves these out with a warning
        few = column.distinct <= min(FEW_TEXTS, max(2, column.rows // 2))
        (categories if few and column.present > MOSTLY_MISSING * column.rows else dropped).append(column.name)
    if categories:
        settings["category_columns"] = [*data.category_columns, *categories]
        sentences.append(f"texts in {quoted(categories)} become numbers, because they have few distinct values")
    if dropped:
        settings["drop_columns"] = [*data.drop_columns, *dropped]
        sentences.append(f"{quoted(dropped)} are not read: texts with many distinct values or many gaps")


def _propose_missing(
    columns: Sequence[ColumnStatistics], label: ColumnStatistics, settings: dict[str, Any], sentences: list[str]
) -> None:
    gaps = {column.name: column.rows - column.present for column in columns if 0 < column.present < column.rows}
    if label.present < label.rows:
        settings["missing"] = "drop"
        sentences.append(
            f"{label.rows - label.present} rows without a label are left out, with all others that have missing values"
        )
    elif gaps:
        settings["missing"] = "median"
        categories = settings.get("category_columns", ())
        for name, count in gaps.items():
            what = "the most frequent text" if name in categories else "the median of the training rows"
            sentences.append(f"{count} missing values in {name!r} become {what}")
