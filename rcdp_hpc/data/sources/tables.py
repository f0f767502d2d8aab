"""The sources ``csv`` and ``parquet``: tables with a column of labels, read in batches by pyarrow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.data import FILLS
from rcdp_hpc.data.balancing.lengths import lengths_if_padded
from rcdp_hpc.data.sources.base import Columns, NewSamples, Part, Samples, Source, blocks
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.folders import first_nested_file, holds_file
from rcdp_hpc.data.sources.gaps import leave_out_rows
from rcdp_hpc.data.sources.group_names import GroupNames, refuse_missing_groups
from rcdp_hpc.data.sources.labels import MISSING, Labels, encode_labels, refuse_missing
from rcdp_hpc.data.sources.reader import SourceReader
from rcdp_hpc.data.sources.request import SampleRequest, SourceRequest
from rcdp_hpc.data.sources.row_view import select
from rcdp_hpc.data.sources.rows import RaggedRows
from rcdp_hpc.data.sources.sniff import ARFF, CSV, PARQUET, format_of
from rcdp_hpc.data.sources.table_files import TableFile
from rcdp_hpc.data.sources.table_problems import missing_values, sequence_rows
from rcdp_hpc.data.sources.table_reading import Table
from rcdp_hpc.errors import InputError

ONE_ROW = "data.time_column needs data.sequence_column, the column that names the sequence of each row."


class TableReader(SourceReader):
    """A table with a column of labels."""

    takes_test_path = True
    file_formats = (CSV, PARQUET, ARFF)

    def read(self, request: SourceRequest) -> Source:
        """Read a table, and the table ``data.test_path`` if it is set.

        All columns are numeric features except those of label, sequence, time and id and ``data.drop_columns``. Columns
        in ``data.category_columns`` may hold texts, which are numbered in the order of appearance. Columns that look
        like an id, an index or time stamps are left out with a warning, unless ``data.keep_columns`` names them. With
        ``data.sequence_column`` the rows with the same value form one sequence of any length.

        Parameters
        ----------
        request : SourceRequest
            Its path is a file, or a folder of files that together are one table. Samples beyond the memory budget are
            stored in a temporary file.

        Raises
        ------
        InputError
            If pyarrow is missing; a file is missing or damaged; a row has too many or too few values; columns are
            missing, hold texts, or lack values; or a label or category occurs only in the test table.
        """
        path, data, budget = request.path, request.data, request.budget
        if data.time_column and not data.sequence_column:
            raise InputError(ONE_ROW)
        findings = Findings()
        train = Table(path, data, budget, findings)

        def test(columns: Columns) -> Table:
            return Table(Path(data.test_path), data, budget, findings, columns)

        return source_of_table(train, test if data.test_path else None)

    def read_new(self, request: SampleRequest) -> NewSamples:
        """Return the rows of a table; the content of a single file decides its format."""
        return read_samples(request) if request.path.is_dir() else super().read_new(request)

    def propose(self, path: Path, data: DataSection) -> tuple[dict[str, Any], list[str]]:
        """Return the settings of the columns, and sentences that give the reasons."""
        from rcdp_hpc.data.sources.table_description import propose_columns

        return propose_columns(path, data)


class CsvReader(TableReader):
    """A table as text."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether the file is a csv table, or the folder has .csv files and no data in subfolders."""
        if path.is_dir():
            return holds_file(path, ".csv") and first_nested_file(path) is None
        return format_of(path).name == CSV


class ParquetReader(TableReader):
    """A table in the Parquet format."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether the file, or a file of the folder, is a Parquet table."""
        return holds_file(path, ".parquet") if path.is_dir() else format_of(path).name == PARQUET


def source_of_table(table: Table, open_test: Callable[[Columns], Table] | None = None) -> Source:
    """Return the labelled samples of a table.

    Parameters
    ----------
    table : Table
        The training table, not read yet.
    open_test : callable, optional
        Returns the test table, not read yet, for the columns of the training table.

    Raises
    ------
    InputError
        As in `TableReader.read`.
    """
    data, findings = table.data, table.findings
    train = _read(table)
    columns = train.table.columns(train.features, train.row_names)
    test = None
    if open_test is not None:
        test = _read(open_test(columns))
        _count_extra(test.table, columns, findings)
    test_name = "" if test is None else f"{test.table.path}, column {data.label_column}"
    classes, y, test_y = encode_labels(train.labels, test.labels if test else None, test_name, findings)
    longest = max(train.longest, test.longest if test else 0)
    train_part = train.part(y, longest, classes)
    test_part = test.part(test_y, longest, classes) if test is not None and test_y is not None else None
    kind = f"{len(train.features)} features"
    kind = f"up to {longest} steps of {kind}" if data.sequence_column else kind
    places = {name: place for place, name in enumerate(train.features)}
    return Source(
        name=data.source,
        classes=classes,
        train=train_part,
        test=test_part,
        scale=1.0,
        description=f"{table.path.name}: {len(train_part)} samples of {kind}"
        + ("" if test_part is None else f", {len(test_part)} for the test"),
        categories=tuple(places[name] for name in data.category_columns),
        columns=columns,
        findings=findings,
    )


