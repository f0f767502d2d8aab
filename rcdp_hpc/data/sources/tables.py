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
from rcdp_hpc.data.lengths import unless_whole
from rcdp_hpc.data.memory import Budget
from rcdp_hpc.data.sources.base import Columns, NewSamples, Part, Source
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.labels import LabelCollector, encode_labels, some_names
from rcdp_hpc.data.sources.rows import RaggedRows, Spool
from rcdp_hpc.errors import InputError, RcdpError

if TYPE_CHECKING:
    import pyarrow as pa

CSV_BLOCK = 2**22
PARQUET_ROWS = 2**14


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
    train = _Table(path, data, budget, codes={column: {} for column in data.category_columns})
    train.read()
    test = None
    if data.test_path:
        test = _Table(Path(data.test_path), data, budget, codes=train.codes, frozen=True)
        test.read()
        if test.features != train.features:
            odd = sorted(set(test.features) ^ set(train.features)) or test.features
            raise InputError(f"{data.test_path}: its columns differ from those of {path}: {', '.join(odd[:10])}.")
    return _source(train, test)


def read_samples(
    path: Path, data: DataSection, budget: Budget, longest: int = 0, columns: Columns | None = None
) -> NewSamples:
    """Return the features alone, of a table with or without labels; errors as in `read_source`.

    The rows of a group form a sequence, padded to `longest` steps at least, in the order in which the groups begin;
    then the lengths are returned too (None: all of `longest` steps, or no groups).

    Parameters
    ----------
    path, data, budget
        As in `read_source`.
    longest : int
        Steps.
    columns : Columns, optional
        Those of the table that was prepared: they are taken by their names, in whatever order the file has them, and
        categories get the numbers that they had there. Without it, all columns that could be features are.
    """
    if columns is None and data.category_columns:
        raise InputError(
            f"{path}: which number each category has was not kept when this model's data were prepared, by an earlier "
            "version: prepare and train anew (--restart), or save the samples as npz with the numbers they had."
        )
    table = _Table(path, data, budget, labelled=False)
    if columns is not None:
        table = _Table(path, data, budget, False, columns.features, _codes_of(columns), frozen=True)
    table.read()
    if not data.group_column:
        return NewSamples(table.spool.finish())
    part = table.sequences(np.zeros(table.rows, np.int64), max(longest, table.longest), [""])
    assert part.lengths is not None
    return NewSamples(part.x, unless_whole(part.lengths, longest))


def _codes_of(columns: Columns) -> dict[str, dict[str, int]]:
    return {name: {text: code for code, text in enumerate(texts)} for name, texts in columns.categories.items()}


def _source(train: _Table, test: _Table | None) -> Source:
    data, findings = train.data, Findings()
    test_labels = None if test is None else test.labels.finish()
    test_name = f"{data.test_path}, column {data.label_column}"
    classes, y, test_y = encode_labels(train.labels.finish(), test_labels, test_name, findings)
    kind = f"{len(train.features)} features"
    test_part = None
    if data.group_column:
        longest = max(train.longest, 0 if test is None else test.longest)
        train_part = train.sequences(y, longest, classes)
        if test is not None and test_y is not None:
            test_part = test.sequences(test_y, longest, classes)
        kind = f"up to {longest} steps of {kind}"
    else:
        train_part = Part(train.spool.finish(), y)
        if test is not None and test_y is not None:
            test_part = Part(test.spool.finish(), test_y)
    return Source(
        name=data.source,
        classes=classes,
        train=train_part,
        test=test_part,
        scale=1.0,
        description=f"{train.path.name}: {len(train_part)} samples of {kind}"
        + ("" if test_part is None else f", {len(test_part)} for the test"),
        categories=tuple(train.features.index(column) for column in data.category_columns),
        columns=Columns(train.features, {column: list(codes) for column, codes in train.codes.items()}),
        findings=findings,
    )


