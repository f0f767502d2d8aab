"""Read one table: the roles of its columns, its rows, and the problems with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import SAMPLE_BYTES, SHARD_ROW_BYTES, Budget
from rcdp_hpc.data.sources.base import Columns, Samples
from rcdp_hpc.data.sources.cells import read_numbers, seconds_of, texts_of
from rcdp_hpc.data.sources.column_profile import Profiles
from rcdp_hpc.data.sources.column_roles import ColumnRoles, special_columns
from rcdp_hpc.data.sources.column_selection import (
    NAMED,
    ColumnSelection,
    quoted,
    select_columns,
    set_line,
    step_counters,
)
from rcdp_hpc.data.sources.csv_reading import CsvFile
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.labels import MISSING_TEXTS, LabelCollector, some_names
from rcdp_hpc.data.sources.parquet_reading import ParquetFile
from rcdp_hpc.data.sources.rows import Spool
from rcdp_hpc.data.sources.table_files import TableFile, open_files
from rcdp_hpc.data.sources.table_problems import inexact_problem, missing_problem, text_problems, too_large_problem
from rcdp_hpc.data.sources.text_codes import TextCodes
from rcdp_hpc.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


class Table:
    """Reads a table.

    Parameters
    ----------
    path : Path
        File or folder.
    data : DataSection
        Names of columns.
    budget : Budget
        Limits the rows that are held in memory.
    findings : Findings
        Receives assumptions and omissions.
    known : Columns, optional
        Features and categories of the training table; default: they are determined from this table.
    labelled : bool
        Whether to read the labels.
    files : list of TableFile, optional
        The table, if it is not read from `path`.
    """

    def __init__(
        self,
        path: Path,
        data: DataSection,
        budget: Budget,
        findings: Findings,
        known: Columns | None = None,
        labelled: bool = True,
        files: list[TableFile] | None = None,
    ) -> None:
        self.path = path
        self.data = data
        self.findings = findings
        self._known = known
        self._labelled = labelled
        expected = [*special_columns(data, labelled), *(known.features if known else data.category_columns)]
        self._files = open_files(path, data, expected, findings) if files is None else files
        self._roles = ColumnRoles(path, data, findings, self._files, known, labelled)
        self.names = self._roles.names
        self.candidates = self._roles.candidates
        self.id_name = self._roles.id_name
        categories = known.categories if known else dict.fromkeys(data.category_columns, ())
        self.codes = {name: {text: code for code, text in enumerate(texts)} for name, texts in categories.items()}
        self.category_counts = {name: np.zeros(0, np.int64) for name in self.codes}
        self.labels = LabelCollector(f"{path}, column {data.label_column}")
        self.sequences = TextCodes()
        self.groups = TextCodes()
        self.ids = TextCodes()
        self._times: list[NDArray[Any]] = []
        self._budget = budget
        self._refuse_rows(sum(file.rows for file in self._files if isinstance(file, ParquetFile)))
        self.spool = Spool((len(self.candidates),), np.dtype(np.float64), budget.source // 2)
        self.profiles = Profiles(len(self.candidates))
        self._starts: list[int] = []
        self._unknown: dict[str, int] = {}
        self.rows = 0

    def read(self) -> None:
        """Read all rows.

        Raises
        ------
        InputError
            If the table has no rows, or a row cannot be read.
        """
        wanted = list(dict.fromkeys([*self.candidates, *self._roles.special, *filter(None, [self.id_name])]))
        for file in self._files:
            self._starts.append(self.rows)
            for columns in file.batches(wanted):
                if isinstance(file, CsvFile):
                    columns = self._without_blank_rows(columns, wanted)
                self._take(dict(zip(wanted, columns, strict=True)), file.decimal)
        if not self.rows:
            raise InputError(f"{self.path}: holds no row.")
        for name, count in self._unknown.items():
            self.findings.warnings.append(
                f"{self.path}, column {name!r}: {count} values that do not occur in training are read as the most "
                f"frequent one, {self._most_frequent(name)!r} (data.unknown_categories = 'most_frequent')"
            )

    def settle(self, x: Samples) -> tuple[list[str], ColumnSelection]:
        """Return the columns that are features, and the reasons why others are not.

        Parameters
        ----------
        x : Samples, shape (rows, candidates)
            Numbers of all rows.

        Raises
        ------
        InputError
            If columns hold values that cannot be read, or no feature is left.
        """
        selection = ColumnSelection()
        features = list(self.candidates)
        if self._known is None and self._labelled:
            keep = {*self.data.keep_columns, *self.codes}
            selection = select_columns(self.candidates, self.profiles, x, keep, self.findings)
            if self.data.sequence_column:
                for name in step_counters(self.candidates, self.profiles, x, self.sequences.finish(), keep):
                    selection.reasons[name] = "it counts the rows of each sequence (data.time_column orders them)"
            for name, kind in self._roles.kinds.items():
                if kind == "time" and name not in {*self.candidates, *self._roles.special, *self.data.drop_columns}:
                    selection.reasons.setdefault(name, "dates or times")
            empty = [name for place, name in enumerate(self.candidates) if self.profiles.is_empty(place)]
            excluded = {*selection.reasons, *empty}
            features = [name for name in self.candidates if name not in excluded]
            selection.report(str(self.path), [*self._roles.empty, *empty], self._roles.index, self.findings)
        self._refuse_problems(features)
        if not features:
            reasons = "; ".join(f"{name!r}: {reason}" for name, reason in list(selection.reasons.items())[:NAMED])
            raise InputError(
                f"{self.path}: no column of features is left; it has {some_names(self.names)}. "
                f"Left out are {reasons or 'columns without any value'}. data.keep_columns keeps columns."
            )
        return features, selection

    def place_of(self, row: int) -> str:
        """Return the place of a row as text: its number, from 0 after the header, and its file if there are several."""
        if len(self._files) == 1:
            return f"row {row} (from 0)"
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return f"{self._files[number].path.name}, row {row - self._starts[number]} (from 0)"

    def times(self) -> NDArray[Any]:
        """Return the numbers that order the rows of a sequence, shape (rows,)."""
        return np.concatenate(self._times) if self._times else np.arange(self.rows)

    def texts_of_column(self, name: str) -> list[str]:
        """Read one column again, as texts."""
        texts = TextCodes()
        for file in self._files:
            for (column,) in file.batches([name]):
                texts.add(column)
                self._refuse_rows(self.rows, texts.letters)
        return texts.names()

    def columns(self, features: list[str], row_names: str) -> Columns:
        """Return the map from columns to numbers, for prediction."""
        most = {name: self._most_frequent(name) for name in self.codes if len(self.codes[name])}
        return Columns(features, {name: list(codes) for name, codes in self.codes.items()}, most, row_names)

    def _refuse_rows(self, rows: int, letters: int = 0) -> None:
        """Raise an `InputError` if labels, indices and names of all rows need more memory than their share."""
        # For each column of texts: the number of a row's text, its entry in a list, and its place in the order.
        data = self.data
        texts = sum(bool(name) for name in (data.sequence_column, data.time_column, data.group_column, self.id_name))
        letters += self.sequences.letters + self.groups.letters + self.ids.letters
        # Labelled rows become rows of the shards; the rows of a sequence become one row.
        row_bytes = SHARD_ROW_BYTES if self._labelled and not self.data.sequence_column else 0
        self._budget.refuse_rows(self.path, rows, SAMPLE_BYTES + row_bytes + 32 * texts, letters)

    def _without_blank_rows(self, columns: list[pa.Array], wanted: list[str]) -> list[pa.Array]:
        """Return the columns without the rows in which all values are empty."""
        import pyarrow as pa
        from pyarrow import compute as pc

        def blank(column: pa.Array) -> pa.Array:
            return pc.equal(pc.utf8_trim_whitespace(column), "")

        first = columns[wanted.index(self.data.label_column)] if self._labelled else columns[0]
        rows = np.flatnonzero(blank(first).to_numpy(zero_copy_only=False))
        if not len(rows):
            return columns
        empty = np.ones(len(rows), bool)
        for column in columns:
            empty &= blank(column.take(pa.array(rows))).to_numpy(zero_copy_only=False)
        if not empty.any():
            return columns
        self.findings.leave_out("rows without any value", int(empty.sum()))
        used = np.ones(len(first), bool)
        used[rows[empty]] = False
        return [column.filter(pa.array(used)) for column in columns]

    def _take(self, columns: dict[str, pa.Array], decimal: str) -> None:
        import pyarrow as pa

        count = len(next(iter(columns.values())))
        blocks = [pa.nulls(count) if name in self.codes else columns[name] for name in self.candidates]
        numbers = read_numbers(blocks, decimal)
        for place, name in enumerate(self.candidates):
            if name in self.codes:
                numbers.values[:, place] = self._encoded(name, columns[name])
        for place in [place for place in numbers.odd if self.candidates[place] in self.data.keep_columns]:
            self._read_dates(numbers, place)
        self.profiles.add(numbers)
        self.spool.add(numbers.values)
        data = self.data
        if self._labelled:
            column = columns[data.label_column]
            self.labels.add((column.dictionary_decode() if pa.types.is_dictionary(column.type) else column).to_pylist())
        if data.sequence_column:
            self.sequences.add(columns[data.sequence_column])
        if data.group_column and self._labelled:
            self.groups.add(columns[data.group_column])
        if data.time_column:
            self._times.append(self._ordering(columns[data.time_column], decimal))
        if self.id_name:
            self.ids.add(columns[self.id_name])
        self.rows += count
        self._refuse_rows(self.rows)

    def _read_dates(self, numbers: Any, place: int) -> None:
        block = numbers.odd[place]
        for row in np.flatnonzero(block.odd).tolist():
            seconds = seconds_of(block.texts[row].as_py())
            if seconds is not None:
                numbers.values[row, place] = seconds
                block.odd[row] = False
        if not block.odd.any():
            del numbers.odd[place]

    def _encoded(self, name: str, column: pa.Array) -> NDArray[np.float64]:
        """Return the numbers of categories; a missing one is NaN."""
        if self._roles.kinds[name] == "other":
            raise InputError(f"{self.path}: column {name!r} holds {column.type}, which cannot be a category.")
        codes, (texts, places) = self.codes[name], texts_of(column)
        table = np.full(len(texts) + 1, np.nan)
        for number, text in enumerate(texts):
            if text in MISSING_TEXTS:
                continue
            if text not in codes and self._known is not None:
                rows = places == number
                table[number] = self._known_category(name, text, int(np.argmax(rows)), int(rows.sum()))
            else:
                table[number] = codes.setdefault(text, len(codes))
        values = table[places]
        totals = np.bincount(values[~np.isnan(values)].astype(np.int64), minlength=len(codes))
        counts = self.category_counts[name]
        totals[: len(counts)] += counts
        self.category_counts[name] = totals
        return values

    def _known_category(self, name: str, text: str, row: int, count: int) -> int:
        """Return the number for a category that does not occur in the training data."""
        codes = self.codes[name]
        if self.data.unknown_categories == "most_frequent" and (most := self._most_frequent(name)) in codes:
            self._unknown[name] = self._unknown.get(name, 0) + count
            return codes[most]
        advice = "set --set data.unknown_categories=most_frequent to take the most frequent category"
        if self.data.unknown_categories == "most_frequent":
            # Data prepared by an earlier version have no counts of categories.
            advice = "prepare and train again with --restart to record the most frequent category"
        raise InputError(
            f"{self.path}: {self.place_of(self.rows + row)}, column {name}: category {text!r} does not occur in the "
            f"training data, which have {some_names(list(codes))}. Leave the row out, {advice}, or prepare and train "
            "again with data that have it."
        )

    def _most_frequent(self, name: str) -> str:
        if self._known is not None:
            return self._known.most_frequent.get(name, "")
        return list(self.codes[name])[int(np.argmax(self.category_counts[name]))]

    def _ordering(self, column: pa.Array, decimal: str) -> NDArray[Any]:
        """Return the numbers that order the rows of a sequence, from the column ``data.time_column``."""
        import pyarrow as pa
        from pyarrow import compute as pc

        name = self.data.time_column
        if column.null_count == 0 and (pa.types.is_timestamp(column.type) or pa.types.is_integer(column.type)):
            return pc.cast(column, pa.int64(), safe=False).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
        numbers = read_numbers([column], decimal)
        if 0 in numbers.odd:
            self._read_dates(numbers, 0)
        wrong = np.flatnonzero(~np.isfinite(numbers.values[:, 0]))
        if len(wrong):
            raise InputError(
                f"{self.path}: {self.place_of(self.rows + int(wrong[0]))}, column {name!r} (data.time_column): "
                f"{column[int(wrong[0])].as_py()!r} is neither a number nor a date as in 2024-05-31 12:00."
            )
        return numbers.values[:, 0]

    def _refuse_problems(self, features: Sequence[str]) -> None:
        """Raise one `InputError` about all problems of the columns."""
        used = set(features)
        names = [name if name in used else "" for name in self.candidates]
        problems = text_problems(names, self.profiles, self.data, self.place_of, self._known is None)
        if self._roles.nested and self._known is None:
            problems.append(
                f"columns of lists, structures or bytes are not read: {quoted(self._roles.nested)}. "
                f"Leave them out: {set_line('drop_columns', [*self.data.drop_columns, *self._roles.nested])}"
            )
        problems.append(inexact_problem(names, self.profiles, self._known is None))
        problems.append(too_large_problem(names, self.profiles, self.place_of))
        if self.data.missing == "refuse":
            problems.append(missing_problem(names, self.profiles, self.data, self.place_of))
        problems = [problem for problem in problems if problem]
        if problems:
            sentences = [problems[0], *(problem[0].upper() + problem[1:] for problem in problems[1:])]
            raise InputError(f"{self.path}: {'. '.join(sentences)}.")