def read_samples(request: SampleRequest, files: list[TableFile] | None = None) -> NewSamples:
    """Return the features of a table, with or without labels; errors are those of `TableReader.read`.

    The table is that of `files`, or of the request's path.

    The rows with the same ``data.sequence_column`` form a sequence, padded to at least `longest` steps. Sequences are
    in the order in which they begin, and have lengths (None: all of `longest` steps, or no sequences).

    The columns of the training table are found by name, in any order, and categories get the numbers of training. If
    the columns of training are unknown, all columns that can be features are used.
    """
    path, data, columns = request.path, request.data, request.columns
    if columns is None and data.category_columns:
        raise InputError(
            f"{path}: the numbers of the categories are unknown, because an earlier version prepared this model's "
            "data: prepare and train again (--restart), or save the samples as npz with the numbers of training."
        )
    findings = Findings()
    rows = _read(Table(path, data, request.budget, findings, columns, labelled=False, files=files))
    if columns is not None:
        _count_extra(rows.table, columns, findings)
    steps = max(request.longest, rows.longest)
    part = rows.part(np.zeros(len(rows.labels), np.int64), steps, [""])
    lengths = None if part.lengths is None else lengths_if_padded(part.lengths, request.longest)
    return NewSamples(part.x, lengths, part.ids, rows.id_name, findings)


