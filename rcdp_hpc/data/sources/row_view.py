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
    """

    def __init__(
        self,
        x: Samples,
        rows: NDArray[np.int64] | None = None,
        columns: NDArray[np.int64] | None = None,
    ) -> None:
        self._x = x
        self._rows = rows
        self._columns = columns
        self.shape: tuple[int, ...] = (
            x.shape[0] if rows is None else len(rows),
            x.shape[1] if columns is None else len(columns),
        )
        self.dtype = x.dtype

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        values: NDArray[Any] = self._x[rows if self._rows is None else self._rows[rows]]
        if self._columns is not None:
            values = values[:, self._columns]
        return values


def select(
    x: Samples,
    rows: NDArray[np.int64] | None = None,
    columns: NDArray[np.int64] | None = None,
) -> Samples:
    """Return some rows and columns, as an array if `x` is an array; parameters as of `RowView`."""
    if rows is None and columns is None:
        return x
    view = RowView(x, rows, columns)
    return view[np.arange(view.shape[0])] if isinstance(x, np.ndarray) else view
