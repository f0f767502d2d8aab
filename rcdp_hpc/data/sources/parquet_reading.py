"""Rows of parquet files in batches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.parquet_pages import refuse_large_pages
from rcdp_hpc.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_ROWS = 2**14
# Most numbers of a batch.
BATCH_CELLS = 2**21
# Mean bytes of a batch, and most bytes of its texts.
BATCH_BYTES = 2**25
TEXT_BYTES = 2**24
# Number of copies of numbers and texts while they are read.
COPIES = 4


class ParquetFile:
    """A parquet file.

    Parameters
    ----------
    path : Path
        The file.
    budget : Budget
        Limits the memory of pages and batches.

    Attributes
    ----------
    names : list of str
        Names of the columns.
    rows : int
        Number of rows that the metadata declare.
    decimal : str
        Decimal mark of numbers in text columns.
    index_columns : list of str
        Columns that pandas wrote as the index of its rows.
    """

    decimal = "."

    def __init__(self, path: Path, budget: Budget) -> None:
        from pyarrow import ArrowException, parquet

        self.path = path
        self._budget = budget
        try:
            self._metadata = parquet.read_metadata(path)
            self._schema = self._metadata.schema.to_arrow_schema()
        except (ArrowException, OSError) as error:
            raise InputError(f"{path}: cannot be read as parquet ({error}).") from None
        self.names = self._schema.names
        self.rows = int(self._metadata.num_rows)
        twins = {name for name in self.names if self.names.count(name) > 1} if self._has_duplicates() else set()
        if twins:
            raise InputError(f"{path}: several columns have the same name: {', '.join(sorted(twins)[:10])}.")
        self.index_columns = _index_of(self._schema.metadata or {}, self.names)

    def types(self) -> list[Any]:
        """Return the arrow type of each column."""
        return list(self._schema.types)

    def batches(self, wanted: list[str]) -> Iterator[list[pa.Array]]:
        """Yield the columns in the order of `wanted`, in batches of rows."""
        from pyarrow import ArrowException, parquet

        rows = self._batch_rows(wanted)
        buffer = refuse_large_pages(self.path, self._metadata, wanted, self._budget)
        packed = self._dictionary_texts(wanted)
        try:
            with parquet.ParquetFile(
                self.path, read_dictionary=packed, buffer_size=buffer, metadata=self._metadata
            ) as file:
                order: list[int] | None = None
                for batch in file.iter_batches(rows, columns=wanted):
                    if order is None:
                        places = {name: place for place, name in enumerate(batch.schema.names)}
                        order = [places[name] for name in wanted]
                    columns = batch.columns
                    yield from self._decoded({wanted[n]: columns[place] for n, place in enumerate(order)}, packed)
        except (ArrowException, OSError) as error:
            raise InputError(f"{self.path}: cannot be read as parquet ({error}).") from None

    def _batch_rows(self, wanted: list[str]) -> int:
        """Return the rows of a batch: fewer for wide tables and long texts."""
        rows = min(PARQUET_ROWS, max(64, BATCH_CELLS // max(1, len(wanted))))
        self._budget.refuse_work(
            f"{self.path}: {len(wanted)} columns are read in batches of {rows} rows",
            COPIES * 8 * rows * len(wanted),
            "leave out columns (data.drop_columns)",
        )
        for number in range(self._metadata.num_row_groups):
            group = self._metadata.row_group(number)
            mean = group.total_byte_size / max(1, group.num_rows)
            rows = min(rows, max(1, int(BATCH_BYTES / max(1.0, mean))))
        return rows

    def _dictionary_texts(self, wanted: list[str]) -> list[str]:
        """Return the text columns that are stored by dictionary, in which one long text may occur in many rows."""
        from pyarrow import types

        texts = {field.name for field in self._schema if types.is_string(field.type) and field.name in wanted}
        stored = set()
        for number in range(self._metadata.num_row_groups if texts else 0):
            group = self._metadata.row_group(number)
            columns = [group.column(place) for place in range(group.num_columns)]
            stored |= {column.path_in_schema for column in columns if column.has_dictionary_page}
            if texts <= stored:
                break
        return sorted(texts & stored)

    def _decoded(self, columns: dict[str, pa.Array], packed: list[str]) -> Iterator[list[pa.Array]]:
        """Yield columns with the texts of their dictionaries, in smaller batches if texts are long."""
        rows = len(next(iter(columns.values())))
        sizes = sum((_text_bytes(column) for column in columns.values()), np.zeros(rows, np.int64))
        total = np.cumsum(sizes)
        start = 0
        while start < rows:
            before = int(total[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(total, before + TEXT_BYTES, "right")))
            longest = int(sizes[start])
            what = f"{self.path}: a row has texts of {longest} bytes"
            self._budget.refuse_work(what, COPIES * longest, "leave the column out (data.drop_columns)")
            batch = {name: column.slice(start, stop - start) for name, column in columns.items()}
            yield [column.dictionary_decode() if name in packed else column for name, column in batch.items()]
            start = stop

    def _has_duplicates(self) -> bool:
        return len(set(self.names)) < len(self.names)


def _index_of(metadata: dict[bytes, bytes], names: list[str]) -> list[str]:
    """Return the index columns by pandas' metadata, and those with the names that pandas gives to an index."""
    try:
        listed = json.loads(metadata.get(b"pandas", b"{}")).get("index_columns", [])
    except (ValueError, AttributeError):
        listed = []
    # An index that only counts rows is listed as a range and has no column.
    index = {name for name in listed if isinstance(name, str)}
    index |= {name for name in names if name.startswith("__index_level_") and name.endswith("__")}
    return [name for name in names if name in index]


def _text_bytes(column: pa.Array) -> NDArray[np.int64]:
    """Return the bytes of each row's text, also if a dictionary stores it; zeros for a column of numbers."""
    from pyarrow import compute as pc
    from pyarrow import types

    texts = column.dictionary if types.is_dictionary(column.type) else column
    if not (types.is_string(texts.type) or types.is_large_string(texts.type) or types.is_binary(texts.type)):
        return np.zeros(len(column), np.int64)
    lengths = pc.fill_null(pc.binary_length(texts), 0)
    if types.is_dictionary(column.type):
        lengths = pc.fill_null(lengths.take(column.indices), 0)
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64)