@dataclass(eq=False)
class _Rows:
    """The rows of a table that are used (N rows).

    Attributes
    ----------
    x : Samples, shape (N, features)
    labels : Labels
        Labels of the rows.
    groups : GroupNames or None
        Patient, subject or site of each row.
    sequences : ndarray of int64, shape (N,), or None
        Number of each row's sequence.
    places : ndarray of int64, shape (N,)
        Index of each row in the file.
    row_names : str
        Column that was left out and names the rows.
    ids : list of str or None
        Name of each row.
    id_name : str
        Header for the names.
    """

    table: Table
    features: list[str]
    x: Samples
    labels: Labels
    groups: GroupNames | None
    sequences: NDArray[np.int64] | None
    places: NDArray[np.int64]
    row_names: str
    ids: list[str] | None
    id_name: str

    @property
    def longest(self) -> int:
        """Rows of the largest sequence; 0 if there are no sequences."""
        return 0 if self.sequences is None else int(np.bincount(self.sequences).max())

    def part(self, y: NDArray[np.int64], longest: int, classes: list[str]) -> Part:
        """Return the samples: one for each row, or one for each sequence, in the order in which sequences begin."""
        if self.sequences is None:
            return Part(self.x, y, ids=self.ids, groups=self.groups)
        _, first, sequence = np.unique(self.sequences, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        sequence = rank[sequence]
        order = np.lexsort((self.table.times()[self.places], sequence))
        lengths = np.bincount(sequence)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        texts = list(self.table.sequences.codes)
        label = y[order[starts]]
        self._refuse_mixed_groups(order[starts][sequence], sequence, texts)
        mixed = np.flatnonzero(y != label[sequence])
        if len(mixed):
            row = int(mixed[0])
            raise InputError(
                f"{self.table.path}: sequence {texts[self.sequences[row]]} has rows of class "
                f"{classes[label[sequence[row]]]} and of class {classes[y[row]]}; a sequence has one class."
            )
        ids = [texts[self.sequences[row]] for row in np.sort(first)]
        groups = None if self.groups is None else self.groups.select(order[starts])
        return Part(RaggedRows(self.x, starts, lengths, longest, order), label, lengths, ids, groups)

    def _refuse_mixed_groups(self, first: NDArray[np.int64], sequence: NDArray[np.int64], texts: list[str]) -> None:
        """Raise an `InputError` if a row has another group than the first row of its sequence."""
        if self.groups is None or self.sequences is None:
            return
        codes, names = self.groups.codes, self.groups.names
        mixed = np.flatnonzero(codes != codes[first])
        if len(mixed):
            row = int(mixed[0])
            raise InputError(
                f"{self.table.path}: sequence {texts[self.sequences[row]]} has rows of group "
                f"{names[codes[first[row]]]} and of group {names[codes[row]]} (data.group_column); a sequence has one "
                "group."
            )


def _read(table: Table) -> _Rows:
    """Read a table, and treat its missing values by ``data.missing``."""
    table.read()
    x = table.spool.finish()
    features, selection = table.settle(x)
    wanted = set(features)
    feature_places = np.array([place for place, name in enumerate(table.candidates) if name in wanted])
    names = [name if name in wanted else "" for name in table.candidates]
    labels = table.labels.finish() if len(table.labels.finish()) else Labels(["-"], np.zeros(table.rows, np.int64))
    sequences = table.sequences.finish() if table.data.sequence_column else None
    places = _complete_rows(table, x, feature_places, names, labels, sequences)
    columns = None if len(feature_places) == len(table.candidates) else feature_places
    rows = None if len(places) == table.rows else places
    row_names = selection.names[0] if selection.names else ""
    ids, id_name = _ids(table, row_names, rows is not None)
    return _Rows(
        table=table,
        features=features,
        x=select(x, rows, columns),
        labels=labels.select(places),
        groups=_groups(table, places),
        sequences=None if sequences is None else sequences[places],
        places=places,
        row_names=row_names or ("" if table.data.id_column else table.id_name),
        ids=None if ids is None else [ids[row] for row in places],
        id_name=id_name,
    )


def _complete_rows(
    table: Table,
    x: Samples,
    places: NDArray[np.int64],
    names: list[str],
    labels: Labels,
    sequences: NDArray[np.int64] | None,
) -> NDArray[np.int64]:
    """Return the indices of the rows to use."""
    data, findings = table.data, table.findings
    if sequences is not None and (sequences == MISSING).any():
        row = int(np.argmax(sequences == MISSING))
        raise InputError(
            f"{table.path}: {table.place_of(row)}, column {data.sequence_column!r}: the sequence is missing."
        )
    if data.missing != "drop":
        refuse_missing(labels)
    gaps = missing_values(names, table.profiles, table.place_of)
    if data.missing in FILLS and gaps:
        findings.assumed.append(f"{table.path}: {gaps}; they are filled (data.missing = {data.missing!r})")
    if data.missing != "drop":
        return np.arange(table.rows)
    excluded = ~labels.present
    if gaps:
        excluded = excluded | np.concatenate([np.isnan(block[:, places]).any(axis=1) for block in blocks(x)])
    excluded = sequence_rows(excluded, sequences)
    if excluded.any():
        what = "rows" if sequences is None else "rows of series"
        leave_out_rows(f"{what} with missing values (data.missing = 'drop')", excluded, findings)
    if excluded.all():
        raise InputError(
            f"{table.path}: every row has missing values ({gaps}), so that data.missing = 'drop' leaves none."
        )
    return np.flatnonzero(~excluded)


def _groups(table: Table, places: NDArray[np.int64]) -> GroupNames | None:
    """Return the groups of the rows that are used; None without groups.

    Raises
    ------
    InputError
        If a row has none.
    """
    if not len(codes := table.groups.finish()):
        return None
    names, column = list(table.groups.codes), table.data.group_column
    used = codes[places]
    refuse_missing_groups(
        names, used, lambda row: f"{table.path}: {table.place_of(int(places[row]))}, column {column!r}"
    )
    return GroupNames(names, used)


def _ids(table: Table, row_names: str, numbered: bool) -> tuple[list[str] | None, str]:
    """Return the names of all rows, and the header for them."""
    if table.data.sequence_column:
        return None, "sequence"
    if table.id_name:
        return table.ids.names(), table.id_name
    if row_names:
        return table.texts_of_column(row_names), row_names
    # If rows are left out, the index of a sample is not its row in the file.
    return ([str(row) for row in range(table.rows)], "row") if numbered else (None, "sample")


def _count_extra(table: Table, columns: Columns, findings: Findings) -> None:
    data = table.data
    used = {*columns.features, data.label_column, data.sequence_column, data.time_column, table.id_name}
    used |= {data.group_column}
    used |= {data.id_column, columns.row_names, *data.drop_columns}
    extra = [name for name in table.names if name not in used]
    what = "columns that training does not have or left out"
    for name in extra[:5]:
        findings.leave_out(what, example=repr(name))
    if len(extra) > 5:
        findings.leave_out(what, len(extra) - 5)
