"""Rows of csv files as columns of text, in batches."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.csv_dialect import NAMES, detect_dialect
from rcdp_hpc.data.sources.csv_text import inspect_text
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

# Least bytes and rows of a block.
CSV_BLOCK = 2**22
BLOCK_ROWS = 64
SHOWN = 60


class CsvFile:
    """A csv file with detected encoding, separator, decimal mark and header.

    Parameters
    ----------
    path : Path
        The file.
    data : DataSection
        ``encoding``, ``delimiter`` and ``decimal``.
    expected : collection of str
        Names of columns that the file should have.
    findings : Findings
        Receives the assumptions.

    Attributes
    ----------
    names : list of str
        Names of the columns.
    decimal : {".", ","}
        Decimal mark of numbers.
    index_columns : list of str
        Empty, because a csv file does not mark a column as an index.
    """

    def __init__(self, path: Path, data: DataSection, expected: Collection[str], findings: Findings) -> None:
        self.path = path
        self._file = inspect_text(path, data.encoding, findings, Budget.of(data))
        self._dialect = detect_dialect(self._file, data, expected, findings)
        if self._file.open_quote:
            self._refuse_open_quote()
        self.names = self._dialect.names
        self.decimal = self._dialect.decimal
        self.index_columns: list[str] = []

    def _refuse_open_quote(self) -> None:
        """Raise an `InputError` if a quotation mark is not closed: the rows after it would be one value."""
        with self._file.open() as stream, io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
            reader = csv.reader(text, delimiter=self._dialect.delimiter, strict=True)
            begin = 1
            try:
                for _ in reader:
                    begin = reader.line_num + 1
            except csv.Error:
                raise InputError(
                    f"{self.path}, line {begin}: a quotation mark is not closed, or not at the beginning and the end "
                    "of a value. Write a quotation mark in a text twice, and the text in quotation marks."
                ) from None

    def types(self) -> list[Any]:
        """Return the arrow type of each column: text."""
        import pyarrow as pa

        return [pa.string()] * len(self.names)

    def batches(self, wanted: list[str]) -> Iterator[list[pa.Array]]:
        """Yield the columns in batches of rows.

        Parameters
        ----------
        wanted : list of str
            Names of columns, in the order in which they are yielded.

        Raises
        ------
        InputError
            If the number of values in a row differs from the number of columns.
        """
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        if not self._dialect.rows:
            return
        odd: list[Any] = []

        def note(row: Any) -> str:
            odd.append(row)
            return "skip"

        block = max(CSV_BLOCK, 2 * self._file.longest_line, BLOCK_ROWS * self._dialect.row_bytes)
        with self._file.open() as stream:
            self._skip_header(stream)
            try:
                reader = arrow_csv.open_csv(
                    stream,
                    read_options=arrow_csv.ReadOptions(
                        block_size=min(block, 2**31 - 1), use_threads=False, column_names=self.names
                    ),
                    parse_options=arrow_csv.ParseOptions(
                        delimiter=self._dialect.delimiter, newlines_in_values=True, invalid_row_handler=note
                    ),
                    convert_options=arrow_csv.ConvertOptions(
                        column_types=dict.fromkeys(wanted, pa.string()),
                        include_columns=wanted,
                        strings_can_be_null=False,
                    ),
                )
            except pa.ArrowInvalid as error:
                self._refuse_odd(odd)
                raise InputError(f"{self.path}: cannot be read as csv ({error}).") from None
            with reader:
                for batch in self._read(reader):
                    self._refuse_odd(odd)
                    yield batch.columns
                self._refuse_odd(odd)

    def _read(self, reader: Any) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        try:
            yield from reader
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{self.path}: cannot be read as csv ({error}). A quotation mark that is not closed is a likely cause."
            ) from None

    def _skip_header(self, stream: pa.NativeFile) -> None:
        left = self._dialect.skip
        while left and (read := stream.read(left)):
            left -= len(read)

    def _refuse_odd(self, odd: list[Any]) -> None:
        if not odd:
            return
        row, delimiter = odd[0], self._dialect.delimiter
        place = "" if row.number is None else f" {row.number - 1} (from 0)"
        text = row.text if len(row.text) <= SHOWN else row.text[:SHOWN] + "..."
        raise InputError(
            f"{self.path}: row{place} has {row.actual_columns} values, {row.expected_columns} expected as in the "
            f"header: {text!r}. Correct it: texts that contain {NAMES.get(delimiter, repr(delimiter))} need quotation "
            "marks. If another character separates the values, set data.delimiter."
        )
