"""A data frame in memory as a table, for the reader of tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rcdp_hpc.data.sources.cells import kind_of_type
from rcdp_hpc.data.sources.labels import checked_labels
from rcdp_hpc.data.sources.python_values import label_array
from rcdp_hpc.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 2**14


class FrameTable:
    """A data frame of pandas, polars or pyarrow, or any object with named columns.

    Parameters
    ----------
    where : Path
        Names the frame in messages.
    frame : DataFrame
        Object with ``columns`` and ``frame[name]``.
    labels : array_like, optional
        One label for each row; they become the column `label_name`.
    label_name : str
        A name that the frame does not have; empty if there are no labels.

    Attributes
    ----------
    names : list of str
        Names of the columns.
    decimal : str
        Decimal mark of numbers in texts.
    index_columns : list of str
        Empty: the index of a frame is not a column.
    categorical : list of str
        Columns whose type says that they hold categories of text.

    Raises
    ------
    InputError
        If pyarrow is missing, columns have the same name or mixed types, or the number of labels differs.
    """

    decimal = "."

    def __init__(self, where: Path, frame: Any, labels: Any = None, label_name: str = "") -> None:
        self.path = where
        names = _names(frame)
        twins = {name for name in names if names.count(name) > 1}
        if twins:
            raise InputError(f"{where}: several columns have the same name: {', '.join(sorted(twins)[:10])}.")
        self._table = _arrow_table(where, frame)
        self.index_columns: list[str] = []
        self.categorical = [field.name for field in self._table.schema if _is_category(field.type)]
        if label_name:
            self._table = self._table.append_column(label_name, self._label_column(labels))
        self.names: list[str] = self._table.column_names

    def types(self) -> list[Any]:
        """Return the arrow type of each column."""
        return list(self._table.schema.types)

    def batches(self, wanted: list[str]) -> Iterator[list[pa.Array]]:
        """Yield the columns in the order of `wanted`, in batches of rows."""
        for batch in self._table.select(wanted).to_batches(BATCH_ROWS):
            if batch.num_rows:
                yield batch.columns

    def _label_column(self, values: Any) -> pa.Array:
        """Return the labels as texts; missing ones as nulls, which `data.missing` treats."""
        import pyarrow as pa

        array = label_array(f"{self.path}: y", values)
        # One-hot rows and other shapes are refused here; missing labels are counted with the rows.
        labels = checked_labels(array, self.path, "y", missing="drop")
        if len(labels) != self._table.num_rows:
            raise InputError(f"{self.path}: x has {self._table.num_rows} samples, y has {len(labels)} labels.")
        codes = pa.array(labels.codes, mask=~labels.present)
        return pa.DictionaryArray.from_arrays(codes, pa.array(labels.names, pa.string()))


def unused_name(frame: Any, wanted: str) -> str:
    """Return `wanted`, or a similar name that no column of a frame has."""
    names = set(_names(frame))
    while wanted in names:
        wanted += "_"
    return wanted


def _names(frame: Any) -> list[str]:
    return [str(name) for name in getattr(frame, "column_names", frame.columns)]


def _arrow_table(where: Path, frame: Any) -> pa.Table:
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        raise InputError(
            f"{where}: a data frame is read by pyarrow, which is missing: pip install pyarrow, or pass an array."
        ) from None
    try:
        if isinstance(frame, pa.Table):
            return frame
        if hasattr(frame, "to_arrow"):
            return frame.to_arrow()
        columns = [_column(where, pa, frame, name) for name in frame.columns]
        return pa.Table.from_arrays(columns, names=_names(frame))
    except (pa.ArrowException, TypeError, ValueError) as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{where}: the data frame cannot be read ({first}).") from None


def _column(where: Path, pa: Any, frame: Any, name: Any) -> Any:
    column = frame[name]
    try:
        # NaN is a missing value, as in a file.
        return pa.array(column if hasattr(column, "dtype") else np.asarray(column), from_pandas=True)
    except (pa.ArrowException, TypeError) as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{where}: column {str(name)!r} holds values of several types ({first}).") from None


def _is_category(arrow_type: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_dictionary(arrow_type) and kind_of_type(arrow_type) == "text"