@dataclass(eq=False)
class _Table:
    """A file, and what was read of it.

    `features` names the columns to take; empty: all that are nothing else. `codes` numbers the texts of each column of
    categories, in the order of their appearance; when `frozen`, another text is an error.
    """

    path: Path
    data: DataSection
    budget: Budget
    labelled: bool = True
    features: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, int]] = field(default_factory=dict)
    frozen: bool = False
    rows: int = 0
    labels: LabelCollector = field(init=False)
    groups: list[NDArray[Any]] = field(default_factory=list)
    times: list[NDArray[Any]] = field(default_factory=list)
    spool: Spool = field(init=False)

    def read(self) -> None:
        """Read all of the file."""
        try:
            for batch in _batches(self):
                self._take(batch)
        except RcdpError:
            raise
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such file.") from None
        except Exception as error:
            if type(error).__module__.split(".")[0] != "pyarrow" and not isinstance(
                error, OSError | UnicodeDecodeError
            ):
                raise
            raise InputError(f"{self.path}: cannot be read: {error}") from None
        if not self.rows:
            raise InputError(f"{self.path}: holds no row.")

    @property
    def longest(self) -> int:
        """Rows of the largest group."""
        return int(np.unique(np.concatenate(self.groups), return_counts=True)[1].max())

    def sequences(self, y: NDArray[np.int64], longest: int, classes: list[str]) -> Part:
        """Return one sequence for each group, in the order in which the groups begin."""
        groups = np.concatenate(self.groups)
        names, first, group = np.unique(groups, return_index=True, return_inverse=True)
        rank = np.empty(len(names), np.int64)
        rank[np.argsort(first)] = np.arange(len(names))
        group = rank[group]
        times = np.concatenate(self.times) if self.times else np.arange(len(groups))
        order = np.lexsort((times, group))
        lengths = np.bincount(group)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        label = y[order[starts]]
        mixed = np.flatnonzero(y != label[group])
        if len(mixed):
            row = int(mixed[0])
            raise InputError(
                f"{self.path}: group {groups[row]} has rows of class {classes[label[group[row]]]} and of class "
                f"{classes[y[row]]}; a sequence has one class."
            )
        return Part(RaggedRows(self.spool.finish(), starts, lengths, longest, order), label, lengths)

    def begin(self, names: list[str]) -> None:
        """Settle which of the file's columns are features; refuse a file that lacks what is asked for."""
        data = self.data
        special = [data.label_column if self.labelled else "", data.group_column, data.time_column]
        for name in (*filter(None, special), *self.features, *self.codes):
            if name not in names:
                raise InputError(f"{self.path}: no column {name!r}; it has {', '.join(names[:20]) or 'none'}.")
        if len(set(names)) != len(names):
            raise InputError(f"{self.path}: two columns have the same name.")
        dropped = {data.label_column, data.group_column, data.time_column, *data.drop_columns}
        self.features = self.features or [name for name in names if name not in dropped]
        if not self.features:
            raise InputError(f"{self.path}: no column of features; it has {', '.join(names[:20])}.")
        for name in self.codes:
            if name not in self.features:
                raise InputError(f"data.category_columns names {name}, which other settings of [data] make no feature.")
        self.labels = LabelCollector(f"{self.path}, column {data.label_column}")
        self.spool = Spool((len(self.features),), np.dtype(np.float32), self.budget.source // 2)

    @property
    def wanted(self) -> set[str]:
        """Names of the columns that are read; known once the table is begun."""
        data = self.data
        special = [data.label_column if self.labelled else "", data.group_column, data.time_column]
        return {*self.features, *filter(None, special)}

    def _take(self, batch: pa.RecordBatch) -> None:
        for name in self.wanted:
            column = batch.column(name)
            if column.null_count:
                empty = self.rows + int(np.argmax(np.asarray(column.is_null())))
                raise InputError(
                    f"{self.path}: column {name} is empty in row {empty} (from 0); fill it or leave the row out."
                )
        x = np.empty((batch.num_rows, len(self.features)), np.float32)
        for place, name in enumerate(self.features):
            x[:, place] = (
                self._encoded(name, batch.column(name))
                if name in self.codes
                else self._numbers(name, batch.column(name), np.float32)
            )
        self.spool.add(x)
        data = self.data
        if self.labelled:
            self.labels.add(batch.column(data.label_column).to_pylist())
        if data.group_column:
            self.groups.append(np.array(_texts(batch.column(data.group_column)), str))
        if data.time_column:
            self.times.append(self._numbers(data.time_column, batch.column(data.time_column), np.float64))
        self.rows += batch.num_rows

    def _encoded(self, name: str, column: Any) -> NDArray[np.float32]:
        """Return the numbers of categories."""
        codes, texts = self.codes[name], _texts(column)
        for text in dict.fromkeys(texts):
            if text not in codes:
                if self.frozen:
                    raise InputError(
                        f"{self.path}: row {self.rows + texts.index(text)} (from 0), column {name}: category {text!r} "
                        f"does not occur in the training data, which have {some_names(list(codes))}. Leave the row "
                        "out, or prepare and train anew with data that have it."
                    )
                codes[text] = len(codes)
        return np.array([codes[text] for text in texts], np.float32)

    def _numbers(self, name: str, column: Any, dtype: Any) -> NDArray[Any]:
        values = column.to_numpy(zero_copy_only=False)
        if values.dtype.kind == "M":
            values = values.astype("datetime64[us]").astype(np.int64)
        if values.dtype.kind not in "buif":
            raise InputError(
                f"{self.path}: column {name} holds {column.type}, numbers expected: name it in data.category_columns "
                "or data.drop_columns."
            )
        with np.errstate(over="ignore"):
            values = values.astype(dtype)
        if not np.isfinite(values).all():
            raise InputError(
                f"{self.path}: column {name} holds NaN, infinity or a number too large, first in row "
                f"{self.rows + int(np.argmin(np.isfinite(values)))} (from 0)."
            )
        return values


def _texts(column: Any) -> list[str]:
    return [str(value) for value in column.to_pylist()]


def _batches(table: _Table) -> Iterator[pa.RecordBatch]:
    """Yield the file's rows, some at a time; only the columns that are wanted."""
    path, data = table.path, table.data
    try:
        import pyarrow as pa
        from pyarrow import csv, parquet
    except ModuleNotFoundError:
        raise InputError(f"{path}: tables are read by pyarrow, which is missing: pip install pyarrow.") from None
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    if path.suffix == ".parquet" or (data.source == "parquet" and path.suffix != ".csv"):
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            table.begin(names)
            yield from file.iter_batches(PARQUET_ROWS, columns=[name for name in names if name in table.wanted])
        return
    names = _header(path)
    table.begin(names)
    # The label's type is that of the whole column, and a type is guessed from the first block alone.
    texts = {data.label_column, data.group_column, *table.codes}
    types = {name: pa.string() if name in texts else pa.float64() for name in table.wanted}
    with csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=CSV_BLOCK, use_threads=False),
        convert_options=csv.ConvertOptions(
            column_types=types,
            include_columns=[name for name in names if name in table.wanted],
            strings_can_be_null=False,
        ),
    ) as reader:
        yield from reader


def _header(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return next(plain_csv.reader(file), [])
