"""Tables: csv and parquet files with a column of labels, read in batches through pyarrow."""

from __future__ import annotations

import csv as plain_csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.memory import Budget
from rcdp_hpc.data.sources.base import Part, Samples, Source
from rcdp_hpc.data.sources.labels import encode_labels
from rcdp_hpc.data.sources.rows import RaggedRows, Spool
from rcdp_hpc.errors import InputError, RcdpError

if TYPE_CHECKING:
    import pyarrow as pa

CSV_BLOCK = 2**22
PARQUET_ROWS = 2**14


@dataclass(eq=False)
class _Table:
    """What was read of a file."""

    features: list[str]
    spool: Spool
    labels: list[NDArray[Any]] = field(default_factory=list)
    groups: list[NDArray[Any]] = field(default_factory=list)
    times: list[NDArray[Any]] = field(default_factory=list)


def read_source(path: Path, data: DataSection, budget: Budget) -> Source:
    """Read a table, and its test table where ``data.test_path`` names one.

    Every column but those of label, group and time (and ``data.drop_columns``) is a feature and holds numbers;
    those in ``data.category_columns`` may hold text, which is numbered in the order of appearance. With
    ``data.group_column`` the rows of a group form one sequence, of whatever length.

    Parameters
    ----------
    path : Path
        The file.
    data : DataSection
        Names of the columns.
    budget : Budget
        What of it is held in memory; more goes to a temporary file.

    Raises
    ------
    InputError
        If pyarrow is missing; a file is missing or damaged, a row ragged, a column missing or not of numbers, a value
        empty; or a label or category occurs in the test table alone.
    """
    if data.time_column and not data.group_column:
        raise InputError("data.time_column needs data.group_column, which tells what rows form one sequence.")
    categories = _Categories(data.category_columns)
    train = _read(path, data, budget, categories)
    categories.frozen = True
    test = _read(Path(data.test_path), data, budget, categories) if data.test_path else None
    if test is not None and test.features != train.features:
        odd = sorted(set(test.features) ^ set(train.features)) or test.features
        raise InputError(f"{data.test_path}: its columns differ from those of {path}: {', '.join(odd[:10])}.")
    return _source(path, data, train, test, categories)


def read_samples(
    path: Path, data: DataSection, budget: Budget, longest: int = 0
) -> tuple[Samples, NDArray[np.int64] | None]:
    """Return the features alone, of a table with or without labels; errors as in `read_source`.

    The rows of a group form a sequence, padded to `longest` steps at least, in the order in which the groups begin;
    then the lengths are returned too (None: all of `longest` steps, or no groups).
    """
    if data.category_columns:
        raise InputError(f"{path}: tables with categories are not predicted; save their samples as npz.")
    table = _read(path, data, budget, _Categories([]), labelled=False)
    if not data.group_column:
        return table.spool.finish(), None
    steps = sum(map(len, table.groups))
    part = _sequences(path, data, table, np.zeros(steps, np.int64), max(longest, _longest(table)), [""])
    assert part.lengths is not None
    return part.x, None if set(part.lengths.tolist()) == {longest} else part.lengths


class _Categories:
    """Numbers the texts of categories, in the order of their appearance."""

    def __init__(self, columns: list[str]) -> None:
        self.codes: dict[str, dict[str, int]] = {column: {} for column in columns}
        self.frozen = False

    def encode(self, path: Path, column: str, texts: list[str]) -> NDArray[np.float32]:
        codes = self.codes[column]
        for text in dict.fromkeys(texts):
            if text not in codes:
                if self.frozen:
                    raise InputError(
                        f"{path}: category {text!r} of column {column} does not occur in the training data."
                    )
                codes[text] = len(codes)
        return np.array([codes[text] for text in texts], np.float32)


def _source(path: Path, data: DataSection, train: _Table, test: _Table | None, categories: _Categories) -> Source:
    labels = np.concatenate(train.labels) if train.labels else np.empty(0, str)
    if not len(labels):
        raise InputError(f"{path}: holds no row.")
    test_labels = None if test is None else np.concatenate(test.labels)
    if _whole(labels) and (test_labels is None or _whole(test_labels)):
        labels, test_labels = labels.astype(np.int64), None if test_labels is None else test_labels.astype(np.int64)
    else:
        labels, test_labels = labels.astype(str), None if test_labels is None else test_labels.astype(str)
    classes, y, test_y = encode_labels(labels, test_labels, f"{data.test_path}, column {data.label_column}")
    kind = f"{len(train.features)} features"
    if data.group_column:
        longest = max(_longest(train), 0 if test is None else _longest(test))
        train_part = _sequences(path, data, train, y, longest, classes)
        test_part = None
        if test is not None and test_y is not None:
            test_part = _sequences(Path(data.test_path), data, test, test_y, longest, classes)
        kind = f"up to {longest} steps of {kind}"
    else:
        train_part = Part(train.spool.finish(), y)
        test_part = None if test is None or test_y is None else Part(test.spool.finish(), test_y)
    return Source(
        name=data.source,
        classes=classes,
        train=train_part,
        test=test_part,
        scale=1.0,
        description=f"{path.name}: {len(train_part)} samples of {kind}"
        + ("" if test_part is None else f", {len(test_part)} for the test"),
        categories=tuple(train.features.index(column) for column in data.category_columns),
    )


def _whole(labels: NDArray[Any]) -> bool:
    """Tell whether labels are whole numbers, written as such or as text: 2 then comes before 10."""
    return labels.dtype.kind != "U" or all(str(label).removeprefix("-").isdecimal() for label in np.unique(labels))


def _longest(table: _Table) -> int:
    return int(np.unique(np.concatenate(table.groups), return_counts=True)[1].max())


