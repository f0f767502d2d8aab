"""Rows of ARFF tables, some at a time, as the readers of tables take them."""

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

# Values held at once: a wide table is read in fewer rows.
BATCH_CELLS, BATCH_ROWS = 2**20, 2**14


class ArffTable:
    """An ARFF file that is a table.

    Parameters
    ----------
    path : Path
    data : DataSection
        ``encoding``.
    findings : Findings
        Gets what was assumed of the file.

    Attributes
    ----------
    names : list of str
        Its attributes.
    decimal : str
        Decimal mark of its numbers.
    index_columns : list of str
        None: an ARFF file has no index.
    """

    decimal = "."

    def __init__(self, path: Path, data: DataSection, findings: Findings) -> None:
        self.path, self._encoding, self._budget = path, data.encoding, Budget.of(data)
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
        """Return the type of each column: numbers and texts."""
        import pyarrow as pa

        return [pa.float64() if one.kind == "number" else pa.string() for one in self._attributes]

    def batches(self, wanted: list[str]) -> Iterator[list[pa.Array]]:
        """Yield the columns of some rows at a time, in the order of `wanted`."""
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
