"""A view of some rows and columns of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources.base import Samples


class RowView:
    """A view of some rows and columns of a table of numbers.

    Parameters
    ----------
    x : Samples, shape (N, columns)
    rows : ndarray of int64, or None
        Indices of the rows; None: all.
    columns : ndarray of int64, or None
        Indices of the columns; None: all.
    fills : dict of int to float
        Value that replaces NaN, by the index of the column in the view.
    """

    def __init__(
        self,
        x: Samples,
        rows: NDArray[np.int64] | None = None,
        columns: NDArray[np.int64] | None = None,
        fills: dict[int, float] | None = None,
    ) -> None:
        self._x = x
        self._rows = rows
        self._columns = columns
        self._fills = fills or {}
        self.shape: tuple[int, ...] = (
            x.shape[0] if rows is None else len(rows),
            x.shape[1] if columns is None else len(columns),
        )
        self.dtype = x.dtype

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        values: NDArray[Any] = self._x[rows if self._rows is None else self._rows[rows]]
        if self._columns is not None:
            values = values[:, self._columns]
        for place, fill in self._fills.items():
            values[np.isnan(values[:, place]), place] = fill
        return values


def select(
    x: Samples,
    rows: NDArray[np.int64] | None = None,
    columns: NDArray[np.int64] | None = None,
    fills: dict[int, float] | None = None,
) -> Samples:
    """Return some rows and columns, as an array if `x` is an array; parameters as of `RowView`."""
    if rows is None and columns is None and not fills:
        return x
    view = RowView(x, rows, columns, fills)
    # Indexing by an array copies, so that filling does not change `x`.
    return view[np.arange(view.shape[0])] if isinstance(x, np.ndarray) else view
