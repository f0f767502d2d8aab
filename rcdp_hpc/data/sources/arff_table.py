"""Rows of ARFF tables in batches, for the reader of tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.arff_file import content_lines, number_of, read_header, rows
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.text_files import open_text
from rcdp_hpc.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

# Most values and rows of a batch.
BATCH_CELLS = 2**20
BATCH_ROWS = 2**14


class ArffTable:
    """A table in an ARFF file.

    Parameters
    ----------
    path : Path
    data : DataSection
        ``encoding``.
    findings : Findings
        Receives the assumptions about the file.

    Attributes
    ----------
    names : list of str
        Names of the attributes.
    decimal : str
        Decimal mark of numbers.
    index_columns : list of str
        Empty, because an ARFF file has no index.
    """

    decimal = "."

    def __init__(self, path: Path, data: DataSection, findings: Findings) -> None:
        self.path = path
        self._encoding = data.encoding
        self._budget = Budget.of(data)
        with open_text(path, data.encoding, findings, self._budget) as text:
            self._attributes = read_header(path, content_lines(text))
        self.names = [one.name for one in self._attributes]
        self.index_columns: list[str] = []
        relational = [one.name for one in self._attributes if one.kind == "relational"]
        if relational:
            raise InputError(
                f"{path}: attribute {relational[0]!r} is relational, so the file has series: set data.source = 'arff'."
            )

    def types(self) -> list[Any]:
        """Return the arrow type of each column: numbers or texts."""
        import pyarrow as pa

        return [pa.float64() if one.kind == "number" else pa.string() for one in self._attributes]

    def batches(self, wanted: list[str]) -> Iterator[list[pa.Array]]:
        """Yield the columns in the order of `wanted`, in batches of rows."""
        most = max(1, min(BATCH_ROWS, BATCH_CELLS // max(1, len(wanted))))
        columns: list[list[Any]] = [[] for _ in wanted]
        place_of = {name: place for place, name in enumerate(self.names)}
        places = [place_of[name] for name in wanted]
        with open_text(self.path, self._encoding, Findings(), self._budget) as text:
            lines = content_lines(text)
            attributes = read_header(self.path, lines)
            for where, values in rows(self.path, lines, attributes):
                for column, place in zip(columns, places, strict=True):
                    column.append(self._cell(place, values[place], where))
                if len(columns[0]) == most:
                    yield self._arrays(columns, places)
                    columns = [[] for _ in wanted]
        if columns and columns[0]:
            yield self._arrays(columns, places)

    def _cell(self, place: int, value: str | None, where: str) -> float | str | None:
        if value is None or self._attributes[place].kind != "number":
            return value
        return number_of(value, self.names[place], where)

    def _arrays(self, columns: list[list[Any]], places: list[int]) -> list[pa.Array]:
        import pyarrow as pa

        types = self.types()
        return [pa.array(column, types[place]) for column, place in zip(columns, places, strict=True)]
