"""Rows of parquet files, some at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcdp_hpc.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_ROWS = 2**14
# Numbers held at once: a wide table is read in fewer rows.
BATCH_CELLS = 2**23


class ParquetFile:
    """A parquet file.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    names : list of str
        Its columns.
    decimal : str
        Decimal mark of numbers that are held as text.
    index_columns : list of str
        Those that pandas wrote as the index of its rows.
    """

    decimal = "."

    def __init__(self, path: Path) -> None:
        from pyarrow import ArrowException, parquet

        self.path = path
        try:
            self._schema = parquet.read_schema(path)
        except (ArrowException, OSError) as error:
            raise InputError(f"{path}: cannot be read as parquet ({error}).") from None
        self.names = self._schema.names
        twins = {name for name in self.names if self.names.count(name) > 1} if self._has_twins() else set()
        if twins:
            raise InputError(f"{path}: several columns have the same name: {', '.join(sorted(twins)[:10])}.")
        self.index_columns = _index_of(self._schema.metadata or {}, self.names)

    def types(self) -> list[Any]:
        """Return the type of each column."""
        return list(self._schema.types)

    def batches(self, wanted: list[str]) -> Iterator[list[pa.Array]]:
        """Yield the columns of some rows at a time, in the order of `wanted`."""
        from pyarrow import ArrowException, parquet

        rows = min(PARQUET_ROWS, max(64, BATCH_CELLS // max(1, len(wanted))))
        try:
            with parquet.ParquetFile(self.path) as file:
                order: list[int] | None = None
                for batch in file.iter_batches(rows, columns=wanted):
                    if order is None:
                        places = {name: place for place, name in enumerate(batch.schema.names)}
                        order = [places[name] for name in wanted]
                    columns = batch.columns
                    yield [columns[place] for place in order]
        except (ArrowException, OSError) as error:
            raise InputError(f"{self.path}: cannot be read as parquet ({error}).") from None

    def _has_twins(self) -> bool:
        return len(set(self.names)) < len(self.names)


def _index_of(metadata: dict[bytes, bytes], names: list[str]) -> list[str]:
    """Return the columns that pandas' metadata call its index, and those that are named as it names an index."""
    try:
        listed = json.loads(metadata.get(b"pandas", b"{}")).get("index_columns", [])
    except (ValueError, AttributeError):
        listed = []
    # An index that only counts is listed as its range, without a column.
    found = {name for name in listed if isinstance(name, str)}
    found |= {name for name in names if name.startswith("__index_level_") and name.endswith("__")}
    return [name for name in names if name in found]