def _sequences(
    path: Path, data: DataSection, table: _Table, y: NDArray[np.int64], longest: int, classes: list[str]
) -> Part:
    """Return one sequence for each group, in the order in which the groups begin."""
    groups = np.concatenate(table.groups)
    names, first, group = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(first)] = np.arange(len(names))
    group = rank[group]
    times = np.concatenate(table.times) if table.times else np.arange(len(groups))
    order = np.lexsort((times, group))
    lengths = np.bincount(group)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    label = y[order[starts]]
    mixed = np.flatnonzero(y != label[group])
    if len(mixed):
        row = int(mixed[0])
        raise InputError(
            f"{path}: group {groups[row]} has rows of class {classes[label[group[row]]]} and of class "
            f"{classes[y[row]]}; a sequence has one class."
        )
    return Part(RaggedRows(table.spool.finish(), starts, lengths, longest, order), label, lengths)


def _read(path: Path, data: DataSection, budget: Budget, categories: _Categories, labelled: bool = True) -> _Table:
    table: _Table | None = None
    row = 0
    try:
        for batch in _batches(path, data, labelled):
            table = table or _begun(path, batch.schema.names, data, budget, labelled)
            _take(path, table, batch, data, categories, row, labelled)
            row += batch.num_rows
    except RcdpError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except Exception as error:
        if type(error).__module__.split(".")[0] != "pyarrow" and not isinstance(error, OSError | UnicodeDecodeError):
            raise
        raise InputError(f"{path}: cannot be read: {error}") from None
    if table is None or not row:
        raise InputError(f"{path}: holds no row.")
    return table


def _begun(path: Path, columns: list[str], data: DataSection, budget: Budget, labelled: bool) -> _Table:
    _check_columns(path, columns, data, labelled)
    dropped = {data.label_column, data.group_column, data.time_column, *data.drop_columns}
    features = [name for name in columns if name not in dropped]
    if not features:
        raise InputError(f"{path}: no column of features; it has {', '.join(columns[:20])}.")
    return _Table(features, Spool((len(features),), np.dtype(np.float32), budget.source // 2))


def _check_columns(path: Path, columns: list[str], data: DataSection, labelled: bool) -> None:
    special = [name for name in (data.label_column if labelled else "", data.group_column, data.time_column) if name]
    for name in (*special, *data.category_columns):
        if name not in columns:
            raise InputError(f"{path}: no column {name!r}; it has {', '.join(columns[:20]) or 'none'}.")
    if len(set(columns)) != len(columns):
        raise InputError(f"{path}: two columns have the same name.")


def _take(
    path: Path,
    table: _Table,
    batch: pa.RecordBatch,
    data: DataSection,
    categories: _Categories,
    row: int,
    labelled: bool,
) -> None:
    for name in batch.schema.names:
        column = batch.column(name)
        if column.null_count and name not in data.drop_columns:
            empty = row + int(np.argmax(np.asarray(column.is_null())))
            raise InputError(f"{path}: column {name} is empty in row {empty} (from 0); fill it or leave the row out.")
    x = np.empty((batch.num_rows, len(table.features)), np.float32)
    for place, name in enumerate(table.features):
        column = batch.column(name)
        if name in data.category_columns:
            x[:, place] = categories.encode(path, name, [str(value) for value in column.to_pylist()])
        else:
            x[:, place] = _numbers(path, name, column, row)
    table.spool.add(x)
    if labelled:
        table.labels.append(_labels(path, data.label_column, batch.column(data.label_column)))
    if data.group_column:
        table.groups.append(np.array([str(value) for value in batch.column(data.group_column).to_pylist()], str))
    if data.time_column:
        table.times.append(_numbers(path, data.time_column, batch.column(data.time_column), row, np.float64))


def _numbers(path: Path, name: str, column: Any, row: int, dtype: Any = np.float32) -> NDArray[Any]:
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "M":
        values = values.astype("datetime64[us]").astype(np.int64)
    if values.dtype.kind not in "buif":
        raise InputError(
            f"{path}: column {name} holds {column.type}, numbers expected: name it in data.category_columns or "
            "data.drop_columns."
        )
    with np.errstate(over="ignore"):
        values = values.astype(dtype)
    if not np.isfinite(values).all():
        raise InputError(
            f"{path}: column {name} holds NaN, infinity or a number too large, first in row "
            f"{row + int(np.argmin(np.isfinite(values)))} (from 0)."
        )
    return values


def _labels(path: Path, name: str, column: Any) -> NDArray[Any]:
    values = column.to_pylist()
    if all(isinstance(value, int) for value in values):
        return np.array(values, np.int64)
    if not all(isinstance(value, str) and value for value in values):
        raise InputError(f"{path}: column {name} holds {column.type} or empty texts, whole numbers or texts expected.")
    return np.array(values, str)


def _batches(path: Path, data: DataSection, labelled: bool) -> Iterator[pa.RecordBatch]:
    try:
        import pyarrow as pa
        from pyarrow import csv, parquet
    except ModuleNotFoundError:
        raise InputError(f"{path}: tables are read by pyarrow, which is missing: pip install pyarrow.") from None
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    if path.suffix == ".parquet" or data.source == "parquet":
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(PARQUET_ROWS)
        return
    names = _header(path)
    _check_columns(path, names, data, labelled)
    texts = {data.group_column, *data.category_columns, *data.drop_columns} & set(names)
    others = {name: pa.float64() for name in names if name not in texts | {data.label_column}}
    # The label's type is that of the whole column, and a type is guessed from the first block alone.
    types = {**others, **dict.fromkeys(texts, pa.string()), data.label_column: pa.string()}
    with csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=CSV_BLOCK, use_threads=False),
        convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=False),
    ) as reader:
        yield from reader


def _header(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return next(plain_csv.reader(file), [])
